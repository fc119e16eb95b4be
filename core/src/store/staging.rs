//! Receiving an artifact: written in any order, verified by the caller, resumable after a crash.
//!
//! The order of steps is what makes it safe; a model of all crash states showed each of the other
//! orders broken:
//!
//! ```text
//! checkpoint   write data, outboard → sync both, and at first their names → commit the set of groups
//! finish       sync both → rename → sync the folder → commit the record
//! ```
//!
//! A group counts only if the set that names it was committed after its bytes were synced.

use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::{Blake3, Sha256, codec};
use crate::store::blob::fill_at;
use crate::store::blobs::Blobs;
use crate::store::claim::Published;
use crate::store::draft::{Draft, Target};
use crate::store::error::StoreError;
use crate::store::quota::Claim;
use crate::store::record::{ARTIFACT_BYTES_MAX, Groups};

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
        self.0.claim(blake3, Claim::Receive)?;
        let begun = self.begin_claimed(blake3, size);
        if !matches!(begun, Ok(Some(_))) {
            self.0.unclaim(&blake3);
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
        let blobs = &self.draft.blobs;
        if !self.is_recorded.load(Ordering::Acquire) {
            blobs.sync_names()?;
        }
        let (tables, digest) = (blobs.tables, self.blake3);
        blobs.writer.write(record.len(), move |txn| {
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
        self.publish(sha256)
    }

    /// [`Staging::finish`] while others read. What was reserved for the artifact is given back when
    /// this is dropped, which should be soon.
    ///
    /// # Errors
    ///
    /// As for [`Staging::finish`].
    pub fn publish(&self, sha256: Sha256) -> Result<(), StoreError> {
        let (missing, groups) = {
            let marks = self.marks();
            (marks.missing(), marks.count())
        };
        if missing != 0 {
            return Err(StoreError::Incomplete { missing, groups });
        }
        let (blobs, draft) = (&self.draft.blobs, &self.draft);
        let publish = || draft.publish(self.blake3, sha256, self.size);
        match blobs.publish_once(&self.blake3, publish)? {
            Published::Now => self.is_recorded.store(false, Ordering::Release),
            // A build brought the same bytes in the meantime: ours are not needed.
            Published::Before => self.forget()?,
        }
        Ok(())
    }

    /// Forgets the artifact, with its checkpoint. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the record cannot be removed.
    pub fn discard(self) -> Result<(), StoreError> {
        self.forget()
    }

    fn forget(&self) -> Result<(), StoreError> {
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
        drop(ledger);
        self.draft.blobs.unclaim(&self.blake3);
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
    /// digests of the first `size` bytes. Fine if it is stored already, or is being received by
    /// another task. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the disk refuses; then nothing is visible.
    pub fn finish(self, blake3: Blake3, sha256: Sha256, size: u64) -> Result<(), StoreError> {
        let draft = &self.draft;
        let publish = || {
            draft.truncate(size)?;
            draft.publish(blake3, sha256, size)
        };
        draft.blobs.publish_once(&blake3, publish).map(drop)
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
