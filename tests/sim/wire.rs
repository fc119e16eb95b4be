//! Links between nodes: dialling, sending, breaking.

use std::rc::Rc;
use std::time::Duration;

use crate::kogge::base::{Blake3, NodeId, Time};
use crate::kogge::net::{GossipId, Protocol, Topic};
use crate::kogge::node::flow::Input;
use crate::kogge::proto::heads::Verdict;
use crate::net::{DIAL_TIMEOUT, Parcel, SILENCE_MAX, address, node_at};
use crate::oracle::{describe, describe_gossip};
use crate::plan::name;
use crate::world::{Done, Event, World};

/// A gossiped message that was seen is not seen again for so long; as in the real network.
const SEEN_FOR: Duration = Duration::from_secs(300);

/// A dial under way.
pub(crate) struct Dial {
    peer: Option<NodeId>,
    current: String,
    /// The next one last.
    rest: Vec<String>,
}

impl World {
    pub(crate) fn dial(
        &mut self,
        node: usize,
        dial: u64,
        peer: Option<NodeId>,
        mut addresses: Vec<String>,
    ) {
        addresses.reverse();
        let Some(current) = addresses.pop() else {
            return self.later(node, Input::DialFailed { dial });
        };
        self.say(node, || format!("dials {current}"));
        let target = node_at(&current);
        let way = match target {
            Some(it) if self.net.is_blocked(node, it) || self.net.is_blocked(it, node) => {
                DIAL_TIMEOUT
            }
            Some(it) => self.net.latency(node, it, &mut self.rng) * 3,
            None => DIAL_TIMEOUT,
        };
        let rest = addresses;
        let run = self.nodes[node].run;
        self.nodes[node].dials.insert(
            dial,
            Dial {
                peer,
                current,
                rest,
            },
        );
        self.after(way, Event::Dialled { node, run, dial });
    }

    pub(crate) fn dialled(&mut self, node: usize, run: u32, dial: u64) {
        if self.nodes[node].run != run {
            return;
        }
        let Some(it) = self.nodes[node].dials.get(&dial) else {
            return; // A link led to the peer meanwhile.
        };
        let target = node_at(&it.current).filter(|it| *it < self.nodes.len() && *it != node);
        let target = target.filter(|target| {
            let id = self.nodes[*target].id();
            it.peer.is_none_or(|peer| peer == id)
        });
        if let Some(target) = target
            && let Some(link) = self.net.between(node, target)
            && it.peer.is_some()
            && !self.nodes[node].links.contains_key(&target)
            && self
                .net
                .links
                .get(&link)
                .is_some_and(|it| !it.up[it.side(node)])
        {
            return; // They dialled us at the same time: that link will answer this dial.
        }
        let reached = target.filter(|it| self.can_reach(node, *it));
        match reached {
            Some(target) => {
                let link = self.net.open(node, target, self.now);
                let delay = self.net.latency(node, target, &mut self.rng);
                self.at(self.now, Event::Up { link, side: 0 });
                let arrival = self.now + delay;
                if let Some(it) = self.net.links.get_mut(&link) {
                    it.last = [self.now, arrival];
                }
                self.at(arrival, Event::Up { link, side: 1 });
            }
            None => {
                let Some(mut it) = self.nodes[node].dials.remove(&dial) else {
                    return;
                };
                if it.rest.is_empty() {
                    self.deliver(node, Input::DialFailed { dial });
                } else {
                    it.rest.reverse();
                    self.dial(node, dial, it.peer, it.rest);
                }
            }
        }
    }

    fn can_reach(&self, node: usize, target: usize) -> bool {
        let is_banned = |a: usize, b: usize| {
            self.nodes[a]
                .bans
                .get(&b)
                .is_some_and(|until| self.now < *until)
        };
        self.nodes[target].is_up()
            && !self.net.is_blocked(node, target)
            && !self.net.is_blocked(target, node)
            && !is_banned(node, target)
            && !is_banned(target, node)
            && self.net.between(node, target).is_none()
    }

