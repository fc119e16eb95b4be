//! The owner's token: whoever can read the file may change things over TCP.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use kogge::base::hex;

use crate::listen::ListenError;

/// The name of the file in the data directory.
const FILE: &str = "token";

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

/// What callers have to know. Never printed.
pub(crate) struct Token(String);

impl Token {
    /// Reads the token in `data_dir`, or makes one.
    ///
    /// # Errors
    ///
    /// [`ListenError::Token`] if that fails, or if others than the owner can read the file.
    pub(crate) fn load(data_dir: &Path) -> Result<Self, ListenError> {
        let path = data_dir.join(FILE);
        let token = match make(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(&path),
            made => made.map_err(|it| it.to_string()),
        };
        token
            .map(Self)
            .map_err(|problem| ListenError::Token { path, problem })
    }

    /// A known token.
    #[cfg(feature = "testing")]
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether `given` is the token. Takes the same time for every wrong one of the same length.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        let token = self.0.as_bytes();
        let difference = token
            .iter()
            .zip(given)
            .fold(0, |sum, (ours, theirs)| sum | (ours ^ theirs));
        token.len() == given.len() && difference == 0
    }
}

fn make(path: &Path) -> io::Result<String> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let token = hex::encode(&bytes);
    file.write_all(token.as_bytes())?;
    file.sync_all()?;
    Ok(token)
}

fn read(path: &Path) -> Result<String, String> {
    let mut file = File::open(path).map_err(|it| it.to_string())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let meta = file.metadata().map_err(|it| it.to_string())?;
        if meta.permissions().mode() & 0o077 != 0 {
            return Err("others can read it; run `chmod 600` on it, or delete it".into());
        }
    }
    let mut text = String::new();
    Read::by_ref(&mut file)
        .take(1_024)
        .read_to_string(&mut text)
        .map_err(|it| it.to_string())?;
    let token = text.trim_end();
    match hex::decode(token) {
        Some(bytes) if bytes.len() == TOKEN_BYTES => Ok(token.to_owned()),
        _ => Err("it does not hold a token; delete it to get another".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_stays_and_nothing_else_passes() {
        let folder = tempfile::tempdir().unwrap();
        let token = Token::load(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(Token::load(folder.path()).unwrap().is(text.as_bytes()));
        assert!(token.is(text.as_bytes()));
        let longer = format!("{text}0");
        for wrong in ["", &text[1..], &longer, &text.to_uppercase()] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_spoilt_or_open_token_file_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for (text, mode, part) in [
            ("", 0o600, "does not hold a token"),
            ("short", 0o600, "does not hold a token"),
            ("short", 0o644, "chmod 600"),
        ] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let message = Token::load(folder.path()).err().unwrap().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
