//! Building the next block.

use minicbor::bytes::ByteVec;

use crate::base::WallTime;
use crate::proto::chain::block::{Block, Header};
use crate::proto::chain::group::Body;
use crate::proto::chain::rules::{Ledger, RuleError, check_room, grown, seal_of};
use crate::proto::chain::state::ChainState;
use crate::proto::log::entry::{Attest, Entry};
use crate::proto::log::tree::leaf_hash;

/// A group that [`build`] left out, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rejected {
    /// The group, as it was given.
    pub group: Vec<Entry>,
    /// The rule that it breaks.
    pub error: RuleError,
}

/// Builds the block that follows `state` from as many of `groups` as fit, in their order.
///
/// Groups that break a rule are left out and given back with the reason. The first group that
/// would fit an empty block but not this one ends the block; it and those after it are not
/// reported. There is no block if no group is left. `is_verified`: see
/// [`check`](crate::proto::chain::check::check).
pub fn build(
    state: &ChainState,
    ledger: &dyn Ledger,
    now: WallTime,
    groups: impl IntoIterator<Item = Vec<Entry>>,
    is_verified: &mut dyn FnMut(&Attest) -> bool,
) -> (Option<Block>, Vec<Rejected>) {
    let time = now.max(state.time);
    let mut body = Body::new(state, time, ledger, is_verified);
    let (mut leaves, mut bytes_len) = (Vec::<ByteVec>::new(), 0);
    let mut rejected = Vec::new();
    for group in groups {
        let encoded: Vec<Vec<u8>> = group.iter().map(Entry::to_bytes).collect();
        let group_len: usize = encoded.iter().map(Vec::len).sum();
        let fits_alone = check_room(state, group.len(), group_len);
        let fits = check_room(state, leaves.len() + group.len(), bytes_len + group_len);
        if fits_alone.is_ok() && fits.is_err() {
            break;
        }
        let verdict = fits_alone
            .and_then(|()| check_forms(&encoded))
            .and_then(|()| body.add(&group));
        match verdict {
            Ok(()) => {
                bytes_len += group_len;
                leaves.extend(encoded.into_iter().map(ByteVec::from));
            }
            Err(error) => rejected.push(Rejected { group, error }),
        }
    }
    if leaves.is_empty() {
        return (None, rejected);
    }
    let seal = seal_of(state, &body.into_next(), time, leaves.len());
    let seal_bytes = Entry::Seal(seal.clone()).to_bytes();
    let hashes = leaves.iter().map(|it| leaf_hash(it));
    let frontier = grown(
        &state.frontier,
        &hashes.chain([leaf_hash(&seal_bytes)]).collect::<Vec<_>>(),
    );
    let header = Header {
        seal,
        size: frontier.size(),
        root: frontier.root(),
    };
    let entries = leaves;
    (Some(Block { header, entries }), rejected)
}

/// Entries that never were bytes may break the limits of their form.
fn check_forms(encoded: &[Vec<u8>]) -> Result<(), RuleError> {
    for (at, bytes) in encoded.iter().enumerate() {
        Entry::from_bytes(bytes).map_err(|error| RuleError::Entry { at, error })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::chain::testing::{
        GENESIS_TIME, MemoryChain, MemoryLedger, artifact, node_keys, package, package_of,
    };

    #[test]
    fn a_clock_behind_the_parent_repeats_the_parents_time() {
        let chain = MemoryChain::new(4);
        let signers = [0, 1, 2].map(node_keys);
        let groups = [package(
            chain.state.chain(),
            "pkg:maven/a/a@1",
            "",
            &signers,
        )];
        let ledger = MemoryLedger::default();
        let early = WallTime::from_millis(1);
        let (block, _) = build(&chain.state, &ledger, early, groups, &mut |_| false);
        assert_eq!(block.map(|it| it.header.seal.time), Some(GENESIS_TIME));
    }

    #[test]
    fn a_full_block_ends_and_a_group_that_never_fits_is_given_back() {
        let mut chain = MemoryChain::new(1);
        chain.state.params.block_bytes_max = 1_200;
        let id = *chain.state.chain();
        let signers = [node_keys(0)];
        let small = |name: &str| package(&id, &format!("pkg:maven/a/{name}@1"), "", &signers);
        let files = (0..9).map(|it| {
            let file = format!("{it}");
            artifact("pkg:maven/a/big@1", &file, "", &signers[0])
        });
        let big = package_of(&id, files.collect(), &signers);
        let groups = [big.clone(), small("a"), small("b"), small("c"), small("d")];
        let (block, rejected) = chain.build_and_reject(groups);
        let block = block.unwrap();
        assert_eq!(chain.check(&block).unwrap().groups().count(), 3);
        assert_eq!(rejected.len(), 1);
        assert_eq!(rejected[0].group, big);
        assert!(matches!(rejected[0].error, RuleError::Bytes { .. }));
    }

    #[test]
    fn nothing_left_means_no_block() {
        let chain = MemoryChain::new(1);
        let foreign = package(chain.state.chain(), "pkg:maven/a/a@1", "", &[node_keys(7)]);
        let groups = [Vec::new(), foreign];
        let (block, rejected) = chain.build_and_reject(groups);
        assert_eq!(block, None);
        assert_eq!(rejected.len(), 2);
    }
}
