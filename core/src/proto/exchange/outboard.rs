//! Hashing an artifact while its bytes stream by, and reading back its proof nodes.

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::base::Blake3;
use crate::proto::exchange::group::{ARTIFACT_BYTES_MAX, GROUP_BYTES};

/// More bytes than an artifact may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the artifact has more than {ARTIFACT_BYTES_MAX} bytes")]
pub struct TooLarge;

/// What was hashed; only [`OutboardBuilder::finish`] makes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hashed {
    root: Blake3,
    size: u64,
}

impl Hashed {
    /// The BLAKE3 digest of the bytes.
    pub const fn root(&self) -> Blake3 {
        self.root
    }

    /// How many bytes there were.
    pub const fn size(&self) -> u64 {
        self.size
    }
}

/// Hashes bytes of unknown number and emits the nodes of the outboard as they become final.
///
/// Memory: one hash for each level of the tree.
#[derive(Debug, Default)]
pub struct OutboardBuilder {
    /// The group that is being filled.
    group: Hasher,
    group_bytes: usize,
    /// Groups before it.
    groups: u64,
    /// Hashes of the complete subtrees before it, largest first. A pair is merged only when more
    /// bytes follow: the last merge of all is the root and is computed differently.
    peaks: Vec<[u8; 32]>,
}

impl OutboardBuilder {
    /// A builder that has seen no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes `bytes`, and appends the nodes that became final to `outboard`. Fastest with
    /// multiples of [`GROUP_BYTES`].
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if the artifact grows beyond [`ARTIFACT_BYTES_MAX`]; nothing was hashed.
    pub fn update(&mut self, mut bytes: &[u8], outboard: &mut Vec<u8>) -> Result<(), TooLarge> {
        if ARTIFACT_BYTES_MAX - self.size() < bytes.len() as u64 {
            return Err(TooLarge);
        }
        while !bytes.is_empty() {
            if self.group_bytes == GROUP_BYTES {
                self.close_group(outboard);
            }
            let fits = bytes.len().min(GROUP_BYTES - self.group_bytes);
            let (head, rest) = bytes.split_at(fits);
            self.group.update(head);
            self.group_bytes += fits;
            bytes = rest;
        }
        Ok(())
    }

    /// Appends the last nodes to `outboard` and tells what was hashed.
    pub fn finish(mut self, outboard: &mut Vec<u8>) -> Hashed {
        let size = self.size();
        if self.groups == 0 {
            let root = Blake3(*self.group.finalize().as_bytes());
            return Hashed { root, size };
        }
        self.close_group(outboard);
        let mut right = self.peaks.pop().unwrap_or_default();
        while let Some(left) = self.peaks.pop() {
            append_node(&left, &right, outboard);
            right = if self.peaks.is_empty() {
                *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
            } else {
                merge_subtrees_non_root(&left, &right, Mode::Hash)
            };
        }
        let root = Blake3(right);
        Hashed { root, size }
    }

    /// Bytes seen so far.
    pub fn size(&self) -> u64 {
        self.groups * GROUP_BYTES as u64 + self.group_bytes as u64
    }

    fn close_group(&mut self, outboard: &mut Vec<u8>) {
        // Complete subtrees before this group: as many as bits are set in their number.
        while self.groups.count_ones() < u32::try_from(self.peaks.len()).unwrap_or(u32::MAX) {
            let (Some(right), Some(left)) = (self.peaks.pop(), self.peaks.pop()) else {
                return debug_assert!(false, "two peaks are left to merge");
            };
            append_node(&left, &right, outboard);
            self.peaks
                .push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
        self.peaks.push(self.group.finalize_non_root());
        self.groups += 1;
        self.group_bytes = 0;
        self.group = Hasher::new();
        self.group
            .set_input_offset(self.groups * GROUP_BYTES as u64);
    }
}

fn append_node(left: &[u8; 32], right: &[u8; 32], outboard: &mut Vec<u8>) {
    outboard.extend_from_slice(left);
    outboard.extend_from_slice(right);
}

#[cfg(test)]
mod tests {
    use bao_tree::BlockSize;
    use bao_tree::io::outboard::PostOrderMemOutboard;
    use proptest::prelude::*;

    use super::*;
    use crate::proto::exchange::fixture::noise;
    use crate::proto::exchange::group::outboard_bytes;

    fn build(data: &[u8], cut: usize) -> (Hashed, Vec<u8>) {
        let (mut builder, mut outboard) = (OutboardBuilder::new(), Vec::new());
        for bytes in data.chunks(cut) {
            builder.update(bytes, &mut outboard).unwrap();
        }
        (builder.finish(&mut outboard), outboard)
    }

    fn expected(data: &[u8]) -> (Hashed, Vec<u8>) {
        let outboard = PostOrderMemOutboard::create(data, BlockSize::from_chunk_log(6));
        let hashed = Hashed {
            root: Blake3::of(data),
            size: data.len() as u64,
        };
        (hashed, outboard.data)
    }

    #[test]
    fn the_outboard_is_that_of_bao_at_every_boundary() {
        for groups in 0..=17 {
            for (more, fewer) in [(0, 1), (0, 0), (1, 0), (1_023, 0), (1_025, 0)] {
                let bytes = (groups * GROUP_BYTES + more).saturating_sub(fewer);
                let data = noise(bytes);
                let built = build(&data, 100_000);
                assert_eq!(built.1.len() as u64, outboard_bytes(bytes as u64));
                assert!(built == expected(&data), "{bytes} bytes");
            }
        }
    }

    #[test]
    fn an_artifact_beyond_the_limit_is_refused() {
        let mut builder = OutboardBuilder::new();
        builder.groups = ARTIFACT_BYTES_MAX / GROUP_BYTES as u64;
        assert_eq!(builder.update(&[], &mut vec![]), Ok(()));
        assert_eq!(builder.update(&[0], &mut vec![]), Err(TooLarge));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn cuts_do_not_matter(bytes in 0_usize..400_000, cut in 1_usize..200_000) {
            let data = noise(bytes);
            prop_assert!(build(&data, cut) == expected(&data));
        }
    }
}
