//! The bytes that may flow in one direction: in all, and with each peer.

use std::collections::BTreeMap;

use crate::base::Time;
use crate::proto::limit::bucket::{Bucket, Rate};

/// Peers whose use is remembered. Beyond that, one that has used nothing lately is forgotten; if
/// all have, a new peer shares the budget of the whole without one of its own.
pub const PEERS_MAX: usize = 4_096;

/// A budget for one direction (up or down): one bucket for all peers and one for each.
///
/// Bytes pass only if both allow them. Whoever is exempt (a peer on the same LAN, say) is simply
/// not charged.
#[derive(Clone, Debug)]
pub struct Budget<P> {
    whole: Bucket,
    peer_rate: Rate,
    peers: BTreeMap<P, Bucket>,
}

impl<P: Clone + Ord> Budget<P> {
    /// A budget of `whole` for all peers together and `peer` for each of them.
    pub fn new(whole: Rate, peer: Rate, now: Time) -> Self {
        Self {
            whole: Bucket::new(whole, now),
            peer_rate: peer,
            peers: BTreeMap::new(),
        }
    }

    /// Changes both rates; nothing used so far is forgotten.
    pub fn set_rates(&mut self, whole: Rate, peer: Rate, now: Time) {
        self.whole.set_rate(whole, now);
        self.peer_rate = peer;
        for bucket in self.peers.values_mut() {
            bucket.set_rate(peer, now);
        }
    }

    /// Takes `bytes` for `peer` if both buckets allow them now.
    pub fn try_take(&mut self, peer: &P, bytes: u64, now: Time) -> bool {
        let is_free = self.next_at(peer, bytes, now) == Some(now);
        if is_free {
            self.take(peer, bytes, now);
        }
        is_free
    }

    /// Takes `bytes` for `peer` in any case: for bytes that have flowed already.
    pub fn take(&mut self, peer: &P, bytes: u64, now: Time) {
        self.whole.take(bytes, now);
        if let Some(bucket) = self.bucket_of(peer, now) {
            bucket.take(bytes, now);
        }
    }

    /// When `peer` may take `bytes` if nobody else takes any; `None` if never.
    pub fn next_at(&mut self, peer: &P, bytes: u64, now: Time) -> Option<Time> {
        let whole = self.whole.next_at(bytes, now)?;
        let own = match self.peers.get_mut(peer) {
            Some(bucket) => bucket.next_at(bytes, now)?,
            None if self.peer_rate == Rate::BytesPerSecond(0) && bytes != 0 => return None,
            None => now,
        };
        Some(whole.max(own))
    }

    /// When `bytes` may be taken by a peer that has used nothing of its own; `None` if never.
    pub fn whole_next_at(&mut self, bytes: u64, now: Time) -> Option<Time> {
        self.whole.next_at(bytes, now)
    }

    /// The bucket of `peer`, made if there is room.
    fn bucket_of(&mut self, peer: &P, now: Time) -> Option<&mut Bucket> {
        if self.peer_rate == Rate::Unlimited {
            self.peers.clear();
            return None;
        }
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(peer) {
            self.peers.retain(|_, bucket| !bucket.is_full(now));
            if self.peers.len() >= PEERS_MAX {
                return None;
            }
        }
        let fresh = || Bucket::new(self.peer_rate, now);
        Some(self.peers.entry(peer.clone()).or_insert_with(fresh))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn millis(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn both_buckets_must_allow_the_bytes() {
        let mut budget = Budget::new(
            Rate::BytesPerSecond(4_000),
            Rate::BytesPerSecond(1_000),
            Time::ZERO,
        );
        assert!(budget.try_take(&"alice", 250, Time::ZERO));
        assert_eq!(budget.next_at(&"alice", 1, Time::ZERO), Some(millis(1)));
        for peer in ["bob", "carol", "dave"] {
            assert!(budget.try_take(&peer, 250, Time::ZERO), "{peer}");
        }
        // The whole is used up, although eve has not sent a byte.
        assert!(!budget.try_take(&"eve", 4, Time::ZERO));
        assert!(budget.try_take(&"eve", 4, millis(1)));
    }

    #[test]
    fn a_refusal_charges_nobody() {
        let mut budget = Budget::new(Rate::BytesPerSecond(4), Rate::BytesPerSecond(4), Time::ZERO);
        assert!(budget.try_take(&"alice", 1, Time::ZERO));
        assert!(!budget.try_take(&"bob", 1, Time::ZERO));
        assert_eq!(budget.next_at(&"bob", 1, Time::ZERO), Some(millis(250)));
    }

    #[test]
    fn zero_shuts_the_direction_and_unlimited_opens_it() {
        let (shut, open) = (Rate::BytesPerSecond(0), Rate::Unlimited);
        for (whole, peer, expected) in [
            (shut, open, None),
            (open, shut, None),
            (open, open, Some(Time::ZERO)),
        ] {
            let mut budget = Budget::new(whole, peer, Time::ZERO);
            assert_eq!(budget.next_at(&"alice", 1, Time::ZERO), expected);
            assert_eq!(budget.try_take(&"alice", 1, Time::ZERO), expected.is_some());
        }
    }

    #[test]
    fn memory_is_bounded_and_rested_peers_are_forgotten() {
        let mut budget = Budget::new(Rate::Unlimited, Rate::BytesPerSecond(8), Time::ZERO);
        for peer in 0..=PEERS_MAX {
            assert!(budget.try_take(&peer, 1, Time::ZERO));
        }
        assert_eq!(budget.peers.len(), PEERS_MAX);
        assert!(budget.try_take(&PEERS_MAX, 1, millis(1_000)));
        assert_eq!(budget.peers.len(), 1);
    }
}
