//! The engine's view of the store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::{BlockId, Subject};
use crate::node::flow::Vault;
use crate::proto::chain::{Binding, Ledger};
use crate::proto::hello::{Chain, Tip};
use crate::proto::log::entry::Entry;
use crate::proto::sync::SyncBlock;
use crate::store::{Index, Store, StoreError};

/// How long a look-up waits for the index.
const INDEX_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads the store; remembers a read that failed, because absence must not be mistaken for it.
pub(crate) struct NodeVault {
    store: Arc<Store>,
    failure: Mutex<Option<String>>,
}

impl NodeVault {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            failure: Mutex::default(),
        }
    }

    /// Asks the index; waits if it is behind the log, as it is while a node catches up fast. That
    /// holds the loop back until the index follows, which is what keeps its backlog small.
    fn look_up<T: Default>(&self, ask: impl Fn(&Index) -> Result<T, StoreError>) -> T {
        let index = self.store.index();
        let first = ask(index);
        self.read(match first {
            Err(StoreError::Behind { .. }) if index.wait(INDEX_TIMEOUT) => ask(index),
            answer => answer,
        })
    }

    fn read<T: Default>(&self, result: Result<T, StoreError>) -> T {
        result.unwrap_or_else(|error| {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(error.to_string());
            T::default()
        })
    }
}

impl Ledger for NodeVault {
    fn package(&self, purl: &str) -> Option<Subject> {
        self.look_up(|it| it.package_subject(purl))
    }

    fn tag(&self, registry: &str, repository: &str, tag: &str) -> Option<Binding> {
        self.look_up(|it| it.tag(registry, repository, tag))
            .map(|(_, it)| Binding::from(&it))
    }

    fn artifact_exists(&self, index: u64) -> bool {
        let leaf = self.read(self.store.chain().leaf(index));
        let is_artifact = leaf
            .and_then(|it| Entry::from_bytes(&it).ok())
            .is_some_and(|it| matches!(it, Entry::AddArtifact(_)));
        is_artifact && self.look_up(|it| it.removed(index)).is_none()
    }

    fn block(&self, height: u64) -> Option<BlockId> {
        self.read(self.store.chain().header(height))
            .map(|it| it.id())
    }
}

impl Chain for NodeVault {
    fn tip(&self) -> Tip {
        let tip = self.read(self.store.chain().tip());
        tip.map_or(
            Tip {
                height: 0,
                id: BlockId([0; 32]),
            },
            |it| Tip {
                height: it.height,
                id: it.block,
            },
        )
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

impl Vault for NodeVault {
    fn encoded(&self, height: u64) -> Option<SyncBlock> {
        let blocks = self.read(self.store.chain().blocks(height, 0));
        let block = blocks.into_iter().next()?;
        Some(SyncBlock {
            block: block.block.into(),
            certificate: block.certificate.into(),
        })
    }

    fn package_index(&self, purl: &str) -> Option<u64> {
        self.look_up(|it| it.package(purl))
            .first()
            .map(|it| it.index)
    }

    fn tag_index(&self, registry: &str, repository: &str, tag: &str) -> Option<u64> {
        self.look_up(|it| it.tag(registry, repository, tag))
            .map(|(index, _)| index)
    }

    fn take_failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
