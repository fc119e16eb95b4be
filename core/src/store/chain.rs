//! Decided blocks, their certificates, the leaves and hashes of the log.
//!
//! A block enters in one transaction: header, certificate, leaves, hashes, and the state of the
//! rules. So a crash leaves all of it or nothing.

use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use heed::RwTxn;

use crate::base::{BlockId, Sha256, WallTime, codec};
use crate::proto::chain::block::{Block, Certificate, Header};
use crate::proto::log::tree::{Frontier, HashReader};
use crate::store::append::NewBlock;
use crate::store::env::Environment;
use crate::store::error::{StoreError, limit};
use crate::store::hashes::Hashes;
use crate::store::signed::{SignedFile, SignedHead};
use crate::store::tables::{LogTables, STATE_KEY, key, number, stored};
use crate::store::tail::Tail;
use crate::store::writer::Writer;

/// Most rows of one answer; ask again from the last one.
pub const ROWS_MAX: usize = 1_000;

/// Longest state of the rules. Unit: bytes.
pub const STATE_BYTES_MAX: usize = 16 << 20;

/// Longest checkpoint note. Unit: bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 64 << 10;

/// Checkpoints that are kept; the oldest makes room.
pub const CHECKPOINTS_MAX: u64 = 1_024;

/// The last block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tip {
    /// Its height.
    pub height: u64,
    /// Its identity.
    pub block: BlockId,
    /// Its time.
    pub time: WallTime,
    /// Leaves in the log.
    pub size: u64,
    /// Root of the log.
    pub root: Sha256,
}

/// A block and its certificate as they travel: canonical bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EncodedBlock {
    /// [`Block::to_bytes`].
    pub block: Vec<u8>,
    /// The certificate's canonical CBOR.
    pub certificate: Vec<u8>,
}

/// The chain and the log on disk. Clones share the same store.
///
/// Reading takes microseconds. Writing waits for the disk: some milliseconds.
#[derive(Clone)]
pub struct Chain(Arc<Inner>);

struct Inner {
    env: Arc<Environment>,
    tables: LogTables,
    writer: Arc<Writer>,
    tail: Arc<Tail>,
    signed: Mutex<SignedFile>,
}

impl Chain {
    /// Opens the chain, and compares it with the highest signed head.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the log does not contain that head.
    pub(crate) fn open(
        env: &Arc<Environment>,
        tables: LogTables,
        writer: &Arc<Writer>,
        tail: &Arc<Tail>,
    ) -> Result<Self, StoreError> {
        let signed = SignedFile::open(env)?;
        let head = signed.head();
        let chain = Self(Arc::new(Inner {
            env: Arc::clone(env),
            tables,
            writer: Arc::clone(writer),
            tail: Arc::clone(tail),
            signed: Mutex::new(signed),
        }));
        if let Some(head) = head {
            chain.check_signed(head)?;
        }
        Ok(chain)
    }

    fn check_signed(&self, head: SignedHead) -> Result<(), StoreError> {
        let size = self.size()?;
        let root = self.root_at(head.size)?;
        if head.size <= size && root == Some(head.root) {
            return Ok(());
        }
        let reason = format!(
            "it has {size} leaves and does not contain the head of {} leaves that this node \
             signed; restore the directory from a later copy, and do not sign with this one",
            head.size
        );
        Err(StoreError::corrupt("the log", reason))
    }

    /// The last block, or `None` before the first.
    ///
    /// # Errors
    ///
    /// [`StoreError`], as for all reads, if the database is damaged or has too many readers.
    pub fn tip(&self) -> Result<Option<Tip>, StoreError> {
        let txn = self.0.env.read()?;
        Ok(self.0.tables.tip(&txn)?.map(|it| it.0))
    }

    /// Leaves in the log.
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn size(&self) -> Result<u64, StoreError> {
        Ok(self.tip()?.map_or(0, |it| it.size))
    }

    /// Root of the log with `size` leaves, or `None` if it is smaller.
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn root_at(&self, size: u64) -> Result<Option<Sha256>, StoreError> {
        let txn = self.0.env.read()?;
        let hashes = Hashes {
            tables: self.0.tables,
            txn: &txn,
        };
        Ok(Frontier::load(&hashes, size).map(|it| it.root()))
    }

    /// The right edge of the log, for computing the root of the next block.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if a hash is missing; otherwise as for [`Chain::tip`].
    pub fn frontier(&self) -> Result<Frontier, StoreError> {
        let txn = self.0.env.read()?;
        let size = self.0.tables.tip(&txn)?.map_or(0, |it| it.0.size);
        self.0.tables.frontier(&txn, size)
    }

