//! The check of received groups against the root of their artifact, without IO and without a copy.

use std::ops::Range;

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::base::Blake3;
use crate::proto::exchange::group::{GROUP_BYTES, NODE_BYTES, Piece, Pieces};

/// Why a stream of groups was refused. Each is the fault of who sent it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// A node or a group does not hash to what the root demands.
    #[error("the bytes at piece {piece} do not belong to the artifact")]
    Mismatch {
        /// Which piece of the stream, counted from 0.
        piece: u64,
    },
    /// A piece has another length than its place demands.
    #[error("a piece of {bytes} bytes came where {bytes_needed} were due")]
    Length {
        /// Length of the piece. Unit: bytes.
        bytes: usize,
        /// The only right length. Unit: bytes.
        bytes_needed: usize,
    },
    /// The stream ended before the last group.
    #[error("the stream ended before the last group")]
    Truncated,
    /// Bytes follow the last group.
    #[error("bytes follow the last group")]
    Trailing,
}

/// What a [`Verifier`] waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Need {
    /// A node: [`NODE_BYTES`] bytes.
    Parent,
    /// The bytes of a group.
    Leaf {
        /// Where they stand in the artifact. Unit: bytes.
        offset: u64,
        /// How many. Unit: bytes.
        len: usize,
    },
    /// Nothing: all groups came.
    Done,
}

impl Need {
    /// How many bytes are needed; 0 if done.
    pub const fn len(&self) -> usize {
        match self {
            Self::Parent => NODE_BYTES,
            Self::Leaf { len, .. } => *len,
            Self::Done => 0,
        }
    }

    /// Whether nothing is needed.
    pub const fn is_empty(&self) -> bool {
        matches!(self, Self::Done)
    }
}

/// A piece that belongs to its artifact; only a [`Verifier`] makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verified<B> {
    /// A node: store it in the outboard, so that the groups can be served at once.
    Node(VerifiedNode),
    /// A group: store it in the file.
    Group(VerifiedGroup<B>),
}

/// A node that belongs to its artifact; only a [`Verifier`] makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedNode {
    root: Blake3,
    offset: u64,
    bytes: [u8; NODE_BYTES],
}

impl VerifiedNode {
    /// The artifact.
    pub const fn root(&self) -> Blake3 {
        self.root
    }

    /// Where the node stands in the outboard. Unit: bytes.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Left and right hash.
    pub const fn bytes(&self) -> &[u8; NODE_BYTES] {
        &self.bytes
    }
}

/// A group that belongs to its artifact; only a [`Verifier`] makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedGroup<B> {
    root: Blake3,
    offset: u64,
    bytes: B,
}

impl<B> VerifiedGroup<B> {
    /// The artifact.
    pub const fn root(&self) -> Blake3 {
        self.root
    }

    /// Where the group stands in the artifact. Unit: bytes.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of the group.
    pub const fn index(&self) -> u64 {
        self.offset / GROUP_BYTES as u64
    }

    /// The bytes of the group.
    pub const fn bytes(&self) -> &B {
        &self.bytes
    }

    /// The buffer, to be written or used again.
    pub fn into_bytes(self) -> B {
        self.bytes
    }
}

/// Checks a stream of pieces against the root of their artifact.
///
/// Nothing passes that is not under the root at the place where it is due. The size must come from
/// the log: a wrong one is refused when its last group is among those asked for, and otherwise does
/// no harm, because a group that passes stands in the artifact at that offset.
#[derive(Debug)]
pub struct Verifier {
    root: Blake3,
    pieces: Pieces,
    piece: Option<Piece>,
    piece_index: u64,
    /// The hashes that the next pieces must have, the nearest last. At most one for each level.
    expected: Vec<[u8; 32]>,
    is_refused: bool,
}

impl Verifier {
    /// A verifier of `groups` of the artifact `root` of `size` bytes, or `None` if it has not
    /// these groups.
    pub fn new(root: Blake3, size: u64, groups: &Range<u64>) -> Option<Self> {
        let mut pieces = Pieces::new(size, groups)?;
        Some(Self {
            root,
            piece: pieces.next(),
            piece_index: 0,
            pieces,
            expected: vec![root.0],
            is_refused: false,
        })
    }

