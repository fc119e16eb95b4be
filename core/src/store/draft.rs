//! The bytes of an artifact on their way, and how they become visible.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::base::{Blake3, Sha256, codec};
use crate::store::blob::fill_at;
use crate::store::blobs::Inner;
use crate::store::disk::{self, Step};
use crate::store::error::StoreError;
use crate::store::record::{BlobRecord, INLINE_BYTES_MAX, PartialRecord};

const PART: &str = "blob";

/// The bytes so far, in memory or in files, and the claims on quota and digest.
pub(crate) struct Draft {
    pub(crate) blobs: Arc<Inner>,
    pub(crate) target: Target,
    /// The first failed sync: it must not be repeated, since the system may have dropped the bytes.
    failed: OnceLock<StoreError>,
}

pub(crate) enum Target {
    Memory(Mutex<Vec<u8>>),
    Files {
        data: File,
        outboard: File,
        path: PathBuf,
    },
}

impl Draft {
    pub(crate) fn new(blobs: &Arc<Inner>, target: Target) -> Self {
        Self {
            blobs: Arc::clone(blobs),
            target,
            failed: OnceLock::new(),
        }
    }

    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        match &self.target {
            Target::Memory(memory) => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                // The caller has checked the end.
                if let Some(place) = memory.get_mut(from..from.saturating_add(bytes.len())) {
                    place.copy_from_slice(bytes);
                }
                Ok(())
            }
            Target::Files { data, .. } => self.write_file(data, offset, bytes),
        }
    }

    pub(crate) fn write_outboard_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        match &self.target {
            // So small an artifact is hashed again as fast as an outboard is read.
            Target::Memory(_) => Ok(()),
            Target::Files { outboard, .. } => self.write_file(outboard, offset, bytes),
        }
    }

    fn write_file(&self, file: &File, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let write = || file.write_all_at(bytes, offset);
        self.blobs
            .disk
            .run(Step::Write(PART), write)
            .map_err(|it| self.blobs.failure("cannot write an artifact", &it))
    }

    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        match &self.target {
            Target::Memory(memory) => {
                let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                let rest = usize::try_from(offset).ok().and_then(|at| memory.get(at..));
                let rest = rest.unwrap_or_default();
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            Target::Files { data, .. } => fill_at(data, offset, buffer),
        }
    }

    pub(crate) fn truncate(&self, size: u64) -> Result<(), StoreError> {
        let Target::Files { data, .. } = &self.target else {
            return Ok(());
        };
        let cut = || data.set_len(size);
        self.blobs
            .disk
            .run(Step::Write(PART), cut)
            .map_err(|it| self.blobs.failure("cannot cut an artifact", &it))
    }

    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        if let Some(failed) = self.failed.get() {
            return Err(failed.clone());
        }
        let Target::Files { data, outboard, .. } = &self.target else {
            return Ok(());
        };
        let sync = || data.sync_data().and_then(|()| outboard.sync_data());
        self.blobs.disk.run(Step::Sync(PART), sync).map_err(|it| {
            let failed = StoreError::Failed {
                part: "an artifact being received",
                reason: it.to_string(),
            };
            self.failed.get_or_init(|| failed).clone()
        })
    }

    /// Makes the artifact visible; only inside of [`Inner::publish_once`].
    pub(crate) fn publish(
        &self,
        blake3: Blake3,
        sha256: Sha256,
        size: u64,
    ) -> Result<(), StoreError> {
        let mut record = BlobRecord {
            size,
            sha256,
            is_inline: size <= INLINE_BYTES_MAX,
            outboard: 0,
            used: self.blobs.ledger().next_use(),
            is_pinned: false,
        };
        if record.is_inline {
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
            let count = self.read_at(0, &mut bytes)?;
            bytes.truncate(count);
            return self.blobs.commit(blake3, record, Some(bytes));
        }
        self.sync()?;
        let Target::Files { outboard, path, .. } = &self.target else {
            return Ok(());
        };
        record.outboard = outboard
            .metadata()
            .map_err(|it| StoreError::at("read", path, &it))?
            .len();
        let home = self.blobs.path(&blake3);
        self.blobs.rename(path, &home, 0 < record.outboard)?;
        let committed = self.blobs.commit(blake3, record, None);
        if let Err(error) = &committed
            && !matches!(error, StoreError::Failed { .. })
        {
            // Surely not recorded, so it can be tried again later. After `Failed` the record may
            // be on the disk, and the file with it must stay; the next start decides.
            drop(self.blobs.rename(&home, path, 0 < record.outboard));
        }
        committed
    }

    pub(crate) fn remove_files(&self) {
        if let Target::Files { path, .. } = &self.target {
            // What cannot be removed now is removed at the next start.
            drop(disk::remove_if_any(path));
            drop(disk::remove_if_any(&path.with_extension("obao")));
        }
    }
}

