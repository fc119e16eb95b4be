//! A node as a host holds it: what runs in it for the host, and how all that ends.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use event_listener::Event;
use futures_lite::{FutureExt as _, future};
use kogge::{Config, Network, Node};
use tracing::Dispatch;

use crate::calls::Calls;
use crate::events::Hub;
use crate::failure::Failure;
use crate::handle;
use crate::lines::{Lines, Sink};
use crate::object::Object;
use crate::op::{Notice, Op, Outcome};
use crate::status::kogge_status;
use crate::stream::Stream;
use crate::thread::{self, Deadline};

/// Most operations that run in a node at once; more are refused with `KOGGE_STATUS_BUSY`.
const OPS_MAX: usize = 65_536;

/// A node that is open.
pub(crate) struct Host {
    /// Gone once the node is closed: what was got from it must not keep its files open.
    node: Mutex<Option<Node>>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) calls: Arc<Calls>,
    dispatch: Dispatch,
    lines: Arc<Lines>,
    work: Mutex<Work>,
    /// Something ended.
    idle: Condvar,
    closing: Event,
}

#[derive(Default)]
struct Work {
    ops: BTreeMap<u64, Weak<Op>>,
    streams: Vec<Weak<Stream>>,
    started: u64,
    /// Calls of the host that wait inside.
    waiting: usize,
    is_closing: bool,
    /// The end of closing, for who comes second.
    close: Option<Arc<Op>>,
}

/// How to open a node.
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) network: Network,
    pub(crate) sink: Option<Arc<Sink>>,
}

