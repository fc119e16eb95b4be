//! Which data directory and configuration a command is about.

use std::path::{Path, PathBuf};

use kogge::Config;
use kogge::node::config::read_text;
use kogge_http::HttpConfig;

use crate::failure::Failure;

/// Name of the configuration in the data directory.
const CONFIG_FILE: &str = "kogge.toml";

/// Name of the owner's socket in the data directory.
const SOCKET_FILE: &str = "control.sock";

/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last of which is zero. Unit: bytes.
const SOCKET_BYTES_MAX: usize = 107;

/// Where a node lives, and how it is configured.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Everything durable.
    pub(crate) data_dir: PathBuf,
    /// The configuration file, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// The node's configuration.
    pub(crate) config: Config,
    /// The front end's configuration.
    pub(crate) http: HttpConfig,
}

impl Place {
    /// Finds and reads the configuration. A data directory that is given here overrules the one
    /// that the file names.
    ///
    /// # Errors
    ///
    /// [`Failure`] if there is no data directory, or the file is not readable.
    pub(crate) fn find(data_dir: Option<PathBuf>, file: Option<PathBuf>) -> Result<Self, Failure> {
        let folder = match (
            &data_dir,
            default_dir(|it| std::env::var_os(it).map(PathBuf::from)),
        ) {
            (Some(given), _) => given.clone(),
            (None, Some(found)) => found,
            (None, None) => {
                let hint = "set --data-dir, KOGGE_DATA_DIR or HOME";
                return Err(Failure::input(format!(
                    "no data directory is known; {hint}"
                )));
            }
        };
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let beside = folder.join(CONFIG_FILE);
        let file = file.or_else(|| beside.exists().then_some(beside));
        let Some(path) = file else {
            let (config, http) = (Config::new(&folder), HttpConfig::default());
            return Ok(Self {
                data_dir: folder,
                file: None,
                config,
                http,
            });
        };
        let text = read_text(&path)?;
        let mut config = Config::from_toml(&text, &path, &folder)?;
        if data_dir.is_some() {
            config.data_dir = folder;
        }
        Ok(Self {
            data_dir: config.data_dir.clone(),
            http: HttpConfig::from_toml(&text, &path)?,
            file: Some(path),
            config,
        })
    }

    /// Where the configuration of this data directory is, or would be.
    pub(crate) fn config_path(&self) -> PathBuf {
        let beside = || self.data_dir.join(CONFIG_FILE);
        self.file.clone().unwrap_or_else(beside)
    }

    /// The owner's socket.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the path is too long for a socket.
    pub(crate) fn socket(&self) -> Result<PathBuf, Failure> {
        socket_in(&self.data_dir)
    }
}

/// The owner's socket in `folder`.
///
/// # Errors
///
/// [`Failure`] if the path is too long for a socket.
pub(crate) fn socket_in(folder: &Path) -> Result<PathBuf, Failure> {
    let path = folder.join(SOCKET_FILE);
    let length = path.as_os_str().len();
    if SOCKET_BYTES_MAX < length {
        return Err(Failure::new(
            "path-too-long",
            format!(
                "the path of the socket {} has {length} bytes, Unix sockets allow {SOCKET_BYTES_MAX}; \
                 choose a shorter --data-dir",
                path.display()
            ),
        ));
    }
    Ok(path)
}

/// `$KOGGE_DATA_DIR`, else `$XDG_DATA_HOME/kogge`, else `~/.local/share/kogge`. Empty variables do
/// not count, nor does a relative `$XDG_DATA_HOME` (XDG Base Directory Specification).
fn default_dir(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|it| !it.as_os_str().is_empty());
    let own = set("KOGGE_DATA_DIR");
    let data = || set("XDG_DATA_HOME").filter(|it| it.is_absolute());
    let home = || set("HOME").map(|it| it.join(".local/share"));
    own.or_else(|| data().or_else(home).map(|it| it.join("kogge")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_directory_follows_the_environment() {
        for (own, data, home, expected) in [
            ("/a", "/b", "/c", Some("/a")),
            ("", "/b", "/c", Some("/b/kogge")),
            ("", "b", "/c", Some("/c/.local/share/kogge")),
            ("", "", "/c", Some("/c/.local/share/kogge")),
            ("", "", "", None),
        ] {
            let found = default_dir(|name| {
                Some(PathBuf::from(match name {
                    "KOGGE_DATA_DIR" => own,
                    "XDG_DATA_HOME" => data,
                    _ => home,
                }))
            });
            assert_eq!(found, expected.map(PathBuf::from), "{own} {data} {home}");
        }
    }

    #[test]
    fn a_socket_path_that_is_too_long_is_said_so() {
        assert!(socket_in(Path::new("/tmp/x")).is_ok());
        let long = PathBuf::from("/").join("d".repeat(120));
        let message = socket_in(&long).unwrap_err().message;
        assert!(
            message.contains("134 bytes") && message.contains("--data-dir"),
            "{message}"
        );
    }

    #[test]
    fn a_given_directory_overrules_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONFIG_FILE);
        std::fs::write(&path, "data_dir = 'elsewhere'\n[http]\naddress = 'off'\n").unwrap();
        let given = Place::find(Some(folder.path().into()), None).unwrap();
        assert_eq!(given.data_dir, folder.path());
        assert_eq!(given.http.address, None);
        assert_eq!(given.config_path(), path);
        let missing = Place::find(Some(folder.path().into()), Some("/nowhere.toml".into()));
        assert!(missing.unwrap_err().message.contains("/nowhere.toml"));
    }
}
