//! The kinds of streams between two nodes, and the two streams that carry one protocol's messages.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Timer;
use futures::future::{self, FutureExt};
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade};

use crate::net::event::DownReason;
use crate::net::frame::{FrameError, FrameReader, FrameWriter, Payload, Protocol};
use crate::net::link::Link;
use crate::net::stream::RAW_NAME;

/// A kind of stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Opened by the node with the smaller id on the one connection that it elects.
    Mark,
    /// Messages of one protocol, in one direction.
    Frames(Protocol),
    /// Bytes both ways.
    Raw,
}

impl AsRef<str> for Kind {
    fn as_ref(&self) -> &str {
        match self {
            Self::Mark => "/kogge/link/1",
            Self::Frames(protocol) => protocol.name(),
            Self::Raw => RAW_NAME,
        }
    }
}

/// Negotiates a stream of one of some kinds.
#[derive(Clone, Debug)]
pub(crate) struct Kinds(Vec<Kind>);

impl Kinds {
    pub(crate) fn all() -> Self {
        let frames = Protocol::ALL.into_iter().map(Kind::Frames);
        Self([Kind::Mark, Kind::Raw].into_iter().chain(frames).collect())
    }

    pub(crate) fn one(kind: Kind) -> Self {
        Self(vec![kind])
    }
}

impl UpgradeInfo for Kinds {
    type Info = Kind;
    type InfoIter = std::vec::IntoIter<Kind>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl<S: Send + 'static> InboundUpgrade<S> for Kinds {
    type Output = (Kind, S);
    type Error = Infallible;
    type Future = future::Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: S, kind: Kind) -> Self::Future {
        future::ready(Ok((kind, stream)))
    }
}

impl<S: Send + 'static> OutboundUpgrade<S> for Kinds {
    type Output = (Kind, S);
    type Error = Infallible;
    type Future = future::Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: S, kind: Kind) -> Self::Future {
        future::ready(Ok((kind, stream)))
    }
}

/// The stream that we write one protocol's messages to.
#[derive(Default)]
enum Outbound {
    /// Not needed so far.
    #[default]
    Closed,
    Opening,
    Open(libp2p::Stream),
}

/// The two streams of one protocol on one connection.
pub(crate) struct Lane {
    protocol: Protocol,
    outbound: Outbound,
    writer: FrameWriter,
    stall_timeout: Duration,
    stall: Option<Timer>,
    inbound: Option<libp2p::Stream>,
    reader: FrameReader,
}

impl Lane {
    pub(crate) fn new(protocol: Protocol, stall_timeout: Duration) -> Self {
        Self {
            protocol,
            outbound: Outbound::Closed,
            writer: FrameWriter::default(),
            stall_timeout,
            stall: None,
            inbound: None,
            reader: FrameReader::default(),
        }
    }

    /// Whether a stream is wanted and not asked for yet; from then on it counts as asked for.
    pub(crate) fn needs_opening(&mut self, link: &Link) -> bool {
        let needs = matches!(self.outbound, Outbound::Closed) && !link.is_empty(self.protocol);
        if needs {
            self.outbound = Outbound::Opening;
        }
        needs
    }

    pub(crate) fn set_outbound(&mut self, stream: libp2p::Stream) {
        self.outbound = Outbound::Open(stream);
    }

    /// # Errors
    ///
    /// If the peer has opened such a stream already.
    pub(crate) fn set_inbound(&mut self, stream: libp2p::Stream) -> Result<(), DownReason> {
        if self.inbound.is_some() {
            return Err(DownReason::Violation("two streams for one protocol"));
        }
        self.inbound = Some(stream);
        self.reader = FrameReader::default();
        Ok(())
    }

    /// Sends what waits; ready when nothing is left.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        link: &Link,
    ) -> Poll<Result<(), DownReason>> {
        let Outbound::Open(stream) = &mut self.outbound else {
            return match link.is_empty(self.protocol) {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            };
        };
        let outcome = self
            .writer
            .poll_write(cx, stream, || link.pop(self.protocol));
        match outcome {
            Poll::Ready(outcome) => {
                self.stall = None;
                Poll::Ready(outcome.map_err(|error| DownReason::Lost(error.to_string())))
            }
            Poll::Pending => self.poll_stall(cx).map(Err),
        }
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<DownReason> {
        if self.writer.take_progress() {
            self.stall = None;
        }
        let timer = self
            .stall
            .get_or_insert_with(|| Timer::after(self.stall_timeout));
        timer.poll_unpin(cx).map(|_| DownReason::Stalled {
            protocol: self.protocol,
        })
    }

    /// The next message, if one has arrived and there is room for it.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        link: &Link,
    ) -> Poll<Result<Payload, DownReason>> {
        let Some(stream) = &mut self.inbound else {
            return Poll::Pending;
        };
        let (protocol, bytes_max) = (self.protocol, self.protocol.frame_bytes_max());
        let admit = |bytes| link.admit(protocol, bytes);
        match self.reader.poll_frame(cx, stream, bytes_max, admit) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(payload))) => Poll::Ready(Ok(payload)),
            // The end of a stream is the peer's affair; it may open another one.
            Poll::Ready(Ok(None) | Err(FrameError::Io(_))) => {
                self.inbound = None;
                Poll::Pending
            }
            Poll::Ready(Err(FrameError::TooLarge { bytes, bytes_max })) => {
                Poll::Ready(Err(DownReason::FrameTooLarge {
                    protocol,
                    bytes,
                    bytes_max,
                }))
            }
        }
    }

    /// Whether a message waits for the program to take earlier ones.
    pub(crate) const fn is_waiting_for_room(&self) -> bool {
        self.inbound.is_some() && self.reader.is_waiting_for_room()
    }
}
