//! Checking that a block may follow a state.

use crate::base::{BlockId, Sha256, WallTime};
use crate::proto::chain::block::Block;
use crate::proto::chain::group::{Body, split};
use crate::proto::chain::rules::{Ledger, RuleError, check_room, grown, seal_of};
use crate::proto::chain::state::ChainState;
use crate::proto::log::entry::{Attest, Entry};
use crate::proto::log::tree::leaf_hash;

/// A block that follows the state it was checked against. Only [`check`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckedBlock {
    block: Block,
    id: BlockId,
    seal: Vec<u8>,
    entries: Vec<Entry>,
    hashes: Vec<Sha256>,
    next: ChainState,
}

/// One leaf of a checked block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Leaf<'a> {
    /// Index in the log.
    pub index: u64,
    /// The parsed entry.
    pub entry: &'a Entry,
    /// Its canonical bytes.
    pub bytes: &'a [u8],
    /// Its leaf hash (RFC 6962).
    pub hash: Sha256,
}

impl CheckedBlock {
    /// The block.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// The block's identity.
    pub fn id(&self) -> &BlockId {
        &self.id
    }

    /// The state after the block.
    pub fn next(&self) -> &ChainState {
        &self.next
    }

    /// The leaves in order, the seal last.
    pub fn leaves(&self) -> impl Iterator<Item = Leaf<'_>> {
        let bodies = self.block.entries.iter().map(|it| it.as_slice());
        let bytes = bodies.chain([self.seal.as_slice()]);
        let first = self.block.header.seal.first_index;
        (first..)
            .zip(&self.entries)
            .zip(bytes)
            .zip(&self.hashes)
            .map(|(((index, entry), bytes), hash)| Leaf {
                index,
                entry,
                bytes,
                hash: *hash,
            })
    }

    /// The groups of the body, in order; the seal is in none.
    pub fn groups(&self) -> impl Iterator<Item = &[Entry]> {
        let mut rest = self
            .entries
            .get(..self.block.entries.len())
            .unwrap_or_default();
        std::iter::from_fn(move || {
            let (group, others) = split(rest).ok()?;
            rest = others;
            (!group.is_empty()).then_some(group)
        })
    }
}

/// Checks that `block` may follow `state`.
///
/// `now` is the voter's clock; `None` if the block is decided already. `is_verified` may spare the
/// check of an attestation's signature; it answers true only for the very same attestation, all
/// fields included, that [`crate::proto::chain::group::verify_attest`] has passed, or if the
/// block's certificate was checked and the members at that height are trusted for it.
///
/// # Errors
///
/// [`RuleError`] naming the first rule that the block breaks.
pub fn check(
    state: &ChainState,
    ledger: &dyn Ledger,
    block: &Block,
    now: Option<WallTime>,
    is_verified: &mut dyn FnMut(&Attest) -> bool,
) -> Result<CheckedBlock, RuleError> {
    let seal = &block.header.seal;
    if seal.height != state.height + 1 || seal.parent != state.tip {
        return Err(RuleError::Parent);
    }
    check_time(state, seal.time, now)?;
    check_room(
        state,
        block.entries.len(),
        block.entries.iter().map(|it| it.len()).sum(),
    )?;
    // Hashing is cheap, signatures are not: the root comes first, over the seal as it is given.
    let seal_bytes = Entry::Seal(seal.clone()).to_bytes();
    let leaves = block.entries.iter().map(|it| it.as_slice());
    let hashes: Vec<Sha256> = leaves
        .chain([seal_bytes.as_slice()])
        .map(leaf_hash)
        .collect();
    let frontier = grown(&state.frontier, &hashes);
    if (block.header.size, block.header.root) != (frontier.size(), frontier.root()) {
        return Err(RuleError::Header("tree"));
    }

    let mut entries = Vec::with_capacity(hashes.len());
    for (at, bytes) in block.entries.iter().enumerate() {
        let entry = Entry::from_bytes(bytes).map_err(|error| RuleError::Entry { at, error })?;
        entries.push(entry);
    }
    let mut body = Body::new(state, seal.time, ledger, is_verified);
    let mut rest = entries.as_slice();
    while !rest.is_empty() {
        let (group, others) = split(rest)?;
        body.add(group)?;
        rest = others;
    }
    let mut next = body.into_next();
    if *seal != seal_of(state, &next, seal.time, entries.len()) {
        return Err(RuleError::Header("seal"));
    }
    entries.push(Entry::Seal(seal.clone()));
    next.height = seal.height;
    next.tip = block.id();
    next.time = seal.time;
    next.frontier = frontier;
    Ok(CheckedBlock {
        id: next.tip,
        block: block.clone(),
        seal: seal_bytes,
        entries,
        hashes,
        next,
    })
}

