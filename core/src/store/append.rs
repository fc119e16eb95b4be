//! Writing a decided block: everything about it in one transaction.

use heed::{PutFlags, RwTxn};

use crate::base::{BlockId, codec};
use crate::proto::chain::block::{Block, Certificate, Header};
use crate::proto::log::entry::Entry;
use crate::proto::log::tree::leaf_hash;
use crate::store::chain::{STATE_BYTES_MAX, Tip};
use crate::store::error::{StoreError, limit};
use crate::store::hashes::NewHashes;
use crate::store::tables::{LogTables, STATE_KEY, key};

/// A block as rows.
pub(crate) struct NewBlock {
    pub(crate) header: Header,
    header_bytes: Vec<u8>,
    certificate: Vec<u8>,
    /// With the seal.
    pub(crate) leaves: Vec<Vec<u8>>,
    state: Vec<u8>,
}

impl NewBlock {
    pub(crate) fn new(
        block: &Block,
        certificate: &Certificate,
        state: Vec<u8>,
    ) -> Result<Self, StoreError> {
        let header = block.header.clone();
        if certificate.height != block.height() || certificate.block != header.id() {
            return Err(StoreError::NotNext {
                height: block.height(),
                tip: block.height().saturating_sub(1),
                problem: "the certificate is for another block",
            });
        }
        limit("the chain state", state.len(), STATE_BYTES_MAX)?;
        let mut leaves: Vec<_> = block.entries.iter().map(|it| it.to_vec()).collect();
        leaves.push(Entry::Seal(header.seal.clone()).to_bytes());
        Ok(Self {
            header_bytes: codec::encode(&header),
            certificate: codec::encode(certificate),
            header,
            leaves,
            state,
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.state.len() + self.leaves.iter().map(Vec::len).sum::<usize>()
    }

    pub(crate) fn write(&self, tables: &LogTables, txn: &mut RwTxn<'_>) -> Result<(), StoreError> {
        let tip = tables.tip(txn)?.map(|it| it.0);
        self.check_follows(tip)?;
        let seal = &self.header.seal;
        let height = key(seal.height);
        let mut frontier = tables.frontier(txn, seal.first_index)?;
        let mut hashes = NewHashes::default();
        for (leaf, index) in self.leaves.iter().zip(seal.first_index..) {
            tables
                .leaf
                .put_with_flags(txn, PutFlags::APPEND, &key(index), leaf)?;
            frontier.push_with(leaf_hash(leaf), |level, index, hash| {
                hashes.push(level, index, hash);
            });
        }
        if frontier.root() != self.header.root {
            return Err(self.refuse(tip, "its root does not fit its leaves"));
        }
        hashes.write(tables, txn)?;
        tables
            .block
            .put_with_flags(txn, PutFlags::APPEND, &height, &self.header_bytes)?;
        tables.certificate.put(txn, &height, &self.certificate)?;
        tables
            .first
            .put_with_flags(txn, PutFlags::APPEND, &key(seal.first_index), &height)?;
        if seal.members != seal.next_members {
            tables.change.put(txn, &height, &[])?;
        }
        Ok(tables.state.put(txn, STATE_KEY, &self.state)?)
    }

    fn check_follows(&self, tip: Option<Tip>) -> Result<(), StoreError> {
        let (height, id, size) = tip.map_or((0, BlockId([0; 32]), 0), |it| {
            (it.height, it.block, it.size)
        });
        let seal = &self.header.seal;
        let count = self.leaves.len() as u64;
        let problem = if seal.height != height + 1 {
            "it is not the next height"
        } else if seal.parent != id {
            "its parent is another block"
        } else if seal.first_index != size || self.header.size != size + count {
            "its size does not fit"
        } else if seal.count != count {
            "its count of leaves does not fit"
        } else {
            return Ok(());
        };
        Err(self.refuse(tip, problem))
    }

    fn refuse(&self, tip: Option<Tip>, problem: &'static str) -> StoreError {
        StoreError::NotNext {
            height: self.header.seal.height,
            tip: tip.map_or(0, |it| it.height),
            problem,
        }
    }
}