    /// Appends a decided block with its certificate, and replaces the state of the rules.
    ///
    /// Does not wait: `done` is called exactly once, on the writer thread, when the block is
    /// durable and visible to queries, or when it is refused. Several blocks may be under way.
    /// Neither signatures nor rules are checked here, only that the block follows the tip and has
    /// the tree head that its header names.
    ///
    /// `done` gets [`StoreError::NotNext`] if the block does not fit, [`StoreError::Busy`] if too
    /// much is waiting, [`StoreError::DiskFull`], or [`StoreError::Failed`] if the store is
    /// stopped. It must be quick.
    pub fn append(
        &self,
        block: &Block,
        certificate: &Certificate,
        state: Vec<u8>,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let new = match NewBlock::new(block, certificate, state) {
            Ok(new) => new,
            Err(error) => return done(Err(error)),
        };
        let (tables, tail, bytes) = (self.0.tables, Arc::clone(&self.0.tail), new.bytes());
        let rows = tail.prepare(new.header.seal.first_index, &new.leaves);
        let change = move |txn: &mut RwTxn<'_>| new.write(&tables, txn);
        self.0.writer.submit(bytes, change, move |result| {
            if result.is_ok() {
                tail.push(rows);
            }
            done(result);
        });
    }

    /// Like [`Chain::append`], but blocks until the block is durable.
    ///
    /// # Errors
    ///
    /// As for [`Chain::append`].
    pub fn append_and_wait(
        &self,
        block: &Block,
        certificate: &Certificate,
        state: Vec<u8>,
    ) -> Result<(), StoreError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.append(block, certificate, state, move |it| drop(sender.send(it)));
        receiver.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// The state of the rules as of the tip.
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn state(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let txn = self.0.env.read()?;
        let state = self.0.tables.state.get(&txn, STATE_KEY)?;
        Ok(state.map(<[u8]>::to_vec))
    }

    /// The header of the block at `height`.
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn header(&self, height: u64) -> Result<Option<Header>, StoreError> {
        let txn = self.0.env.read()?;
        self.0.tables.header(&txn, height)
    }

    /// The block at `height`.
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn block(&self, height: u64) -> Result<Option<Block>, StoreError> {
        let txn = self.0.env.read()?;
        self.0.tables.block_at(&txn, height)
    }

    /// The certificate that decided the block at `height`.
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn certificate(&self, height: u64) -> Result<Option<Certificate>, StoreError> {
        let txn = self.0.env.read()?;
        let bytes = self.0.tables.certificate.get(&txn, &key(height))?;
        bytes.map(|it| stored(it, "a certificate")).transpose()
    }

    /// Blocks with certificates from height `from` on, for another node. At least one if there is
    /// one, then as many as fit into `bytes_max`, at most [`ROWS_MAX`]; ends before a block whose
    /// certificate was pruned.
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn blocks(&self, from: u64, bytes_max: usize) -> Result<Vec<EncodedBlock>, StoreError> {
        let txn = self.0.env.read()?;
        let (mut blocks, mut bytes): (Vec<EncodedBlock>, usize) = (Vec::new(), 0);
        for height in (from..).take(ROWS_MAX) {
            let Some(block) = self.0.tables.block_at(&txn, height)? else {
                break;
            };
            let Some(certificate) = self.0.tables.certificate.get(&txn, &key(height))? else {
                break;
            };
            let block = block.to_bytes();
            bytes = bytes.saturating_add(block.len() + certificate.len());
            if bytes_max < bytes && !blocks.is_empty() {
                break;
            }
            blocks.push(EncodedBlock {
                block,
                certificate: certificate.to_vec(),
            });
        }
        Ok(blocks)
    }

    /// Stores another certificate for the block that is already there, such as one with more
    /// signatures. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotNext`] if the certificate is for another block than the stored one.
    pub fn replace_certificate(&self, certificate: &Certificate) -> Result<(), StoreError> {
        let (height, id) = (certificate.height, certificate.block);
        let bytes = codec::encode(certificate);
        let tables = self.0.tables;
        self.0.writer.write(bytes.len(), move |txn| {
            if tables.header(txn, height)?.map(|it| it.id()) != Some(id) {
                return Err(StoreError::NotNext {
                    height,
                    tip: tables.tip(txn)?.map_or(0, |it| it.0.height),
                    problem: "the certificate is for a block that is not stored",
                });
            }
            Ok(tables.certificate.put(txn, &key(height), &bytes)?)
        })
    }

