//! What nodes tell each other about what waits for a block.

use std::time::Duration;

use minicbor::{Decode, Encode};

use crate::base::digest::bytes_newtype;
use crate::base::{
    Blake3, BlockId, ChainId, CodecError, NodeId, Signature, SignatureError, Subject, WallTime,
    codec,
};
use crate::proto::chain::consent::{Consent, readiness_bytes};
use crate::proto::chain::member::{Card, MEMBERS_MAX, Member};
use crate::proto::log::entry::{Attest, Mark};
use crate::proto::pool::group::{Group, GroupError};

/// Longest message. Unit: bytes.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Most attestations in one message.
pub const ATTESTS_MAX: usize = 512;

/// Most groups that one [`PoolMessage::Have`] lists.
pub const HAVE_MAX: usize = 8_192;

/// Most groups that one [`PoolMessage::Want`] asks for.
pub const WANT_MAX: usize = 64;

/// Longest reason of a change. Unit: bytes.
pub const REASON_BYTES_MAX: usize = 1_024;

bytes_newtype!(
    /// A digest of who attested a group, to see whether two nodes know the same attestations.
    Signers,
    8
);

/// Why a message is refused, and its sender to blame.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PoolError {
    /// Not a readable message.
    #[error("the pool message is not readable: {0}")]
    Codec(#[from] CodecError),
    /// A field breaks a limit.
    #[error("the pool message's {0}")]
    Field(&'static str),
    /// The group would be refused in a block.
    #[error("the group is malformed: {0}")]
    Group(#[from] GroupError),
    /// A signature does not stand.
    #[error("a signature of node {0}: {1}")]
    Signature(NodeId, SignatureError),
}

/// A message about what waits for a block.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub enum PoolMessage {
    /// Members attest facts. Whoever attests has the group: this is also the notice that a group
    /// exists whose entries are too long for gossip.
    #[n(0)]
    Attests(#[n(0)] Vec<Attest>),
    /// A group with the attestations that the sender knows.
    #[n(1)]
    Group(#[n(0)] Group),
    /// Admins consent to a change.
    #[n(2)]
    Marks(#[n(0)] Marks),
    /// A candidate has followed the log.
    #[n(3)]
    Ready(#[n(0)] Ready),
    /// All groups that the sender has, to a peer that just connected.
    #[n(4)]
    Have(#[n(0)] Vec<Have>),
    /// Asks a peer for groups with their entries.
    #[n(5)]
    Want(#[n(0)] Vec<Subject>),
}

/// What a node has of a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Have {
    /// The facts.
    #[n(0)]
    pub subject: Subject,
    /// Whether it has the entries, not only attestations.
    #[n(1)]
    pub is_whole: bool,
    /// Who attested.
    #[n(2)]
    pub signers: Signers,
}

impl Signers {
    /// The digest of `nodes`, which are sorted.
    pub fn of<'a>(nodes: impl IntoIterator<Item = &'a NodeId>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for node in nodes {
            hasher.update(node.as_bytes());
        }
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        Self([a, b, c, d, e, f, g, h])
    }
}

/// A change that needs the consent of the members' admins.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub enum Change {
    /// Admit a node.
    #[n(0)]
    AddNode(#[n(0)] Box<Card>),
    /// Dismiss a node.
    #[n(1)]
    RemoveNode {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// Why, for people.
        #[n(1)]
        reason: String,
    },
    /// Withdraw an artifact.
    #[n(2)]
    RemoveArtifact {
        /// Index of the artifact's leaf.
        #[n(0)]
        index: u64,
        /// Why, for people.
        #[n(1)]
        reason: String,
    },
}

impl Change {
    /// What admins sign.
    pub fn consent(&self) -> Consent<'_> {
        match self {
            Self::AddNode(card) => Consent::AddNode(&card.member),
            Self::RemoveNode { node, reason } => Consent::RemoveNode { node, reason },
            Self::RemoveArtifact { index, reason } => Consent::RemoveArtifact {
                index: *index,
                reason,
            },
        }
    }

    /// The node that is to be admitted.
    pub fn candidate(&self) -> Option<&Member> {
        match self {
            Self::AddNode(card) => Some(&card.member),
            Self::RemoveNode { .. } | Self::RemoveArtifact { .. } => None,
        }
    }

    /// Two marks with the same key are for the same change.
    pub(crate) fn key(consent: &Consent<'_>, chain: &ChainId) -> Blake3 {
        Blake3::of(&consent.signed_bytes(chain))
    }

    fn check(&self) -> Result<(), PoolError> {
        match self {
            Self::AddNode(card) => card
                .check()
                .map_err(|_| PoolError::Field("card does not stand")),
            Self::RemoveNode { reason, .. } | Self::RemoveArtifact { reason, .. } => {
                if REASON_BYTES_MAX < reason.len() {
                    return Err(PoolError::Field("reason is too long"));
                }
                Ok(())
            }
        }
    }
}

/// Consent to a change, as far as the sender knows it.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Marks {
    /// The change.
    #[n(0)]
    pub change: Change,
    /// By admins of members, sorted by node.
    #[n(1)]
    pub marks: Vec<Mark>,
    /// The candidate's latest proof that it follows the log.
    #[n(2)]
    pub ready: Option<Ready>,
}

/// A change that waits for consent, in the form in which it survives a restart.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Kept {
    /// The change with its consent.
    #[n(0)]
    pub marks: Marks,
    /// The member whose admin marked it first; pays for it in the limits.
    #[n(1)]
    pub owner: NodeId,
    /// When it is forgotten.
    #[n(2)]
    pub until: WallTime,
}

impl Kept {
    /// The stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads the stored form and checks its limits; not its signatures.
    ///
    /// # Errors
    ///
    /// [`PoolError`] if it is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PoolError> {
        let kept: Self = codec::decode(bytes, MESSAGE_BYTES_MAX)?;
        kept.marks.check()?;
        Ok(kept)
    }

    /// How much longer it waits, by the node's clock or by the time of the last block, whichever is
    /// earlier: a clock that is ahead when the node starts must not end what admins consented to.
    pub fn left(&self, clock: WallTime, log: WallTime) -> Duration {
        let now = clock.min(log).as_millis();
        let millis = self.until.as_millis().saturating_sub(now);
        Duration::from_millis(millis)
    }
}

impl Marks {
    fn check(&self) -> Result<(), PoolError> {
        self.change.check()?;
        if self.marks.is_empty() || !self.marks.windows(2).all(|it| it[0].node < it[1].node) {
            return Err(PoolError::Field("marks are missing, unsorted or repeated"));
        }
        if MEMBERS_MAX < self.marks.len() {
            return Err(PoolError::Field("list is too long"));
        }
        Ok(())
    }
}

/// A candidate has followed the log to a block.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Ready {
    /// The candidate.
    #[n(0)]
    pub node: NodeId,
    /// The height.
    #[n(1)]
    pub height: u64,
    /// The block at that height.
    #[n(2)]
    pub block: BlockId,
    /// By the candidate's vote key; see [`crate::proto::chain::consent::sign_readiness`].
    #[n(3)]
    pub signature: Signature,
}

