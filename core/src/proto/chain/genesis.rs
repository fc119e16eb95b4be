//! The genesis: what a network starts from.

use std::time::Duration;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::base::{Blake3, ChainId, CodecError, WallTime, codec};
use crate::proto::chain::member::{Card, CardError, MEMBERS_MAX, MemberSet};

/// Longest genesis. Unit: bytes.
const GENESIS_BYTES_MAX: usize = 128 * 1_024;

/// Longest network name and log origin. Unit: bytes.
const NAME_BYTES_MAX: usize = 128;

/// Why a genesis is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GenesisError {
    /// Not a readable document.
    #[error("the genesis is not readable: {0}")]
    Codec(#[from] CodecError),
    /// Not a readable JSON document.
    #[error("the genesis is not readable: {0}")]
    Json(String),
    /// The version is not ours.
    #[error("genesis version {0} is unknown to this program")]
    Version(u8),
    /// The name or origin is malformed.
    #[error("`{0}` is not a network name: want 1 to 128 of a-z, 0-9, `-`, `.` and `/`")]
    Name(String),
    /// No member, or too many.
    #[error("a network starts with 1 to {MEMBERS_MAX} authorized nodes, not {0}")]
    Members(usize),
    /// Two members share a name or a key.
    #[error("the members `{0}` and `{1}` share a name or a key")]
    Shared(String, String),
    /// A card does not stand.
    #[error("the card of `{0}`: {1}")]
    Card(String, CardError),
    /// A parameter is out of range.
    #[error("the parameter {0}")]
    Params(&'static str),
}

/// Parameters that all nodes of a network share for ever. Units: milliseconds, bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode, Serialize, Deserialize)]
#[cbor(array)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Shortest time between two blocks under load; an entry that arrives in a quiet network is
    /// proposed at once.
    #[n(0)]
    pub block_interval_min_ms: u64,
    /// Longest body of a block.
    #[n(1)]
    pub block_bytes_max: u64,
    /// How long a round waits for a proposal.
    #[n(2)]
    pub propose_timeout_ms: u64,
    /// How long a round waits for the other votes, and between rebroadcasts.
    #[n(3)]
    pub vote_timeout_ms: u64,
    /// How far a proposer's clock may be ahead of a voter's.
    #[n(4)]
    pub clock_drift_max_ms: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            block_interval_min_ms: 1_000,
            block_bytes_max: 4 << 20,
            propose_timeout_ms: 1_000,
            vote_timeout_ms: 500,
            clock_drift_max_ms: 60_000,
        }
    }
}

impl Params {
    /// Shortest time between two blocks under load.
    pub const fn block_interval_min(&self) -> Duration {
        Duration::from_millis(self.block_interval_min_ms)
    }

    fn check(&self) -> Result<(), GenesisError> {
        let problem = match self {
            it if 60_000 < it.block_interval_min_ms => "block_interval_min_ms is above 60000",
            it if !(65_536..=8 << 20).contains(&it.block_bytes_max) => {
                "block_bytes_max is not in 65536..=8388608"
            }
            it if !(50..=60_000).contains(&it.propose_timeout_ms) => {
                "propose_timeout_ms is not in 50..=60000"
            }
            it if !(50..=60_000).contains(&it.vote_timeout_ms) => {
                "vote_timeout_ms is not in 50..=60000"
            }
            it if !(1_000..=3_600_000).contains(&it.clock_drift_max_ms) => {
                "clock_drift_max_ms is not in 1000..=3600000"
            }
            _ => return Ok(()),
        };
        Err(GenesisError::Params(problem))
    }
}

/// What a network starts from. Its digest is the chain id.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode, Serialize, Deserialize)]
#[cbor(array)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// Version of this document: 1.
    #[n(0)]
    pub version: u8,
    /// Name of the network, for people.
    #[n(1)]
    pub name: String,
    /// Origin of the log in checkpoints: a schema-less URL that never changes.
    #[n(2)]
    pub origin: String,
    /// When the network was made.
    #[n(3)]
    pub time: WallTime,
    /// The first authorized nodes.
    #[n(4)]
    pub members: Vec<Card>,
    /// Parameters.
    #[n(5)]
    pub params: Params,
}