    /// What the stream brings next.
    pub fn need(&self) -> Need {
        match self.piece {
            None => Need::Done,
            Some(Piece::Node { .. }) => Need::Parent,
            Some(Piece::Group { offset, bytes, .. }) => Need::Leaf { offset, len: bytes },
        }
    }

    /// Checks the next piece: exactly as many bytes as [`Verifier::need`] says.
    ///
    /// # Errors
    ///
    /// [`Refused`]; from then on every further piece is refused too.
    pub fn feed<B: AsRef<[u8]>>(&mut self, bytes: B) -> Result<Verified<B>, Refused> {
        let verified = self.check(bytes);
        self.is_refused = verified.is_err();
        verified
    }

    /// Ends the stream.
    ///
    /// # Errors
    ///
    /// [`Refused::Truncated`] if pieces are missing.
    pub fn finish(self) -> Result<(), Refused> {
        self.piece.map_or(Ok(()), |_| Err(Refused::Truncated))
    }

    fn check<B: AsRef<[u8]>>(&mut self, bytes: B) -> Result<Verified<B>, Refused> {
        let mismatch = Refused::Mismatch {
            piece: self.piece_index,
        };
        if self.is_refused {
            return Err(mismatch);
        }
        let piece = self.piece.ok_or(Refused::Trailing)?;
        if bytes.as_ref().len() != piece.len() {
            return Err(Refused::Length {
                bytes: bytes.as_ref().len(),
                bytes_needed: piece.len(),
            });
        }
        let expected = self.expected.pop().ok_or(mismatch)?;
        let verified = match piece {
            Piece::Node {
                offset,
                is_root,
                proves_left,
                proves_right,
            } => {
                let (left, right) = split_node(bytes.as_ref()).ok_or(mismatch)?;
                if node_hash(&left, &right, is_root) != expected {
                    return Err(mismatch);
                }
                if proves_right {
                    self.expected.push(right);
                }
                if proves_left {
                    self.expected.push(left);
                }
                let mut bytes = [0; NODE_BYTES];
                bytes[..32].copy_from_slice(&left);
                bytes[32..].copy_from_slice(&right);
                Verified::Node(VerifiedNode {
                    root: self.root,
                    offset,
                    bytes,
                })
            }
            Piece::Group {
                offset, is_root, ..
            } => {
                if group_hash(bytes.as_ref(), offset, is_root) != expected {
                    return Err(mismatch);
                }
                Verified::Group(VerifiedGroup {
                    root: self.root,
                    offset,
                    bytes,
                })
            }
        };
        self.piece = self.pieces.next();
        self.piece_index += 1;
        Ok(verified)
    }
}

fn split_node(bytes: &[u8]) -> Option<([u8; 32], [u8; 32])> {
    let (left, right) = bytes.split_first_chunk()?;
    Some((*left, right.try_into().ok()?))
}

fn node_hash(left: &[u8; 32], right: &[u8; 32], is_root: bool) -> [u8; 32] {
    if is_root {
        *merge_subtrees_root(left, right, Mode::Hash).as_bytes()
    } else {
        merge_subtrees_non_root(left, right, Mode::Hash)
    }
}

fn group_hash(bytes: &[u8], offset: u64, is_root: bool) -> [u8; 32] {
    if is_root {
        return *blake3::hash(bytes).as_bytes();
    }
    // The offset goes into the hash: a right group at a wrong place does not pass.
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset).update(bytes);
    hasher.finalize_non_root()
}

#[cfg(test)]
mod tests {
    use bao_tree::io::outboard::PostOrderMemOutboard;
    use bao_tree::io::sync::encode_ranges_validated;
    use bao_tree::{BlockSize, ChunkNum, ChunkRanges};
    use proptest::prelude::*;

    use super::*;
    use crate::proto::exchange::fixture::Artifact;
    use crate::proto::exchange::group::group_count;

