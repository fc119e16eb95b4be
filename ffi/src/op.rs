//! Operations: something that was started, and exactly one end of it.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use event_listener::Event;

use crate::calls::Calls;
use crate::failure::Failure;
use crate::fetch::Fetched;
use crate::host::Host;
use crate::queue::Place;
use crate::rows::Rows;
use crate::status::kogge_status;
use crate::tether::Released;
use crate::thread::{self, Deadline};
use crate::types::{kogge_done_fn, kogge_drop_fn};

/// What an operation came to, if it succeeded.
pub(crate) enum Outcome {
    Nothing,
    Node(Arc<Host>),
    Fetched(Fetched),
    Rows(Option<Arc<Rows>>),
    Buffer(Arc<Vec<u8>>),
    Number(u64),
}

type Progress = Box<dyn Fn() -> (u64, u64) + Send + Sync>;

/// An operation.
#[derive(Default)]
pub(crate) struct Op {
    state: Mutex<State>,
    ended: Condvar,
    is_cancelled: AtomicBool,
    cancel: Event,
    progress: Mutex<Option<Progress>>,
    /// Its handle, for who is told of its end.
    handle: AtomicUsize,
    /// The callback thread that its end waits for.
    ends_after: OnceLock<Weak<Calls>>,
    /// What must be over before it ends.
    held: OnceLock<Released>,
}

#[derive(Default)]
enum State {
    #[default]
    Running,
    /// The result is gone once it was taken.
    Ended(kogge_status, Option<Result<Outcome, Failure>>),
}

impl Op {
    pub(crate) fn set_handle(&self, handle: *mut c_void) {
        self.handle.store(handle.addr(), Ordering::SeqCst);
    }

    pub(crate) fn handle(&self) -> usize {
        self.handle.load(Ordering::SeqCst)
    }

    /// It will not end before what holds it has let go.
    pub(crate) fn hold(&self, held: Released) {
        let _ = self.held.set(held);
    }

    /// Waits until nothing holds it any more.
    pub(crate) async fn released(&self) {
        if let Some(held) = self.held.get() {
            held.wait().await;
        }
    }

    /// It will not end before callbacks have returned that run on the thread of `calls`.
    pub(crate) fn end_after(&self, calls: &Arc<Calls>) {
        let _ = self.ends_after.set(Arc::downgrade(calls));
    }

    /// Whether this thread would wait for itself if it waited for the end.
    pub(crate) fn waits_for_this_thread(&self) -> bool {
        let calls = self.ends_after.get().and_then(Weak::upgrade);
        calls.is_some_and(|it| it.is_here())
    }

    /// Ends it, unless it has ended: then this is ignored. True if this was the end.
    pub(crate) fn end(&self, result: Result<Outcome, Failure>) -> bool {
        let status = result
            .as_ref()
            .err()
            .map_or(kogge_status::Ok, |it| it.status);
        let mut state = self.state();
        if matches!(*state, State::Ended(..)) {
            return false;
        }
        *state = State::Ended(status, Some(result));
        drop(state);
        // What it measures must not outlive the work.
        let (done, total) = self.progress();
        self.measure(move || (done, total));
        self.ended.notify_all();
        true
    }

    /// Ends it as the last operation of a node, after which no callback runs, and tells of it.
    pub(crate) fn end_with(
        self: &Arc<Self>,
        mut notice: Notice,
        calls: &Calls,
        result: Result<Outcome, Failure>,
    ) {
        // Who only waits may unload the library or exit when it hears of the end: then no callback may
        // be on its way. Who is called back hears of it in the last callback: all others have run.
        if notice.done_fn.is_none() {
            notice.release(calls);
            calls.stop();
        } else {
            calls.drain();
        }
        self.end(result);
        notice.tell(self, calls);
        calls.stop();
    }

    /// How it ended; `Again` while it runs.
    pub(crate) fn status(&self) -> kogge_status {
        match *self.state() {
            State::Running => kogge_status::Again,
            State::Ended(status, _) => status,
        }
    }

    /// Waits for the end; false if the time is up before.
    pub(crate) fn wait(&self, deadline: Deadline) -> bool {
        let mut state = self.state();
        while matches!(*state, State::Running) {
            let Some(woken) = thread::wait_on(&self.ended, state, deadline) else {
                return false;
            };
            state = woken;
        }
        true
    }

    /// Takes the result if `choose` wants it; a failure stays to be read again.
    ///
    /// # Errors
    ///
    /// The operation's failure; `Again` while it runs; `InvalidArgument` if the result was taken,
    /// or is of another kind.
    pub(crate) fn finish<T>(
        &self,
        choose: impl FnOnce(Outcome) -> Result<T, Outcome>,
    ) -> Result<T, Failure> {
        let mut state = self.state();
        let State::Ended(_, result) = &mut *state else {
            let message = "the operation runs; wait for its end";
            return Err(Failure::new(kogge_status::Again, message));
        };
        match result.take() {
            None => Err(Failure::argument("the result was taken before")),
            Some(Err(failure)) => {
                *result = Some(Err(failure.clone()));
                Err(failure)
            }
            Some(Ok(outcome)) => choose(outcome).map_err(|other| {
                *result = Some(Ok(other));
                Failure::argument("the operation is of another kind")
            }),
        }
    }

