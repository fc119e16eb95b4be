//! Many streams over one connection: yamux with limits of our own.
//!
//! What this adds to the `yamux` crate: a limit of the receive windows, so that a peer can make us
//! buffer only so much; limits of open streams in each direction that reset one stream instead of
//! ending the connection; a close that does not wait for a peer that stopped reading; and reads
//! that go on while writes are blocked (see [`Relief`]).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::Timer;
use futures::future::{self, FutureExt};
use futures::task::AtomicWaker;
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::UpgradeInfo;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use yamux::{Connection, Mode};

use crate::net::traffic::Traffic;

/// Streams that we hold open towards one peer; at the limit opening waits.
pub(crate) const OUTBOUND_STREAMS_MAX: usize = 56;

/// Streams that one peer holds open towards us; a further one is reset.
pub(crate) const INBOUND_STREAMS_MAX: usize = 64;

/// Streams of both kinds known to yamux, which ends the connection beyond. More than the sum of
/// the two limits, because a stream that was reset is known for a moment longer.
const STREAMS_MAX: usize = 144;

/// Inbound streams that wait for being negotiated; a further one is reset.
const INBOUND_WAITING_MAX: usize = 32;

/// Receive windows of all streams of a connection together. Unit: bytes.
///
/// Each stream starts with 256 KiB, which sums up to 36 MiB; the rest is what a busy stream may
/// gain: enough for 200 MB/s at a round trip of 100 ms.
const WINDOW_BYTES_MAX: usize = STREAMS_MAX * yamux::DEFAULT_CREDIT as usize + (20 << 20);

/// After that a connection is dropped, whatever its peer has not read yet.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// So long a closed connection is still read; enough for a round trip.
const LINGER_TIMEOUT: Duration = Duration::from_millis(500);

/// Bytes read at once of what nobody wants any more.
const SCRAP_BYTES: usize = 4 << 10;

/// Bytes that one relief lets through: the rest of a data frame and the answer to a ping.
const RELIEF_BYTES: usize = 17 << 10;

/// Bytes held back for a peer that sends without reading; beyond, we stop reading, too.
pub(crate) const RELIEF_BYTES_MAX: usize = 64 << 10;

/// The upgrade that makes a [`Muxer`] of a secured connection.
#[derive(Clone)]
pub(crate) struct Mux {
    /// Where the bytes of the connection are counted.
    pub(crate) traffic: Arc<Traffic>,
}

