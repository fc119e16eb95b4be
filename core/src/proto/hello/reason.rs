//! Why a connection ends at the hello, and which of two connections stays.

use std::time::Duration;

use minicbor::{Decode, Encode};

use crate::base::NodeId;

/// Why a peer is refused. Sent to it, so the numbers are part of the format and never change.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode, thiserror::Error)]
pub enum Reason {
    /// The peer is in another network.
    #[n(1)]
    #[error("the peer belongs to another network")]
    OtherChain,
    /// The two speak no common version of the protocols.
    #[n(2)]
    #[error("no common protocol version: the refusing side speaks {min} to {max}")]
    Version {
        /// Lowest version that the refusing side speaks.
        #[n(0)]
        min: u16,
        /// Highest version that the refusing side speaks.
        #[n(1)]
        max: u16,
    },
    /// The peer's chain contradicts that of the refusing side.
    #[n(3)]
    #[error("the two finalized different blocks at height {height}")]
    Forked {
        /// Where they differ at the latest.
        #[n(0)]
        height: u64,
    },
    /// The connection leads back to the node itself.
    #[n(4)]
    #[error("the connection leads back to this node")]
    SelfDial,
    /// No room for another peer.
    #[n(5)]
    #[error("no room for another peer; try again later")]
    Busy,
    /// The peer is banned.
    #[n(6)]
    #[error("the peer is banned")]
    Banned,
    /// Only authorized nodes, and those that the owner lists, are welcome here.
    #[n(7)]
    #[error("only authorized and listed nodes are admitted")]
    NotAuthorized,
    /// A message that breaks the format or its limits, or contradicts itself.
    #[n(8)]
    #[error("malformed message")]
    Malformed,
    /// A hello that is repeated, or meant for or made by somebody else.
    #[n(9)]
    #[error("the hello is not fresh")]
    NotFresh,
    /// No complete handshake in time.
    #[n(10)]
    #[error("no hello in time")]
    Timeout,
    /// Another connection to the same peer stays.
    #[n(11)]
    #[error("a second connection to the same peer")]
    Duplicate,
}

impl Reason {
    /// How long not to dial the peer again; `None` leaves it to the dialer's back-off.
    ///
    /// Both sides learn the reason, so neither storms the other with retries.
    pub const fn pause(self) -> Option<Duration> {
        let minutes = match self {
            Self::OtherChain | Self::Version { .. } | Self::SelfDial | Self::Banned => 60,
            Self::Forked { .. } | Self::NotAuthorized | Self::Malformed => 10,
            Self::NotFresh | Self::Busy => 1,
            Self::Timeout | Self::Duplicate => return None,
        };
        Some(Duration::from_secs(60 * minutes))
    }
}

/// Who refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// We refused the peer.
    Ours,
    /// The peer refused us.
    Theirs,
}

/// A refusal, as either side sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {reason}", match .by { Side::Ours => "refused", Side::Theirs => "refused by the peer" })]
pub struct Rejection {
    /// Who refused.
    pub by: Side,
    /// Why.
    pub reason: Reason,
}

/// Whether a connection stays when there are two between the same nodes, one dialled by each.
///
/// Both sides come to the same answer, so exactly one of the two stays: the one dialled by the node
/// with the smaller id. The other is closed with [`Reason::Duplicate`]. Of two connections dialled
/// by the same side, the older one stays.
pub fn link_stays(ours: &NodeId, peer: &NodeId, dialled_by_us: bool) -> bool {
    (ours < peer) == dialled_by_us
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PublicKey, codec};

    #[test]
    fn every_reason_keeps_its_number() {
        let all = [
            Reason::OtherChain,
            Reason::Version { min: 1, max: 2 },
            Reason::Forked { height: 9 },
            Reason::SelfDial,
            Reason::Busy,
            Reason::Banned,
            Reason::NotAuthorized,
            Reason::Malformed,
            Reason::NotFresh,
            Reason::Timeout,
            Reason::Duplicate,
        ];
        for (at, reason) in all.into_iter().enumerate() {
            let bytes = codec::encode(&reason);
            assert_eq!(usize::from(bytes[1]), at + 1, "{reason:?}");
            assert_eq!(codec::decode(&bytes, 64), Ok(reason));
        }
    }

    #[test]
    fn of_two_crossing_dials_both_sides_keep_the_same_one() {
        let (alice, bob) = (PublicKey([1; 32]), PublicKey([2; 32]));
        for dialled_by_alice in [true, false] {
            assert_eq!(
                link_stays(&alice, &bob, dialled_by_alice),
                link_stays(&bob, &alice, !dialled_by_alice),
            );
        }
        assert_ne!(
            link_stays(&alice, &bob, true),
            link_stays(&alice, &bob, false)
        );
    }
}
