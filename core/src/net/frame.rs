//! Framed messages: a length of four bytes, big endian, then as many bytes.
//!
//! ```text
//! ┌───────────┬──────────────────┐
//! │ u32 length│ bytes of message │   length ≤ Protocol::frame_bytes_max
//! └───────────┴──────────────────┘
//! ```

use std::fmt;
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};

use crate::net::room::Permit;

/// Memory for a message grows with what has arrived, in steps of so many bytes, so that announcing
/// a long message costs us nothing.
const READ_STEP_BYTES: usize = 64 << 10;

/// Length and start of a message travel together up to this size.
const HEAD_BYTES_MAX: usize = 16 << 10;

const LENGTH_BYTES: usize = 4;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The protocols that carry framed messages; one long-lived stream each way per peer and protocol.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    /// The first exchange of two peers.
    Hello,
    /// Blocks by range.
    Sync,
    /// Votes and proposals among authorized nodes.
    Consensus,
    /// Build requests, their states, log lines.
    Build,
    /// Peer exchange.
    Peers,
    /// Pending entries and attestations, asked for by digest.
    Pool,
    /// Signatures on the newest head, asked for by who missed them.
    Heads,
}

impl Protocol {
    /// Number of protocols.
    pub(crate) const COUNT: usize = 7;

    /// Every protocol.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Hello,
        Self::Sync,
        Self::Consensus,
        Self::Build,
        Self::Peers,
        Self::Pool,
        Self::Heads,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "/kogge/hello/1",
            Self::Sync => "/kogge/sync/1",
            Self::Consensus => "/kogge/consensus/1",
            Self::Build => "/kogge/build/1",
            Self::Peers => "/kogge/peers/1",
            Self::Pool => "/kogge/pool/1",
            Self::Heads => "/kogge/heads/1",
        }
    }

    /// The longest message. Unit: bytes. A peer that announces a longer one is disconnected.
    pub const fn frame_bytes_max(self) -> usize {
        match self {
            Self::Hello | Self::Heads => 64 * KIB,
            Self::Sync => 10 * MIB,
            // A proposal with a full body, its certificate and headers.
            Self::Consensus => 9 * MIB + 64 * KIB,
            Self::Build | Self::Pool => MIB,
            Self::Peers => 256 * KIB,
        }
    }

    /// The place in [`Protocol::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A received message. While it lives, it counts against what its peer may have waiting with us;
/// at the limit we stop reading that protocol from that peer.
pub struct Payload {
    bytes: Vec<u8>,
    _permit: Option<Permit>,
}

impl Payload {
    /// A message that holds `permit` as long as it lives.
    pub(crate) const fn new(bytes: Vec<u8>, permit: Permit) -> Self {
        Self {
            bytes,
            _permit: Some(permit),
        }
    }

    /// The bytes; they do not count any longer.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

impl From<Vec<u8>> for Payload {
    /// A message that counts against no limit.
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            _permit: None,
        }
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.bytes.len())
    }
}

/// Why reading messages ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a message of {bytes} bytes was announced, at most {bytes_max} are allowed")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Puts messages together from a stream.
#[derive(Default)]
pub(crate) struct FrameReader {
    length: [u8; LENGTH_BYTES],
    length_filled: usize,
    body: Option<Body>,
    is_waiting_for_room: bool,
}

struct Body {
    bytes: Vec<u8>,
    filled: usize,
    len: usize,
    permit: Permit,
}

impl FrameReader {
    /// Whether a message waits for the receiver to take earlier ones.
    pub(crate) const fn is_waiting_for_room(&self) -> bool {
        self.is_waiting_for_room
    }

    /// The next message, or `None` at the end of the stream. `admit` gives a permit for so many
    /// bytes; if it refuses, it wakes the task when asking again may help.
    pub(crate) fn poll_frame<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        bytes_max: usize,
        admit: impl Fn(usize) -> Option<Permit>,
    ) -> Poll<Result<Option<Payload>, FrameError>> {
        while self.length_filled < LENGTH_BYTES {
            let rest = self.length.get_mut(self.length_filled..).unwrap_or(&mut []);
            match ready!(Pin::new(&mut *stream).poll_read(cx, rest))? {
                0 => return Poll::Ready(Ok(None)),
                read => self.length_filled += read,
            }
        }
        if self.body.is_none() {
            let len = usize::try_from(u32::from_be_bytes(self.length)).unwrap_or(usize::MAX);
            if len > bytes_max {
                return Poll::Ready(Err(FrameError::TooLarge {
                    bytes: len,
                    bytes_max,
                }));
            }
            let permit = admit(len);
            self.is_waiting_for_room = permit.is_none();
            self.body = permit.map(|permit| Body {
                bytes: Vec::new(),
                filled: 0,
                len,
                permit,
            });
        }
        let Some(body) = &mut self.body else {
            return Poll::Pending;
        };
        if !ready!(body.poll_fill(cx, stream))? {
            return Poll::Ready(Ok(None));
        }
        self.length_filled = 0;
        let body = self.body.take();
        Poll::Ready(Ok(body.map(|it| Payload::new(it.bytes, it.permit))))
    }
}