impl Ready {
    /// Checks the proof; not whether the block is ours.
    pub(crate) fn verify(&self, chain: &ChainId, member: &Member) -> Result<(), SignatureError> {
        if member.node != self.node {
            return Err(SignatureError::Key);
        }
        let message = readiness_bytes(chain, self.height, &self.block);
        member.vote.verify(&message, &self.signature)
    }
}

impl PoolMessage {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a message and checks its form and limits; not its signatures.
    ///
    /// # Errors
    ///
    /// [`PoolError`] if it is not the canonical form of a well-formed message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PoolError> {
        let message: Self = codec::decode(bytes, MESSAGE_BYTES_MAX)?;
        let (items, items_max) = match &message {
            Self::Attests(it) => (it.len(), ATTESTS_MAX),
            Self::Have(it) => (it.len(), HAVE_MAX),
            Self::Want(it) => (it.len(), WANT_MAX),
            Self::Marks(it) => {
                it.check()?;
                (0, 0)
            }
            Self::Group(_) | Self::Ready(_) => (0, 0),
        };
        if items_max < items {
            return Err(PoolError::Field("list is too long"));
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PublicKey;
    use crate::proto::chain::consent::sign_readiness;
    use crate::proto::chain::testing::{attest, card, node_keys, package};
    use proptest::prelude::*;

    const CHAIN: ChainId = ChainId([1; 32]);

    #[test]
    fn messages_survive_their_bytes() {
        let alice = node_keys(1);
        let subject = Subject([2; 32]);
        let group = package(&CHAIN, "pkg:maven/g/a@1", "", std::slice::from_ref(&alice));
        let ready = Ready {
            node: node_keys(9).id(),
            height: 7,
            block: BlockId([7; 32]),
            signature: sign_readiness(&CHAIN, 7, &BlockId([7; 32]), &node_keys(9).vote),
        };
        let change = Change::AddNode(Box::new(card(9)));
        let marks = vec![change.consent().mark(&CHAIN, alice.id(), &alice.admin)];
        for message in [
            PoolMessage::Attests(vec![attest(&CHAIN, subject, &alice)]),
            PoolMessage::Group(Group::new(group).unwrap()),
            PoolMessage::Ready(ready.clone()),
            PoolMessage::Marks(Marks {
                change,
                marks,
                ready: Some(ready),
            }),
            PoolMessage::Have(vec![Have {
                subject,
                is_whole: true,
                signers: Signers::of([&alice.id()]),
            }]),
            PoolMessage::Want(vec![subject]),
        ] {
            let bytes = message.to_bytes();
            assert_eq!(PoolMessage::from_bytes(&bytes), Ok(message));
        }
    }

    #[test]
    fn lists_beyond_their_limits_are_refused() {
        let mark = Mark {
            node: PublicKey([1; 32]),
            signature: Signature([0; 64]),
        };
        let marks = |reason: usize, marks: Vec<Mark>| {
            let change = Change::RemoveArtifact {
                index: 1,
                reason: "x".repeat(reason),
            };
            PoolMessage::Marks(Marks {
                change,
                marks,
                ready: None,
            })
        };
        let mut spoilt = card(9);
        spoilt.member.name = "eve".into();
        for message in [
            PoolMessage::Want(vec![Subject([0; 32]); WANT_MAX + 1]),
            marks(1_025, vec![mark.clone()]),
            marks(0, vec![]),
            marks(0, vec![mark.clone(), mark.clone()]),
            PoolMessage::Marks(Marks {
                change: Change::AddNode(Box::new(spoilt)),
                marks: vec![mark],
                ready: None,
            }),
        ] {
            assert!(matches!(
                PoolMessage::from_bytes(&message.to_bytes()),
                Err(PoolError::Field(_))
            ));
        }
        assert!(matches!(
            PoolMessage::from_bytes(&vec![0; MESSAGE_BYTES_MAX + 1]),
            Err(PoolError::Codec(CodecError::TooLong { .. }))
        ));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = PoolMessage::from_bytes(&bytes) {
                prop_assert_eq!(message.to_bytes(), bytes);
            }
        }
    }
}
