//! Artifacts: small ones in the database, larger ones as files.
//!
//! ```text
//! blobs/ab/abcd…          an artifact, named by its blake3 digest
//! blobs/ab/abcd….obao     its outboard, if it has one; opaque here
//! staging/abcd….part      an artifact being received: see `staging.rs`
//! ```
//!
//! All folders are made when the store is. The record in the database is what counts: it is
//! committed after the file is durable under its final name, and removed before the file. A file
//! without a record is garbage.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use heed::RwTxn;

use crate::base::{Blake3, Sha256, codec};
use crate::store::blob::{Blob, Lease, Source};
use crate::store::claim::Removing;
use crate::store::disk::{self, Disk};
use crate::store::env::Environment;
use crate::store::error::StoreError;
use crate::store::quota::{Fate, Ledger, Stat};
use crate::store::record::BlobRecord;
use crate::store::tables::LogTables;
use crate::store::writer::Writer;

/// Most rows of one list; go on after the last one.
pub const LIST_ROWS_MAX: usize = 1_000;

/// Unit of re-hashing. Unit: bytes.
const VERIFY_BYTES: usize = 1 << 20;

/// A stored artifact in a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlobInfo {
    /// Its address.
    pub blake3: Blake3,
    /// The other digest.
    pub sha256: Sha256,
    /// Its length. Unit: bytes.
    pub size: u64,
    /// Whether it is exempt from eviction.
    pub is_pinned: bool,
}

/// The artifacts on disk. Clones share the same store.
///
/// Everything here blocks on the disk, but looking something up takes only microseconds.
#[derive(Clone)]
pub struct Blobs(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) env: Arc<Environment>,
    pub(crate) tables: LogTables,
    pub(crate) writer: Arc<Writer>,
    pub(crate) disk: Disk,
    pub(crate) folder: PathBuf,
    pub(crate) staging: PathBuf,
    /// Room on the disk that artifacts leave to the log. Unit: bytes.
    pub(crate) reserve_bytes: u64,
    ledger: Mutex<Ledger>,
    /// Told when an artifact is no longer being removed or published.
    pub(crate) freed: Condvar,
    /// Held while room is made, so that two tasks do not evict for the same bytes.
    pub(crate) eviction: Mutex<()>,
    pub(crate) unnamed: std::sync::atomic::AtomicU64,
    removed: OnceLock<Observer>,
    pub(crate) judge: OnceLock<Judge>,
}

type Observer = Box<dyn Fn(&[Blake3]) + Send + Sync>;

type Judge = Box<dyn Fn(&Blake3) -> Fate + Send + Sync>;

impl Blobs {
    pub(crate) fn new(
        env: &Arc<Environment>,
        tables: LogTables,
        writer: &Arc<Writer>,
        quota_bytes: u64,
        reserve_bytes: u64,
    ) -> Result<Self, StoreError> {
        let (folder, staging) = (env.dir().join("blobs"), env.dir().join("staging"));
        env.disk().create_folder(&folder)?;
        env.disk().create_folder(&staging)?;
        make_homes(env.disk(), &folder)?;
        Ok(Self(Arc::new(Inner {
            env: Arc::clone(env),
            tables,
            writer: Arc::clone(writer),
            disk: env.disk().clone(),
            folder,
            staging,
            reserve_bytes,
            ledger: Mutex::new(Ledger::new(quota_bytes)),
            freed: Condvar::new(),
            eviction: Mutex::new(()),
            unnamed: std::sync::atomic::AtomicU64::new(0),
            removed: OnceLock::new(),
            judge: OnceLock::new(),
        })))
    }

    /// Asks `judge` about each artifact that would be evicted, on the thread that makes room; it may
    /// read the log. Only the first judge is heard; without one all are evicted.
    pub fn on_evict(&self, judge: impl Fn(&Blake3) -> Fate + Send + Sync + 'static) {
        let _ = self.0.judge.set(Box::new(judge));
    }

    /// Calls `observer` with artifacts that were removed, by whatever cause, on the thread that
    /// removed them; it must be quick. Only the first observer is heard.
    pub fn on_removed(&self, observer: impl Fn(&[Blake3]) + Send + Sync + 'static) {
        let _ = self.0.removed.set(Box::new(observer));
    }

