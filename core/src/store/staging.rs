//! Receiving an artifact: written in any order, verified by the caller, resumable after a crash.
//!
//! The order of steps is what makes it safe; a model of all crash states showed each of the other
//! orders broken:
//!
//! ```text
//! checkpoint   write data, outboard → sync both → commit the set of groups
//! finish       sync both → rename → sync the folder → commit the record
//! ```
//!
//! A group counts only if the set that names it was committed after its bytes were synced.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::base::{Blake3, Sha256, codec};
use crate::store::blobs::{Blobs, Inner, fill_at};
use crate::store::disk::{self, Step};
use crate::store::error::StoreError;
use crate::store::record::{
    ARTIFACT_BYTES_MAX, BlobRecord, Groups, INLINE_BYTES_MAX, PartialRecord,
};

const PART: &str = "blob";

/// An artifact of unknown length reserves its room in steps of this. Unit: bytes.
const GROWTH_BYTES: u64 = 16 << 20;

/// Longest outboard, as a share of the artifact: 64 bytes for each group, and the head.
const fn outboard_bytes_max(size: u64) -> u64 {
    size / 512 + 4_096
}

/// An artifact that is being received under its known digest.
///
/// Dropping it keeps the groups of the last checkpoint for the next [`Blobs::begin`].
pub struct Staging {
    blake3: Blake3,
    size: u64,
    marks: Mutex<Groups>,
    /// Whether the database has a record, so that the files are worth keeping.
    is_recorded: AtomicBool,
    draft: Draft,
}

/// An artifact that is being received and gets its digest at the end. Dropping it discards it.
pub struct UnnamedStaging {
    reserved: Mutex<u64>,
    draft: Draft,
}

/// The bytes so far, in memory or in files, and the claims on quota and digest.
struct Draft {
    blobs: Arc<Inner>,
    target: Target,
    /// The first failed sync: it must not be repeated, since the system may have dropped the bytes.
    failed: OnceLock<StoreError>,
}

enum Target {
    Memory(Mutex<Vec<u8>>),
    Files {
        data: File,
        outboard: File,
        path: PathBuf,
    },
}

impl Blobs {
    /// Begins or resumes receiving the artifact `blake3` of `size` bytes; `None` if it is stored
    /// already. Reserves its room on the disk and in the quota, which may evict others. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] if another task receives it, [`StoreError::DiskFull`],
    /// [`StoreError::Quota`], [`StoreError::TooLarge`].
    pub fn begin(&self, blake3: Blake3, size: u64) -> Result<Option<Staging>, StoreError> {
        if ARTIFACT_BYTES_MAX < size {
            return Err(StoreError::TooLarge {
                what: "the artifact",
                bytes: size,
                bytes_max: ARTIFACT_BYTES_MAX,
            });
        }
        if !self.0.ledger().claim(blake3) {
            return Err(StoreError::InUse(blake3));
        }
        let begun = self.begin_claimed(blake3, size);
        if !matches!(begun, Ok(Some(_))) {
            self.0.ledger().unclaim(&blake3);
        }
        begun
    }

    fn begin_claimed(&self, blake3: Blake3, size: u64) -> Result<Option<Staging>, StoreError> {
        if self.contains(&blake3)? {
            return Ok(None);
        }
        let inner = &self.0;
        let path = inner.part_path(&blake3);
        // A set of groups without its file would make zeros look verified.
        let is_whole = fs::metadata(&path).is_ok_and(|it| it.len() == size);
        let record = inner.partial(&blake3)?;
        let record = record.filter(|it| it.size == size && is_whole);
        let idle = inner.ledger().take_idle(&blake3);
        let is_reserved = match idle {
            Some(bytes) if record.is_some() && bytes == size => true,
            Some(bytes) => {
                inner.ledger().release(bytes);
                false
            }
            None => false,
        };
        if !is_reserved {
            inner.make_room(size)?;
        }
        let target = inner.open_target(&path, size, record.is_some());
        let target = target.inspect_err(|_| inner.ledger().release(size))?;
        let marks = record.as_ref().map_or(Groups::none(size), Groups::of);
        Ok(Some(Staging {
            blake3,
            size,
            marks: Mutex::new(marks),
            is_recorded: AtomicBool::new(record.is_some()),
            draft: Draft::new(inner, target),
        }))
    }