    /// The leaf at `index`.
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn leaf(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let txn = self.0.env.read()?;
        let leaf = self.0.tables.leaf.get(&txn, &key(index))?;
        Ok(leaf.map(<[u8]>::to_vec))
    }

    /// The leaves `from .. to` that exist, in order, at most [`ROWS_MAX`].
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn leaves(&self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let txn = self.0.env.read()?;
        self.0.tables.leaves(&txn, from, to, ROWS_MAX)
    }

    /// The height of the block that holds the leaf at `index`.
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn height_of(&self, index: u64) -> Result<Option<u64>, StoreError> {
        let txn = self.0.env.read()?;
        self.0.tables.height_of(&txn, index)
    }

    /// The height of the first block whose time is not before `time`. Block times never decrease,
    /// so this is a binary search.
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn height_at(&self, time: WallTime) -> Result<Option<u64>, StoreError> {
        let txn = self.0.env.read()?;
        let tip = self.0.tables.tip(&txn)?.map_or(0, |it| it.0.height);
        let (mut low, mut high) = (1, tip + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let header = self.0.tables.header(&txn, middle)?;
            if header.is_some_and(|it| it.seal.time < time) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok((low <= tip).then_some(low))
    }

    /// Heights of blocks that change the members, above `after`, at most [`ROWS_MAX`].
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn set_changes(&self, after: u64) -> Result<Vec<u64>, StoreError> {
        let txn = self.0.env.read()?;
        let after = key(after);
        let bounds = (Bound::Excluded(&after[..]), Bound::Unbounded);
        let rows = self.0.tables.change.range(&txn, &bounds)?;
        rows.take(ROWS_MAX).map(|row| number(row?.0)).collect()
    }

    /// A tile of hashes: `width` of them (1 to 256) from number `tile` of level `tile_level`
    /// (C2SP tlog-tiles), 32 bytes each; `None` if the log does not have it yet.
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn tile(
        &self,
        tile_level: u8,
        tile: u64,
        width: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let txn = self.0.env.read()?;
        let hashes = Hashes {
            tables: self.0.tables,
            txn: &txn,
        };
        hashes.tile(tile_level, tile, width)
    }

    /// The highest head that this node has signed or was about to sign.
    pub fn signed_head(&self) -> Option<SignedHead> {
        self.signed().head()
    }

    /// Records that this node is about to sign the head `(size, root)`; durable when it returns,
    /// so sign afterwards. The same head may be recorded again. Blocks for two syncs.
    ///
    /// # Errors
    ///
    /// [`StoreError::SignedHead`] if the head contradicts the highest one: do not sign it.
    pub fn persist_signed_head(&self, size: u64, root: Sha256) -> Result<(), StoreError> {
        if self.root_at(size)? != Some(root) {
            let signed = self.signed_head().map_or(0, |it| it.size);
            return Err(StoreError::SignedHead { size, signed });
        }
        self.signed().raise(SignedHead { size, root })
    }

    fn signed(&self) -> std::sync::MutexGuard<'_, SignedFile> {
        self.0.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the note of the checkpoint with `size` leaves; replaces one of the same size, and
    /// drops the oldest beyond [`CHECKPOINTS_MAX`]. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] above [`CHECKPOINT_BYTES_MAX`].
    pub fn put_checkpoint(&self, size: u64, note: &str) -> Result<(), StoreError> {
        limit("the checkpoint", note.len(), CHECKPOINT_BYTES_MAX)?;
        let (tables, note) = (self.0.tables, note.as_bytes().to_vec());
        self.0.writer.write(note.len(), move |txn| {
            tables.checkpoint.put(txn, &key(size), &note)?;
            while CHECKPOINTS_MAX < tables.checkpoint.len(txn)? {
                let oldest = tables.checkpoint.first(txn)?.map(|it| it.0.to_vec());
                let Some(oldest) = oldest else { break };
                tables.checkpoint.delete(txn, &oldest)?;
            }
            Ok(())
        })
    }

    /// The note of the largest checkpoint, with its size.
    ///
    /// # Errors
    ///
    /// As for [`Chain::tip`].
    pub fn latest_checkpoint(&self) -> Result<Option<(u64, String)>, StoreError> {
        let txn = self.0.env.read()?;
        let Some((size, note)) = self.0.tables.checkpoint.last(&txn)? else {
            return Ok(None);
        };
        let note = String::from_utf8(note.to_vec())
            .map_err(|_| StoreError::corrupt("a checkpoint", "it is not text"))?;
        Ok(Some((number(size)?, note)))
    }

    pub(crate) fn env(&self) -> &Arc<Environment> {
        &self.0.env
    }

    pub(crate) fn tables(&self) -> &LogTables {
        &self.0.tables
    }
}

impl HashReader for Chain {
    fn hash(&self, level: u8, index: u64) -> Option<Sha256> {
        let txn = self.0.env.read().ok()?;
        let hashes = Hashes {
            tables: self.0.tables,
            txn: &txn,
        };
        hashes.hash(level, index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::log::entry::Entry;
    use crate::store::disk::Step;
    use crate::store::recover::Store;
    use crate::store::testing::{Failing, Maker, Sense, add, open, options, state};

    fn entries(height: usize, count: usize) -> Vec<Entry> {
        (0..count)
            .map(|it| add(&format!("pkg:maven/g/a@{height}"), &format!("f{it}")))
            .collect()
    }

    #[test]
    fn what_was_appended_is_read_back_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (mut maker, mut blocks) = (Maker::default(), Vec::new());
        let (store, _) = open(dir.path());
        // Past the first full tile of level 1 would take 65,536 leaves; past three of level 0 here.
        for height in 1..=12 {
            blocks.push(maker.append(&store, &entries(height, height * 11)));
        }
        drop(store);

        let (store, recovery) = open(dir.path());
        assert_eq!(recovery, Recovery::default());
        let chain = store.chain();
        let last = blocks.last().unwrap();
        let expected = Tip {
            height: 12,
            block: last.id(),
            time: WallTime::from_millis(12_000),
            size: last.header.size,
            root: last.header.root,
        };
        assert_eq!(chain.tip().unwrap(), Some(expected));
        assert_eq!(chain.state().unwrap(), Some(state(last)));
        assert_eq!(chain.set_changes(0).unwrap(), [5, 10]);
        assert_eq!(chain.set_changes(5).unwrap(), [10]);
        for block in &blocks {
            let height = block.height();
            assert_eq!(chain.block(height).unwrap().as_ref(), Some(block));
            assert_eq!(
                chain.root_at(block.header.size).unwrap(),
                Some(block.header.root)
            );
            let first = block.header.seal.first_index;
            assert_eq!(chain.height_of(first).unwrap(), Some(height));
            assert_eq!(
                chain.height_of(block.header.size - 1).unwrap(),
                Some(height)
            );
            assert_eq!(
                chain.height_at(block.header.seal.time).unwrap(),
                Some(height)
            );
        }
        assert_eq!(chain.height_of(expected.size).unwrap(), None);
        assert_eq!(
            chain.height_at(WallTime::from_millis(12_001)).unwrap(),
            None
        );
        assert_eq!(chain.block(13).unwrap(), None);
    }

    use crate::store::recover::Recovery;

    #[test]
    fn every_hash_and_tile_agrees_with_the_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let mut maker = Maker::default();
        for height in 1..=10 {
            maker.append(&store, &entries(height, 70));
        }
        let chain = store.chain();
        let size = chain.size().unwrap();
        let leaves = chain.leaves(0, size).unwrap();
        assert_eq!(leaves.len() as u64, size);
        let (mut frontier, mut hashes) = (Frontier::default(), std::collections::BTreeMap::new());
        for leaf in &leaves {
            frontier.push_with(crate::proto::log::leaf_hash(leaf), |level, index, hash| {
                hashes.insert((level, index), hash);
            });
        }
        for ((level, index), hash) in &hashes {
            assert_eq!(chain.hash(*level, *index), Some(*hash), "{level}/{index}");
        }
        for (level, index) in [(0, size), (1, size / 2), (9, 1), (64, 0), (255, u64::MAX)] {
            assert_eq!(chain.hash(level, index), None, "{level}/{index}");
        }
        let tile = |level: u8, tile: u64, width: u64| {
            let row = (tile * 256..tile * 256 + width).map(|it| hashes[&(level * 8, it)].0);
            Some(row.collect::<Vec<_>>().concat())
        };
        for (level, number, width) in [(0, 0, 256), (0, 1, 3), (0, 2, size % 256), (1, 0, 2)] {
            assert_eq!(
                chain.tile(level, number, width).unwrap(),
                tile(level, number, width)
            );
        }
        for (level, number, width) in [(0, 2, size % 256 + 1), (0, 0, 257), (9, 0, 1)] {
            assert_eq!(chain.tile(level, number, width).unwrap(), None);
        }
        assert_eq!(chain.tile(0, u64::MAX, 1).unwrap(), None);
    }

