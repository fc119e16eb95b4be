//! The budget of bytes for artifacts: who uses what, what may go, and in which order.
//!
//! When an artifact would pass 100 % of the quota, artifacts are evicted down to 90 %, so that
//! eviction is rare: first downloads that nobody continues, then stored artifacts, the least
//! recently used first. Pinned artifacts and those being read stay.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::Blake3;
use crate::store::error::StoreError;
use crate::store::record::BlobRecord;

/// Eviction goes on until this share of the quota is in use. Unit: percent.
const LOW_WATER_PERCENT: u64 = 90;

/// Uses that are remembered before they are written to the database together.
pub(crate) const TOUCHES_MAX: usize = 1_024;

/// What the store holds. Units: bytes where not counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stat {
    /// Bytes of whole artifacts and their outboards.
    pub bytes: u64,
    /// Whole artifacts.
    pub count: u64,
    /// Bytes of pinned artifacts; part of `bytes`.
    pub pinned_bytes: u64,
    /// Bytes reserved for artifacts that are being received, or were and can be resumed.
    pub staging_bytes: u64,
    /// The most that `bytes` and `staging_bytes` may add up to.
    pub quota_bytes: u64,
}

/// What becomes of an artifact that would be evicted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is evicted.
    Evict,
    /// It stays for now.
    Stay,
    /// It is pinned.
    Pin,
}

/// What one task does with an artifact, so that no other may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Claim {
    /// Its groups come in; this lasts as long as a download.
    Receive,
    /// Its record and files go; this is short.
    Remove,
}

/// The accounts, in memory; rebuilt at each start.
pub(crate) struct Ledger {
    stat: Stat,
    active: BTreeMap<Blake3, Claim>,
    /// Artifacts whose bytes are complete and are becoming visible; this is short.
    publishing: BTreeSet<Blake3>,
    /// Readers of each artifact.
    leases: BTreeMap<Blake3, u32>,
    /// Resumable downloads that nobody continues, with their reserved bytes.
    idle: BTreeMap<Blake3, u64>,
    touches: BTreeMap<Blake3, u64>,
    uses: u64,
}

impl Ledger {
    pub(crate) fn new(quota_bytes: u64) -> Self {
        Self {
            stat: Stat {
                quota_bytes,
                ..Stat::default()
            },
            active: BTreeMap::new(),
            publishing: BTreeSet::new(),
            leases: BTreeMap::new(),
            idle: BTreeMap::new(),
            touches: BTreeMap::new(),
            uses: 0,
        }
    }

    pub(crate) fn stat(&self) -> Stat {
        self.stat
    }

    /// Counts a stored artifact.
    pub(crate) fn add(&mut self, record: &BlobRecord) {
        self.uses = self.uses.max(record.used);
        self.stat.count += 1;
        self.stat.bytes += record.weight();
        if record.is_pinned {
            self.stat.pinned_bytes += record.weight();
        }
    }

    /// Takes a stored artifact out of the accounts.
    pub(crate) fn subtract(&mut self, record: &BlobRecord) {
        self.stat.count = self.stat.count.saturating_sub(1);
        self.stat.bytes = self.stat.bytes.saturating_sub(record.weight());
        if record.is_pinned {
            self.stat.pinned_bytes = self.stat.pinned_bytes.saturating_sub(record.weight());
        }
    }

    /// Counts a resumable download found at the start, even if the quota has become smaller.
    pub(crate) fn add_idle(&mut self, digest: Blake3, bytes: u64) {
        self.stat.staging_bytes = self.stat.staging_bytes.saturating_add(bytes);
        self.idle.insert(digest, bytes);
    }

    /// Bytes that must go before `bytes` fit; 0 if they do.
    ///
    /// # Errors
    ///
    /// [`StoreError::Quota`] if they can never fit.
    pub(crate) fn excess(&self, bytes: u64) -> Result<u64, StoreError> {
        let quota = self.stat.quota_bytes;
        if quota < bytes {
            return Err(StoreError::Quota { bytes, quota });
        }
        let wanted = self.used().saturating_add(bytes);
        if wanted <= quota {
            return Ok(0);
        }
        let low = u64::try_from(u128::from(quota) * u128::from(LOW_WATER_PERCENT) / 100);
        Ok(wanted - low.unwrap_or(quota).max(bytes))
    }

    fn used(&self) -> u64 {
        self.stat.bytes.saturating_add(self.stat.staging_bytes)
    }

    /// Reserves `bytes` for an artifact to come.
    ///
    /// # Errors
    ///
    /// [`StoreError::Quota`] if they do not fit.
    pub(crate) fn reserve(&mut self, bytes: u64) -> Result<(), StoreError> {
        let quota = self.stat.quota_bytes;
        if quota < self.used().saturating_add(bytes) {
            return Err(StoreError::Quota { bytes, quota });
        }
        self.stat.staging_bytes += bytes;
        Ok(())
    }

    pub(crate) fn release(&mut self, bytes: u64) {
        self.stat.staging_bytes = self.stat.staging_bytes.saturating_sub(bytes);
    }

    /// Claims `digest`; false if another task has claimed or is publishing it.
    pub(crate) fn claim(&mut self, digest: Blake3, claim: Claim) -> bool {
        let is_free = !self.active.contains_key(&digest) && !self.publishing.contains(&digest);
        if is_free {
            self.active.insert(digest, claim);
        }
        is_free
    }

    /// Claims `digest` for eviction; false if another task has claimed it or is reading it.
    pub(crate) fn claim_unread(&mut self, digest: Blake3) -> bool {
        !self.leases.contains_key(&digest) && self.claim(digest, Claim::Remove)
    }

