//! Inclusion and consistency proofs: RFC 9162, sections 2.1.3 and 2.1.4 (the trees of RFC 6962).

use crate::base::Sha256;
use crate::proto::log::tree::{HashReader, empty_root, leaf_hash, node_hash};

/// Most hashes in one proof: a tree of 2^64 leaves needs no more. Parsers stop there.
pub const PROOF_HASHES_MAX: usize = 64;

/// Why a proof cannot be made, or does not stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProofError {
    /// The tree has no such leaf.
    #[error("there is no leaf {index} in a tree of {size} leaves")]
    Index {
        /// The leaf asked for.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// A tree cannot extend a larger one.
    #[error("a tree of {new} leaves does not extend one of {old} leaves")]
    Shrunk {
        /// Leaves in the tree that was seen first.
        old: u64,
        /// Leaves in the other.
        new: u64,
    },
    /// The store lacks a hash that the proof needs.
    #[error("the hash of the complete subtree {index} at level {level} is not stored")]
    Missing {
        /// Height of the subtree.
        level: u8,
        /// Position of the subtree in its level.
        index: u64,
    },
    /// More or fewer hashes than trees of these sizes need.
    #[error("the proof has {0} hashes, which does not fit the size of the tree")]
    Length(usize),
    /// The proof leads to another root.
    #[error("the proof does not lead to the root of the tree")]
    Mismatch,
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
///
/// [`ProofError::Missing`] if `reader` lacks a hash.
pub fn root(reader: &impl HashReader, size: u64) -> Result<Sha256, ProofError> {
    if size == 0 {
        return Ok(empty_root());
    }
    range_root(reader, 0, size)
}

/// The path from leaf `index` to the root of the tree of the first `size` leaves: the leaf's
/// sibling first, the root's child last.
///
/// # Errors
///
/// [`ProofError::Index`] if there is no such leaf, [`ProofError::Missing`] if `reader` lacks a
/// hash.
pub fn inclusion(
    reader: &impl HashReader,
    index: u64,
    size: u64,
) -> Result<Vec<Sha256>, ProofError> {
    if size <= index {
        return Err(ProofError::Index { index, size });
    }
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while 1 < end - start {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range_root(reader, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(reader, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `new` leaves extends the tree of `old` leaves. Empty if `old` is 0 or
/// `new`: there is nothing to show.
///
/// # Errors
///
/// [`ProofError::Shrunk`] if `new` is smaller, [`ProofError::Missing`] if `reader` lacks a hash.
pub fn consistency(
    reader: &impl HashReader,
    old: u64,
    new: u64,
) -> Result<Vec<Sha256>, ProofError> {
    if new < old {
        return Err(ProofError::Shrunk { old, new });
    }
    let mut path = Vec::new();
    if old == 0 {
        return Ok(path);
    }
    // RFC 9162, 2.1.4.1: SUBPROOF(old, start..end, start == 0), from the root down. The verifier
    // knows the old root, so that subtree is left out if the old tree is exactly it.
    let (mut start, mut end) = (0, new);
    while old < end {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(range_root(reader, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(reader, start, middle)?);
            start = middle;
        }
    }
    if start != 0 {
        path.push(range_root(reader, start, end)?);
    }
    path.reverse();
    Ok(path)
}

/// Checks that `leaf` is the leaf `index` of the tree with `size` leaves and the given `root`.
///
/// # Errors
///
/// [`ProofError`] if the proof does not show it.
pub fn verify_inclusion(
    leaf: &[u8],
    index: u64,
    size: u64,
    proof: &[Sha256],
    root: &Sha256,
) -> Result<(), ProofError> {
    verify_inclusion_hash(leaf_hash(leaf), index, size, proof, root)
}

/// Like [`verify_inclusion`], for a leaf that is known by its hash.
///
/// # Errors
///
/// [`ProofError`] if the proof does not show it.
pub fn verify_inclusion_hash(
    leaf: Sha256,
    index: u64,
    size: u64,
    proof: &[Sha256],
    root: &Sha256,
) -> Result<(), ProofError> {
    if size <= index {
        return Err(ProofError::Index { index, size });
    }
    // RFC 9162, 2.1.3.2: positions of the node and of the last node in their level.
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length(proof.len()));
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            skip_levels_without_sibling(&mut node, &mut last);
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(ProofError::Length(proof.len()));
    }
    matches(&hash, root)
}

/// Checks that the tree of `new` leaves with `new_root` extends the tree of `old` leaves with
/// `old_root`.
///
/// # Errors
///
/// [`ProofError`] if the proof does not show it.
pub fn verify_consistency(
    (old, old_root): (u64, &Sha256),
    (new, new_root): (u64, &Sha256),
    proof: &[Sha256],
) -> Result<(), ProofError> {
    if new < old {
        return Err(ProofError::Shrunk { old, new });
    }
    if old == 0 || old == new {
        let expected = if old == 0 { empty_root() } else { *new_root };
        return match proof {
            [] => matches(&expected, old_root),
            _ => Err(ProofError::Length(proof.len())),
        };
    }
    // RFC 9162, 2.1.4.2. The smallest complete subtree at the right edge of the old tree is where
    // both trees start from; if it is the whole old tree, the proof leaves it out.
    let (mut node, mut last) = (old - 1, new - 1);
    let level = node.trailing_ones();
    (node, last) = (node >> level, last >> level);
    let (first, rest) = match proof.split_first() {
        _ if old.is_power_of_two() => (old_root, proof),
        Some(it) => it,
        None => return Err(ProofError::Length(0)),
    };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::Length(proof.len()));
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            skip_levels_without_sibling(&mut node, &mut last);
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(ProofError::Length(proof.len()));
    }
    matches(&old_hash, old_root)?;
    matches(&new_hash, new_root)
}

/// At the right edge a node without sibling is passed up unchanged, level by level.
fn skip_levels_without_sibling(node: &mut u64, last: &mut u64) {
    while *node & 1 == 0 && *node != 0 {
        (*node, *last) = (*node >> 1, *last >> 1);
    }
}

fn matches(hash: &Sha256, root: &Sha256) -> Result<(), ProofError> {
    if hash == root {
        Ok(())
    } else {
        Err(ProofError::Mismatch)
    }
}

/// RFC 9162, 2.1.1: the largest power of two smaller than `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The root over the leaves `start..end`, where `start` is a multiple of the power of two that is
/// not smaller than the count; only such ranges occur in a tree.
fn range_root(reader: &impl HashReader, start: u64, end: u64) -> Result<Sha256, ProofError> {
    let count = end - start;
    if count.is_power_of_two() {
        let level = u8::try_from(count.trailing_zeros()).unwrap_or(u8::MAX);
        let index = start >> level;
        return reader
            .hash(level, index)
            .ok_or(ProofError::Missing { level, index });
    }
    let middle = start + split(count);
    let (left, right) = (
        range_root(reader, start, middle)?,
        range_root(reader, middle, end)?,
    );
    Ok(node_hash(&left, &right))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::proto::log::tree::Frontier;

    /// A whole tree in memory.
    #[derive(Default)]
    pub(crate) struct Memory {
        pub(crate) edge: Frontier,
        hashes: BTreeMap<(u8, u64), Sha256>,
    }

    impl Memory {
        pub(crate) fn push(&mut self, leaf: &[u8]) {
            self.edge.push_with(leaf_hash(leaf), |level, index, hash| {
                self.hashes.insert((level, index), hash);
            });
        }

        /// The tree of the leaves `[0]`, `[1]`, … as big-endian `u32`.
        pub(crate) fn counting(size: u32) -> Self {
            let mut tree = Self::default();
            (0..size).for_each(|it| tree.push(&it.to_be_bytes()));
            tree
        }
    }

    impl HashReader for Memory {
        fn hash(&self, level: u8, index: u64) -> Option<Sha256> {
            self.hashes.get(&(level, index)).copied()
        }
    }

    /// RFC 9162, 2.1.3.1, word for word.
    fn naive_path(index: usize, leaves: &[Sha256]) -> Vec<Sha256> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (mut path, other) = if index < left.len() {
            (naive_path(index, left), right)
        } else {
            (naive_path(index - left.len(), right), left)
        };
        path.push(naive_root(other));
        path
    }

    /// RFC 9162, 2.1.4.1, word for word.
    fn naive_subproof(old: usize, leaves: &[Sha256], known: bool) -> Vec<Sha256> {
        if old == leaves.len() {
            return if known {
                Vec::new()
            } else {
                vec![naive_root(leaves)]
            };
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (mut proof, other) = if old <= left.len() {
            (naive_subproof(old, left, known), right)
        } else {
            (naive_subproof(old - left.len(), right, false), left)
        };
        proof.push(naive_root(other));
        proof
    }

    fn naive_root(leaves: &[Sha256]) -> Sha256 {
        let mut edge = Frontier::default();
        leaves.iter().for_each(|it| edge.push(*it));
        edge.root()
    }

    fn leaf(index: u64) -> [u8; 4] {
        u32::try_from(index).unwrap().to_be_bytes()
    }

    const SIZE: u32 = 70;

    #[test]
    fn proofs_agree_with_the_definition_for_every_small_tree() {
        let tree = Memory::counting(SIZE);
        let leaves: Vec<_> = (0..SIZE).map(|it| leaf_hash(&it.to_be_bytes())).collect();
        for size in 1..=leaves.len() {
            let (new, new_root) = (size as u64, naive_root(&leaves[..size]));
            assert_eq!(root(&tree, new), Ok(new_root));
            for at in 0..size {
                let path = inclusion(&tree, at as u64, new).unwrap();
                assert_eq!(path, naive_path(at, &leaves[..size]), "{at} of {size}");
                assert_eq!(
                    verify_inclusion(&leaf(at as u64), at as u64, new, &path, &new_root),
                    Ok(())
                );

                let (old, old_root) = (at as u64, naive_root(&leaves[..at]));
                let proof = consistency(&tree, old, new).unwrap();
                if at != 0 {
                    let expected = naive_subproof(at, &leaves[..size], true);
                    assert_eq!(proof, expected, "{old} to {new}");
                }
                assert_eq!(
                    verify_consistency((old, &old_root), (new, &new_root), &proof),
                    Ok(())
                );
            }
        }
        assert_eq!(root(&tree, 0), Ok(empty_root()));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let tree = Memory::counting(5);
        assert_eq!(
            inclusion(&tree, 5, 5),
            Err(ProofError::Index { index: 5, size: 5 })
        );
        assert_eq!(
            inclusion(&tree, 0, 8),
            Err(ProofError::Missing { level: 2, index: 1 })
        );
        assert_eq!(
            consistency(&tree, 3, 2),
            Err(ProofError::Shrunk { old: 3, new: 2 })
        );
        assert_eq!(consistency(&tree, 5, 5), Ok(Vec::new()));
        assert!(inclusion(&tree, u64::MAX - 1, u64::MAX).is_err());
    }

    #[test]
    fn equal_sizes_need_equal_roots_and_no_hashes() {
        let [a, b] = [Sha256([1; 32]), Sha256([2; 32])];
        for (old, new, proof, expected) in [
            ((3, &a), (3, &a), &[][..], Ok(())),
            ((3, &a), (3, &b), &[], Err(ProofError::Mismatch)),
            ((3, &a), (3, &a), &[b], Err(ProofError::Length(1))),
            ((0, &a), (3, &b), &[], Err(ProofError::Mismatch)),
            ((0, &empty_root()), (3, &b), &[], Ok(())),
            ((3, &a), (4, &b), &[], Err(ProofError::Length(0))),
            (
                (4, &a),
                (3, &b),
                &[],
                Err(ProofError::Shrunk { old: 4, new: 3 }),
            ),
        ] {
            assert_eq!(
                verify_consistency(old, new, proof),
                expected,
                "{old:?} {new:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_changed_proof_never_stands(
            size in 2_u32..SIZE, at in any::<prop::sample::Index>(),
            spot in any::<prop::sample::Index>(), bit in 0_usize..256, cut in any::<bool>(),
        ) {
            let tree = Memory::counting(size);
            let (size, root) = (u64::from(size), tree.edge.root());
            let index = at.index(usize::try_from(size).unwrap()) as u64;
            let spoil = |proof: &mut Vec<Sha256>| {
                if cut {
                    proof.remove(spot.index(proof.len()));
                } else {
                    let spot = spot.index(proof.len());
                    proof[spot].0[bit / 8] ^= 1 << (bit % 8);
                }
            };

            let mut path = inclusion(&tree, index, size).unwrap();
            let other = (index + 1) % size;
            prop_assert!(verify_inclusion(&leaf(index), other, size, &path, &root).is_err());
            prop_assert!(verify_inclusion(&leaf(other), index, size, &path, &root).is_err());
            spoil(&mut path);
            prop_assert!(verify_inclusion(&leaf(index), index, size, &path, &root).is_err());

            if index != 0 {
                let old_root = super::root(&tree, index).unwrap();
                let mut proof = consistency(&tree, index, size).unwrap();
                spoil(&mut proof);
                prop_assert!(
                    verify_consistency((index, &old_root), (size, &root), &proof).is_err()
                );
            }
        }

        #[test]
        fn any_sizes_and_hashes_are_answered(
            a in any::<u64>(), b in any::<u64>(), hashes in prop::collection::vec(any::<[u8; 32]>(), 0..70),
        ) {
            let hashes: Vec<_> = hashes.into_iter().map(Sha256).collect();
            let root = Sha256([0; 32]);
            prop_assert!(verify_inclusion(b"x", a, b, &hashes, &root).is_err());
            prop_assert!(verify_consistency((a, &root), (b, &root), &hashes).is_err() || a == b);
        }
    }
}