    /// Begins receiving an artifact whose digest and length are not known yet; `size_hint` is a
    /// guess of its length. Blocks.
    ///
    /// # Errors
    ///
    /// As for [`Blobs::begin`].
    pub fn begin_unnamed(&self, size_hint: u64) -> Result<UnnamedStaging, StoreError> {
        let inner = &self.0;
        let size = size_hint.min(ARTIFACT_BYTES_MAX);
        inner.make_room(size)?;
        let number = inner.unnamed.fetch_add(1, Ordering::Relaxed);
        let path = inner.staging.join(format!("unnamed-{number}.part"));
        let target = inner.open_files(&path, size, false);
        let target = target.inspect_err(|_| inner.ledger().release(size))?;
        Ok(UnnamedStaging {
            reserved: Mutex::new(size),
            draft: Draft::new(inner, target),
        })
    }
}

impl Staging {
    /// Length of the artifact. Unit: bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes verified bytes. Safe from several threads for different groups. Not durable yet, and
    /// not counted until [`Staging::mark`].
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] behind the artifact's end; [`StoreError::DiskFull`] or
    /// [`StoreError::Io`] if the disk refuses.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let end = offset.saturating_add(bytes.len() as u64);
        check_end("the artifact", end, self.size)?;
        self.draft.write_at(offset, bytes)
    }

    /// Writes a part of the outboard, which is opaque here.
    ///
    /// # Errors
    ///
    /// As for [`Staging::write_at`]. The limit is 1/512 of the artifact and 4 KiB.
    pub fn write_outboard_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let end = offset.saturating_add(bytes.len() as u64);
        check_end("the outboard", end, outboard_bytes_max(self.size))?;
        self.draft.write_outboard_at(offset, bytes)
    }

    /// Reads what was written, for serving groups of an artifact that is not whole yet. Bytes of
    /// groups that are not marked mean nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the disk refuses.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        self.draft.read_at(offset, buffer)
    }

    /// Reads what was written of the outboard.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the disk refuses.
    pub fn read_outboard_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        match &self.draft.target {
            Target::Memory(_) => Ok(0),
            Target::Files { outboard, .. } => fill_at(outboard, offset, buffer),
        }
    }

    /// Counts groups whose verified bytes have been written.
    pub fn mark(&self, groups: Range<u64>) {
        self.marks().insert(groups);
    }

    /// The groups that are there: those of the last run's checkpoint, and those marked since.
    pub fn groups(&self) -> Vec<Range<u64>> {
        self.marks().ranges()
    }

    /// Makes the groups marked so far durable, so that a later run resumes from them. Blocks for
    /// two syncs and a commit; worth it every 64 MiB or few seconds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if a sync failed: drop the staging; the last checkpoint stands.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        if matches!(self.draft.target, Target::Memory(_)) {
            return Ok(());
        }
        // The set is taken before the sync: what is marked during it is not covered.
        let record = codec::encode(&self.marks().to_record(self.size));
        self.draft.sync()?;
        let (tables, digest) = (self.draft.blobs.tables, self.blake3);
        self.draft.blobs.writer.write(record.len(), move |txn| {
            Ok(tables.partial.put(txn, &digest.0, &record)?)
        })?;
        self.is_recorded.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes the artifact durable and visible under its digest; `sha256` is what the log says.
    /// Blocks for some syncs and a commit. On failure nothing is visible, and what was
    /// checkpointed can be resumed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Incomplete`] unless all groups are marked.
    pub fn finish(self, sha256: Sha256) -> Result<(), StoreError> {
        let (missing, groups) = {
            let marks = self.marks();
            (marks.missing(), marks.count())
        };
        if missing != 0 {
            return Err(StoreError::Incomplete { missing, groups });
        }
        self.draft.publish(self.blake3, sha256, self.size)?;
        self.is_recorded.store(false, Ordering::Release);
        Ok(())
    }

    /// Forgets the artifact, with its checkpoint. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the record cannot be removed.
    pub fn discard(self) -> Result<(), StoreError> {
        if self.is_recorded.swap(false, Ordering::AcqRel) {
            self.draft.blobs.forget_partial(&self.blake3)?;
        }
        Ok(())
    }

    fn marks(&self) -> MutexGuard<'_, Groups> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let is_kept = self.is_recorded.load(Ordering::Acquire);
        if !is_kept {
            self.draft.remove_files();
        }
        let mut ledger = self.draft.blobs.ledger();
        if is_kept {
            ledger.set_idle(self.blake3, self.size);
        } else {
            ledger.release(self.size);
        }
        ledger.unclaim(&self.blake3);
    }
}

