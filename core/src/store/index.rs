//! The index of the log: a follower with its own environment and cursor.
//!
//! Indexing inside the commit of a block costs seven times the commit, so a thread of its own
//! follows the log in sorted batches. Until it has a block, queries take its keys from memory
//! (`tail.rs`): they see a block as soon as it is appended. The index is derived: it can be deleted
//! at any time and is then rebuilt from the log.

use std::fs;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use heed::{EnvFlags, RoTxn, WithoutTls};

use crate::proto::log::index;
use crate::store::chain::Chain;
use crate::store::disk::{self, Disk};
use crate::store::env::{DataDir, Environment, Table};
use crate::store::error::StoreError;
use crate::store::tables::number;
use crate::store::tail::{State, Tail, leaf_keys};

/// Most leaves in one batch.
pub const BATCH_LEAVES_MAX: u64 = 8_192;

/// A batch ends early when its leaves have this many bytes. Unit: bytes.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// How long a batch gathers; blocks wait in memory meanwhile, and queries see them there.
const GATHER_TIMEOUT: Duration = Duration::from_millis(200);

/// After a full disk or another passing problem the batch is tried again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(5);

/// The form of the keys; another one is rebuilt.
const FORMAT: u64 = 1;

/// How far the index is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IndexStatus {
    /// Leaves in the index.
    pub indexed: u64,
    /// Leaves that queries see: also those in memory.
    pub size: u64,
    /// Leaves in the log.
    pub log_size: u64,
    /// Why it does not go on, if it does not.
    pub problem: Option<StoreError>,
}

/// The index. Clones share the same one. Look-ups take microseconds; no call blocks for longer
/// than [`crate::store::find`] says.
#[derive(Clone)]
pub struct Index {
    pub(crate) shared: Arc<Shared>,
    _follower: Arc<Follower>,
}

pub(crate) struct Shared {
    env: Environment,
    /// Keys of `proto/log/index`; values are empty.
    keys: Table,
    /// `indexed` → leaves indexed; `format` → [`FORMAT`].
    state: Table,
    pub(crate) chain: Chain,
    tail: Arc<Tail>,
    problem: Mutex<Option<StoreError>>,
}

/// Stops the thread when the last [`Index`] is dropped.
struct Follower {
    tail: Arc<Tail>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.tail.close();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            drop(thread.join());
        }
    }
}

impl Index {
    /// Opens the index, or makes a new one if it is unusable, and starts to follow the log.
    /// Tells whether it was made anew in place of an unusable one.
    pub(crate) fn open(
        dir: &Arc<DataDir>,
        map_bytes: usize,
        disk: &Disk,
        chain: &Chain,
        tail: &Arc<Tail>,
    ) -> Result<(Self, bool), StoreError> {
        let log_size = chain.size()?;
        let (env, [keys, state], indexed, is_rebuilt) =
            match open_env(dir, map_bytes, disk, log_size) {
                Ok((env, tables, indexed)) => (env, tables, indexed, false),
                Err(StoreError::Corrupt { .. }) => {
                    let folder = dir.path().join("index");
                    fs::remove_dir_all(&folder)
                        .map_err(|it| StoreError::at("remove", &folder, &it))?;
                    let (env, tables, indexed) = open_env(dir, map_bytes, disk, log_size)?;
                    (env, tables, indexed, true)
                }
                Err(other) => return Err(other),
            };
        tail.reset(indexed, log_size);
        let shared = Arc::new(Shared {
            env,
            keys,
            state,
            chain: chain.clone(),
            tail: Arc::clone(tail),
            problem: Mutex::new(None),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("kogge-index".to_owned())
                .spawn(move || shared.follow(indexed))
                .map_err(|it| StoreError::io("cannot start the index thread", &it))?
        };
        let follower = Follower {
            tail: Arc::clone(tail),
            thread: Some(thread),
        };
        let index = Self {
            shared,
            _follower: Arc::new(follower),
        };
        Ok((index, is_rebuilt))
    }

    /// How far the index is.
    pub fn status(&self) -> IndexStatus {
        let tail = self.shared.tail.lock();
        IndexStatus {
            indexed: tail.indexed(),
            size: tail.size(),
            log_size: tail.log_size(),
            problem: self.shared.problem().clone(),
        }
    }

    /// Waits until queries see the first `size` leaves of the log: a block is seen a moment after it
    /// is durable.
    ///
    /// # Errors
    ///
    /// Why the index stopped before.
    pub async fn covers(&self, size: u64) -> Result<(), StoreError> {
        let look = |tail: &State| {
            if size <= tail.size() {
                return Some(Ok(()));
            }
            let problem = self.shared.problem();
            let last = problem.as_ref().filter(|it| !may_pass(it));
            last.map(|it| Err(it.clone()))
        };
        self.shared.tail.wait_for(look).await
    }

    /// Blocks until the index has the whole log, at most for `timeout`; tells whether it has.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.shared.tail.wait_indexed(timeout)
    }
}

