//! The boundary of every exported function: no panic crosses it, no failure is lost, nothing works
//! in a fork.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;
use crate::handle;
use crate::object::Object;
use crate::status::kogge_status;
use crate::types::kogge_error;

thread_local! {
    /// Whether this thread runs code of the library, so that its panics are ours to report.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Set in a child of `fork`: the threads of the nodes are not there, and locks may be held for ever.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Runs the body of an exported function: a failure becomes a status and, if the caller wants it,
/// an error object at `*error`. Nothing is written there on success.
///
/// # Safety
///
/// `error` is NULL or writable.
pub(crate) unsafe fn call(
    error: *mut *mut kogge_error,
    body: impl FnOnce() -> Result<(), Failure>,
) -> kogge_status {
    let failure = match shielded(body) {
        Ok(()) => return kogge_status::Ok,
        Err(failure) => failure,
    };
    let status = failure.status;
    if !error.is_null() && !is_forked() {
        let put = || handle::put(Object::Error(failure.into()));
        if let Ok(Ok(handle)) = catch_unwind(AssertUnwindSafe(put)) {
            // SAFETY: the caller promises that it is writable.
            unsafe { error.write(handle.cast()) };
        }
    }
    status
}

/// Runs the body of a function that has a value instead of a status; `fallback` stands for a panic
/// and for a fork.
pub(crate) fn value<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    if is_forked() {
        return fallback;
    }
    prepare();
    inside(|| catch_unwind(AssertUnwindSafe(body))).unwrap_or(fallback)
}

fn shielded(body: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    if is_forked() {
        let message = "this process was forked after the library began to work in it: call exec, \
                       or fork earlier";
        return Err(Failure::new(kogge_status::BadHandle, message));
    }
    prepare();
    inside(|| catch_unwind(AssertUnwindSafe(body))).unwrap_or_else(|_| Err(Failure::panic()))
}

/// Marks this thread as running code of the library.
pub(crate) fn inside<T>(work: impl FnOnce() -> T) -> T {
    struct Outside(bool);
    impl Drop for Outside {
        fn drop(&mut self) {
            INSIDE.with(|it| it.set(self.0));
        }
    }
    let _outside = Outside(INSIDE.with(|it| it.replace(true)));
    work()
}

/// Prepares the process, once, before anything of the library runs: panics inside the library go to
/// the log of the node, not to the host's standard error; forks are noticed.
fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // Threads of nodes are named; others are inside only for the length of a call.
            let is_ours = INSIDE.with(Cell::get)
                || std::thread::current()
                    .name()
                    .is_some_and(|it| it.starts_with("kogge-"));
            if is_ours {
                let place = info.location().map(ToString::to_string);
                let text = info.payload_as_str().unwrap_or("no message");
                tracing::error!(place, text, "panic");
            } else {
                others(info);
            }
        }));
        // SAFETY: the function only stores a flag, which a child of `fork` may do.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
}

extern "C" fn forked() {
    FORKED.store(true, Ordering::Relaxed);
}

fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}
