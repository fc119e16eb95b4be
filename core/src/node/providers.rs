//! Provider records of other nodes, on the disk: what `net` wants, made of what `store` offers.
//!
//! A flood stays within the limits of [`Ledger`] (keys, records, records of one node; 15 MB of
//! memory, 100 MB of disk) and of [`Providers`] (records written in a second); beyond these a
//! record is refused. A renewal that changes nothing is not written.

use std::time::Duration;

use libp2p::Multiaddr;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{NodeId, PublicKey, Rng, WallTime, codec};
use crate::net::records::PROVIDER_TTL;
use crate::net::{Provider, ProviderStore};
use crate::proto::holders::Ledger;
use crate::proto::holders::ledger::RecordId;
use crate::store::providers::{LIST_ROWS_MAX, VALUE_BYTES_MAX};
use crate::store::{Providers, StoreError};

/// A renewal that prolongs a record by less is not written, unless the addresses changed.
const RENEWAL_MIN: Duration = Duration::from_secs(3_600);

/// Length of a node id, the end of a row's key. Unit: bytes.
const NODE_BYTES: usize = 32;

/// What is stored under key and node.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Row {
    #[n(0)]
    expires: WallTime,
    /// Binary form.
    #[n(1)]
    addresses: Vec<ByteVec>,
}

impl Row {
    pub(crate) fn new(provider: &Provider) -> Self {
        let addresses = provider.addresses.iter();
        Self {
            expires: provider.expires,
            addresses: addresses.map(|it| ByteVec::from(it.to_vec())).collect(),
        }
    }

    /// Reads a stored row.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let row: Self = codec::decode(bytes, VALUE_BYTES_MAX).ok()?;
        row.clone().addresses()?;
        Some(row)
    }

    fn addresses(self) -> Option<Vec<Multiaddr>> {
        let parse = |it: ByteVec| Multiaddr::try_from(Vec::from(it)).ok();
        self.addresses.into_iter().map(parse).collect()
    }
}

/// A [`ProviderStore`] whose records survive a restart.
pub(crate) struct StoredProviders {
    ledger: Ledger,
    records: Providers,
}

impl StoredProviders {
    /// Takes over the records of the last run. Expired and unreadable ones are removed; a damaged
    /// database is thrown away. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they cannot be read.
    pub(crate) fn load(records: &Providers, now: WallTime) -> Result<Self, StoreError> {
        let mut it = Self {
            ledger: Ledger::default(),
            records: records.clone(),
        };
        match it.read_all(now) {
            Ok(()) => Ok(it),
            // It would fail every start.
            Err(error @ StoreError::Corrupt { .. }) => {
                records.begin_anew(&error)?;
                it.ledger = Ledger::default();
                Ok(it)
            }
            Err(other) => Err(other),
        }
    }

    fn read_all(&mut self, now: WallTime) -> Result<(), StoreError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self.records.list(after.as_deref())?;
            for (row_key, value) in &rows {
                let Some(((key, node), row)) = read(row_key, value) else {
                    tracing::warn!(bytes = value.len(), "a damaged provider record is dropped");
                    self.records.remove(row_key);
                    continue;
                };
                // A clock that was put back does not give records a longer life.
                let expires = row.expires.min(now + PROVIDER_TTL);
                let mut gone = Vec::new();
                if !self.ledger.add(&key, &node, expires, now, &mut gone) {
                    self.records.remove(row_key);
                }
                self.forget(&gone);
            }
            if rows.len() < LIST_ROWS_MAX {
                return Ok(());
            }
            after = rows.into_iter().last().map(|it| it.0);
        }
    }

    fn forget(&self, gone: &[RecordId]) {
        for (key, node) in gone {
            self.records.remove(&row_key(key, node));
        }
    }

    fn record(&self, key: &[u8], node: &NodeId) -> Option<Provider> {
        let row_key = row_key(key, node);
        let value = match self.records.get(&row_key) {
            Ok(value) => value?,
            Err(error) => {
                tracing::debug!(%error, "a provider record cannot be read");
                return None;
            }
        };
        let (_, row) = read(&row_key, &value)?;
        Some(Provider {
            node: *node,
            expires: row.expires,
            addresses: row.addresses()?,
        })
    }

    /// Whether writing `provider` would change next to nothing.
    fn is_known(&self, key: &[u8], provider: &Provider) -> bool {
        let expires = self.ledger.expires(key, &provider.node);
        expires.is_some_and(|it| provider.expires < it + RENEWAL_MIN && it <= provider.expires)
            && self
                .record(key, &provider.node)
                .is_some_and(|it| it.addresses == provider.addresses)
    }
}