    pub(crate) fn link_up(&mut self, link: u64, side: usize) {
        let Some(it) = self.net.links.get_mut(&link) else {
            return;
        };
        let (node, peer) = (it.ends[side], it.ends[1 - side]);
        if it.is_dead || !self.nodes[node].is_up() {
            it.is_dead = true;
            return;
        }
        if let Some(older) = self.nodes[node].links.get(&peer).copied() {
            let side = self.net.links.get(&older).map_or(0, |it| it.side(node));
            self.link_down(older, side, "replaced");
        }
        if let Some(it) = self.net.links.get_mut(&link) {
            it.up[side] = true;
        }
        self.nodes[node].links.insert(peer, link);
        let (id, at) = (self.nodes[peer].id(), address(peer));
        let is_outbound = side == 0;
        let dials = &mut self.nodes[node].dials;
        let led = dials
            .iter()
            .find(|(_, it)| is_outbound && it.current == at || it.peer == Some(id))
            .map(|it| *it.0);
        let dialled = led.and_then(|dial| dials.remove(&dial).map(|it| (dial, it.current)));
        self.say(node, || format!("<=> {}", name(peer)));
        self.deliver(node, Input::Connected { peer: id, dialled });
        self.put(node, peer, Parcel::Address);
    }

    /// Both ends lose the link, each within `delay`.
    pub(crate) fn break_link(&mut self, link: u64, delay: Duration) {
        let Some(it) = self.net.links.get_mut(&link) else {
            return;
        };
        it.is_dead = true;
        for side in 0..2 {
            let delay = self.up_to(delay);
            self.after(delay, Event::Down { link, side });
        }
    }

    pub(crate) fn link_down(&mut self, link: u64, side: usize, reason: &str) {
        let Some(it) = self.net.links.get_mut(&link) else {
            return;
        };
        let was_up = std::mem::replace(&mut it.up[side], false);
        let (node, peer) = (it.ends[side], it.ends[1 - side]);
        if it.is_dead && it.up == [false; 2] {
            self.net.links.remove(&link);
        }
        if !was_up {
            return;
        }
        if self.nodes[node].links.get(&peer) == Some(&link) {
            self.nodes[node].links.remove(&peer);
        }
        self.say(node, || format!("<x> {} ({reason})", name(peer)));
        let input = Input::Disconnected {
            peer: self.nodes[peer].id(),
            reason: reason.to_owned(),
        };
        self.deliver(node, input);
    }

    /// Puts something on the link to a peer, if there is one.
    pub(crate) fn put(&mut self, node: usize, peer: usize, parcel: Parcel) {
        let Some(link) = self.nodes[node].links.get(&peer).copied() else {
            return;
        };
        let delay = self.net.latency(node, peer, &mut self.rng);
        let is_lost = self.rng.below(1_000) < self.net.loss;
        let is_blocked = self.net.is_blocked(node, peer);
        let Some(it) = self.net.links.get_mut(&link).filter(|it| !it.is_dead) else {
            return;
        };
        let side = it.side(peer);
        if is_lost {
            return self.break_link(link, Duration::from_secs(1));
        }
        if is_blocked || !it.held[side].is_empty() {
            it.held[side].push(parcel);
            if it.held[side].len() == 1 {
                self.after(SILENCE_MAX, Event::Silent { link, side });
            }
            return;
        }
        let at = (self.now + delay).max(it.last[side] + Duration::from_nanos(1));
        it.last[side] = at;
        self.at(at, Event::Arrives { link, side, parcel });
    }

    pub(crate) fn unblock(&mut self, from: usize, to: usize) {
        self.net.unblock(from, to);
        if self.net.is_blocked(from, to) {
            return;
        }
        let Some(link) = self.net.between(from, to) else {
            return;
        };
        let Some(it) = self.net.links.get_mut(&link) else {
            return;
        };
        let side = it.side(to);
        let held = std::mem::take(&mut it.held[side]);
        for parcel in held {
            self.put(from, to, parcel);
        }
    }

    pub(crate) fn arrives(&mut self, link: u64, side: usize, parcel: Parcel) {
        let Some(it) = self.net.links.get(&link).filter(|it| it.up[side]) else {
            return;
        };
        let (node, peer) = (it.ends[side], it.ends[1 - side]);
        let id = self.nodes[peer].id();
        match parcel {
            Parcel::Frame(protocol, bytes) => {
                self.say(node, || {
                    format!("<== {}: {}", name(peer), describe(protocol, &bytes))
                });
                let bytes = bytes.to_vec();
                self.deliver(
                    node,
                    Input::Frame {
                        peer: id,
                        protocol,
                        bytes,
                    },
                );
            }
            Parcel::Gossip(topic, id, bytes) => self.overheard(node, peer, topic, id, bytes),
            Parcel::Address => {
                let address = address(peer);
                self.deliver(node, Input::Learned { peer: id, address });
            }
            Parcel::Close => {
                if let Some(it) = self.net.links.get_mut(&link) {
                    it.is_dead = true;
                }
                self.link_down(link, side, "closed by the peer");
            }
        }
    }

