//! The hashes of the log's complete subtrees, stored by tiles.
//!
//! A tile of level `t` covers the hashes of tree levels `8t .. 8t + 8` above 256 neighbouring
//! subtrees of level `8t` (C2SP tlog-tiles). When it is full it becomes one row of 510 hashes, the
//! 256 of its lowest level first, then 128, 64, … 2: 16,320 bytes, four pages of LMDB. Hashes of
//! tiles that are not full are rows of their own. So a proof is a handful of point reads, a tile
//! is a prefix of a row, and 256 leaves cost one write.

use std::collections::BTreeMap;

use heed::{RoTxn, RwTxn};

use crate::base::Sha256;
use crate::proto::log::tree::HashReader;
use crate::store::error::StoreError;
use crate::store::tables::LogTables;

/// Levels of the tree in one tile.
const TILE_LEVELS: u8 = 8;

/// Hashes of a tile's lowest level.
pub(crate) const TILE_WIDTH: u64 = 1 << TILE_LEVELS;

/// Where a hash lies: its tile, and the position in a full tile's row. Unit of position: hashes.
struct Place {
    tile_level: u8,
    tile: u64,
    position: usize,
}

impl Place {
    fn of(level: u8, index: u64) -> Option<Self> {
        if 64 <= level {
            return None;
        }
        let sub = level % TILE_LEVELS;
        let in_tile = index % (TILE_WIDTH >> sub);
        // Rows of 256, 128, … precede: 512 - (512 >> sub) hashes.
        let position = (512 - (512 >> sub)) + in_tile;
        Some(Self {
            tile_level: level / TILE_LEVELS,
            tile: index >> (TILE_LEVELS - sub),
            position: usize::try_from(position).ok()?,
        })
    }
}

fn key(level: u8, index: u64) -> [u8; 9] {
    let mut key = [level; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

fn hash_of(bytes: &[u8]) -> Option<Sha256> {
    bytes.try_into().ok().map(Sha256)
}

/// The hashes as of one transaction.
pub(crate) struct Hashes<'t> {
    pub(crate) tables: LogTables,
    pub(crate) txn: &'t RoTxn<'t>,
}

impl Hashes<'_> {
    fn read(&self, level: u8, index: u64) -> Result<Option<Sha256>, StoreError> {
        let Some(place) = Place::of(level, index) else {
            return Ok(None);
        };
        let tile = key(place.tile_level, place.tile);
        if let Some(row) = self.tables.tile.get(self.txn, &tile)? {
            let bytes = row.get(place.position * 32..(place.position + 1) * 32);
            return Ok(bytes.and_then(hash_of));
        }
        let row = self.tables.hash.get(self.txn, &key(level, index))?;
        Ok(row.and_then(hash_of))
    }

    /// The `width` first hashes of a tile, or `None` if it has fewer.
    pub(crate) fn tile(
        &self,
        tile_level: u8,
        tile: u64,
        width: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        if TILE_WIDTH < width || 8 <= tile_level || u64::MAX / TILE_WIDTH <= tile {
            return Ok(None);
        }
        let bytes = usize::try_from(width).unwrap_or(0) * 32;
        if let Some(row) = self.tables.tile.get(self.txn, &key(tile_level, tile))? {
            return Ok(row.get(..bytes).map(<[u8]>::to_vec));
        }
        let first = tile * TILE_WIDTH;
        (first..first + width)
            .map(|index| self.read(tile_level * TILE_LEVELS, index))
            .try_fold(Some(Vec::with_capacity(bytes)), |tile, hash| {
                Ok(tile.zip(hash?).map(|(mut tile, hash)| {
                    tile.extend_from_slice(&hash.0);
                    tile
                }))
            })
    }
}

impl HashReader for Hashes<'_> {
    fn hash(&self, level: u8, index: u64) -> Option<Sha256> {
        self.read(level, index).ok().flatten()
    }
}

/// Collects the hashes that a block completes, then writes them.
#[derive(Default)]
pub(crate) struct NewHashes {
    pending: BTreeMap<(u8, u64), Sha256>,
    /// Tiles that became full, as `(tile level, number)`.
    full: Vec<(u8, u64)>,
}

impl NewHashes {
    /// Takes the hash of a subtree that became complete.
    pub(crate) fn push(&mut self, level: u8, index: u64, hash: Sha256) {
        self.pending.insert((level, index), hash);
        // The lowest level of a tile is full exactly when its 256th hash is there; the hashes
        // above it in the same tile follow before the next leaf.
        if level.is_multiple_of(TILE_LEVELS) && index % TILE_WIDTH == TILE_WIDTH - 1 {
            self.full.push((level / TILE_LEVELS, index / TILE_WIDTH));
        }
    }

    /// Writes everything that was pushed.
    pub(crate) fn write(
        mut self,
        tables: &LogTables,
        txn: &mut RwTxn<'_>,
    ) -> Result<(), StoreError> {
        for (tile_level, tile) in std::mem::take(&mut self.full) {
            let row = self.take_tile(tables, txn, tile_level, tile)?;
            tables.tile.put(txn, &key(tile_level, tile), &row)?;
        }
        for ((level, index), hash) in self.pending {
            tables.hash.put(txn, &key(level, index), &hash.0)?;
        }
        Ok(())
    }

    /// The row of a full tile; its hashes leave the table of single hashes.
    fn take_tile(
        &mut self,
        tables: &LogTables,
        txn: &mut RwTxn<'_>,
        tile_level: u8,
        tile: u64,
    ) -> Result<Vec<u8>, StoreError> {
        let mut row = Vec::with_capacity(510 * 32);
        for sub in 0..TILE_LEVELS {
            let level = tile_level * TILE_LEVELS + sub;
            let width = TILE_WIDTH >> sub;
            for index in tile * width..(tile + 1) * width {
                if let Some(hash) = self.pending.remove(&(level, index)) {
                    row.extend_from_slice(&hash.0);
                    continue;
                }
                let key = key(level, index);
                let hash = tables.hash.get(txn, &key)?.ok_or_else(|| {
                    StoreError::corrupt("the log", format!("hash {level}/{index} is missing"))
                })?;
                row.extend_from_slice(hash);
                tables.hash.delete(txn, &key)?;
            }
        }
        Ok(row)
    }
}
