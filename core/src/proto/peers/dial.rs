//! Whom to dial when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::{NodeId, Rng, Time, WallTime};
use crate::proto::peers::address::is_address;
use crate::proto::peers::backoff::{Backoff, DELAY_MAX};
use crate::proto::peers::book::{Book, Source};
use crate::proto::peers::event::{Effect, Input, Seed};
use crate::proto::peers::fetch::Fetches;

/// Dials under way at once; further ones wait.
const DIALS_MAX: usize = 16;

/// How long a dial may take; after that it counts as failed.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that lasted this long was a success: the next dial does not wait.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// Longest wait of an authorized node before it dials another one again, before jitter. Short,
/// because after a partition nothing is decided until a quorum has links; they are few.
const MEMBER_DELAY_MAX: Duration = Duration::from_secs(2);

/// Configured seeds; further ones are ignored.
const SEEDS_MAX: usize = 64;

/// Addresses used of one bootstrap document.
const DOCUMENT_SEEDS_MAX: usize = 64;

/// Remembered addresses whose peer is unknown, from bootstrap documents; at the limit further ones
/// are ignored.
const FOUND_MAX: usize = 256;

/// Back-offs and bans that are remembered; at the limit those that end first are forgotten.
const WAITS_MAX: usize = 4_096;

/// Settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Our identity, never dialled.
    pub node: NodeId,
    /// Where to begin; connections to these are kept up whatever the degree.
    pub seeds: Vec<Seed>,
    /// Where to fetch bootstrap documents.
    pub urls: Vec<String>,
    /// Connections below which remembered peers are dialled.
    pub degree_target: usize,
    /// Connections, dials included, at which only seeds and members are dialled.
    pub degree_max: usize,
    /// Civil time at [`Time::ZERO`]; it dates what goes into the address book.
    pub origin: WallTime,
}

/// What a dial is for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Target {
    Peer(NodeId),
    /// An address whose peer is unknown before the first connection.
    Address(String),
}

#[derive(Debug)]
struct Dial {
    target: Target,
    addresses: Vec<String>,
    deadline: Time,
}

/// Keeps the wanted connections up: to the configured seeds, to all other members if we are one,
/// and to remembered peers until there are enough.
#[derive(Debug)]
pub struct Dialer {
    config: Config,
    rng: Rng,
    book: Book,
    fetches: Fetches,
    /// Addresses of unknown peers from bootstrap documents.
    found: BTreeSet<String>,
    /// Who answered at an address of an unknown peer.
    answered: BTreeMap<String, NodeId>,
    members: BTreeSet<NodeId>,
    links: BTreeMap<NodeId, Time>,
    dials: BTreeMap<u64, Dial>,
    dial_next: u64,
    waits: BTreeMap<Target, Backoff>,
    bans: BTreeMap<NodeId, Time>,
    wake: Option<Time>,
}

impl Dialer {
    /// A dialer that knows what is in `book`. Begins to work with the first [`Dialer::expire`].
    pub fn new(mut config: Config, mut book: Book, seed: u64) -> Self {
        config.seeds.retain(|it| is_address(&it.address));
        config.seeds.truncate(SEEDS_MAX);
        for it in &config.seeds {
            if let Some(peer) = it.peer {
                book.learn(peer, &it.address, Source::Configured, config.origin);
            }
        }
        let fetches = Fetches::new(std::mem::take(&mut config.urls));
        Self {
            config,
            rng: Rng::new(seed),
            book,
            fetches,
            found: BTreeSet::new(),
            answered: BTreeMap::new(),
            members: BTreeSet::new(),
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            dial_next: 0,
            waits: BTreeMap::new(),
            bans: BTreeMap::new(),
            wake: Some(Time::ZERO),
        }
    }

