//! The writer thread of an LMDB environment.
//!
//! LMDB has one write transaction at a time, bound to its thread. Commands queue up while a commit
//! waits for the disk; all that are waiting then share the next transaction and its sync.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use heed::RwTxn;

use crate::store::disk;
use crate::store::env::Environment;
use crate::store::error::StoreError;

/// Most commands that wait; a further one is answered with [`StoreError::Busy`].
pub const COMMANDS_MAX: usize = 1_024;

/// Most bytes in waiting commands; a further one is answered with [`StoreError::Busy`], but one
/// command is always admitted. Unit: bytes.
pub const COMMAND_BYTES_MAX: usize = 64 << 20;

/// Most commands in one transaction.
const GROUP_MAX: usize = 256;

/// A handle on the writer thread. Dropping the last one writes what is queued and stops it.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when a command arrives or the writer is to stop.
    work: Condvar,
    /// Signalled when commands were taken.
    room: Condvar,
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<(usize, Box<dyn Command>)>,
    bytes: usize,
    is_closed: bool,
}

/// A change with its completion.
trait Command: Send {
    /// Makes the change. May run again in another transaction, if a neighbour was refused.
    fn apply(&mut self, txn: &mut RwTxn<'_>) -> Result<(), StoreError>;

    fn finish(self: Box<Self>, result: Result<(), StoreError>);
}

struct Job<T, F, D> {
    change: F,
    done: D,
    value: Option<T>,
}

impl<T, F, D> Command for Job<T, F, D>
where
    T: Send,
    F: FnMut(&mut RwTxn<'_>) -> Result<T, StoreError> + Send,
    D: FnOnce(Result<T, StoreError>) + Send,
{
    fn apply(&mut self, txn: &mut RwTxn<'_>) -> Result<(), StoreError> {
        self.value = Some((self.change)(txn)?);
        Ok(())
    }

    fn finish(self: Box<Self>, result: Result<(), StoreError>) {
        let Self { done, value, .. } = *self;
        done(result.and_then(|()| value.ok_or(StoreError::Closed)));
    }
}

impl Writer {
    /// Starts the writer thread of `env`.
    pub(crate) fn start(env: Arc<Environment>) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
        });
        let run = {
            let shared = Arc::clone(&shared);
            move || {
                let _exit = Exit(&shared);
                while let Some(group) = shared.take_group() {
                    commit_group(&env, group);
                }
            }
        };
        let thread = thread::Builder::new()
            .name("kogge-writer".to_owned())
            .spawn(run)
            .map_err(|it| StoreError::io("cannot start the writer thread", &it))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Queues `change` of about `bytes` bytes; does not block.
    ///
    /// `done` is called exactly once: on the writer thread after the commit, or at once with
    /// [`StoreError::Busy`] or [`StoreError::Closed`]. It must be quick.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        bytes: usize,
        change: impl FnMut(&mut RwTxn<'_>) -> Result<T, StoreError> + Send + 'static,
        done: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) {
        let job = Box::new(Job {
            change,
            done,
            value: None,
        });
        let queue = self.shared.lock();
        if let Err(problem) = queue.admits(bytes) {
            drop(queue);
            return job.finish(Err(problem));
        }
        self.shared.push(queue, bytes, job);
    }