impl Genesis {
    /// Checks the document and every card in it.
    ///
    /// # Errors
    ///
    /// [`GenesisError`] naming the first problem.
    pub fn check(&self) -> Result<(), GenesisError> {
        if self.version != 1 {
            return Err(GenesisError::Version(self.version));
        }
        for name in [&self.name, &self.origin] {
            if !is_name(name) {
                return Err(GenesisError::Name(name.clone()));
            }
        }
        self.params.check()?;
        if self.members.is_empty() || MEMBERS_MAX < self.members.len() {
            return Err(GenesisError::Members(self.members.len()));
        }
        for (at, card) in self.members.iter().enumerate() {
            let member = &card.member;
            card.check()
                .map_err(|it| GenesisError::Card(member.name.clone(), it))?;
            for other in self.members.iter().take(at).map(|it| &it.member) {
                if other.name == member.name || other.shares_key(member) {
                    return Err(GenesisError::Shared(
                        other.name.clone(),
                        member.name.clone(),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Reads and checks the CBOR form.
    ///
    /// # Errors
    ///
    /// [`GenesisError`] if it is not a genesis that stands.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GenesisError> {
        let genesis: Self = codec::decode(bytes, GENESIS_BYTES_MAX)?;
        genesis.check()?;
        Ok(genesis)
    }

    /// Reads and checks either form: CBOR, as it is stored, or JSON, as people pass it on.
    ///
    /// # Errors
    ///
    /// [`GenesisError`] if it is not a genesis that stands.
    pub fn parse(document: &[u8]) -> Result<Self, GenesisError> {
        if document.trim_ascii_start().first() != Some(&b'{') {
            return Self::from_bytes(document);
        }
        let genesis: Self =
            serde_json::from_slice(document).map_err(|it| GenesisError::Json(it.to_string()))?;
        genesis.check()?;
        Ok(genesis)
    }

    /// The CBOR form.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The network's identity.
    pub fn chain(&self) -> ChainId {
        ChainId(Blake3::of(&self.to_bytes()).0)
    }

    /// The first set of authorized nodes.
    pub fn member_set(&self) -> MemberSet {
        MemberSet::new(self.members.iter().map(|it| it.member.clone()))
    }
}

fn is_name(name: &str) -> bool {
    let plain = |it: u8| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'/');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::chain::member::NodeKeys;

    fn genesis() -> Genesis {
        let card = |seed: u8| NodeKeys::from_seed([seed; 32]).card(&format!("node-{seed}"));
        Genesis {
            version: 1,
            name: "test".into(),
            origin: "kogge.test/log".into(),
            time: WallTime::from_millis(1_790_000_000_000),
            members: (1..=4).map(card).collect(),
            params: Params::default(),
        }
    }

    #[test]
    fn a_genesis_survives_its_bytes_and_names_its_chain() {
        let genesis = genesis();
        let copy = Genesis::from_bytes(&genesis.to_bytes()).unwrap();
        assert_eq!((copy.chain(), &copy), (genesis.chain(), &genesis));
    }

    #[test]
    fn faulty_documents_are_refused() {
        let spoil: [fn(&mut Genesis); 6] = [
            |it| it.version = 2,
            |it| it.name = "No Blanks".into(),
            |it| it.members.clear(),
            |it| it.members[1] = it.members[0].clone(),
            |it| it.members[0].member.name = "other".into(),
            |it| it.params.block_bytes_max = 1,
        ];
        for (case, spoil) in spoil.into_iter().enumerate() {
            let mut it = genesis();
            spoil(&mut it);
            assert!(Genesis::from_bytes(&it.to_bytes()).is_err(), "case {case}");
        }
    }
}
