//! Telling others what we provide, a few keys at a time.

use std::collections::{HashSet, VecDeque};

use libp2p::kad::{Behaviour, QueryId, RecordKey};

use crate::net::records::{PROVIDED_KEYS_MAX, Records};

/// Keys being told at a time. Each costs a search and up to twenty messages.
const PUBLISHING_MAX: usize = 16;

/// Keys to be told. A node provides thousands of keys when it starts, so they wait for each other,
/// and all of them wait for the first peer: without one, nobody would learn of them for hours.
#[derive(Default)]
pub(crate) struct Publisher {
    waiting: VecDeque<Vec<u8>>,
    publishing: HashSet<QueryId>,
}

impl Publisher {
    pub(crate) fn provide(&mut self, kad: &mut Behaviour<Records>, key: Vec<u8>) {
        if let Err(error) = kad.store_mut().provide(key.clone()) {
            tracing::warn!(%error, keys_max = PROVIDED_KEYS_MAX, "a key is not provided");
            return;
        }
        if self.waiting.len() < PROVIDED_KEYS_MAX {
            self.waiting.push_back(key);
        }
        self.publish(kad);
    }

    pub(crate) fn stop(&mut self, kad: &mut Behaviour<Records>, key: &[u8]) {
        self.waiting.retain(|it| it != key);
        kad.stop_providing(&RecordKey::new(&key));
    }

    /// A search of Kademlia's has ended.
    pub(crate) fn on_ended(&mut self, kad: &mut Behaviour<Records>, query: &QueryId) {
        if self.publishing.remove(query) {
            self.publish(kad);
        }
    }

    /// Starts with waiting keys, as far as possible.
    pub(crate) fn publish(&mut self, kad: &mut Behaviour<Records>) {
        let has_peer = kad.kbuckets().any(|it| !it.is_empty());
        while has_peer
            && self.publishing.len() < PUBLISHING_MAX
            && let Some(key) = self.waiting.pop_front()
        {
            match kad.start_providing(key.into()) {
                Ok(query) => drop(self.publishing.insert(query)),
                Err(error) => tracing::warn!(%error, "a key is not provided"),
            }
        }
    }
}