    /// Closes the link after what was sent before.
    pub(crate) fn close(&mut self, node: usize, peer: usize) {
        let Some(link) = self.nodes[node].links.get(&peer).copied() else {
            return;
        };
        self.put(node, peer, Parcel::Close);
        let side = self.net.links.get(&link).map_or(0, |it| it.side(node));
        self.after(Duration::from_millis(1), Event::Down { link, side });
    }

    /// Closes the link at once.
    pub(crate) fn cut(&mut self, node: usize, peer: usize) {
        if let Some(link) = self.nodes[node].links.get(&peer).copied() {
            self.break_link(link, Duration::from_millis(1));
        }
    }

    /// Passes a message on to all peers but one.
    fn spread(&mut self, node: usize, but: Option<usize>, parcel: &Parcel) {
        let peers: Vec<usize> = self.nodes[node].links.keys().copied().collect();
        for peer in peers.into_iter().filter(|it| Some(*it) != but) {
            self.put(node, peer, parcel.clone());
        }
    }

    /// Whether this is the first time that a node sees a message.
    fn is_new(&mut self, node: usize, id: GossipId) -> bool {
        let now = self.now;
        let seen = &mut self.nodes[node].seen;
        let last = seen.insert(id, now);
        if let Some(last) = last.filter(|it| now.since(*it) < SEEN_FOR) {
            seen.insert(id, last);
            return false;
        }
        true
    }

    pub(crate) fn publish(&mut self, node: usize, topic: Topic, bytes: Vec<u8>) {
        let id = gossip_id(topic, &bytes);
        if self.is_new(node, id) {
            self.say(node, || {
                format!("==> all: {}", describe_gossip(topic, &bytes))
            });
            self.spread(node, None, &Parcel::Gossip(topic, id, bytes.into()));
        }
    }

    fn overheard(&mut self, node: usize, peer: usize, topic: Topic, id: GossipId, bytes: Rc<[u8]>) {
        if !self.is_new(node, id) {
            return;
        }
        self.say(node, || {
            format!("<-- {}: {}", name(peer), describe_gossip(topic, &bytes))
        });
        self.nodes[node].judging.insert(id, (topic, bytes.clone()));
        let (source, bytes) = (self.nodes[peer].id(), bytes.to_vec());
        self.deliver(
            node,
            Input::Gossip {
                topic,
                id,
                source,
                bytes,
            },
        );
    }

    pub(crate) fn verdict(&mut self, node: usize, id: GossipId, source: NodeId, verdict: Verdict) {
        let Some((topic, bytes)) = self.nodes[node].judging.remove(&id) else {
            return;
        };
        let source = self.number(&source);
        match verdict {
            Verdict::Accept => self.spread(node, source, &Parcel::Gossip(topic, id, bytes)),
            Verdict::Ignore => (),
            Verdict::Reject => {
                if let Some(peer) = source.filter(|it| !self.nodes[*it].is_hostile) {
                    let what = describe_gossip(topic, &bytes);
                    let text = format!("rejected gossip of {}: {what}", name(peer));
                    self.fail(node, &text);
                }
            }
        }
    }

    /// Gives the process an input after this event.
    pub(crate) fn later(&mut self, node: usize, input: Input) {
        let run = self.nodes[node].run;
        let done = Done::Input(input);
        self.at(self.now, Event::Done { node, run, done });
    }

    pub(crate) fn send(&mut self, node: usize, peer: usize, protocol: Protocol, bytes: Vec<u8>) {
        self.put(node, peer, Parcel::Frame(protocol, bytes.into()));
    }
}

/// Names a message by its contents, as the real network does.
pub(crate) fn gossip_id(topic: Topic, bytes: &[u8]) -> GossipId {
    let mut named = vec![u8::from(topic == Topic::Head)];
    named.extend_from_slice(bytes);
    GossipId(Blake3::of(&named))
}

/// Since when a node has run.
pub(crate) fn local(booted: Time, now: Time) -> Time {
    Time::ZERO + now.since(booted)
}
