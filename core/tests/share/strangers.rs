//! Whoever says the wrong thing first is told why, and is neither asked nor sent anything.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use async_channel::Receiver;
use kogge::base::{BlockId, PublicKey, SecretKey};
use kogge::net::{self, Net, NetEvent, NetHandle, Protocol};
use kogge::node::executor::Threads;
use kogge::proto::hello::{Hello, Message, Protocols, Reason, Role, Tip};
use kogge::{Genesis, Node, NodeId};

use crate::bed::{ALICE, Bed, stop, until, within};

/// A node that says whatever it is told to.
struct Stranger {
    id: NodeId,
    net: NetHandle,
    events: Receiver<NetEvent>,
    threads: Threads,
}

impl Stranger {
    fn new(genesis: &Genesis, seed: u8) -> Self {
        let key = SecretKey::from_seed([seed; 32]);
        let (threads, tasks) = Threads::start(1).unwrap();
        let mut config = net::Config::new(genesis.chain(), u64::from(seed));
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let (net, events) = Net::start(config, &key, tasks.net()).unwrap();
        Self {
            id: key.public(),
            net,
            events,
            threads,
        }
    }

    async fn event(&self) -> NetEvent {
        within("something happens to a stranger", self.events.recv())
            .await
            .unwrap()
    }

    async fn address(&self) -> String {
        loop {
            if let NetEvent::Listening { address } = self.event().await {
                return address.to_string();
            }
        }
    }

    /// Waits for a link, and for the other side's hello.
    async fn greeted(&self) -> (NodeId, Hello) {
        loop {
            if let NetEvent::Frame {
                peer,
                protocol: Protocol::Hello,
                bytes,
            } = self.event().await
            {
                match Message::from_bytes(&bytes).unwrap() {
                    Message::Hello(hello) => return (peer, *hello),
                    other => panic!("want a hello: {other:?}"),
                }
            }
        }
    }

    async fn dial(&self, address: &str) -> (NodeId, Hello) {
        self.net.dial(address.parse().unwrap(), None).unwrap();
        self.greeted().await
    }

    fn say(&self, to: NodeId, message: &Message) {
        let _ = self.net.send(to, Protocol::Hello, message.to_bytes());
    }

    /// All that is heard until the link ends, which is about the hello alone.
    async fn heard(&self) -> Vec<Message> {
        let mut heard = Vec::new();
        loop {
            match self.event().await {
                NetEvent::Frame {
                    protocol: Protocol::Hello,
                    bytes,
                    ..
                } => heard.push(Message::from_bytes(&bytes).unwrap()),
                NetEvent::Disconnected { .. } => return heard,
                it @ (NetEvent::Frame { .. } | NetEvent::Inbound { .. }) => {
                    panic!("not for strangers: {it:?}")
                }
                // Among them gossip, which the network passes on along every link.
                _ => (),
            }
        }
    }

    async fn disconnected(&self) {
        while !matches!(self.event().await, NetEvent::Disconnected { .. }) {}
    }

    async fn stop(self) {
        self.net.shutdown().await;
        self.threads.stop();
    }
}

/// What an honest node would answer to `theirs`.
fn answer(from: NodeId, to: NodeId, theirs: &Hello) -> Hello {
    Hello {
        from,
        to,
        nonce: theirs.nonce ^ 0x55,
        agent: "eve/1".into(),
        listen: Vec::new(),
        ..theirs.clone()
    }
}

/// What `node` says of a peer that it turned away.
async fn refused(node: &Node, id: NodeId, reason: Reason) {
    let text = format!("refused: {reason}");
    let is_told = || {
        let peers = node.peers();
        let it = peers.into_iter().find(|it| it.node == id)?;
        (it.state == "refused" && it.reason.as_ref() == Some(&text)).then_some(())
    };
    until(node, &text, is_told).await;
}

/// A node with a block.
async fn alice(bed: &Bed) -> Node {
    let alice = bed.start(ALICE, &[]).await;
    bed.build(&alice, "lib", &[(".jar", 1_000)]).await;
    alice
}

