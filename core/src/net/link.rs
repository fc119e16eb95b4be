//! What the program and the task of a connection share: queues out, room for messages in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::task::AtomicWaker;

use crate::base::NodeId;
use crate::net::frame::Protocol;
use crate::net::room::{Permit, Room};
use crate::net::stream::Stream;

/// Messages that wait for being sent to one peer over one protocol; a further one is refused.
pub const OUTBOX_FRAMES_MAX: usize = 256;

/// Bytes of these messages, in longest messages of the protocol.
pub const OUTBOX_LONGEST_FRAMES_MAX: usize = 2;

/// Messages received from one peer over one protocol that nobody has taken yet; at the limit, or
/// at the bytes of one longest message, we stop reading.
pub const INBOX_FRAMES_MAX: usize = 32;

/// Raw streams asked for and not open yet, per peer; a further one is refused.
pub const OPENINGS_MAX: usize = 32;

/// Raw streams that one peer has open towards us; a further one is told that we are busy.
pub const RAW_INBOUND_MAX: usize = 16;

/// Why a message was not taken for sending.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SendError {
    /// There is no link to the peer.
    #[error("not connected to {0}; dial it first")]
    NotConnected(NodeId),
    /// The queue is full. A peer that goes on not reading is disconnected after a time.
    #[error("the queue of {protocol} is full; try again when the peer has caught up")]
    Busy {
        /// The protocol whose queue is full.
        protocol: Protocol,
    },
    /// The message is longer than the protocol allows. Units: bytes.
    #[error("a message of {bytes} bytes is too long for {protocol}, which allows {bytes_max}")]
    TooLarge {
        /// The protocol.
        protocol: Protocol,
        /// Length of the message.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The peer does not speak the protocol.
    #[error("the peer does not speak {protocol}")]
    Unsupported {
        /// The protocol.
        protocol: Protocol,
    },
}

/// Why a raw stream was not opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// There is no link to the peer.
    #[error("not connected to {0}; dial it first")]
    NotConnected(NodeId),
    /// Too many streams to this peer are being opened.
    #[error("{OPENINGS_MAX} streams to this peer are being opened; wait for one of them")]
    Busy,
    /// The peer does not take raw streams.
    #[error("the peer does not take raw streams")]
    Unsupported,
    /// The connection ended.
    #[error("the connection ended before the stream was open")]
    Closed,
    /// The peer did not answer in time.
    #[error("the peer did not answer in time")]
    TimedOut,
}

/// Where the outcome of opening a raw stream goes.
pub(crate) type Opening = oneshot::Sender<Result<Stream, OpenError>>;

#[derive(Default)]
struct Outbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
    is_refused: bool,
}

/// One connection as the rest of the program sees it.
pub(crate) struct Link {
    outboxes: [Mutex<Outbox>; Protocol::COUNT],
    inboxes: [Arc<Room>; Protocol::COUNT],
    openings: Mutex<VecDeque<Opening>>,
    raw_inbound: AtomicUsize,
    is_closed: AtomicBool,
    /// Wakes the task of the connection.
    waker: Arc<AtomicWaker>,
}

impl Default for Link {
    fn default() -> Self {
        let waker = Arc::<AtomicWaker>::default();
        let inbox =
            |it: Protocol| Room::with(it.frame_bytes_max(), INBOX_FRAMES_MAX, waker.clone());
        Self {
            outboxes: Default::default(),
            inboxes: Protocol::ALL.map(inbox),
            openings: Mutex::default(),
            raw_inbound: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            waker,
        }
    }
}

impl Link {
    /// Queues `frame` for sending.
    pub(crate) fn push(
        &self,
        peer: NodeId,
        protocol: Protocol,
        frame: Bytes,
    ) -> Result<(), SendError> {
        let bytes_max = protocol.frame_bytes_max();
        if frame.len() > bytes_max {
            return Err(SendError::TooLarge {
                protocol,
                bytes: frame.len(),
                bytes_max,
            });
        }
        self.push_unchecked(peer, protocol, frame)
    }

    /// Like [`Link::push`], for a message of any length.
    pub(crate) fn push_unchecked(
        &self,
        peer: NodeId,
        protocol: Protocol,
        frame: Bytes,
    ) -> Result<(), SendError> {
        if self.is_closed() {
            return Err(SendError::NotConnected(peer));
        }
        let mut outbox = lock(&self.outboxes[protocol.index()]);
        if outbox.is_refused {
            return Err(SendError::Unsupported { protocol });
        }
        let queued_bytes_max = OUTBOX_LONGEST_FRAMES_MAX * protocol.frame_bytes_max();
        let is_full = outbox.frames.len() >= OUTBOX_FRAMES_MAX
            || (!outbox.frames.is_empty() && outbox.bytes + frame.len() > queued_bytes_max);
        if is_full {
            return Err(SendError::Busy { protocol });
        }
        outbox.bytes += frame.len();
        outbox.frames.push_back(frame);
        drop(outbox);
        self.waker.wake();
        Ok(())
    }

    /// The next message to send.
    pub(crate) fn pop(&self, protocol: Protocol) -> Option<Bytes> {
        let mut outbox = lock(&self.outboxes[protocol.index()]);
        let frame = outbox.frames.pop_front()?;
        outbox.bytes = outbox.bytes.saturating_sub(frame.len());
        Some(frame)
    }

    /// Whether nothing waits for being sent.
    pub(crate) fn is_empty(&self, protocol: Protocol) -> bool {
        lock(&self.outboxes[protocol.index()]).frames.is_empty()
    }

