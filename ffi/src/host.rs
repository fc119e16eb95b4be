//! A node as a host holds it: what runs in it for the host, and how all that ends.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use event_listener::Event;
use futures_lite::{FutureExt as _, future};
use kogge::{Artifact, Config, Network, Node};
use tracing::Dispatch;

use crate::calls::Calls;
use crate::events::Hub;
use crate::failure::Failure;
use crate::handle;
use crate::inside::{Inside, Visit};
use crate::lines::{Lines, Sink};
use crate::object::Object;
use crate::op::{Notice, Op, Outcome};
use crate::status::kogge_status;
use crate::thread::{self, Deadline};

/// Most operations of a node that run, or whose callbacks wait; more are refused with
/// `KOGGE_STATUS_BUSY`. As many streams may be open.
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
    streams: BTreeMap<u64, Artifact>,
    /// Operations and streams so far.
    begun: u64,
    /// Calls of the host that are inside.
    visits: usize,
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
        let calls = Calls::start()?;
        op.end_after(&calls);
        let (op, mine) = (op.clone(), calls.clone());
        let work = move || {
            let start = || Self::start(&op, settings, mine.clone());
            let opened = catch_unwind(AssertUnwindSafe(start));
            match opened.unwrap_or_else(|_| Err(Failure::panic())) {
                Ok(host) => host.opened(op, notice),
                Err(failure) => op.end_with(notice, &mine, Err(failure)),
            }
        };
        thread::spawn("kogge-open", work).inspect_err(|_| calls.stop())?;
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

    /// Tells that it is open. Who closes it at once waits until that was told.
    fn opened(self: Arc<Self>, op: Arc<Op>, notice: Notice) {
        let mut ending = Ending {
            running: self.place(&op, &mut self.work()),
            notice: Some(notice),
            op,
        };
        ending.end(Ok(Outcome::Node(self)));
    }

    /// Starts the work that `begin` makes on the node's threads, as the operation `op`, and gives its
    /// handle. `begin` is called only if nothing can fail any more. If `is_at_once`, the work begins on
    /// this thread, up to where it waits; true if it ended so, of which nobody is told.
    ///
    /// # Errors
    ///
    /// `Closed` or `Busy`; then nobody is told anything.
    pub(crate) fn run<F>(
        self: &Arc<Self>,
        notice: Notice,
        op: Arc<Op>,
        is_at_once: bool,
        begin: impl FnOnce(&Arc<Op>) -> F,
    ) -> Result<(*mut c_void, bool), Failure>
    where
        F: Future<Output = Result<Outcome, Failure>> + Send + 'static,
    {
        let running = self.enter(&op)?;
        let node = self.node()?;
        let handle = handle::put(Object::Op(op.clone()))?;
        op.set_handle(handle);
        let work = begin(&op);
        let ending = Ending {
            op,
            notice: Some(notice),
            running,
        };
        let mut run = Box::pin(async move {
            let work = AssertUnwindSafe(work).catch_unwind();
            let work = async { work.await.unwrap_or_else(|_| Err(Failure::panic())) };
            let cancelled = async {
                ending.op.cancelled().await;
                Err(Failure::cancelled())
            };
            // Who cancelled before the work was done hears of that, not of a result.
            let result = future::or(cancelled, work).await;
            ending.op.released().await;
            let result = result.map_err(|it| ending.running.host.explain(it));
            (ending, result)
        });
        if is_at_once && let Some((ending, result)) = thread::poll(&self.dispatch, run.as_mut()) {
            ending.end_untold(result);
            return Ok((handle, true));
        }
        node.spawn(async move {
            let (mut ending, result) = run.await;
            ending.end(result);
        });
        Ok((handle, false))
    }

    /// Runs `work` on the thread of the host that called.
    ///
    /// # Errors
    ///
    /// That of `work`; `TimedOut` if it is not done by `deadline`, `Closed` if the node closes.
    pub(crate) fn wait<T>(
        self: &Arc<Self>,
        deadline: Deadline,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let _visit = Visit::begin(self)?;
        let work = future::or(work, async {
            self.closed().await;
            Err(Failure::closed())
        });
        let done = thread::block_on(&self.dispatch, deadline, work);
        let done = done.unwrap_or_else(|| Err(Failure::timed_out()));
        done.map_err(|it| self.explain(it))
    }

    /// The node.
    ///
    /// # Errors
    ///
    /// `Closed` if it is closed, is closing, or has stopped.
    pub(crate) fn node(self: &Arc<Self>) -> Result<Inside<Node>, Failure> {
        let visit = Visit::begin(self)?;
        let node = self.held().clone().ok_or_else(Failure::closed)?;
        if let Some(reason) = node.failure() {
            return Err(Failure::stopped(&reason));
        }
        Ok(Inside::new(node, visit))
    }

    /// Keeps the artifact of a stream open until it is forgotten, or the node closes.
    ///
    /// # Errors
    ///
    /// `Closed` if the node is closing; `Busy` if there are too many.
    pub(crate) fn keep(&self, artifact: Artifact) -> Result<u64, Failure> {
        let mut work = self.work();
        if work.is_closing {
            return Err(Failure::closed());
        }
        if OPS_MAX <= work.streams.len() {
            let message = format!("{OPS_MAX} streams are open; free some");
            return Err(Failure::new(kogge_status::Busy, message));
        }
        work.begun += 1;
        let number = work.begun;
        work.streams.insert(number, artifact);
        Ok(number)
    }

    /// The artifact of a stream.
    ///
    /// # Errors
    ///
    /// `Closed` if it was forgotten, or the node closes.
    pub(crate) fn kept(self: &Arc<Self>, number: u64) -> Result<Inside<Artifact>, Failure> {
        let visit = Visit::begin(self)?;
        let artifact = self.work().streams.get(&number).cloned();
        Ok(Inside::new(artifact.ok_or_else(Failure::closed)?, visit))
    }

    /// Drops the artifact of a stream. If the node is closing, that waits for it or has done it.
    pub(crate) fn forget(&self, number: u64) {
        let artifact = {
            let mut work = self.work();
            work.visits += 1;
            work.streams.remove(&number)
        };
        drop(artifact);
        self.go();
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

    /// One more call is inside; [`Host::go`] must follow.
    pub(crate) fn come(&self) -> Result<(), Failure> {
        let mut work = self.work();
        if work.is_closing {
            return Err(Failure::closed());
        }
        work.visits += 1;
        Ok(())
    }

    pub(crate) fn go(&self) {
        self.work().visits -= 1;
        self.idle.notify_all();
    }

    /// Says why calls fail, if the node has stopped by itself.
    fn explain(&self, failure: Failure) -> Failure {
        if failure.status != kogge_status::Closed || self.work().is_closing {
            return failure;
        }
        let reason = self.held().as_ref().and_then(Node::failure);
        reason.map_or(failure, |it| Failure::stopped(&it))
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

    fn enter(self: &Arc<Self>, op: &Arc<Op>) -> Result<Running, Failure> {
        let mut work = self.work();
        if work.is_closing {
            return Err(Failure::closed());
        }
        if OPS_MAX <= work.ops.len() + self.calls.waiting() {
            let message =
                format!("{OPS_MAX} operations of this node run or wait to be told; let some end");
            return Err(Failure::new(kogge_status::Busy, message));
        }
        Ok(self.place(op, &mut work))
    }

    fn place(self: &Arc<Self>, op: &Arc<Op>, work: &mut Work) -> Running {
        work.begun += 1;
        work.ops.insert(work.begun, Arc::downgrade(op));
        Running {
            host: self.clone(),
            number: work.begun,
        }
    }

    /// Closes the node on a thread of its own, as the operation `op`; its handle `stale` is taken back
    /// before the end is told. If the node is being closed already, gives the operation that does it.
    ///
    /// # Errors
    ///
    /// `Io` if the system refuses a thread; the node stays open.
    pub(crate) fn close(
        self: &Arc<Self>,
        stale: Option<*mut c_void>,
        op: &Arc<Op>,
        notice: Notice,
    ) -> Result<Option<Arc<Op>>, Failure> {
        {
            let mut work = self.work();
            if let Some(first) = &work.close {
                return Ok(Some(first.clone()));
            }
            (work.is_closing, work.close) = (true, Some(op.clone()));
        }
        op.end_after(&self.calls);
        let (this, ending, stale) = (self.clone(), op.clone(), stale.map(<*mut c_void>::addr));
        let close = move || {
            let finished = catch_unwind(AssertUnwindSafe(|| this.finish()));
            if let Some(stale) = stale {
                drop(handle::take::<Arc<Self>>(std::ptr::without_provenance(
                    stale,
                )));
            }
            let calls = this.calls.clone();
            drop(this);
            let result = finished.map(|()| Outcome::Nothing);
            ending.end_with(notice, &calls, result.map_err(|_| Failure::panic()));
        };
        let started = thread::spawn("kogge-close", close);
        started.map(|_| None).map_err(|error| {
            let failure = Failure::from(error);
            {
                let mut work = self.work();
                (work.is_closing, work.close) = (false, None);
            }
            // For who came second meanwhile.
            op.end(Err(failure.clone()));
            failure
        })
    }

    /// Ends all that runs, then the node.
    fn finish(&self) {
        let ops: Vec<_> = self.work().ops.values().filter_map(Weak::upgrade).collect();
        ops.iter().for_each(|it| it.cancel());
        drop(ops);
        self.closing.notify(usize::MAX);
        let mut work = self.work();
        while !work.ops.is_empty() || work.visits != 0 {
            work = self.idle.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
        let streams = std::mem::take(&mut work.streams);
        drop(work);
        drop(streams);
        let node = self.held().take();
        if let Some(node) = node {
            let _ = thread::block_on(&self.dispatch, None, node.shutdown());
        }
        self.hub.close();
        self.lines.close();
    }

    fn held(&self) -> MutexGuard<'_, Option<Node>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Host {
    /// A node that was opened, and then not wanted: its operation was freed without being finished.
    fn drop(&mut self) {
        let node = self.held().take();
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
    /// Who started it sees the end.
    fn end_untold(mut self, result: Result<Outcome, Failure>) {
        self.notice = None;
        self.op.end(result);
    }

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