    const KIB_64: usize = GROUP_BYTES;
    type Passed = Vec<(u64, Vec<u8>)>;

    /// Feeds `stream` as `groups` of `root`; gives back the groups that passed, and the verdict.
    fn run(
        root: Blake3,
        size: u64,
        groups: Range<u64>,
        mut stream: &[u8],
    ) -> (Passed, Result<(), Refused>) {
        let mut verifier = Verifier::new(root, size, &groups).unwrap();
        let mut passed = Passed::new();
        loop {
            if stream.is_empty() {
                return (passed, verifier.finish());
            }
            let (piece, rest) = match verifier.need() {
                Need::Done => (stream, &[][..]),
                need => stream.split_at(need.len().min(stream.len())),
            };
            stream = rest;
            match verifier.feed(piece) {
                Ok(Verified::Node(_)) => {}
                Ok(Verified::Group(group)) => {
                    passed.push((group.index(), group.into_bytes().to_vec()));
                }
                Err(refused) => return (passed, Err(refused)),
            }
        }
    }

    /// Whatever passed is the artifact's own group at that place.
    fn assert_only_right_groups(artifact: &Artifact, passed: &[(u64, Vec<u8>)]) {
        for (index, bytes) in passed {
            assert!(bytes == artifact.group(*index), "group {index}");
        }
    }

    #[test]
    fn an_honest_stream_passes_at_every_boundary() {
        for size in [
            1,
            1_023,
            1_024,
            KIB_64 - 1,
            KIB_64,
            KIB_64 + 1,
            5 * KIB_64 + 7,
        ] {
            let artifact = Artifact::new(1, size);
            let count = group_count(artifact.size());
            for first in 0..count {
                for end in first + 1..=count {
                    let stream = artifact.stream(first..end);
                    let (passed, verdict) = run(artifact.root, size as u64, first..end, &stream);
                    assert_eq!(verdict, Ok(()), "{size} {first}..{end}");
                    assert_eq!(passed.len() as u64, end - first);
                    assert_only_right_groups(&artifact, &passed);
                }
            }
        }
    }

    #[test]
    fn the_nodes_that_pass_are_an_outboard_to_serve_from() {
        let artifact = Artifact::new(1, 5 * KIB_64 + 7);
        let mut outboard = vec![0; artifact.outboard.len()];
        for groups in [3..5, 0..1, 5..6, 1..3] {
            let mut verifier = Verifier::new(artifact.root, artifact.size(), &groups).unwrap();
            for piece in Pieces::new(artifact.size(), &groups).unwrap() {
                if let Ok(Verified::Node(node)) = verifier.feed(artifact.read(&piece)) {
                    let start = usize::try_from(node.offset()).unwrap();
                    outboard[start..start + NODE_BYTES].copy_from_slice(node.bytes());
                }
            }
            assert_eq!(verifier.finish(), Ok(()));
        }
        assert!(outboard == artifact.outboard);
    }

    #[test]
    fn the_stream_is_that_of_bao() {
        let artifact = Artifact::new(1, 9 * KIB_64 + 1_025);
        let blocks = BlockSize::from_chunk_log(6);
        let outboard = PostOrderMemOutboard::create(&artifact.data, blocks);
        for (groups, ranges) in [
            (0..10, ChunkRanges::all()),
            (2..5, ChunkRanges::from(ChunkNum(128)..ChunkNum(320))),
            (9..10, ChunkRanges::from(ChunkNum(576)..)),
        ] {
            let mut stream = Vec::new();
            encode_ranges_validated(&artifact.data[..], &outboard, &ranges, &mut stream).unwrap();
            assert!(stream == artifact.stream(groups.clone()), "{groups:?}");
        }
    }

    #[test]
    fn the_valid_proof_of_another_artifact_is_refused() {
        for size in [100, KIB_64, 4 * KIB_64, 4 * KIB_64 + 3] {
            let (wanted, other) = (Artifact::new(1, size), Artifact::new(2, size));
            let groups = 0..group_count(wanted.size());
            let stream = other.stream(groups.clone());
            assert_eq!(
                run(wanted.root, wanted.size(), groups, &stream),
                (vec![], Err(Refused::Mismatch { piece: 0 }))
            );
        }
    }

