//! A node's disk: what the process sees, and the part of it that survives a crash.
//!
//! Blocks become durable one after the other, the consensus journal when it is synced; between
//! writing and durability a crash keeps some prefix of what was written.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::kogge::base::{BlockId, Rng, Sha256, Subject, codec};
use crate::kogge::node::flow::Vault;
use crate::kogge::proto::build::Pending;
use crate::kogge::proto::chain::testing::MemoryLedger;
use crate::kogge::proto::chain::{Binding, Certificate, CheckedBlock, Ledger};
use crate::kogge::proto::hello::{Chain, Tip};
use crate::kogge::proto::log::entry::Entry;
use crate::kogge::proto::pool::Kept;
use crate::kogge::proto::sync::SyncBlock;

/// A block in its stored form.
pub(crate) struct Stored {
    pub(crate) checked: CheckedBlock,
    pub(crate) encoded: SyncBlock,
    pub(crate) state: Vec<u8>,
}

impl Stored {
    pub(crate) fn new(checked: CheckedBlock, certificate: &Certificate) -> Self {
        let encoded = SyncBlock {
            block: checked.block().to_bytes().into(),
            certificate: codec::encode(certificate).into(),
        };
        let state = checked.next().to_bytes();
        Self {
            checked,
            encoded,
            state,
        }
    }

    pub(crate) fn height(&self) -> u64 {
        self.checked.block().height()
    }
}

/// The consensus journal.
#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) height: u64,
    pub(crate) records: Vec<Vec<u8>>,
    /// How many of the records are durable.
    pub(crate) synced: usize,
}

/// Everything on one disk.
#[derive(Default)]
pub(crate) struct Disk {
    /// All blocks, those first that are durable.
    pub(crate) blocks: Vec<Rc<Stored>>,
    /// How many of the blocks are durable.
    pub(crate) durable: usize,
    /// How many of the blocks the process can read; more than are durable only if a bug is planted.
    visible: usize,
    ledger: MemoryLedger,
    packages: BTreeMap<String, u64>,
    tags: BTreeMap<(String, String, String), u64>,
    pub(crate) journal: Journal,
    /// A reset of the journal that is not durable yet.
    pub(crate) reset: Option<u64>,
    /// The highest signed head.
    pub(crate) signed: Option<(u64, Sha256)>,
    /// The newest checkpoint.
    pub(crate) checkpoint: Option<(u64, String)>,
    /// Unfinished builds in their stored form.
    pub(crate) builds: Vec<Vec<u8>>,
    /// Changes that wait for consent.
    pub(crate) changes: Vec<Kept>,
    /// The address book.
    pub(crate) book: Vec<u8>,
}

impl Disk {
    /// Lets the process read all blocks up to the `count`th.
    pub(crate) fn show(&mut self, count: usize) {
        while self.visible < count {
            let Some(stored) = self.blocks.get(self.visible).cloned() else {
                return;
            };
            self.ledger.apply(&stored.checked);
            for leaf in stored.checked.leaves() {
                match leaf.entry {
                    Entry::AddArtifact(it) => {
                        self.packages.entry(it.purl.clone()).or_insert(leaf.index);
                    }
                    Entry::BindTag(it) => {
                        let name = (it.registry.clone(), it.repository.clone(), it.tag.clone());
                        self.tags.insert(name, leaf.index);
                    }
                    _ => (),
                }
            }
            self.visible += 1;
        }
    }

