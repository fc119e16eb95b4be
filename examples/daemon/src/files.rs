//! Writing results to files, whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::failure::{During, Failure};

/// A file that takes its name only when it is complete.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    staged: PathBuf,
    file: File,
    is_kept: bool,
}

impl Draft {
    /// Starts a file beside its final place; folders are made.
    ///
    /// # Errors
    ///
    /// [`Failure`] naming the file.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let what = || format!("cannot write {}", path.display());
        let folder = path.parent().unwrap_or(Path::new(""));
        if !folder.as_os_str().is_empty() {
            fs::create_dir_all(folder).during(what())?;
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        if name.is_empty() || path.is_dir() {
            return Err(Failure::input(format!("{} is a folder", path.display())));
        }
        name.push(format!(".{}.part", std::process::id()));
        let staged = path.with_file_name(name);
        Ok(Self {
            file: File::create(&staged).during(what())?,
            path: path.to_owned(),
            staged,
            is_kept: false,
        })
    }

    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// [`Failure`] naming the file.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(bytes);
        written.during(format!("cannot write {}", self.path.display()))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    ///
    /// [`Failure`] naming the file.
    pub(crate) fn keep(mut self) -> Result<(), Failure> {
        let kept = fs::rename(&self.staged, &self.path);
        kept.during(format!("cannot write {}", self.path.display()))?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.staged);
        }
    }
}

/// Writes a whole file.
///
/// # Errors
///
/// [`Failure`] naming the file.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut draft = Draft::create(path)?;
    draft.write(bytes)?;
    draft.keep()
}

/// Reads a file of at most `bytes_max` bytes; `-` is standard input.
///
/// # Errors
///
/// [`Failure`] naming the file.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let what = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let read =
        |reader: &mut dyn Read, bytes: &mut Vec<u8>| reader.take(bytes_max + 1).read_to_end(bytes);
    if path == Path::new("-") {
        read(&mut io::stdin().lock(), &mut bytes).during(what())?;
    } else {
        read(&mut File::open(path).during(what())?, &mut bytes).during(what())?;
    }
    if bytes_max < bytes.len() as u64 {
        let message = format!("{} has more than {bytes_max} bytes", path.display());
        return Err(Failure::input(message));
    }
    Ok(bytes)
}

/// Makes a folder that only its owner can enter.
///
/// # Errors
///
/// [`Failure`] naming the folder.
pub(crate) fn private_folder(path: &Path) -> Result<(), Failure> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .during(format!("cannot make the folder {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.jar");
        let mut draft = Draft::create(&path).unwrap();
        draft.write(b"half").unwrap();
        drop(draft);
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 0);
        write(&path, b"whole").unwrap();
        assert_eq!(read(&path, 5), Ok(b"whole".to_vec()));
        assert!(read(&path, 4).unwrap_err().message.contains("more than 4"));
        assert!(Draft::create(folder.path()).is_err());
    }
}
