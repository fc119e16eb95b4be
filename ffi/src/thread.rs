//! Threads that a host does not notice, and waiting on the host's own.
//!
//! A thread of the library runs with all signals blocked: the host's handlers do not run on it, and
//! a write to a closed socket (`writev` has no flag against it) does not kill the process.

use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use tracing::Dispatch;

use crate::guard;

/// Starts a thread that no signal interrupts. Threads that it starts inherit that.
pub(crate) fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let _blocked = Blocked::signals();
    std::thread::Builder::new()
        .name(name.into())
        .spawn(|| guard::inside(work))
}

impl Blocked {
    /// What a write to a closed pipe left here would end the process once signals are let in: the
    /// write has failed, and that is enough. Who blocks the signal himself finds it as ever.
    fn take_broken_pipe(&self) {
        let mut pipe = MaybeUninit::uninit();
        let none = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: both sets are whole: one was written by `pthread_sigmask`, the other is made here.
        unsafe {
            if libc::sigismember(&raw const self.0, libc::SIGPIPE) == 0 {
                libc::sigemptyset(pipe.as_mut_ptr());
                libc::sigaddset(pipe.as_mut_ptr(), libc::SIGPIPE);
                libc::sigtimedwait(pipe.as_ptr(), std::ptr::null_mut(), &raw const none);
            }
        }
    }
}

/// The signals of this thread are blocked while this lives.
struct Blocked(libc::sigset_t);

impl Blocked {
    fn signals() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::zeroed());
        // SAFETY: `sigfillset` makes a whole set of the first; `pthread_sigmask` reads it and writes
        // the second, which is a valid set of zeros if it should fail.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.take_broken_pipe();
        // SAFETY: the set was written by `pthread_sigmask`.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut())
        };
    }
}

/// A moment up to which something may wait; `None` is for ever.
pub(crate) type Deadline = Option<Instant>;

/// The moment in `timeout_ms` from now; `u64::MAX` is never.
pub(crate) fn deadline(timeout_ms: u64) -> Deadline {
    if timeout_ms == u64::MAX {
        return None;
    }
    now().checked_add(Duration::from_millis(timeout_ms))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of this crate that reads the clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `work` on this thread, at most until `deadline`; `None` if it is not ready by then.
///
/// Signals are blocked only while the work runs, so that threads it starts inherit that, and not
/// while it waits: Ctrl-C works as ever.
pub(crate) fn block_on<T>(
    dispatch: &Dispatch,
    deadline: Deadline,
    work: impl Future<Output = T>,
) -> Option<T> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut work = pin!(work);
    loop {
        let poll = || work.as_mut().poll(&mut context);
        let polled = {
            let _blocked = Blocked::signals();
            tracing::dispatcher::with_default(dispatch, poll)
        };
        if let Poll::Ready(value) = polled {
            return Some(value);
        }
        match deadline.map(|it| it.saturating_duration_since(now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => std::thread::park_timeout(left),
        }
    }
}
