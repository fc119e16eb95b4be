//! Provider records of the DHT: what is nice to have after a restart, but must cost little.
//!
//! An environment of its own: a flood of records cannot make the log's file grow or its commits
//! wait, and a damaged one is thrown away. A change is visible at once and durable within
//! [`GATHER_TIME`]; however many come, there is one commit in that time, of at most [`PUTS_MAX`]
//! records and of removals of records that there are.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use heed::EnvFlags;

use crate::store::disk::{self, Disk};
use crate::store::env::{DataDir, Environment, Table};
use crate::store::error::{StoreError, limit};
use crate::store::meta::MetaRow;

/// Changes are written together so often.
pub const GATHER_TIME: Duration = Duration::from_secs(5);

/// Most records that wait to be written; further ones are refused, so at most 400 are written in a
/// second.
pub const PUTS_MAX: usize = 2_048;

/// Longest key. Unit: bytes.
pub const KEY_BYTES_MAX: usize = 128;

/// Longest value. Unit: bytes.
pub const VALUE_BYTES_MAX: usize = 2_048;

/// Most rows of one list; go on after the last one.
pub const LIST_ROWS_MAX: usize = 1_000;

/// Largest size of the environment; above it records are refused. Unit: bytes.
pub(crate) const MAP_BYTES: usize = 256 << 20;

/// Name of the folder and of the environment.
const NAME: &str = "providers";

/// The records. Clones share the same ones. Nothing here waits for a write.
#[derive(Clone)]
pub struct Providers {
    shared: Arc<Shared>,
    _writer: Arc<Writer>,
}

struct Shared {
    dir: Arc<DataDir>,
    disk: Disk,
    /// `None` if beginning anew has failed.
    opened: RwLock<Option<Opened>>,
    changes: Mutex<Changes>,
    /// Signalled when a change arrives or the writer is to stop.
    work: Condvar,
    gather_time: Duration,
}

struct Opened {
    env: Environment,
    table: Table,
}

/// New values by their keys; none for what is removed.
type Batch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

#[derive(Default)]
struct Changes {
    waiting: Batch,
    /// Values among those.
    puts: usize,
    /// Being committed.
    writing: Arc<Batch>,
    is_closed: bool,
}

/// Writes what is queued and stops the thread when the last [`Providers`] is dropped.
struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.changes().is_closed = true;
        self.shared.work.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            drop(thread.join());
        }
    }
}

impl Providers {
    /// Opens the records, or begins anew if they are damaged; tells whether that was so.
    pub(crate) fn open(
        dir: &Arc<DataDir>,
        disk: &Disk,
        gather_time: Duration,
    ) -> Result<(Self, bool), StoreError> {
        let (opened, is_lost) = match Opened::at(dir, disk) {
            Ok(opened) => (opened, false),
            Err(error @ StoreError::Corrupt { .. }) => (Opened::anew(dir, disk, &error)?, true),
            Err(other) => return Err(other),
        };
        let shared = Arc::new(Shared {
            dir: Arc::clone(dir),
            disk: disk.clone(),
            opened: RwLock::new(Some(opened)),
            changes: Mutex::default(),
            work: Condvar::new(),
            gather_time,
        });
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("kogge-providers".to_owned())
                .spawn(move || shared.write_all())
                .map_err(|it| StoreError::io("cannot start the thread of provider records", &it))?
        };
        let writer = Writer {
            shared: Arc::clone(&shared),
            thread: Some(thread),
        };
        let providers = Self {
            shared,
            _writer: Arc::new(writer),
        };
        Ok((providers, is_lost))
    }

    /// Throws all durable records away, `why` says for which damage: the head of the file may be whole
    /// and a page behind it damaged, which shows when somebody reads it. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the disk refuses; then there are no records until the store is opened again.
    pub fn begin_anew(&self, why: &StoreError) -> Result<(), StoreError> {
        let opened = self.shared.opened.write();
        let mut opened = opened.unwrap_or_else(PoisonError::into_inner);
        // Nobody reads or writes now, so that this closes the files.
        *opened = None;
        *opened = Some(Opened::anew(&self.shared.dir, &self.shared.disk, why)?);
        Ok(())
    }

    /// Whether [`Providers::put`] would take a record.
    pub fn has_room(&self) -> bool {
        let changes = self.shared.changes();
        changes.puts < PUTS_MAX && !changes.is_closed
    }

    /// Stores a record, or replaces the one of this key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] if too many wait to be written, [`StoreError::TooLarge`] above the
    /// limits of this module.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        limit("the key", key.len(), KEY_BYTES_MAX)?;
        limit("the value", value.len(), VALUE_BYTES_MAX)?;
        if !self.has_room() {
            return Err(StoreError::Busy("too many provider records are waiting"));
        }
        self.shared.change(key, Some(value.to_vec()));
        Ok(())
    }

    /// Removes a record that there is. Never refused: there are no more of these than records.
    pub fn remove(&self, key: &[u8]) {
        self.shared.change(key, None);
    }

    /// The record of a key.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database is damaged or has too many readers.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let changes = self.shared.changes();
        let newer = changes.waiting.get(key);
        if let Some(newer) = newer.or_else(|| changes.writing.get(key)) {
            return Ok(newer.clone());
        }
        // The writer forgets a batch after its commit: begun under the lock, the transaction has
        // whatever was forgotten.
        let opened = self.shared.opened();
        let opened = opened.as_ref().ok_or(StoreError::Closed)?;
        let txn = opened.env.read()?;
        drop(changes);
        let value = opened.table.get(&txn, key)?;
        Ok(value.map(<[u8]>::to_vec))
    }

    /// Durable records whose keys follow `after`, in order, at most [`LIST_ROWS_MAX`].
    ///
    /// # Errors
    ///
    /// As for [`Providers::get`].
    pub fn list(&self, after: Option<&[u8]>) -> Result<Vec<MetaRow>, StoreError> {
        let opened = self.shared.opened();
        let opened = opened.as_ref().ok_or(StoreError::Closed)?;
        let txn = opened.env.read()?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = opened.table.range(&txn, &(start, Bound::Unbounded))?;
        let owned = |row: (&[u8], &[u8])| (row.0.to_vec(), row.1.to_vec());
        rows.take(LIST_ROWS_MAX).map(|it| Ok(owned(it?))).collect()
    }
}

