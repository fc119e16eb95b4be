//! Which provider records a server of the DHT keeps.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{NodeId, Rng, WallTime};
use crate::proto::holders::standing::{HOLDERS_MAX, score};

/// Keys that have records; a further one is refused until some expire.
pub const KEYS_MAX: usize = 20_000;

/// Records of all keys; further ones are refused until some expire. About 300 bytes of memory each.
pub const RECORDS_MAX: usize = 50_000;

/// Records of one node; further ones are refused, so that one node cannot fill the ledger. A holder of
/// more stands under all its keys only where there are enough servers to divide them: a key is told
/// to twenty of them.
pub const RECORDS_PER_NODE_MAX: usize = 10_000;

/// A record by its key and holder.
pub type RecordId = (Vec<u8>, NodeId);

/// Who stands under which key until when: the limits of a record store, not the records.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Under each key by score.
    keys: BTreeMap<Vec<u8>, BTreeMap<(u64, NodeId), WallTime>>,
    /// Every record by the end of its life.
    expiry: BTreeSet<(WallTime, Vec<u8>, NodeId)>,
    nodes: BTreeMap<NodeId, usize>,
}

impl Ledger {
    /// Adds a record or renews it; false if there is no room. Under a full key a record of a higher
    /// score makes room. Those that made room or expired are appended to `gone`.
    pub fn add(
        &mut self,
        key: &[u8],
        node: &NodeId,
        expires: WallTime,
        now: WallTime,
        gone: &mut Vec<RecordId>,
    ) -> bool {
        self.expire(now, gone);
        if expires <= now {
            return false;
        }
        if !self.remove(key, node) && !self.make_room(key, node, gone) {
            return false;
        }
        let holders = self.keys.entry(key.to_vec()).or_default();
        holders.insert((score(key, node), *node), expires);
        self.expiry.insert((expires, key.to_vec(), *node));
        *self.nodes.entry(*node).or_default() += 1;
        true
    }

    fn make_room(&mut self, key: &[u8], node: &NodeId, gone: &mut Vec<RecordId>) -> bool {
        if RECORDS_PER_NODE_MAX <= self.nodes.get(node).copied().unwrap_or(0) {
            return false;
        }
        let Some(holders) = self.keys.get(key) else {
            return self.keys.len() < KEYS_MAX && self.expiry.len() < RECORDS_MAX;
        };
        if holders.len() < HOLDERS_MAX {
            return self.expiry.len() < RECORDS_MAX;
        }
        let last = holders.last_key_value().map(|it| *it.0);
        let Some((_, highest)) = last.filter(|it| (score(key, node), *node) < *it) else {
            return false;
        };
        self.remove(key, &highest);
        gone.push((key.to_vec(), highest));
        true
    }