    /// Whether the artifact is stored whole.
    ///
    /// # Errors
    ///
    /// [`StoreError`], as for all reads, if the database is damaged or has too many readers.
    pub fn contains(&self, blake3: &Blake3) -> Result<bool, StoreError> {
        Ok(self.info(blake3)?.is_some())
    }

    /// What is recorded about a stored artifact.
    ///
    /// # Errors
    ///
    /// As for [`Blobs::contains`].
    pub fn info(&self, blake3: &Blake3) -> Result<Option<BlobInfo>, StoreError> {
        let record = self.0.record(blake3)?;
        Ok(record.map(|it| info(*blake3, &it)))
    }

    /// The stored artifact with this SHA-256 digest.
    ///
    /// # Errors
    ///
    /// As for [`Blobs::contains`].
    pub fn by_sha256(&self, sha256: &Sha256) -> Result<Option<Blake3>, StoreError> {
        let txn = self.0.env.read()?;
        let bytes = self.0.tables.sha256.get(&txn, &sha256.0)?;
        Ok(bytes.and_then(|it| it.try_into().ok()).map(Blake3))
    }

    /// Opens an artifact for reading and notes its use. It is not evicted while it is open.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the file is missing or has another length than recorded; the
    /// artifact is then removed, so that it can be fetched again.
    pub fn open(&self, blake3: &Blake3) -> Result<Option<Blob>, StoreError> {
        let Some((lease, record)) = self.lease(blake3)? else {
            return Ok(None);
        };
        match self.0.source(blake3, &record) {
            Ok(source) => Ok(Some(self.used(&record, source, lease))),
            Err(error @ StoreError::Corrupt { .. }) => {
                self.remove(blake3)?;
                Err(error)
            }
            Err(other) => Err(other),
        }
    }

    /// Opens an artifact whose bytes are in the database, as [`Blobs::open`] does, for a thread that
    /// must not wait: touches no files, removes nothing. `None` if there is anything wrong with it,
    /// too: [`Blobs::open`] says what.
    pub(crate) fn open_inline(&self, blake3: &Blake3) -> Option<Blob> {
        let (lease, record) = self.lease(blake3).ok().flatten()?;
        if !record.is_inline {
            return None;
        }
        let source = self.0.source(blake3, &record).ok()?;
        Some(self.used(&record, source, lease))
    }

    /// Keeps an artifact from being evicted, if it is stored and not being removed.
    fn lease(&self, blake3: &Blake3) -> Result<Option<(Lease, BlobRecord)>, StoreError> {
        if !self.0.ledger().lease(*blake3) {
            return Ok(None);
        }
        let lease = Lease::new(&self.0, *blake3);
        Ok(self.0.record(blake3)?.map(|it| (lease, it)))
    }

    /// An artifact in use from now on.
    fn used(&self, record: &BlobRecord, source: Source, lease: Lease) -> Blob {
        let is_time = self.0.ledger().touch(lease.digest());
        if is_time {
            self.0.write_touches_later();
        }
        Blob::new(record, source, lease)
    }

