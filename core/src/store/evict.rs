//! Making room: what was used least goes first.

use std::sync::PoisonError;

use crate::base::Blake3;
use crate::store::blobs::{Blobs, Inner, LIST_ROWS_MAX};
use crate::store::error::StoreError;
use crate::store::quota::Fate;

/// Artifacts that are evicted in one transaction.
const EVICT_ROWS_MAX: usize = 256;

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
}

impl Inner {
    /// Reserves `bytes`, evicting what is used least if the quota asks for it. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Quota`] if too much is pinned or in use.
    pub(crate) fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        let _one_at_a_time = self.eviction.lock().unwrap_or_else(PoisonError::into_inner);
        let mut excess = self.ledger().excess(bytes)?;
        while 0 < excess {
            let idle = self.ledger().claim_idle();
            let Some((digest, freed)) = idle else { break };
            self.discard_idle(&digest, freed)?;
            excess = excess.saturating_sub(freed);
        }
        if 0 < excess {
            self.evict(excess)?;
        }
        self.ledger().reserve(bytes)
    }

    fn evict(&self, excess: u64) -> Result<(), StoreError> {
        let (mut freed, mut pins) = (0, Vec::new());
        let mut order = self.eviction_order()?.into_iter().peekable();
        while freed < excess && order.peek().is_some() {
            let (mut batch, mut expected) = (Vec::new(), 0);
            while batch.len() < EVICT_ROWS_MAX && freed + expected < excess {
                let Some((_, digest, weight)) = order.next() else {
                    break;
                };
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
            }
            // The next search for room does not ask about them again.
            if !pins.is_empty() {
                self.set_pinned(std::mem::take(&mut pins), true)?;
            }
            freed += self.remove_claimed(&batch, false)?;
        }
        Ok(())
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
