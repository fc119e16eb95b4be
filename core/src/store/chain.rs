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
    /// [`StoreError::Corrupt`] if the log does not contain that head, or contradicts itself.
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
        if let Some(tip) = chain.tip()?
            && chain.root_at(tip.size)? != Some(tip.root)
        {
            let reason = "its hashes do not lead to the root of the last block";
            return Err(StoreError::corrupt("the log", reason));
        }
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
        let leaf = self.0.tables.leaf(&txn, index)?;
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
