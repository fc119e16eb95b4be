//! A connection becomes an admitted peer; what admitted peers say goes to the machine it is for.

use crate::base::{NodeId, Time, WallTime};
use crate::net::Protocol;
use crate::node::event::Event;
use crate::node::flow::engine::Engine;
use crate::node::flow::interface::{Effect, Vault};
use crate::proto::build;
use crate::proto::chain::MemberSet;
use crate::proto::heads;
use crate::proto::hello::{self, Reason};
use crate::proto::peers;
use crate::proto::sync::{self, Answer, GetBlocks, Incoming};

impl<V: Vault> Engine<V> {
    pub(super) fn connected(
        &mut self,
        now: Time,
        wall: WallTime,
        peer: NodeId,
        dialled: Option<(u64, String)>,
    ) {
        self.dial(now, peers::Input::Connected { peer, dialled });
        let is_welcome = self.admits(&peer);
        let banned = self.scores.ban(now, &peer).map(|_| Reason::Banned);
        let refuse = banned.or((!is_welcome).then_some(Reason::NotAuthorized));
        self.hello(now, wall, hello::Input::Connected { peer, refuse });
    }

    pub(super) fn disconnected(&mut self, now: Time, wall: WallTime, peer: NodeId, reason: String) {
        let pause = self.pauses.remove(&peer);
        self.dial(now, peers::Input::Disconnected { peer, pause });
        self.hello(now, wall, hello::Input::Disconnected { peer });
        if self.admitted.remove(&peer).is_some() {
            self.left(now, wall, peer);
            self.out
                .push(Effect::Event(Event::PeerLost { peer, reason }));
        }
    }

    pub(super) fn dial(&mut self, now: Time, input: peers::Input) {
        let mut effects = Vec::new();
        self.dialer.handle(now, input, &mut effects);
        self.dial_effects(effects);
    }

    pub(super) fn dial_effects(&mut self, effects: Vec<peers::Effect>) {
        self.out.extend(effects.into_iter().map(|it| match it {
            peers::Effect::Dial {
                dial,
                peer,
                addresses,
            } => Effect::Dial {
                dial,
                peer,
                addresses,
            },
            peers::Effect::FetchBootstrap { url } => Effect::FetchBootstrap { url },
        }));
    }

    /// Authorized nodes keep links to all others.
    pub(super) fn dial_members(&mut self, now: Time, members: &MemberSet) {
        let members = members.iter().map(|it| it.node).collect();
        self.dial(now, peers::Input::Members { members });
    }

    /// Whether a peer may take part in the network with this node.
    pub fn admits(&self, peer: &NodeId) -> bool {
        self.admit.admits(peer, self.chain.members())
    }

