//! Tiles: the tree and the entries as static resources (C2SP tlog-tiles).
//!
//! ```text
//! tile/<level>/<index>[.p/<width>]     width × 32 bytes: hashes at height 8 × level of the tree
//! tile/entries/<index>[.p/<width>]     width × (u16 length, big-endian; leaf)
//! ```
//!
//! A full tile is 256 wide and has no suffix. An index is written in groups of three digits, all
//! but the last marked with `x`: 1234067 is `x001/x234/067`.

use std::fmt;
use std::str::FromStr;

use crate::proto::log::entry::ENTRY_BYTES_MAX;
use crate::proto::log::tree::HashReader;

/// Hashes in a full tile, and leaves in a full bundle of entries.
pub const TILE_WIDTH: u16 = 256;

/// Longest encoded bundle of entries. Unit: bytes.
pub const BUNDLE_BYTES_MAX: usize = TILE_WIDTH as usize * (2 + ENTRY_BYTES_MAX);

/// Height of a tile: each level holds every eighth level of the tree.
const TILE_HEIGHT: u8 = 8;

/// Most leaves of a log with tiles: what a signed 64-bit number holds, as in other implementations.
const SIZE_MAX: u64 = u64::MAX >> 1;

/// Levels of tiles that a tree of so many leaves can have.
const LEVELS: u8 = 64 / TILE_HEIGHT;

/// Longest path. Unit: bytes.
const PATH_BYTES_MAX: usize = 64;

/// Why a tile cannot be named, made or read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TileError {
    /// Not the path of a tile.
    #[error("this is not the path of a tile: want `tile/<level>/<index>[.p/<width>]`")]
    Path,
    /// The tree has no such tile yet.
    #[error("`{0}` is not complete or not stored")]
    Missing(TilePath),
    /// A leaf is longer than a bundle can hold. Unit: bytes.
    #[error("a leaf of {0} bytes does not fit in a bundle, at most {ENTRY_BYTES_MAX} do")]
    LeafTooLong(usize),
    /// The bundle has not the announced number of leaves, or is cut off.
    #[error("the bundle does not hold exactly {0} leaves")]
    Bundle(u16),
}

/// What kind of content a tile has.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TileKind {
    /// Hashes of complete subtrees; the leaves at level 0, every eighth level of the tree above.
    Hashes(u8),
    /// Leaves.
    Entries,
}

/// The name of a tile; its content never changes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl TilePath {
    /// The tile at `index` of its level, or `None` if `width` is not in `1..=256`, or if no tree
    /// can have such a tile.
    pub fn new(kind: TileKind, index: u64, width: u16) -> Option<Self> {
        let level = level_of(kind);
        let stored_max = SIZE_MAX >> (TILE_HEIGHT * level.min(LEVELS - 1));
        let start = index.checked_mul(u64::from(TILE_WIDTH))?;
        let possible = level < LEVELS && start.checked_add(u64::from(width))? <= stored_max;
        let it = Self { kind, index, width };
        (possible && (1..=TILE_WIDTH).contains(&width)).then_some(it)
    }

    /// What the tile holds.
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its place in the level.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Number of hashes or leaves: 256 unless the tile is partial.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// The first of its hashes or leaves, counted from the start of the level.
    pub fn start(&self) -> u64 {
        self.index * u64::from(TILE_WIDTH)
    }

    /// Whether a log of `size` leaves has this tile: as one of its own tiles, or as the beginning
    /// of one, which an earlier log ended with.
    pub fn exists_at(&self, size: u64) -> bool {
        let stored = size >> (TILE_HEIGHT * level_of(self.kind));
        self.start() + u64::from(self.width) <= stored
    }
}

fn level_of(kind: TileKind) -> u8 {
    match kind {
        TileKind::Hashes(level) => level,
        TileKind::Entries => 0,
    }
}

