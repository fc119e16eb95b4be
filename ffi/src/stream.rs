//! Streams: an artifact that is read anywhere while it arrives.

use std::convert::Infallible;
use std::io;
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;

use async_channel::{Receiver, Sender};
use futures_lite::future;
use kogge::Artifact;

use crate::failure::Failure;
use crate::guard::{call, value};
use crate::handle;
use crate::host::Host;
use crate::input::out;
use crate::inside::Inside;
use crate::object::Object;
use crate::op::{Op, Outcome};
use crate::start::{buffer, finish, give_buffer, start};
use crate::status::kogge_status;
use crate::thread;
use crate::types::{kogge_buffer, kogge_completion, kogge_error, kogge_op, kogge_stream};

/// Most bytes of one chunk; larger wishes get this much.
const CHUNK_BYTES_MAX: usize = 4 << 20;

/// An artifact that is open for reading; the node of the host keeps it.
pub(crate) struct Stream {
    host: Arc<Host>,
    number: u64,
    size: u64,
    /// Closed when nobody reads any more.
    reading: (Sender<Infallible>, Receiver<Infallible>),
}

impl Stream {
    /// # Errors
    ///
    /// `Closed` if the node is closing; `Busy` if there are too many.
    pub(crate) fn open(host: &Arc<Host>, artifact: &Artifact) -> Result<Self, Failure> {
        Ok(Self {
            host: host.clone(),
            number: host.keep(artifact.clone())?,
            size: artifact.size(),
            reading: async_channel::bounded(1),
        })
    }

    fn artifact(&self) -> Result<Inside<Artifact>, Failure> {
        self.host.kept(self.number)
    }

    /// Waits on the host's thread for what `read` makes of the artifact, or for the stream to be
    /// freed.
    fn wait<T>(
        &self,
        timeout_ms: u64,
        read: impl AsyncFnOnce(&Artifact) -> io::Result<T>,
    ) -> Result<T, Failure> {
        let artifact = self.artifact()?;
        let freed = async {
            let _ = self.reading.1.recv().await;
            let message = "the stream was freed";
            Err(Failure::new(kogge_status::Closed, message))
        };
        let read = async { Ok(read(&artifact).await?) };
        let work = future::or(read, freed);
        self.host.wait(thread::deadline(timeout_ms), work)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.host.forget(self.number);
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
        let max = capacity.min(CHUNK_BYTES_MAX);
        let bytes = stream.wait(timeout_ms, async |it| it.read(offset, max).await)?;
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
        let file = stream.wait(timeout_ms, async |it| it.file().await)?;
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

/// Frees a stream; what has not come yet is fetched on. Calls that wait for its bytes return with
/// `KOGGE_STATUS_CLOSED`; operations that read it go on. Does nothing with NULL and stale handles.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_stream_free(stream: *mut kogge_stream) {
    value((), || {
        if let Some(Object::Stream(stream)) = handle::take::<Arc<Stream>>(stream.cast()) {
            stream.reading.0.close();
        }
    });
}
