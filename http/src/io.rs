//! hyper on smol: sockets and timers from `async-io`.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_lite::{AsyncRead, AsyncWrite};
use hyper::rt::{ReadBufCursor, Sleep};

/// Bytes that one read moves at most; requests are small.
const READ_BYTES: usize = 8 * 1_024;

/// A socket as hyper wants it.
///
/// Vectored writes are not offered: `writev` on a closed socket raises SIGPIPE, which would kill a
/// C host.
pub(crate) struct Io<T> {
    socket: T,
    stall_timeout: Duration,
    stalled: Option<async_io::Timer>,
}

impl<T> Io<T> {
    /// Wraps a socket. A client that takes no byte for `stall_timeout` while there is something to
    /// send loses its connection.
    pub(crate) fn new(socket: T, stall_timeout: Duration) -> Self {
        Self {
            socket,
            stall_timeout,
            stalled: None,
        }
    }
}

impl<T: AsyncRead + Unpin> hyper::rt::Read for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [0; READ_BYTES];
        let wanted = READ_BYTES.min(buffer.remaining());
        let chunk = chunk.get_mut(..wanted).unwrap_or_default();
        let count = ready!(Pin::new(&mut self.socket).poll_read(cx, chunk))?;
        buffer.put_slice(chunk.get(..count).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> hyper::rt::Write for Io<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let it = &mut *self;
        if let Poll::Ready(written) = Pin::new(&mut it.socket).poll_write(cx, bytes) {
            it.stalled = None;
            return Poll::Ready(written);
        }
        let timer = it
            .stalled
            .get_or_insert_with(|| async_io::Timer::after(it.stall_timeout));
        Pin::new(timer)
            .poll(cx)
            .map(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

/// hyper's timer over `async-io`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer;

struct Sleeping(async_io::Timer);

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

impl Sleep for Sleeping {}

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping(async_io::Timer::after(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping(async_io::Timer::at(deadline)))
    }
}