    /// Asks it to end. This is remembered, and may come any time and often.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        self.cancel.notify(usize::MAX);
    }

    /// Whether it was asked to end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::SeqCst)
    }

    /// Waits until it is asked to end.
    pub(crate) async fn cancelled(&self) {
        loop {
            let asked = self.cancel.listen();
            if self.is_cancelled() {
                return;
            }
            asked.await;
        }
    }

    /// Says from now on how far it is: units done, and units in total.
    pub(crate) fn measure(&self, progress: impl Fn() -> (u64, u64) + Send + Sync + 'static) {
        *self.measured() = Some(Box::new(progress));
    }

    /// Units done, and units in total; zeros if that is not known.
    pub(crate) fn progress(&self) -> (u64, u64) {
        self.measured().as_ref().map_or((0, 0), |it| it())
    }

    fn measured(&self) -> MutexGuard<'_, Option<Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pointer of the host, which the library only hands back.
#[derive(Clone, Copy)]
pub(crate) struct UserData(pub(crate) *mut c_void);

// SAFETY: the pointer is never followed here; the header tells hosts on which thread it comes back.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

/// Whom to tell of an end. If it is dropped, nobody is told, and the host keeps what it lent: the
/// operation did not start.
pub(crate) struct Notice {
    pub(crate) done_fn: kogge_done_fn,
    pub(crate) user_data: UserData,
    pub(crate) drop_fn: kogge_drop_fn,
    pub(crate) place: Option<Place>,
}

impl Default for Notice {
    fn default() -> Self {
        Self {
            done_fn: None,
            user_data: UserData(std::ptr::null_mut()),
            drop_fn: None,
            place: None,
        }
    }
}

impl Notice {
    /// Releases what the host lent, before the end is told.
    pub(crate) fn release(&mut self, calls: &Calls) {
        let release = Release {
            user_data: self.user_data,
            drop_fn: self.drop_fn.take(),
        };
        if release.drop_fn.is_some() {
            calls.run(move || drop(release));
        }
    }

    /// Tells of the end of `op`, once.
    pub(crate) fn tell(self, op: &Op, calls: &Calls) {
        let (handle, status) = (op.handle(), op.status());
        if let Some(place) = self.place {
            place.take(handle, status);
        }
        let (done_fn, release) = (
            self.done_fn,
            Release {
                user_data: self.user_data,
                drop_fn: self.drop_fn,
            },
        );
        if done_fn.is_none() && release.drop_fn.is_none() {
            return;
        }
        calls.run(move || {
            let release = release;
            if let Some(done_fn) = done_fn {
                let op = std::ptr::without_provenance_mut(handle);
                // SAFETY: a function of the host, called as the header says.
                unsafe { done_fn(release.user_data.0, op, status) };
            }
        });
    }
}

/// Releases what the host lent, when it is dropped.
pub(crate) struct Release {
    pub(crate) user_data: UserData,
    pub(crate) drop_fn: kogge_drop_fn,
}

impl Release {
    /// The host keeps what it lent: the call that would have taken it failed.
    pub(crate) fn forget(&mut self) {
        self.drop_fn = None;
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if let Some(drop_fn) = self.drop_fn.take() {
            // SAFETY: a function of the host, called as the header says.
            unsafe { drop_fn(self.user_data.0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Item, Next, Queue};

    unsafe extern "C" fn count(data: *mut c_void) {
        // SAFETY: the tests hand over a live number.
        unsafe { &*data.cast::<AtomicUsize>() }.fetch_add(1, Ordering::SeqCst);
    }

    fn notice(drops: &AtomicUsize, queue: &Arc<Queue>) -> Notice {
        Notice {
            done_fn: None,
            user_data: UserData(std::ptr::from_ref(drops).cast_mut().cast()),
            drop_fn: Some(count),
            place: Some(Place::reserve(queue.clone(), 3).unwrap()),
        }
    }

    #[test]
    fn who_is_not_told_is_not_released_and_holds_no_place() {
        let (drops, queue) = (AtomicUsize::new(0), Arc::new(Queue::default()));
        drop(notice(&drops, &queue));
        assert_eq!(drops.load(Ordering::SeqCst), 0);
        let (op, calls) = (Op::default(), Calls::start().unwrap());
        op.end(Ok(Outcome::Nothing));
        notice(&drops, &queue).tell(&op, &calls);
        calls.stop();
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        let told = Item::Op {
            tag: 3,
            op: 0,
            status: kogge_status::Ok,
        };
        assert_eq!(queue.next(9, None), Next::Items(vec![told]));
    }

    #[test]
    fn an_operation_ends_once() {
        let op = Op::default();
        assert_eq!(op.status(), kogge_status::Again);
        assert!(op.end(Err(Failure::timed_out())));
        assert!(!op.end(Ok(Outcome::Nothing)));
        assert_eq!(op.status(), kogge_status::TimedOut);
        for _ in 0..2 {
            let failed = op.finish(Ok).err();
            assert_eq!(failed, Some(Failure::timed_out()));
        }
    }
}
