//! The log: entries, queries, proofs, and verification without a node.

use std::ptr::null_mut;

use jni::Env;
use jni::objects::JByteArray;
use jni::sys::{jboolean, jint, jlong};
use kogge_abi::{
    KOGGE_WAIT_FOREVER, kogge_buffer, kogge_cursor_free, kogge_cursor_next,
    kogge_cursor_take_token, kogge_error, kogge_log_checkpoint, kogge_log_policy, kogge_log_prove,
    kogge_log_query_open, kogge_log_waybill, kogge_resolve, kogge_status, kogge_verify_bytes,
    kogge_verify_file,
};

use crate::call::{Bytes, Failure, check, handle, native, number, take};
use crate::fetch::name;
use crate::pack::rows;

native!(Java_dev_kogge_Native_resolve(
    env, node: jlong, what: JByteArray<'l>, file: JByteArray<'l>
) -> JByteArray<'l> {
    let (what, file) = (Bytes::of(env, &what)?, Bytes::of(env, &file)?);
    let (name, mut found, mut error) = (name(&what, &file), null_mut(), null_mut());
    // SAFETY: the texts live until the call returns; the outputs are writable.
    let status =
        unsafe { kogge_resolve(handle(node), &raw const name, &raw mut found, &raw mut error) };
    check(status, error)?;
    Ok(env.byte_array_from_slice(&rows(found, true)?)?)
});

native!(Java_dev_kogge_Native_cursorOpen(env, node: jlong, query: JByteArray<'l>) -> jlong {
    let query = Bytes::of(env, &query)?;
    let (mut cursor, mut error) = (null_mut(), null_mut());
    // SAFETY: the text lives until the call returns; the outputs are writable.
    let status = unsafe {
        kogge_log_query_open(handle(node), query.text(), &raw mut cursor, &raw mut error)
    };
    check(status, error)?;
    Ok(number(cursor))
});

// The next page; null after the last. Reads what is stored here, so it does not wait for anybody.
native!(Java_dev_kogge_Native_cursorNext(
    env, cursor: jlong, with_json: jboolean
) -> JByteArray<'l> {
    let (mut found, mut error) = (null_mut(), null_mut());
    // SAFETY: both are writable.
    let status = unsafe {
        kogge_cursor_next(handle(cursor), KOGGE_WAIT_FOREVER, &raw mut found, &raw mut error)
    };
    match check(status, error) {
        Err(_) if status == kogge_status::End => Ok(JByteArray::null()),
        Err(failure) => Err(failure),
        Ok(()) => Ok(env.byte_array_from_slice(&rows(found, with_json)?)?),
    }
});

native!(Java_dev_kogge_Native_cursorToken(env, cursor: jlong) -> JByteArray<'l> {
    let (mut token, mut error) = (null_mut(), null_mut());
    // SAFETY: both are writable.
    let status =
        unsafe { kogge_cursor_take_token(handle(cursor), &raw mut token, &raw mut error) };
    check(status, error)?;
    take(env, token)
});

native!(Java_dev_kogge_Native_cursorFree(_env, cursor: jlong) -> () {
    kogge_cursor_free(handle(cursor));
    Ok(())
});

/// The document that `ask` writes.
fn document<'l>(
    env: &mut Env<'l>,
    ask: impl FnOnce(*mut *mut kogge_buffer, *mut *mut kogge_error) -> kogge_status,
) -> Result<JByteArray<'l>, Failure> {
    let (mut buffer, mut error) = (null_mut(), null_mut());
    let status = ask(&raw mut buffer, &raw mut error);
    check(status, error)?;
    take(env, buffer)
}

native!(Java_dev_kogge_Native_checkpoint(env, node: jlong) -> JByteArray<'l> {
    // SAFETY: the outputs are writable.
    document(env, |out, error| unsafe { kogge_log_checkpoint(handle(node), out, error) })
});

native!(Java_dev_kogge_Native_policy(env, node: jlong) -> JByteArray<'l> {
    // SAFETY: the outputs are writable.
    document(env, |out, error| unsafe { kogge_log_policy(handle(node), out, error) })
});

native!(Java_dev_kogge_Native_prove(env, node: jlong, index: jlong) -> JByteArray<'l> {
    let index = index.cast_unsigned();
    // SAFETY: the outputs are writable.
    document(env, |out, error| unsafe { kogge_log_prove(handle(node), index, out, error) })
});

native!(Java_dev_kogge_Native_waybill(env, node: jlong, index: jlong) -> JByteArray<'l> {
    let index = index.cast_unsigned();
    // SAFETY: the outputs are writable.
    document(env, |out, error| unsafe { kogge_log_waybill(handle(node), index, out, error) })
});

native!(Java_dev_kogge_Native_verifyFile(
    env, path: JByteArray<'l>, waybill: JByteArray<'l>, kind: jint, trust: JByteArray<'l>
) -> JByteArray<'l> {
    let (path, waybill) = (Bytes::of(env, &path)?, Bytes::of(env, &waybill)?);
    let trust = Bytes::of(env, &trust)?;
    let (mut found, mut error) = (null_mut(), null_mut());
    // SAFETY: the inputs live until the call returns; the outputs are writable.
    let status = unsafe {
        kogge_verify_file(
            path.text(),
            waybill.view(),
            kind,
            trust.view(),
            &raw mut found,
            &raw mut error,
        )
    };
    check(status, error)?;
    Ok(env.byte_array_from_slice(&rows(found, true)?)?)
});

native!(Java_dev_kogge_Native_verifyBytes(
    env, artifact: JByteArray<'l>, waybill: JByteArray<'l>, kind: jint, trust: JByteArray<'l>
) -> JByteArray<'l> {
    let (artifact, waybill) = (Bytes::of(env, &artifact)?, Bytes::of(env, &waybill)?);
    let trust = Bytes::of(env, &trust)?;
    let (mut found, mut error) = (null_mut(), null_mut());
    // SAFETY: the inputs live until the call returns; the outputs are writable.
    let status = unsafe {
        kogge_verify_bytes(
            artifact.view(),
            waybill.view(),
            kind,
            trust.view(),
            &raw mut found,
            &raw mut error,
        )
    };
    check(status, error)?;
    Ok(env.byte_array_from_slice(&rows(found, true)?)?)
});
