//! Groups: where the pieces of a verified stream lie in an artifact and in its outboard.
//!
//! An artifact is cut into groups of [`GROUP_BYTES`]; the BLAKE3 tree above them is the proof. The
//! inner nodes down to the groups, without the root hash and without a length, are the *outboard*
//! in post-order (a node follows its children), so that it can be appended to while bytes of
//! unknown number stream by:
//!
//! ```text
//!        e            groups    0 1 2 3 4          outboard   | a | b | c | e |
//!      /   \                                                   0   64  128 192   bytes
//!     c     4         node      left hash (32) | right hash (32)
//!    / \
//!   a   b             groups 2..4 travel as        e, c, b, bytes of 2, bytes of 3
//!  0 1 2 3            (pre-order: a node precedes what it proves; `e` proves itself by the root)
//! ```
//!
//! An artifact of at most one group has an empty outboard: its bytes hash to the root. An artifact
//! of zero bytes has no groups: nobody needs to ask for it.
//!
//! The geometry is that of bao (`bao-tree` with 64 KiB blocks); the group size is part of the
//! protocol `/kogge/exchange/1`.

use std::ops::Range;

use bao_tree::iter::{BaoChunk, ResponseIter};
use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges};

/// Bytes of a group; the last one of an artifact may be shorter.
pub const GROUP_BYTES: usize = 65_536;

/// Bytes of a node of the outboard: two hashes.
pub const NODE_BYTES: usize = 64;

/// Bytes of the largest artifact: 1 TiB. Larger ones are refused everywhere.
pub const ARTIFACT_BYTES_MAX: u64 = 1 << 40;

/// The number of groups of an artifact of `size` bytes.
pub const fn group_count(size: u64) -> u64 {
    size.div_ceil(GROUP_BYTES as u64)
}

/// Bytes of the outboard of an artifact of `size` bytes.
pub const fn outboard_bytes(size: u64) -> u64 {
    group_count(size).saturating_sub(1) * NODE_BYTES as u64
}

/// The bytes of an artifact of `size` bytes that lie in `groups`; saturates at its end.
pub fn byte_range(size: u64, groups: &Range<u64>) -> Range<u64> {
    let byte = |group: u64| group.saturating_mul(GROUP_BYTES as u64).min(size);
    byte(groups.start)..byte(groups.end)
}

/// Whether an artifact of `size` bytes has `groups`, and at least one is meant.
pub fn has_groups(size: u64, groups: &Range<u64>) -> bool {
    size <= ARTIFACT_BYTES_MAX && groups.start < groups.end && groups.end <= group_count(size)
}

/// A part of the stream that carries and proves a range of groups.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Piece {
    /// A node of the tree; [`NODE_BYTES`] on the wire.
    Node {
        /// Where it stands in the outboard. Unit: bytes.
        offset: u64,
        /// Whether it hashes to the root of the artifact.
        is_root: bool,
        /// Whether a later piece is proven by the left hash.
        proves_left: bool,
        /// Whether a later piece is proven by the right hash.
        proves_right: bool,
    },
    /// The bytes of a group.
    Group {
        /// Where they stand in the artifact. Unit: bytes.
        offset: u64,
        /// How many they are: [`GROUP_BYTES`], or fewer in the last group.
        bytes: usize,
        /// Whether they are the whole artifact.
        is_root: bool,
    },
}

impl Piece {
    /// Length on the wire. Unit: bytes.
    pub const fn len(&self) -> usize {
        match self {
            Self::Node { .. } => NODE_BYTES,
            Self::Group { bytes, .. } => *bytes,
        }
    }

    /// Never: a piece has at least one byte.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The pieces of a range of groups in the order of the wire.
///
/// The server reads them from the outboard and the file; the receiver expects exactly them.
#[derive(Debug)]
pub struct Pieces {
    tree: BaoTree,
    chunks: ResponseIter,
}

impl Pieces {
    /// The pieces of `groups` of an artifact of `size` bytes, or `None` unless [`has_groups`].
    pub fn new(size: u64, groups: &Range<u64>) -> Option<Self> {
        if !has_groups(size, groups) {
            return None;
        }
        let tree = BaoTree::new(size, BlockSize::from_chunk_log(GROUP_CHUNKS_LOG));
        let first = ChunkNum(groups.start << GROUP_CHUNKS_LOG);
        // A range that reaches the end must be open: with an end the tree would be descended
        // below the last group, and the two sides of the wire would expect different pieces.
        let ranges = if groups.end == group_count(size) {
            ChunkRanges::from(first..)
        } else {
            ChunkRanges::from(first..ChunkNum(groups.end << GROUP_CHUNKS_LOG))
        };
        let chunks = ResponseIter::new(tree, ranges);
        Some(Self { tree, chunks })
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        Some(match self.chunks.next()? {
            BaoChunk::Parent {
                node,
                is_root,
                left,
                right,
                ..
            } => Piece::Node {
                offset: self.tree.post_order_offset(node)?.value() * NODE_BYTES as u64,
                is_root,
                proves_left: left,
                proves_right: right,
            },
            BaoChunk::Leaf {
                start_chunk,
                size,
                is_root,
                ..
            } => Piece::Group {
                offset: start_chunk.to_bytes(),
                bytes: size,
                is_root,
            },
        })
    }
}

/// A group has 2^6 chunks of 1 KiB, the leaves of BLAKE3.
const GROUP_CHUNKS_LOG: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    const KIB_64: u64 = GROUP_BYTES as u64;

    #[test]
    fn groups_are_counted_to_the_last_byte() {
        for (size, groups, outboard) in [
            (0, 0, 0),
            (1, 1, 0),
            (KIB_64, 1, 0),
            (KIB_64 + 1, 2, 64),
            (10 << 30, 163_840, 163_839 * 64),
        ] {
            assert_eq!(
                (group_count(size), outboard_bytes(size)),
                (groups, outboard)
            );
        }
        assert_eq!(byte_range(KIB_64 + 7, &(1..2)), KIB_64..KIB_64 + 7);
    }

    #[test]
    fn the_pieces_of_the_diagram() {
        let node = |offset, is_root, proves_left, proves_right| Piece::Node {
            offset,
            is_root,
            proves_left,
            proves_right,
        };
        let group = |index: u64, bytes| Piece::Group {
            offset: index * KIB_64,
            bytes,
            is_root: false,
        };
        let size = 4 * KIB_64 + 9;
        let pieces = |groups| Pieces::new(size, &groups).map(Vec::from_iter);
        assert_eq!(
            pieces(2..4),
            Some(vec![
                node(192, true, true, false),
                node(128, false, false, true),
                node(64, false, true, true),
                group(2, GROUP_BYTES),
                group(3, GROUP_BYTES),
            ])
        );
        assert_eq!(
            pieces(4..5),
            Some(vec![node(192, true, false, true), group(4, 9)])
        );
    }

    #[test]
    fn groups_outside_of_the_artifact_have_no_pieces() {
        for (size, groups) in [
            (0, 0..0),
            (0, 0..1),
            (KIB_64, 0..0),
            (KIB_64, 0..2),
            (KIB_64, 1..2),
            (u64::MAX, 0..1),
            (ARTIFACT_BYTES_MAX, 5..u64::MAX),
        ] {
            assert!(Pieces::new(size, &groups).is_none(), "{size} {groups:?}");
        }
        let last = group_count(ARTIFACT_BYTES_MAX) - 1;
        let pieces = Pieces::new(ARTIFACT_BYTES_MAX, &(last..last + 1));
        assert_eq!(pieces.map(Iterator::count), Some(25));
    }
}
