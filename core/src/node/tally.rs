//! What the shells count as it happens; machines count for themselves.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows. It counts since the start of the node.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a node.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Peers that passed the handshake.
    pub(crate) admitted: Counter,
    /// Peers that refused us or that we refused, at the handshake or later.
    pub(crate) refused: Counter,
    /// Bans.
    pub(crate) banned: Counter,
    /// Messages to peers that had no room for them.
    pub(crate) messages_dropped: Counter,
    /// Verified payload from peers. Unit: bytes.
    pub(crate) received: Counter,
    /// Payload to peers. Unit: bytes.
    pub(crate) sent: Counter,
    /// Payload from upstreams. Unit: bytes.
    pub(crate) upstream: Counter,
    /// What the host read of artifacts that are stored. Unit: bytes.
    pub(crate) read: Counter,
    /// Groups of 64 KiB that were verified and written.
    pub(crate) groups: Counter,
    /// Replies that were not what was asked for.
    pub(crate) bad_proofs: Counter,
    /// Frames that nobody asked for.
    pub(crate) spurious: Counter,
    /// Downloads that ended with the whole artifact stored.
    pub(crate) fetched: Counter,
    /// Downloads that ended otherwise.
    pub(crate) fetches_failed: Counter,
}