fn check_time(state: &ChainState, time: WallTime, now: Option<WallTime>) -> Result<(), RuleError> {
    if time < state.time {
        return Err(RuleError::Early(time));
    }
    let drift_max = std::time::Duration::from_millis(state.params.clock_drift_max_ms);
    if now.is_some_and(|now| now + drift_max < time) {
        return Err(RuleError::Ahead(time));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::Blake3;
    use crate::proto::chain::build::build;
    use crate::proto::chain::rules::ENTRIES_MAX;
    use crate::proto::chain::testing::{
        GENESIS_TIME, MemoryChain, MemoryLedger, node_keys, package,
    };

    fn chain_with_block() -> (MemoryChain, Block) {
        let chain = MemoryChain::new(4);
        let id = *chain.state.chain();
        let signers = [0, 1, 2].map(node_keys);
        let groups = ["pkg:maven/a/a@1", "pkg:maven/b/b@1"];
        let block = chain.build(groups.map(|it| package(&id, it, "", &signers)));
        (chain, block.unwrap())
    }

    #[test]
    fn what_build_makes_check_accepts_and_apply_appends() {
        let (mut chain, block) = chain_with_block();
        let checked = chain.append(&block).unwrap();
        assert_eq!(chain.state.height(), 1);
        assert_eq!(chain.state.tip(), &block.id());
        assert_eq!(chain.state.size(), 9);
        assert_eq!(chain.state.root(), block.header.root);
        let leaves: Vec<_> = checked.leaves().collect();
        assert_eq!(leaves.len(), 9);
        assert!(matches!(leaves[8].entry, Entry::Seal(_)));
        for (index, leaf) in leaves.iter().enumerate() {
            assert_eq!(leaf.index, index as u64);
            assert_eq!(leaf.bytes, leaf.entry.to_bytes());
            assert_eq!(leaf.hash, leaf_hash(leaf.bytes));
        }
        assert_eq!(checked.groups().map(<[_]>::len).collect::<Vec<_>>(), [4, 4]);
    }

    #[test]
    fn a_changed_block_is_refused() {
        let (chain, good) = chain_with_block();
        type Case = (fn(&mut Block), RuleError);
        let cases: [Case; 10] = [
            (|it| it.header.seal.height = 2, RuleError::Parent),
            (
                |it| it.header.seal.parent = BlockId([1; 32]),
                RuleError::Parent,
            ),
            (|it| it.entries.clear(), RuleError::Empty),
            (
                |it| it.header.seal.time = WallTime::from_millis(1),
                RuleError::Early(WallTime::from_millis(1)),
            ),
            (
                |it| it.header.root = Sha256([0; 32]),
                RuleError::Header("tree"),
            ),
            (|it| it.header.size += 1, RuleError::Header("tree")),
            (|it| it.entries.swap(0, 1), RuleError::Header("tree")),
            (|it| it.header.seal.count += 1, RuleError::Header("tree")),
            (
                |it| it.entries[0] = vec![0; 8 << 20].into(),
                RuleError::Bytes {
                    bytes: 0,
                    bytes_max: 4 << 20,
                },
            ),
            (
                |it| it.entries = vec![vec![0].into(); ENTRIES_MAX + 1],
                RuleError::Entries(ENTRIES_MAX + 1),
            ),
        ];
        for (case, (spoil, expected)) in cases.into_iter().enumerate() {
            let mut block = good.clone();
            spoil(&mut block);
            let error = chain.check(&block).unwrap_err();
            let same = std::mem::discriminant(&error) == std::mem::discriminant(&expected);
            assert!(same, "case {case}: {error:?}");
        }
    }

    /// A proposer that commits to its own wrong seal or leaves, with a tree that fits them.
    fn reseal(chain: &MemoryChain, block: &mut Block) {
        let seal = Entry::Seal(block.header.seal.clone()).to_bytes();
        let leaves = block.entries.iter().map(|it| leaf_hash(it));
        let hashes: Vec<_> = leaves.chain([leaf_hash(&seal)]).collect();
        let frontier = grown(chain.state.frontier(), &hashes);
        (block.header.size, block.header.root) = (frontier.size(), frontier.root());
    }

    #[test]
    fn a_wrong_seal_or_leaf_is_refused_even_if_the_tree_fits() {
        let (chain, good) = chain_with_block();
        let cases: [fn(&mut Block); 7] = [
            |it| it.header.seal.members = Sha256([1; 32]),
            |it| it.header.seal.next_members = Sha256([1; 32]),
            |it| it.header.seal.first_index = 1,
            |it| it.header.seal.index_root = Sha256([1; 32]),
            |it| it.header.seal.evidence = Blake3([1; 32]),
            |it| it.entries[3] = vec![0x83, 1, 9, 0].into(),
            |it| it.entries[3] = Entry::Seal(it.header.seal.clone()).to_bytes().into(),
        ];
        for (case, spoil) in cases.into_iter().enumerate() {
            let mut block = good.clone();
            spoil(&mut block);
            reseal(&chain, &mut block);
            let error = chain.check(&block).unwrap_err();
            let expected = match case {
                0..=4 => matches!(error, RuleError::Header("seal")),
                5 => matches!(error, RuleError::Entry { at: 3, .. }),
                _ => matches!(error, RuleError::Quorum { have: 2, need: 3 }),
            };
            assert!(expected, "case {case}: {error:?}");
        }
    }

    #[test]
    fn a_voter_refuses_the_future_and_a_follower_does_not() {
        let (chain, _) = chain_with_block();
        let group = package(
            chain.state.chain(),
            "pkg:maven/a/a@1",
            "",
            &[0, 1, 2].map(node_keys),
        );
        let drift = Duration::from_millis(chain.state.params().clock_drift_max_ms);
        let ledger = MemoryLedger::default();
        for (ahead, voted) in [(drift, true), (drift + Duration::from_millis(1), false)] {
            let time = GENESIS_TIME + ahead;
            let groups = [group.clone()];
            let (block, _) = build(&chain.state, &ledger, time, groups, &mut |_| false);
            let block = block.unwrap();
            assert_eq!(chain.check(&block).is_ok(), voted);
            assert!(check(&chain.state, &ledger, &block, None, &mut |_| false).is_ok());
        }
    }
}