impl UnnamedStaging {
    /// Writes bytes; reserves more room as needed, which may evict other artifacts.
    ///
    /// # Errors
    ///
    /// As for [`Staging::write_at`], and [`StoreError::Quota`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let end = offset.saturating_add(bytes.len() as u64);
        check_end("the artifact", end, ARTIFACT_BYTES_MAX)?;
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        if *reserved < end {
            let more = (end - *reserved).max(GROWTH_BYTES);
            let blobs = &self.draft.blobs;
            // Near the quota the step may not fit where the bytes do.
            let more = match blobs.check_disk(more).and_then(|()| blobs.make_room(more)) {
                Ok(()) => more,
                Err(_) => {
                    blobs.check_disk(end - *reserved)?;
                    blobs.make_room(end - *reserved)?;
                    end - *reserved
                }
            };
            *reserved += more;
        }
        drop(reserved);
        self.draft.write_at(offset, bytes)
    }

    /// Writes a part of the outboard, which is opaque here.
    ///
    /// # Errors
    ///
    /// As for [`Staging::write_outboard_at`].
    pub fn write_outboard_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let end = offset.saturating_add(bytes.len() as u64);
        check_end("the outboard", end, outboard_bytes_max(ARTIFACT_BYTES_MAX))?;
        self.draft.write_outboard_at(offset, bytes)
    }

    /// Reads what was written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the disk refuses.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        self.draft.read_at(offset, buffer)
    }

    /// Makes the artifact durable and visible under its digest. The caller has computed the
    /// digests of the first `size` bytes. Fine if it is stored already. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] if another task is receiving the same artifact.
    pub fn finish(self, blake3: Blake3, sha256: Sha256, size: u64) -> Result<(), StoreError> {
        let blobs = &self.draft.blobs;
        if !blobs.ledger().claim(blake3) {
            return Err(StoreError::InUse(blake3));
        }
        let result = blobs.record(&blake3).and_then(|stored| match stored {
            Some(_) => Ok(()),
            None => self
                .draft
                .truncate(size)
                .and_then(|()| self.draft.publish(blake3, sha256, size)),
        });
        blobs.ledger().unclaim(&blake3);
        result
    }
}

impl Drop for UnnamedStaging {
    fn drop(&mut self) {
        self.draft.remove_files();
        let reserved = *self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        self.draft.blobs.ledger().release(reserved);
    }
}

fn check_end(what: &'static str, end: u64, bytes_max: u64) -> Result<(), StoreError> {
    if end <= bytes_max {
        return Ok(());
    }
    Err(StoreError::TooLarge {
        what,
        bytes: end,
        bytes_max,
    })
}

