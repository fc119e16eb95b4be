//! What the machine learns, and what it wants done.

use crate::base::NodeId;
use crate::proto::sync::message::{Decided, GetBlocks, NotAvailable, Run};
use crate::proto::sync::progress::State;
use crate::proto::sync::source::Fault;

/// What happened outside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// A peer was admitted.
    Joined {
        /// Who.
        peer: NodeId,
        /// Lowest height that it serves.
        base: u64,
        /// Highest height that it serves.
        tip: u64,
    },
    /// An admitted peer announced its tip, on the stream that keeps announcements in order.
    Tip {
        /// Who.
        peer: NodeId,
        /// Its height.
        height: u64,
    },
    /// The connection closed.
    Left {
        /// To whom.
        peer: NodeId,
    },
    /// Blocks arrived.
    Blocks {
        /// From whom.
        peer: NodeId,
        /// What.
        run: Run,
    },
    /// An answer without blocks arrived.
    NotAvailable {
        /// From whom.
        peer: NodeId,
        /// What.
        answer: NotAvailable,
    },
    /// A frame arrived that no honest node sends.
    Malformed {
        /// From whom.
        peer: NodeId,
    },
    /// The chain reached `height`, whether by blocks from here or by others. Also reported while a
    /// batch is being applied, if the caller wants.
    Applied {
        /// The new head.
        height: u64,
    },
    /// A block of the batch that was handed over does not stand; those below it are applied, those
    /// above were dropped.
    Rejected {
        /// Who sent it.
        peer: NodeId,
        /// The block.
        height: u64,
    },
}

/// What the caller must do next, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Send a request.
    Send {
        /// To whom.
        peer: NodeId,
        /// What.
        request: GetBlocks,
    },
    /// Verify and apply these blocks in order, then answer with [`Input::Applied`] or
    /// [`Input::Rejected`]. There is no other batch until then. Blocks that were applied meanwhile
    /// are skipped.
    Apply {
        /// Who sent them.
        peer: NodeId,
        /// Consecutive blocks.
        blocks: Vec<Decided>,
    },
    /// The peer is provably at fault: ban it.
    Blame {
        /// Who.
        peer: NodeId,
        /// Why.
        fault: Fault,
    },
    /// The peer let a request time out: think less of it, but do not ban it.
    Slow {
        /// Who.
        peer: NodeId,
    },
    /// The state changed.
    Turned(State),
}