impl UpgradeInfo for Mux {
    type Info = &'static str;
    type InfoIter = std::iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once("/yamux/1.0.0")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<S> for Mux {
    type Output = Muxer<S>;
    type Error = Infallible;
    type Future = future::Ready<Result<Muxer<S>, Infallible>>;

    fn upgrade_inbound(self, socket: S, _: Self::Info) -> Self::Future {
        future::ready(Ok(Muxer::new(socket, Mode::Server, self.traffic)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<S> for Mux {
    type Output = Muxer<S>;
    type Error = Infallible;
    type Future = future::Ready<Result<Muxer<S>, Infallible>>;

    fn upgrade_outbound(self, socket: S, _: Self::Info) -> Self::Future {
        future::ready(Ok(Muxer::new(socket, Mode::Client, self.traffic)))
    }
}

/// A connection that carries streams.
pub(crate) struct Muxer<S> {
    connection: Connection<Relief<S>>,
    valve: Arc<Valve>,
    waiting: VecDeque<Substream>,
    inbound: Arc<Slots>,
    outbound: Arc<Slots>,
    closing: Option<Timer>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Muxer<S> {
    pub(crate) fn new(socket: S, mode: Mode, traffic: Arc<Traffic>) -> Self {
        let mut config = yamux::Config::default();
        // In this order: the window must fit the streams at each step.
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(STREAMS_MAX);
        config.set_max_connection_receive_window(Some(WINDOW_BYTES_MAX));
        let valve = Arc::<Valve>::default();
        let relief = Relief {
            socket,
            held: VecDeque::new(),
            valve: valve.clone(),
            traffic,
            lingering: None,
        };
        Self {
            connection: Connection::new(relief, config, mode),
            valve,
            waiting: VecDeque::new(),
            inbound: Arc::default(),
            outbound: Arc::default(),
            closing: None,
        }
    }

    /// Moves bytes both ways until nothing more can be done or a stream arrives.
    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<yamux::Stream>> {
        loop {
            self.valve.was_read.store(false, Ordering::Relaxed);
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(outcome)) => return Poll::Ready(outcome.map_err(to_io)),
                Poll::Ready(None) => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Pending => (),
            }
            if self.valve.was_read.load(Ordering::Relaxed) || !self.valve.open() {
                return Poll::Pending;
            }
        }
    }

    fn take_inbound(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while let Poll::Ready(stream) = self.poll_connection(cx) {
            let stream = stream?;
            // A stream that is dropped is reset: the peer sees that it was refused.
            if self.waiting.len() < INBOUND_WAITING_MAX
                && let Some(slot) = Slot::take(&self.inbound, INBOUND_STREAMS_MAX)
            {
                self.waiting.push_back(Substream {
                    stream,
                    _slot: slot,
                });
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<S> {
    type Substream = Substream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Substream>> {
        if self.waiting.is_empty() {
            self.take_inbound(cx)?;
        }
        match self.waiting.pop_front() {
            Some(stream) => Poll::Ready(Ok(stream)),
            None => Poll::Pending,
        }
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Substream>> {
        self.outbound.freed.register(cx.waker());
        let Some(slot) = Slot::take(&self.outbound, OUTBOUND_STREAMS_MAX) else {
            return Poll::Pending;
        };
        let stream = ready!(self.connection.poll_new_outbound(cx)).map_err(to_io)?;
        Poll::Ready(Ok(Substream {
            stream,
            _slot: slot,
        }))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let timer = this
            .closing
            .get_or_insert_with(|| Timer::after(CLOSE_TIMEOUT));
        if timer.poll_unpin(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        this.connection.poll_close(cx).map_err(to_io)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        self.take_inbound(cx)?;
        Poll::Pending
    }
}

fn to_io(error: yamux::ConnectionError) -> io::Error {
    match error {
        yamux::ConnectionError::Io(error) => error,
        yamux::ConnectionError::Closed => io::ErrorKind::ConnectionReset.into(),
        error => io::Error::other(error),
    }
}

/// One stream of a [`Muxer`]. Dropping it without closing resets it.
pub(crate) struct Substream {
    stream: yamux::Stream,
    _slot: Slot,
}

impl AsyncRead for Substream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Substream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// Streams open in one direction.
#[derive(Default)]
struct Slots {
    taken: AtomicUsize,
    freed: AtomicWaker,
}

/// The place of one open stream.
struct Slot(Arc<Slots>);

impl Slot {
    fn take(slots: &Arc<Slots>, slots_max: usize) -> Option<Self> {
        // Only the connection's own task takes slots, so none slips in between.
        if slots.taken.load(Ordering::Acquire) >= slots_max {
            return None;
        }
        slots.taken.fetch_add(1, Ordering::AcqRel);
        Some(Self(slots.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.wake();
    }
}

/// What a [`Muxer`] and the [`Relief`] inside of its connection tell each other.
#[derive(Default)]
struct Valve {
    /// Whether yamux asked for bytes since the muxer last looked.
    was_read: AtomicBool,
    /// Bytes that a blocked write may still leave behind.
    allowance: AtomicUsize,
    /// Bytes left behind.
    held: AtomicUsize,
}

impl Valve {
    /// Lets a little more be written, or says that the limit is reached.
    fn open(&self) -> bool {
        let room = RELIEF_BYTES_MAX.saturating_sub(self.held.load(Ordering::Relaxed));
        let allowance = room.min(RELIEF_BYTES);
        self.allowance.store(allowance, Ordering::Relaxed);
        allowance > 0
    }
}

/// A socket that takes a few bytes more when it is full.
///
/// yamux answers a ping before it reads on. If both ends wait with an answer for the other one to
/// read, nothing moves any more. So when yamux stops reading because a write is blocked, the muxer
/// opens a valve: the answer is held in memory, and reading goes on.
struct Relief<S> {
    socket: S,
    held: VecDeque<u8>,
    valve: Arc<Valve>,
    traffic: Arc<Traffic>,
    /// Runs once our side is closed.
    lingering: Option<Timer>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Relief<S> {
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let (front, _) = self.held.as_slices();
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, front))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.traffic.add_sent(sent);
            self.held.drain(..sent);
            self.valve.held.store(self.held.len(), Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    fn hold(&mut self, buf: &[u8]) -> Poll<io::Result<usize>> {
        let allowance = self.valve.allowance.load(Ordering::Relaxed);
        let taken = buf.get(..allowance).unwrap_or(buf);
        if taken.is_empty() {
            return Poll::Pending;
        }
        self.held.extend(taken);
        self.valve
            .allowance
            .store(allowance - taken.len(), Ordering::Relaxed);
        self.valve.held.store(self.held.len(), Ordering::Relaxed);
        Poll::Ready(Ok(taken.len()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Relief<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.valve.was_read.store(true, Ordering::Relaxed);
        self.valve.allowance.store(0, Ordering::Relaxed);
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        self.traffic.add_received(read);
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Relief<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.poll_held(cx)?.is_pending() {
            return self.hold(buf);
        }
        match Pin::new(&mut self.socket).poll_write(cx, buf)? {
            Poll::Ready(sent) => {
                self.traffic.add_sent(sent);
                Poll::Ready(Ok(sent))
            }
            Poll::Pending => self.hold(buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Closes our side, and waits a moment for the peer to close its own. If the socket were dropped
    /// while the peer writes, the system would answer with a reset, and the peer, failing to write,
    /// would not read our last words.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(this.poll_held(cx))?;
            ready!(Pin::new(&mut this.socket).poll_close(cx))?;
        }
        let timer = this
            .lingering
            .get_or_insert_with(|| Timer::after(LINGER_TIMEOUT));
        if timer.poll_unpin(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut scrap = [0; SCRAP_BYTES];
        match ready!(Pin::new(&mut this.socket).poll_read(cx, &mut scrap)) {
            Ok(0) | Err(_) => Poll::Ready(Ok(())),
            Ok(_) => {
                // Again, after the timer and others had their turn.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}
