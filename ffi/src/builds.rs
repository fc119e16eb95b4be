//! Asking the authorized nodes to add a package.

use std::sync::Arc;
use std::time::Duration;

use kogge::{BuildId, BuildSpec, Node, json};

use crate::failure::Failure;
use crate::guard::call;
use crate::handle;
use crate::host::Host;
use crate::input::{out, text};
use crate::inside::Inside;
use crate::node::build_id;
use crate::op::{Op, Outcome};
use crate::start::{buffer, finish, give_buffer, start};
use crate::status::kogge_status;
use crate::thread;
use crate::types::{kogge_buffer, kogge_completion, kogge_error, kogge_node, kogge_op, kogge_str};

/// Longest wait for a build; it is over long before, one way or the other.
const WAIT_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

async fn request(node: Inside<Node>, spec: BuildSpec) -> Result<Arc<Vec<u8>>, Failure> {
    let status = node.request_build(spec).await?;
    Ok(Arc::new(json::build(&status).to_string().into_bytes()))
}

async fn wait(node: Inside<Node>, id: BuildId) -> Result<Arc<Vec<u8>>, Failure> {
    if node.build(id).await?.is_none() {
        let message = format!("this node knows no build {id}");
        return Err(Failure::new(kogge_status::NotFound, message));
    }
    let status = node.wait_build(id, WAIT_MAX).await?;
    Ok(Arc::new(json::build(&status).to_string().into_bytes()))
}

/// Asks the authorized nodes to add a package to the log. `spec` is as for `kogge build`:
/// `docker library/alpine:3.20`, `docker quay.example/a/b:1 linux/amd64`, `maven org.example:lib:1.0`.
/// The answer is how the build stands, as JSON with `id`, `state` and `reason`. Asking twice for the
/// same gives the same build.
///
/// # Safety
///
/// `spec` is as its type says; `json_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_build_request(
    node: *mut kogge_node,
    spec: kogge_str,
    timeout_ms: u64,
    json_out: *mut *mut kogge_buffer,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let target = out("json_out", json_out)?;
        // SAFETY: as the caller promises.
        let spec: BuildSpec = unsafe { text("spec", spec)? }.parse()?;
        let work = request(host.node()?, spec);
        let json = host.wait(thread::deadline(timeout_ms), work)?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_buffer(target, json) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Starts to ask as `kogge_build_request` does; `kogge_build_finish` takes the answer.
///
/// # Safety
///
/// `spec` is as its type says; `completion` is NULL or as its type says; `op_out` and `error` are
/// writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_build_request_start(
    node: *mut kogge_node,
    spec: kogge_str,
    completion: *const kogge_completion,
    op_out: *mut *mut kogge_op,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        // SAFETY: as the caller promises.
        let spec: BuildSpec = unsafe { text("spec", spec)? }.parse()?;
        let node = host.node()?;
        let work = |_: &Arc<Op>| async move { Ok(Outcome::Buffer(request(node, spec).await?)) };
        // SAFETY: as the caller promises.
        unsafe { start(&host, completion, op_out, work) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Waits until a build is in the log or has failed; the answer is how it stands, as JSON: a build that
/// failed is `KOGGE_STATUS_OK` with `state` `failed` and the reason.
///
/// # Safety
///
/// `id` is as its type says; `json_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_build_wait(
    node: *mut kogge_node,
    id: kogge_str,
    timeout_ms: u64,
    json_out: *mut *mut kogge_buffer,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let target = out("json_out", json_out)?;
        // SAFETY: as the caller promises.
        let id = build_id(&unsafe { text("id", id)? })?;
        let work = wait(host.node()?, id);
        let json = host.wait(thread::deadline(timeout_ms), work)?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_buffer(target, json) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Starts to wait as `kogge_build_wait` does; `kogge_build_finish` takes the answer.
///
/// # Safety
///
/// `id` is as its type says; `completion` is NULL or as its type says; `op_out` and `error` are
/// writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_build_wait_start(
    node: *mut kogge_node,
    id: kogge_str,
    completion: *const kogge_completion,
    op_out: *mut *mut kogge_op,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        // SAFETY: as the caller promises.
        let id = build_id(&unsafe { text("id", id)? })?;
        let node = host.node()?;
        let work = |_: &Arc<Op>| async move { Ok(Outcome::Buffer(wait(node, id).await?)) };
        // SAFETY: as the caller promises.
        unsafe { start(&host, completion, op_out, work) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Takes the answer of `kogge_build_request_start` and `kogge_build_wait_start`.
///
/// # Safety
///
/// `json_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_build_finish(
    op: *mut kogge_op,
    json_out: *mut *mut kogge_buffer,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let target = out("json_out", json_out)?;
        let json = finish(op, buffer)?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_buffer(target, json) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}
