//! What members of one height say to each other.
//!
//! ```text
//! message = CBOR array [kind, body]    kind: 0 proposal, 1 vote, 2 polka, 3 round
//! ```
//!
//! A proposal carries the whole block, so that a voter can judge it at once. Polka and round
//! certificates only help others to catch up within a height.

use minicbor::{Decode, Encode};

use crate::base::{BlockId, ChainId, CodecError, PublicKey, Signature, codec};
use crate::proto::chain::block::{BLOCK_BYTES_MAX, Block, CommitSignature, VoteKind, vote_bytes};
use crate::proto::chain::member::MEMBERS_MAX;

/// Longest message: a proposal. Unit: bytes.
pub const MESSAGE_BYTES_MAX: usize = BLOCK_BYTES_MAX + 1_024;

/// Longest message that is not a proposal. Unit: bytes. A certificate of [`MEMBERS_MAX`] votes of
/// about 150 bytes fits.
pub const SMALL_MESSAGE_BYTES_MAX: usize = 16 * 1_024;

/// Rounds from this one on are ignored. At half a second and more for each, a height that needs so
/// many is years old; the limit keeps arithmetic on rounds far from overflow.
pub const ROUNDS_MAX: u32 = 1 << 24;

/// A message from one member to the others.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub enum Message {
    /// The proposer's block.
    #[n(0)]
    Proposal(#[n(0)] Proposal, #[n(1)] Box<Block>),
    /// A vote.
    #[n(1)]
    Vote(#[n(0)] Vote),
    /// A quorum of prevotes for a block.
    #[n(2)]
    Polka(#[n(0)] Polka),
    /// Votes that justify entering a round.
    #[n(3)]
    Round(#[n(0)] RoundVotes),
}

/// A proposer's signed choice of a block.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Proposal {
    /// The height.
    #[n(0)]
    pub height: u64,
    /// The round.
    #[n(1)]
    pub round: u32,
    /// The earlier round in which a quorum already preferred this block.
    #[n(2)]
    pub polka_round: Option<u32>,
    /// The block.
    #[n(3)]
    pub block: BlockId,
    /// The proposer's vote key.
    #[n(4)]
    pub proposer: PublicKey,
    /// Over [`proposal_bytes`].
    #[n(5)]
    pub signature: Signature,
}

/// A member's signed vote.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Vote {
    /// Prevote or precommit.
    #[n(0)]
    pub kind: VoteKind,
    /// The height.
    #[n(1)]
    pub height: u64,
    /// The round.
    #[n(2)]
    pub round: u32,
    /// The block; `None` is a vote for nil.
    #[n(3)]
    pub block: Option<BlockId>,
    /// The voter's vote key.
    #[n(4)]
    pub voter: PublicKey,
    /// Over [`vote_bytes`].
    #[n(5)]
    pub signature: Signature,
}

/// A quorum of prevotes for one block in one round.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Polka {
    /// The height.
    #[n(0)]
    pub height: u64,
    /// The round.
    #[n(1)]
    pub round: u32,
    /// The block.
    #[n(2)]
    pub block: BlockId,
    /// The prevotes.
    #[n(3)]
    pub signatures: Vec<CommitSignature>,
}

/// Votes of one round that justify entering a round.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct RoundVotes {
    /// The height.
    #[n(0)]
    pub height: u64,
    /// The round of the votes.
    #[n(1)]
    pub round: u32,
    /// What they justify.
    #[n(2)]
    pub reason: RoundReason,
    /// The votes.
    #[n(3)]
    pub votes: Vec<RoundVote>,
}

/// Why a round is entered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(index_only)]
pub enum RoundReason {
    /// f+1 members are in the votes' round: go there.
    #[n(1)]
    Skip,
    /// 2f+1 precommits of the votes' round, not all for one block: go to the next.
    #[n(2)]
    Precommits,
}

/// One vote in [`RoundVotes`].
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct RoundVote {
    /// Prevote or precommit.
    #[n(0)]
    pub kind: VoteKind,
    /// The block; `None` is a vote for nil.
    #[n(1)]
    pub block: Option<BlockId>,
    /// The voter's vote key.
    #[n(2)]
    pub voter: PublicKey,
    /// Over [`vote_bytes`].
    #[n(3)]
    pub signature: Signature,
}

/// The message under a proposal.
///
/// ```text
/// "kogge/proposal/v1\0" ‖ chain (32) ‖ height (8) ‖ round (8) ‖ polka round (8, -1 for none)
///                       ‖ block (32)          all numbers two's complement, big endian
/// ```
pub fn proposal_bytes(
    chain: &ChainId,
    height: u64,
    round: u32,
    polka_round: Option<u32>,
    block: &BlockId,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(b"kogge/proposal/v1\0");
    bytes.extend_from_slice(chain.as_bytes());
    bytes.extend_from_slice(&height.to_be_bytes());
    bytes.extend_from_slice(&i64::from(round).to_be_bytes());
    bytes.extend_from_slice(&polka_round.map_or(-1, i64::from).to_be_bytes());
    bytes.extend_from_slice(block.as_bytes());
    bytes
}

impl Proposal {
    /// The message under the signature.
    pub fn signed_bytes(&self, chain: &ChainId) -> Vec<u8> {
        proposal_bytes(
            chain,
            self.height,
            self.round,
            self.polka_round,
            &self.block,
        )
    }
}

