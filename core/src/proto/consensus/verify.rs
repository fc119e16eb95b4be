//! Signatures of votes, proposals and certificates at one height.

use std::collections::BTreeSet;

use arc_malachitebft_core_types as engine;
use engine::{NilOrVal, RoundCertificateType, ThresholdParam, VoteType};

use crate::base::{Blake3, ChainId, PublicKey, Signature};
use crate::proto::chain::block::{VoteKind, vote_bytes};
use crate::proto::chain::member::MemberSet;
use crate::proto::consensus::context::{Ctx, Proposal, Vote};
use crate::proto::consensus::convert::{kind, round};
use crate::proto::consensus::message::proposal_bytes;

/// Most signatures that are remembered as good. Beyond it they are checked again when they return.
const KNOWN_MAX: usize = 8_192;

/// Checks signatures, each once: the engine asks again for our own messages and for every
/// precommit of a certificate that it makes of votes it has seen.
#[derive(Debug)]
pub(crate) struct Verifier {
    chain: ChainId,
    known: BTreeSet<Blake3>,
}

impl Verifier {
    pub(crate) fn new(chain: ChainId) -> Self {
        Self {
            chain,
            known: BTreeSet::new(),
        }
    }

    /// The network.
    pub(crate) fn chain(&self) -> &ChainId {
        &self.chain
    }

    /// Forgets the signatures of the height before.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }

    /// The message under a vote.
    pub(crate) fn vote_bytes(&self, vote: &Vote) -> Vec<u8> {
        let block = match &vote.value {
            NilOrVal::Nil => None,
            NilOrVal::Val(id) => Some(id),
        };
        let (height, round) = (vote.height.0, vote.round.as_i64());
        vote_bytes(&self.chain, kind(vote.kind), height, round, block)
    }

    /// The message under a proposal.
    pub(crate) fn proposal_bytes(&self, it: &Proposal) -> Vec<u8> {
        let polka_round = it.polka_round.as_u32();
        let round = round(it.round);
        proposal_bytes(&self.chain, it.height.0, round, polka_round, &it.block)
    }

    /// Whether the signature stands.
    pub(crate) fn check(&mut self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let name = name(key, message, signature);
        if self.known.contains(&name) {
            return true;
        }
        let stands = key.verify(message, signature).is_ok();
        if stands {
            self.remember(name);
        }
        stands
    }

    /// Remembers a signature that we made.
    pub(crate) fn trust(&mut self, key: &PublicKey, message: &[u8], signature: &Signature) {
        self.remember(name(key, message, signature));
    }

    fn remember(&mut self, name: Blake3) {
        if self.known.len() < KNOWN_MAX {
            self.known.insert(name);
        }
    }

    /// Whether a commit certificate stands.
    pub(crate) fn commit(
        &mut self,
        certificate: &engine::CommitCertificate<Ctx>,
        members: &MemberSet,
    ) -> bool {
        let block = Some(&certificate.value_id);
        let (height, round) = (certificate.height.0, certificate.round.as_i64());
        let message = vote_bytes(&self.chain, VoteKind::Precommit, height, round, block);
        let mut tally = Tally::new(members, ThresholdParam::TWO_F_PLUS_ONE);
        for it in &certificate.commit_signatures {
            let stands = self.check(&it.address, &message, &it.signature);
            if !stands || !tally.add(it.address) {
                return false;
            }
        }
        tally.is_enough()
    }

    /// Whether a polka certificate stands.
    pub(crate) fn polka(
        &mut self,
        certificate: &engine::PolkaCertificate<Ctx>,
        members: &MemberSet,
    ) -> bool {
        let block = Some(&certificate.value_id);
        let (height, round) = (certificate.height.0, certificate.round.as_i64());
        let message = vote_bytes(&self.chain, VoteKind::Prevote, height, round, block);
        let mut tally = Tally::new(members, ThresholdParam::TWO_F_PLUS_ONE);
        for it in &certificate.polka_signatures {
            let stands = self.check(&it.address, &message, &it.signature);
            if !stands || !tally.add(it.address) {
                return false;
            }
        }
        tally.is_enough()
    }

