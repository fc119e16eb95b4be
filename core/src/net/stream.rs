//! Raw streams: bytes both ways between two peers, without framing.
//!
//! The side that takes a stream begins with one byte: taken or busy. The side that opened it need
//! not wait for that byte; it learns of a refusal with its first read.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};

use crate::net::link::RawPermit;

/// The name on the wire.
pub(crate) const RAW_NAME: &str = "/kogge/exchange/1";

const TAKEN: u8 = 1;
const BUSY: u8 = 0;

/// A raw stream.
///
/// A clean end (`Ok(0)`) can also mean that the peer or its connection went away: contents need a
/// length or a digest. Dropping a stream without closing it resets it.
pub struct Stream {
    /// Boxed, because events carry streams and are many.
    inner: Box<libp2p::Stream>,
    greeting: Greeting,
    _permit: Option<RawPermit>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Greeting {
    /// We opened the stream and have not read the peer's byte yet.
    Expected,
    /// The peer opened the stream and we have not written our byte yet.
    Owed,
    Done,
}

impl Stream {
    /// A stream that we opened.
    pub(crate) fn opened(inner: libp2p::Stream) -> Self {
        Self {
            inner: Box::new(inner),
            greeting: Greeting::Expected,
            _permit: None,
        }
    }

    /// A stream that the peer opened and that we take.
    pub(crate) fn taken(inner: libp2p::Stream, permit: RawPermit) -> Self {
        Self {
            inner: Box::new(inner),
            greeting: Greeting::Owed,
            _permit: Some(permit),
        }
    }

    /// Gives up a stream that was to be taken.
    pub(crate) fn into_inner(self) -> libp2p::Stream {
        *self.inner
    }

    fn poll_greet(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.greeting == Greeting::Owed {
            if ready!(Pin::new(&mut self.inner).poll_write(cx, &[TAKEN]))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.greeting = Greeting::Done;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_be_greeted(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.greeting == Greeting::Expected {
            let mut byte = [BUSY];
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut byte))? {
                0 => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                _ if byte == [TAKEN] => self.greeting = Greeting::Done,
                _ => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::ConnectionRefused,
                        "the peer is busy; try again later or ask another one",
                    )));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Tells the peer that its stream is not taken, and closes it.
pub(crate) async fn refuse(mut stream: libp2p::Stream) {
    use futures::AsyncWriteExt;
    // If the peer does not learn it from the byte, it learns it from the reset.
    if stream.write_all(&[BUSY]).await.is_ok() {
        let _ = stream.close().await;
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.greeting == Greeting::Owed {
            ready!(self.poll_greet(cx))?;
            // The peer may wait for the byte before it sends.
            let _ = Pin::new(&mut self.inner).poll_flush(cx)?;
        }
        ready!(self.poll_be_greeted(cx))?;
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_greet(cx))?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_greet(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_greet(cx))?;
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({:?})", self.greeting)
    }
}
