//! The search for the entries of groups that are known by attestations only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::{NodeId, Subject, Time};
use crate::proto::pool::groups::Groups;

/// How long the entries of an attested group may take to come by gossip before they are asked for.
pub(crate) const ASK_DELAY: Duration = Duration::from_millis(300);

/// How long a peer may take to send entries before another one is asked.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long to wait when all who attested were asked, before they are asked again.
pub(crate) const ASK_PAUSE: Duration = Duration::from_secs(10);

/// Most groups that one peer is asked for at the same time; the others wait for [`ASK_TIMEOUT`].
const ASKS_MAX: usize = 16;

/// The search for the entries of a group.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// When to do something.
    pub(crate) at: Time,
    /// Who was asked last.
    peer: Option<NodeId>,
    /// Who was asked since the last pause.
    tried: BTreeSet<NodeId>,
}

impl Ask {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            at: now + ASK_DELAY,
            peer: None,
            tried: BTreeSet::new(),
        }
    }
}

impl Groups {
    /// Whom to ask for which groups now: those who attested, are connected, and were not asked yet.
    pub(crate) fn asks(
        &mut self,
        now: Time,
        is_connected: impl Fn(&NodeId) -> bool,
    ) -> Vec<(NodeId, Subject)> {
        let mut open: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (at, subject) in self.asks.iter().filter(|it| now < it.0) {
            let asked = self.items.get(subject).and_then(|it| it.ask.as_ref());
            if let Some(peer) = asked.filter(|it| it.at == *at).and_then(|it| it.peer) {
                *open.entry(peer).or_default() += 1;
            }
        }
        let due: Vec<Subject> = self
            .asks
            .iter()
            .take_while(|it| it.0 <= now)
            .map(|it| it.1)
            .collect();
        let mut asks = Vec::new();
        for subject in due {
            let Some(item) = self.items.get(&subject) else {
                continue;
            };
            let (mut ask, owner) = match &item.ask {
                Some(ask) => (ask.clone(), item.owner),
                None => continue,
            };
            let mut sources = item
                .attests
                .keys()
                .filter(|it| **it != self.node && is_connected(it) && !ask.tried.contains(it))
                .peekable();
            let is_exhausted = sources.peek().is_none();
            let free = sources.find(|it| open.get(it).copied().unwrap_or(0) < ASKS_MAX);
            ask.peer = free.copied();
            ask.at = now + if is_exhausted { ASK_PAUSE } else { ASK_TIMEOUT };
            if is_exhausted {
                ask.tried.clear();
            }
            if let Some(peer) = ask.peer {
                ask.tried.insert(peer);
                *open.entry(peer).or_default() += 1;
                asks.push((peer, subject));
            }
            self.edit(now, subject, owner, |it| it.ask = Some(ask));
        }
        asks
    }
}
