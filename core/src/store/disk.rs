//! The steps by which the store changes the disk, and the hook that lets tests fail each of them.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use crate::store::error::StoreError;

/// A disk with less room counts as full when a write fails. Unit: bytes.
const FULL_BYTES: u64 = 1 << 20;

/// A step at which the disk can fail. The text names the part of the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Reserving the room of a file.
    Allocate(&'static str),
    /// Writing to a file.
    Write(&'static str),
    /// Making a file's bytes durable.
    Sync(&'static str),
    /// Giving a file its final name.
    Rename(&'static str),
    /// Making the names in a folder durable.
    SyncFolder(&'static str),
    /// Committing a transaction of an LMDB environment.
    Commit(&'static str),
}

/// Decides which steps fail. For tests: a store in use has none.
pub trait Faults: Send + Sync {
    /// Called before the step; an error prevents it: not persisted, and reported as failed.
    ///
    /// # Errors
    ///
    /// Whatever the step shall fail with.
    fn before(&self, step: Step) -> io::Result<()>;

    /// Called after the step; an error hides its success: persisted, but reported as failed.
    ///
    /// # Errors
    ///
    /// Whatever the step shall fail with.
    fn after(&self, step: Step) -> io::Result<()>;
}

/// Performs the steps.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    faults: Option<Arc<dyn Faults>>,
}

impl Disk {
    pub(crate) fn new(faults: Option<Arc<dyn Faults>>) -> Self {
        Self { faults }
    }

    /// Runs `step`.
    pub(crate) fn run<T, E: From<io::Error>>(
        &self,
        step: Step,
        action: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(faults) = &self.faults {
            faults.before(step)?;
        }
        let value = action()?;
        if let Some(faults) = &self.faults {
            faults.after(step)?;
        }
        Ok(value)
    }

    /// Makes the names in `folder` durable.
    pub(crate) fn sync_folder(&self, part: &'static str, folder: &Path) -> Result<(), StoreError> {
        self.run(Step::SyncFolder(part), || File::open(folder)?.sync_all())
            .map_err(|it| StoreError::at("sync the folder", folder, &it))
    }

    /// Creates `folder` and its parents, private to the user, and makes their names durable.
    /// Without the sync an acknowledged file may be gone after a crash, with its folder.
    pub(crate) fn create_folder(&self, folder: &Path) -> Result<(), StoreError> {
        if folder.is_dir() {
            return Ok(());
        }
        let parent = folder
            .parent()
            .filter(|it| !it.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        self.create_folder(parent)?;
        make_private_folder(folder)?;
        let synced = self
            .sync_folder("folder", folder)
            .and_then(|()| self.sync_folder("folder", parent));
        if synced.is_err() {
            // Otherwise the next attempt would take its name for durable.
            drop(fs::remove_dir(folder));
        }
        synced
    }

    /// Replaces the content of `path`: a crash leaves the old or the new, never a mixture.
    pub(crate) fn replace(
        &self,
        part: &'static str,
        path: &Path,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let fail = |it: io::Error| StoreError::at("write", path, &it);
        let draft = path.with_extension("new");
        let file = self.run(Step::Write(part), || {
            let mut file = private_file().truncate(true).open(&draft)?;
            file.write_all(bytes)?;
            Ok(file)
        });
        let file = file.map_err(fail)?;
        self.run(Step::Sync(part), || file.sync_data())
            .map_err(fail)?;
        self.run(Step::Rename(part), || fs::rename(&draft, path))
            .map_err(fail)?;
        self.sync_folder(part, path.parent().unwrap_or(Path::new(".")))
    }
}

/// Creates a folder that only the user may read, unless it is there. Its name is not durable yet.
pub(crate) fn make_private_folder(folder: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(it) if it.kind() != io::ErrorKind::AlreadyExists => {
            Err(StoreError::at("create the folder", folder, &it))
        }
        _ => Ok(()),
    }
}

/// Options to open or create a file that only the user may read.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

/// Opens or creates a private file and tries to lock it for as long as it is open; false if
/// somebody else has locked it.
pub(crate) fn open_locked(path: &Path) -> Result<(File, bool), StoreError> {
    let fail = |it: io::Error| StoreError::at("lock", path, &it);
    let file = private_file().truncate(false).open(path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok((file, true)),
        Err(TryLockError::WouldBlock) => Ok((file, false)),
        Err(TryLockError::Error(it)) => Err(fail(it)),
    }
}

/// The file's content, or `None` if there is no such file.
pub(crate) fn read_if_any(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(it) if it.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(it) => Err(StoreError::at("read", path, &it)),
    }
}

/// Removes a file; it is fine if there is none.
pub(crate) fn remove_if_any(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(it) if it.kind() != io::ErrorKind::NotFound => Err(StoreError::at("remove", path, &it)),
        _ => Ok(()),
    }
}

/// Bytes that this user may still write to the disk that holds `path`; `None` if the system does
/// not say.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Tells a full disk from other failures of a write below `dir`.
///
/// LMDB reports a short write, the usual sign of a full disk, as EIO; so the disk is asked.
pub(crate) fn explain(dir: &Path, error: StoreError) -> StoreError {
    let StoreError::Io { code, .. } = &error else {
        return error;
    };
    let no_space = *code == Some(libc::ENOSPC) || *code == Some(libc::EDQUOT);
    let no_room = || free_bytes(dir).is_some_and(|it| it < FULL_BYTES);
    if no_space || (*code == Some(libc::EIO) && no_room()) {
        return StoreError::DiskFull {
            dir: dir.to_owned(),
        };
    }
    error
}
