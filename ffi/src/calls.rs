//! The callback thread of a node: the only one that calls into the host.
//!
//! Network threads never wait for the host; a callback that blocks delays only other callbacks, and
//! the ends of operations that wait for one of their own.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, ThreadId};

use crate::thread::{self, Deadline};

/// Lines of the log that wait for the callback thread; further ones are counted and lost.
const LINES_MAX: usize = 1_024;

type Job = Box<dyn FnOnce() + Send>;

/// Runs callbacks one after the other.
pub(crate) struct Calls {
    state: Mutex<State>,
    /// There is a job, or the end was asked for.
    work: Condvar,
    /// The thread has ended.
    over: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    lines: usize,
    lines_lost: u64,
    is_stopping: bool,
    is_over: bool,
    thread: Option<JoinHandle<()>>,
    /// Of the thread; stays when somebody waits for its end.
    id: Option<ThreadId>,
}

impl Calls {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system's error if it refuses one.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let this = Arc::new(Self {
            state: Mutex::default(),
            work: Condvar::new(),
            over: Condvar::new(),
        });
        let worker = this.clone();
        let thread = thread::spawn("kogge-calls", move || worker.work())?;
        {
            let mut state = this.state();
            state.id = Some(thread.thread().id());
            state.thread = Some(thread);
        }
        Ok(this)
    }

    /// Runs `job` on the callback thread, after all that came before; on this thread if the other
    /// has ended.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        if state.is_stopping {
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

    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // A bug in one must not take the thread from the others.
                let _ = catch_unwind(AssertUnwindSafe(job));
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

    /// Callbacks that wait for the one that runs.
    pub(crate) fn waiting(&self) -> usize {
        self.state().jobs.len()
    }

    /// Whether this is the callback thread.
    pub(crate) fn is_here(&self) -> bool {
        self.state().id == Some(std::thread::current().id())
    }

    /// Waits until all that waits now has run; not from the callback thread.
    pub(crate) fn drain(&self) {
        if self.state().is_stopping {
            self.wait(None);
            return;
        }
        let (done, ran) = mpsc::channel::<()>();
        self.run(move || drop(done));
        // Nothing is ever sent.
        let _ = ran.recv();
    }

    /// Runs what waits, then ends the thread and waits for that; not from the callback thread.
    pub(crate) fn stop(&self) {
        let thread = {
            let mut state = self.state();
            state.is_stopping = true;
            state.thread.take()
        };
        self.work.notify_all();
        if let Some(thread) = thread {
            drop(thread.join());
            self.state().is_over = true;
            self.over.notify_all();
        } else {
            self.wait(None);
        }
    }

    /// Waits until the thread has ended, which somebody asks for by [`Calls::stop`]; false if the time
    /// is up before.
    pub(crate) fn wait(&self, deadline: Deadline) -> bool {
        let mut state = self.state();
        while !state.is_over {
            let Some(woken) = thread::wait_on(&self.over, state, deadline) else {
                return false;
            };
            state = woken;
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callbacks_run_in_order_on_one_thread_until_the_end_and_a_bug_ends_only_itself() {
        let calls = Calls::start().unwrap();
        let (told, seen) = mpsc::channel();
        for number in 0..100 {
            let (told, mine) = (told.clone(), calls.clone());
            calls.run(move || {
                assert_ne!(number, 50, "planted");
                told.send((number, mine.is_here())).unwrap();
            });
        }
        calls.stop();
        let expected = (0..100).filter(|it| *it != 50).map(|it| (it, true));
        assert_eq!(
            seen.try_iter().collect::<Vec<_>>(),
            expected.collect::<Vec<_>>()
        );
        calls.run(move || told.send((100, false)).unwrap());
        assert_eq!(seen.try_recv(), Ok((100, false)));
    }
    #[test]
    fn several_can_wait_for_the_end_and_for_all_that_waits() {
        let calls = Calls::start().unwrap();
        let (told, seen) = mpsc::channel();
        let (gate, closed) = mpsc::channel::<()>();
        let waiting = |wait: fn(&Calls)| {
            let (calls, told) = (calls.clone(), told.clone());
            std::thread::spawn(move || {
                wait(&calls);
                told.send("waited").unwrap();
            })
        };
        let first = told.clone();
        calls.run(move || {
            let _ = closed.recv();
            first.send("ran").unwrap();
        });
        let threads = [
            waiting(Calls::drain),
            waiting(Calls::stop),
            waiting(Calls::stop),
        ];
        assert!(!calls.wait(thread::deadline(20)));
        drop(gate);
        assert!(calls.wait(None));
        for it in threads {
            it.join().unwrap();
        }
        let seen: Vec<_> = seen.try_iter().collect();
        assert_eq!(seen, ["ran", "waited", "waited", "waited"]);
    }
}
