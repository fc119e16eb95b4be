//! The state of the chain: all that the next block builds on, besides the log's content.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use crate::base::{BlockId, ChainId, CodecError, PublicKey, Sha256, WallTime, codec};
use crate::proto::chain::check::CheckedBlock;
use crate::proto::chain::genesis::{Genesis, Params};
use crate::proto::chain::member::{Member, MemberSet};
use crate::proto::chain::rules::RuleError;
use crate::proto::log::tree::Frontier;

/// Most keys of removed nodes that are remembered, five for each node. A node is not removed
/// beyond it: see [`RuleError::RetiredFull`].
pub const RETIRED_MAX: usize = 50_000;

/// Longest stored state. Unit: bytes. [`RETIRED_MAX`] keys of 34 bytes and 64 members fit.
const STATE_BYTES_MAX: usize = 2 << 20;

/// The version of the stored form.
const VERSION: u8 = 1;

/// Why bytes are not a stored state.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StateError {
    /// Not the form of a state.
    #[error("the stored chain state is not readable: {0}")]
    Codec(#[from] CodecError),
    /// Written by a later program.
    #[error("the stored chain state has version {0}, which is unknown to this program")]
    Version(u8),
}

/// What the next block builds on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChainState {
    pub(crate) chain: ChainId,
    pub(crate) params: Params,
    pub(crate) height: u64,
    pub(crate) tip: BlockId,
    pub(crate) time: WallTime,
    pub(crate) members: MemberSet,
    pub(crate) frontier: Frontier,
    pub(crate) retired: BTreeSet<PublicKey>,
}

impl ChainState {
    /// The state before the first block.
    pub fn genesis(genesis: &Genesis) -> Self {
        Self {
            chain: genesis.chain(),
            params: genesis.params,
            height: 0,
            tip: BlockId([0; 32]),
            time: genesis.time,
            members: genesis.member_set(),
            frontier: Frontier::default(),
            retired: BTreeSet::new(),
        }
    }

    /// The network.
    pub fn chain(&self) -> &ChainId {
        &self.chain
    }

    /// The network's parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Number of blocks.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// The last block; 32 zero bytes before the first.
    pub fn tip(&self) -> &BlockId {
        &self.tip
    }

    /// Time of the last block, or of the genesis.
    pub fn time(&self) -> WallTime {
        self.time
    }

    /// The authorized nodes that decide the next block.
    pub fn members(&self) -> &MemberSet {
        &self.members
    }

    /// The right edge of the log.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Number of leaves in the log.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Root of the log.
    pub fn root(&self) -> Sha256 {
        self.frontier.root()
    }

    /// Whether `key` belonged to a node that was removed.
    pub fn is_retired(&self, key: &PublicKey) -> bool {
        self.retired.contains(key)
    }

    /// Appends a block that was checked against this very state.
    ///
    /// # Errors
    ///
    /// [`RuleError::Parent`] if it was checked against another one; nothing changes then.
    pub fn apply(&mut self, block: &CheckedBlock) -> Result<(), RuleError> {
        let seal = &block.block().header.seal;
        if seal.parent != self.tip || seal.height != self.height + 1 {
            return Err(RuleError::Parent);
        }
        *self = block.next().clone();
        Ok(())
    }

    /// The stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&Stored {
            version: VERSION,
            chain: self.chain,
            params: self.params,
            height: self.height,
            tip: self.tip,
            time: self.time,
            members: self.members.clone(),
            size: self.frontier.size(),
            peaks: self.frontier.peaks().to_vec(),
            retired: self.retired.iter().copied().collect(),
        })
    }

    /// Reads the stored form.
    ///
    /// # Errors
    ///
    /// [`StateError`] if it is damaged or of a later version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        if let [0x8a, version @ 0..=23, ..] = bytes
            && *version != VERSION
        {
            return Err(StateError::Version(*version));
        }
        let stored: Stored = codec::decode(bytes, STATE_BYTES_MAX)?;
        let frontier = Frontier::from_peaks(stored.size, stored.peaks)
            .ok_or(CodecError::Invalid("the peaks do not fit the log's size"))?;
        let sorted = stored.retired.windows(2).all(|it| it[0] < it[1]);
        if stored.version != VERSION || !sorted {
            return Err(CodecError::Invalid("the retired keys are not sorted").into());
        }
        Ok(Self {
            chain: stored.chain,
            params: stored.params,
            height: stored.height,
            tip: stored.tip,
            time: stored.time,
            members: stored.members,
            frontier,
            retired: stored.retired.into_iter().collect(),
        })
    }

    /// The set without `member`, whose keys never come back.
    pub(crate) fn dismiss(&mut self, member: &Member) {
        self.members = self.members.without(&member.node);
        self.retired.extend(keys_of(member));
    }

    /// The set with `member`.
    pub(crate) fn admit(&mut self, member: Member) {
        self.members = self.members.with(member);
    }
}

