//! The chain: its documents, and the rules that a damaged block breaks.

use kogge_node::base::{CodecError, codec};
use kogge_node::proto::chain::block::{Block, Certificate};
use kogge_node::proto::chain::testing::{MemoryChain, certificate as certify, node_keys, package};
use kogge_node::proto::chain::{ChainState, Genesis, SetChange};

use crate::targets::{Choices, canonical};

/// Longest certificate and change of the members that is read. Unit: bytes.
const BYTES_MAX: usize = 64 * 1_024;

pub(crate) fn block(bytes: &[u8], is_planted: bool) -> bool {
    canonical(bytes, is_planted, Block::from_bytes, Block::to_bytes).is_some()
}

pub(crate) fn certificate(bytes: &[u8], is_planted: bool) -> bool {
    let decode = |it: &[u8]| codec::decode::<Certificate>(it, BYTES_MAX);
    canonical(bytes, is_planted, decode, codec::encode).is_some()
}

pub(crate) fn genesis(bytes: &[u8], is_planted: bool) -> bool {
    canonical(bytes, is_planted, Genesis::from_bytes, Genesis::to_bytes).is_some()
}

pub(crate) fn state(bytes: &[u8], is_planted: bool) -> bool {
    canonical(
        bytes,
        is_planted,
        ChainState::from_bytes,
        ChainState::to_bytes,
    )
    .is_some()
}

pub(crate) fn change(bytes: &[u8], is_planted: bool) -> bool {
    let decode = |it: &[u8]| codec::decode::<SetChange>(it, BYTES_MAX);
    canonical(bytes, is_planted, decode, codec::encode).is_some()
}

/// Honest blocks with their certificates stand; after a change of any byte neither does.
///
/// Input: how many packages, where the damage is, what is damaged, and how.
/// Planted: a checker that does not look at the entries.
pub(crate) fn rules(bytes: &[u8], is_planted: bool) -> bool {
    let mut choices = Choices(bytes);
    let keys: Vec<_> = (0..4).map(node_keys).collect();
    let mut chain = MemoryChain::new(4);
    let id = *chain.state.chain();
    let groups = (0..=choices.below(3)).map(|at| {
        let purl = format!("pkg:maven/g/a@{at}");
        package(&id, &purl, "bytes", &keys)
    });
    let Some(honest) = chain.build(groups.collect::<Vec<_>>()) else {
        panic!("honest packages make a block");
    };
    let votes = certify(&id, &honest, &keys);
    let members = chain.state.members().clone();

    let damaged = damage(&honest.to_bytes(), &mut choices);
    if let Ok(block) = Block::from_bytes(&damaged) {
        let is_checked = !is_planted || block.entries == honest.entries;
        assert!(
            is_checked && chain.check(&block).is_err(),
            "a damaged block stands"
        );
    }
    let damaged = damage(&codec::encode(&votes), &mut choices);
    let decoded: Result<Certificate, CodecError> = codec::decode(&damaged, BYTES_MAX);
    if let Ok(it) = decoded {
        let verdict = it.verify(&id, &honest.header, &members);
        assert!(verdict.is_err(), "a damaged certificate stands");
    }
    assert_eq!(votes.verify(&id, &honest.header, &members), Ok(()));
    if let Err(error) = chain.append(&honest) {
        panic!("an honest block: {error}");
    }
    true
}

/// The bytes with one of them changed.
fn damage(honest: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let mut damaged = honest.to_vec();
    let place = u64::from(choices.byte()) << 8 | u64::from(choices.byte());
    let place = usize::try_from(place).unwrap_or(0) % damaged.len();
    if let Some(it) = damaged.get_mut(place) {
        *it ^= choices.byte().max(1);
    }
    damaged
}
