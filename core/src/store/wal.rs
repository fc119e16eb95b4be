//! The consensus journal: what a validator said at the height being decided, so that after a crash
//! it says the same again and never signs two different votes.
//!
//! ```text
//! head    "koggeWAL" ‖ height (8) ‖ salt (16) ‖ check (16)
//! record  "rcrd" ‖ length (4) ‖ synced (8) ‖ payload check (16) ‖ head check (16) ‖ payload
//! ```
//!
//! Numbers are big-endian. Checks are BLAKE3 keyed with height and salt, which are fresh for each
//! height, so bytes left from an earlier height are never taken for records, and no payload can
//! be made to look like a record. The head check covers the record's offset. `synced` is the
//! length that was known to be durable when the record was written: a record that is unreadable
//! *before* the `synced` of a later one is damage; unreadable ones after that were never promised
//! to anyone, and are cut off. (The last synced records have no successor that vouches for them:
//! damage there looks like a torn tail.)

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::store::blob::fill_at;
use crate::store::disk::{self, Disk, Step};
use crate::store::env::{DataDir, Environment};
use crate::store::error::{StoreError, limit};

/// Longest journal of one height; a record beyond is refused, so the node falls silent for the
/// height rather than forget what it said. Unit: bytes.
pub const WAL_BYTES_MAX: u64 = 1 << 30;

/// Longest record. Unit: bytes.
pub const WAL_RECORD_BYTES_MAX: usize = 16 << 20;

pub(crate) const PART: &str = "wal";
const MAGIC: &[u8; 8] = b"koggeWAL";
pub(crate) const MARK: &[u8; 4] = b"rcrd";
pub(crate) const HEAD_BYTES: usize = 48;
pub(crate) const RECORD_HEAD_BYTES: usize = 48;
const CHECK_BYTES: usize = 16;

/// The journal. Owned by one task; everything blocks on the disk.
pub struct Wal {
    file: File,
    path: PathBuf,
    disk: Disk,
    height: u64,
    key: [u8; 32],
    /// Where the next record goes. Unit: bytes.
    end: u64,
    /// Length that is durable. Unit: bytes.
    synced: u64,
    /// The first failure: nothing is written or synced after it.
    failed: Option<StoreError>,
    _dir: Arc<DataDir>,
}

impl Wal {
    /// Opens or creates the journal and cuts off a torn tail.
    pub(crate) fn open(env: &Arc<Environment>) -> Result<Self, StoreError> {
        let path = env.dir().join("wal");
        let (file, is_locked) = disk::open_locked(&path)?;
        if !is_locked {
            return Err(StoreError::Busy("the consensus journal is open already"));
        }
        env.disk().sync_folder(PART, env.dir())?;
        let mut wal = Self {
            file,
            path: path.clone(),
            disk: env.disk().clone(),
            height: 0,
            key: [0; 32],
            end: 0,
            synced: 0,
            failed: None,
            _dir: Arc::clone(env.data_dir()),
        };
        wal.recover()?;
        Ok(wal)
    }