impl ProviderStore for StoredProviders {
    fn add(&mut self, key: &[u8], provider: Provider, now: WallTime) -> bool {
        let mut gone = Vec::new();
        self.ledger.expire(now, &mut gone);
        self.forget(&gone);
        if self.is_known(key, &provider) {
            return true;
        }
        let value = codec::encode(&Row::new(&provider));
        if VALUE_BYTES_MAX < value.len() || !self.records.has_room() {
            return false;
        }
        let (node, mut gone) = (provider.node, Vec::new());
        let is_kept = self
            .ledger
            .add(key, &node, provider.expires, now, &mut gone);
        self.forget(&gone);
        if !is_kept {
            return false;
        }
        let stored = self.records.put(&row_key(key, &node), &value);
        if stored.is_err() {
            self.remove(key, &node);
        }
        stored.is_ok()
    }

    /// Reads no more records than are asked for: each costs a look into the database.
    fn providers(
        &self,
        key: &[u8],
        now: WallTime,
        count_max: usize,
        rng: &mut Rng,
    ) -> Vec<Provider> {
        let drawn = self.ledger.draw(key, now, count_max, rng);
        let records = drawn.iter().filter_map(|it| self.record(key, it));
        records.collect()
    }

    fn remove(&mut self, key: &[u8], node: &NodeId) {
        if self.ledger.remove(key, node) {
            self.records.remove(&row_key(key, node));
        }
    }
}

fn row_key(key: &[u8], node: &NodeId) -> Vec<u8> {
    [key, node.as_bytes()].concat()
}

