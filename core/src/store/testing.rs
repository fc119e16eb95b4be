//! Rows of the database without a database, for tests of hostile inputs: a disk may give back
//! anything.

use std::ops::Range;

use crate::base::{Sha256, codec};
use crate::proto::chain::block::{Certificate, Header};
use crate::store::error::StoreError;
use crate::store::record::{BlobRecord, GROUP_BYTES, Groups, PartialRecord};
use crate::store::signed;
use crate::store::tables::stored;

/// The number of kinds of rows.
pub const ROWS: u8 = 5;

/// A row that was read.
#[derive(Debug)]
pub struct Row(Kind);

#[derive(Debug)]
enum Kind {
    Blob(BlobRecord),
    Partial(PartialRecord),
    Header(Header),
    Certificate(Certificate),
    Signed(signed::SignedHead),
}

/// The groups of an artifact that a row names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Present {
    /// Groups in all.
    pub count: u64,
    /// Groups that are not here.
    pub missing: u64,
    /// Those that are here.
    pub ranges: Vec<Range<u64>>,
}

impl Row {
    /// Reads a row of the given kind, below [`ROWS`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it is damaged.
    pub fn decode(kind: u8, bytes: &[u8]) -> Result<Self, StoreError> {
        Ok(Self(match kind {
            0 => Kind::Blob(BlobRecord::from_bytes(bytes)?),
            1 => Kind::Partial(PartialRecord::from_bytes(bytes)?),
            2 => Kind::Header(stored(bytes, "a block header")?),
            3 => Kind::Certificate(stored(bytes, "a certificate")?),
            _ => {
                let damaged = || StoreError::corrupt("the signed head", "damaged");
                Kind::Signed(signed::decode(bytes).ok_or_else(damaged)?)
            }
        }))
    }

    /// The row as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        match &self.0 {
            Kind::Blob(it) => codec::encode(it),
            Kind::Partial(it) => codec::encode(it),
            Kind::Header(it) => codec::encode(it),
            Kind::Certificate(it) => codec::encode(it),
            Kind::Signed(it) => signed::encode(*it),
        }
    }

    /// Bytes that the artifact of this row takes from the quota.
    pub fn weight(&self) -> Option<u64> {
        match &self.0 {
            Kind::Blob(it) => Some(it.weight()),
            _ => None,
        }
    }

    /// The groups that this row names.
    pub fn present(&self) -> Option<Present> {
        let Kind::Partial(record) = &self.0 else {
            return None;
        };
        let groups = Groups::of(record);
        Some(Present {
            count: groups.count(),
            missing: groups.missing(),
            ranges: groups.ranges(),
        })
    }

    /// Good rows of artifacts and of a signed head, with their kinds; others are made of blocks.
    pub fn samples() -> Vec<(u8, Vec<u8>)> {
        let blob = BlobRecord {
            size: 100_000,
            sha256: Sha256([7; 32]),
            is_inline: false,
            outboard: 64,
            used: 9,
            is_pinned: true,
        };
        let size = 20 * GROUP_BYTES + 1;
        let mut groups = Groups::none(size);
        groups.insert(0..3);
        groups.insert(8..21);
        let head = signed::SignedHead {
            size: 40,
            root: Sha256([1; 32]),
        };
        [
            Kind::Blob(blob),
            Kind::Partial(groups.to_record(size)),
            Kind::Signed(head),
        ]
        .into_iter()
        .zip([0, 1, 4])
        .map(|(row, kind)| (kind, Self(row).encode()))
        .collect()
    }
}