    /// Makes `change` of about `bytes` bytes. Blocks until it is durable; a commit takes some
    /// milliseconds.
    pub(crate) fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        change: impl FnMut(&mut RwTxn<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let job = Box::new(Job {
            change,
            done: move |result| drop(sender.send(result)),
            value: None,
        });
        let mut queue = self.shared.lock();
        loop {
            match queue.admits(bytes) {
                Ok(()) => break,
                Err(StoreError::Busy(_)) => {
                    queue = self
                        .shared
                        .room
                        .wait(queue)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Err(other) => return Err(other),
            }
        }
        self.shared.push(queue, bytes, job);
        receiver.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// Refuses further commands, writes what is queued, and waits for the thread.
    fn stop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        let Some(thread) = self.thread.take() else {
            return;
        };
        // The last owner may be a completion that runs on the writer thread itself.
        if thread.thread().id() != thread::current().id() {
            drop(thread.join());
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Queue {
    fn admits(&self, bytes: usize) -> Result<(), StoreError> {
        if self.is_closed {
            return Err(StoreError::Closed);
        }
        let is_full = COMMANDS_MAX <= self.commands.len()
            || (!self.commands.is_empty() && COMMAND_BYTES_MAX < self.bytes.saturating_add(bytes));
        if is_full {
            return Err(StoreError::Busy("too many writes are waiting"));
        }
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, bytes: usize, command: Box<dyn Command>) {
        queue.bytes += bytes;
        queue.commands.push_back((bytes, command));
        drop(queue);
        self.work.notify_one();
    }

    /// What waits, at most [`GROUP_MAX`]; blocks while nothing does. `None` when closed and empty.
    fn take_group(&self) -> Option<Vec<Box<dyn Command>>> {
        let mut queue = self
            .work
            .wait_while(self.lock(), |it| it.commands.is_empty() && !it.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        let count = queue.commands.len().min(GROUP_MAX);
        let group: Vec<_> = queue.commands.drain(..count).collect();
        queue.bytes -= group.iter().map(|it| it.0).sum::<usize>();
        drop(queue);
        self.room.notify_all();
        (!group.is_empty()).then(|| group.into_iter().map(|it| it.1).collect())
    }
}

/// Answers everybody who waits, should the writer thread end early because of a bug.
struct Exit<'a>(&'a Shared);

impl Drop for Exit<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.is_closed = true;
        let rest = std::mem::take(&mut *queue);
        queue.is_closed = true;
        drop(queue);
        self.0.room.notify_all();
        for (_, command) in rest.commands {
            command.finish(Err(StoreError::Closed));
        }
    }
}

/// Applies the commands in one transaction. A refused one must leave no trace, so the transaction
/// starts over without it; refusals are rare.
fn commit_group(env: &Environment, mut group: Vec<Box<dyn Command>>) {
    while !group.is_empty() {
        let mut txn = match env.write() {
            Ok(txn) => txn,
            Err(error) => return finish_all(group, &Err(error)),
        };
        let refused = group
            .iter_mut()
            .enumerate()
            .find_map(|(at, it)| it.apply(&mut txn).err().map(|error| (at, error)));
        if let Some((at, error)) = refused {
            txn.abort();
            let error = disk::explain(env.dir(), error);
            group.remove(at).finish(Err(error));
            continue;
        }
        let result = env.commit(txn);
        return finish_all(group, &result);
    }
}

fn finish_all(group: Vec<Box<dyn Command>>, result: &Result<(), StoreError>) {
    for command in group {
        command.finish(result.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::store::recover::Store;
    use crate::store::tests::testing::open;

    fn writer(store: &Store) -> &Writer {
        &store.blobs().0.writer
    }

    /// Occupies the writer until the returned sender is dropped.
    fn occupy(store: &Store) -> mpsc::SyncSender<()> {
        let (release, wait) = mpsc::sync_channel::<()>(0);
        let (started, is_started) = channel();
        let change = move |_: &mut RwTxn<'_>| {
            started.send(()).ok();
            wait.recv().ok();
            Ok(())
        };
        writer(store).submit(0, change, drop);
        is_started.recv().unwrap();
        release
    }

    #[test]
    fn a_refused_change_leaves_no_trace_and_its_neighbours_are_committed() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let table = store.blobs().0.tables.meta;
        let release = occupy(&store);
        let (sender, receiver) = channel();
        for at in 0..5_u8 {
            let sender = sender.clone();
            let change = move |txn: &mut RwTxn<'_>| {
                table.put(txn, &[at], &[])?;
                if at == 2 {
                    Err(StoreError::Closed)
                } else {
                    Ok(at)
                }
            };
            writer(&store).submit(0, change, move |it| sender.send((at, it)).unwrap());
        }
        drop((sender, release));
        let mut results: Vec<_> = receiver.iter().collect();
        results.sort_by_key(|it| it.0);
        let expected = |at| {
            if at == 2 {
                Err(StoreError::Closed)
            } else {
                Ok(at)
            }
        };
        assert_eq!(
            results,
            (0..5).map(|at| (at, expected(at))).collect::<Vec<_>>()
        );
        let txn = store.blobs().0.env.read().unwrap();
        let kept: Vec<_> = table
            .iter(&txn)
            .unwrap()
            .map(|it| it.unwrap().0[0])
            .collect();
        assert_eq!(kept, [0, 1, 3, 4]);
    }

    #[test]
    fn a_full_queue_answers_busy_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        for (count, bytes) in [(COMMANDS_MAX, 0), (2, COMMAND_BYTES_MAX / 2)] {
            let release = occupy(&store);
            let (sender, receiver) = channel();
            for _ in 0..=count {
                let sender = sender.clone();
                writer(&store).submit(bytes, |_| Ok(()), move |it| sender.send(it).unwrap());
            }
            let busy = StoreError::Busy("too many writes are waiting");
            assert_eq!(receiver.recv(), Ok(Err(busy)));
            drop((sender, release));
            assert_eq!(receiver.iter().filter(Result::is_ok).count(), count);
        }
    }

    #[test]
    fn dropping_the_store_writes_what_is_queued() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let release = occupy(&store);
        for at in 0..9_u8 {
            store.meta().put_later("test", &[at], b"", drop);
        }
        drop(release);
        drop(store);
        let (store, _) = open(dir.path());
        assert_eq!(store.meta().scan("test", b"", None).unwrap().len(), 9);
    }

    #[test]
    fn a_bug_in_a_change_closes_the_writer_and_answers_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let failed = writer(&store).write(0, |_| -> Result<(), _> { panic!("a bug") });
        std::panic::set_hook(hook);
        assert_eq!(failed, Err(StoreError::Closed));
        assert_eq!(
            store.meta().put("test", b"k", b"v"),
            Err(StoreError::Closed)
        );
    }
}
