//! What the database keeps about an artifact, stored whole or in part.

use std::ops::Range;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{Sha256, codec};
use crate::store::error::StoreError;

/// Length of a group, the unit of verification and resumption. Unit: bytes.
pub const GROUP_BYTES: u64 = 64 << 10;

/// Artifacts up to this length live in the database. Unit: bytes.
pub const INLINE_BYTES_MAX: u64 = 16 << 10;

/// Largest artifact: the set of its groups takes 2 MiB. Unit: bytes.
pub const ARTIFACT_BYTES_MAX: u64 = 1 << 40;

/// Longest record. Unit: bytes.
const RECORD_BYTES_MAX: usize = (2 << 20) + 64;

/// A stored artifact.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct BlobRecord {
    /// Unit: bytes.
    #[n(0)]
    pub(crate) size: u64,
    #[n(1)]
    pub(crate) sha256: Sha256,
    #[n(2)]
    pub(crate) is_inline: bool,
    /// Length of the outboard; 0 if there is none. Unit: bytes.
    #[n(3)]
    pub(crate) outboard: u64,
    /// Number of the last use: larger is later.
    #[n(4)]
    pub(crate) used: u64,
    /// Never evicted.
    #[n(5)]
    pub(crate) is_pinned: bool,
}

impl BlobRecord {
    /// What counts against the quota. Unit: bytes.
    pub(crate) fn weight(&self) -> u64 {
        self.size.saturating_add(self.outboard)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        read(bytes)
    }
}

/// An artifact of which some groups are durable.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct PartialRecord {
    /// Unit: bytes.
    #[n(0)]
    pub(crate) size: u64,
    /// One bit for each group, the lowest first.
    #[n(1)]
    pub(crate) groups: ByteVec,
}

impl PartialRecord {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        let record: Self = read(bytes)?;
        // Memory for the groups follows from the size.
        if ARTIFACT_BYTES_MAX < record.size {
            let reason = format!("{} bytes", record.size);
            return Err(StoreError::corrupt("the record of an artifact", reason));
        }
        Ok(record)
    }
}

fn read<T>(bytes: &[u8]) -> Result<T, StoreError>
where
    T: for<'b> Decode<'b, ()> + Encode<()>,
{
    codec::decode(bytes, RECORD_BYTES_MAX)
        .map_err(|it| StoreError::corrupt("the record of an artifact", it.to_string()))
}

/// A set of an artifact's groups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Groups {
    bits: Vec<u8>,
    count: u64,
}

impl Groups {
    /// No group of an artifact of `size` bytes.
    pub(crate) fn none(size: u64) -> Self {
        let count = size.div_ceil(GROUP_BYTES);
        let bytes = usize::try_from(count.div_ceil(8)).unwrap_or(0);
        Self {
            bits: vec![0; bytes],
            count,
        }
    }

    /// The recorded groups; none if the record does not fit the size.
    pub(crate) fn of(record: &PartialRecord) -> Self {
        let mut groups = Self::none(record.size);
        if groups.bits.len() == record.groups.len() {
            groups.bits.copy_from_slice(&record.groups);
        }
        groups
    }

    pub(crate) fn insert(&mut self, groups: Range<u64>) {
        for group in groups.start..groups.end.min(self.count) {
            if let Some(byte) = usize::try_from(group / 8)
                .ok()
                .and_then(|at| self.bits.get_mut(at))
            {
                *byte |= 1 << (group % 8);
            }
        }
    }

    fn contains(&self, group: u64) -> bool {
        usize::try_from(group / 8)
            .ok()
            .and_then(|at| self.bits.get(at))
            .is_some_and(|byte| byte >> (group % 8) & 1 == 1)
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn missing(&self) -> u64 {
        self.count - (0..self.count).filter(|it| self.contains(*it)).count() as u64
    }

    /// The groups as ranges, ascending and not touching.
    pub(crate) fn ranges(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for group in (0..self.count).filter(|it| self.contains(*it)) {
            match ranges.last_mut() {
                Some(last) if last.end == group => last.end = group + 1,
                _ => ranges.push(group..group + 1),
            }
        }
        ranges
    }

    pub(crate) fn to_record(&self, size: u64) -> PartialRecord {
        PartialRecord {
            size,
            groups: self.bits.clone().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_survive_their_record() {
        let size = 20 * GROUP_BYTES + 1;
        let mut groups = Groups::none(size);
        groups.insert(0..3);
        groups.insert(8..9);
        groups.insert(20..u64::MAX);
        assert_eq!(groups.ranges(), [0..3, 8..9, 20..21]);
        assert_eq!((groups.count(), groups.missing()), (21, 16));

        let record = groups.to_record(size);
        let copy = PartialRecord::from_bytes(&codec::encode(&record)).unwrap();
        assert_eq!(Groups::of(&copy), groups);
    }

    #[test]
    fn a_record_of_more_than_an_artifact_has_is_damage() {
        for (size, is_good) in [(ARTIFACT_BYTES_MAX, true), (ARTIFACT_BYTES_MAX + 1, false)] {
            let groups = Vec::new().into();
            let bytes = codec::encode(&PartialRecord { size, groups });
            assert_eq!(PartialRecord::from_bytes(&bytes).is_ok(), is_good, "{size}");
        }
    }

    #[test]
    fn a_record_that_does_not_fit_its_size_means_no_groups() {
        let record = PartialRecord {
            size: GROUP_BYTES,
            groups: vec![0xff; 9].into(),
        };
        assert_eq!(Groups::of(&record).missing(), 1);
    }
}
