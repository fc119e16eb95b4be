//! Errors and buffers: values that are freed once.

use std::sync::Arc;

use crate::failure::Failure;
use crate::guard::value;
use crate::handle;
use crate::object::Object;
use crate::status::kogge_status;
use crate::types::{kogge_buffer, kogge_bytes, kogge_error, kogge_str};

const NO_TEXT: kogge_str = kogge_str::of("");

/// A view into an object, which the caller keeps alive by not freeing the handle.
fn view<T: ?Sized, V>(object: Result<Arc<T>, Failure>, none: V, look: impl FnOnce(&T) -> V) -> V
where
    Arc<T>: crate::object::Kind,
{
    object.map_or(none, |it| look(&it))
}

/// The code of an error; `KOGGE_STATUS_BAD_HANDLE` if it is none.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_error_get_code(error: *const kogge_error) -> kogge_status {
    let fallback = kogge_status::BadHandle;
    value(fallback, || {
        view(handle::get::<Arc<Failure>>(error.cast()), fallback, |it| {
            it.status
        })
    })
}

/// What failed, for people. Valid until the error is freed.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_error_get_message(error: *const kogge_error) -> kogge_str {
    value(NO_TEXT, || {
        view(handle::get::<Arc<Failure>>(error.cast()), NO_TEXT, |it| {
            kogge_str::of(&it.message)
        })
    })
}

/// The system's error number, or what a callback returned; 0 if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_error_get_os_code(error: *const kogge_error) -> i32 {
    value(0, || {
        view(handle::get::<Arc<Failure>>(error.cast()), 0, |it| {
            it.os_code
        })
    })
}

/// What programs may want to know: a JSON object, `{}` if there is nothing. Valid until the error is
/// freed.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_error_get_detail_json(error: *const kogge_error) -> kogge_str {
    value(NO_TEXT, || {
        view(handle::get::<Arc<Failure>>(error.cast()), NO_TEXT, |it| {
            kogge_str::of(&it.detail)
        })
    })
}

/// The cause number `depth`, from 0 (the nearest); empty if there are not so many. Valid until the
/// error is freed.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_error_get_cause(error: *const kogge_error, depth: usize) -> kogge_str {
    value(NO_TEXT, || {
        view(handle::get::<Arc<Failure>>(error.cast()), NO_TEXT, |it| {
            it.causes.get(depth).map_or(NO_TEXT, |it| kogge_str::of(it))
        })
    })
}

/// Frees an error. Does nothing with NULL and stale handles.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_error_free(error: *mut kogge_error) {
    value((), || drop(handle::take::<Arc<Failure>>(error.cast())));
}

/// The bytes of a buffer; none if it is no buffer. Valid until the buffer is freed.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_buffer_get_bytes(buffer: *const kogge_buffer) -> kogge_bytes {
    let none = kogge_bytes::of(&[]);
    value(none, || {
        view(handle::get::<Arc<Vec<u8>>>(buffer.cast()), none, |it| {
            kogge_bytes::of(it)
        })
    })
}

/// Another handle of the same bytes, without copying them; NULL if `buffer` is no buffer.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_buffer_clone(buffer: *const kogge_buffer) -> *mut kogge_buffer {
    value(std::ptr::null_mut(), || {
        let bytes = handle::get::<Arc<Vec<u8>>>(buffer.cast());
        let handle = bytes.and_then(|it| handle::put(Object::Buffer(it)));
        handle.map_or(std::ptr::null_mut(), |it| it.cast())
    })
}

/// Frees a buffer. Does nothing with NULL and stale handles.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_buffer_free(buffer: *mut kogge_buffer) {
    value((), || drop(handle::take::<Arc<Vec<u8>>>(buffer.cast())));
}

/// Objects that are alive in this process: 0 when everything was freed.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_debug_live_handles() -> usize {
    value(0, handle::live)
}