    /// A closed node parts from those that are authorized no longer.
    pub(super) fn part_from_strangers(&mut self, now: Time, wall: WallTime) {
        let admitted = self.admitted.keys().copied();
        let strangers: Vec<NodeId> = admitted.filter(|it| !self.admits(it)).collect();
        let reason = Reason::NotAuthorized;
        for peer in strangers {
            self.hello(now, wall, hello::Input::Unwanted { peer, reason });
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
        // Streams race: the peer may have admitted us before its welcome reached us, and its
        // first request must not be lost.
        if !self.hello.is_admitted(&peer) {
            if protocol == Protocol::Sync
                && self.hello.is_accepted(&peer)
                && let Ok(Incoming::GetBlocks(request)) = Incoming::from_bytes(bytes)
            {
                self.serve(peer, request);
            }
            return;
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
            Protocol::Build => self.build_message(now, wall, peer, bytes),
            Protocol::Pool => self.pool_message(now, wall, peer, bytes),
            Protocol::Heads => self.heads_message(now, peer, bytes),
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
                    if self.admitted.remove(&peer).is_some() {
                        self.left(now, wall, peer);
                    }
                    if let Some(pause) = rejection.reason.pause() {
                        self.pauses.insert(peer, pause);
                    }
                    self.out.push(Effect::Refuse { peer, rejection });
                }
            }
        }
    }

    fn admit(&mut self, now: Time, wall: WallTime, peer: NodeId, hello: hello::Hello) {
        // The members may have changed while the handshake was under way.
        if !self.admits(&peer) {
            let reason = Reason::NotAuthorized;
            return self.hello(now, wall, hello::Input::Unwanted { peer, reason });
        }
        let (base, tip) = (hello.base, hello.tip.height);
        self.admitted.insert(peer, Admitted { height: tip });
        self.out.push(Effect::Admitted {
            peer,
            hello: Box::new(hello),
        });
        self.out.push(Effect::Event(Event::PeerAdmitted { peer }));
        self.sync(now, wall, sync::Input::Joined { peer, base, tip });
        self.builds(now, wall, build::Input::Connected(peer));
        self.pool_connected(now, wall, peer);
        self.agreement_connected(peer);
        self.heads(now, heads::Input::Joined(peer));
    }

    /// An admitted peer is one no longer.
    fn left(&mut self, now: Time, wall: WallTime, peer: NodeId) {
        self.sync(now, wall, sync::Input::Left { peer });
        self.builds(now, wall, build::Input::Disconnected(peer));
        self.pool_disconnected(now, wall, peer);
        self.heads(now, heads::Input::Left(peer));
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
    pub(super) fn fault(&mut self, now: Time, peer: NodeId, reason: String) {
        let until = self.scores.fault(now, peer, &reason).until;
        self.dial(now, peers::Input::Banned { peer, until });
        self.out.push(Effect::Event(Event::Fault {
            peer,
            reason: reason.clone(),
        }));
        self.out.push(Effect::Ban {
            peer,
            reason,
            time: until.since(now),
        });
    }

    pub(super) fn send(&mut self, peer: NodeId, protocol: Protocol, bytes: Vec<u8>) {
        self.out.push(Effect::Send {
            peer,
            protocol,
            bytes,
        });
    }
}