    /// The address book, to be kept over restarts and to be passed on.
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// Applies one input.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Connected { peer, dialled } => self.connected(now, peer, dialled),
            Input::Disconnected { peer, pause } => self.disconnected(now, peer, pause),
            Input::DialFailed { dial } => self.dial_failed(now, dial),
            Input::Fetched { url, seeds } => {
                if self.fetches.fetched(now, &url) {
                    self.found(now, seeds);
                }
            }
            Input::FetchFailed { url } => self.fetches.failed(now, &url, &mut self.rng),
            Input::Learned {
                peer,
                address,
                source,
            } => {
                self.learn(now, peer, &address, source);
            }
            Input::Banned { peer, until } => {
                self.bans.retain(|_, it| now < *it);
                forget_first(&mut self.bans, |it| *it);
                self.bans.insert(peer, until);
            }
            Input::Members { members } => self.members_are(members.into_iter().collect()),
        }
        self.plan(now, out);
    }

    /// When [`Self::expire`] should be called next.
    pub const fn next_deadline(&self) -> Option<Time> {
        self.wake
    }

    /// Gives up on dials that take too long, and dials whom it is time to dial.
    pub fn expire(&mut self, now: Time, out: &mut Vec<Effect>) {
        let over = self.dials.iter().filter(|(_, it)| it.deadline <= now);
        let over: Vec<u64> = over.map(|(dial, _)| *dial).collect();
        for dial in over {
            self.dial_failed(now, dial);
        }
        self.fetches.expire(now, &mut self.rng);
        self.bans.retain(|_, until| now < *until);
        self.plan(now, out);
    }

    fn wall(&self, now: Time) -> WallTime {
        self.config.origin + now.since(Time::ZERO)
    }

    fn learn(&mut self, now: Time, peer: NodeId, address: &str, source: Source) {
        if peer != self.config.node {
            let at = self.wall(now);
            self.book.learn(peer, address, source, at);
        }
    }

    fn found(&mut self, now: Time, seeds: Vec<Seed>) {
        for Seed { peer, address } in seeds.into_iter().take(DOCUMENT_SEEDS_MAX) {
            match peer {
                Some(peer) => self.learn(now, peer, &address, Source::Bootstrap),
                None if is_address(&address) && self.found.len() < FOUND_MAX => {
                    self.found.insert(address);
                }
                None => {}
            }
        }
    }

    fn connected(&mut self, now: Time, peer: NodeId, dialled: Option<(u64, String)>) {
        let dial = dialled.and_then(|(dial, at)| Some((self.dials.remove(&dial)?, at)));
        if let Some((dial, address)) = dial.filter(|(it, at)| it.addresses.contains(at)) {
            if dial.target == Target::Address(address.clone()) {
                self.answered.insert(address.clone(), peer);
                self.learn(now, peer, &address, Source::Bootstrap);
            }
            let at = self.wall(now);
            self.book.succeeded(&peer, &address, at);
        }
        if peer != self.config.node {
            self.links.entry(peer).or_insert(now);
        }
    }

    /// Who was refused for not being authorized is welcome once it is. So are we, at all others.
    fn members_are(&mut self, members: BTreeSet<NodeId>) {
        let own = &self.config.node;
        let are_we_new = members.contains(own) && !self.members.contains(own);
        let is_new = |it: &&NodeId| are_we_new || !self.members.contains(*it);
        for peer in members.iter().filter(is_new) {
            self.waits.remove(&Target::Peer(*peer));
            for (address, _) in self.answered.iter().filter(|it| it.1 == peer) {
                self.waits.remove(&Target::Address(address.clone()));
            }
        }
        self.members = members;
    }

    fn disconnected(&mut self, now: Time, peer: NodeId, pause: Option<Duration>) {
        let Some(since) = self.links.remove(&peer) else {
            return;
        };
        let answered = self.answered.iter().filter(|(_, it)| **it == peer);
        let targets = answered.map(|(address, _)| Target::Address(address.clone()));
        let targets: Vec<Target> = targets.chain([Target::Peer(peer)]).collect();
        let was_stable = STABLE_AFTER <= now.since(since);
        for target in targets {
            let mut wait = self.waits.remove(&target).unwrap_or_default();
            if was_stable {
                wait.succeeded();
            }
            // Also after a stable connection: all its peers come back to a restarted node.
            wait.failed(now, self.delay_max(&target), &mut self.rng);
            wait.pause(pause.map_or(Time::ZERO, |it| now + it));
            self.wait(target, wait);
        }
    }

    fn dial_failed(&mut self, now: Time, dial: u64) {
        let Some(Dial {
            target, addresses, ..
        }) = self.dials.remove(&dial)
        else {
            return;
        };
        if let Target::Peer(peer) = &target {
            let at = self.wall(now);
            for address in &addresses {
                self.book.failed(peer, address, at);
            }
        }
        let mut wait = self.waits.remove(&target).unwrap_or_default();
        wait.failed(now, self.delay_max(&target), &mut self.rng);
        self.wait(target, wait);
    }

    fn delay_max(&self, target: &Target) -> Duration {
        let peer = match target {
            Target::Peer(peer) => Some(peer),
            Target::Address(address) => self.answered.get(address),
        };
        let is_between_members = self.members.contains(&self.config.node)
            && peer.is_some_and(|it| self.members.contains(it));
        if is_between_members {
            MEMBER_DELAY_MAX
        } else {
            DELAY_MAX
        }
    }

    fn wait(&mut self, target: Target, wait: Backoff) {
        forget_first(&mut self.waits, |it| it.not_before());
        self.waits.insert(target, wait);
    }

    fn plan(&mut self, now: Time, out: &mut Vec<Effect>) {
        for target in self.always_wanted() {
            if self.may_dial(&target, now) {
                self.dial(now, target, out);
            }
        }
        if self.wants_more() {
            for target in self.remembered() {
                let degree = self.links.len() + self.dials.len();
                if degree < self.config.degree_target.min(self.config.degree_max)
                    && self.may_dial(&target, now)
                {
                    self.dial(now, target, out);
                }
            }
        }
        if self.wants_more() {
            for url in self.fetches.start(now, self.links.len()) {
                out.push(Effect::FetchBootstrap { url });
            }
        }
        self.wake = self.next_wake(now);
    }

    fn wants_more(&self) -> bool {
        self.links.len() < self.config.degree_target.min(self.config.degree_max)
    }

    /// The members if we are one of them, and the configured seeds.
    fn always_wanted(&self) -> Vec<Target> {
        let is_member = self.members.contains(&self.config.node);
        let members = self.members.iter().filter(|_| is_member);
        let seeds = self.config.seeds.iter().map(|it| match it.peer {
            Some(peer) => Target::Peer(peer),
            None => Target::Address(it.address.clone()),
        });
        members.map(|it| Target::Peer(*it)).chain(seeds).collect()
    }

    /// Whom else we know: peers best first, then addresses of unknown peers.
    fn remembered(&mut self) -> Vec<Target> {
        let peers = self.book.peers(&mut self.rng).into_iter();
        let found = self.found.iter().cloned().map(Target::Address);
        peers.map(Target::Peer).chain(found).collect()
    }

    fn may_dial(&self, target: &Target, now: Time) -> bool {
        self.dials.len() < DIALS_MAX && self.ready_at(target).is_some_and(|it| it <= now)
    }

    /// When the target may be dialled; `None` if it is us, connected, or being dialled.
    fn ready_at(&self, target: &Target) -> Option<Time> {
        let peer = match target {
            Target::Peer(peer) => Some(peer),
            Target::Address(address) => self.answered.get(address),
        };
        let is_taken = |it: &NodeId| {
            let dialled = Target::Peer(*it);
            *it == self.config.node
                || self.links.contains_key(it)
                || self.dials.values().any(|it| it.target == dialled)
        };
        if peer.is_some_and(is_taken) || self.dials.values().any(|it| it.target == *target) {
            return None;
        }
        let ban = peer.and_then(|it| self.bans.get(it)).copied();
        let wait = self.waits.get(target).map(|it| it.not_before());
        Some(ban.max(wait).unwrap_or(Time::ZERO))
    }

    fn dial(&mut self, now: Time, target: Target, out: &mut Vec<Effect>) {
        let (peer, addresses) = match &target {
            Target::Peer(peer) => (Some(*peer), self.book.addresses(peer)),
            Target::Address(address) => (None, vec![address.clone()]),
        };
        if addresses.is_empty() {
            return; // An address of the peer has yet to be learned.
        }
        let dial = self.dial_next;
        self.dial_next = self.dial_next.wrapping_add(1);
        out.push(Effect::Dial {
            dial,
            peer,
            addresses: addresses.clone(),
        });
        let deadline = now + DIAL_TIMEOUT;
        let entry = Dial {
            target,
            addresses,
            deadline,
        };
        self.dials.insert(dial, entry);
    }

    fn next_wake(&mut self, now: Time) -> Option<Time> {
        let mut targets = self.always_wanted();
        if self.wants_more() {
            targets.extend(self.remembered());
        }
        let ready = targets.iter().filter_map(|it| self.ready_at(it));
        // Who is ready by now waits for a dial to end or for an address, not for the time.
        let ready = ready.filter(|it| now < *it).min();
        let dial = self.dials.values().map(|it| it.deadline).min();
        let fetch = self
            .fetches
            .next_deadline(self.links.len(), self.wants_more());
        [ready, dial, fetch].into_iter().flatten().min()
    }
}

/// Makes room for one more entry at the limit.
fn forget_first<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, ends: impl Fn(&V) -> Time) {
    if map.len() < WAITS_MAX {
        return;
    }
    let first = map.iter().min_by_key(|(_, it)| ends(it));
    if let Some(first) = first.map(|(key, _)| key.clone()) {
        map.remove(&first);
    }
}
