//! hyper's client on smol.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::Async;
use bytes::Bytes;
use futures_lite::{AsyncRead, AsyncWrite};
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::rt::ReadBufCursor;

use crate::client::Address;
use crate::failure::{During, Failure};

/// Bytes that one read moves at most.
const READ_BYTES: usize = 64 * 1_024;

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// Connects to a daemon.
///
/// # Errors
///
/// [`Failure`] that says how to start one if there is none.
pub(crate) async fn connect(address: &Address) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let socket: Box<dyn Socket> = match address {
        Address::Socket(path) => connect_unix(path).await?,
        Address::Tcp(it) => {
            let connected = Async::<TcpStream>::connect(*it).await;
            Box::new(connected.during(format!("nothing answers at {it}"))?)
        }
    };
    let (sender, connection) = handshake(Io {
        socket,
        chunk: vec![0; READ_BYTES],
    })
    .await
    .during(format!("no HTTP at {address}"))?;
    crate::spawn(async move {
        // Its end shows in the response.
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(unix)]
async fn connect_unix(path: &Path) -> Result<Box<dyn Socket>, Failure> {
    use std::os::unix::net::UnixStream;
    match Async::<UnixStream>::connect(path).await {
        Ok(socket) => Ok(Box::new(socket)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            let path = path.display();
            let message = format!("no daemon at {path}; start one with `kogge up`");
            Err(Failure::new("no-daemon", message))
        }
        Err(error) => Err(error).during(format!("cannot reach the daemon at {}", path.display())),
    }
}

#[cfg(not(unix))]
async fn connect_unix(_: &Path) -> Result<Box<dyn Socket>, Failure> {
    let message = "this system has no Unix sockets; use the daemon's HTTP port";
    Err(Failure::new("no-daemon", message))
}

/// A socket as hyper wants it.
struct Io {
    socket: Box<dyn Socket>,
    chunk: Vec<u8>,
}

impl hyper::rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let it = &mut *self;
        let wanted = it.chunk.len().min(buffer.remaining());
        let chunk = it.chunk.get_mut(..wanted).unwrap_or_default();
        let count = ready!(Pin::new(&mut it.socket).poll_read(cx, chunk))?;
        buffer.put_slice(chunk.get(..count).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}
