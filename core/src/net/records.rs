//! Who has what: provider records, kept within limits.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};
use libp2p::{Multiaddr, PeerId};

use crate::base::{NodeId, Rng, WallTime};
use crate::net::{clock, id};
use crate::proto::holders::Ledger;
use crate::proto::holders::ledger::RecordId;
use crate::proto::holders::standing::ANSWER_HOLDERS_MAX;

/// A record that is not renewed by then is forgotten. Holders renew every 12 hours.
pub const PROVIDER_TTL: Duration = Duration::from_secs(24 * 3_600);

/// Keys that we ourselves provide; further ones are refused. A server keeps fewer of one node:
/// [`RECORDS_PER_NODE_MAX`](crate::proto::holders::ledger::RECORDS_PER_NODE_MAX).
pub const PROVIDED_KEYS_MAX: usize = 100_000;

/// Longest key. Unit: bytes.
pub const KEY_BYTES_MAX: usize = 64;

/// Addresses kept with a record; others are left out.
pub const ADDRESSES_PER_PROVIDER_MAX: usize = 8;

/// Longest address kept with a record. Unit: bytes.
const ADDRESS_BYTES_MAX: usize = 128;

/// A node that says it has something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Provider {
    /// The node.
    pub node: NodeId,
    /// Where it says that it can be dialed.
    pub addresses: Vec<Multiaddr>,
    /// When the record is to be forgotten.
    pub expires: WallTime,
}

/// Keeps the provider records of other nodes. Keys and addresses are within the limits of this
/// module; the number of keys and holders is the store's to limit: see [`Ledger`]. Called by the
/// task of the network, so it must not wait for a write to the disk.
pub trait ProviderStore: Send {
    /// Adds a record, or renews the one of the same node. False if there is no room.
    fn add(&mut self, key: &[u8], provider: Provider, now: WallTime) -> bool;

    /// Holders under `key` whose records have not expired: all of them, or `count_max` that are drawn.
    fn providers(
        &self,
        key: &[u8],
        now: WallTime,
        count_max: usize,
        rng: &mut Rng,
    ) -> Vec<Provider>;

    /// Forgets a record, if there is one.
    fn remove(&mut self, key: &[u8], node: &NodeId);
}

/// A [`ProviderStore`] in memory, within the limits of a [`Ledger`].
#[derive(Debug, Default)]
pub struct MemoryProviders {
    ledger: Ledger,
    records: BTreeMap<RecordId, Provider>,
}

impl MemoryProviders {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl ProviderStore for MemoryProviders {
    fn add(&mut self, key: &[u8], provider: Provider, now: WallTime) -> bool {
        let (node, mut gone) = (provider.node, Vec::new());
        let is_kept = self
            .ledger
            .add(key, &node, provider.expires, now, &mut gone);
        for id in &gone {
            self.records.remove(id);
        }
        if is_kept {
            self.records.insert((key.to_vec(), node), provider);
        }
        is_kept
    }

    fn providers(
        &self,
        key: &[u8],
        now: WallTime,
        count_max: usize,
        rng: &mut Rng,
    ) -> Vec<Provider> {
        let drawn = self.ledger.draw(key, now, count_max, rng);
        let record = |it: NodeId| self.records.get(&(key.to_vec(), it)).cloned();
        drawn.into_iter().filter_map(record).collect()
    }

    fn remove(&mut self, key: &[u8], node: &NodeId) {
        self.ledger.remove(key, node);
        self.records.remove(&(key.to_vec(), *node));
    }
}

/// What Kademlia stores with us: provider records only.
pub(crate) struct Records {
    local: PeerId,
    store: Box<dyn ProviderStore>,
    /// What we ourselves provide; the program says so again after a restart.
    provided: BTreeSet<Vec<u8>>,
    /// Draws the answers; a peer that predicts them gains nothing.
    rng: RefCell<Rng>,
}

impl Records {
    pub(crate) fn new(local: PeerId, store: Box<dyn ProviderStore>, seed: u64) -> Self {
        Self {
            local,
            store,
            provided: BTreeSet::new(),
            rng: RefCell::new(Rng::new(seed)),
        }
    }

    /// Names us as a holder of what `key` names.
    ///
    /// # Errors
    ///
    /// At [`PROVIDED_KEYS_MAX`] keys.
    pub(crate) fn provide(&mut self, key: Vec<u8>) -> Result<()> {
        if self.provided.len() >= PROVIDED_KEYS_MAX && !self.provides(&key) {
            return Err(Error::MaxProvidedKeys);
        }
        self.provided.insert(key);
        Ok(())
    }