/// The tiles of a log with `size` leaves, each as wide as it is at that size: the bundles of
/// entries, then the hashes level by level.
pub fn tiles(size: u64) -> impl Iterator<Item = TilePath> {
    let levels = (0..LEVELS).map(TileKind::Hashes);
    std::iter::once(TileKind::Entries)
        .chain(levels)
        .flat_map(move |kind| tiles_of_level(kind, size, 0))
}

/// The tiles at the right edge of a log with `size` leaves that are not full.
pub fn partial_tiles(size: u64) -> impl Iterator<Item = TilePath> {
    let levels = (0..LEVELS).map(TileKind::Hashes);
    std::iter::once(TileKind::Entries)
        .chain(levels)
        .flat_map(move |kind| {
            let full = (size >> (TILE_HEIGHT * level_of(kind))) / u64::from(TILE_WIDTH);
            tiles_of_level(kind, size, full)
        })
}

fn tiles_of_level(kind: TileKind, size: u64, first: u64) -> impl Iterator<Item = TilePath> {
    let stored = size >> (TILE_HEIGHT * level_of(kind));
    let width = u64::from(TILE_WIDTH);
    (first..stored.div_ceil(width)).filter_map(move |index| {
        let rest = (stored - index * width).min(width);
        TilePath::new(kind, index, u16::try_from(rest).ok()?)
    })
}

/// The content of a tile of hashes.
///
/// # Errors
///
/// [`TileError::Missing`] if `reader` lacks one of the hashes, or if `path` names entries.
pub fn hash_tile(reader: &impl HashReader, path: TilePath) -> Result<Vec<u8>, TileError> {
    let missing = || TileError::Missing(path);
    let TileKind::Hashes(level) = path.kind else {
        return Err(missing());
    };
    let mut bytes = Vec::with_capacity(32 * usize::from(path.width));
    for index in path.start()..path.start() + u64::from(path.width) {
        let hash = reader
            .hash(TILE_HEIGHT * level, index)
            .ok_or_else(missing)?;
        bytes.extend_from_slice(hash.as_bytes());
    }
    Ok(bytes)
}

/// Encodes leaves as a bundle. The caller passes at most 256, the leaves of one tile.
///
/// # Errors
///
/// [`TileError::LeafTooLong`] if one does not fit.
pub fn encode_bundle<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, TileError> {
    let mut bytes = Vec::new();
    for leaf in leaves {
        let len = u16::try_from(leaf.len()).map_err(|_| TileError::LeafTooLong(leaf.len()))?;
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(leaf);
    }
    Ok(bytes)
}

