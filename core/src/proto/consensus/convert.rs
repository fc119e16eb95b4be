//! Between our messages and the engine's.

use arc_malachitebft_core_types as engine;
use engine::{
    NilOrVal, PolkaSignature, Round, RoundCertificateType, RoundSignature, SignedMessage, VoteType,
};

use crate::base::BlockId;
use crate::proto::chain::block::{Certificate, CommitSignature, VoteKind};
use crate::proto::consensus::context::{self, Ctx, Height};
use crate::proto::consensus::message::{Polka, Proposal, RoundReason, RoundVote, RoundVotes, Vote};

/// The engine's rounds are numbers, except before a height starts, when it sends nothing.
pub(crate) fn round(round: Round) -> u32 {
    round.as_u32().unwrap_or(0)
}

fn value(block: Option<BlockId>) -> NilOrVal<BlockId> {
    block.map_or(NilOrVal::Nil, NilOrVal::Val)
}

fn block(value: &NilOrVal<BlockId>) -> Option<BlockId> {
    match value {
        NilOrVal::Nil => None,
        NilOrVal::Val(id) => Some(*id),
    }
}

pub(crate) fn kind(kind: VoteType) -> VoteKind {
    match kind {
        VoteType::Prevote => VoteKind::Prevote,
        VoteType::Precommit => VoteKind::Precommit,
    }
}

fn vote_type(kind: VoteKind) -> VoteType {
    match kind {
        VoteKind::Prevote => VoteType::Prevote,
        VoteKind::Precommit => VoteType::Precommit,
    }
}

impl From<Vote> for engine::SignedVote<Ctx> {
    fn from(vote: Vote) -> Self {
        let message = context::Vote {
            kind: vote_type(vote.kind),
            height: Height(vote.height),
            round: Round::new(vote.round),
            value: value(vote.block),
            voter: vote.voter,
        };
        SignedMessage::new(message, vote.signature)
    }
}

impl From<engine::SignedVote<Ctx>> for Vote {
    fn from(signed: engine::SignedVote<Ctx>) -> Self {
        let vote = &signed.message;
        Self {
            kind: kind(vote.kind),
            height: vote.height.0,
            round: round(vote.round),
            block: block(&vote.value),
            voter: vote.voter,
            signature: signed.signature,
        }
    }
}

impl From<Proposal> for engine::SignedProposal<Ctx> {
    fn from(proposal: Proposal) -> Self {
        let message = context::Proposal {
            height: Height(proposal.height),
            round: Round::new(proposal.round),
            polka_round: Round::from(proposal.polka_round),
            block: proposal.block,
            proposer: proposal.proposer,
        };
        SignedMessage::new(message, proposal.signature)
    }
}

impl From<engine::SignedProposal<Ctx>> for Proposal {
    fn from(signed: engine::SignedProposal<Ctx>) -> Self {
        let proposal = &signed.message;
        Self {
            height: proposal.height.0,
            round: round(proposal.round),
            polka_round: proposal.polka_round.as_u32(),
            block: proposal.block,
            proposer: proposal.proposer,
            signature: signed.signature,
        }
    }
}

impl From<Polka> for engine::PolkaCertificate<Ctx> {
    fn from(polka: Polka) -> Self {
        let signatures = polka.signatures.into_iter();
        Self {
            height: Height(polka.height),
            round: Round::new(polka.round),
            value_id: polka.block,
            polka_signatures: signatures
                .map(|it| PolkaSignature::new(it.vote, it.signature))
                .collect(),
        }
    }
}

impl From<engine::PolkaCertificate<Ctx>> for Polka {
    fn from(certificate: engine::PolkaCertificate<Ctx>) -> Self {
        let signatures = certificate.polka_signatures.into_iter();
        Self {
            height: certificate.height.0,
            round: round(certificate.round),
            block: certificate.value_id,
            signatures: signatures
                .map(|it| CommitSignature {
                    vote: it.address,
                    signature: it.signature,
                })
                .collect(),
        }
    }
}

impl From<RoundVotes> for engine::RoundCertificate<Ctx> {
    fn from(votes: RoundVotes) -> Self {
        let signatures = votes.votes.into_iter();
        Self {
            height: Height(votes.height),
            round: Round::new(votes.round),
            cert_type: match votes.reason {
                RoundReason::Skip => RoundCertificateType::Skip,
                RoundReason::Precommits => RoundCertificateType::Precommit,
            },
            round_signatures: signatures
                .map(|it| {
                    RoundSignature::new(vote_type(it.kind), value(it.block), it.voter, it.signature)
                })
                .collect(),
        }
    }
}

impl From<engine::RoundCertificate<Ctx>> for RoundVotes {
    fn from(certificate: engine::RoundCertificate<Ctx>) -> Self {
        let votes = certificate.round_signatures.into_iter();
        Self {
            height: certificate.height.0,
            round: round(certificate.round),
            reason: match certificate.cert_type {
                RoundCertificateType::Skip => RoundReason::Skip,
                RoundCertificateType::Precommit => RoundReason::Precommits,
            },
            votes: votes
                .map(|it| RoundVote {
                    kind: kind(it.vote_type),
                    block: block(&it.value_id),
                    voter: it.address,
                    signature: it.signature,
                })
                .collect(),
        }
    }
}

impl From<engine::CommitCertificate<Ctx>> for Certificate {
    fn from(certificate: engine::CommitCertificate<Ctx>) -> Self {
        let signatures = certificate.commit_signatures.into_iter();
        let mut signatures: Vec<_> = signatures
            .map(|it| CommitSignature {
                vote: it.address,
                signature: it.signature,
            })
            .collect();
        signatures.sort_by_key(|it| it.vote);
        Self {
            height: certificate.height.0,
            round: round(certificate.round),
            block: certificate.value_id,
            signatures,
        }
    }
}