    #[test]
    fn right_groups_at_a_wrong_place_are_refused() {
        let artifact = Artifact::new(1, 8 * KIB_64);
        let (passed, verdict) = run(artifact.root, artifact.size(), 2..4, &artifact.stream(4..6));
        assert_eq!(passed, vec![]);
        assert_eq!(verdict, Err(Refused::Mismatch { piece: 1 }));

        // Equal bytes have other hashes at another place.
        let zeros = vec![0; KIB_64];
        assert_ne!(
            group_hash(&zeros, 0, false),
            group_hash(&zeros, KIB_64 as u64, false)
        );
    }

    #[test]
    fn a_wrong_size_is_refused_with_its_last_group() {
        for (size, declared) in [
            (4 * KIB_64, 4 * KIB_64 - 1),
            (4 * KIB_64, 4 * KIB_64 + 1),
            (4 * KIB_64, 3 * KIB_64),
            (4 * KIB_64, 8 * KIB_64),
            (2 * KIB_64, KIB_64),
            (100, 99),
            (100, 101),
            (KIB_64, KIB_64 + 1),
        ] {
            let artifact = Artifact::new(1, size);
            let count = group_count(declared as u64);
            // The best a liar can do: the right tree's nodes and bytes, where the wrong one asks.
            let mut liar = Artifact::new(1, declared);
            for (byte, right) in liar.outboard.iter_mut().zip(&artifact.outboard) {
                *byte = *right;
            }
            for stream in [
                liar.stream(0..count),
                artifact.stream(0..group_count(size as u64)),
            ] {
                let (passed, verdict) = run(artifact.root, declared as u64, 0..count, &stream);
                assert!(verdict.is_err(), "{size} declared as {declared}");
                assert_only_right_groups(&artifact, &passed);
            }
        }
    }

    #[test]
    fn a_shortened_or_lengthened_stream_is_refused() {
        let artifact = Artifact::new(1, 3 * KIB_64);
        let whole = artifact.stream(0..3);
        let length = |bytes, bytes_needed| Refused::Length {
            bytes,
            bytes_needed,
        };
        for (cut, verdict) in [
            (0, Refused::Truncated),
            (64, Refused::Truncated),
            (63, length(63, 64)),
            (whole.len() - 1, length(KIB_64 - 1, KIB_64)),
        ] {
            let (passed, got) = run(artifact.root, artifact.size(), 0..3, &whole[..cut]);
            assert_eq!(got, Err(verdict), "cut at {cut}");
            assert_only_right_groups(&artifact, &passed);
        }
        let longer = [&whole[..], &[0]].concat();
        let (passed, verdict) = run(artifact.root, artifact.size(), 0..3, &longer);
        assert_eq!((passed.len(), verdict), (3, Err(Refused::Trailing)));
    }

    #[test]
    fn nothing_passes_after_a_refusal() {
        let artifact = Artifact::new(1, 2 * KIB_64);
        let mut verifier = Verifier::new(artifact.root, artifact.size(), &(0..2)).unwrap();
        let node = &artifact.outboard[..];
        assert!(verifier.feed(&[0; 64][..]).is_err());
        assert_eq!(verifier.feed(node), Err(Refused::Mismatch { piece: 0 }));
        assert_eq!(verifier.finish(), Err(Refused::Truncated));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_flipped_bit_is_refused(
            size in 1_usize..500_000,
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
            range in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let artifact = Artifact::new(1, size);
            let count = usize::try_from(group_count(size as u64)).unwrap();
            let (a, b) = (range.0.index(count) as u64, range.1.index(count) as u64);
            let groups = a.min(b)..a.max(b) + 1;
            let mut stream = artifact.stream(groups.clone());
            let at = at.index(stream.len());
            stream[at] ^= 1 << bit;
            let (passed, verdict) = run(artifact.root, size as u64, groups, &stream);
            prop_assert!(verdict.is_err());
            assert_only_right_groups(&artifact, &passed);
        }
    }
}