    /// Forgets a record; false if there is none.
    pub fn remove(&mut self, key: &[u8], node: &NodeId) -> bool {
        let Some(holders) = self.keys.get_mut(key) else {
            return false;
        };
        let Some(expires) = holders.remove(&(score(key, node), *node)) else {
            return false;
        };
        if holders.is_empty() {
            self.keys.remove(key);
        }
        self.expiry.remove(&(expires, key.to_vec(), *node));
        if let Some(count) = self.nodes.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                self.nodes.remove(node);
            }
        }
        true
    }

    /// Forgets the records whose life is over, and appends them to `gone`.
    pub fn expire(&mut self, now: WallTime, gone: &mut Vec<RecordId>) {
        while let Some((_, key, node)) = self.expiry.first().filter(|it| it.0 <= now).cloned() {
            self.remove(&key, &node);
            gone.push((key, node));
        }
    }

    /// The holders under `key` whose records have not expired, the lowest scores first.
    pub fn holders(&self, key: &[u8], now: WallTime) -> impl Iterator<Item = &NodeId> {
        let holders = self.keys.get(key).into_iter().flatten();
        holders
            .filter(move |(_, expires)| now < **expires)
            .map(|((_, node), _)| node)
    }

    /// Up to `count_max` of the [`Ledger::holders`], drawn by `rng`, in any order.
    pub fn draw(&self, key: &[u8], now: WallTime, count_max: usize, rng: &mut Rng) -> Vec<NodeId> {
        let mut holders: Vec<NodeId> = self.holders(key, now).copied().collect();
        rng.shuffle(&mut holders);
        holders.truncate(count_max);
        holders
    }

    /// When a record ends, if there is one.
    pub fn expires(&self, key: &[u8], node: &NodeId) -> Option<WallTime> {
        let holders = self.keys.get(key)?;
        holders.get(&(score(key, node), *node)).copied()
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.expiry.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.expiry.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::PublicKey;

    fn at(millis: u64) -> WallTime {
        WallTime::from_millis(millis)
    }

    fn node(number: usize) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        PublicKey(bytes)
    }

    fn key(number: usize) -> [u8; 8] {
        (number as u64).to_be_bytes()
    }

    #[test]
    fn a_full_key_keeps_the_lowest_scores() {
        let (mut ledger, mut gone) = (Ledger::default(), Vec::new());
        let mut nodes: Vec<_> = (0..HOLDERS_MAX * 3).map(node).collect();
        for it in &nodes {
            ledger.add(b"k", it, at(9), at(0), &mut gone);
        }
        nodes.sort_by_key(|it| score(b"k", it));
        nodes.truncate(HOLDERS_MAX);
        let kept: Vec<_> = ledger.holders(b"k", at(0)).copied().collect();
        assert_eq!(kept, nodes);
        assert!(gone.iter().all(|it| !nodes.contains(&it.1)));
        assert!(
            ledger.add(b"k", &nodes[99], at(20), at(0), &mut gone),
            "renewed"
        );
        assert_eq!(ledger.len(), HOLDERS_MAX);
    }

    #[test]
    fn a_flood_of_one_node_leaves_room_for_others() {
        let (mut ledger, mut gone) = (Ledger::default(), Vec::new());
        let eve = node(1);
        let kept = (0..RECORDS_PER_NODE_MAX + 5)
            .filter(|it| ledger.add(&key(*it), &eve, at(9), at(0), &mut gone))
            .count();
        assert_eq!(kept, RECORDS_PER_NODE_MAX);
        assert!(ledger.add(&key(0), &node(2), at(9), at(0), &mut gone));
        assert!(ledger.add(
            &key(RECORDS_PER_NODE_MAX + 1),
            &node(2),
            at(9),
            at(0),
            &mut gone
        ));
        assert_eq!(gone, []);
    }

    #[test]
    fn a_flood_of_many_nodes_ends_at_the_limits_until_records_expire() {
        let (mut ledger, mut gone) = (Ledger::default(), Vec::new());
        let mut nodes = (2..).map(node);
        for number in 0..KEYS_MAX {
            let eve = node(number % 2);
            assert!(ledger.add(&key(number), &eve, at(9), at(0), &mut gone));
        }
        assert!(
            !ledger.add(b"new", &node(5), at(9), at(0), &mut gone),
            "keys"
        );
        for number in 0..RECORDS_MAX - KEYS_MAX {
            let key = key(number % KEYS_MAX);
            assert!(ledger.add(&key, &nodes.next().unwrap(), at(9), at(0), &mut gone));
        }
        assert!(
            !ledger.add(&key(0), &node(1 << 40), at(9), at(0), &mut gone),
            "records"
        );
        assert!(gone.is_empty());
        assert!(ledger.add(b"new", &node(5), at(19), at(9), &mut gone));
        assert_eq!((ledger.len(), gone.len()), (1, RECORDS_MAX));
    }

    proptest! {
        #[test]
        fn a_ledger_is_a_map_with_ends(
            steps in prop::collection::vec((0..3_usize, 0..4_usize, 0..20_u64, any::<bool>()), 0..60),
        ) {
            let mut ledger = Ledger::default();
            let mut model = BTreeMap::new();
            for (now, (key_at, node_at, life, is_added)) in steps.into_iter().enumerate() {
                let now = at(now as u64);
                let id = (key(key_at).to_vec(), node(node_at));
                let mut gone = Vec::new();
                if is_added {
                    let expires = now + std::time::Duration::from_millis(life);
                    let kept = ledger.add(&id.0, &id.1, expires, now, &mut gone);
                    prop_assert_eq!(kept, 0 < life);
                    for it in &gone {
                        prop_assert!(model.remove(it).is_some_and(|it| it <= now));
                    }
                    if kept {
                        model.insert(id.clone(), expires);
                    }
                } else {
                    prop_assert_eq!(ledger.remove(&id.0, &id.1), model.remove(&id).is_some());
                }
                for at_key in 0..3 {
                    let key = key(at_key).to_vec();
                    let held: BTreeSet<_> = ledger.holders(&key, now).copied().collect();
                    let expected = model.iter().filter(|it| it.0.0 == key && now < *it.1);
                    prop_assert_eq!(held, expected.map(|it| it.0.1).collect());
                }
                prop_assert_eq!(ledger.len(), model.len());
            }
        }
    }
}