    pub(crate) fn unclaim(&mut self, digest: &Blake3) {
        self.active.remove(digest);
    }

    /// Whether what stands in the way of a claim or of publishing will be over soon.
    pub(crate) fn is_soon_free(&self, digest: &Blake3) -> bool {
        self.publishing.contains(digest) || self.active.get(digest) == Some(&Claim::Remove)
    }

    /// Begins to make `digest` visible. Others may be receiving the same bytes: they will find
    /// them stored. False if it is being removed or published by another task.
    pub(crate) fn begin_publish(&mut self, digest: Blake3) -> bool {
        !self.is_soon_free(&digest) && self.publishing.insert(digest)
    }

    pub(crate) fn end_publish(&mut self, digest: &Blake3) {
        self.publishing.remove(digest);
    }

    /// Notes a reader; false if the artifact is being removed.
    pub(crate) fn lease(&mut self, digest: Blake3) -> bool {
        if self.active.get(&digest) == Some(&Claim::Remove) {
            return false;
        }
        *self.leases.entry(digest).or_insert(0) += 1;
        true
    }

    pub(crate) fn unlease(&mut self, digest: &Blake3) {
        if let Some(count) = self.leases.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                self.leases.remove(digest);
            }
        }
    }

    /// Leaves a resumable download, with its reservation.
    pub(crate) fn set_idle(&mut self, digest: Blake3, bytes: u64) {
        self.idle.insert(digest, bytes);
    }

    /// Takes up a resumable download, with its reservation.
    pub(crate) fn take_idle(&mut self, digest: &Blake3) -> Option<u64> {
        self.idle.remove(digest)
    }

    /// Whether `digest` is a resumable download that nobody continues.
    pub(crate) fn is_idle(&self, digest: &Blake3) -> bool {
        self.idle.contains_key(digest)
    }

    /// Claims a resumable download that nobody continues or publishes, with its reserved bytes.
    pub(crate) fn claim_idle(&mut self) -> Option<(Blake3, u64)> {
        let is_free = |it: &&Blake3| !self.active.contains_key(it) && !self.publishing.contains(it);
        let digest = *self.idle.keys().find(is_free)?;
        self.active.insert(digest, Claim::Remove);
        Some((digest, self.idle.remove(&digest)?))
    }

    /// The number of the next use.
    pub(crate) fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    /// Notes a use; true if it is time to write the uses down.
    pub(crate) fn touch(&mut self, digest: Blake3) -> bool {
        let used = self.next_use();
        self.touches.insert(digest, used);
        TOUCHES_MAX <= self.touches.len()
    }

    /// The uses since the last call.
    pub(crate) fn take_touches(&mut self) -> BTreeMap<Blake3, u64> {
        std::mem::take(&mut self.touches)
    }

    /// The last use of an artifact whose record says `recorded`.
    pub(crate) fn last_use(&self, digest: &Blake3, recorded: u64) -> u64 {
        self.touches.get(digest).copied().unwrap_or(0).max(recorded)
    }

    /// Moves an artifact to or from the pinned ones.
    pub(crate) fn repin(&mut self, before: &BlobRecord, after: &BlobRecord) {
        self.subtract(before);
        self.add(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Sha256;

    fn record(size: u64) -> BlobRecord {
        BlobRecord {
            size,
            sha256: Sha256([0; 32]),
            is_inline: false,
            outboard: 0,
            used: 0,
            is_pinned: false,
        }
    }

    #[test]
    fn above_the_quota_everything_down_to_the_low_mark_goes() {
        let mut ledger = Ledger::new(1_000);
        ledger.add(&record(900));
        for (bytes, expected) in [
            (100, Ok(0)),
            (101, Ok(101)),
            (950, Ok(900)),
            (
                1_001,
                Err(StoreError::Quota {
                    bytes: 1_001,
                    quota: 1_000,
                }),
            ),
        ] {
            assert_eq!(ledger.excess(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn what_is_read_cannot_be_evicted_and_the_other_way_round() {
        let (mut ledger, digest) = (Ledger::new(1), Blake3([1; 32]));
        assert!(ledger.lease(digest));
        assert!(!ledger.claim_unread(digest));
        ledger.unlease(&digest);
        assert!(ledger.claim_unread(digest));
        assert!(!ledger.lease(digest));
        ledger.unclaim(&digest);
        assert!(ledger.lease(digest));
    }

    #[test]
    fn one_task_receives_or_removes_and_one_publishes_unless_it_is_removed() {
        let (mut ledger, digest) = (Ledger::new(1), Blake3([1; 32]));
        assert!(ledger.claim(digest, Claim::Receive));
        assert!(!ledger.claim(digest, Claim::Remove));
        assert!(!ledger.is_soon_free(&digest) && ledger.begin_publish(digest));
        assert!(ledger.is_soon_free(&digest) && !ledger.begin_publish(digest));
        ledger.unclaim(&digest);
        assert!(
            !ledger.claim(digest, Claim::Remove),
            "it is being published"
        );
        ledger.end_publish(&digest);
        assert!(ledger.claim(digest, Claim::Remove));
        assert!(!ledger.begin_publish(digest));
    }

    #[test]
    fn an_idle_download_is_given_up_unless_it_is_being_published() {
        let (mut ledger, digest) = (Ledger::new(1), Blake3([1; 32]));
        ledger.set_idle(digest, 7);
        assert!(ledger.begin_publish(digest));
        assert_eq!(ledger.claim_idle(), None);
        assert!(ledger.is_idle(&digest), "its reservation is not forgotten");
        ledger.end_publish(&digest);
        assert_eq!(ledger.claim_idle(), Some((digest, 7)));
        assert_eq!(ledger.claim_idle(), None);
    }
}
