//! The callback thread of a node: the only one that calls into the host.
//!
//! Network threads never wait for the host; a callback that blocks delays only other callbacks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, ThreadId};

use crate::thread;

/// Lines of the log that wait for the callback thread; further ones are counted and lost.
const LINES_MAX: usize = 1_024;

type Job = Box<dyn FnOnce() + Send>;

/// Runs callbacks one after the other.
#[derive(Default)]
pub(crate) struct Calls {
    state: Mutex<State>,
    /// There is a job, or the end was asked for.
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    lines: usize,
    lines_lost: u64,
    is_stopping: bool,
    thread: Option<JoinHandle<()>>,
    /// Of the thread; stays when somebody waits for its end.
    id: Option<ThreadId>,
}

impl Calls {
    /// Runs `job` on the callback thread, after all that came before; on this thread if the system
    /// refuses a thread or it has ended already.
    pub(crate) fn run(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        let can_run = !state.is_stopping && (state.thread.is_some() || self.start(&mut state));
        if !can_run {
            drop(state);
            job();
            return;
        }
        state.jobs.push_back(Box::new(job));
        drop(state);
        self.work.notify_one();
    }

    /// As [`Calls::run`] for a line of the log, which is lost if too many wait; `job` learns how
    /// many were lost before.
    pub(crate) fn run_line(self: &Arc<Self>, job: impl FnOnce(u64) + Send + 'static) {
        let mut state = self.state();
        if state.is_stopping || LINES_MAX <= state.lines {
            state.lines_lost += 1;
            return;
        }
        state.lines += 1;
        let lost = std::mem::take(&mut state.lines_lost);
        drop(state);
        let this = self.clone();
        self.run(move || {
            this.state().lines -= 1;
            job(lost);
        });
    }

    fn start(self: &Arc<Self>, state: &mut State) -> bool {
        let this = self.clone();
        let started = thread::spawn("kogge-calls", move || this.work());
        state.thread = started.ok();
        state.id = state.thread.as_ref().map(|it| it.thread().id());
        state.thread.is_some()
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.state();
            } else if state.is_stopping {
                return;
            } else {
                state = self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Whether this is the callback thread.
    pub(crate) fn is_here(&self) -> bool {
        self.state().id == Some(std::thread::current().id())
    }

    /// Runs what waits, then ends the thread and waits for that.
    pub(crate) fn stop(&self) {
        let thread = {
            let mut state = self.state();
            state.is_stopping = true;
            state.thread.take()
        };
        self.work.notify_all();
        if let Some(thread) = thread {
            drop(thread.join());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