/// What is remembered of an admitted peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    /// Its last announced height.
    pub(super) height: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BlockId, Subject};
    use crate::node::admit::Admit;
    use crate::node::flow::interface::{Input, Setup};
    use crate::proto::chain::rules::{Binding, Ledger};
    use crate::proto::chain::testing::{
        GENESIS_TIME, MemoryChain, MemoryLedger, certificate, genesis, node_keys, remove_node,
    };
    use crate::proto::hello::{Hello, Message, Protocols, Role, Tip};
    use crate::proto::peers::Book;
    use crate::proto::sync::SyncBlock;

    /// What is durable: nothing yet.
    struct Empty(MemoryLedger);

    impl Ledger for Empty {
        fn package(&self, purl: &str) -> Option<Subject> {
            self.0.package(purl)
        }

        fn tag(&self, registry: &str, repository: &str, tag: &str) -> Option<Binding> {
            self.0.tag(registry, repository, tag)
        }

        fn artifact_exists(&self, index: u64) -> bool {
            self.0.artifact_exists(index)
        }

        fn block(&self, height: u64) -> Option<BlockId> {
            self.0.block(height)
        }
    }

    impl hello::Chain for Empty {
        fn tip(&self) -> Tip {
            let (height, id) = (0, BlockId([0; 32]));
            Tip { height, id }
        }

        fn id_at(&self, height: u64) -> Option<BlockId> {
            (height == 0).then_some(BlockId([0; 32]))
        }

        fn base(&self) -> u64 {
            1
        }
    }

    impl Vault for Empty {
        fn encoded(&self, _: u64) -> Option<SyncBlock> {
            None
        }

        fn package_index(&self, _: &str) -> Option<u64> {
            None
        }

        fn tag_index(&self, _: &str, _: &str, _: &str) -> Option<u64> {
            None
        }

        fn take_failure(&self) -> Option<String> {
            None
        }
    }

    /// A closed node with the key `number` in a network with so many members.
    fn closed(number: u8, members: u8) -> Engine<Empty> {
        let setup = Setup {
            keys: node_keys(number),
            genesis: genesis(members),
            state: MemoryChain::new(members).state,
            wal: Vec::new(),
            builds: Vec::new(),
            changes: Vec::new(),
            seeds: Vec::new(),
            bootstrap_urls: Vec::new(),
            admit: Admit::Listed([node_keys(200).id()].into()),
            book: Book::default(),
            agent: "test".into(),
            builds_max: 1,
            seed: 1,
        };
        Engine::new(
            setup,
            Empty(MemoryLedger::default()),
            Time::ZERO,
            GENESIS_TIME,
        )
    }

    fn handle(engine: &mut Engine<Empty>, input: Input) -> Vec<Effect> {
        engine.handle(Time::ZERO, GENESIS_TIME, input);
        engine.take()
    }

    #[test]
    fn a_handshake_does_not_outlive_the_membership_that_let_it_begin() {
        let mut alice = closed(0, 4);
        let (peer, bob) = (node_keys(1).id(), node_keys(1));
        let dialled = None;
        let sent = handle(&mut alice, Input::Connected { peer, dialled });
        let nonce = sent.iter().find_map(|it| match it {
            Effect::Send { bytes, .. } => match Message::from_bytes(bytes) {
                Ok(Message::Hello(hello)) => Some(hello.nonce),
                _ => None,
            },
            _ => None,
        });
        let hello = Hello {
            chain: genesis(4).chain(),
            protocols: Protocols::OURS,
            from: bob.id(),
            to: node_keys(0).id(),
            nonce: 7,
            tip: hello::Chain::tip(&alice.vault),
            base: 1,
            role: Role::Full,
            authorized: true,
            agent: "test".into(),
            listen: Vec::new(),
            index_root: None,
        };
        let frame = |message: Message| Input::Frame {
            peer,
            protocol: Protocol::Hello,
            bytes: message.to_bytes(),
        };
        handle(&mut alice, frame(Message::Hello(Box::new(hello))));
        let mut chain = MemoryChain::new(4);
        let others = [0, 2, 3].map(node_keys);
        let group = remove_node(chain.state.chain(), 1, &others);
        let block = chain.build([group]).unwrap();
        let certificate = certificate(chain.state.chain(), &block, &others);
        let checked = chain.append(&block).unwrap();
        alice.apply(Time::ZERO, GENESIS_TIME, checked, certificate);
        alice.take();
        let echo = nonce.unwrap();
        let effects = handle(&mut alice, frame(Message::Welcome { echo }));
        let is_admitted = |it: &Effect| matches!(it, Effect::Admitted { .. });
        assert!(!effects.iter().any(is_admitted), "{effects:?}");
        let is_refused = |it: &Effect| {
            matches!(it, Effect::Refuse { peer: it, rejection }
                if *it == peer && rejection.reason == Reason::NotAuthorized)
        };
        assert!(effects.iter().any(is_refused), "{effects:?}");
        assert_eq!(alice.snapshot(Time::ZERO).admitted, []);
    }

    #[test]
    fn a_closed_node_admits_members_and_listed_ones() {
        let alice = closed(0, 4);
        let peers = [1, 3, 4, 200].map(|it| alice.admits(&node_keys(it).id()));
        assert_eq!(peers, [true, true, false, true]);
    }

    #[test]
    fn an_authorized_node_dials_all_others_and_a_regular_one_a_few() {
        for (number, expected) in [(0, 15), (99, 8)] {
            let mut alice = closed(number, 16);
            let mut dialled = std::collections::BTreeSet::new();
            for other in 0..16 {
                let peer = node_keys(other).id();
                let address = format!("/ip4/192.0.2.{other}/tcp/1");
                for effect in handle(&mut alice, Input::Learned { peer, address }) {
                    if let Effect::Dial { peer, .. } = effect {
                        dialled.insert(peer);
                    }
                }
            }
            assert_eq!(dialled.len(), expected);
        }
    }
}