    /// Whether the votes justify a round.
    pub(crate) fn round(
        &mut self,
        certificate: &engine::RoundCertificate<Ctx>,
        members: &MemberSet,
    ) -> bool {
        let (needed, is_precommits) = match certificate.cert_type {
            RoundCertificateType::Precommit => (ThresholdParam::TWO_F_PLUS_ONE, true),
            RoundCertificateType::Skip => (ThresholdParam::F_PLUS_ONE, false),
        };
        let mut tally = Tally::new(members, needed);
        for it in &certificate.round_signatures {
            if is_precommits && it.vote_type == VoteType::Prevote {
                return false;
            }
            let vote = Vote {
                kind: it.vote_type,
                height: certificate.height,
                round: certificate.round,
                value: it.value_id,
                voter: it.address,
            };
            let message = self.vote_bytes(&vote);
            let stands = self.check(&it.address, &message, &it.signature);
            if !stands || !tally.add(it.address) {
                return false;
            }
        }
        tally.is_enough()
    }
}

/// Distinct members with standing signatures.
struct Tally<'a> {
    members: &'a MemberSet,
    needed: ThresholdParam,
    signers: BTreeSet<PublicKey>,
}

impl<'a> Tally<'a> {
    fn new(members: &'a MemberSet, needed: ThresholdParam) -> Self {
        Self {
            members,
            needed,
            signers: BTreeSet::new(),
        }
    }

    /// Counts a member once; anybody else spoils the certificate.
    fn add(&mut self, signer: PublicKey) -> bool {
        self.members.by_vote(&signer).is_some() && self.signers.insert(signer)
    }

    fn is_enough(&self) -> bool {
        let (signed, total) = (self.signers.len() as u64, self.members.len() as u64);
        self.needed.is_met(signed, total)
    }
}

fn name(key: &PublicKey, message: &[u8], signature: &Signature) -> Blake3 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(signature.as_bytes());
    hasher.update(message);
    Blake3(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BlockId;
    use crate::proto::chain::member::NodeKeys;
    use crate::proto::chain::testing::{card, node_keys};
    use crate::proto::consensus::message::{RoundReason, RoundVote, RoundVotes};

    fn vote(chain: &ChainId, kind: VoteKind, voter: &NodeKeys) -> RoundVote {
        let block = Some(BlockId([1; 32]));
        let bytes = vote_bytes(chain, kind, 5, 2, block.as_ref());
        RoundVote {
            kind,
            block,
            voter: voter.vote.public(),
            signature: voter.vote.sign(&bytes),
        }
    }

    #[test]
    fn a_certificate_needs_enough_distinct_members_who_signed() {
        use VoteKind::{Precommit, Prevote};
        let chain = ChainId([7; 32]);
        let members = MemberSet::new((0..4).map(|it| card(it).member));
        let (quorum, honest) = (RoundReason::Precommits, RoundReason::Skip);
        for (reason, kind, voters, expected) in [
            (quorum, Precommit, &[0, 1, 2][..], true),
            (quorum, Precommit, &[0, 1], false),
            (quorum, Precommit, &[0, 1, 1], false),
            (quorum, Precommit, &[0, 1, 2, 9], false),
            (quorum, Prevote, &[0, 1, 2], false),
            (honest, Prevote, &[0, 1], true),
            (honest, Prevote, &[0], false),
            (honest, Prevote, &[], false),
        ] {
            let voters = voters.iter().map(|it| node_keys(*it));
            let votes: Vec<_> = voters.map(|it| vote(&chain, kind, &it)).collect();
            let mut certificate = RoundVotes {
                height: 5,
                round: 2,
                reason,
                votes,
            };
            let mut verifier = Verifier::new(chain);
            let mut stands = |it: &RoundVotes| verifier.round(&it.clone().into(), &members);
            assert_eq!(stands(&certificate), expected, "{certificate:?}");
            if expected {
                certificate.votes[0].signature.0[0] ^= 1;
                assert!(!stands(&certificate));
            }
        }
    }
}
