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

const PART: &str = "wal";
const MAGIC: &[u8; 8] = b"koggeWAL";
const MARK: &[u8; 4] = b"rcrd";
const HEAD_BYTES: usize = 48;
const RECORD_HEAD_BYTES: usize = 48;
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
        let fail = |it: std::io::Error| StoreError::at("open", &path, &it);
        let file = disk::private_file()
            .truncate(false)
            .open(&path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(StoreError::Busy("the consensus journal is open already"));
            }
            Err(std::fs::TryLockError::Error(it)) => return Err(fail(it)),
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
    /// one are recognized by their keys.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the disk refuses; nothing can be written then.
    pub fn reset(&mut self, height: u64) -> Result<(), StoreError> {
        self.check()?;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::store::recover::Store;
    use crate::store::tests::testing::{Failing, Sense, open};

    fn payloads(count: u8) -> Vec<Vec<u8>> {
        (0..count).map(|it| vec![it; usize::from(it) * 7]).collect()
    }

    /// A journal of height 5 with `synced` synced records, then `loose` others.
    fn write(dir: &Path, synced: u8, loose: u8) {
        let (store, _) = open(dir);
        let mut wal = store.open_wal().unwrap();
        wal.reset(5).unwrap();
        for (at, payload) in payloads(synced + loose).iter().enumerate() {
            wal.append(payload).unwrap();
            if at < usize::from(synced) {
                wal.sync().unwrap();
            }
        }
    }

    fn reopened(dir: &Path) -> Result<Vec<Vec<u8>>, StoreError> {
        open(dir).0.open_wal()?.records(5)
    }

    #[test]
    fn records_survive_a_restart_for_their_height_only() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 9, 0);
        let (store, _) = open(dir.path());
        let mut wal = store.open_wal().unwrap();
        assert_eq!((wal.height(), wal.records(5)), (5, Ok(payloads(9))));
        assert_eq!(wal.records(6), Ok(vec![]));
        wal.append(b"more").unwrap();
        assert_eq!(wal.records(5).unwrap().last().unwrap(), b"more");
        wal.reset(6).unwrap();
        assert_eq!((wal.records(5), wal.records(6)), (Ok(vec![]), Ok(vec![])));
        assert!(matches!(store.open_wal(), Err(StoreError::Busy(_))));
        drop(wal);
        assert_eq!(store.open_wal().unwrap().height(), 6);
    }

    #[test]
    fn a_tail_torn_at_any_byte_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 2, 3);
        let path = dir.path().join("wal");
        let whole = fs::read(&path).unwrap();
        let ends: Vec<_> = (0..=5_usize)
            .map(|it| HEAD_BYTES + it * RECORD_HEAD_BYTES + (0..it).sum::<usize>() * 7)
            .collect();
        assert_eq!(ends.last(), Some(&whole.len()));
        let (store, _) = open(dir.path());
        for cut in (HEAD_BYTES..whole.len()).step_by(5) {
            fs::write(&path, &whole[..cut]).unwrap();
            let wal = store.open_wal().unwrap();
            let left = ends.iter().filter(|it| **it <= cut).count() - 1;
            assert_eq!(wal.records(5), Ok(payloads(5)[..left].to_vec()), "{cut}");
            assert_eq!(fs::metadata(&path).unwrap().len(), ends[left] as u64);
        }
        // Not even the head is there: a reset that nothing was promised after.
        for cut in [0, 1, HEAD_BYTES - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut wal = store.open_wal().unwrap();
            assert_eq!((wal.height(), wal.records(5)), (0, Ok(vec![])));
            assert!(wal.append(b"x").is_err(), "no height was begun");
            wal.reset(6).unwrap();
            wal.append(b"x").unwrap();
        }
    }

    #[test]
    fn damage_before_a_synced_record_is_an_error_and_behind_it_a_torn_tail() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 3, 2);
        let path = dir.path().join("wal");
        let whole = fs::read(&path).unwrap();
        // The fourth record vouches for the first three.
        let vouched = HEAD_BYTES + 3 * RECORD_HEAD_BYTES + 3 * 7;
        for at in (HEAD_BYTES..whole.len()).step_by(3) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            let records = reopened(dir.path());
            if at < vouched {
                assert!(
                    matches!(records, Err(StoreError::Corrupt { .. })),
                    "{at}: {records:?}"
                );
            } else {
                let records = records.unwrap();
                assert!(
                    3 <= records.len() && payloads(5).starts_with(&records),
                    "{at}"
                );
            }
        }
    }

    #[test]
    fn records_of_an_earlier_height_are_never_taken_for_new_ones() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 4, 0);
        let path = dir.path().join("wal");
        let old = fs::read(&path).unwrap();
        // The crash kept the head of the reset, but not the cut of the file.
        for height in [5, 6] {
            let (store, _) = open(dir.path());
            store.open_wal().unwrap().reset(height).unwrap();
            let mut mixed = fs::read(&path).unwrap();
            mixed.extend_from_slice(&old[HEAD_BYTES..]);
            fs::write(&path, mixed).unwrap();
            let wal = store.open_wal().unwrap();
            assert_eq!((wal.height(), wal.records(height)), (height, Ok(vec![])));
        }
    }

    #[test]
    fn a_payload_that_looks_like_records_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let mut wal = store.open_wal().unwrap();
        wal.reset(5).unwrap();
        wal.append(&MARK.repeat(10_000)).unwrap();
        wal.sync().unwrap();
        drop(wal);
        let path = dir.path().join("wal");
        let len = fs::metadata(&path).unwrap().len();
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(len - 1)
            .unwrap();
        assert_eq!(store.open_wal().unwrap().records(5), Ok(vec![]));
    }

    #[test]
    fn after_a_failure_nothing_more_is_promised() {
        for step in [Step::Write(PART), Step::Sync(PART)] {
            for sense in [Sense::Before, Sense::After] {
                let dir = tempfile::tempdir().unwrap();
                let faults = Failing::new();
                let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
                let mut wal = store.open_wal().unwrap();
                wal.reset(5).unwrap();
                wal.append(b"first").unwrap();
                wal.sync().unwrap();
                faults.arm(step, sense);
                let failed = wal.append(b"second").and_then(|()| wal.sync());
                assert!(matches!(failed, Err(StoreError::Failed { .. })));
                assert_eq!(wal.sync(), failed);
                assert_eq!(wal.append(b"third"), failed);
                assert_eq!(wal.reset(6), failed);
                drop(wal);
                // Whether the second is there or not, nobody was told.
                let records = store.open_wal().unwrap().records(5).unwrap();
                let all = [b"first".to_vec(), b"second".to_vec()];
                assert!(records == all || records == all[..1], "{step:?} {sense:?}");
            }
        }
    }

    #[test]
    fn too_long_records_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let mut wal = store.open_wal().unwrap();
        wal.reset(1).unwrap();
        let long = vec![0; WAL_RECORD_BYTES_MAX + 1];
        assert!(matches!(
            wal.append(&long),
            Err(StoreError::TooLarge { .. })
        ));
    }
}
