//! Making room: what was used least goes first.

use std::sync::PoisonError;

use crate::base::Blake3;
use crate::store::blobs::{Blobs, Inner, LIST_ROWS_MAX};
use crate::store::error::StoreError;
use crate::store::quota::Fate;

/// Artifacts that are asked about, and then pinned or evicted, in one go.
const ROWS_MAX: usize = 256;

impl Blobs {
    /// Evicts what is used least until at most `bytes_max` bytes are stored, or all that is left is
    /// pinned or in use. Returns the bytes that became free. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the disk refuses.
    pub fn shrink(&self, bytes_max: u64) -> Result<u64, StoreError> {
        let inner = &self.0;
        let _one_at_a_time = inner
            .eviction
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = inner.ledger().stat().bytes;
        if bytes_max < before {
            inner.evict(before - bytes_max)?;
        }
        Ok(before.saturating_sub(inner.ledger().stat().bytes))
    }

    /// Exempts artifacts from eviction, some hundred in a transaction; those that are not stored
    /// are passed over. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if a record cannot be written; some may be pinned then.
    pub fn pin_all(&self, digests: &[Blake3]) -> Result<(), StoreError> {
        let pin = |some: &[Blake3]| self.0.set_pinned(some.to_vec(), true).map(drop);
        digests.chunks(ROWS_MAX).try_for_each(pin)
    }
}

impl Inner {
    /// Reserves `bytes`, evicting what is used least if the quota asks for it. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Quota`] if too much is pinned or in use.
    pub(crate) fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        // Who fits does not wait for those who make room.
        if self.ledger().reserve(bytes).is_ok() {
            return Ok(());
        }
        let _one_at_a_time = self.eviction.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let excess = self.ledger().excess(bytes)?;
            let mut freed = 0;
            while freed < excess {
                let idle = self.ledger().claim_idle();
                let Some((digest, bytes)) = idle else { break };
                self.discard_idle(&digest, bytes)?;
                freed += bytes;
            }
            if freed < excess {
                freed += self.evict(excess - freed)?;
            }
            match self.ledger().reserve(bytes) {
                // Others who fitted meanwhile have taken what became free.
                Err(_) if 0 < freed => (),
                reserved => return reserved,
            }
        }
    }

    /// Evicts what is used least until `excess` bytes are free or nothing is left that may go.
    /// Returns the bytes that became free.
    fn evict(&self, excess: u64) -> Result<u64, StoreError> {
        let mut order = self.eviction_order()?.into_iter();
        let mut freed = 0;
        while freed < excess && 0 < order.len() {
            let some = order.by_ref().take(ROWS_MAX);
            freed += self.evict_some(some, excess - freed)?;
        }
        Ok(freed)
    }

    /// Evicts of `candidates` until `excess` bytes are free. Their number bounds how long they are
    /// claimed, and the transactions.
    fn evict_some(
        &self,
        candidates: impl Iterator<Item = (u64, Blake3, u64)>,
        excess: u64,
    ) -> Result<u64, StoreError> {
        let (mut batch, mut pins, mut expected) = (Vec::new(), Vec::new(), 0);
        for (_, digest, weight) in candidates {
            let Some(claimed) = self.claim_to_evict(digest) else {
                continue;
            };
            // Asked after the claim: whoever wants it to stay from now on cannot open it.
            match self.judge.get().map_or(Fate::Evict, |it| it(&digest)) {
                Fate::Evict => {
                    batch.push(claimed);
                    expected += weight;
                }
                Fate::Stay => {}
                Fate::Pin => pins.push(digest),
            }
            if excess <= expected {
                break;
            }
        }
        // The next search for room does not ask about them again.
        if !pins.is_empty() {
            self.set_pinned(pins, true)?;
        }
        self.remove_claimed(&batch, false)
    }

    /// Unpinned artifacts as (last use, digest, weight), least recently used first. Reads in
    /// steps, so that no read transaction lives long.
    fn eviction_order(&self) -> Result<Vec<(u64, Blake3, u64)>, StoreError> {
        let (mut order, mut after) = (Vec::new(), None);
        loop {
            let rows = self.records(after.as_ref(), LIST_ROWS_MAX)?;
            let Some(last) = rows.last() else { break };
            after = Some(last.0);
            let ledger = self.ledger();
            let unpinned = rows.iter().filter(|(_, it)| !it.is_pinned);
            order.extend(
                unpinned
                    .map(|(digest, it)| (ledger.last_use(digest, it.used), *digest, it.weight())),
            );
        }
        order.sort_unstable();
        Ok(order)
    }
}
