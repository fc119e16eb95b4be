//! The engine's view of our types. Nothing of it reaches the wire or the disk.

use std::fmt;

use arc_malachitebft_core_types as engine;
use engine::{LinearTimeouts, NilOrVal, Round, SignedExtension, VoteType};

use crate::base::{BlockId, PublicKey, Signature};
use crate::proto::chain::member::{Member, MemberSet};

/// The engine, instantiated with our types. Consensus runs on block ids; bodies travel beside them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ctx;

/// A height.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Height(pub(crate) u64);

/// A vote without its signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Vote {
    pub(crate) kind: VoteType,
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: NilOrVal<BlockId>,
    pub(crate) voter: PublicKey,
}

/// A proposal without its signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Proposal {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) polka_round: Round,
    pub(crate) block: BlockId,
    pub(crate) proposer: PublicKey,
}

/// Who proposes in a round: the members take turns, in the order of their vote keys. `None` if
/// there is no member.
pub(crate) fn proposer(members: &MemberSet, height: u64, round: u32) -> Option<&Member> {
    let turn = height.wrapping_add(u64::from(round));
    let at = turn.checked_rem(members.len() as u64)?;
    members.iter().nth(usize::try_from(at).unwrap_or(0))
}

impl engine::Context for Ctx {
    type Address = PublicKey;
    type Height = Height;
    type ProposalPart = NoPart;
    type Proposal = Proposal;
    type Validator = Member;
    type ValidatorSet = MemberSet;
    type Timeouts = LinearTimeouts;
    type Value = BlockId;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(
        &self,
        members: &'a MemberSet,
        height: Height,
        round: Round,
    ) -> &'a Member {
        let chosen = proposer(members, height.0, round.as_u32().unwrap_or(0));
        // The machine starts no height without members.
        chosen.unwrap_or_else(|| &members.iter().as_slice()[0])
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        block: BlockId,
        polka_round: Round,
        proposer: PublicKey,
    ) -> Proposal {
        Proposal {
            height,
            round,
            polka_round,
            block,
            proposer,
        }
    }

    fn new_prevote(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<BlockId>,
        voter: PublicKey,
    ) -> Vote {
        Vote {
            kind: VoteType::Prevote,
            height,
            round,
            value,
            voter,
        }
    }

    fn new_precommit(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<BlockId>,
        voter: PublicKey,
    ) -> Vote {
        Vote {
            kind: VoteType::Precommit,
            height,
            round,
            value,
            voter,
        }
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl engine::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    fn decrement_by(&self, count: u64) -> Option<Self> {
        self.0.checked_sub(count).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

impl engine::Address for PublicKey {}

impl engine::Value for BlockId {
    type Id = Self;

    fn id(&self) -> Self {
        *self
    }
}

impl engine::Validator<Ctx> for Member {
    fn address(&self) -> &PublicKey {
        &self.vote
    }

    fn public_key(&self) -> &PublicKey {
        &self.vote
    }

    fn voting_power(&self) -> u64 {
        1
    }
}

impl engine::ValidatorSet<Ctx> for MemberSet {
    fn count(&self) -> usize {
        self.len()
    }

    fn total_voting_power(&self) -> u64 {
        self.len() as u64
    }

    fn get_by_address(&self, vote: &PublicKey) -> Option<&Member> {
        self.by_vote(vote)
    }

    fn get_by_index(&self, at: usize) -> Option<&Member> {
        self.iter().nth(at)
    }
}

impl engine::Proposal<Ctx> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &BlockId {
        &self.block
    }

    fn take_value(self) -> BlockId {
        self.block
    }

    fn pol_round(&self) -> Round {
        self.polka_round
    }

    fn validator_address(&self) -> &PublicKey {
        &self.proposer
    }
}

/// Vote extensions are switched off, so no vote carries one.
impl engine::Vote<Ctx> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockId> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<BlockId> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &PublicKey {
        &self.voter
    }

    fn extension(&self) -> Option<&SignedExtension<Ctx>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Ctx>> {
        None
    }

    fn extend(self, _: SignedExtension<Ctx>) -> Self {
        self
    }
}

/// The engine's own network streams blocks in parts; ours does not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct NoPart;

impl engine::ProposalPart<Ctx> for NoPart {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

/// The signatures of `base::sign`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ed25519;

impl engine::SigningScheme for Ed25519 {
    type DecodingError = std::array::TryFromSliceError;
    type Signature = Signature;
    type PublicKey = PublicKey;
    /// Secret keys stay with the machine.
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Signature, Self::DecodingError> {
        bytes.try_into().map(Signature)
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, Self::DecodingError> {
        bytes.try_into().map(PublicKey)
    }

    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.0.to_vec()
    }
}
