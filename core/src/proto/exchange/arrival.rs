//! What the replies of a server come to.

use std::time::Duration;

use crate::proto::exchange::message::MessageError;
use crate::proto::exchange::presence::Presence;
use crate::proto::exchange::verify::{Refused, Verified};

/// Why a stream of replies was given up. Each is provably the fault of the server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Not a message of this protocol.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A reply to something nobody asked for, or that is answered already.
    #[error("reply to request {id}, which is not open")]
    Unrequested {
        /// The id that the reply carries.
        id: u32,
    },
    /// Bytes that do not belong to the artifact, or not all of them.
    #[error("request {id}: {refused}")]
    Refused {
        /// The request.
        id: u32,
        /// What was wrong.
        refused: Refused,
    },
    /// An answer of another kind than the question.
    #[error("request {id} was answered by something else than it asked for")]
    Answer {
        /// The request.
        id: u32,
    },
}

/// A request that cannot be sent now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// [`OPEN_MAX`](crate::proto::exchange::replies::OPEN_MAX) requests are open on this stream.
    #[error("too many open requests on this stream; wait for one to end")]
    Full,
    /// The id is in use.
    #[error("the id of the request is in use")]
    Id,
    /// The artifact has not these groups.
    #[error("impossible range of groups")]
    Groups,
}

/// What came from a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// A piece of a request that belongs to its artifact.
    Verified {
        /// The request.
        id: u32,
        /// The piece.
        piece: Verified<Vec<u8>>,
    },
    /// The request is answered: with all its groups, unless it was cancelled.
    End {
        /// The request.
        id: u32,
    },
    /// The server has not what the request asked for, or not all of it.
    NotFound {
        /// The request.
        id: u32,
    },
    /// The server has too much to do.
    Busy {
        /// The request.
        id: u32,
        /// When to ask again.
        retry_after: Duration,
    },
    /// What the server claims to have.
    Has {
        /// The request.
        id: u32,
        /// One answer for each root asked.
        answers: Vec<Presence>,
    },
}