impl Inner {
    pub(crate) fn partial(&self, blake3: &Blake3) -> Result<Option<PartialRecord>, StoreError> {
        let txn = self.env.read()?;
        let bytes = self.tables.partial.get(&txn, &blake3.0)?;
        bytes.map(PartialRecord::from_bytes).transpose()
    }

    pub(crate) fn part_path(&self, blake3: &Blake3) -> PathBuf {
        self.staging.join(format!("{blake3}.part"))
    }

    fn failure(&self, what: &str, error: &std::io::Error) -> StoreError {
        disk::explain(self.env.dir(), StoreError::io(what, error))
    }

    /// Leaves room for the log, which must go on when artifacts cannot.
    pub(crate) fn check_disk(&self, bytes: u64) -> Result<(), StoreError> {
        let needed = bytes.saturating_add(self.reserve_bytes);
        if disk::free_bytes(&self.folder).is_some_and(|free| free < needed) {
            return Err(StoreError::DiskFull {
                dir: self.env.dir().to_owned(),
            });
        }
        Ok(())
    }

    pub(crate) fn open_target(
        &self,
        path: &Path,
        size: u64,
        resume: bool,
    ) -> Result<Target, StoreError> {
        if size <= INLINE_BYTES_MAX {
            let bytes = vec![0; usize::try_from(size).unwrap_or(0)];
            return Ok(Target::Memory(Mutex::new(bytes)));
        }
        self.open_files(path, size, resume)
    }

    pub(crate) fn open_files(
        &self,
        path: &Path,
        size: u64,
        resume: bool,
    ) -> Result<Target, StoreError> {
        if !resume {
            self.check_disk(size)?;
        }
        let open = |path: &Path| {
            disk::private_file()
                .truncate(!resume)
                .open(path)
                .map_err(|it| StoreError::at("create", path, &it))
        };
        let (data, outboard) = (open(path)?, open(&path.with_extension("obao"))?);
        let allocate = || allocate(&data, size);
        if let Err(it) = self.disk.run(Step::Allocate(PART), allocate) {
            if !resume {
                drop(disk::remove_if_any(path));
                drop(disk::remove_if_any(&path.with_extension("obao")));
            }
            return Err(self.failure("cannot reserve room for an artifact", &it));
        }
        Ok(Target::Files {
            data,
            outboard,
            path: path.to_owned(),
        })
    }

    /// Makes the names of what is being received survive a crash, which a checkpoint counts on.
    pub(crate) fn sync_names(&self) -> Result<(), StoreError> {
        self.disk.sync_folder(PART, &self.staging)
    }

    /// Moves an artifact and its outboard, durably.
    fn rename(&self, from: &Path, to: &Path, has_outboard: bool) -> Result<(), StoreError> {
        let folder = to.parent().unwrap_or(&self.folder);
        let rename = || {
            if has_outboard {
                fs::rename(from.with_extension("obao"), to.with_extension("obao"))?;
            }
            fs::rename(from, to)
        };
        self.disk
            .run(Step::Rename(PART), rename)
            .map_err(|it| StoreError::at("move", from, &it))?;
        self.disk.sync_folder(PART, folder)
    }

    /// Records a stored artifact: from here on it is visible.
    fn commit(
        &self,
        blake3: Blake3,
        record: BlobRecord,
        inline: Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let tables = self.tables;
        let bytes = inline.as_ref().map_or(0, Vec::len);
        self.writer.write(bytes, move |txn| {
            if let Some(bytes) = &inline {
                tables.inline.put(txn, &blake3.0, bytes)?;
            }
            tables.blob.put(txn, &blake3.0, &codec::encode(&record))?;
            tables.sha256.put(txn, &record.sha256.0, &blake3.0)?;
            tables.partial.delete(txn, &blake3.0)?;
            Ok(())
        })?;
        self.ledger().add(&record);
        Ok(())
    }

    pub(crate) fn forget_partial(&self, blake3: &Blake3) -> Result<(), StoreError> {
        let (tables, digest) = (self.tables, *blake3);
        self.writer
            .write(0, move |txn| Ok(tables.partial.delete(txn, &digest.0)?))?;
        Ok(())
    }

    /// Gives up a resumable download of `bytes` that this task has claimed.
    pub(crate) fn discard_idle(&self, blake3: &Blake3, bytes: u64) -> Result<(), StoreError> {
        let result = self.forget_partial(blake3);
        let path = self.part_path(blake3);
        drop(disk::remove_if_any(&path));
        drop(disk::remove_if_any(&path.with_extension("obao")));
        self.ledger().release(bytes);
        self.unclaim(blake3);
        result
    }
}

/// Reserves the file's room, so that a full disk shows at once and not after an hour.
fn allocate(file: &File, size: u64) -> std::io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    let mode = rustix::fs::FallocateFlags::empty();
    match rustix::fs::fallocate(file, mode, 0, size) {
        Ok(()) => Ok(()),
        // Not every file system can; then the file is sparse and a full disk shows later.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(size),
        Err(it) => Err(it.into()),
    }
}