impl Vote {
    /// The message under the signature.
    pub fn signed_bytes(&self, chain: &ChainId) -> Vec<u8> {
        let round = i64::from(self.round);
        vote_bytes(chain, self.kind, self.height, round, self.block.as_ref())
    }
}

impl Message {
    /// The height that the message is about.
    pub fn height(&self) -> u64 {
        match self {
            Self::Proposal(it, _) => it.height,
            Self::Vote(it) => it.height,
            Self::Polka(it) => it.height,
            Self::Round(it) => it.height,
        }
    }

    /// The round that the message is about.
    pub fn round(&self) -> u32 {
        match self {
            Self::Proposal(it, _) => it.round,
            Self::Vote(it) => it.round,
            Self::Polka(it) => it.round,
            Self::Round(it) => it.round,
        }
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a message; checks form and limits, no signature.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if it is not the canonical form of a message, or too long for its kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let is_proposal = matches!(bytes, [0x82, 0, ..]);
        let bytes_max = if is_proposal {
            MESSAGE_BYTES_MAX
        } else {
            SMALL_MESSAGE_BYTES_MAX
        };
        let message: Self = codec::decode(bytes, bytes_max)?;
        if !message.is_sound() {
            return Err(CodecError::Invalid("the message contradicts itself"));
        }
        Ok(message)
    }

    /// Whether the message makes sense at all, whoever sent it.
    pub fn is_sound(&self) -> bool {
        let is_whole = match self {
            Self::Proposal(it, block) => {
                it.polka_round.is_none_or(|polka| polka < it.round)
                    && block.height() == it.height
                    && block.id() == it.block
            }
            Self::Vote(_) => true,
            Self::Polka(it) => it.signatures.len() <= MEMBERS_MAX,
            Self::Round(it) => it.votes.len() <= MEMBERS_MAX,
        };
        is_whole && self.round() < ROUNDS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SecretKey;
    use crate::proto::chain::testing::{MemoryChain, node_keys, package};

    fn messages() -> Vec<Message> {
        let chain = MemoryChain::new(1);
        let group = package(chain.state.chain(), "pkg:a/a@1", "", &[node_keys(0)]);
        let block = chain.build([group]).unwrap();
        let key = SecretKey::from_seed([1; 32]);
        let (voter, signature) = (key.public(), key.sign(b""));
        let proposal = Proposal {
            height: 1,
            round: 2,
            polka_round: Some(1),
            block: block.id(),
            proposer: voter,
            signature,
        };
        let vote = RoundVote {
            kind: VoteKind::Prevote,
            block: None,
            voter,
            signature,
        };
        vec![
            Message::Proposal(proposal, Box::new(block.clone())),
            Message::Vote(Vote {
                kind: VoteKind::Precommit,
                height: 1,
                round: 0,
                block: Some(block.id()),
                voter,
                signature,
            }),
            Message::Polka(Polka {
                height: 1,
                round: 0,
                block: block.id(),
                signatures: vec![
                    CommitSignature {
                        vote: voter,
                        signature
                    };
                    MEMBERS_MAX
                ],
            }),
            Message::Round(RoundVotes {
                height: 1,
                round: 0,
                reason: RoundReason::Skip,
                votes: vec![vote; MEMBERS_MAX],
            }),
        ]
    }

    #[test]
    fn a_message_survives_its_bytes() {
        for message in messages() {
            assert_eq!(Message::from_bytes(&message.to_bytes()), Ok(message));
        }
    }

    #[test]
    fn unsound_messages_are_refused() {
        let spoil: [fn(&mut Message); 8] = [
            |it| set(it, |p, _| p.polka_round = Some(p.round)),
            |it| set(it, |p, _| p.height += 1),
            |it| set(it, |p, _| p.block = BlockId([0; 32])),
            |it| set(it, |p, _| p.round = ROUNDS_MAX),
            |it| {
                if let Message::Vote(vote) = it {
                    vote.round = ROUNDS_MAX;
                }
            },
            |it| {
                if let Message::Polka(polka) = it {
                    polka.signatures.push(polka.signatures[0].clone());
                }
            },
            |it| {
                if let Message::Round(round) = it {
                    round.votes.push(round.votes[0].clone());
                }
            },
            |it| set(it, |_, block| block.header.seal.height += 1),
        ];
        for (case, spoil) in spoil.into_iter().enumerate() {
            let good = messages();
            let mut bad = good.clone();
            bad.iter_mut().for_each(spoil);
            let changed = bad.iter().zip(&good).filter(|(bad, good)| bad != good);
            let changed: Vec<_> = changed.map(|(bad, _)| bad.to_bytes()).collect();
            assert_eq!(changed.len(), 1, "case {case}");
            assert!(Message::from_bytes(&changed[0]).is_err(), "case {case}");
        }
    }

    fn set(message: &mut Message, change: impl Fn(&mut Proposal, &mut Block)) {
        if let Message::Proposal(proposal, block) = message {
            change(proposal, block);
        }
    }

    #[test]
    fn only_proposals_may_be_long() {
        let mut bytes = vec![0x82, 1];
        bytes.resize(SMALL_MESSAGE_BYTES_MAX + 1, 0);
        let too_long = |it| matches!(it, Err(CodecError::TooLong { .. }));
        assert!(too_long(Message::from_bytes(&bytes)));
        bytes[1] = 0;
        assert!(!too_long(Message::from_bytes(&bytes)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_or_canonical(bytes: Vec<u8>) {
            if let Ok(message) = Message::from_bytes(&bytes) {
                proptest::prop_assert_eq!(message.to_bytes(), bytes);
            }
        }
    }
}