fn read(row_key: &[u8], value: &[u8]) -> Option<(RecordId, Row)> {
    let (key, node) = row_key.split_last_chunk::<NODE_BYTES>()?;
    Some(((key.to_vec(), PublicKey(*node)), Row::decode(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SecretKey;
    use crate::proto::holders::ledger::RECORDS_PER_NODE_MAX;
    use crate::proto::holders::standing::HOLDERS_MAX;
    use crate::store::{Options, Store};

    fn at(hours: u64) -> WallTime {
        WallTime::from_millis(hours * 3_600_000)
    }

    fn provider(seed: u8, expires: u64, port: u16) -> Provider {
        Provider {
            node: SecretKey::from_seed([seed; 32]).public(),
            addresses: vec![format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()],
            expires: at(expires),
        }
    }

    fn all(records: &StoredProviders, key: &[u8], now: WallTime) -> Vec<Provider> {
        records.providers(key, now, usize::MAX, &mut Rng::new(1))
    }

    fn load(dir: &std::path::Path, hours: u64) -> (Store, StoredProviders) {
        let (store, _) = Store::open(dir, Options::default()).unwrap();
        let records = StoredProviders::load(store.providers(), at(hours)).unwrap();
        (store, records)
    }

    #[test]
    fn records_survive_a_restart_and_expire() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut records) = load(dir.path(), 0);
        let (alice, bob) = (provider(1, 10, 1), provider(2, 20, 2));
        assert!(records.add(b"key", alice.clone(), at(0)));
        assert!(records.add(b"key", bob.clone(), at(0)));
        assert!(records.add(b"gone", bob.clone(), at(0)));
        records.remove(b"gone", &bob.node);
        drop((store, records));
        let (store, records) = load(dir.path(), 5);
        let mut found = all(&records, b"key", at(5));
        found.sort_by_key(|it| it.expires);
        assert_eq!(found, [alice, bob.clone()]);
        assert_eq!(all(&records, b"gone", at(5)), []);
        drop((store, records));
        // What has expired meanwhile is not only hidden but removed.
        drop(load(dir.path(), 15));
        let (store, records) = load(dir.path(), 5);
        assert_eq!(all(&records, b"key", at(5)), [bob]);
        assert_eq!(store.providers().list(None).unwrap().len(), 1);
    }

    #[test]
    fn damaged_records_are_dropped_and_the_others_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut records) = load(dir.path(), 0);
        let alice = provider(1, 10, 1);
        assert!(records.add(b"key", alice.clone(), at(0)));
        let whole = codec::encode(&Row::new(&alice));
        let bad_address = Row {
            expires: at(10),
            addresses: vec![vec![0xff].into()],
        };
        for (number, value) in [
            vec![],
            vec![0xff; 9],
            whole[..5].to_vec(),
            codec::encode(&bad_address),
        ]
        .iter()
        .enumerate()
        {
            let key = row_key(&number.to_be_bytes(), &alice.node);
            store.providers().put(&key, value).unwrap();
        }
        store.providers().put(b"short", &whole).unwrap();
        drop((store, records));
        drop(load(dir.path(), 0));
        let (store, records) = load(dir.path(), 0);
        assert_eq!(all(&records, b"key", at(0)), [alice]);
        assert_eq!(store.providers().list(None).unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_page_behind_the_head_does_not_fail_every_start() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut records) = load(dir.path(), 0);
        for number in 0..500_u32 {
            assert!(records.add(&number.to_be_bytes(), provider(1, 10, 1), at(0)));
        }
        drop((store, records));
        let path = dir.path().join("providers/data.mdb");
        let mut bytes = std::fs::read(&path).unwrap();
        // The head of the file says how long its pages are.
        let page_bytes = u32::from_ne_bytes(bytes[40..44].try_into().unwrap());
        let page_bytes = usize::try_from(page_bytes).unwrap();
        // So many rows lie in leaves below a branch, whose kind its page names.
        let mut branches = 0;
        for page in bytes.chunks_exact_mut(page_bytes) {
            if page[10..12] == 1_u16.to_ne_bytes() {
                page.fill(0);
                branches += 1;
            }
        }
        assert_ne!(branches, 0);
        std::fs::write(&path, bytes).unwrap();
        for _ in 0..2 {
            let (store, mut records) = load(dir.path(), 0);
            assert_eq!(all(&records, b"key", at(0)), []);
            assert!(records.add(b"key", provider(2, 10, 1), at(0)));
            drop((store, records));
            let (store, records) = load(dir.path(), 0);
            assert_eq!(all(&records, b"key", at(0)), [provider(2, 10, 1)]);
            assert_eq!(store.providers().list(None).unwrap().len(), 1);
            records
                .records
                .remove(&store.providers().list(None).unwrap()[0].0);
        }
    }

    #[test]
    fn a_renewal_is_written_when_it_says_something() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut records) = load(dir.path(), 0);
        let first = provider(1, 20, 1);
        let ends = WallTime::from_millis(at(20).as_millis() + 60_000);
        let soon = Provider {
            expires: ends,
            ..first.clone()
        };
        let moved = Provider {
            expires: ends,
            ..provider(1, 0, 2)
        };
        let later = provider(1, 23, 2);
        for (renewal, expected) in [
            (&first, &first),
            (&soon, &first),
            (&moved, &moved),
            (&later, &later),
        ] {
            assert!(records.add(b"key", renewal.clone(), at(0)));
            let found = all(&records, b"key", at(0));
            assert_eq!(found, std::slice::from_ref(expected));
        }
    }

    #[test]
    fn a_flood_of_one_peer_ends_at_its_limit_on_the_disk_too() {
        let dir = tempfile::tempdir().unwrap();
        let (mut number, mut taken) = (0_u32, 0);
        // The peer floods until nothing more is taken, over many batches.
        while taken < RECORDS_PER_NODE_MAX {
            let (_store, mut records) = load(dir.path(), 0);
            let before = taken;
            while records.add(&number.to_be_bytes(), provider(1, 10, 1), at(0)) {
                number += 1;
                taken += 1;
            }
            assert!(before < taken);
        }
        let (store, mut records) = load(dir.path(), 0);
        assert!(!records.add(b"more", provider(1, 10, 1), at(0)));
        assert!(
            records.add(b"more", provider(2, 10, 1), at(0)),
            "others are served"
        );
        drop((store, records));
        let (_store, records) = load(dir.path(), 0);
        assert_eq!(records.ledger.len(), RECORDS_PER_NODE_MAX + 1);
    }

    #[test]
    fn a_full_key_lets_go_on_the_disk_of_what_it_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut records) = load(dir.path(), 0);
        for seed in 1..=255 {
            records.add(b"key", provider(seed, 10, 1), at(0));
        }
        drop((store, records));
        let (store, records) = load(dir.path(), 0);
        assert_eq!(all(&records, b"key", at(0)).len(), HOLDERS_MAX);
        assert_eq!(store.providers().list(None).unwrap().len(), HOLDERS_MAX);
    }
    #[test]
    fn an_answer_holds_as_many_as_are_asked_for_and_others_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut records) = load(dir.path(), 0);
        for seed in 1..=60 {
            assert!(records.add(b"key", provider(seed, 10, 1), at(0)));
        }
        let mut rng = Rng::new(7);
        let mut draw = || records.providers(b"key", at(0), 20, &mut rng);
        let (first, second) = (draw(), draw());
        assert_eq!((first.len(), second.len()), (20, 20));
        assert_ne!(first, second);
    }
}
