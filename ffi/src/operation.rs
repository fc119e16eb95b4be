//! Operations and queues as C sees them.

use std::sync::Arc;

use crate::failure::Failure;
use crate::guard::{call, value};
use crate::handle;
use crate::input::out;
use crate::object::Object;
use crate::op::{Op, Outcome};
use crate::queue::{Item, Next, Queue};
use crate::start::finish;
use crate::status::kogge_status;
use crate::thread;
use crate::types::{kogge_completed, kogge_error, kogge_op, kogge_queue};

/// `kind` of a `kogge_completed`: an operation ended.
pub const KOGGE_COMPLETED_OP: i32 = 1;

/// `kind` of a `kogge_completed`: a subscription has events.
pub const KOGGE_COMPLETED_EVENTS: i32 = 2;

/// Most items that one call of `kogge_queue_next` takes.
const TAKE_MAX: usize = 4_096;

/// Waits for the end of an operation, at most `timeout_ms`: `KOGGE_STATUS_OK` when it has ended, in
/// whatever way; `KOGGE_STATUS_TIMED_OUT` if not. The operation goes on either way.
/// `KOGGE_STATUS_WOULD_DEADLOCK` in a callback of its node, if the end waits for callbacks: of opening, of
/// closing, and of a fetch into a `KOGGE_SINK_WRITER`.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_op_wait(op: *const kogge_op, timeout_ms: u64) -> kogge_status {
    value(kogge_status::BadHandle, || {
        match handle::get::<Arc<Op>>(op.cast()) {
            Ok(op) if op.status() == kogge_status::Again && op.waits_for_this_thread() => {
                kogge_status::WouldDeadlock
            }
            Ok(op) if op.wait(thread::deadline(timeout_ms)) => kogge_status::Ok,
            Ok(_) => kogge_status::TimedOut,
            Err(it) => it.status,
        }
    })
}

/// Asks an operation to end soon. It ends with `KOGGE_STATUS_CANCELLED`, unless it ended before, and
/// is told as ever. May be called any time and often.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_op_cancel(op: *const kogge_op) -> kogge_status {
    value(kogge_status::BadHandle, || {
        match handle::get::<Arc<Op>>(op.cast()) {
            Ok(op) => {
                op.cancel();
                kogge_status::Ok
            }
            Err(it) => it.status,
        }
    })
}

/// How an operation ended; `KOGGE_STATUS_AGAIN` while it runs.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_op_get_status(op: *const kogge_op) -> kogge_status {
    value(kogge_status::BadHandle, || {
        handle::get::<Arc<Op>>(op.cast()).map_or_else(|it| it.status, |it| it.status())
    })
}

/// How far an operation is: units done and in total, bytes for a fetch; zeros if that is not known.
///
/// # Safety
///
/// `done_out` and `total_out` are writable or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_op_get_progress(
    op: *const kogge_op,
    done_out: *mut u64,
    total_out: *mut u64,
) -> kogge_status {
    let body = || {
        let (done, total) = handle::get::<Arc<Op>>(op.cast())?.progress();
        for (target, number) in [(done_out, done), (total_out, total)] {
            if !target.is_null() {
                // SAFETY: as the caller promises.
                unsafe { target.write(number) };
            }
        }
        Ok(())
    };
    // SAFETY: no error object is wanted.
    unsafe { call(std::ptr::null_mut(), body) }
}

/// Takes the result of an operation that has no value: `kogge_node_live_start`,
/// `kogge_node_close_start`. For others it tells only why they failed.
///
/// # Safety
///
/// `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_op_finish(
    op: *mut kogge_op,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        finish(op, |it| match it {
            Outcome::Nothing => Ok(()),
            other => Err(other),
        })
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Frees an operation, and its result if that was not taken. One that runs is cancelled; its end is
/// told as ever, with a handle that is stale by then. Does nothing with NULL and stale handles.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_op_free(op: *mut kogge_op) {
    value((), || {
        if let Some(Object::Op(op)) = handle::take::<Arc<Op>>(op.cast()) {
            op.cancel();
        }
    });
}

