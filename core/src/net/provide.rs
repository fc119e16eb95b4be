//! Telling others what we provide, a few keys at a time, and only where holders are wanted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use libp2p::kad::{Behaviour, QueryId, RecordKey};

use crate::base::NodeId;
use crate::net::clock;
use crate::net::records::{PROVIDED_KEYS_MAX, Records};
use crate::proto::holders::{Seen, Standing};

/// Keys being looked at or told at a time. Each costs a search and up to twenty messages. If every
/// search and every telling took the 30 seconds after which Kademlia gives up, that would be 11,500
/// keys in a [`PUBLISH_INTERVAL`]; the turns of more would come late, and records that live two
/// intervals would expire from 23,000 on. Usually both take a second or two.
const PUBLISHING_MAX: usize = 16;

/// How often we look whether holders are wanted under a key, and tell that we are one if so.
/// Records of others live twice as long.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(12 * 3_600);

/// How long a new key waits for its first turn: a node that fetches much has better to do, and one that
/// leaves again at once, such as that of a build, would be looked for in vain.
const PUBLISH_DELAY: Duration = Duration::from_secs(5);

/// What becomes of the keys that we provide.
///
/// ```text
/// provided → waits for its turn → others are asked who holds it → told, or not: see `holders`
///                  ↑                                                   │
///                  └───────── one or more intervals later ─────────────┘
/// ```
///
/// A node provides thousands of keys when it starts, so they wait for each other, and all of them
/// wait for the first peer: without one, nobody would learn of them for hours.
pub(crate) struct Publisher {
    local: NodeId,
    /// Keys that wait, by their turns.
    turns: BTreeSet<(Instant, Vec<u8>)>,
    /// The turn of each key that waits.
    waiting: BTreeMap<Vec<u8>, Instant>,
    /// Keys under which others came before us when we looked last.
    silent: BTreeSet<Vec<u8>>,
    looking: HashMap<QueryId, Seen>,
    telling: HashMap<QueryId, Vec<u8>>,
}

impl Publisher {
    pub(crate) fn new(local: NodeId) -> Self {
        Self {
            local,
            turns: BTreeSet::new(),
            waiting: BTreeMap::new(),
            silent: BTreeSet::new(),
            looking: HashMap::new(),
            telling: HashMap::new(),
        }
    }

    pub(crate) fn provide(&mut self, kad: &mut Behaviour<Records>, key: Vec<u8>) {
        if kad.store_mut().provides(&key) {
            return;
        }
        if let Err(error) = kad.store_mut().provide(key.clone()) {
            tracing::warn!(%error, keys_max = PROVIDED_KEYS_MAX, "a key is not provided");
            return;
        }
        self.wait(kad, key, PUBLISH_DELAY);
    }

    pub(crate) fn stop(&mut self, kad: &mut Behaviour<Records>, key: &[u8]) {
        if let Some(at) = self.waiting.remove(key) {
            self.turns.remove(&(at, key.to_vec()));
        }
        self.silent.remove(key);
        kad.stop_providing(&RecordKey::new(&key));
    }

    /// Somebody told who holds a key. Other searches than ours are ignored.
    pub(crate) fn on_answer(
        &mut self,
        kad: &mut Behaviour<Records>,
        query: &QueryId,
        holders: &[NodeId],
    ) {
        let Some(seen) = self.looking.get_mut(query) else {
            return;
        };
        seen.answer(holders);
        if seen.is_enough()
            && let Some(mut query) = kad.query_mut(query)
        {
            query.finish();
        }
    }

    /// A search of Kademlia's has ended.
    pub(crate) fn on_ended(&mut self, kad: &mut Behaviour<Records>, query: &QueryId) {
        if let Some(seen) = self.looking.remove(query) {
            let key = seen.key().to_vec();
            match seen.standing(&self.local, self.silent.remove(&key)) {
                Standing::Announce => self.tell(kad, key),
                Standing::Silent { intervals } => {
                    if kad.store_mut().provides(&key) {
                        self.silent.insert(key.clone());
                    }
                    self.wait(kad, key, PUBLISH_INTERVAL * intervals);
                }
            }
        } else if let Some(key) = self.telling.remove(query) {
            self.wait(kad, key, PUBLISH_INTERVAL);
        }
        self.publish(kad);
    }

    /// When [`Publisher::publish`] is to be called again, if time alone leads to it.
    pub(crate) fn next_turn(&self) -> Option<Instant> {
        // A turn that has come waits for a peer, or for room.
        let (at, _) = self.turns.first()?;
        (clock::now() < *at).then_some(*at)
    }

    /// Starts with the keys whose turn has come, as far as possible.
    pub(crate) fn publish(&mut self, kad: &mut Behaviour<Records>) {
        let now = clock::now();
        let has_peer = kad.kbuckets().any(|it| !it.is_empty());
        while has_peer
            && self.looking.len() + self.telling.len() < PUBLISHING_MAX
            && self.turns.first().is_some_and(|it| it.0 <= now)
            && let Some((_, key)) = self.turns.pop_first()
        {
            self.waiting.remove(&key);
            let seen = Seen::new(&key);
            self.looking.insert(kad.get_providers(key.into()), seen);
        }
    }

    fn tell(&mut self, kad: &mut Behaviour<Records>, key: Vec<u8>) {
        // It may have been let go of meanwhile.
        if !kad.store_mut().provides(&key) {
            return;
        }
        match kad.start_providing(key.clone().into()) {
            Ok(query) => drop(self.telling.insert(query, key)),
            Err(error) => tracing::warn!(%error, "a key is not provided"),
        }
    }

    fn wait(&mut self, kad: &mut Behaviour<Records>, key: Vec<u8>, time: Duration) {
        // Let go of and provided again meanwhile, it waits already.
        if !kad.store_mut().provides(&key) || self.waiting.contains_key(&key) {
            return;
        }
        let at = clock::now() + time;
        self.turns.insert((at, key.clone()));
        self.waiting.insert(key, at);
    }
}
