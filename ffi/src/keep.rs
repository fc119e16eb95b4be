//! What is stored: looking it up, keeping it, making room.

use std::sync::Arc;

use kogge::{Blake3, BlobInfo, Digest, Node};

use crate::failure::Failure;
use crate::guard::call;
use crate::handle;
use crate::host::Host;
use crate::input::{out, text};
use crate::inside::Inside;
use crate::op::{Op, Outcome};
use crate::start::{finish, start};
use crate::status::kogge_status;
use crate::thread;
use crate::types::{kogge_completion, kogge_error, kogge_node, kogge_op, kogge_stored, kogge_str};

fn find(node: &Node, digest: &Digest) -> Result<BlobInfo, Failure> {
    let found = node.stored(digest)?;
    found.ok_or_else(|| {
        let message = format!("{digest} is not stored here");
        Failure::new(kogge_status::NotFound, message)
    })
}

/// What is stored, whole, under a digest (`blake3:` or `sha256:` and hex); `KOGGE_STATUS_NOT_FOUND` if
/// nothing is.
///
/// # Safety
///
/// `digest` is as its type says; `stored_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_store_stat(
    node: *mut kogge_node,
    digest: kogge_str,
    stored_out: *mut kogge_stored,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let target = out("stored_out", stored_out)?;
        // SAFETY: as the caller promises.
        let digest: Digest = unsafe { text("digest", digest)? }.parse()?;
        let node = host.node()?;
        let found = find(&node, &digest)?;
        let stored = kogge_stored {
            blake3: found.blake3.0,
            sha256: found.sha256.0,
            size: found.size,
            is_pinned: found.is_pinned,
        };
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { target.write(stored) };
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Keeps a stored artifact from being evicted (`pinned` 1), or no longer (0).
///
/// # Safety
///
/// `digest` is as its type says; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_store_pin(
    node: *mut kogge_node,
    digest: kogge_str,
    pinned: u8,
    timeout_ms: u64,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        // SAFETY: as the caller promises.
        let (node, blake3, pinned) = unsafe { pinning(&host, digest, pinned)? };
        let pin = async { Ok(node.pin(blake3, pinned).await?) };
        host.wait(thread::deadline(timeout_ms), pin)
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Starts to do what `kogge_store_pin` does; `kogge_op_finish` takes the result.
///
/// # Safety
///
/// `digest` is as its type says; `completion` is NULL or as its type says; `op_out` and `error` are
/// writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_store_pin_start(
    node: *mut kogge_node,
    digest: kogge_str,
    pinned: u8,
    completion: *const kogge_completion,
    op_out: *mut *mut kogge_op,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        // SAFETY: as the caller promises.
        let (node, blake3, pinned) = unsafe { pinning(&host, digest, pinned)? };
        let work = |_: &Arc<Op>| async move {
            node.pin(blake3, pinned).await?;
            Ok(Outcome::Nothing)
        };
        // SAFETY: as the caller promises.
        unsafe { start(&host, completion, op_out, work) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// # Safety
///
/// `digest` is as its type says.
unsafe fn pinning(
    host: &Arc<Host>,
    digest: kogge_str,
    pinned: u8,
) -> Result<(Inside<Node>, Blake3, bool), Failure> {
    // SAFETY: as the caller promises.
    let digest: Digest = unsafe { text("digest", digest)? }.parse()?;
    let node = host.node()?;
    let pinned = match pinned {
        0 => false,
        1 => true,
        other => return Err(Failure::argument(format!("{other} is neither 0 nor 1"))),
    };
    let found = find(&node, &digest)?;
    Ok((node, found.blake3, pinned))
}

/// Evicts what was used least lately until at most `bytes_max` bytes are stored, or all that is left is
/// pinned or in use. Writes the bytes that became free.
///
/// # Safety
///
/// `freed_out` is writable or NULL; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_store_shrink(
    node: *mut kogge_node,
    bytes_max: u64,
    timeout_ms: u64,
    freed_out: *mut u64,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let node = host.node()?;
        let shrink = async { Ok(node.shrink(bytes_max).await?) };
        let freed = host.wait(thread::deadline(timeout_ms), shrink)?;
        if !freed_out.is_null() {
            // SAFETY: as the caller promises.
            unsafe { freed_out.write(freed) };
        }
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Starts to do what `kogge_store_shrink` does.
///
/// # Safety
///
/// `completion` is NULL or as its type says; `op_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_store_shrink_start(
    node: *mut kogge_node,
    bytes_max: u64,
    completion: *const kogge_completion,
    op_out: *mut *mut kogge_op,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let node = host.node()?;
        let work = |_: &Arc<Op>| async move { Ok(Outcome::Number(node.shrink(bytes_max).await?)) };
        // SAFETY: as the caller promises.
        unsafe { start(&host, completion, op_out, work) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Takes the number of bytes that became free.
///
/// # Safety
///
/// `freed_out` is writable or NULL; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_store_shrink_finish(
    op: *mut kogge_op,
    freed_out: *mut u64,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let freed = finish(op, |it| match it {
            Outcome::Number(it) => Ok(it),
            other => Err(other),
        })?;
        if !freed_out.is_null() {
            // SAFETY: as the caller promises.
            unsafe { freed_out.write(freed) };
        }
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}