    #[test]
    fn only_the_next_block_with_its_own_root_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let mut maker = Maker::default();
        let first = maker.append(&store, &entries(1, 2));
        let (good, certificate) = maker.block(&entries(2, 2));
        let spoil: [(fn(&mut Block), &str); 6] = [
            (|it| it.header.seal.height = 3, "it is not the next height"),
            (
                |it| it.header.seal.parent = BlockId([1; 32]),
                "its parent is another block",
            ),
            (|it| it.header.seal.first_index = 0, "its size does not fit"),
            (|it| it.header.size = 9, "its size does not fit"),
            (
                |it| it.header.seal.count = 9,
                "its count of leaves does not fit",
            ),
            (
                |it| it.header.root = Sha256([0; 32]),
                "its root does not fit its leaves",
            ),
        ];
        for (spoil, expected) in spoil {
            let mut bad = good.clone();
            spoil(&mut bad);
            let mut certificate = certificate.clone();
            (certificate.block, certificate.height) = (bad.id(), bad.height());
            let height = bad.height();
            assert_eq!(
                store.chain().append_and_wait(&bad, &certificate, vec![]),
                Err(StoreError::NotNext {
                    height,
                    tip: 1,
                    problem: expected
                })
            );
        }
        let refused = store.chain().append_and_wait(&first, &certificate, vec![]);
        assert!(matches!(refused, Err(StoreError::NotNext { .. })));
        assert_eq!(
            store.chain().tip().unwrap().map(|it| it.block),
            Some(first.id())
        );
        assert_eq!(store.chain().leaf(3).unwrap(), None);
        // Nothing of the refused ones was left behind.
        store
            .chain()
            .append_and_wait(&good, &certificate, vec![])
            .unwrap();
    }