#[test]
fn each_wrong_hello_is_answered_with_its_reason_and_the_end() {
    type Spoil = fn(&mut Hello);
    let cases: &[(Spoil, Reason)] = &[
        (|it| it.chain.0[0] ^= 1, Reason::OtherChain),
        (
            |it| it.protocols = Protocols { min: 2, max: 9 },
            Reason::Version { min: 1, max: 1 },
        ),
        (|it| it.from = it.to, Reason::SelfDial),
        (|it| it.from = PublicKey([9; 32]), Reason::NotFresh),
        (|it| it.to = it.from, Reason::NotFresh),
        (|it| it.agent = "x".repeat(129), Reason::Malformed),
        (|it| it.listen = vec!["x".repeat(257)], Reason::Malformed),
        (|it| it.listen = vec!["x".into(); 17], Reason::Malformed),
        (|it| it.agent = "x".repeat(8_192), Reason::Malformed),
        (
            |it| it.tip.id = BlockId([9; 32]),
            Reason::Forked { height: 1 },
        ),
    ];
    async_io::block_on(async {
        let bed = Bed::new();
        let alice = alice(&bed).await;
        assert_eq!(alice.status().log.height, 1);
        for (seed, (spoil, reason)) in (1..).zip(cases) {
            let eve = Stranger::new(&bed.genesis, seed);
            let (peer, theirs) = eve.dial(&bed.address(ALICE)).await;
            let mut hello = answer(eve.id, peer, &theirs);
            spoil(&mut hello);
            eve.say(peer, &Message::Hello(Box::new(hello)));
            assert_eq!(eve.heard().await, [Message::Refused(*reason)]);
            refused(&alice, eve.id, *reason).await;
            eve.stop().await;
        }
        assert_eq!(alice.status().peers, 0);
        assert_eq!(alice.status().log.height, 1);
        stop(alice).await;
    });
}

#[test]
fn a_hello_is_good_once() {
    async_io::block_on(async {
        let bed = Bed::new();
        let alice = alice(&bed).await;
        let eve = Stranger::new(&bed.genesis, 1);
        let (peer, theirs) = eve.dial(&bed.address(ALICE)).await;
        let hello = Message::Hello(Box::new(answer(eve.id, peer, &theirs)));
        eve.say(peer, &hello);
        let welcome = Message::Welcome { echo: theirs.nonce };
        eve.say(peer, &welcome);
        crate::bed::admitted(&alice, 1).await;
        eve.net.disconnect(peer).unwrap();
        eve.disconnected().await;

        let (_, theirs) = eve.dial(&bed.address(ALICE)).await;
        eve.say(peer, &hello);
        let again = Message::Welcome { echo: theirs.nonce };
        eve.say(peer, &again);
        assert_eq!(eve.heard().await, [Message::Refused(Reason::NotFresh)]);
        refused(&alice, eve.id, Reason::NotFresh).await;
        eve.stop().await;
        stop(alice).await;
    });
}

#[test]
fn a_tip_that_cannot_be_compared_is_tolerated() {
    async_io::block_on(async {
        let bed = Bed::new();
        let alice = alice(&bed).await;
        for (seed, height) in [(1, 0), (2, 5)] {
            let eve = Stranger::new(&bed.genesis, seed);
            let (peer, theirs) = eve.dial(&bed.address(ALICE)).await;
            let mut hello = answer(eve.id, peer, &theirs);
            let id = BlockId([if height == 0 { 0 } else { 9 }; 32]);
            (hello.tip, hello.role) = (Tip { height, id }, Role::Full);
            eve.say(peer, &Message::Hello(Box::new(hello)));
            eve.say(peer, &Message::Welcome { echo: theirs.nonce });
            let is_admitted = || {
                let peers = alice.peers();
                let it = peers.into_iter().find(|it| it.node == eve.id)?;
                (it.state == "admitted").then_some(())
            };
            until(&alice, "eve is admitted", is_admitted).await;
            eve.stop().await;
        }
        stop(alice).await;
    });
}

#[test]
fn a_peer_of_another_history_is_dialled_once_and_asked_for_nothing() {
    async_io::block_on(async {
        let bed = Bed::new();
        let alice = alice(&bed).await;
        let home = bed.config(ALICE, &[]);
        stop(alice).await;

        // Bob's other peer ends every connection: how often that one is dialled is his clock.
        let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let clock = format!("/ip4/127.0.0.1/tcp/{}", dead.local_addr().unwrap().port());
        dead.set_nonblocking(true).unwrap();
        let eve = Stranger::new(&bed.genesis, 1);
        let mut config = home;
        config.peers = vec![eve.address().await, clock];
        let alice = Node::start(config, bed.network()).await.unwrap();
        let (peer, theirs) = eve.greeted().await;
        assert_eq!(peer, alice.id());
        let mut hello = answer(eve.id, peer, &theirs);
        hello.tip.id = BlockId([9; 32]);
        eve.say(peer, &Message::Hello(Box::new(hello)));
        let forked = Reason::Forked { height: 1 };
        assert_eq!(eve.heard().await, [Message::Refused(forked)]);
        refused(&alice, eve.id, forked).await;

        let mut dials = 0;
        crate::child::eventually("four dials elsewhere", || {
            match dead.accept() {
                Ok(_) => dials += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            (dials == 4).then_some(())
        })
        .await;
        while let Ok(event) = eve.events.try_recv() {
            let is_dialled =
                matches!(event, NetEvent::Connected { is_outbound, .. } if !is_outbound);
            assert!(!is_dialled, "{event:?}");
        }
        eve.stop().await;
        stop(alice).await;
    });
}