    /// The height whose records the journal holds; 0 if it is empty.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Forgets all records and begins `height`. Not durable by itself, and need not be: until the
    /// first [`Wal::sync`] of the new height nothing of it was promised, and records of the old
    /// one are recognized by their keys. Does nothing if the journal is at `height` already, so
    /// that a restarted node cannot forget what it said there: read the records instead.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the journal is at a later height, so the log has lost blocks;
    /// [`StoreError::Failed`] if the disk refuses; nothing can be written then.
    pub fn reset(&mut self, height: u64) -> Result<(), StoreError> {
        self.check()?;
        if height == self.height {
            return Ok(());
        }
        if height < self.height {
            let reason = format!("it is at height {}, ahead of {height}", self.height);
            return Err(StoreError::corrupt(self.path.display().to_string(), reason));
        }
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)
            .map_err(|it| StoreError::io("cannot draw random bytes", &std::io::Error::other(it)))?;
        let (head, key) = head(height, salt);
        let write = || {
            self.file.set_len(0)?;
            self.file.write_all_at(&head, 0)
        };
        let result = self.disk.run(Step::Write(PART), write);
        self.settle(result)?;
        (self.height, self.key) = (height, key);
        (self.end, self.synced) = (HEAD_BYTES as u64, 0);
        Ok(())
    }

    /// Adds a record. Not durable before [`Wal::sync`].
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] above the limits; [`StoreError::Failed`] if the disk refuses.
    pub fn append(&mut self, payload: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        limit("the record", payload.len(), WAL_RECORD_BYTES_MAX)?;
        let end = self.end + (RECORD_HEAD_BYTES + payload.len()) as u64;
        if WAL_BYTES_MAX < end || self.height == 0 {
            return Err(StoreError::TooLarge {
                what: "the consensus journal",
                bytes: end,
                bytes_max: WAL_BYTES_MAX,
            });
        }
        let record = self.record(payload);
        let write = || self.file.write_all_at(&record, self.end);
        let result = self.disk.run(Step::Write(PART), write);
        self.settle(result)?;
        self.end = end;
        Ok(())
    }

    /// Makes all records durable; only then may what they record be sent.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the disk refuses: what is durable is unknown, so nothing may be
    /// sent, and the sync is not repeated.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.check()?;
        if self.synced == self.end {
            return Ok(());
        }
        let result = self.disk.run(Step::Sync(PART), || self.file.sync_data());
        self.settle(result)?;
        self.synced = self.end;
        Ok(())
    }

    /// The records of `height`, in order; none if the journal holds another height.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] or [`StoreError::Corrupt`] if they cannot be read back.
    pub fn records(&self, height: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut records = Vec::new();
        if height != self.height || height == 0 {
            return Ok(records);
        }
        let mut offset = HEAD_BYTES as u64;
        while offset < self.end {
            let record = self.read(offset)?;
            let record = record.ok_or_else(|| self.damage(offset))?;
            offset += (RECORD_HEAD_BYTES + record.payload.len()) as u64;
            records.push(record.payload);
        }
        Ok(records)
    }

    fn check(&self) -> Result<(), StoreError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn settle(&mut self, result: std::io::Result<()>) -> Result<(), StoreError> {
        result.map_err(|it| {
            let failed = StoreError::Failed {
                part: "the consensus journal",
                reason: it.to_string(),
            };
            self.failed.get_or_insert(failed).clone()
        })
    }

    fn damage(&self, offset: u64) -> StoreError {
        StoreError::corrupt(
            self.path.display().to_string(),
            format!(
                "the record at byte {offset} is unreadable; do not vote at height {} with this \
                 journal",
                self.height
            ),
        )
    }

    fn record(&self, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(RECORD_HEAD_BYTES + payload.len());
        bytes.extend_from_slice(MARK);
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&self.synced.to_be_bytes());
        bytes.extend_from_slice(&check(&self.key, &[payload]));
        let head_check = check(&self.key, &[&self.end.to_be_bytes(), &bytes]);
        bytes.extend_from_slice(&head_check);
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Finds the end of the readable records, and cuts off what follows unless it is damage.
    fn recover(&mut self) -> Result<(), StoreError> {
        let len = self.file_len()?;
        let mut head_bytes = [0; HEAD_BYTES];
        let count = fill_at(&self.file, 0, &mut head_bytes)?;
        let Some((height, key)) = parse_head(&head_bytes).filter(|_| count == HEAD_BYTES) else {
            // An unreadable head is a reset that was not synced: nothing was promised. But damage
            // would look the same, so leave the bytes for the next reset to remove.
            return Ok(());
        };
        (self.height, self.key) = (height, key);
        self.end = HEAD_BYTES as u64;
        while let Some(record) = self.read(self.end)? {
            self.end += (RECORD_HEAD_BYTES + record.payload.len()) as u64;
        }
        if self.end < len && self.later_synced(self.end + 1, len)? > self.end {
            return Err(self.damage(self.end));
        }
        let end = self.end;
        let cut = || {
            self.file.set_len(end)?;
            // What was readable may not have been synced before the crash.
            self.file.sync_data()
        };
        let result = self.disk.run(Step::Sync(PART), cut);
        self.settle(result)?;
        self.synced = self.end;
        Ok(())
    }

    /// The highest `synced` among readable record heads from `from` on.
    fn later_synced(&self, from: u64, len: u64) -> Result<u64, StoreError> {
        const STEP: usize = 1 << 20;
        let (mut highest, mut offset) = (0, from);
        let mut window = vec![0; STEP + MARK.len() - 1];
        while offset < len {
            let count = fill_at(&self.file, offset, &mut window)?;
            let bytes = window.get(..count).unwrap_or_default();
            for (at, _) in bytes.windows(4).enumerate().filter(|(_, it)| it == MARK) {
                if let Some(head) = self.read_head(offset + at as u64)? {
                    highest = highest.max(head.synced);
                }
            }
            offset += STEP as u64;
        }
        Ok(highest)
    }

    fn read_head(&self, offset: u64) -> Result<Option<RecordHead>, StoreError> {
        let mut bytes = [0; RECORD_HEAD_BYTES];
        if fill_at(&self.file, offset, &mut bytes)? < RECORD_HEAD_BYTES {
            return Ok(None);
        }
        let (fields, head_check) = bytes.split_at(RECORD_HEAD_BYTES - CHECK_BYTES);
        if check(&self.key, &[&offset.to_be_bytes(), fields]) != *head_check {
            return Ok(None);
        }
        Ok(RecordHead::parse(fields))
    }

    fn read(&self, offset: u64) -> Result<Option<Record>, StoreError> {
        let Some(head) = self.read_head(offset)? else {
            return Ok(None);
        };
        let mut payload = vec![0; head.len];
        let start = offset + RECORD_HEAD_BYTES as u64;
        let is_whole = fill_at(&self.file, start, &mut payload)? == head.len
            && check(&self.key, &[&payload]) == head.payload_check;
        Ok(is_whole.then_some(Record { payload }))
    }

    fn file_len(&self) -> Result<u64, StoreError> {
        let meta = self.file.metadata();
        meta.map(|it| it.len())
            .map_err(|it| StoreError::at("read", &self.path, &it))
    }
}

