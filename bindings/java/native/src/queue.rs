//! Operations, and the queue that a Java thread waits for.

use std::ptr::null_mut;

use jni::objects::JLongArray;
use jni::sys::{jint, jlong};
use kogge_abi::{
    kogge_completed, kogge_op_cancel, kogge_op_finish, kogge_op_free, kogge_op_get_progress,
    kogge_queue_free, kogge_queue_new, kogge_queue_next, kogge_status,
};

use crate::call::{check, handle, native, number};

/// Most items that one call takes.
const ITEMS_MAX: usize = 256;

/// Numbers of an item: tag, operation, status.
const ITEM_NUMBERS: usize = 3;

native!(Java_dev_kogge_Native_queueNew(_env) -> jlong {
    let (mut queue, mut error) = (null_mut(), null_mut());
    // SAFETY: both are writable.
    let status = unsafe { kogge_queue_new(&raw mut queue, &raw mut error) };
    check(status, error)?;
    Ok(number(queue))
});

// Waits for items and writes tag, operation and status of each. Gives their number; -1 when the queue
// was freed.
native!(Java_dev_kogge_Native_queueNext(
    env, queue: jlong, timeout_ms: jlong, items: JLongArray<'l>
) -> jint {
    let room = (items.len(env)? / ITEM_NUMBERS).min(ITEMS_MAX);
    let none = kogge_completed {
        tag: 0,
        op: null_mut(),
        status: kogge_status::Ok,
        kind: 0,
    };
    let (mut taken, mut count) = ([none; ITEMS_MAX], 0);
    // SAFETY: `taken` has room for `room` items; the count is writable.
    let status = unsafe {
        kogge_queue_next(
            handle(queue),
            timeout_ms.cast_unsigned(),
            taken.as_mut_ptr(),
            room,
            &raw mut count,
        )
    };
    match status {
        kogge_status::Ok => {}
        kogge_status::TimedOut | kogge_status::Again => return Ok(0),
        kogge_status::Closed | kogge_status::BadHandle => return Ok(-1),
        other => check(other, null_mut())?,
    }
    let numbers: Vec<jlong> = taken
        .iter()
        .take(count)
        .flat_map(|it| [it.tag.cast_signed(), number(it.op), jlong::from(it.status as i32)])
        .collect();
    items.set_region(env, 0, &numbers)?;
    Ok(jint::try_from(count).unwrap_or(0))
});

native!(Java_dev_kogge_Native_queueFree(_env, queue: jlong) -> () {
    kogge_queue_free(handle(queue));
    Ok(())
});

// Does nothing with an operation that was freed: it has ended.
native!(Java_dev_kogge_Native_opCancel(_env, op: jlong) -> () {
    let _ = kogge_op_cancel(handle(op));
    Ok(())
});

native!(Java_dev_kogge_Native_opProgress(env, op: jlong, numbers: JLongArray<'l>) -> () {
    let (mut done, mut total) = (0, 0);
    // SAFETY: both are writable.
    let status = unsafe { kogge_op_get_progress(handle(op), &raw mut done, &raw mut total) };
    check(status, null_mut())?;
    Ok(numbers.set_region(env, 0, &[done.cast_signed(), total.cast_signed()])?)
});

native!(Java_dev_kogge_Native_opFinish(_env, op: jlong) -> () {
    let mut error = null_mut();
    // SAFETY: the error is writable.
    let status = unsafe { kogge_op_finish(handle(op), &raw mut error) };
    check(status, error)
});

native!(Java_dev_kogge_Native_opFree(_env, op: jlong) -> () {
    kogge_op_free(handle(op));
    Ok(())
});
