//! Bytes in and out, per peer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::PeerId;

use crate::base::NodeId;
use crate::net::id;

/// Bytes of a peer's connections, headers of streams included, those of encryption not.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Traffic {
    pub(crate) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Received and sent. Unit: bytes.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (
            self.received.load(Ordering::Relaxed),
            self.sent.load(Ordering::Relaxed),
        )
    }
}

/// The traffic of every connected peer.
#[derive(Clone, Default)]
pub(crate) struct Meter(Arc<Mutex<BTreeMap<NodeId, Arc<Traffic>>>>);

impl Meter {
    /// The counters of `peer`. Those of peers without a connection are forgotten.
    pub(crate) fn of(&self, peer: &PeerId) -> Arc<Traffic> {
        let Some(node) = id::node_id(peer) else {
            return Arc::default();
        };
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|_, it| Arc::strong_count(it) > 1);
        peers.entry(node).or_default().clone()
    }

    /// Bytes received from and sent to `node` over its present connections.
    pub(crate) fn totals(&self, node: &NodeId) -> (u64, u64) {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.get(node).map(|it| it.totals()).unwrap_or_default()
    }
}
