//! Blocks that are applied but not durable yet, on top of what the store knows.
//!
//! The rules must see a block as soon as the next one is checked against it, while the store may
//! still be writing it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::{BlockId, Subject};
use crate::proto::chain::{Binding, CheckedBlock, Ledger, MemberSet};
use crate::proto::log::checkpoint::Checkpoint;
use crate::proto::log::entry::{Entry, package_subject};

/// Most blocks that may wait for the disk; beyond it no block is applied until some are durable.
pub(super) const WAITING_MAX: usize = 64;

/// A block on its way to the disk.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Its number.
    pub(super) height: u64,
    /// Its identity.
    pub(super) id: BlockId,
    /// The head of the log after it.
    pub(super) head: Checkpoint,
    /// The set after it, which signs the head.
    pub(super) members: MemberSet,
    /// Index of its first leaf.
    pub(super) first_index: u64,
    /// Its entries, the seal last.
    pub(super) entries: Arc<[Entry]>,
}

impl Waiting {
    /// What is to be remembered of `block`, whose leaves are `entries`.
    pub(super) fn new(origin: &str, block: &CheckedBlock, entries: Arc<[Entry]>) -> Self {
        let header = &block.block().header;
        let head = Checkpoint {
            origin: origin.to_owned(),
            size: header.size,
            root: header.root,
        };
        Self {
            height: header.seal.height,
            id: *block.id(),
            head,
            members: block.next().members().clone(),
            first_index: header.seal.first_index,
            entries,
        }
    }
}

/// The blocks that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Waiting>);

impl Recent {
    /// Adds the newest block.
    pub(super) fn push(&mut self, block: Waiting) {
        self.0.push_back(block);
    }

    /// Takes the oldest block if its number is at most `height`.
    pub(super) fn pop_durable(&mut self, height: u64) -> Option<Waiting> {
        self.0.pop_front_if(|it| it.height <= height)
    }

    /// Number of blocks.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether everything applied is durable.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The store's answers with the recent blocks on top.
pub(super) struct Overlay<'a, V> {
    /// The store.
    pub(super) vault: &'a V,
    /// The blocks it may not have yet.
    pub(super) recent: &'a Recent,
}

impl<V: Ledger> Ledger for Overlay<'_, V> {
    fn package(&self, purl: &str) -> Option<Subject> {
        for block in &self.recent.0 {
            let files: Vec<_> = block
                .entries
                .iter()
                .filter_map(|it| match it {
                    Entry::AddArtifact(file) if file.purl == purl => Some(file.as_ref()),
                    _ => None,
                })
                .collect();
            if !files.is_empty() {
                return Some(package_subject(files));
            }
        }
        self.vault.package(purl)
    }

    fn tag(&self, registry: &str, repository: &str, tag: &str) -> Option<Binding> {
        let newest = self
            .recent
            .0
            .iter()
            .rev()
            .flat_map(|it| it.entries.iter().rev());
        let mut bound = newest.filter_map(|it| match it {
            Entry::BindTag(it)
                if (&*it.registry, &*it.repository, &*it.tag) == (registry, repository, tag) =>
            {
                Some(Binding::from(it))
            }
            _ => None,
        });
        bound
            .next()
            .or_else(|| self.vault.tag(registry, repository, tag))
    }

    fn artifact_exists(&self, index: u64) -> bool {
        let mut entries = self.recent.0.iter().flat_map(|it| it.entries.iter());
        if entries.any(|it| matches!(it, Entry::RemoveArtifact(it) if it.index == index)) {
            return false;
        }
        for block in &self.recent.0 {
            let at = index
                .checked_sub(block.first_index)
                .and_then(|it| usize::try_from(it).ok());
            if let Some(entry) = at.and_then(|it| block.entries.get(it)) {
                return matches!(entry, Entry::AddArtifact(_));
            }
        }
        self.vault.artifact_exists(index)
    }

    fn block(&self, height: u64) -> Option<BlockId> {
        let recent = self
            .recent
            .0
            .iter()
            .find(|it| it.height == height)
            .map(|it| it.id);
        recent.or_else(|| self.vault.block(height))
    }
}
