//! Threads that a host does not notice, and waiting on the host's own.
//!
//! A thread of the library runs with all signals blocked that may come at any time: the host's
//! handlers do not run on it, and a write to a closed socket (`writev` has no flag against it) does
//! not kill the process. Signals that a thread brings upon itself are left as they are, for what the
//! host may have to catch crashes or to measure.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, MutexGuard, PoisonError};
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

/// Signals that a thread brings upon itself (blocked, they would end the process without a word), and
/// the profiler's, which has to reach the thread that it measures.
const OWN_SIGNALS: [i32; 8] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
    libc::SIGPROF,
];

/// The signals of this thread but [`OWN_SIGNALS`] are blocked while this lives.
struct Blocked(libc::sigset_t);

impl Blocked {
    fn signals() -> Self {
        let (mut most, mut before) = (MaybeUninit::uninit(), MaybeUninit::zeroed());
        // SAFETY: `sigfillset` makes a whole set of the first; `pthread_sigmask` reads it and writes
        // the second, which is a valid set of zeros if it should fail.
        unsafe {
            libc::sigfillset(most.as_mut_ptr());
            for signal in OWN_SIGNALS {
                libc::sigdelset(most.as_mut_ptr(), signal);
            }
            // What the host has blocked stays so.
            libc::pthread_sigmask(libc::SIG_BLOCK, most.as_ptr(), before.as_mut_ptr());
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

/// Waits on `condvar` once; `None` if the time is up.
pub(crate) fn wait_on<'g, T>(
    condvar: &Condvar,
    guard: MutexGuard<'g, T>,
    deadline: Deadline,
) -> Option<MutexGuard<'g, T>> {
    let Some(deadline) = deadline else {
        return Some(condvar.wait(guard).unwrap_or_else(PoisonError::into_inner));
    };
    let left = deadline.saturating_duration_since(now());
    if left.is_zero() {
        return None;
    }
    let waited = condvar.wait_timeout(guard, left);
    Some(waited.unwrap_or_else(PoisonError::into_inner).0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of this crate that reads the clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Wakes a thread that waits. What it waits for is remembered here: the thread's own token may be
/// taken by another wait inside it.
struct Unpark {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Unpark {
    /// Waits on this thread for [`Wake::wake`]; false if the time is up.
    fn wait(&self, deadline: Deadline) -> bool {
        loop {
            let left = deadline.map(|it| it.saturating_duration_since(now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            if self.is_woken.swap(false, Ordering::Acquire) {
                return true;
            }
            left.map_or_else(std::thread::park, std::thread::park_timeout);
        }
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
    let unpark = Arc::new(Unpark {
        thread: std::thread::current(),
        is_woken: AtomicBool::new(false),
    });
    let waker = Waker::from(unpark.clone());
    let mut context = Context::from_waker(&waker);
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(value) = poll_with(dispatch, work.as_mut(), &mut context) {
            return Some(value);
        }
        if !unpark.wait(deadline) {
            return None;
        }
    }
}

/// Runs `work` on this thread up to where it waits; `None` if that is before its end. It wakes nobody:
/// it must be polled again.
pub(crate) fn poll<T>(dispatch: &Dispatch, work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match poll_with(dispatch, work, &mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn poll_with<T>(
    dispatch: &Dispatch,
    work: Pin<&mut impl Future<Output = T>>,
    context: &mut Context<'_>,
) -> Poll<T> {
    let _blocked = Blocked::signals();
    tracing::dispatcher::with_default(dispatch, || work.poll(context))
}

#[cfg(test)]
mod tests {
    use futures_lite::future::poll_fn;

    use super::*;

    #[test]
    fn a_wait_inside_another_does_not_take_its_wake_up() {
        let none = Dispatch::none();
        let (mut waits, inner) = (0, Dispatch::none());
        let outer = poll_fn(|context| {
            waits += 1;
            if waits == 2 {
                return Poll::Ready(waits);
            }
            // As another thread may do it at any time.
            context.waker().wake_by_ref();
            let mut is_first = true;
            let nested = poll_fn(|context| {
                if !std::mem::take(&mut is_first) {
                    return Poll::Ready(());
                }
                let waker = context.waker().clone();
                std::thread::spawn(move || waker.wake()).join().unwrap();
                Poll::Pending
            });
            assert_eq!(block_on(&inner, None, nested), Some(()));
            Poll::Pending
        });
        assert_eq!(block_on(&none, deadline(60_000), outer), Some(2));
    }

    #[test]
    fn a_thread_leaves_its_own_signals_to_the_host_and_blocks_the_others() {
        let blocked = |signal| {
            let mut set = MaybeUninit::uninit();
            // SAFETY: nothing is changed; the set is written whole.
            unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), set.as_mut_ptr());
                libc::sigismember(set.as_ptr(), signal) == 1
            }
        };
        let look = move || [libc::SIGSEGV, libc::SIGPROF, libc::SIGPIPE, libc::SIGINT].map(blocked);
        let (told, seen) = std::sync::mpsc::channel();
        let thread = spawn("kogge-test", move || told.send(look()).unwrap());
        thread.unwrap().join().unwrap();
        assert_eq!(seen.recv(), Ok([false, false, true, true]));
        assert_eq!(look(), [false; 4]);
    }
}