    /// Refuses messages of `protocol` from now on, and forgets those that wait.
    pub(crate) fn refuse(&self, protocol: Protocol) {
        *lock(&self.outboxes[protocol.index()]) = Outbox {
            is_refused: true,
            ..Outbox::default()
        };
    }

    /// Room for a received message of `bytes` bytes. After `None` the task of the connection is
    /// woken when a message was taken.
    pub(crate) fn admit(&self, protocol: Protocol, bytes: usize) -> Option<Permit> {
        self.inboxes[protocol.index()].take(bytes)
    }

    /// Asks for a raw stream.
    pub(crate) fn open(
        &self,
        peer: NodeId,
    ) -> Result<oneshot::Receiver<Result<Stream, OpenError>>, OpenError> {
        let mut openings = lock(&self.openings);
        if self.is_closed() {
            return Err(OpenError::NotConnected(peer));
        }
        if openings.len() >= OPENINGS_MAX {
            return Err(OpenError::Busy);
        }
        let (opening, opened) = oneshot::channel();
        openings.push_back(opening);
        drop(openings);
        self.waker.wake();
        Ok(opened)
    }

    /// The next raw stream to open.
    pub(crate) fn pop_opening(&self) -> Option<Opening> {
        lock(&self.openings).pop_front()
    }

    /// The place of one raw stream that the peer opens, or `None` if it has too many.
    pub(crate) fn admit_raw(self: &Arc<Self>) -> Option<RawPermit> {
        if self.raw_inbound.load(Ordering::Acquire) >= RAW_INBOUND_MAX {
            return None;
        }
        self.raw_inbound.fetch_add(1, Ordering::AcqRel);
        Some(RawPermit(self.clone()))
    }

    /// Makes `waker` the one to wake when there is something to do.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Takes nothing more for sending; whoever waits for a raw stream learns of the end.
    pub(crate) fn close(&self) {
        let mut openings = lock(&self.openings);
        self.is_closed.store(true, Ordering::Release);
        openings.clear();
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}

/// The place of one raw stream that the peer opened.
pub(crate) struct RawPermit(Arc<Link>);

impl Drop for RawPermit {
    fn drop(&mut self) {
        self.0.raw_inbound.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The links to all connected peers.
#[derive(Clone, Default)]
pub(crate) struct Links(Arc<Mutex<BTreeMap<NodeId, Arc<Link>>>>);

impl Links {
    pub(crate) fn get(&self, peer: &NodeId) -> Option<Arc<Link>> {
        lock(&self.0).get(peer).cloned()
    }

    pub(crate) fn insert(&self, peer: NodeId, link: Arc<Link>) {
        lock(&self.0).insert(peer, link);
    }

    pub(crate) fn remove(&self, peer: &NodeId) {
        lock(&self.0).remove(peer);
    }

    pub(crate) fn peers(&self) -> Vec<NodeId> {
        lock(&self.0).keys().copied().collect()
    }
}

/// A panic elsewhere leaves plain queues behind, which stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PublicKey;

    const BOB: NodeId = PublicKey([2; 32]);

    #[test]
    fn a_full_queue_refuses_and_a_taken_message_makes_room() {
        let link = Link::default();
        let hello = |len| link.push(BOB, Protocol::Hello, vec![0; len].into());
        let busy = Err(SendError::Busy {
            protocol: Protocol::Hello,
        });
        for _ in 0..OUTBOX_FRAMES_MAX {
            assert_eq!(hello(1), Ok(()));
        }
        assert_eq!(hello(1), busy);
        assert!(link.pop(Protocol::Hello).is_some());
        assert_eq!(hello(1), Ok(()));
        // Another protocol has its own queue, which is also limited by bytes.
        let longest = Protocol::Peers.frame_bytes_max();
        let peers = |len| link.push(BOB, Protocol::Peers, vec![0; len].into());
        assert_eq!((peers(longest), peers(longest)), (Ok(()), Ok(())));
        assert!(matches!(peers(1), Err(SendError::Busy { .. })));
        assert!(matches!(
            peers(longest + 1),
            Err(SendError::TooLarge { .. })
        ));
    }

    #[test]
    fn received_messages_hold_their_room_until_dropped() {
        let link = Link::default();
        let longest = Protocol::Hello.frame_bytes_max();
        let first = link.admit(Protocol::Hello, longest).unwrap();
        assert!(link.admit(Protocol::Hello, 1).is_none());
        assert!(link.admit(Protocol::Sync, 1).is_some());
        drop(first);
        let all: Vec<_> = (0..INBOX_FRAMES_MAX)
            .map(|_| link.admit(Protocol::Hello, 0))
            .collect();
        assert!(all.iter().all(Option::is_some));
        assert!(link.admit(Protocol::Hello, 0).is_none());
    }

    #[test]
    fn a_closed_link_takes_nothing() {
        let link = Link::default();
        let mut opened = link.open(BOB).unwrap();
        link.close();
        assert!(opened.try_recv().is_err());
        assert!(matches!(link.open(BOB), Err(OpenError::NotConnected(_))));
        assert_eq!(
            link.push(BOB, Protocol::Hello, Bytes::new()),
            Err(SendError::NotConnected(BOB))
        );
    }

    #[test]
    fn a_refused_protocol_says_so() {
        let link = Link::default();
        link.refuse(Protocol::Build);
        assert_eq!(
            link.push(BOB, Protocol::Build, Bytes::new()),
            Err(SendError::Unsupported {
                protocol: Protocol::Build
            })
        );
    }
}
