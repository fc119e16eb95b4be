//! A connection becomes an admitted peer; what admitted peers say goes to the machine it is for.

use crate::base::{NodeId, Time, WallTime};
use crate::net::Protocol;
use crate::node::event::Event;
use crate::node::flow::engine::{Effect, Engine, Vault};
use crate::proto::build::{self, BuildMessage};
use crate::proto::hello::{self, Reason};
use crate::proto::sync::{self, Answer, GetBlocks, Incoming};

impl<V: Vault> Engine<V> {
    pub(super) fn connected(&mut self, now: Time, wall: WallTime, peer: NodeId, banned: bool) {
        let refuse = banned.then_some(Reason::Banned);
        self.hello(now, wall, hello::Input::Connected { peer, refuse });
    }

    pub(super) fn disconnected(&mut self, now: Time, wall: WallTime, peer: NodeId, reason: String) {
        self.hello(now, wall, hello::Input::Disconnected { peer });
        if self.admitted.remove(&peer).is_some() {
            self.sync(now, wall, sync::Input::Left { peer });
            self.pool_disconnected(now, wall, peer);
            self.out.push(Effect::Event(Event::PeerLost { peer, reason }));
        }
    }

    /// A frame that a connected peer sent.
    pub(super) fn frame(
        &mut self,
        now: Time,
        wall: WallTime,
        peer: NodeId,
        protocol: Protocol,
        bytes: &[u8],
    ) {
        if protocol == Protocol::Hello {
            let input = match hello::Message::from_bytes(bytes) {
                Ok(message) => hello::Input::Received { peer, message },
                Err(_) => hello::Input::Malformed { peer },
            };
            return self.hello(now, wall, input);
        }
        if !self.hello.is_admitted(&peer) {
            return; // Streams race: what comes before the handshake is complete is dropped.
        }
        match protocol {
            Protocol::Hello => (),
            Protocol::Sync => match Incoming::from_bytes(bytes) {
                Ok(Incoming::GetBlocks(request)) => self.serve(peer, request),
                Ok(Incoming::Blocks(run)) => {
                    self.sync(now, wall, sync::Input::Blocks { peer, run });
                }
                Ok(Incoming::NotAvailable(answer)) => {
                    self.sync(now, wall, sync::Input::NotAvailable { peer, answer });
                }
                Err(_) => self.sync(now, wall, sync::Input::Malformed { peer }),
            },
            Protocol::Consensus => self.agreement_message(now, wall, peer, bytes),
            Protocol::Build => match BuildMessage::from_bytes(bytes) {
                Ok(message) => {
                    let input = build::Input::Received { from: peer, message };
                    self.builds(now, wall, input);
                }
                Err(error) => self.fault(peer, format!("build message: {error}")),
            },
            Protocol::Pool => self.pool_message(now, wall, peer, bytes),
            // Reserved; a peer may speak it already.
            Protocol::Peers => (),
        }
    }

    pub(super) fn hello(&mut self, now: Time, wall: WallTime, input: hello::Input) {
        let mut effects = Vec::new();
        self.hello.handle(&self.vault, now, input, &mut effects);
        self.hello_effects(now, wall, effects);
    }

    pub(super) fn hello_effects(&mut self, now: Time, wall: WallTime, effects: Vec<hello::Effect>) {
        for effect in effects {
            match effect {
                hello::Effect::Send { peer, message } => {
                    self.send(peer, Protocol::Hello, message.to_bytes());
                }
                hello::Effect::Admit { peer, hello, .. } => self.admit(now, wall, peer, *hello),
                hello::Effect::Advanced { peer, tip } => {
                    if let Some(known) = self.admitted.get_mut(&peer) {
                        known.height = tip.height;
                    }
                    let height = tip.height;
                    self.sync(now, wall, sync::Input::Tip { peer, height });
                }
                hello::Effect::Reject { peer, rejection } => {
                    self.admitted.remove(&peer);
                    self.sync(now, wall, sync::Input::Left { peer });
                    self.out.push(Effect::Refuse { peer, rejection });
                }
            }
        }
    }

    fn admit(&mut self, now: Time, wall: WallTime, peer: NodeId, hello: hello::Hello) {
        let (base, tip) = (hello.base, hello.tip.height);
        self.admitted.insert(peer, Admitted { height: tip });
        self.out.push(Effect::Admitted { peer, hello: Box::new(hello) });
        self.out.push(Effect::Event(Event::PeerAdmitted { peer }));
        self.sync(now, wall, sync::Input::Joined { peer, base, tip });
        self.builds(now, wall, build::Input::Connected(peer));
        self.pool_connected(now, wall, peer);
        self.agreement_connected(now, peer);
    }

    /// Answers a request for blocks from what is durable.
    fn serve(&mut self, peer: NodeId, request: GetBlocks) {
        let tip = hello::Chain::tip(&self.vault).height;
        let mut answer = Answer::new(request, hello::Chain::base(&self.vault), tip);
        while let Some(height) = answer.next() {
            let Some(block) = self.vault.encoded(height) else {
                break;
            };
            if !answer.push(block) {
                break;
            }
        }
        self.send(peer, Protocol::Sync, answer.finish().to_bytes());
    }

    /// A provable fault: the peer is banned.
    pub(super) fn fault(&mut self, peer: NodeId, reason: String) {
        self.out.push(Effect::Event(Event::Fault { peer, reason: reason.clone() }));
        self.out.push(Effect::Ban { peer, reason });
    }

    pub(super) fn send(&mut self, peer: NodeId, protocol: Protocol, bytes: Vec<u8>) {
        self.out.push(Effect::Send { peer, protocol, bytes });
    }
}

/// What is remembered of an admitted peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    /// Its last announced height.
    pub(super) height: u64,
}