    #[test]
    fn blocks_that_wait_together_are_committed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let mut maker = Maker::default();
        let (sender, receiver) = std::sync::mpsc::channel();
        for height in 1..=50_u64 {
            let (block, certificate) = maker.block(&entries(1, 3));
            let sender = sender.clone();
            let done = move |it: Result<(), StoreError>| sender.send((height, it)).unwrap();
            store.chain().append(&block, &certificate, vec![], done);
        }
        drop(sender);
        let expected: Vec<_> = (1..=50).map(|it| (it, Ok(()))).collect();
        assert_eq!(receiver.iter().collect::<Vec<_>>(), expected);
        assert_eq!(store.chain().tip().unwrap().map(|it| it.height), Some(50));
    }

    #[test]
    fn blocks_for_others_stop_at_the_limit_of_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let mut maker = Maker::default();
        let blocks: Vec<_> = (1..=3)
            .map(|it| maker.append(&store, &entries(it, 3)))
            .collect();
        let count = |from, bytes| store.chain().blocks(from, bytes).unwrap().len();
        assert_eq!(
            (count(1, usize::MAX), count(1, 0), count(3, 0), count(4, 9)),
            (3, 1, 1, 0)
        );
        let served = store.chain().blocks(2, usize::MAX).unwrap();
        assert_eq!(Block::from_bytes(&served[0].block).as_ref(), Ok(&blocks[1]));
    }

    #[test]
    fn a_certificate_is_replaced_only_by_one_for_the_same_block() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let (block, mut certificate) = Maker::default().block(&[]);
        let chain = store.chain();
        chain.append_and_wait(&block, &certificate, vec![]).unwrap();
        certificate.round = 7;
        chain.replace_certificate(&certificate).unwrap();
        assert_eq!(chain.certificate(1).unwrap(), Some(certificate.clone()));
        certificate.block = BlockId([3; 32]);
        assert!(matches!(
            chain.replace_certificate(&certificate),
            Err(StoreError::NotNext { .. })
        ));
    }

    #[test]
    fn a_crash_at_the_commit_leaves_the_whole_block_or_nothing() {
        for (sense, height) in [(Sense::Before, 1), (Sense::After, 2)] {
            let dir = tempfile::tempdir().unwrap();
            let faults = Failing::new();
            let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
            let mut maker = Maker::default();
            maker.append(&store, &entries(1, 3));
            let (block, certificate) = maker.block(&entries(2, 300));
            faults.arm(Step::Commit("log"), sense);
            let failed = store
                .chain()
                .append_and_wait(&block, &certificate, state(&block));
            assert!(
                matches!(failed, Err(StoreError::Failed { part: "log", .. })),
                "{failed:?}"
            );
            // A failed sync is not repeated: everything later gets the first error.
            let (next, its) = maker.clone().block(&[]);
            assert_eq!(store.chain().append_and_wait(&next, &its, vec![]), failed);
            drop(store);

            let (store, _) = open(dir.path());
            let tip = store.chain().tip().unwrap().unwrap();
            assert_eq!(tip.height, height, "{sense:?}");
            let expected = format!("state {height}").into_bytes();
            assert_eq!(store.chain().state().unwrap(), Some(expected));
            assert_eq!(store.chain().root_at(tip.size).unwrap(), Some(tip.root));
            assert_eq!(store.chain().leaf(tip.size).unwrap(), None);
            if sense == Sense::Before {
                store
                    .chain()
                    .append_and_wait(&block, &certificate, vec![])
                    .unwrap();
            }
        }
    }

    #[test]
    fn a_full_disk_refuses_the_block_and_goes_on_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Failing::new();
        let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
        let (block, certificate) = Maker::default().block(&entries(1, 3));
        faults.arm_full(Step::Commit("log"), Sense::Before);
        let full = store.chain().append_and_wait(&block, &certificate, vec![]);
        let expected = StoreError::DiskFull {
            dir: store.dir().to_owned(),
        };
        assert_eq!(full, Err(expected));
        store
            .chain()
            .append_and_wait(&block, &certificate, vec![])
            .unwrap();
    }

    #[test]
    fn the_signed_head_is_durable_in_both_senses_of_failure_and_never_falls() {
        for step in [
            Step::Write("signed"),
            Step::Sync("signed"),
            Step::Rename("signed"),
            Step::SyncFolder("signed"),
        ] {
            for sense in [Sense::Before, Sense::After] {
                let dir = tempfile::tempdir().unwrap();
                let faults = Failing::new();
                let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
                let mut maker = Maker::default();
                let first = maker.append(&store, &[]).header;
                let second = maker.append(&store, &[]).header;
                let sign = |it: &Header| store.chain().persist_signed_head(it.size, it.root);
                sign(&first).unwrap();
                faults.arm(step, sense);
                assert!(sign(&second).is_err());
                // What is on the disk is unknown, so nothing is signed until the next start.
                assert!(matches!(sign(&second), Err(StoreError::Failed { .. })));
                assert!(!faults.is_armed());
                drop(store);
                let (store, _) = open(dir.path());
                let head = store.chain().signed_head().unwrap();
                assert!(
                    [first.size, second.size].contains(&head.size),
                    "{step:?} {sense:?}"
                );
                store
                    .chain()
                    .persist_signed_head(second.size, second.root)
                    .unwrap();
                assert_eq!(
                    store.chain().persist_signed_head(first.size, first.root),
                    Err(StoreError::SignedHead {
                        size: first.size,
                        signed: second.size
                    })
                );
                let unknown = store
                    .chain()
                    .persist_signed_head(second.size + 1, second.root);
                assert!(matches!(unknown, Err(StoreError::SignedHead { .. })));
            }
        }
    }

    #[test]
    fn a_log_without_the_signed_head_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let mut maker = Maker::default();
        maker.append(&store, &entries(1, 3));
        drop(store);
        let copy = std::fs::read(dir.path().join("log/data.mdb")).unwrap();
        let (store, _) = open(dir.path());
        let header = maker.append(&store, &entries(2, 3)).header;
        store
            .chain()
            .persist_signed_head(header.size, header.root)
            .unwrap();
        drop(store);

        // The database falls back to an earlier state, as after restoring a part of a backup.
        std::fs::write(dir.path().join("log/data.mdb"), copy).unwrap();
        let refused = Store::open(dir.path(), options()).map(|_| ());
        assert!(
            matches!(refused, Err(StoreError::Corrupt { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn the_newest_checkpoint_is_kept_and_old_ones_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let chain = store.chain();
        assert_eq!(chain.latest_checkpoint().unwrap(), None);
        chain.put_checkpoint(7, "seven").unwrap();
        chain.put_checkpoint(3, "three").unwrap();
        chain.put_checkpoint(7, "seven, later").unwrap();
        assert_eq!(
            chain.latest_checkpoint().unwrap(),
            Some((7, "seven, later".into()))
        );
        let long = "x".repeat(CHECKPOINT_BYTES_MAX + 1);
        assert!(matches!(
            chain.put_checkpoint(9, &long),
            Err(StoreError::TooLarge { .. })
        ));
    }
}