    /// Hashes an artifact again. `Ok(false)` if it is not stored. Blocks for 0.2 s per GB and more.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the bytes are not those of the digest; the artifact is then
    /// removed.
    pub fn verify(&self, blake3: &Blake3) -> Result<bool, StoreError> {
        let Some(blob) = self.open(blake3)? else {
            return Ok(false);
        };
        let mut hasher = blake3::Hasher::new();
        let (mut offset, mut buffer) = (0, vec![0; VERIFY_BYTES]);
        while offset < blob.size() {
            let count = blob.read_at(offset, &mut buffer)?;
            if count == 0 {
                break;
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
            offset += count as u64;
        }
        if offset == blob.size() && *hasher.finalize().as_bytes() == blake3.0 {
            return Ok(true);
        }
        self.remove(blake3)?;
        let what = format!("artifact {blake3}");
        Err(StoreError::corrupt(what, "its bytes have another digest"))
    }

    /// Removes an artifact, pinned or not; false if it was not stored. Who has it open can read
    /// on.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] if it is being received.
    pub fn remove(&self, blake3: &Blake3) -> Result<bool, StoreError> {
        let removing = self.0.claim_to_remove(*blake3)?;
        Ok(self.0.remove_claimed(&[removing], true)? != 0)
    }

    /// Exempts an artifact from eviction, or ends that; false if it is not stored.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the record cannot be written.
    pub fn set_pinned(&self, blake3: &Blake3, is_pinned: bool) -> Result<bool, StoreError> {
        Ok(self.0.set_pinned(vec![*blake3], is_pinned)? != 0)
    }

    /// Stored artifacts that follow `after` in the order of their digests, at most
    /// [`LIST_ROWS_MAX`].
    ///
    /// # Errors
    ///
    /// As for [`Blobs::contains`].
    pub fn list(&self, after: Option<&Blake3>) -> Result<Vec<BlobInfo>, StoreError> {
        let rows = self.0.records(after, LIST_ROWS_MAX)?;
        Ok(rows.iter().map(|it| info(it.0, &it.1)).collect())
    }

    /// How much is stored.
    pub fn stat(&self) -> Stat {
        self.0.ledger().stat()
    }

    /// Writes down which artifacts were used lately, for the order of eviction. Called when the
    /// store closes; what is lost in a crash costs nothing but that order.
    pub(crate) fn write_touches(&self) -> Result<(), StoreError> {
        let (touches, tables) = (self.0.ledger().take_touches(), self.0.tables);
        if touches.is_empty() {
            return Ok(());
        }
        self.0
            .writer
            .write(0, move |txn| tables.write_touches(txn, &touches))
    }
}

/// Makes the folders of artifacts and their names durable. Made when the first artifact needs it, a
/// folder would be there for the next artifact before its name is durable, so that one could be
/// recorded and lost.
fn make_homes(disk: &Disk, folder: &Path) -> Result<(), StoreError> {
    for byte in 0..=u8::MAX {
        disk::make_private_folder(&folder.join(format!("{byte:02x}")))?;
    }
    // Always: a crash may have come between making one and the sync.
    disk.sync_folder("folder", folder)
}

fn info(blake3: Blake3, record: &BlobRecord) -> BlobInfo {
    BlobInfo {
        blake3,
        sha256: record.sha256,
        size: record.size,
        is_pinned: record.is_pinned,
    }
}

impl Inner {
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of an artifact.
    pub(crate) fn path(&self, blake3: &Blake3) -> PathBuf {
        let name = blake3.to_string();
        self.folder.join(name.get(..2).unwrap_or("")).join(name)
    }

    pub(crate) fn record(&self, blake3: &Blake3) -> Result<Option<BlobRecord>, StoreError> {
        self.tables.blob_record(&*self.env.read()?, blake3)
    }

    /// Records after `after`, at most `rows_max`.
    pub(crate) fn records(
        &self,
        after: Option<&Blake3>,
        rows_max: usize,
    ) -> Result<Vec<(Blake3, BlobRecord)>, StoreError> {
        use std::ops::Bound;
        let txn = self.env.read()?;
        let start = after.map_or(Bound::Unbounded, |it| Bound::Excluded(&it.0[..]));
        let rows = self.tables.blob.range(&txn, &(start, Bound::Unbounded))?;
        rows.take(rows_max)
            .map(|row| {
                let (key, value) = row?;
                let key = key
                    .try_into()
                    .map_err(|_| StoreError::corrupt("the database", "a digest is short"))?;
                Ok((Blake3(key), BlobRecord::from_bytes(value)?))
            })
            .collect()
    }

    /// Pins or unpins artifacts in one transaction; returns how many of them are stored.
    pub(crate) fn set_pinned(
        &self,
        digests: Vec<Blake3>,
        is_pinned: bool,
    ) -> Result<usize, StoreError> {
        let tables = self.tables;
        let changes = self.writer.write(0, move |txn| {
            let mut changes = Vec::new();
            for digest in &digests {
                let Some(before) = tables.blob_record(txn, digest)? else {
                    continue;
                };
                let after = BlobRecord {
                    is_pinned,
                    ..before
                };
                tables.blob.put(txn, &digest.0, &codec::encode(&after))?;
                changes.push((before, after));
            }
            Ok(changes)
        })?;
        for (before, after) in &changes {
            self.ledger().repin(before, after);
        }
        Ok(changes.len())
    }