    /// Whether we hold what `key` names.
    pub(crate) fn provides(&self, key: &[u8]) -> bool {
        self.provided.contains(key)
    }
}

impl RecordStore for Records {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::vec::IntoIter<Cow<'a, ProviderRecord>>;

    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    /// Refuses: anybody could store anything.
    fn put(&mut self, _: Record) -> Result<()> {
        Err(Error::MaxRecords)
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        let key = record.key.to_vec();
        if key.len() > KEY_BYTES_MAX {
            return Err(Error::ValueTooLarge);
        }
        if record.provider == self.local {
            return self.provide(key);
        }
        let node = id::node_id(&record.provider).ok_or(Error::ValueTooLarge)?;
        let mut addresses = record.addresses;
        addresses.retain(|it| it.len() <= ADDRESS_BYTES_MAX);
        addresses.truncate(ADDRESSES_PER_PROVIDER_MAX);
        let now = clock::wall_now();
        let provider = Provider {
            node,
            addresses,
            expires: now + PROVIDER_TTL,
        };
        match self.store.add(&key, provider, now) {
            true => Ok(()),
            false => Err(Error::MaxProvidedKeys),
        }
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        // Kademlia fills in our present addresses.
        let own = self.provides(key.as_ref());
        let own = own.then(|| ProviderRecord::new(key.clone(), self.local, Vec::new()));
        let count_max = ANSWER_HOLDERS_MAX - usize::from(own.is_some());
        let (now, rng) = (clock::wall_now(), &mut *self.rng.borrow_mut());
        let others = self.store.providers(key.as_ref(), now, count_max, rng);
        let others = others.into_iter().filter_map(|it| {
            let peer = id::peer_id(&it.node)?;
            Some(ProviderRecord::new(key.clone(), peer, it.addresses))
        });
        own.into_iter().chain(others).collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        let record = |it: &Vec<u8>| {
            let key = RecordKey::new(it);
            Cow::Owned(ProviderRecord::new(key, self.local, Vec::new()))
        };
        self.provided
            .iter()
            .map(record)
            .collect::<Vec<_>>()
            .into_iter()
    }

    fn remove_provider(&mut self, key: &RecordKey, peer: &PeerId) {
        if *peer == self.local {
            self.provided.remove(key.as_ref());
        } else if let Some(node) = id::node_id(peer) {
            self.store.remove(key.as_ref(), &node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SecretKey;
    use crate::proto::holders::standing::HOLDERS_MAX;

    fn at(secs: u64) -> WallTime {
        WallTime::from_millis(secs * 1_000)
    }

    fn provider(seed: u8, expires: u64) -> Provider {
        Provider {
            node: SecretKey::from_seed([seed; 32]).public(),
            addresses: Vec::new(),
            expires: at(expires),
        }
    }

    fn all(store: &MemoryProviders, now: WallTime) -> Vec<Provider> {
        store.providers(b"k", now, usize::MAX, &mut Rng::new(1))
    }

    #[test]
    fn a_record_is_renewed_not_doubled_and_expires() {
        let mut store = MemoryProviders::new();
        assert!(store.add(b"k", provider(1, 10), at(0)));
        assert!(store.add(b"k", provider(1, 20), at(5)));
        assert_eq!(all(&store, at(19)), [provider(1, 20)]);
        assert_eq!(all(&store, at(20)), []);
        assert!(store.add(b"other", provider(2, 90), at(21)));
        assert_eq!((store.ledger.len(), store.records.len()), (1, 1));
        store.remove(b"other", &provider(2, 90).node);
        assert_eq!((store.ledger.len(), store.records.len()), (0, 0));
    }

    #[test]
    fn a_full_key_lets_go_of_records_that_it_refuses() {
        let mut store = MemoryProviders::new();
        for seed in 1..=255 {
            store.add(b"k", provider(seed, 100), at(0));
        }
        let kept = all(&store, at(0));
        assert_eq!(
            (kept.len(), store.records.len()),
            (HOLDERS_MAX, HOLDERS_MAX)
        );
    }

    #[test]
    fn answers_hold_few_records_and_values_are_refused() {
        let alice = SecretKey::from_seed([1; 32]).public();
        let local = id::peer_id(&alice).unwrap();
        let mut records = Records::new(local, Box::new(MemoryProviders::new()), 7);
        let key = RecordKey::new(b"k");
        for seed in 1..=50 {
            let peer = id::peer_id(&SecretKey::from_seed([seed; 32]).public()).unwrap();
            let record = ProviderRecord::new(key.clone(), peer, Vec::new());
            assert!(records.add_provider(record).is_ok());
        }
        let answer = records.providers(&key);
        assert_eq!(answer.len(), ANSWER_HOLDERS_MAX);
        assert!(answer.iter().any(|it| it.provider == local));
        assert_ne!(answer, records.providers(&key), "drawn anew each time");
        assert_eq!(records.provided().count(), 1);
        assert!(records.put(Record::new(key, vec![1])).is_err());
        let long = ProviderRecord::new(vec![0; KEY_BYTES_MAX + 1], local, Vec::new());
        assert!(records.add_provider(long).is_err());
    }
}
