//! Artifacts: small ones in the database, larger ones as files.
//!
//! ```text
//! blobs/ab/abcd…          an artifact, named by its blake3 digest
//! blobs/ab/abcd….obao     its outboard, if it has one; opaque here
//! staging/abcd….part      an artifact being received: see `staging.rs`
//! ```
//!
//! The record in the database is what counts: it is committed after the file is durable under its
//! final name, and removed before the file. A file without a record is garbage.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heed::RwTxn;

use crate::base::{Blake3, Sha256, codec};
use crate::store::disk::{self, Disk};
use crate::store::env::Environment;
use crate::store::error::StoreError;
use crate::store::quota::{Ledger, Stat};
use crate::store::record::BlobRecord;
use crate::store::tables::LogTables;
use crate::store::writer::Writer;

/// Most rows of one list; go on after the last one.
pub const LIST_ROWS_MAX: usize = 1_000;

/// Artifacts that are evicted in one transaction.
const EVICT_ROWS_MAX: usize = 256;

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
    /// Held while room is made, so that two tasks do not evict for the same bytes.
    eviction: Mutex<()>,
    pub(crate) unnamed: std::sync::atomic::AtomicU64,
}

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
        Ok(Self(Arc::new(Inner {
            env: Arc::clone(env),
            tables,
            writer: Arc::clone(writer),
            disk: env.disk().clone(),
            folder,
            staging,
            reserve_bytes,
            ledger: Mutex::new(Ledger::new(quota_bytes)),
            eviction: Mutex::new(()),
            unnamed: std::sync::atomic::AtomicU64::new(0),
        })))
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
        let mut ledger = self.0.ledger();
        if !ledger.lease(*blake3) {
            return Ok(None);
        }
        drop(ledger);
        let lease = Lease(Arc::clone(&self.0), *blake3);
        let Some(record) = self.0.record(blake3)? else {
            return Ok(None);
        };
        let source = match self.0.source(blake3, &record) {
            Ok(source) => source,
            Err(error @ StoreError::Corrupt { .. }) => {
                self.remove(blake3)?;
                return Err(error);
            }
            Err(other) => return Err(other),
        };
        let is_time = self.0.ledger().touch(*blake3);
        if is_time {
            self.0.write_touches_later();
        }
        Ok(Some(Blob {
            size: record.size,
            sha256: record.sha256,
            outboard_len: record.outboard,
            source,
            _lease: lease,
        }))
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
        while offset < blob.size {
            let count = blob.read_at(offset, &mut buffer)?;
            if count == 0 {
                break;
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
            offset += count as u64;
        }
        if offset == blob.size && *hasher.finalize().as_bytes() == blake3.0 {
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
    /// [`StoreError::InUse`] if it is being received or removed.
    pub fn remove(&self, blake3: &Blake3) -> Result<bool, StoreError> {
        if !self.0.ledger().claim(*blake3) {
            return Err(StoreError::InUse(*blake3));
        }
        let removed = self.0.remove_claimed(vec![*blake3], true);
        self.0.ledger().unclaim(blake3);
        Ok(removed? != 0)
    }

    /// Exempts an artifact from eviction, or ends that; false if it is not stored.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the record cannot be written.
    pub fn set_pinned(&self, blake3: &Blake3, is_pinned: bool) -> Result<bool, StoreError> {
        let (tables, digest) = (self.0.tables, *blake3);
        let change = self.0.writer.write(64, move |txn| {
            let Some(before) = tables.blob_record(txn, &digest)? else {
                return Ok(None);
            };
            let after = BlobRecord {
                is_pinned,
                ..before
            };
            tables.blob.put(txn, &digest.0, &codec::encode(&after))?;
            Ok(Some((before, after)))
        })?;
        if let Some((before, after)) = &change {
            self.0.ledger().repin(before, after);
        }
        Ok(change.is_some())
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

    fn source(&self, blake3: &Blake3, record: &BlobRecord) -> Result<Source, StoreError> {
        let damaged = |reason| StoreError::corrupt(format!("artifact {blake3}"), reason);
        if record.is_inline {
            let txn = self.env.read()?;
            let bytes = self.tables.inline.get(&txn, &blake3.0)?;
            return bytes
                .filter(|it| it.len() as u64 == record.size)
                .map(|it| Source::Inline(it.to_vec()))
                .ok_or_else(|| damaged("its bytes are missing"));
        }
        let path = self.path(blake3);
        let open = |path: &std::path::Path, len: u64| match File::open(path) {
            Ok(file) if file.metadata().is_ok_and(|it| it.len() == len) => Ok(file),
            Ok(_) => Err(damaged("its file has another length than recorded")),
            Err(it) if it.kind() == std::io::ErrorKind::NotFound => {
                Err(damaged("its file is missing"))
            }
            Err(it) => Err(StoreError::at("open", path, &it)),
        };
        let data = open(&path, record.size)?;
        let outboard = match record.outboard {
            0 => None,
            len => Some(open(&path.with_extension("obao"), len)?),
        };
        Ok(Source::File { data, outboard })
    }

    /// Removes artifacts that this task has claimed: the records, then the files. Those pinned
    /// stay unless `even_pinned`. Returns the bytes that became free.
    pub(crate) fn remove_claimed(
        &self,
        digests: Vec<Blake3>,
        even_pinned: bool,
    ) -> Result<u64, StoreError> {
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
        let mut bytes = 0;
        for (digest, record) in &removed {
            self.ledger().subtract(record);
            bytes += record.weight().max(1);
            if !record.is_inline {
                let path = self.path(digest);
                disk::remove_if_any(&path)?;
                disk::remove_if_any(&path.with_extension("obao"))?;
            }
        }
        Ok(bytes)
    }

    /// Reserves `bytes`, evicting what is used least if the quota asks for it. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Quota`] if too much is pinned or in use.
    pub(crate) fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        let _one_at_a_time = self.eviction.lock().unwrap_or_else(PoisonError::into_inner);
        let mut excess = self.ledger().excess(bytes)?;
        while 0 < excess {
            let idle = self.ledger().any_idle();
            let Some(digest) = idle else { break };
            excess = excess.saturating_sub(self.discard_idle(&digest)?);
        }
        if 0 < excess {
            self.evict(excess)?;
        }
        self.ledger().reserve(bytes)
    }

    fn evict(&self, excess: u64) -> Result<(), StoreError> {
        let mut freed = 0;
        let mut order = self.eviction_order()?.into_iter().peekable();
        while freed < excess && order.peek().is_some() {
            let (mut batch, mut expected) = (Vec::new(), 0);
            while batch.len() < EVICT_ROWS_MAX && freed + expected < excess {
                let Some((_, digest, weight)) = order.next() else {
                    break;
                };
                if self.ledger().claim_unread(digest) {
                    batch.push(digest);
                    expected += weight;
                }
            }
            let result = self.remove_claimed(batch.clone(), false);
            let mut ledger = self.ledger();
            batch.iter().for_each(|it| ledger.unclaim(it));
            drop(ledger);
            freed += result?;
        }
        Ok(())
    }

    /// Unpinned artifacts as (last use, digest, weight), least recently used first. Reads in
    /// steps, so that no read transaction lives long.
    fn eviction_order(&self) -> Result<Vec<(u64, Blake3, u64)>, StoreError> {
        let (mut order, mut after) = (Vec::new(), None);
        loop {
            let rows = self.records(after.as_ref(), LIST_ROWS_MAX)?;
            let Some(last) = rows.last() else { break };
            after = Some(last.0);
            let ledger = self.ledger();
            let unpinned = rows.iter().filter(|(_, it)| !it.is_pinned);
            order.extend(
                unpinned
                    .map(|(digest, it)| (ledger.last_use(digest, it.used), *digest, it.weight())),
            );
        }
        order.sort_unstable();
        Ok(order)
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

/// An open artifact. Reading is safe from several threads.
pub struct Blob {
    size: u64,
    sha256: Sha256,
    outboard_len: u64,
    source: Source,
    _lease: Lease,
}

enum Source {
    Inline(Vec<u8>),
    File { data: File, outboard: Option<File> },
}

/// Keeps an artifact from being evicted.
struct Lease(Arc<Inner>, Blake3);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.ledger().unlease(&self.1);
    }
}

impl Blob {
    /// Length. Unit: bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The artifact's SHA-256 digest, as told when it was stored.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// Length of the outboard; 0 if there is none. Unit: bytes.
    pub fn outboard_len(&self) -> u64 {
        self.outboard_len
    }

    /// Reads from `offset` into `buffer`; fewer bytes than asked for at the end, 0 behind it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the disk refuses.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        match &self.source {
            Source::Inline(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
                let rest = rest.unwrap_or_default();
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            Source::File { data, .. } => fill_at(data, offset, buffer),
        }
    }

    /// Reads from the outboard, like [`Blob::read_at`]; 0 if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the disk refuses.
    pub fn read_outboard_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        match &self.source {
            Source::File {
                outboard: Some(file),
                ..
            } => fill_at(file, offset, buffer),
            _ => Ok(0),
        }
    }
}

/// Reads until `buffer` is full or the file ends.
pub(crate) fn fill_at(file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
    let mut filled = 0;
    if i64::try_from(offset.saturating_add(buffer.len() as u64)).is_err() {
        return Ok(0); // The system counts with a sign; no file is that long.
    }
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(it) if it.kind() == std::io::ErrorKind::Interrupted => {}
            Err(it) => return Err(StoreError::io("cannot read an artifact", &it)),
        }
    }
    Ok(filled)
}
