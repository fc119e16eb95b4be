//! Records of the write-ahead log.
//!
//! What influenced our votes at a height, in order, so that a restarted node comes to the same
//! votes again instead of contradicting what it already sent.
//!
//! ```text
//! record = CBOR array [version = 1, height, [kind, body]]
//! ```
//!
//! Framing, checksums and torn tails are the shell's.

use arc_malachitebft_core_consensus::{Input, ProposedValue};
use arc_malachitebft_core_types as engine;
use engine::{Round, Timeout, TimeoutKind, Validity, ValueOrigin};
use minicbor::{Decode, Encode};

use crate::base::{BlockId, CodecError, PublicKey, codec};
use crate::proto::chain::block::{BLOCK_BYTES_MAX, Block};
use crate::proto::consensus::context::{Ctx, Height};
use crate::proto::consensus::convert::round;
use crate::proto::consensus::message::{Polka, Proposal, Vote};

/// Longest record: a block. Unit: bytes.
pub const RECORD_BYTES_MAX: usize = BLOCK_BYTES_MAX + 64;

/// The version of the record format.
const VERSION: u8 = 1;

/// One record.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Record {
    #[n(0)]
    version: u8,
    #[n(1)]
    pub(crate) height: u64,
    #[n(2)]
    pub(crate) event: Event,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub(crate) enum Event {
    /// The body of a block, always before the value that names it.
    #[n(0)]
    Body(#[n(0)] Block),
    /// A vote, ours or another's.
    #[n(1)]
    Vote(#[n(0)] Vote),
    /// A proposal, ours or another's.
    #[n(2)]
    Proposal(#[n(0)] Proposal),
    /// A timeout fired.
    #[n(3)]
    Timeout(#[n(0)] Step, #[n(1)] u32),
    /// A block was judged.
    #[n(4)]
    Value(#[n(0)] Value),
    /// A polka certificate was accepted.
    #[n(5)]
    Polka(#[n(0)] Polka),
}

/// A judged block.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Value {
    #[n(0)]
    pub(crate) round: u32,
    #[n(1)]
    pub(crate) polka_round: Option<u32>,
    #[n(2)]
    pub(crate) proposer: PublicKey,
    #[n(3)]
    pub(crate) block: BlockId,
    #[n(4)]
    pub(crate) is_valid: bool,
}

/// The steps that time out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(index_only)]
pub(crate) enum Step {
    #[n(1)]
    Propose,
    #[n(2)]
    Prevote,
    #[n(3)]
    Precommit,
}

impl Record {
    pub(crate) fn new(height: u64, event: Event) -> Self {
        Self {
            version: VERSION,
            height,
            event,
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let record: Self = codec::decode(bytes, RECORD_BYTES_MAX)?;
        if record.version != VERSION {
            return Err(CodecError::Invalid("the record is of another version"));
        }
        Ok(record)
    }
}

impl Event {
    /// The record of an input, or `None` if the engine never asks to persist its kind.
    pub(crate) fn of(input: Input<Ctx>) -> Option<Self> {
        Some(match input {
            Input::Vote(vote) => Self::Vote(vote.into()),
            Input::Proposal(proposal) => Self::Proposal(proposal.into()),
            Input::TimeoutElapsed(timeout) => {
                let step = match timeout.kind {
                    TimeoutKind::Propose => Step::Propose,
                    TimeoutKind::Prevote => Step::Prevote,
                    TimeoutKind::Precommit => Step::Precommit,
                    TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => return None,
                };
                Self::Timeout(step, round(timeout.round))
            }
            Input::ProposedValue(value, _) => Self::Value(Value {
                round: round(value.round),
                polka_round: value.valid_round.as_u32(),
                proposer: value.proposer,
                block: value.value,
                is_valid: value.validity.is_valid(),
            }),
            Input::PolkaCertificate(certificate) => Self::Polka(certificate.into()),
            Input::StartHeight(..)
            | Input::RoundCertificate(_)
            | Input::Propose(_)
            | Input::SyncValueResponse(_) => return None,
        })
    }

    /// The input to replay, or `None` for a body.
    pub(crate) fn into_input(self, height: u64) -> Option<Input<Ctx>> {
        Some(match self {
            Self::Body(_) => return None,
            Self::Vote(vote) => Input::Vote(vote.into()),
            Self::Proposal(proposal) => Input::Proposal(proposal.into()),
            Self::Timeout(step, round) => {
                let kind = match step {
                    Step::Propose => TimeoutKind::Propose,
                    Step::Prevote => TimeoutKind::Prevote,
                    Step::Precommit => TimeoutKind::Precommit,
                };
                Input::TimeoutElapsed(Timeout::new(Round::new(round), kind))
            }
            Self::Value(value) => value.into_input(height),
            Self::Polka(polka) => Input::PolkaCertificate(polka.into()),
        })
    }
}

impl Value {
    /// The engine's form.
    pub(crate) fn into_input(self, height: u64) -> Input<Ctx> {
        let value = ProposedValue {
            height: Height(height),
            round: Round::new(self.round),
            valid_round: Round::from(self.polka_round),
            proposer: self.proposer,
            value: self.block,
            validity: Validity::from_bool(self.is_valid),
        };
        Input::ProposedValue(value, ValueOrigin::Consensus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SecretKey;
    use crate::proto::chain::block::{CommitSignature, VoteKind};
    use crate::proto::chain::testing::{MemoryChain, node_keys, package};

    #[test]
    fn a_record_survives_its_bytes_and_the_engine() {
        let key = SecretKey::from_seed([1; 32]);
        let (me, signature) = (key.public(), key.sign(b""));
        let block = BlockId([3; 32]);
        let vote = |kind, block| Vote {
            kind,
            height: 7,
            round: 2,
            block,
            voter: me,
            signature,
        };
        let events = [
            Event::Vote(vote(VoteKind::Prevote, None)),
            Event::Vote(vote(VoteKind::Precommit, Some(block))),
            Event::Proposal(Proposal {
                height: 7,
                round: 2,
                polka_round: Some(0),
                block,
                proposer: me,
                signature,
            }),
            Event::Timeout(Step::Propose, 0),
            Event::Timeout(Step::Prevote, 1),
            Event::Timeout(Step::Precommit, 2),
            Event::Value(Value {
                round: 2,
                polka_round: None,
                proposer: me,
                block,
                is_valid: false,
            }),
            Event::Polka(Polka {
                height: 7,
                round: 1,
                block,
                signatures: vec![CommitSignature {
                    vote: me,
                    signature,
                }],
            }),
        ];
        for event in events {
            let record = Record::new(7, event.clone());
            assert_eq!(Record::from_bytes(&record.to_bytes()), Ok(record));
            let input = event.clone().into_input(7).unwrap();
            assert_eq!(Event::of(input), Some(event));
        }
    }

    #[test]
    fn a_body_is_a_record_but_no_input() {
        let chain = MemoryChain::new(1);
        let group = package(chain.state.chain(), "pkg:a/a@1", "", &[node_keys(0)]);
        let body = Event::Body(chain.build([group]).unwrap());
        let record = Record::new(1, body.clone());
        assert_eq!(Record::from_bytes(&record.to_bytes()), Ok(record));
        assert_eq!(body.into_input(1), None);
    }

    #[test]
    fn damaged_records_and_other_versions_are_refused() {
        let good = Record::new(1, Event::Timeout(Step::Propose, 0)).to_bytes();
        let mut later = good.clone();
        later[1] = 2;
        for bytes in [&good[..good.len() - 1], &later] {
            assert!(Record::from_bytes(bytes).is_err(), "{bytes:x?}");
        }
    }
}
