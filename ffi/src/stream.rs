//! Streams: an artifact that is read anywhere while it arrives.

use std::os::fd::IntoRawFd as _;
use std::sync::{Arc, Mutex, PoisonError};

use kogge::Artifact;

use crate::failure::Failure;
use crate::guard::{call, value};
use crate::handle;
use crate::host::Host;
use crate::input::out;
use crate::op::{Op, Outcome};
use crate::start::{buffer, finish, give_buffer, start};
use crate::status::kogge_status;
use crate::thread;
use crate::types::{kogge_buffer, kogge_completion, kogge_error, kogge_op, kogge_stream};

/// Most bytes of one chunk; larger wishes get this much.
const CHUNK_BYTES_MAX: usize = 4 << 20;

/// An artifact that is open for reading.
pub(crate) struct Stream {
    host: Arc<Host>,
    size: u64,
    /// Gone once the node is closed.
    artifact: Mutex<Option<Artifact>>,
}

impl Stream {
    pub(crate) fn new(host: Arc<Host>, artifact: Artifact) -> Self {
        Self {
            host,
            size: artifact.size(),
            artifact: Mutex::new(Some(artifact)),
        }
    }

    pub(crate) fn close(&self) {
        drop(
            self.artifact
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    fn artifact(&self) -> Result<Artifact, Failure> {
        let artifact = self.artifact.lock().unwrap_or_else(PoisonError::into_inner);
        artifact.clone().ok_or_else(Failure::closed)
    }
}

/// Length of the artifact. Unit: bytes. 0 if `stream` is none.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_stream_get_size(stream: *const kogge_stream) -> u64 {
    value(0, || {
        handle::get::<Arc<Stream>>(stream.cast()).map_or(0, |it| it.size)
    })
}

/// Bytes that are here and verified.
///
/// # Safety
///
/// `bytes_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_stream_get_progress(
    stream: *const kogge_stream,
    bytes_out: *mut u64,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let stream = handle::get::<Arc<Stream>>(stream.cast())?;
        let target = out("bytes_out", bytes_out)?;
        let done = stream.artifact()?.progress();
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { target.write(done) };
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Reads bytes from `offset` on as soon as some have come, at most `capacity`; fewer may come at any
/// time, 0 only behind the end. Reads of one stream may run at the same time.
///
/// # Safety
///
/// `bytes_out` is writable for `capacity` bytes until the call returns; `count_out` and `error` are
/// writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_stream_read_at(
    stream: *mut kogge_stream,
    offset: u64,
    bytes_out: *mut u8,
    capacity: usize,
    timeout_ms: u64,
    count_out: *mut usize,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let stream = handle::get::<Arc<Stream>>(stream.cast())?;
        let (target, count) = (out("bytes_out", bytes_out)?, out("count_out", count_out)?);
        let artifact = stream.artifact()?;
        let read = async { Ok(artifact.read(offset, capacity.min(CHUNK_BYTES_MAX)).await?) };
        let bytes = stream.host.wait(thread::deadline(timeout_ms), read)?;
        // SAFETY: at most `capacity` bytes were read; checked not to be NULL; as the caller promises.
        unsafe {
            target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            count.write(bytes.len());
        }
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Starts to read bytes from `offset` on, at most `max_len`.
///
/// # Safety
///
/// `completion` is NULL or as its type says; `op_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_stream_chunk_start(
    stream: *mut kogge_stream,
    offset: u64,
    max_len: usize,
    completion: *const kogge_completion,
    op_out: *mut *mut kogge_op,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let stream = handle::get::<Arc<Stream>>(stream.cast())?;
        let (host, artifact) = (stream.host.clone(), stream.artifact()?);
        let work = |_: &Arc<Op>| async move {
            let bytes = artifact.read(offset, max_len.min(CHUNK_BYTES_MAX)).await?;
            Ok(Outcome::Buffer(Arc::new(bytes.into())))
        };
        // SAFETY: as the caller promises.
        unsafe { start(&host, completion, op_out, work) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Takes the bytes; an empty buffer lies behind the end.
///
/// # Safety
///
/// `chunk_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_stream_chunk_finish(
    op: *mut kogge_op,
    chunk_out: *mut *mut kogge_buffer,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let target = out("chunk_out", chunk_out)?;
        let bytes = finish(op, buffer)?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_buffer(target, bytes) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Waits until the artifact is whole, and opens the store's file of it for reading: the caller closes
/// the descriptor. `KOGGE_STATUS_UNSUPPORTED` if the artifact is too small to have a file.
///
/// # Safety
///
/// `fd_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_stream_take_fd(
    stream: *mut kogge_stream,
    timeout_ms: u64,
    fd_out: *mut i32,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let stream = handle::get::<Arc<Stream>>(stream.cast())?;
        let target = out("fd_out", fd_out)?;
        let artifact = stream.artifact()?;
        let open = async { Ok(artifact.file().await?) };
        let file = stream.host.wait(thread::deadline(timeout_ms), open)?;
        let file = file.ok_or_else(|| {
            let message = "the artifact is too small to have a file; read it";
            Failure::new(kogge_status::Unsupported, message)
        })?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { target.write(file.into_raw_fd()) };
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Frees a stream; what has not come yet is fetched on. Does nothing with NULL and stale handles.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_stream_free(stream: *mut kogge_stream) {
    value((), || drop(handle::take::<Arc<Stream>>(stream.cast())));
}
