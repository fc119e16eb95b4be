//! What the network tells the program.

use std::time::Duration;

use libp2p::Multiaddr;

use crate::base::NodeId;
use crate::net::frame::{Payload, Protocol};
use crate::net::gossip::{GossipId, Topic};
use crate::net::stream::Stream;

/// Something happened. For each peer, `Connected` comes before its messages and streams, and
/// `Disconnected` after them.
#[derive(Debug)]
pub enum NetEvent {
    /// We listen on `address`; on the unspecified address, once for each interface.
    Listening {
        /// Where others on that network may dial.
        address: Multiaddr,
    },
    /// We do not listen on `address` any longer.
    Expired {
        /// The former address.
        address: Multiaddr,
    },
    /// A listener could not be opened, or failed.
    ListenFailed {
        /// The address as configured.
        address: Multiaddr,
        /// Why, and what to do.
        error: ListenFault,
    },
    /// There is a link to `peer`. Once per peer, however many connections are made.
    Connected {
        /// The peer.
        peer: NodeId,
        /// Its address as this connection sees it.
        address: Multiaddr,
        /// Whether we dialed.
        is_outbound: bool,
    },
    /// The link to `peer` is gone.
    Disconnected {
        /// The peer.
        peer: NodeId,
        /// Why.
        reason: DownReason,
    },
    /// A dial that was asked for led to no new link.
    DialFailed {
        /// Who was expected at the address.
        peer: Option<NodeId>,
        /// The address; `None` if a peer was dialed wherever it may be.
        address: Option<Multiaddr>,
        /// Why.
        error: DialFault,
    },
    /// `peer` told about itself. Nothing of it is verified.
    Identified {
        /// The peer.
        peer: NodeId,
        /// Name and version of its program.
        agent: String,
        /// Where it says that it listens; at most [`IDENTIFIED_ADDRESSES_MAX`].
        listens: Vec<Multiaddr>,
        /// Our address as it sees us.
        observed: Multiaddr,
    },
    /// A message arrived.
    Frame {
        /// From whom.
        peer: NodeId,
        /// Over which protocol.
        protocol: Protocol,
        /// The message.
        bytes: Payload,
    },
    /// `peer` opened a raw stream.
    Inbound {
        /// The peer.
        peer: NodeId,
        /// The stream. Dropping it resets it.
        stream: Stream,
    },
    /// A message on a topic. It goes on to others only after
    /// [`NetHandle::validate`](crate::net::NetHandle::validate). Too much of it at once, and further
    /// messages are ignored: see [`GOSSIP_BYTES_MAX`](crate::net::swarm::GOSSIP_BYTES_MAX).
    Gossip {
        /// The topic.
        topic: Topic,
        /// What `validate` wants.
        id: GossipId,
        /// Who passed it on to us.
        source: NodeId,
        /// Who signed it.
        author: NodeId,
        /// The message.
        bytes: Payload,
    },
    /// Holders found by a query. There may be several such events for one query.
    Providers {
        /// What [`NetHandle::providers`](crate::net::NetHandle::providers) returned.
        query: QueryId,
        /// Holders not reported before by this query, never we ourselves.
        providers: Vec<NodeId>,
        /// Whether the query is over.
        is_last: bool,
    },
    /// `peer` answered a ping.
    Ping {
        /// The peer.
        peer: NodeId,
        /// How long it took there and back.
        rtt: Duration,
    },
}

/// Listen addresses taken from what a peer says about itself; others are left out.
pub const IDENTIFIED_ADDRESSES_MAX: usize = 16;

/// A running search for holders.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct QueryId(pub(crate) u64);

/// Why we do not listen on an address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ListenFault {
    /// Another socket has the port.
    #[error(
        "cannot listen for peers on {0}: the port is taken; stop the other program or set another `listen`"
    )]
    PortTaken(Multiaddr),
    /// Not an address of this transport.
    #[error(
        "cannot listen for peers on {0}: want /ip4/<address>/tcp/<port> or /ip6/<address>/tcp/<port>"
    )]
    Unsupported(Multiaddr),
    /// The system refused.
    #[error("cannot listen for peers on {address}: {reason}")]
    Failed {
        /// The address.
        address: Multiaddr,
        /// The system's words.
        reason: String,
    },
}

/// Why a link ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DownReason {
    /// We asked for it.
    #[error("disconnected by us")]
    Requested,
    /// We banned the peer.
    #[error("banned by us")]
    Banned,
    /// The peer did not take a byte of a waiting message for a
    /// [time](crate::net::Config::stall_timeout).
    #[error("the peer stopped reading {protocol}")]
    Stalled {
        /// What it should have read.
        protocol: Protocol,
    },
    /// The peer announced too long a message. Units: bytes.
    #[error("the peer announced {bytes} bytes over {protocol}, which allows {bytes_max}")]
    FrameTooLarge {
        /// The protocol.
        protocol: Protocol,
        /// What was announced.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The peer broke the rules of the link.
    #[error("the peer broke a rule: {0}")]
    Violation(&'static str),
    /// The other side does not speak our protocols.
    #[error("the peer is no kogge node")]
    NotKogge,
    /// The peer made a new connection that takes the place of this one.
    #[error("replaced by a new connection of the peer")]
    Replaced,
    /// The peer does not answer pings.
    #[error("the peer does not answer")]
    Silent,
    /// The connection ended; by the peer, or by an error.
    #[error("connection lost: {0}")]
    Lost(String),
}

/// Why a dial led to no new link.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DialFault {
    /// There is a link to this peer already, or another dial to it is under way.
    #[error("already connected or connecting to this peer")]
    Duplicate,
    /// The address leads to ourselves.
    #[error("the address is our own")]
    Ourselves,
    /// Somebody else answers at the address.
    #[error("another node answers at this address: {0}")]
    WrongPeer(String),
    /// No address is known for the peer.
    #[error("no address of the peer is known; look it up or name one")]
    NoAddress,
    /// Refused by a limit of connections or a ban.
    #[error("refused: {0}")]
    Refused(String),
    /// The connection was made and ended before there was a link.
    #[error("connected, but no link: {0}")]
    NoLink(DownReason),
    /// The network said no, or nothing in time.
    #[error("{0}")]
    Failed(String),
}
