//! Nodes.

use std::ptr::null_mut;

use jni::objects::{JByteArray, JLongArray};
use jni::sys::jlong;
use kogge_abi::{
    kogge_node_close_start, kogge_node_get_id, kogge_node_live_start, kogge_node_open_finish,
    kogge_node_open_start, kogge_node_query_json_finish, kogge_node_query_json_start,
};

use crate::call::{Bytes, check, handle, native, number, start, take};

native!(Java_dev_kogge_Native_nodeOpen(env, config: jlong, end: JLongArray<'l>) -> jlong {
    start(env, &end, |told, op, error| {
        // SAFETY: the completion is whole; the outputs are writable.
        unsafe {
            kogge_node_open_start(handle(config), told, op, error)
        }
    })
});

native!(Java_dev_kogge_Native_nodeOpenFinish(_env, op: jlong) -> jlong {
    let (mut node, mut error) = (null_mut(), null_mut());
    // SAFETY: both are writable.
    let status = unsafe { kogge_node_open_finish(handle(op), &raw mut node, &raw mut error) };
    check(status, error)?;
    Ok(number(node))
});

native!(Java_dev_kogge_Native_nodeClose(env, node: jlong, end: JLongArray<'l>) -> jlong {
    start(env, &end, |told, op, error| {
        // SAFETY: the completion is whole; the outputs are writable.
        unsafe {
            kogge_node_close_start(handle(node), told, op, error)
        }
    })
});

native!(Java_dev_kogge_Native_nodeId(env, node: jlong) -> JByteArray<'l> {
    let (mut id, mut error) = ([0_u8; 32], null_mut());
    // SAFETY: `id` has 32 bytes; the error is writable.
    let status = unsafe { kogge_node_get_id(handle(node), id.as_mut_ptr(), &raw mut error) };
    check(status, error)?;
    Ok(env.byte_array_from_slice(&id)?)
});

native!(Java_dev_kogge_Native_nodeLive(env, node: jlong, end: JLongArray<'l>) -> jlong {
    start(env, &end, |told, op, error| {
        // SAFETY: the completion is whole; the outputs are writable.
        unsafe {
            kogge_node_live_start(handle(node), told, op, error)
        }
    })
});

native!(Java_dev_kogge_Native_nodeQuery(
    env, node: jlong, topic: JByteArray<'l>, params: JByteArray<'l>, end: JLongArray<'l>
) -> jlong {
    let (topic, params) = (Bytes::of(env, &topic)?, Bytes::of(env, &params)?);
    start(env, &end, |told, op, error| {
        // SAFETY: the texts live until the call returns; the completion is whole; the outputs are writable.
        unsafe {
            kogge_node_query_json_start(
                handle(node),
                topic.text(),
                params.text(),
                told,
                op,
                error,
            )
        }
    })
});

native!(Java_dev_kogge_Native_nodeQueryFinish(env, op: jlong) -> JByteArray<'l> {
    let (mut json, mut error) = (null_mut(), null_mut());
    // SAFETY: both are writable.
    let status = unsafe { kogge_node_query_json_finish(handle(op), &raw mut json, &raw mut error) };
    check(status, error)?;
    take(env, json)
});