impl Draft {
    fn new(blobs: &Arc<Inner>, target: Target) -> Self {
        Self {
            blobs: Arc::clone(blobs),
            target,
            failed: OnceLock::new(),
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
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

    fn write_outboard_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
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

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
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

    fn truncate(&self, size: u64) -> Result<(), StoreError> {
        let Target::Files { data, .. } = &self.target else {
            return Ok(());
        };
        let cut = || data.set_len(size);
        self.blobs
            .disk
            .run(Step::Write(PART), cut)
            .map_err(|it| self.blobs.failure("cannot cut an artifact", &it))
    }

    fn sync(&self) -> Result<(), StoreError> {
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

    /// Makes the artifact visible; the digest is claimed by this task.
    fn publish(&self, blake3: Blake3, sha256: Sha256, size: u64) -> Result<(), StoreError> {
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

    fn remove_files(&self) {
        if let Target::Files { path, .. } = &self.target {
            // What cannot be removed now is removed at the next start.
            drop(disk::remove_if_any(path));
            drop(disk::remove_if_any(&path.with_extension("obao")));
        }
    }
}

impl Inner {
    fn partial(&self, blake3: &Blake3) -> Result<Option<PartialRecord>, StoreError> {
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
    fn check_disk(&self, bytes: u64) -> Result<(), StoreError> {
        let needed = bytes.saturating_add(self.reserve_bytes);
        if disk::free_bytes(&self.folder).is_some_and(|free| free < needed) {
            return Err(StoreError::DiskFull {
                dir: self.env.dir().to_owned(),
            });
        }
        Ok(())
    }

    fn open_target(&self, path: &Path, size: u64, resume: bool) -> Result<Target, StoreError> {
        if size <= INLINE_BYTES_MAX {
            let bytes = vec![0; usize::try_from(size).unwrap_or(0)];
            return Ok(Target::Memory(Mutex::new(bytes)));
        }
        self.open_files(path, size, resume)
    }

    fn open_files(&self, path: &Path, size: u64, resume: bool) -> Result<Target, StoreError> {
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
        if !resume {
            // The names must survive a crash before a checkpoint counts on them.
            self.disk.sync_folder(PART, &self.staging)?;
        }
        Ok(Target::Files {
            data,
            outboard,
            path: path.to_owned(),
        })
    }

    /// Moves an artifact and its outboard, durably.
    fn rename(&self, from: &Path, to: &Path, has_outboard: bool) -> Result<(), StoreError> {
        let folder = to.parent().unwrap_or(&self.folder);
        self.disk.create_folder(folder)?;
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

    fn forget_partial(&self, blake3: &Blake3) -> Result<(), StoreError> {
        let (tables, digest) = (self.tables, *blake3);
        self.writer
            .write(0, move |txn| Ok(tables.partial.delete(txn, &digest.0)?))?;
        Ok(())
    }

    /// Gives up a resumable download that nobody continues; returns the bytes that became free.
    pub(crate) fn discard_idle(&self, blake3: &Blake3) -> Result<u64, StoreError> {
        let mut ledger = self.ledger();
        let Some(bytes) = ledger.take_idle(blake3) else {
            return Ok(0);
        };
        let is_claimed = ledger.claim(*blake3);
        drop(ledger);
        if !is_claimed {
            return Ok(0);
        }
        let result = self.forget_partial(blake3);
        let path = self.part_path(blake3);
        drop(disk::remove_if_any(&path));
        drop(disk::remove_if_any(&path.with_extension("obao")));
        let mut ledger = self.ledger();
        ledger.release(bytes);
        ledger.unclaim(blake3);
        result.map(|()| bytes)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::Step;
    use crate::store::record::GROUP_BYTES;
    use crate::store::recover::{Options, Store};
    use crate::store::testing::{Failing, Sense, open, options};

    /// Bytes that differ for each seed.
    fn body(seed: u64, len: usize) -> Vec<u8> {
        let mut rng = crate::base::Rng::new(seed);
        (0..len).map(|_| rng.next_u64().to_le_bytes()[0]).collect()
    }

    fn put(store: &Store, bytes: &[u8]) -> Result<Blake3, StoreError> {
        let blake3 = Blake3::of(bytes);
        if let Some(staging) = store.blobs().begin(blake3, bytes.len() as u64)? {
            staging.write_at(0, bytes)?;
            staging.mark(0..u64::MAX);
            staging.write_outboard_at(0, b"outboard")?;
            staging.finish(Sha256::of(bytes))?;
        }
        Ok(blake3)
    }

    fn read(store: &Store, blake3: &Blake3) -> Option<Vec<u8>> {
        let blob = store.blobs().open(blake3).unwrap()?;
        let mut bytes = vec![0; usize::try_from(blob.size()).unwrap() + 1];
        let count = blob.read_at(0, &mut bytes).unwrap();
        bytes.truncate(count);
        Some(bytes)
    }

    fn files(dir: &Path) -> usize {
        let folders = ["staging".into(), "blobs".to_owned()];
        let mut count = 0;
        for folder in folders {
            for it in fs::read_dir(dir.join(folder)).unwrap() {
                let path = it.unwrap().path();
                count += if path.is_dir() {
                    fs::read_dir(path).unwrap().count()
                } else {
                    1
                };
            }
        }
        count
    }

    #[test]
    fn artifacts_of_every_size_class_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let sizes = [
            0,
            1,
            16 << 10,
            (16 << 10) + 1,
            64 << 10,
            (64 << 10) + 1,
            300_000,
        ];
        let bodies: Vec<_> = sizes.iter().map(|it| body(*it as u64, *it)).collect();
        for bytes in &bodies {
            put(&store, bytes).unwrap();
            assert_eq!(put(&store, bytes), Ok(Blake3::of(bytes)), "again is fine");
        }
        drop(store);
        let (store, recovery) = open(dir.path());
        assert_eq!(recovery, crate::store::recover::Recovery::default());
        let blobs = store.blobs();
        for bytes in &bodies {
            let blake3 = Blake3::of(bytes);
            assert_eq!(read(&store, &blake3).as_ref(), Some(bytes));
            assert_eq!(blobs.by_sha256(&Sha256::of(bytes)).unwrap(), Some(blake3));
            assert_eq!(blobs.verify(&blake3), Ok(true));
            let blob = blobs.open(&blake3).unwrap().unwrap();
            let (mut outboard, len) = ([0; 9], usize::try_from(blob.outboard_len()).unwrap());
            assert_eq!(blob.read_outboard_at(0, &mut outboard), Ok(len));
            assert_eq!(blob.read_at(u64::MAX, &mut outboard), Ok(0));
            assert_eq!(&outboard[..len], &b"outboard"[..len]);
        }
        assert_eq!(blobs.stat().count, 7);
        assert_eq!(blobs.list(None).unwrap().len(), 7);
        assert_eq!(files(dir.path()), 2 * 4, "four have files and outboards");
    }

    #[test]
    fn only_groups_of_the_last_checkpoint_are_resumed() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = body(1, 5 * 65_536 + 9);
        let (blake3, size) = (Blake3::of(&bytes), bytes.len() as u64);
        let write = |staging: &Staging, group: u64| {
            let from = usize::try_from(group * GROUP_BYTES).unwrap();
            let end = (from + 65_536).min(bytes.len());
            staging.write_at(from as u64, &bytes[from..end]).unwrap();
            staging.mark(group..group + 1);
        };
        let (store, _) = open(dir.path());
        let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
        assert!(matches!(
            store.blobs().begin(blake3, size),
            Err(StoreError::InUse(_))
        ));
        [0, 1, 4].into_iter().for_each(|it| write(&staging, it));
        staging.checkpoint().unwrap();
        write(&staging, 2);
        assert_eq!(staging.groups(), [0..3, 4..5]);
        assert_eq!(
            read(&store, &blake3),
            None,
            "nothing half-written is visible"
        );
        drop((staging, store));

        let (store, recovery) = open(dir.path());
        assert_eq!(recovery.resumable, 1);
        assert_eq!(store.blobs().stat().staging_bytes, size);
        let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
        assert_eq!(staging.groups(), [0..2, 4..5]);
        drop(staging);
        let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
        [2, 3].into_iter().for_each(|it| write(&staging, it));
        assert_eq!(
            staging.finish(Sha256::of(&bytes)),
            Err(StoreError::Incomplete {
                missing: 1,
                groups: 6
            })
        );
        let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
        [2, 3, 5].into_iter().for_each(|it| write(&staging, it));
        staging.finish(Sha256::of(&bytes)).unwrap();
        assert_eq!(read(&store, &blake3), Some(bytes.clone()));
        assert_eq!(store.blobs().stat().staging_bytes, 0);
        assert!(store.blobs().begin(blake3, size).unwrap().is_none());
    }

    #[test]
    fn a_checkpoint_without_its_file_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let (blake3, size) = (Blake3([7; 32]), 200_000);
        let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
        staging.mark(0..2);
        staging.checkpoint().unwrap();
        drop(staging);
        fs::remove_file(dir.path().join(format!("staging/{blake3}.part"))).unwrap();
        let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
        assert_eq!(staging.groups(), []);
        staging.discard().unwrap();
        assert_eq!(
            (files(dir.path()), store.blobs().stat().staging_bytes),
            (0, 0)
        );
    }

    #[test]
    fn an_unnamed_artifact_gets_its_name_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        for (seed, len) in [(1, 100), (2, 70_000), (2, 70_000)] {
            let bytes = body(seed, len);
            let staging = store.blobs().begin_unnamed(1 << 20).unwrap();
            staging.write_at(0, &bytes).unwrap();
            let mut back = vec![0; len];
            assert_eq!(staging.read_at(0, &mut back), Ok(len));
            staging
                .finish(Blake3::of(&bytes), Sha256::of(&bytes), len as u64)
                .unwrap();
            assert_eq!(read(&store, &Blake3::of(&bytes)), Some(bytes));
        }
        drop(store.blobs().begin_unnamed(0).unwrap());
        let stat = store.blobs().stat();
        assert_eq!((stat.count, stat.bytes, stat.staging_bytes), (2, 70_100, 0));
        assert_eq!(files(dir.path()), 1);
    }

    #[test]
    fn writing_behind_the_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let staging = store
            .blobs()
            .begin(Blake3([1; 32]), 100_000)
            .unwrap()
            .unwrap();
        for (offset, bytes) in [(99_999, 2), (u64::MAX, 1)] {
            let refused = staging.write_at(offset, &vec![0; bytes]);
            assert!(
                matches!(refused, Err(StoreError::TooLarge { .. })),
                "{offset}"
            );
        }
        let huge = staging.write_outboard_at(1 << 40, b"x");
        assert!(matches!(huge, Err(StoreError::TooLarge { .. })));
        let refused = store.blobs().begin(Blake3([2; 32]), u64::MAX).map(|_| ());
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })));
    }

    #[test]
    fn a_failure_at_any_step_of_finish_leaves_the_artifact_whole_or_invisible() {
        let bytes = body(3, 200_000);
        let blake3 = Blake3::of(&bytes);
        for step in [
            Step::Allocate("blob"),
            Step::Write("blob"),
            Step::Sync("blob"),
            Step::Rename("blob"),
            Step::SyncFolder("blob"),
            Step::Commit("log"),
        ] {
            for sense in [Sense::Before, Sense::After] {
                let dir = tempfile::tempdir().unwrap();
                let faults = Failing::new();
                let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
                faults.arm(step, sense);
                assert!(put(&store, &bytes).is_err(), "{step:?} {sense:?}");
                assert!(!faults.is_armed(), "{step:?}");
                let committed = (step, sense) == (Step::Commit("log"), Sense::After);
                drop(store);

                let (store, recovery) = open(dir.path());
                let expected = committed.then(|| bytes.clone());
                assert_eq!(read(&store, &blake3), expected, "{step:?} {sense:?}");
                assert_eq!(recovery.lost, []);
                put(&store, &bytes).unwrap();
                assert_eq!(read(&store, &blake3).as_ref(), Some(&bytes));
                assert_eq!(files(dir.path()), 2, "{step:?} {sense:?}");
            }
        }
    }

    #[test]
    fn a_failed_checkpoint_is_not_repeated_and_the_last_one_stands() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Failing::new();
        let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
        let (blake3, size) = (Blake3([7; 32]), 200_000);
        let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
        staging.mark(0..1);
        staging.checkpoint().unwrap();
        staging.mark(1..2);
        faults.arm(Step::Sync("blob"), Sense::After);
        let failed = staging.checkpoint();
        assert!(matches!(failed, Err(StoreError::Failed { .. })));
        assert_eq!(staging.checkpoint(), failed);
        drop(staging);
        let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
        assert_eq!(staging.groups(), [0..1]);
    }

    #[test]
    fn damaged_files_are_removed_and_reported_and_never_served() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let bodies: Vec<_> = (0..4).map(|it| body(it, 100_000)).collect();
        let digests: Vec<_> = bodies.iter().map(|it| put(&store, it).unwrap()).collect();
        let path = |it: usize| store.blobs().0.path(&digests[it]);
        let is_corrupt = |it| matches!(it, Err(StoreError::Corrupt { .. }));

        let mut flipped = bodies[0].clone();
        flipped[50_000] ^= 1;
        fs::write(path(0), flipped).unwrap();
        assert!(is_corrupt(store.blobs().verify(&digests[0])));
        fs::write(path(1), b"short").unwrap();
        assert!(is_corrupt(store.blobs().open(&digests[1]).map(|_| true)));
        for it in [0, 1] {
            assert_eq!(read(&store, &digests[it]), None);
            assert!(!path(it).exists());
            assert_eq!(store.blobs().verify(&digests[it]), Ok(false));
        }
        let removed = path(2);
        drop(store);
        fs::remove_file(&removed).unwrap();
        fs::write(removed.with_file_name("garbage"), b"").unwrap();
        fs::write(dir.path().join("staging/unnamed-0.part"), b"").unwrap();
        fs::write(dir.path().join("blobs/not-a-folder"), b"").unwrap();
        let (store, recovery) = open(dir.path());
        assert_eq!((recovery.lost, recovery.lost_count), (vec![digests[2]], 1));
        assert_eq!(recovery.garbage_files, 2);
        assert_eq!(store.blobs().stat().count, 1);
        assert_eq!(read(&store, &digests[3]).as_ref(), Some(&bodies[3]));
    }

    #[test]
    fn the_least_recently_used_goes_and_what_is_pinned_or_read_stays() {
        let dir = tempfile::tempdir().unwrap();
        let quota = Options {
            quota_bytes: 1_000_000,
            ..options()
        };
        let (store, _) = Store::open(dir.path(), quota).unwrap();
        let blobs = store.blobs();
        let bodies: Vec<_> = (0..9).map(|it| body(it, 100_000)).collect();
        let digests: Vec<_> = bodies.iter().map(|it| put(&store, it).unwrap()).collect();
        assert_eq!(blobs.set_pinned(&digests[0], true), Ok(true));
        assert_eq!(blobs.set_pinned(&Blake3([0; 32]), true), Ok(false));
        let reader = blobs.open(&digests[1]).unwrap().unwrap();
        drop(blobs.open(&digests[2]).unwrap());
        // 9 × 100,008 are in use; 200,000 more lead to the low mark: three must go.
        put(&store, &body(99, 200_000)).unwrap();
        let kept: Vec<_> = (0..9)
            .filter(|it| blobs.contains(&digests[*it]).unwrap())
            .collect();
        assert_eq!(kept, [0, 1, 2, 6, 7, 8]);
        let mut all = vec![0; 100_000];
        assert_eq!(reader.read_at(0, &mut all), Ok(100_000));
        assert_eq!(all, bodies[1]);

        let too_much = blobs.begin(Blake3([9; 32]), 1_000_001).map(|_| ());
        assert_eq!(
            too_much,
            Err(StoreError::Quota {
                bytes: 1_000_001,
                quota: 1_000_000
            })
        );
        let blocked = blobs.begin(Blake3([9; 32]), 850_000).map(|_| ());
        assert!(
            matches!(blocked, Err(StoreError::Quota { .. })),
            "pinned and read"
        );
        drop(reader);
        assert!(blobs.begin(Blake3([9; 32]), 850_000).unwrap().is_some());
        assert_eq!(blobs.stat().pinned_bytes, 100_008);
    }

    #[test]
    fn abandoned_downloads_go_before_stored_artifacts() {
        let dir = tempfile::tempdir().unwrap();
        let quota = Options {
            quota_bytes: 1_000_000,
            ..options()
        };
        let (store, _) = Store::open(dir.path(), quota).unwrap();
        let kept = put(&store, &body(1, 400_000)).unwrap();
        let staging = store
            .blobs()
            .begin(Blake3([7; 32]), 500_000)
            .unwrap()
            .unwrap();
        staging.checkpoint().unwrap();
        drop(staging);
        put(&store, &body(2, 300_000)).unwrap();
        assert_eq!(store.blobs().contains(&kept), Ok(true));
        assert_eq!(store.blobs().stat().staging_bytes, 0);
    }
}