struct Record {
    payload: Vec<u8>,
}

struct RecordHead {
    len: usize,
    synced: u64,
    payload_check: [u8; CHECK_BYTES],
}

impl RecordHead {
    fn parse(fields: &[u8]) -> Option<Self> {
        let (mark, rest) = fields.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (synced, rest) = rest.split_first_chunk::<8>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        (mark == MARK && len <= WAL_RECORD_BYTES_MAX).then_some(Self {
            len,
            synced: u64::from_be_bytes(*synced),
            payload_check: rest.try_into().ok()?,
        })
    }
}

/// The head of the file for `height`, and the key of its records.
fn head(height: u64, salt: [u8; 16]) -> ([u8; HEAD_BYTES], [u8; 32]) {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..16].copy_from_slice(&height.to_be_bytes());
    head[16..32].copy_from_slice(&salt);
    let key = blake3::derive_key("kogge 2026 consensus journal", &head[..32]);
    head[32..].copy_from_slice(&check(&key, &[b"head"]));
    (head, key)
}

fn parse_head(bytes: &[u8; HEAD_BYTES]) -> Option<(u64, [u8; 32])> {
    let height = u64::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
    let salt = *bytes.get(16..)?.first_chunk()?;
    let (expected, key) = head(height, salt);
    (expected == *bytes && height != 0).then_some((height, key))
}

fn check(key: &[u8; 32], parts: &[&[u8]]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in parts {
        hasher.update(part);
    }
    let mut check = [0; CHECK_BYTES];
    hasher.finalize_xof().fill(&mut check);
    check
}
