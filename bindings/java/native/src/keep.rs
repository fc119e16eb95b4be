//! What is stored, and asking for builds.

use std::mem::MaybeUninit;
use std::ptr::null_mut;

use jni::objects::{JByteArray, JLongArray};
use jni::sys::{jboolean, jlong};
use kogge_abi::{
    kogge_build_finish, kogge_build_request_start, kogge_build_wait_start, kogge_store_pin_start,
    kogge_store_shrink_finish, kogge_store_shrink_start, kogge_store_stat, kogge_stored,
};

use crate::call::{Bytes, check, handle, native, start, take};
use crate::pack::Record;

native!(Java_dev_kogge_Native_stat(env, node: jlong, digest: JByteArray<'l>) -> JByteArray<'l> {
    let (digest, mut error) = (Bytes::of(env, &digest)?, null_mut());
    let mut stored = MaybeUninit::<kogge_stored>::uninit();
    // SAFETY: the text lives until the call returns; the outputs are writable; `stored` is written if
    // the call succeeds.
    let stored = unsafe {
        let status =
            kogge_store_stat(handle(node), digest.text(), stored.as_mut_ptr(), &raw mut error);
        check(status, error)?;
        stored.assume_init()
    };
    let mut record = Record::default();
    record.digest(&stored.blake3);
    record.digest(&stored.sha256);
    record.number(stored.size);
    record.number(u64::from(stored.is_pinned));
    Ok(env.byte_array_from_slice(&record.finish())?)
});

native!(Java_dev_kogge_Native_pin(
    env, node: jlong, digest: JByteArray<'l>, pinned: jboolean, end: JLongArray<'l>
) -> jlong {
    let digest = Bytes::of(env, &digest)?;
    start(env, &end, |told, op, error| {
        // SAFETY: the text lives until the call returns; the completion is whole; the outputs are writable.
        unsafe {
            kogge_store_pin_start(
                handle(node),
                digest.text(),
                u8::from(pinned),
                told,
                op,
                error,
            )
        }
    })
});

native!(Java_dev_kogge_Native_shrink(
    env, node: jlong, bytes_max: jlong, end: JLongArray<'l>
) -> jlong {
    start(env, &end, |told, op, error| {
        // SAFETY: the completion is whole; the outputs are writable.
        unsafe {
            kogge_store_shrink_start(
                handle(node),
                bytes_max.cast_unsigned(),
                told,
                op,
                error,
            )
        }
    })
});

native!(Java_dev_kogge_Native_shrinkFinish(_env, op: jlong) -> jlong {
    let (mut freed, mut error) = (0, null_mut());
    // SAFETY: both are writable.
    let status = unsafe { kogge_store_shrink_finish(handle(op), &raw mut freed, &raw mut error) };
    check(status, error)?;
    Ok(freed.cast_signed())
});

native!(Java_dev_kogge_Native_buildRequest(
    env, node: jlong, spec: JByteArray<'l>, end: JLongArray<'l>
) -> jlong {
    let spec = Bytes::of(env, &spec)?;
    start(env, &end, |told, op, error| {
        // SAFETY: the text lives until the call returns; the completion is whole; the outputs are writable.
        unsafe {
            kogge_build_request_start(
                handle(node),
                spec.text(),
                told,
                op,
                error,
            )
        }
    })
});

native!(Java_dev_kogge_Native_buildWait(
    env, node: jlong, id: JByteArray<'l>, end: JLongArray<'l>
) -> jlong {
    let id = Bytes::of(env, &id)?;
    start(env, &end, |told, op, error| {
        // SAFETY: the text lives until the call returns; the completion is whole; the outputs are writable.
        unsafe {
            kogge_build_wait_start(
                handle(node),
                id.text(),
                told,
                op,
                error,
            )
        }
    })
});

native!(Java_dev_kogge_Native_buildFinish(env, op: jlong) -> JByteArray<'l> {
    let (mut json, mut error) = (null_mut(), null_mut());
    // SAFETY: both are writable.
    let status = unsafe { kogge_build_finish(handle(op), &raw mut json, &raw mut error) };
    check(status, error)?;
    take(env, json)
});