    /// Removes artifacts that this task has claimed: the records, then the files. Those pinned
    /// stay unless `even_pinned`. Returns the bytes that became free.
    pub(crate) fn remove_claimed(
        &self,
        claimed: &[Removing<'_>],
        even_pinned: bool,
    ) -> Result<u64, StoreError> {
        let digests: Vec<_> = claimed.iter().map(Removing::digest).collect();
        let tables = self.tables;
        let removed = self.writer.write(0, move |txn| {
            let mut removed = Vec::new();
            for digest in &digests {
                let Some(record) = tables.blob_record(txn, digest)? else {
                    continue;
                };
                if record.is_pinned && !even_pinned {
                    continue;
                }
                tables.blob.delete(txn, &digest.0)?;
                tables.inline.delete(txn, &digest.0)?;
                if tables.sha256.get(txn, &record.sha256.0)? == Some(&digest.0[..]) {
                    tables.sha256.delete(txn, &record.sha256.0)?;
                }
                removed.push((*digest, record));
            }
            Ok(removed)
        })?;
        if let Some(observer) = self.removed.get().filter(|_| !removed.is_empty()) {
            observer(&removed.iter().map(|it| it.0).collect::<Vec<_>>());
        }
        let mut bytes = 0;
        // The records are gone: that counts, even if a file then stays as garbage.
        for (_, record) in &removed {
            self.ledger().subtract(record);
            bytes += record.weight().max(1);
        }
        for (digest, _) in removed.iter().filter(|it| !it.1.is_inline) {
            let path = self.path(digest);
            disk::remove_if_any(&path)?;
            disk::remove_if_any(&path.with_extension("obao"))?;
        }
        Ok(bytes)
    }

    fn write_touches_later(&self) {
        let (touches, tables) = (self.ledger().take_touches(), self.tables);
        // A refused write costs nothing but the order of eviction.
        self.writer
            .submit(0, move |txn| tables.write_touches(txn, &touches), drop);
    }
}

impl LogTables {
    pub(crate) fn blob_record(
        &self,
        txn: &heed::RoTxn<'_>,
        blake3: &Blake3,
    ) -> Result<Option<BlobRecord>, StoreError> {
        let bytes = self.blob.get(txn, &blake3.0)?;
        bytes.map(BlobRecord::from_bytes).transpose()
    }

    fn write_touches(
        &self,
        txn: &mut RwTxn<'_>,
        touches: &std::collections::BTreeMap<Blake3, u64>,
    ) -> Result<(), StoreError> {
        for (digest, used) in touches {
            if let Some(record) = self.blob_record(txn, digest)? {
                let record = BlobRecord {
                    used: *used,
                    ..record
                };
                self.blob.put(txn, &digest.0, &codec::encode(&record))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::testing::open;

    fn put(blobs: &Blobs, bytes: &[u8]) -> Blake3 {
        let (blake3, size) = (Blake3::of(bytes), bytes.len() as u64);
        let staging = blobs.begin_unnamed(size).unwrap();
        staging.write_at(0, bytes).unwrap();
        staging.finish(blake3, Sha256::of(bytes), size).unwrap();
        blake3
    }

    #[test]
    fn opening_what_is_in_the_database_removes_nothing_however_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let blobs = store.blobs();
        let (small, large) = (put(blobs, b"small"), put(blobs, &[7; 100_000]));
        let mut bytes = [0; 9];
        let blob = blobs.open_inline(&small).unwrap();
        assert_eq!(blob.read_at(0, &mut bytes), Ok(5));
        assert_eq!(&bytes[..5], b"small");
        assert!(blobs.open_inline(&large).is_none(), "it has a file");
        drop(blob);

        let tables = blobs.0.tables;
        let cut = move |txn: &mut RwTxn<'_>| Ok(tables.inline.delete(txn, &small.0)?);
        assert_eq!(blobs.0.writer.write(0, cut), Ok(true));
        assert!(blobs.open_inline(&small).is_none());
        assert_eq!(blobs.contains(&small), Ok(true));
        let refused = blobs.open(&small).map(|_| ());
        assert!(matches!(refused, Err(StoreError::Corrupt { .. })));
        assert_eq!(blobs.contains(&small), Ok(false));
    }
}
