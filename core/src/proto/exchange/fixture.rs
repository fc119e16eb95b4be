//! Artifacts for the tests of this folder.

use std::ops::Range;

use crate::base::{Blake3, Rng};
use crate::proto::exchange::group::{GROUP_BYTES, Piece, Pieces};
use crate::proto::exchange::outboard::OutboardBuilder;

/// Bytes without a pattern; a longer noise starts with the shorter one.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    noise_of(1, bytes)
}

fn noise_of(seed: u64, bytes: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        noise.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

/// An artifact as its holder has it.
pub(crate) struct Artifact {
    pub(crate) data: Vec<u8>,
    pub(crate) outboard: Vec<u8>,
    pub(crate) root: Blake3,
}

impl Artifact {
    pub(crate) fn new(seed: u64, bytes: usize) -> Self {
        let data = noise_of(seed, bytes);
        let (mut builder, mut outboard) = (OutboardBuilder::new(), Vec::new());
        builder.update(&data, &mut outboard).unwrap();
        let root = builder.finish(&mut outboard).root();
        Self {
            data,
            outboard,
            root,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.data.len() as u64
    }

    /// The bytes of a piece, as a server reads them.
    pub(crate) fn read(&self, piece: &Piece) -> &[u8] {
        let (source, offset) = match piece {
            Piece::Node { offset, .. } => (&self.outboard, *offset),
            Piece::Group { offset, .. } => (&self.data, *offset),
        };
        let start = usize::try_from(offset).unwrap();
        &source[start..start + piece.len()]
    }

    /// The pieces of `groups`, one after the other.
    pub(crate) fn stream(&self, groups: Range<u64>) -> Vec<u8> {
        let pieces = Pieces::new(self.size(), &groups).unwrap();
        pieces
            .flat_map(|piece| self.read(&piece).to_vec())
            .collect()
    }

    /// The bytes of group `index`.
    pub(crate) fn group(&self, index: u64) -> &[u8] {
        let start = usize::try_from(index).unwrap() * GROUP_BYTES;
        &self.data[start..self.data.len().min(start + GROUP_BYTES)]
    }
}
