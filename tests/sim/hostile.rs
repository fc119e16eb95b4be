//! A peer that passes the handshake and then sends whatever it likes.

use std::time::Duration;

use crate::kogge::base::{Rng, Sha256, WallTime};
use crate::kogge::net::{Protocol, Topic};
use crate::kogge::node::flow::{Gossip, Input};
use crate::kogge::proto::chain::testing::node_keys;
use crate::kogge::proto::heads::HeadMessage;
use crate::kogge::proto::hello::{Chain as _, Hello, Message, Protocols, Role};
use crate::kogge::proto::log::{Checkpoint, HeadSignature};
use crate::net::Parcel;
use crate::plan::index;
use crate::wire::gossip_id;
use crate::world::{Event, World};

/// Parcels that are kept to be sent again; later ones are forgotten.
const LOOT_MAX: usize = 500;

/// Time between two misdeeds.
const PAUSE_MAX: Duration = Duration::from_millis(400);

impl World {
    /// Adds a hostile peer.
    pub(crate) fn add_hostile(&mut self) -> usize {
        let node = self.add(0);
        self.nodes[node].is_hostile = true;
        self.after(Duration::from_secs(1), Event::Mischief { node });
        node
    }

    /// Something happens to a hostile peer.
    pub(crate) fn tempt(&mut self, node: usize, input: Input) {
        match input {
            Input::Connected { peer, .. } => {
                let Some(peer) = self.number(&peer) else {
                    return;
                };
                let hello = Message::Hello(Box::new(Hello {
                    chain: self.genesis.chain(),
                    protocols: Protocols::OURS,
                    from: self.nodes[node].id(),
                    to: self.nodes[peer].id(),
                    nonce: self.rng.next_u64(),
                    tip: self.nodes[0].vault.tip(),
                    base: 1,
                    role: Role::Full,
                    authorized: true,
                    agent: "kogge/eve".into(),
                    listen: Vec::new(),
                    index_root: None,
                }));
                self.send(node, peer, Protocol::Hello, hello.to_bytes());
            }
            Input::Frame {
                peer,
                protocol,
                bytes,
            } => {
                let Some(peer) = self.number(&peer) else {
                    return;
                };
                if let Ok(Message::Hello(hello)) = Message::from_bytes(&bytes)
                    && protocol == Protocol::Hello
                {
                    let welcome = Message::Welcome { echo: hello.nonce };
                    self.send(node, peer, Protocol::Hello, welcome.to_bytes());
                }
                self.keep(Parcel::Frame(protocol, bytes.into()));
            }
            Input::Gossip {
                topic, id, bytes, ..
            } => {
                self.keep(Parcel::Gossip(topic, id, bytes.into()));
            }
            _ => (),
        }
    }

    fn keep(&mut self, parcel: Parcel) {
        if self.loot.len() < LOOT_MAX {
            self.loot.push(parcel);
        }
    }

    /// A hostile peer does something, and plans the next.
    pub(crate) fn mischief(&mut self, node: usize) {
        let pause = self.up_to(PAUSE_MAX);
        self.after(pause, Event::Mischief { node });
        let peer = index(&mut self.rng, self.plan.nodes());
        if !self.nodes[node].links.contains_key(&peer) {
            self.connect(node, peer);
            return;
        }
        let parcel = match self.rng.below(5) {
            0 => Parcel::Frame(self.any_protocol(), noise(&mut self.rng).into()),
            1 => {
                let topic = *self.rng.pick(&Topic::ALL).unwrap_or(&Topic::Head);
                gossip(topic, noise(&mut self.rng))
            }
            2 => self.forged_head(),
            _ => {
                let Some(parcel) = self.rng.pick(&self.loot).cloned() else {
                    return;
                };
                self.corrupted(parcel)
            }
        };
        self.put(node, peer, parcel);
    }

    fn connect(&mut self, node: usize, peer: usize) {
        let is_banned = self.banned.contains_key(&(peer, node));
        if !is_banned && self.nodes[peer].is_up() && self.net.between(node, peer).is_none() {
            let link = self.net.open(node, peer, self.now);
            self.at(self.now, Event::Up { link, side: 0 });
            self.at(self.now, Event::Up { link, side: 1 });
        }
    }

    fn any_protocol(&mut self) -> Protocol {
        *self.rng.pick(&Protocol::ALL).unwrap_or(&Protocol::Hello)
    }

    /// A signature on a head that nobody has, in the name of a member.
    fn forged_head(&mut self) -> Parcel {
        let member = index(&mut self.rng, self.plan.members);
        let honest = node_keys(u8::try_from(member).unwrap_or(0));
        let forger = node_keys(u8::MAX);
        let head = Checkpoint {
            origin: self.genesis.origin.clone(),
            size: self.oracle.blocks.last().map_or(1, |it| it.size),
            root: Sha256([self.rng.next_u64().to_le_bytes()[0]; 32]),
        };
        let mut signature = HeadSignature::sign(&forger, &head, WallTime::from_millis(1));
        signature.node = honest.id();
        let (topic, bytes) = Gossip::Head(HeadMessage {
            size: head.size,
            root: head.root,
            signature,
        })
        .encode();
        gossip(topic, bytes)
    }

    /// Something that was seen, as it was, with a flipped bit, or on another protocol.
    fn corrupted(&mut self, parcel: Parcel) -> Parcel {
        let mode = self.rng.below(4);
        let mut spoil = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            if mode != 0 && !bytes.is_empty() {
                let at = index(&mut self.rng, bytes.len());
                bytes[at] ^= 1 << self.rng.below(8);
            }
            if mode == 3 {
                bytes.truncate(index(&mut self.rng, bytes.len() + 1));
            }
            bytes
        };
        match parcel {
            Parcel::Frame(protocol, bytes) => {
                let bytes = spoil(&bytes);
                let protocol = if mode == 2 {
                    self.any_protocol()
                } else {
                    protocol
                };
                Parcel::Frame(protocol, bytes.into())
            }
            Parcel::Gossip(topic, _, bytes) => gossip(topic, spoil(&bytes)),
            other => other,
        }
    }
}

fn gossip(topic: Topic, bytes: Vec<u8>) -> Parcel {
    Parcel::Gossip(topic, gossip_id(topic, &bytes), bytes.into())
}

fn noise(rng: &mut Rng) -> Vec<u8> {
    let len = index(rng, 300);
    (0..len).map(|_| rng.next_u64().to_le_bytes()[0]).collect()
}
