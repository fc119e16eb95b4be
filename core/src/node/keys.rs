//! The node's key file: one seed from which all keys grow.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::base::hex;
use crate::proto::chain::NodeKeys;

/// Name of the key file in the data directory.
pub const KEY_FILE: &str = "node.key";

/// Longest key file. Unit: bytes.
const KEY_BYTES_MAX: u64 = 256;

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("the key file {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is readable by others.
    #[error("the key file {0} can be read by others; run `chmod 600` on it")]
    Exposed(PathBuf),
    /// The file does not hold a seed.
    #[error("the key file {0} does not hold 64 hex digits; restore it from a backup")]
    Malformed(PathBuf),
}

/// Reads the keys of the node in `directory`; makes them at the first start, mode 0600.
///
/// # Errors
///
/// [`KeyError`] if the file is unreadable, malformed, or readable by others.
pub fn load_or_create(directory: &Path) -> Result<NodeKeys, KeyError> {
    let path = directory.join(KEY_FILE);
    match load(&path) {
        Err(KeyError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            create(&path)?;
            load(&path)
        }
        loaded => loaded,
    }
}

fn load(path: &Path) -> Result<NodeKeys, KeyError> {
    let io = |error| KeyError::Io {
        path: path.to_owned(),
        error,
    };
    let meta = fs::metadata(path).map_err(io)?;
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o077 != 0 {
        return Err(KeyError::Exposed(path.to_owned()));
    }
    if KEY_BYTES_MAX < meta.len() {
        return Err(KeyError::Malformed(path.to_owned()));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(io)?);
    let seed = hex::decode_array::<32>(text.trim_end())
        .ok_or_else(|| KeyError::Malformed(path.to_owned()))?;
    Ok(NodeKeys::from_seed(*Zeroizing::new(seed)))
}

/// Writes a new seed so that a crash leaves either no file or a whole one.
fn create(path: &Path) -> Result<(), KeyError> {
    let io = |error| KeyError::Io {
        path: path.to_owned(),
        error,
    };
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|it| io(io::Error::other(it.to_string())))?;
    let staged = path.with_extension("new");
    let _ = fs::remove_file(&staged);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&staged).map_err(io)?;
    let text = Zeroizing::new(format!("{}\n", hex::encode(&*seed)));
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io)?;
    fs::rename(&staged, path).map_err(io)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::File::open(folder)
        .and_then(|it| it.sync_all())
        .map_err(io)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = load_or_create(folder.path()).unwrap();
        let again = load_or_create(folder.path()).unwrap();
        assert_eq!(first.id(), again.id());
        let mode = fs::metadata(folder.path().join(KEY_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn exposed_and_malformed_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        fs::write(&path, "00").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            load_or_create(folder.path()),
            Err(KeyError::Exposed(_))
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(
            load_or_create(folder.path()),
            Err(KeyError::Malformed(_))
        ));
    }
}