impl Opened {
    fn at(dir: &Arc<DataDir>, disk: &Disk) -> Result<Self, StoreError> {
        let flags = EnvFlags::NO_META_SYNC;
        let (env, [table]) = Environment::open(dir, NAME, MAP_BYTES, flags, ["provider"], disk)?;
        Ok(Self { env, table })
    }

    /// Throws the files away; they must not be open.
    fn anew(dir: &Arc<DataDir>, disk: &Disk, why: &StoreError) -> Result<Self, StoreError> {
        tracing::warn!(error = %why, "the provider records are thrown away");
        let folder = dir.path().join(NAME);
        fs::remove_dir_all(&folder).map_err(|it| StoreError::at("remove", &folder, &it))?;
        Self::at(dir, disk)
    }
}

impl Shared {
    fn opened(&self) -> RwLockReadGuard<'_, Option<Opened>> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, key: &[u8], value: Option<Vec<u8>>) {
        let mut changes = self.changes();
        if changes.is_closed {
            return;
        }
        let is_put = value.is_some();
        let before = changes.waiting.insert(key.to_vec(), value);
        changes.puts -= usize::from(before.flatten().is_some());
        changes.puts += usize::from(is_put);
        drop(changes);
        self.work.notify_one();
    }

    /// Writes batches until closed, and then what waits.
    fn write_all(&self) {
        loop {
            let changes = self.changes();
            let is_idle = |it: &mut Changes| it.waiting.is_empty() && !it.is_closed;
            let changes = self.work.wait_while(changes, is_idle);
            let changes = changes.unwrap_or_else(PoisonError::into_inner);
            let gather = self
                .work
                .wait_timeout_while(changes, self.gather_time, |it| !it.is_closed);
            let (mut changes, _) = gather.unwrap_or_else(PoisonError::into_inner);
            let batch = Arc::new(std::mem::take(&mut changes.waiting));
            changes.puts = 0;
            changes.writing = Arc::clone(&batch);
            let is_closed = changes.is_closed;
            drop(changes);
            let written = if batch.is_empty() {
                Ok(())
            } else {
                self.write(&batch)
            };
            let mut changes = self.changes();
            changes.writing = Arc::default();
            if let Err(error) = written {
                // Holders renew their records, so a lost batch is no harm.
                let error = disk::explain(self.dir.path(), error);
                tracing::warn!(%error, records = batch.len(), "provider records were not stored");
                let opened = self.opened();
                changes.is_closed |= opened.as_ref().is_none_or(|it| it.env.check().is_err());
            }
            if is_closed || changes.is_closed && changes.waiting.is_empty() {
                return;
            }
        }
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let opened = self.opened();
        let Opened { env, table } = opened.as_ref().ok_or(StoreError::Closed)?;
        let mut txn = env.write()?;
        for (key, value) in batch {
            match value {
                Some(value) => table.put(&mut txn, key, value)?,
                None => drop(table.delete(&mut txn, key)?),
            }
        }
        env.commit(txn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::{Faults, Step};
    use crate::store::recover::Options;
    use crate::store::recover::Store;
    use crate::store::tests::testing::{Failing, Sense, open, options};

    /// Counts commits of provider records.
    #[derive(Default)]
    struct Commits(Mutex<usize>);

    impl Faults for Commits {
        fn before(&self, step: Step) -> std::io::Result<()> {
            *self.0.lock().unwrap() += usize::from(step == Step::Commit(NAME));
            Ok(())
        }

        fn after(&self, _: Step) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Records of a store whose batches gather for `time`.
    fn providers(dir: &std::path::Path, time: Duration) -> Providers {
        let disk = Disk::default();
        let dir = Arc::new(DataDir::open(dir, &disk).unwrap());
        Providers::open(&dir, &disk, time).unwrap().0
    }

    #[test]
    fn a_record_is_visible_at_once_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let records = store.providers();
        records.put(b"a", b"1").unwrap();
        records.put(b"b", b"2").unwrap();
        records.put(b"b", b"3").unwrap();
        records.remove(b"a");
        assert_eq!(records.get(b"a"), Ok(None));
        assert_eq!(records.get(b"b"), Ok(Some(b"3".to_vec())));
        assert_eq!(records.list(None), Ok(vec![]), "not written yet");
        drop(store);
        let (store, _) = open(dir.path());
        let expected = vec![(b"b".to_vec(), b"3".to_vec())];
        assert_eq!(store.providers().list(None), Ok(expected));
        assert_eq!(store.providers().get(b"b"), Ok(Some(b"3".to_vec())));
        assert_eq!(store.providers().list(Some(b"b")), Ok(vec![]));
    }

    #[test]
    fn a_flood_is_refused_and_written_in_one_commit() {
        let dir = tempfile::tempdir().unwrap();
        let commits = Arc::new(Commits::default());
        let options = Options {
            faults: Some(Arc::clone(&commits) as Arc<dyn Faults>),
            ..options()
        };
        let (store, _) = Store::open(dir.path(), options).unwrap();
        let before = *commits.0.lock().unwrap();
        let records = store.providers().clone();
        let key = |it: usize| it.to_be_bytes();
        let taken = (0..PUTS_MAX + 9).filter(|it| records.put(&key(*it), b"").is_ok());
        assert_eq!(taken.count(), PUTS_MAX);
        assert!(!records.has_room());
        records.remove(&key(0));
        assert!(records.has_room());
        drop((store, records));
        assert_eq!(*commits.0.lock().unwrap(), before + 1);
    }

    #[test]
    fn batches_are_written_while_the_store_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let records = providers(dir.path(), Duration::ZERO);
        for number in 0..100_u32 {
            records.put(&number.to_be_bytes(), b"").unwrap();
        }
        while records.list(None).unwrap().len() < 100 {
            thread::yield_now();
        }
        assert!(records.has_room());
    }

    #[test]
    fn a_batch_that_fails_is_lost_and_the_node_goes_on() {
        for (sense, is_stored) in [(Sense::Before, false), (Sense::After, true)] {
            let dir = tempfile::tempdir().unwrap();
            let faults = Failing::new();
            let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
            faults.arm(Step::Commit(NAME), sense);
            store.providers().put(b"a", b"1").unwrap();
            drop(store);
            let (store, _) = Store::open(dir.path(), options()).unwrap();
            let found = store.providers().get(b"a").unwrap();
            assert_eq!(found.is_some(), is_stored);
        }
    }

    #[test]
    fn a_damaged_file_is_thrown_away_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        store.meta().put("n", b"k", b"kept").unwrap();
        store.providers().put(b"a", b"1").unwrap();
        drop(store);
        let path = dir.path().join(NAME).join("data.mdb");
        let mut bytes = fs::read(&path).unwrap();
        bytes[..8_192].fill(0xff);
        fs::write(&path, bytes).unwrap();
        let (store, recovery) = open(dir.path());
        assert!(recovery.are_providers_lost);
        assert_eq!(store.providers().list(None), Ok(vec![]));
        assert_eq!(store.meta().get("n", b"k"), Ok(Some(b"kept".to_vec())));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let (key, value) = ([0; KEY_BYTES_MAX + 1], [0; VALUE_BYTES_MAX + 1]);
        for refused in [
            store.providers().put(&key, b""),
            store.providers().put(b"", &value),
        ] {
            assert!(matches!(refused, Err(StoreError::TooLarge { .. })));
        }
    }
}