    /// The process dies: a random prefix of what was written and not synced is kept.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let mut kept = |len: usize| usize::try_from(rng.below(len as u64 + 1)).unwrap_or(0);
        let kept_blocks = self.durable + kept(self.blocks.len() - self.durable);
        self.blocks.truncate(kept_blocks);
        self.durable = kept_blocks;
        if kept_blocks < self.visible {
            self.visible = 0;
            self.ledger = MemoryLedger::default();
            self.packages.clear();
            self.tags.clear();
        }
        self.show(kept_blocks);
        let journal = &mut self.journal;
        let kept_records = journal.synced + kept(journal.records.len() - journal.synced);
        journal.records.truncate(kept_records);
        journal.synced = kept_records;
        if let Some(height) = self.reset.take()
            && kept(1) == 1
        {
            self.journal = Journal {
                height,
                ..Journal::default()
            };
        }
    }

    pub(crate) fn pending(&self) -> Vec<Pending> {
        let builds = self.builds.iter();
        builds
            .filter_map(|it| Pending::from_bytes(it).ok())
            .collect()
    }

    /// The root of the log with `size` leaves, if a durable block ends there.
    pub(crate) fn root_at(&self, size: u64) -> Option<Sha256> {
        let durable = self.blocks.get(..self.durable)?;
        let header = |it: &Rc<Stored>| it.checked.block().header.clone();
        let header = durable.iter().rev().map(header).find(|it| it.size == size);
        header.map(|it| it.root)
    }

    /// The durable block with this number.
    pub(crate) fn durable_at(&self, height: u64) -> Option<&Rc<Stored>> {
        let at = usize::try_from(height.checked_sub(1)?).ok()?;
        self.blocks.get(..self.durable)?.get(at)
    }

    /// The last durable block.
    pub(crate) fn last(&self) -> Option<&Rc<Stored>> {
        self.durable_at(self.durable as u64)
    }

    /// Whether the log that is durable here has this package.
    pub(crate) fn has_package(&self, purl: &str) -> bool {
        self.packages.contains_key(purl)
    }
}

/// The process's view of its disk.
#[derive(Clone, Default)]
pub(crate) struct SimVault(Rc<RefCell<Disk>>);

impl SimVault {
    pub(crate) fn disk(&self) -> Ref<'_, Disk> {
        self.0.borrow()
    }

    pub(crate) fn disk_mut(&self) -> RefMut<'_, Disk> {
        self.0.borrow_mut()
    }
}

impl Ledger for SimVault {
    fn package(&self, purl: &str) -> Option<Subject> {
        self.disk().ledger.package(purl)
    }

    fn tag(&self, registry: &str, repository: &str, tag: &str) -> Option<Binding> {
        self.disk().ledger.tag(registry, repository, tag)
    }

    fn artifact_exists(&self, index: u64) -> bool {
        self.disk().ledger.artifact_exists(index)
    }

    fn block(&self, height: u64) -> Option<BlockId> {
        self.disk().ledger.block(height)
    }
}

impl Chain for SimVault {
    fn tip(&self) -> Tip {
        let disk = self.disk();
        let last = disk
            .visible
            .checked_sub(1)
            .and_then(|it| disk.blocks.get(it));
        Tip {
            height: disk.visible as u64,
            id: last.map_or(BlockId([0; 32]), |it| *it.checked.id()),
        }
    }

    fn id_at(&self, height: u64) -> Option<BlockId> {
        match height {
            0 => Some(BlockId([0; 32])),
            height => Ledger::block(self, height),
        }
    }

    fn base(&self) -> u64 {
        1
    }
}

impl Vault for SimVault {
    fn encoded(&self, height: u64) -> Option<SyncBlock> {
        let disk = self.disk();
        let at = usize::try_from(height.checked_sub(1)?).ok()?;
        let stored = disk.blocks.get(..disk.visible)?.get(at)?;
        Some(stored.encoded.clone())
    }

    fn package_index(&self, purl: &str) -> Option<u64> {
        self.disk().packages.get(purl).copied()
    }

    fn tag_index(&self, registry: &str, repository: &str, tag: &str) -> Option<u64> {
        let name = (registry.to_owned(), repository.to_owned(), tag.to_owned());
        self.disk().tags.get(&name).copied()
    }

    fn take_failure(&self) -> Option<String> {
        None
    }
}