impl Host {
    /// Opens a node on a thread of its own, as the operation `op`.
    ///
    /// # Errors
    ///
    /// `Io` if the system refuses a thread.
    pub(crate) fn open(op: &Arc<Op>, settings: Settings, notice: Notice) -> Result<(), Failure> {
        let (ending, calls) = (op.clone(), Arc::new(Calls::default()));
        let work = move || {
            let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
                Self::start(&ending, settings, calls.clone())
            }));
            let opened = opened.unwrap_or_else(|_| Err(Failure::panic()));
            let failed = opened.is_err();
            ending.end(opened.map(Outcome::Node));
            notice.tell(&ending, &calls);
            if failed {
                calls.stop();
            }
        };
        thread::spawn("kogge-open", work)?;
        Ok(())
    }

    fn start(op: &Op, settings: Settings, calls: Arc<Calls>) -> Result<Arc<Self>, Failure> {
        let lines = Arc::new(Lines::new(settings.sink, calls.clone()));
        let dispatch = Dispatch::new(lines.clone());
        // What was begun goes on to its end, even if it is not wanted any more: only then is the data
        // directory free for another node.
        let start = async { Ok(Node::start(settings.config, settings.network).await?) };
        let started = thread::block_on(&dispatch, None, start);
        let node = started.unwrap_or_else(|| Err(Failure::cancelled()));
        let node = node.inspect_err(|_| lines.close())?;
        if op.is_cancelled() {
            let _ = thread::block_on(&dispatch, None, node.shutdown());
            drop(node);
            lines.close();
            return Err(Failure::cancelled());
        }
        let hub = Hub::of(&node);
        Ok(Arc::new(Self {
            node: Mutex::new(Some(node)),
            hub,
            calls,
            dispatch,
            lines,
            work: Mutex::default(),
            idle: Condvar::new(),
            closing: Event::new(),
        }))
    }

    /// Starts `work` on the node's threads as a new operation, and gives its handle.
    ///
    /// # Errors
    ///
    /// `Closed` or `Busy`; then nobody is told anything.
    pub(crate) fn run<F>(
        self: &Arc<Self>,
        notice: Notice,
        op: Arc<Op>,
        work: F,
    ) -> Result<*mut c_void, Failure>
    where
        F: Future<Output = Result<Outcome, Failure>> + Send + 'static,
    {
        let running = Running {
            number: self.enter(&op)?,
            host: self.clone(),
        };
        let node = self.node()?;
        let handle = handle::put(Object::Op(op.clone()))?;
        op.set_handle(handle);
        let mut ending = Ending {
            op,
            notice: Some(notice),
            running,
        };
        node.spawn(async move {
            let work = AssertUnwindSafe(work).catch_unwind();
            let work = async { work.await.unwrap_or_else(|_| Err(Failure::panic())) };
            let cancelled = async {
                ending.op.cancelled().await;
                Err(Failure::cancelled())
            };
            // Who cancelled before the work was done hears of that, not of a result.
            let result = future::or(cancelled, work).await;
            ending.end(result);
        });
        Ok(handle)
    }

    /// Runs `work` on the thread of the host that called.
    ///
    /// # Errors
    ///
    /// That of `work`; `TimedOut` if it is not done by `deadline`, `Closed` if the node closes.
    pub(crate) fn wait<T>(
        &self,
        deadline: Deadline,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        struct Waiting<'a>(&'a Host);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.work().waiting -= 1;
                self.0.idle.notify_all();
            }
        }
        {
            let mut work = self.work();
            if work.is_closing {
                return Err(Failure::closed());
            }
            work.waiting += 1;
        }
        let _waiting = Waiting(self);
        let work = future::or(work, async {
            self.closed().await;
            Err(Failure::closed())
        });
        thread::block_on(&self.dispatch, deadline, work)
            .unwrap_or_else(|| Err(Failure::timed_out()))
    }

    /// The node.
    ///
    /// # Errors
    ///
    /// `Closed` if it is closed.
    pub(crate) fn node(&self) -> Result<Node, Failure> {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        node.clone().ok_or_else(Failure::closed)
    }

    /// Has `stream` closed with the node.
    ///
    /// # Errors
    ///
    /// `Closed` if the node is closing; `Busy` if there are too many.
    pub(crate) fn keep(&self, stream: &Arc<Stream>) -> Result<(), Failure> {
        let mut work = self.work();
        if work.is_closing {
            return Err(Failure::closed());
        }
        work.streams.retain(|it| it.strong_count() != 0);
        if OPS_MAX <= work.streams.len() {
            let message = format!("{OPS_MAX} streams are open; free some");
            return Err(Failure::new(kogge_status::Busy, message));
        }
        work.streams.push(Arc::downgrade(stream));
        Ok(())
    }

    /// Whether calls are still taken.
    ///
    /// # Errors
    ///
    /// `Closed` if not.
    pub(crate) fn check_open(&self) -> Result<(), Failure> {
        if self.work().is_closing {
            return Err(Failure::closed());
        }
        Ok(())
    }

    async fn closed(&self) {
        loop {
            let closing = self.closing.listen();
            if self.work().is_closing {
                return;
            }
            closing.await;
        }
    }

    fn enter(&self, op: &Arc<Op>) -> Result<u64, Failure> {
        let mut work = self.work();
        if work.is_closing {
            return Err(Failure::closed());
        }
        if OPS_MAX <= work.ops.len() {
            let message = format!("{OPS_MAX} operations run in this node; wait for some");
            return Err(Failure::new(kogge_status::Busy, message));
        }
        work.started += 1;
        let number = work.started;
        work.ops.insert(number, Arc::downgrade(op));
        Ok(number)
    }

    /// Closes the node, whose handle is `handle`, on a thread of its own, as the operation `op`. If
    /// it is being closed already, gives the operation that does it.
    ///
    /// # Errors
    ///
    /// `Io` if the system refuses a thread; the node stays open.
    pub(crate) fn close(
        self: &Arc<Self>,
        handle: *mut c_void,
        op: &Arc<Op>,
        mut notice: Notice,
    ) -> Result<Option<Arc<Op>>, Failure> {
        {
            let mut work = self.work();
            if let Some(first) = &work.close {
                return Ok(Some(first.clone()));
            }
            (work.is_closing, work.close) = (true, Some(op.clone()));
        }
        // Who is called back is called on that thread, after the end.
        if notice.done_fn.is_none() {
            op.end_after(&self.calls);
        }
        let (this, ending, handle) = (self.clone(), op.clone(), handle.addr());
        let close = move || {
            this.finish();
            drop(handle::take::<Arc<Self>>(std::ptr::without_provenance(
                handle,
            )));
            // Who only waits may unload the library or exit when it hears of the end: then no
            // callback may be on its way. Who is called back hears of it in the last callback.
            notice.release_unless_called(&this.calls);
            if notice.done_fn.is_none() {
                this.calls.stop();
            }
            let calls = this.calls.clone();
            drop(this);
            ending.end(Ok(Outcome::Nothing));
            notice.tell(&ending, &calls);
            calls.stop();
        };
        let started = thread::spawn("kogge-close", close);
        started.map(|_| None).map_err(|error| {
            let mut work = self.work();
            (work.is_closing, work.close) = (false, None);
            error.into()
        })
    }

    /// Ends all that runs, then the node.
    fn finish(&self) {
        let ops: Vec<_> = self.work().ops.values().filter_map(Weak::upgrade).collect();
        ops.iter().for_each(|it| it.cancel());
        drop(ops);
        self.closing.notify(usize::MAX);
        let mut work = self.work();
        while !work.ops.is_empty() || work.waiting != 0 {
            work = self.idle.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
        let streams = std::mem::take(&mut work.streams);
        drop(work);
        streams
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|it| it.close());
        self.shut_down();
        self.hub.close();
        self.lines.close();
    }

    fn shut_down(&self) {
        let node = self
            .node
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(node) = node {
            let _ = thread::block_on(&self.dispatch, None, node.shutdown());
        }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Host {
    /// A node that was opened, and then not wanted: its operation was freed without being finished.
    fn drop(&mut self) {
        let node = self
            .node
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(node) = node else { return };
        let (dispatch, lines) = (self.dispatch.clone(), self.lines.clone());
        let calls = self.calls.clone();
        let close = move || {
            let _ = thread::block_on(&dispatch, None, node.shutdown());
            drop(node);
            lines.close();
            calls.stop();
        };
        drop(thread::spawn("kogge-close", close));
    }
}

/// The place of an operation among those that run.
struct Running {
    host: Arc<Host>,
    number: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.host.work().ops.remove(&self.number);
        self.host.idle.notify_all();
    }
}

/// Makes sure that an operation ends, and that its end is told, even if its task is dropped.
struct Ending {
    op: Arc<Op>,
    notice: Option<Notice>,
    running: Running,
}

impl Ending {
    fn end(&mut self, result: Result<Outcome, Failure>) {
        self.op.end(result);
        if let Some(notice) = self.notice.take() {
            notice.tell(&self.op, &self.running.host.calls);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.notice.is_some() {
            self.end(Err(Failure::closed()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_that_is_cancelled_ends_when_its_directory_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let open = |is_cancelled| {
            let mut config = Config::new(folder.path());
            config.listen.clear();
            let op = Arc::new(Op::default());
            let settings = Settings {
                config,
                network: Network::StoredOrSolo,
                sink: None,
            };
            Host::open(&op, settings, Notice::default()).unwrap();
            if is_cancelled {
                op.cancel();
            }
            op.wait(None);
            op.status()
        };
        for _ in 0..4 {
            assert_eq!(open(true), kogge_status::Cancelled);
        }
        assert_eq!(open(false), kogge_status::Ok);
    }
}
