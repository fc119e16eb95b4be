//! Where the node's work runs: its own executor threads or the host's executor, and a bounded pool
//! for blocking calls.
//!
//! Moving a connection's work between threads costs 30 to 70 % more CPU, so all network tasks share
//! one thread; everything else runs on the others.
//!
//! A node logs to the subscriber that was the default of the thread that started it: two nodes in
//! one process can log to two places.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use async_executor::Executor;
use futures::future::BoxFuture;
use futures_lite::future;
use tracing::Dispatch;
use tracing::dispatcher;
use tracing::subscriber::NoSubscriber;

use crate::net::Spawn;

/// Most threads for blocking calls (disk, upstream downloads, name resolution).
pub const POOL_THREADS_MAX: usize = 16;

/// A pool thread without work ends after this long.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Most calls that wait for a pool thread; who brings another one waits for room.
const POOL_QUEUE_MAX: usize = 4_096;

/// Runs futures; cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    net: Arc<dyn Spawn>,
    main: Arc<dyn Spawn>,
}

impl Tasks {
    /// Starts network work.
    pub fn spawn_net(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.net.spawn(Box::pin(task));
    }

    /// Starts other work.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.main.spawn(Box::pin(task));
    }

    /// The spawner of network work.
    pub fn net(&self) -> Arc<dyn Spawn> {
        self.net.clone()
    }
}

/// The node's own executor threads; they end when this is dropped or [`Threads::stop`] is called.
pub struct Threads {
    stop: async_channel::Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

/// An executor that goes with its threads: a task that can start others would else keep itself, and
/// what it holds, for ever.
struct Own(Weak<Executor<'static>>);

impl Spawn for Own {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if let Some(executor) = self.0.upgrade() {
            executor.spawn(task).detach();
        }
    }
}

impl Threads {
    /// Starts `count` threads (at least one): the first for the network, the others for the rest.
    ///
    /// # Errors
    ///
    /// The system's error if a thread cannot be started.
    pub fn start(count: usize) -> std::io::Result<(Self, Tasks)> {
        let net = Arc::new(Executor::new());
        let main = if count < 2 {
            net.clone()
        } else {
            Arc::new(Executor::new())
        };
        let (stop, stopped) = async_channel::bounded::<()>(1);
        let logs = Logs::of_this_thread();
        let mut this = Self {
            stop,
            threads: Vec::new(),
        };
        for at in 0..count.max(1) {
            let executor = if at == 0 { net.clone() } else { main.clone() };
            let stopped = stopped.clone();
            let logs = logs.clone();
            let run = move || {
                // The channel only ever closes: `recv` then fails, and the thread ends.
                let _ = logs.run(|| async_io::block_on(executor.run(stopped.recv())));
            };
            let name = if at == 0 {
                "kogge-net".into()
            } else {
                format!("kogge-{at}")
            };
            this.threads
                .push(std::thread::Builder::new().name(name).spawn(run)?);
        }
        Ok((
            this,
            Tasks {
                net: Arc::new(Own(Arc::downgrade(&net))),
                main: Arc::new(Own(Arc::downgrade(&main))),
            },
        ))
    }

    /// Ends the threads and waits for them. Tasks that still run are dropped.
    pub fn stop(mut self) {
        self.stop.close();
        let this = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // A node that is shut down from one of its own tasks cannot wait for itself.
            if thread.thread().id() != this {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.close();
    }
}

impl Tasks {
    /// Everything runs on the host's executor.
    pub fn on_host(spawn: Arc<dyn Spawn>) -> Self {
        Self {
            net: spawn.clone(),
            main: spawn,
        }
    }
}

/// Where the threads of a node log.
#[derive(Clone)]
struct Logs(Option<Dispatch>);

impl Logs {
    /// The default of this thread; none if there is none, so that a subscriber that becomes the
    /// process's default later is still heard.
    fn of_this_thread() -> Self {
        let found = dispatcher::get_default(Clone::clone);
        Self(Some(found).filter(|it| !it.is::<NoSubscriber>()))
    }

    fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(dispatch) => dispatcher::with_default(dispatch, work),
            None => work(),
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A bounded pool of threads for blocking calls; cheap to clone.
///
/// The crate `blocking` may grow to 500 threads inside a host process; this one has at most
/// [`POOL_THREADS_MAX`], started on demand.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    room: event_listener::Event,
    threads_max: usize,
    logs: Logs,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

/// A blocking call that gave no result.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PoolError {
    /// The pool is closed: the node shuts down.
    #[error("the node is shutting down")]
    Closed,
    /// The call panicked, which is a bug.
    #[error("an internal call failed unexpectedly")]
    Panicked,
}

impl Pool {
    /// An empty pool that grows to `threads_max` threads.
    pub fn new(threads_max: usize) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            room: event_listener::Event::new(),
            threads_max: threads_max.max(1),
            logs: Logs::of_this_thread(),
        }))
    }

    /// Runs `call` on a pool thread. Dropping the future does not stop a call that has begun.
    ///
    /// # Errors
    ///
    /// [`PoolError`] if the pool is closed or `call` panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let (done, result) = async_channel::bounded(1);
        let job = move || {
            if let Ok(value) = catch_unwind(AssertUnwindSafe(call)) {
                let _ = done.try_send(value);
            }
        };
        self.wait_and_enqueue(Box::new(job)).await?;
        result.recv().await.map_err(|_| PoolError::Panicked)
    }

    /// Runs `call` on a pool thread without waiting for its end, only for a place in the queue;
    /// dropped if the pool is closed. Dropping the future before that drops the call.
    pub async fn detach(&self, call: impl FnOnce() + Send + 'static) {
        let job = move || {
            let _ = catch_unwind(AssertUnwindSafe(call));
        };
        let _ = self.wait_and_enqueue(Box::new(job)).await;
    }

    /// Calls that wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().jobs.len()
    }

    async fn wait_and_enqueue(&self, mut job: Job) -> Result<(), PoolError> {
        loop {
            let room = self.0.room.listen();
            match self.enqueue(job) {
                Ok(()) => return Ok(()),
                Err(None) => return Err(PoolError::Closed),
                Err(Some(back)) => job = back,
            }
            room.await;
        }
    }

    /// Gives the job back if the queue is full; drops it if the pool is closed.
    fn enqueue(&self, job: Job) -> Result<(), Option<Job>> {
        let mut state = self.lock();
        if state.closed {
            return Err(None);
        }
        if POOL_QUEUE_MAX <= state.jobs.len() {
            return Err(Some(job));
        }
        state.jobs.push_back(job);
        if state.idle < state.jobs.len() && state.threads < self.0.threads_max {
            let this = self.clone();
            let name = "kogge-io".to_owned();
            let started = std::thread::Builder::new()
                .name(name)
                .spawn(move || this.0.logs.run(|| this.work()));
            if started.is_ok() {
                state.threads += 1;
            } else if state.threads == 0 {
                state.jobs.pop_back();
                return Err(None);
            }
        }
        drop(state);
        self.0.work.notify_one();
        Ok(())
    }

    /// A pool thread: takes jobs until it was idle for long, or the pool is closed.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                self.0.room.notify(1);
                job();
                state = self.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let wait = self.0.work.wait_timeout(state, POOL_IDLE_TIMEOUT);
            let (guard, timeout) = wait.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        drop(state);
        self.0.work.notify_all();
    }

    /// Refuses new calls, also those that wait for room, lets the others finish, and waits for the
    /// threads.
    pub async fn close(&self) {
        let this = self.clone();
        {
            self.lock().closed = true;
            self.0.work.notify_all();
            self.0.room.notify(usize::MAX);
        }
        let (done, ended) = async_channel::bounded::<()>(1);
        let wait = move || {
            let mut state = this.lock();
            while state.threads != 0 {
                state = this
                    .0
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            drop(done);
        };
        if std::thread::Builder::new()
            .name("kogge-end".into())
            .spawn(wait)
            .is_ok()
        {
            let _ = ended.recv().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for `task`, at most until `limit` has passed.
pub async fn with_timeout<T>(limit: Duration, task: impl Future<Output = T>) -> Option<T> {
    future::or(async { Some(task.await) }, async {
        async_io::Timer::after(limit).await;
        None
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn calls_run_and_their_results_come_back() {
        let pool = Pool::new(2);
        let sum = Arc::new(AtomicUsize::new(0));
        let results = future::block_on(async {
            let calls = (0..100).map(|it| {
                let (pool, sum) = (pool.clone(), sum.clone());
                async move {
                    pool.run(move || {
                        sum.fetch_add(it, Ordering::SeqCst);
                        it * 2
                    })
                    .await
                }
            });
            futures::future::join_all(calls).await
        });
        assert_eq!(results, (0..100).map(|it| Ok(it * 2)).collect::<Vec<_>>());
        assert_eq!(sum.load(Ordering::SeqCst), 4_950);
        assert!(pool.lock().threads <= 2);
    }

    #[test]
    fn tasks_that_wait_end_with_their_threads_even_if_they_could_start_others() {
        for count in [1, 3] {
            let (threads, tasks) = Threads::start(count).unwrap();
            let held = Arc::new(());
            for spawn in [Tasks::spawn_net, Tasks::spawn] {
                let mine = (tasks.clone(), held.clone());
                spawn(
                    &tasks,
                    Box::pin(async move {
                        let _mine = mine;
                        future::pending::<()>().await;
                    }),
                );
            }
            threads.stop();
            assert_eq!(Arc::strong_count(&held), 1);
            tasks.spawn(async move { drop(held) });
        }
    }

    #[test]
    fn a_panic_is_an_error_and_the_pool_lives_on() {
        let pool = Pool::new(1);
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let failed = future::block_on(pool.run(|| -> u8 { panic!("planted") }));
        std::panic::set_hook(quiet);
        assert_eq!(failed, Err(PoolError::Panicked));
        assert_eq!(future::block_on(pool.run(|| 1)), Ok(1));
    }

    #[test]
    fn who_comes_to_a_full_queue_waits_until_a_call_begins_or_the_pool_closes() {
        let pool = Pool::new(1);
        let (release, wait) = async_channel::bounded::<()>(1);
        let (begun, has_begun) = async_channel::bounded(1);
        let done = Arc::new(AtomicUsize::new(0));
        future::block_on(async {
            let first = move || {
                let _ = begun.send_blocking(());
                let _ = wait.recv_blocking();
            };
            pool.detach(first).await;
            has_begun.recv().await.unwrap();
            let count = || {
                let done = done.clone();
                pool.detach(move || {
                    done.fetch_add(1, Ordering::SeqCst);
                })
            };
            for _ in 0..POOL_QUEUE_MAX {
                count().await;
            }
            let mut waiting = Box::pin(count());
            assert_eq!(future::poll_once(&mut waiting).await, None);
            assert_eq!(pool.lock().jobs.len(), POOL_QUEUE_MAX);
            release.send(()).await.unwrap();
            waiting.await;
            pool.close().await;
        });
        assert_eq!(done.load(Ordering::SeqCst), POOL_QUEUE_MAX + 1);
    }

    #[test]
    fn a_closed_pool_refuses() {
        let pool = Pool::new(1);
        assert_eq!(future::block_on(pool.run(|| 1)), Ok(1));
        future::block_on(pool.close());
        assert_eq!(future::block_on(pool.run(|| 1)), Err(PoolError::Closed));
        assert_eq!(pool.lock().threads, 0);
    }

    #[test]
    fn tasks_run_on_the_named_threads_until_stopped() {
        let (threads, tasks) = Threads::start(2).unwrap();
        let (send, receive) = async_channel::bounded(2);
        for net in [true, false] {
            let send = send.clone();
            let task = async move {
                let name = std::thread::current().name().map(ToOwned::to_owned);
                let _ = send.send((net, name)).await;
            };
            if net {
                tasks.spawn_net(task)
            } else {
                tasks.spawn(task)
            }
        }
        let mut seen: Vec<_> = (0..2)
            .map(|_| future::block_on(receive.recv()).unwrap())
            .collect();
        seen.sort();
        assert_eq!(
            seen,
            [
                (false, Some("kogge-1".to_owned())),
                (true, Some("kogge-net".to_owned()))
            ]
        );
        threads.stop();
    }
}
