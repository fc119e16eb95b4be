//! Subscriptions to what happens in a node.

use std::mem::MaybeUninit;
use std::ptr::null_mut;

use jni::objects::JByteArray;
use jni::sys::jlong;
use kogge_abi::{
    kogge_event, kogge_event_filter, kogge_event_free, kogge_event_get, kogge_event_view,
    kogge_events_free, kogge_events_next, kogge_events_open, kogge_status,
};

use crate::call::{Bytes, Failure, check, handle, native, number};
use crate::pack::Record;

native!(Java_dev_kogge_Native_eventsOpen(
    env, node: jlong, kinds: JByteArray<'l>, after: jlong
) -> jlong {
    let kinds = Bytes::of(env, &kinds)?;
    let filter = kogge_event_filter {
        struct_size: size_of::<kogge_event_filter>(),
        kinds: kinds.text(),
        after: after.cast_unsigned(),
    };
    let (mut events, mut error) = (null_mut(), null_mut());
    // SAFETY: the filter is whole and lives until the call returns; the outputs are writable.
    let status = unsafe {
        kogge_events_open(handle(node), &raw const filter, &raw mut events, &raw mut error)
    };
    check(status, error)?;
    Ok(number(events))
});

// The next event; null if none came in time.
native!(Java_dev_kogge_Native_eventsNext(
    env, events: jlong, timeout_ms: jlong
) -> JByteArray<'l> {
    let (mut event, mut error) = (null_mut(), null_mut());
    // SAFETY: both are writable.
    let status = unsafe {
        kogge_events_next(
            handle(events),
            timeout_ms.cast_unsigned(),
            &raw mut event,
            &raw mut error,
        )
    };
    match check(status, error) {
        Err(_) if matches!(status, kogge_status::Again | kogge_status::TimedOut) => {
            return Ok(JByteArray::null());
        }
        other => other?,
    }
    let packed = pack(event);
    kogge_event_free(event);
    Ok(env.byte_array_from_slice(&packed?)?)
});

fn pack(event: *mut kogge_event) -> Result<Vec<u8>, Failure> {
    let mut view = MaybeUninit::<kogge_event_view>::uninit();
    // SAFETY: writable; written if the call succeeds.
    let view = unsafe {
        check(kogge_event_get(event, view.as_mut_ptr()), null_mut())?;
        view.assume_init()
    };
    let mut record = Record::default();
    for number in [view.number, view.lost, view.time_ms] {
        record.number(number);
    }
    record.text(view.kind);
    record.text(view.json);
    Ok(record.finish())
}

native!(Java_dev_kogge_Native_eventsFree(_env, events: jlong) -> () {
    kogge_events_free(handle(events));
    Ok(())
});