/// Whether the index goes on by itself.
fn may_pass(problem: &StoreError) -> bool {
    matches!(problem, StoreError::DiskFull { .. } | StoreError::Busy(_))
}

fn open_env(
    dir: &Arc<DataDir>,
    map_bytes: usize,
    disk: &Disk,
    log_size: u64,
) -> Result<(Environment, [Table; 2], u64), StoreError> {
    let flags = EnvFlags::NO_META_SYNC;
    let names = ["keys", "state"];
    let (env, tables) = Environment::open(dir, "index", map_bytes, flags, names, disk)?;
    let [_, state] = tables;
    let mut txn = env.write()?;
    let read = |name: &[u8], txn: &RoTxn<'_>| state.get(txn, name)?.map(number).transpose();
    let (format, indexed) = (read(b"format", &txn)?, read(b"indexed", &txn)?.unwrap_or(0));
    if format.is_some_and(|it| it != FORMAT) || log_size < indexed {
        let reason = "it has another format or is ahead of the log";
        return Err(StoreError::corrupt("the index", reason));
    }
    state.put(&mut txn, b"format", &FORMAT.to_be_bytes())?;
    env.commit(txn)?;
    Ok((env, tables, indexed))
}

impl Shared {
    fn problem(&self) -> std::sync::MutexGuard<'_, Option<StoreError>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Indexes the log from leaf `indexed` on, until the tail is closed or the index is stopped.
    fn follow(&self, mut indexed: u64) {
        while self.tail.wait(indexed, BATCH_LEAVES_MAX, GATHER_TIMEOUT) {
            match self.index_batch(indexed) {
                Ok(size) => {
                    indexed = size;
                    self.tail.trim(size);
                    *self.problem() = None;
                }
                Err(error) => {
                    let error = disk::explain(self.env.dir(), error);
                    let may_pass = may_pass(&error);
                    *self.problem() = Some(error);
                    if !may_pass {
                        self.tail.stop();
                    }
                    if !may_pass || !self.tail.pause(RETRY_TIMEOUT) {
                        return;
                    }
                }
            }
        }
    }

    /// Indexes the next leaves in one transaction; returns how many are indexed then.
    fn index_batch(&self, indexed: u64) -> Result<u64, StoreError> {
        let (mut keys, size) = self.read_batch(indexed)?;
        // Neighbouring keys share pages: in order each page is touched once.
        keys.sort_unstable();
        let mut txn = self.env.write()?;
        for key in &keys {
            self.keys.put(&mut txn, key, &[])?;
        }
        self.state.put(&mut txn, b"indexed", &size.to_be_bytes())?;
        self.env.commit(txn)?;
        Ok(size)
    }

    fn read_batch(&self, indexed: u64) -> Result<(Vec<Vec<u8>>, u64), StoreError> {
        let txn = self.chain.env().read()?;
        let from = indexed.to_be_bytes();
        let bounds = (Bound::Included(&from[..]), Bound::Unbounded);
        let leaves = self.chain.tables().leaf.range(&txn, &bounds)?;
        let (mut keys, mut size, mut bytes) = (Vec::new(), indexed, 0);
        for row in leaves {
            let (at, leaf) = row?;
            let at = number(at)?;
            keys.extend(leaf_keys(at, leaf));
            bytes += leaf.len();
            size = at + 1;
            if BATCH_LEAVES_MAX <= size - indexed || BATCH_BYTES_MAX <= bytes {
                break;
            }
        }
        Ok((keys, size))
    }