/// All keys of a member.
pub(crate) fn keys_of(member: &Member) -> [PublicKey; 5] {
    [
        member.node,
        member.vote,
        member.log,
        member.cosign,
        member.admin,
    ]
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Stored {
    #[n(0)]
    version: u8,
    #[n(1)]
    chain: ChainId,
    #[n(2)]
    params: Params,
    #[n(3)]
    height: u64,
    #[n(4)]
    tip: BlockId,
    #[n(5)]
    time: WallTime,
    #[n(6)]
    members: MemberSet,
    #[n(7)]
    size: u64,
    #[n(8)]
    peaks: Vec<Sha256>,
    #[n(9)]
    retired: Vec<PublicKey>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::chain::testing::{MemoryChain, node_keys, package, remove_node};

    #[test]
    fn a_state_survives_its_bytes() {
        let mut chain = MemoryChain::new(4);
        let admins = [0, 1, 2].map(node_keys);
        let id = *chain.state.chain();
        for group in [
            package(&id, "pkg:maven/a/a@1", "", &admins),
            remove_node(&id, 3, &admins),
        ] {
            let stored = ChainState::from_bytes(&chain.state.to_bytes());
            assert_eq!(stored.as_ref(), Ok(&chain.state));
            let block = chain.build([group]).unwrap();
            chain.append(&block).unwrap();
        }
        assert!(chain.state.is_retired(&node_keys(3).vote.public()));
        let bytes = chain.state.to_bytes();
        assert_eq!(ChainState::from_bytes(&bytes), Ok(chain.state));
    }

    #[test]
    fn damaged_and_later_states_are_refused() {
        let good = MemoryChain::new(1).state.to_bytes();
        let mut later = good.clone();
        later[1] = 2;
        assert_eq!(ChainState::from_bytes(&later), Err(StateError::Version(2)));
        assert!(ChainState::from_bytes(&good[..good.len() - 1]).is_err());
        let mut sized = MemoryChain::new(1).state;
        sized.frontier = Frontier::default();
        let mut bytes = sized.to_bytes();
        let at = bytes.len() - 3;
        assert_eq!(bytes[at..], [0, 0x80, 0x80], "size 0, no peaks, no keys");
        bytes[at] = 1;
        assert!(ChainState::from_bytes(&bytes).is_err());
    }

    #[test]
    fn members_in_another_order_are_refused() {
        let state = MemoryChain::new(2).state;
        let members: Vec<_> = state.members.iter().map(codec::encode).collect();
        let (mut bytes, good) = (state.to_bytes(), members.concat());
        let at = bytes.windows(good.len()).position(|it| it == good).unwrap();
        let swapped = [&members[1][..], &members[0]].concat();
        bytes[at..at + good.len()].copy_from_slice(&swapped);
        assert!(ChainState::from_bytes(&bytes).is_err());
    }

    #[test]
    fn a_block_checked_against_another_state_is_not_applied() {
        let mut chain = MemoryChain::new(1);
        let id = *chain.state.chain();
        let group = package(&id, "pkg:maven/a/a@1", "", &[node_keys(0)]);
        let block = chain.build([group]).unwrap();
        let checked = chain.append(&block).unwrap();
        let before = chain.state.clone();
        assert_eq!(chain.state.apply(&checked), Err(RuleError::Parent));
        assert_eq!(chain.state, before);
    }
}
