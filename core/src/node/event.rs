//! What embedders can observe.

use crate::base::{BlockId, NodeId};
use crate::proto::build::BuildId;

/// Something that happened in the node. Serialized as JSON with the field `event`.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The node listens for peers at an address.
    Listening {
        /// The address (multiaddr).
        address: String,
    },
    /// A peer passed the handshake.
    PeerAdmitted {
        /// The peer.
        peer: NodeId,
    },
    /// A peer was turned away or left.
    PeerLost {
        /// The peer.
        peer: NodeId,
        /// Why.
        reason: String,
    },
    /// A block is durable.
    Committed {
        /// Its number.
        height: u64,
        /// Its identity.
        block: BlockId,
        /// Leaves in the log after it.
        size: u64,
    },
    /// The node has reached the head of the log, by its own evidence.
    Live,
    /// A build changed its state; see `build_status`.
    Build {
        /// The build.
        id: BuildId,
    },
    /// A provable fault of a peer.
    Fault {
        /// The peer.
        peer: NodeId,
        /// What it did.
        reason: String,
    },
    /// The node stops by itself, because it cannot go on: the last event.
    Stopped {
        /// Why.
        reason: String,
    },
}