/// Makes a completion queue. One queue can serve several nodes. Free it with `kogge_queue_free`.
///
/// # Safety
///
/// `queue_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_queue_new(
    queue_out: *mut *mut kogge_queue,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let target = out("queue_out", queue_out)?;
        let handle = handle::put(Object::Queue(Arc::new(Queue::default())))?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { target.write(handle.cast()) };
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Waits for items, at most `timeout_ms` (0 does not wait), and takes at most `capacity` of them:
/// `KOGGE_STATUS_OK` with at least one; `KOGGE_STATUS_TIMED_OUT`; `KOGGE_STATUS_AGAIN` after
/// `kogge_queue_wake`; `KOGGE_STATUS_CLOSED` when the queue was freed. Several threads may wait. In a
/// callback, do not wait here for an end that `kogge_op_wait` would refuse to wait for.
///
/// # Safety
///
/// `items_out` is writable for `capacity` items, `count_out` for one number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_queue_next(
    queue: *mut kogge_queue,
    timeout_ms: u64,
    items_out: *mut kogge_completed,
    capacity: usize,
    count_out: *mut usize,
) -> kogge_status {
    let body = || {
        let queue = handle::get::<Arc<Queue>>(queue.cast())?;
        let (items, count) = (out("items_out", items_out)?, out("count_out", count_out)?);
        if capacity == 0 {
            return Err(Failure::argument("capacity is 0"));
        }
        let fail = |status| Err(Failure::new(status, "no item"));
        let taken = match queue.next(capacity.min(TAKE_MAX), thread::deadline(timeout_ms)) {
            Next::Items(taken) => taken,
            Next::Woken => return fail(kogge_status::Again),
            Next::TimedOut => return fail(kogge_status::TimedOut),
            Next::Closed => return fail(kogge_status::Closed),
        };
        for (at, item) in taken.iter().enumerate() {
            // SAFETY: at most `capacity` items were taken; as the caller promises.
            unsafe { items.add(at).write(completed(item)) };
        }
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { count.write(taken.len()) };
        Ok(())
    };
    // SAFETY: no error object is wanted.
    unsafe { call(std::ptr::null_mut(), body) }
}

fn completed(item: &Item) -> kogge_completed {
    match *item {
        Item::Op { tag, op, status } => kogge_completed {
            tag,
            op: std::ptr::without_provenance_mut(op),
            status,
            kind: KOGGE_COMPLETED_OP,
        },
        Item::Events { tag } => kogge_completed {
            tag,
            op: std::ptr::null_mut(),
            status: kogge_status::Ok,
            kind: KOGGE_COMPLETED_EVENTS,
        },
    }
}

/// A descriptor that is readable while `kogge_queue_next` would not wait: for `poll` and its kin. Never
/// read from it or close it; it goes with the queue. -1 if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_queue_get_fd(queue: *const kogge_queue) -> i32 {
    value(-1, || {
        let queue = handle::get::<Arc<Queue>>(queue.cast());
        queue.and_then(|it| it.descriptor()).unwrap_or(-1)
    })
}

/// Lets one call of `kogge_queue_next` return with `KOGGE_STATUS_AGAIN`, now or next.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_queue_wake(queue: *mut kogge_queue) -> kogge_status {
    value(kogge_status::BadHandle, || {
        match handle::get::<Arc<Queue>>(queue.cast()) {
            Ok(queue) => {
                queue.wake();
                kogge_status::Ok
            }
            Err(it) => it.status,
        }
    })
}

/// Frees a queue; calls of `kogge_queue_next` return. Operations that would have been told there end
/// untold. Does nothing with NULL and stale handles.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_queue_free(queue: *mut kogge_queue) {
    value((), || {
        if let Some(Object::Queue(queue)) = handle::take::<Arc<Queue>>(queue.cast()) {
            queue.close();
        }
    });
}