/// The leaves of a bundle that is `width` wide; bytes of the bundle, not copies.
///
/// # Errors
///
/// [`TileError::Bundle`] if it is cut off or goes on after them.
pub fn decode_bundle(mut bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, TileError> {
    let wrong = || TileError::Bundle(width);
    let mut leaves = Vec::with_capacity(usize::from(width.min(TILE_WIDTH)));
    for _ in 0..width {
        let (len, rest) = bytes.split_first_chunk().ok_or_else(wrong)?;
        let len = usize::from(u16::from_be_bytes(*len));
        let (leaf, rest) = rest.split_at_checked(len).ok_or_else(wrong)?;
        leaves.push(leaf);
        bytes = rest;
    }
    if bytes.is_empty() {
        Ok(leaves)
    } else {
        Err(wrong())
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut unit = 1_000;
        while unit <= self.index {
            unit *= 1_000; // An index is below 2^55: no overflow.
        }
        while 1_000 < unit {
            unit /= 1_000;
            write!(f, "x{:03}/", self.index / unit % 1_000)?;
        }
        write!(f, "{:03}", self.index % 1_000)?;
        if self.width < TILE_WIDTH {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for TilePath {
    type Err = TileError;

    fn from_str(text: &str) -> Result<Self, TileError> {
        // Whatever else can be read as the same tile is refused: one tile, one path.
        parse(text)
            .filter(|it| it.to_string() == text)
            .ok_or(TileError::Path)
    }
}

fn parse(text: &str) -> Option<TilePath> {
    if PATH_BYTES_MAX < text.len() {
        return None;
    }
    let (kind, rest) = text.strip_prefix("tile/")?.split_once('/')?;
    let kind = match kind {
        "entries" => TileKind::Entries,
        level => TileKind::Hashes(level.parse().ok()?),
    };
    let (index, width) = match rest.split_once(".p/") {
        Some((index, width)) => (index, width.parse().ok()?),
        None => (rest, TILE_WIDTH),
    };
    let index = index.split('/').try_fold(0_u64, |index, group| {
        let digits: u64 = group.strip_prefix('x').unwrap_or(group).parse().ok()?;
        index.checked_mul(1_000)?.checked_add(digits)
    })?;
    TilePath::new(kind, index, width)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::log::proof::tests::Memory;
    use crate::proto::log::tree::{Frontier, leaf_hash};

    fn path(kind: TileKind, index: u64, width: u16) -> TilePath {
        TilePath::new(kind, index, width).unwrap()
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        for (tile, text) in [
            (path(TileKind::Hashes(0), 0, 256), "tile/0/000"),
            (path(TileKind::Hashes(0), 273, 112), "tile/0/273.p/112"),
            (path(TileKind::Hashes(1), 1_000, 1), "tile/1/x001/000.p/1"),
            (
                path(TileKind::Entries, 1_234_067, 256),
                "tile/entries/x001/x234/067",
            ),
            (path(TileKind::Entries, 999, 255), "tile/entries/999.p/255"),
        ] {
            assert_eq!(tile.to_string(), text);
            assert_eq!(text.parse(), Ok(tile));
        }
    }

    #[test]
    fn hostile_paths_are_refused() {
        for text in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "/tile/0/000",
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/+0/000",
            "tile/-1/000",
            "tile/8/000",
            "tile/64/000",
            "tile/256/000",
            "tile/7/001",
            "tile/data/000",
            "tile/0/x000/000",
            "tile/0/001/000",
            "tile/0/x001",
            "tile/0/x001/x000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/65537",
            "tile/0/000.p/01",
            "tile/0/000.p/+1",
            "tile/0/000.p/",
            "tile/0/000.p",
            "tile/0/000.p/1/",
            "tile/0/000.p/1.p/1",
            "tile/0/../../etc/passwd",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
            "tile/entries/x999/x999/x999/x999/x999/x999/x999/x999/x999/x999/x999/x999/999",
            "tile/0/٠٠٠",
        ] {
            assert_eq!(text.parse::<TilePath>(), Err(TileError::Path), "{text}");
        }
    }

    #[test]
    fn a_log_of_70_000_has_the_tiles_that_the_specification_lists() {
        let count = |kind, width| {
            tiles(70_000)
                .filter(|it| it.kind == kind && it.width == width)
                .count()
        };
        for (kind, width, expected) in [
            (TileKind::Entries, 256, 273),
            (TileKind::Entries, 112, 1),
            (TileKind::Hashes(0), 256, 273),
            (TileKind::Hashes(0), 112, 1),
            (TileKind::Hashes(1), 256, 1),
            (TileKind::Hashes(1), 17, 1),
            (TileKind::Hashes(2), 1, 1),
        ] {
            assert_eq!(count(kind, width), expected, "{kind:?} {width}");
        }
        assert_eq!(tiles(70_000).count(), 2 * 274 + 2 + 1);
        assert!(tiles(70_000).all(|it| it.exists_at(70_000)));

        let listed = |it: Vec<TilePath>| it.iter().map(TilePath::to_string).collect::<Vec<_>>();
        assert_eq!(
            listed(partial_tiles(70_000).collect()),
            [
                "tile/entries/273.p/112",
                "tile/0/273.p/112",
                "tile/1/001.p/17",
                "tile/2/000.p/1"
            ]
        );
        assert_eq!(
            listed(tiles(256).collect()),
            ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]
        );
        assert_eq!(tiles(0).count(), 0);
        assert_eq!(partial_tiles(SIZE_MAX).count(), 9);
    }

    #[test]
    fn every_tile_that_has_a_name_exists_in_some_log() {
        for level in 0..=LEVELS {
            for index in [0, 1, SIZE_MAX >> 16, SIZE_MAX >> 8, u64::MAX] {
                for width in [1, 127, 128, 255, 256] {
                    let tile = TilePath::new(TileKind::Hashes(level), index, width);
                    assert!(tile.is_none_or(|it| it.exists_at(SIZE_MAX)), "{tile:?}");
                }
            }
        }
        assert!(TilePath::new(TileKind::Hashes(7), 0, 127).is_some());
    }

    #[test]
    fn a_tile_exists_once_the_log_covers_it() {
        let tile = path(TileKind::Hashes(1), 0, 2);
        assert!(!tile.exists_at(511));
        assert!(tile.exists_at(512));
        assert!(path(TileKind::Entries, 1, 3).exists_at(300));
        assert!(!path(TileKind::Entries, 1, 45).exists_at(300));
    }

    #[test]
    fn hash_tiles_hash_up_to_the_root() {
        let tree = Memory::counting(600);
        let tile = hash_tile(&tree, path(TileKind::Hashes(0), 0, 256)).unwrap();
        let mut edge = Frontier::default();
        let (hashes, []) = tile.as_chunks::<32>() else {
            panic!("whole hashes")
        };
        hashes
            .iter()
            .for_each(|it| edge.push(crate::base::Sha256(*it)));
        let above = hash_tile(&tree, path(TileKind::Hashes(1), 0, 2)).unwrap();
        assert_eq!(
            (hashes.len(), edge.root().as_bytes()),
            (256, above.first_chunk().unwrap())
        );
        assert_eq!(hashes[7], leaf_hash(&7_u32.to_be_bytes()).0);

        for missing in [
            path(TileKind::Hashes(1), 0, 3),
            path(TileKind::Hashes(0), 2, 256),
            path(TileKind::Entries, 0, 1),
        ] {
            assert_eq!(hash_tile(&tree, missing), Err(TileError::Missing(missing)));
        }
    }

    #[test]
    fn bundles_are_exact() {
        let bytes = encode_bundle([&b"ab"[..], b"", b"c"]).unwrap();
        assert_eq!(bytes, [0, 2, b'a', b'b', 0, 0, 0, 1, b'c']);
        assert_eq!(decode_bundle(&bytes, 3), Ok(vec![&b"ab"[..], b"", b"c"]));
        for (bytes, width) in [(&bytes[..], 2), (&bytes, 4), (&bytes[..8], 3), (&[0], 1)] {
            assert_eq!(decode_bundle(bytes, width), Err(TileError::Bundle(width)));
        }
        let long = vec![0; ENTRY_BYTES_MAX + 1];
        assert_eq!(
            encode_bundle([&long[..]]),
            Err(TileError::LeafTooLong(ENTRY_BYTES_MAX + 1))
        );
    }

    proptest! {
        #[test]
        fn a_path_survives_its_text(level in 0_u8..9, index in any::<u64>(), shift in 0_u32..64, width in 0_u16..300) {
            let kind = if level == 8 { TileKind::Entries } else { TileKind::Hashes(level) };
            if let Some(tile) = TilePath::new(kind, index >> shift, width) {
                prop_assert_eq!(tile.to_string().parse(), Ok(tile));
            }
        }

        #[test]
        fn any_text_is_answered(text in "(tile/)?[0-9x/.pentris]{0,40}") {
            if let Ok(tile) = text.parse::<TilePath>() {
                prop_assert_eq!(tile.to_string(), text);
            }
        }

        #[test]
        fn bundles_survive(leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..256)) {
            let bytes = encode_bundle(leaves.iter().map(Vec::as_slice)).unwrap();
            let width = u16::try_from(leaves.len()).unwrap();
            prop_assert_eq!(decode_bundle(&bytes, width).unwrap(), leaves);
        }
    }
}
