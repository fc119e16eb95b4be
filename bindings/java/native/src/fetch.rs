//! Fetching artifacts, and streams of them.

use std::mem::MaybeUninit;
use std::ptr::null_mut;

use jni::objects::{JByteArray, JByteBuffer, JLongArray, JObjectArray};
use jni::sys::{jint, jlong};
use kogge_abi::{
    KOGGE_SINK_BUFFER, kogge_fetch_finish, kogge_fetch_request, kogge_fetch_result,
    kogge_fetch_start, kogge_name, kogge_sink, kogge_status, kogge_stream_free,
    kogge_stream_get_progress, kogge_stream_get_size, kogge_stream_read_at,
};

use crate::call::{Bytes, Failure, check, handle, native, number, start, take};
use crate::pack::Record;

/// Numbers of a request: offset, length, deadline, most bytes.
const REQUEST_NUMBERS: usize = 4;

pub(crate) fn name(what: &Bytes, file: &Bytes) -> kogge_name {
    kogge_name {
        struct_size: size_of::<kogge_name>(),
        what: what.text(),
        file: file.text(),
    }
}

native!(Java_dev_kogge_Native_fetch(
    env, node: jlong, what: JByteArray<'l>, file: JByteArray<'l>, numbers: JLongArray<'l>,
    sink: jint, place: jint, path: JByteArray<'l>, end: JLongArray<'l>
) -> jlong {
    let (what, file) = (Bytes::of(env, &what)?, Bytes::of(env, &file)?);
    let path = Bytes::of(env, &path)?;
    let mut request = [0; REQUEST_NUMBERS];
    numbers.get_region(env, 0, &mut request)?;
    let [range_offset, range_len, deadline_ms, max_bytes] = request.map(jlong::cast_unsigned);
    let request = kogge_fetch_request {
        struct_size: size_of::<kogge_fetch_request>(),
        name: name(&what, &file),
        range_offset,
        range_len,
        deadline_ms,
        max_bytes,
    };
    let sink = kogge_sink {
        struct_size: size_of::<kogge_sink>(),
        kind: sink,
        place_flags: place.cast_unsigned(),
        path: path.text(),
        fd: 0,
        reserved: 0,
        write_fn: None,
        user_data: null_mut(),
        drop_fn: None,
    };
    start(env, &end, |told, op, error| {
        // SAFETY: the texts live until the call returns; the structs are whole; the outputs are writable.
        unsafe {
            kogge_fetch_start(
                handle(node),
                &raw const request,
                &raw const sink,
                told,
                op,
                error,
            )
        }
    })
});

// Gives the result as a record: digests, size, index, bytes from the store and from peers, how it was
// placed, and the stream or 0. The bytes of a buffer go into the first element of `content`.
native!(Java_dev_kogge_Native_fetchFinish(
    env, op: jlong, content: JObjectArray<'l, JByteArray<'l>>, sink: jint
) -> JByteArray<'l> {
    let mut result = MaybeUninit::<kogge_fetch_result>::uninit();
    let (mut buffer, mut stream, mut error) = (null_mut(), null_mut(), null_mut());
    // SAFETY: the outputs are writable; the result is written if the call succeeds.
    let result = unsafe {
        let status = kogge_fetch_finish(
            handle(op),
            result.as_mut_ptr(),
            &raw mut buffer,
            &raw mut stream,
            &raw mut error,
        );
        check(status, error)?;
        result.assume_init()
    };
    let mut record = Record::default();
    record.digest(&result.blake3);
    record.digest(&result.sha256);
    for number in [
        result.size,
        result.log_index,
        result.bytes_from_store,
        result.bytes_from_peers,
        u64::from(result.placed),
        number(stream).cast_unsigned(),
    ] {
        record.number(number);
    }
    if sink == KOGGE_SINK_BUFFER {
        let bytes = take(env, buffer)?;
        content.set_element(env, 0, bytes)?;
    }
    let packed = env.byte_array_from_slice(&record.finish());
    if packed.is_err() {
        kogge_stream_free(stream);
    }
    Ok(packed?)
});

native!(Java_dev_kogge_Native_streamSize(_env, stream: jlong) -> jlong {
    Ok(kogge_stream_get_size(handle(stream)).cast_signed())
});

native!(Java_dev_kogge_Native_streamProgress(_env, stream: jlong) -> jlong {
    let (mut bytes, mut error) = (0, null_mut());
    // SAFETY: both are writable.
    let status =
        unsafe { kogge_stream_get_progress(handle(stream), &raw mut bytes, &raw mut error) };
    check(status, error)?;
    Ok(bytes.cast_signed())
});

// Reads into a direct buffer, from `at` on at most `len` bytes. Gives their number: 0 behind the end,
// -1 if none came in time.
native!(Java_dev_kogge_Native_streamRead(
    env, stream: jlong, offset: jlong, buffer: JByteBuffer<'l>, at: jint, len: jint,
    timeout_ms: jlong
) -> jint {
    let room = env.get_direct_buffer_capacity(&buffer)?;
    let (Ok(at), Ok(len)) = (usize::try_from(at), usize::try_from(len)) else {
        return Err(Failure::new(kogge_status::InvalidArgument, "negative bounds"));
    };
    if at.checked_add(len).is_none_or(|end| room < end) {
        return Err(Failure::new(kogge_status::InvalidArgument, "bounds outside of the buffer"));
    }
    let target = env.get_direct_buffer_address(&buffer)?;
    let (mut count, mut error) = (0, null_mut());
    // SAFETY: `at` and `len` lie in the buffer, which Java keeps until this returns; the outputs are
    // writable.
    let status = unsafe {
        kogge_stream_read_at(
            handle(stream),
            offset.cast_unsigned(),
            target.add(at),
            len,
            timeout_ms.cast_unsigned(),
            &raw mut count,
            &raw mut error,
        )
    };
    match check(status, error) {
        Err(_) if status == kogge_status::TimedOut => Ok(-1),
        Err(failure) => Err(failure),
        Ok(()) => Ok(jint::try_from(count).unwrap_or(0)),
    }
});

native!(Java_dev_kogge_Native_streamFree(_env, stream: jlong) -> () {
    kogge_stream_free(handle(stream));
    Ok(())
});
