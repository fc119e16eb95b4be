//! The Merkle tree of the log: RFC 6962, section 2.1, with SHA-256.

use sha2::Digest as _;

use crate::base::Sha256;

/// The hash of a leaf. RFC 6962, 2.1: leaves are hashed with prefix 0x00.
pub fn leaf_hash(leaf: &[u8]) -> Sha256 {
    let hasher = sha2::Sha256::new().chain_update([0]).chain_update(leaf);
    Sha256(hasher.finalize().into())
}

/// The hash of an inner node. RFC 6962, 2.1: nodes are hashed with prefix 0x01.
pub fn node_hash(left: &Sha256, right: &Sha256) -> Sha256 {
    let hasher = sha2::Sha256::new()
        .chain_update([1])
        .chain_update(left.0)
        .chain_update(right.0);
    Sha256(hasher.finalize().into())
}

/// The root of the tree without leaves: the hash of the empty string.
pub fn empty_root() -> Sha256 {
    Sha256::of(b"")
}

/// Read access to the hashes of complete subtrees.
///
/// The subtree at `(level, index)` has the leaves `index << level .. (index + 1) << level`; level 0
/// holds the leaf hashes.
pub trait HashReader {
    /// The hash, or `None` if that subtree is not complete or not stored.
    fn hash(&self, level: u8, index: u64) -> Option<Sha256>;
}

/// The right edge of a tree: enough to append leaves and to know the root, in at most 64 hashes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Frontier {
    size: u64,
    /// Roots of the complete subtrees that the tree splits into, largest first: one for each bit
    /// of `size` that is set.
    peaks: Vec<Sha256>,
}

impl Frontier {
    /// The edge of the stored tree with `size` leaves, or `None` if `reader` lacks a hash.
    pub fn load(reader: &impl HashReader, size: u64) -> Option<Self> {
        let peaks = (0..64)
            .rev()
            .filter(|level| size >> level & 1 == 1)
            .map(|level| reader.hash(level, (size >> level) - 1))
            .collect::<Option<_>>()?;
        Some(Self { size, peaks })
    }

    /// The edge of a tree with `size` leaves from its [`Frontier::peaks`], or `None` if their
    /// number does not fit.
    pub fn from_peaks(size: u64, peaks: Vec<Sha256>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees that the tree splits into, largest first; at most 64.
    pub fn peaks(&self) -> &[Sha256] {
        &self.peaks
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Sha256) {
        self.push_with(leaf, |_, _, _| ());
    }

    /// Appends a leaf by its hash and reports each subtree that becomes complete, as
    /// `(level, index, hash)`, the leaf itself first.
    pub fn push_with(&mut self, leaf: Sha256, mut complete: impl FnMut(u8, u64, Sha256)) {
        let (mut hash, mut level, mut index) = (leaf, 0, self.size);
        complete(level, index, hash);
        while index & 1 == 1 {
            let Some(left) = self.peaks.pop() else {
                break; // Unreachable: there is a peak for each set bit.
            };
            hash = node_hash(&left, &hash);
            (level, index) = (level + 1, index >> 1);
            complete(level, index, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root.
    pub fn root(&self) -> Sha256 {
        let mut peaks = self.peaks.iter().rev().copied();
        let Some(smallest) = peaks.next() else {
            return empty_root();
        };
        peaks.fold(smallest, |right, left| node_hash(&left, &right))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// RFC 6962, 2.1, word for word.
    fn naive_root(leaves: &[Sha256]) -> Sha256 {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(split);
                node_hash(&naive_root(left), &naive_root(right))
            }
        }
    }

    #[test]
    fn the_edge_agrees_with_the_definition() {
        struct Map(BTreeMap<(u8, u64), Sha256>);
        impl HashReader for Map {
            fn hash(&self, level: u8, index: u64) -> Option<Sha256> {
                self.0.get(&(level, index)).copied()
            }
        }

        let leaves: Vec<_> = (0..70_u8).map(|it| leaf_hash(&[it])).collect();
        let (mut edge, mut stored) = (Frontier::default(), Map(BTreeMap::new()));
        for (count, leaf) in leaves.iter().enumerate() {
            assert_eq!(edge.root(), naive_root(&leaves[..count]), "{count} leaves");
            assert_eq!(Frontier::load(&stored, count as u64).as_ref(), Some(&edge));
            edge.push_with(*leaf, |level, index, hash| {
                assert_eq!(stored.0.insert((level, index), hash), None);
            });
        }
    }
}