impl Body {
    /// Reads the rest; false at a premature end.
    fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<bool>> {
        while self.filled < self.len {
            if self.filled == self.bytes.len() {
                self.bytes
                    .resize(self.len.min(self.filled + READ_STEP_BYTES), 0);
            }
            let rest = self.bytes.get_mut(self.filled..).unwrap_or(&mut []);
            match ready!(Pin::new(&mut *stream).poll_read(cx, rest))? {
                0 => return Poll::Ready(Ok(false)),
                read => self.filled += read,
            }
        }
        Poll::Ready(Ok(true))
    }
}

/// Writes messages to a stream.
#[derive(Default)]
pub(crate) struct FrameWriter {
    /// What is left of the message under way: its head with the length, then the rest.
    parts: [Bytes; 2],
    is_flushed: bool,
    has_progressed: bool,
}

impl FrameWriter {
    /// Whether bytes were taken from us since this was last asked.
    pub(crate) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }

    /// Writes what `next` yields until it yields nothing and all is flushed.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        mut next: impl FnMut() -> Option<Bytes>,
    ) -> Poll<io::Result<()>> {
        loop {
            while let Some(part) = self.parts.iter_mut().find(|it| !it.is_empty()) {
                match ready!(Pin::new(&mut *stream).poll_write(cx, part))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => drop(part.split_to(written.min(part.len()))),
                }
                self.has_progressed = true;
                self.is_flushed = false;
            }
            let Some(frame) = next() else {
                break;
            };
            self.parts = split(frame);
        }
        if !self.is_flushed {
            ready!(Pin::new(&mut *stream).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

fn split(mut frame: Bytes) -> [Bytes; 2] {
    // Longer messages than 4 GiB do not pass `Link::push`.
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let rest = frame.split_off(frame.len().min(HEAD_BYTES_MAX - LENGTH_BYTES));
    let mut head = Vec::with_capacity(LENGTH_BYTES + frame.len());
    head.extend_from_slice(&length.to_be_bytes());
    head.extend_from_slice(&frame);
    [head.into(), rest]
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use futures::task::noop_waker_ref;
    use proptest::prelude::*;

    use super::*;
    use crate::net::room::Room;

    fn free() -> Option<Permit> {
        Room::new(0).take(0)
    }

    fn written(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut cx = Context::from_waker(noop_waker_ref());
        let mut queue = frames.iter().cloned().map(Bytes::from);
        let mut wire = Cursor::new(Vec::new());
        let outcome = FrameWriter::default().poll_write(&mut cx, &mut wire, || queue.next());
        assert!(matches!(outcome, Poll::Ready(Ok(()))));
        wire.into_inner()
    }

    /// All messages, and whether the stream ended between two of them.
    fn read(wire: &[u8], bytes_max: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut cx = Context::from_waker(noop_waker_ref());
        let (mut reader, mut wire) = (FrameReader::default(), Cursor::new(wire));
        let mut frames = Vec::new();
        loop {
            match reader.poll_frame(&mut cx, &mut wire, bytes_max, |_| free()) {
                Poll::Ready(Ok(Some(frame))) => frames.push(frame.into_vec()),
                Poll::Ready(Ok(None)) => return Ok(frames),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => unreachable!("a cursor is always ready"),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(frames: Vec<Vec<u8>>, long in 0usize..200_000) {
            let mut frames = frames;
            frames.push(vec![7; long]);
            prop_assert_eq!(read(&written(&frames), 200_000).unwrap(), frames);
        }
    }

    #[test]
    fn a_message_above_the_limit_is_refused_before_memory_is_taken() {
        assert_eq!(read(&written(&[vec![1; 9]]), 9).unwrap(), [vec![1; 9]]);
        for wire in [&written(&[vec![1; 10]])[..], &[0xff; 4]] {
            assert!(matches!(read(wire, 9), Err(FrameError::TooLarge { .. })));
        }
    }

    #[test]
    fn a_message_cut_short_is_not_delivered() {
        let wire = written(&[vec![1; 9]]);
        for end in 0..wire.len() {
            assert!(read(&wire[..end], 9).unwrap().is_empty(), "{end}");
        }
    }

    #[test]
    fn a_refused_message_waits_and_is_read_later() {
        let mut cx = Context::from_waker(noop_waker_ref());
        let wire = written(&[vec![1; 9]]);
        let (mut reader, mut wire) = (FrameReader::default(), Cursor::new(wire));
        let refused = reader.poll_frame(&mut cx, &mut wire, 9, |_| None);
        assert!(refused.is_pending() && reader.is_waiting_for_room());
        let read = reader.poll_frame(&mut cx, &mut wire, 9, |_| free());
        assert!(matches!(read, Poll::Ready(Ok(Some(it))) if *it == [1; 9]));
    }
}
