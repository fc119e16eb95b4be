//! The tables of the `log` environment and their keys.
//!
//! | table | key | value |
//! |---|---|---|
//! | `leaf` | index | leaf |
//! | `tile` | tile level (1 byte), number | the hashes of a full tile: see [`crate::store::hashes`] |
//! | `hash` | level (1 byte), index | hash of a complete subtree in a tile that is not full |
//! | `block` | height | header |
//! | `first` | index of the block's first leaf | height |
//! | `certificate` | height | certificate |
//! | `change` | height of a block that changes the members | nothing |
//! | `checkpoint` | size | note |
//! | `state` | `chain` | what the rules keep about the tip |
//! | `meta` | namespace, 0, key | value of another module |
//! | `blob` | blake3 | [`crate::store::record::BlobRecord`] |
//! | `inline` | blake3 | bytes of a small artifact |
//! | `partial` | blake3 | [`crate::store::record::PartialRecord`] |
//! | `sha256` | sha256 | blake3 |
//!
//! Numbers are 8 bytes, big-endian, so that the order of keys is their order.

use std::ops::Bound;

use heed::RoTxn;

use crate::base::codec;
use crate::proto::chain::block::{Block, Header};
use crate::proto::log::tree::Frontier;
use crate::store::chain::Tip;
use crate::store::env::Table;
use crate::store::error::StoreError;
use crate::store::hashes::Hashes;

/// Longest stored header and certificate. Unit: bytes.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// The key of the rules' state in its table.
pub(crate) const STATE_KEY: &[u8] = b"chain";

/// The tables of the `log` environment.
#[derive(Clone, Copy)]
pub(crate) struct LogTables {
    pub(crate) leaf: Table,
    pub(crate) tile: Table,
    pub(crate) hash: Table,
    pub(crate) block: Table,
    pub(crate) first: Table,
    pub(crate) certificate: Table,
    pub(crate) change: Table,
    pub(crate) checkpoint: Table,
    pub(crate) state: Table,
    pub(crate) meta: Table,
    pub(crate) blob: Table,
    pub(crate) inline: Table,
    pub(crate) partial: Table,
    pub(crate) sha256: Table,
}

impl LogTables {
    /// The names, in the order that [`LogTables::new`] takes.
    pub(crate) const NAMES: [&'static str; 14] = [
        "leaf",
        "tile",
        "hash",
        "block",
        "first",
        "certificate",
        "change",
        "checkpoint",
        "state",
        "meta",
        "blob",
        "inline",
        "partial",
        "sha256",
    ];

    pub(crate) fn new(tables: [Table; 14]) -> Self {
        let [
            leaf,
            tile,
            hash,
            block,
            first,
            certificate,
            change,
            checkpoint,
            state,
            meta,
            blob,
            inline,
            partial,
            sha256,
        ] = tables;
        Self {
            leaf,
            tile,
            hash,
            block,
            first,
            certificate,
            change,
            checkpoint,
            state,
            meta,
            blob,
            inline,
            partial,
            sha256,
        }
    }
}

/// A number as a key.
pub(crate) fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The number of a key or value.
pub(crate) fn number(bytes: &[u8]) -> Result<u64, StoreError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| StoreError::corrupt("the database", "a number has not 8 bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// The largest number in `table`, whose keys are numbers.
pub(crate) fn last_number(table: Table, txn: &RoTxn<'_>) -> Result<Option<u64>, StoreError> {
    table.last(txn)?.map(|(key, _)| number(key)).transpose()
}

impl LogTables {
    pub(crate) fn tip(&self, txn: &RoTxn<'_>) -> Result<Option<(Tip, Header)>, StoreError> {
        let Some(height) = last_number(self.block, txn)? else {
            return Ok(None);
        };
        let header = self.header(txn, height)?;
        Ok(header.map(|header| {
            let tip = Tip {
                height,
                block: header.id(),
                time: header.seal.time,
                size: header.size,
                root: header.root,
            };
            (tip, header)
        }))
    }

    pub(crate) fn header(
        &self,
        txn: &RoTxn<'_>,
        height: u64,
    ) -> Result<Option<Header>, StoreError> {
        let bytes = self.block.get(txn, &key(height))?;
        bytes.map(|it| stored(it, "a block header")).transpose()
    }

    pub(crate) fn block_at(
        &self,
        txn: &RoTxn<'_>,
        height: u64,
    ) -> Result<Option<Block>, StoreError> {
        let Some(header) = self.header(txn, height)? else {
            return Ok(None);
        };
        let from = header.seal.first_index;
        let count = header.seal.count.saturating_sub(1);
        let limit = usize::try_from(count).unwrap_or(usize::MAX);
        let leaves = self.leaves(txn, from, from.saturating_add(count), limit)?;
        if leaves.len() as u64 != count {
            let reason = format!("leaves of block {height} are missing");
            return Err(StoreError::corrupt("the log", reason));
        }
        let entries = leaves.into_iter().map(Into::into).collect();
        Ok(Some(Block { header, entries }))
    }

    pub(crate) fn leaf<'t>(
        &self,
        txn: &'t RoTxn<'_>,
        index: u64,
    ) -> Result<Option<&'t [u8]>, StoreError> {
        Ok(self.leaf.get(txn, &key(index))?)
    }

    pub(crate) fn leaves(
        &self,
        txn: &RoTxn<'_>,
        from: u64,
        to: u64,
        rows_max: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let (from, to) = (key(from), key(to.max(from)));
        let bounds = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let rows = self.leaf.range(txn, &bounds)?;
        rows.take(rows_max).map(|row| Ok(row?.1.to_vec())).collect()
    }

    pub(crate) fn height_of(&self, txn: &RoTxn<'_>, index: u64) -> Result<Option<u64>, StoreError> {
        if self.tip(txn)?.is_none_or(|it| it.0.size <= index) {
            return Ok(None);
        }
        let row = self.first.get_lower_than_or_equal_to(txn, &key(index))?;
        row.map(|it| number(it.1)).transpose()
    }

    pub(crate) fn frontier(&self, txn: &RoTxn<'_>, size: u64) -> Result<Frontier, StoreError> {
        let hashes = Hashes { tables: *self, txn };
        Frontier::load(&hashes, size)
            .ok_or_else(|| StoreError::corrupt("the log", "a hash is missing"))
    }
}

/// Decodes a header or certificate that we stored.
pub(crate) fn stored<T>(bytes: &[u8], what: &'static str) -> Result<T, StoreError>
where
    T: for<'b> minicbor::Decode<'b, ()> + minicbor::Encode<()>,
{
    codec::decode(bytes, HEADER_BYTES_MAX).map_err(|it| StoreError::corrupt(what, it.to_string()))
}