    /// The keys in `ranges`, as of one moment. Ranges go from the first key on, to and without
    /// the second.
    pub(crate) fn snapshot(
        &self,
        ranges: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Snapshot<'_>, StoreError> {
        // The follower trims the tail after its commit: begun under the lock, the transaction has
        // whatever the tail does not have any more.
        let tail = self.tail.lock();
        let txn = self.env.read()?;
        let mut newest: Vec<_> = ranges
            .iter()
            .flat_map(|(low, high)| tail.range(low, high))
            .collect();
        let (size, log_size) = (tail.size(), tail.log_size());
        drop(tail);
        newest.sort_unstable();
        Ok(Snapshot {
            keys: self.keys,
            txn,
            newest,
            size,
            log_size,
        })
    }
}

/// The range of all keys that begin with `prefix`. In keys, text and a zero byte or the index
/// follow; neither reaches nine bytes of 255.
pub(crate) fn range_of(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (prefix.to_vec(), [prefix, &[0xff; 9]].concat())
}

/// The index as of one moment. Short-lived, like the read transaction in it.
pub(crate) struct Snapshot<'e> {
    keys: Table,
    txn: RoTxn<'e, WithoutTls>,
    /// Keys of leaves that the environment does not have, sorted.
    newest: Vec<Vec<u8>>,
    /// Leaves that can be found.
    pub(crate) size: u64,
    log_size: u64,
}

impl Snapshot<'_> {
    /// Requires that the whole log can be found, for answers that must not miss anything.
    pub(crate) fn complete(self) -> Result<Self, StoreError> {
        if self.size < self.log_size {
            return Err(StoreError::Behind {
                indexed: self.size,
                size: self.log_size,
            });
        }
        Ok(self)
    }

    /// The first key from `low` on, before `high`.
    pub(crate) fn first(&self, low: &[u8], high: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if high <= low {
            return Ok(None);
        }
        let at = self.newest.partition_point(|it| &it[..] < low);
        let newest = self.newest.get(at).filter(|it| &it[..] < high);
        let bounds = (Bound::Included(low), Bound::Excluded(high));
        let stored = self.keys.range(&self.txn, &bounds)?.next().transpose()?;
        let stored = stored.map(|it| it.0);
        Ok(match (newest, stored) {
            (Some(newest), Some(stored)) => Some(stored.min(newest).to_vec()),
            (newest, stored) => stored.or(newest.map(Vec::as_slice)).map(<[u8]>::to_vec),
        })
    }

    /// The last key from `low` on, before `high`.
    pub(crate) fn last(&self, low: &[u8], high: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if high <= low {
            return Ok(None);
        }
        let end = self.newest.partition_point(|it| &it[..] < high);
        let newest = end.checked_sub(1).and_then(|at| self.newest.get(at));
        let newest = newest.filter(|it| low <= &it[..]);
        let bounds = (Bound::Included(low), Bound::Excluded(high));
        let mut stored = self.keys.rev_range(&self.txn, &bounds)?;
        let stored = stored.next().transpose()?.map(|it| it.0);
        Ok(match (newest, stored) {
            (Some(newest), Some(stored)) => Some(stored.max(newest).to_vec()),
            (newest, stored) => stored.or(newest.map(Vec::as_slice)).map(<[u8]>::to_vec),
        })
    }

    /// The indexes of the leaves under `prefix`, in the order of the log, at most `rows_max`.
    pub(crate) fn leaves(&self, prefix: &[u8], rows_max: usize) -> Result<Vec<u64>, StoreError> {
        let (low, high) = range_of(prefix);
        let mut leaves = self.unsorted(&low, &high, rows_max)?;
        leaves.sort_unstable();
        leaves.dedup();
        Ok(leaves)
    }

    /// The indexes of the leaves in a range of keys, at most `rows_max` from each source.
    pub(crate) fn unsorted(
        &self,
        low: &[u8],
        high: &[u8],
        rows_max: usize,
    ) -> Result<Vec<u64>, StoreError> {
        let bounds = (Bound::Included(low), Bound::Excluded(high));
        let stored = self.keys.range(&self.txn, &bounds)?;
        let mut leaves = Vec::new();
        for row in stored.take(rows_max) {
            leaves.extend(index::index_of(row?.0));
        }
        let newest = self
            .newest
            .iter()
            .filter(|it| low <= &it[..] && &it[..] < high);
        leaves.extend(newest.take(rows_max).filter_map(|it| index::index_of(it)));
        Ok(leaves)
    }
}
