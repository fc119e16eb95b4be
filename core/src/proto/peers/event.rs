//! What the dialer learns, and what it wants done.

use std::time::Duration;

use crate::base::{NodeId, Time};
use crate::proto::peers::book::Source;

/// An address to begin with, whose peer may be unknown.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Seed {
    /// Who should be there, if that is known.
    pub peer: Option<NodeId>,
    /// Where.
    pub address: String,
}

/// What happened outside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// The first connection to a peer opened. A connection that turns out to lead back to us is
    /// reported too, with our own id.
    Connected {
        /// Who.
        peer: NodeId,
        /// If we dialled: the dial, and the address that worked.
        dialled: Option<(u64, String)>,
    },
    /// The last connection to a peer closed.
    Disconnected {
        /// Who.
        peer: NodeId,
        /// How long not to dial it, if it was refused or refused us.
        pause: Option<Duration>,
    },
    /// No address of a dial worked.
    DialFailed {
        /// The dial.
        dial: u64,
    },
    /// A bootstrap document was read.
    Fetched {
        /// From where.
        url: String,
        /// The addresses in it; only the first 64 are used.
        seeds: Vec<Seed>,
    },
    /// A bootstrap document could not be read.
    FetchFailed {
        /// From where.
        url: String,
    },
    /// Somebody told us an address of a peer.
    Learned {
        /// Whose.
        peer: NodeId,
        /// Where.
        address: String,
        /// Who told us.
        source: Source,
    },
    /// The peer is banned; the caller closes its connection.
    Banned {
        /// Who.
        peer: NodeId,
        /// Until when.
        until: Time,
    },
    /// These are the authorized nodes.
    Members {
        /// All of them, ourselves included; if we are among them we keep a connection to each. Waits
        /// and pauses of those that were not, or of all if we were not, are over.
        members: Vec<NodeId>,
    },
}

/// What the caller must do next, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Try these addresses in turn until one works; answer with [`Input::Connected`] or
    /// [`Input::DialFailed`].
    Dial {
        /// Number of the dial.
        dial: u64,
        /// Who must be there; `None` if anybody may.
        peer: Option<NodeId>,
        /// Best first; at least one.
        addresses: Vec<String>,
    },
    /// Fetch a bootstrap document; answer with [`Input::Fetched`] or [`Input::FetchFailed`].
    FetchBootstrap {
        /// From where.
        url: String,
    },
}
