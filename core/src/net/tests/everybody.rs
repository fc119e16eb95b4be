//! What reaches nodes that are not linked: gossip and provider records.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_io::Timer;
use futures::FutureExt;
use futures_lite::future;

use crate::base::{ChainId, NodeId, Rng, SecretKey, WallTime};
use crate::net::tests::bed::{Bed, Node, within};
use crate::net::{
    CommandError, GossipId, MemoryProviders, NetEvent, Provider, ProviderStore, Topic,
};
use crate::proto::heads::Verdict;
use crate::proto::holders::score;
use crate::proto::holders::standing::HOLDERS_MAX;

/// The message that starts with `word`: its id, who passed it on, who wrote it.
fn heard(node: &Node, word: &str) -> (GossipId, NodeId, NodeId) {
    node.expect(word, |it| match it {
        NetEvent::Gossip {
            id,
            source,
            author,
            ref bytes,
            ..
        } if bytes.starts_with(word.as_bytes()) => Ok((id, source, author)),
        other => Err(other),
    })
}

/// Publishes until `to` hears of it: it takes a moment until `from` knows of the subscription.
fn acquaint(from: &Node, to: &Node) {
    for number in 0.. {
        let bytes = format!("hello {number}").into_bytes();
        from.handle.publish(Topic::Pool, bytes).unwrap();
        let wait = to.events.recv().map(|it| Some(it.unwrap()));
        let late = Timer::after(Duration::from_millis(100)).map(|_| None);
        let event = within("gossip", future::or(wait, late));
        if let Some(NetEvent::Gossip { .. }) = event {
            return;
        }
    }
}

#[test]
fn gossip_goes_two_hops_only_after_it_was_accepted() {
    let bed = Bed::new();
    let (alice, bob, carol) = (bed.node(1), bed.node(2), bed.node(3));
    alice.join(&bob);
    carol
        .handle
        .dial(bob_address(&alice, &bob), Some(bob.id))
        .unwrap();
    carol.connected(&bob);
    acquaint(&bob, &alice);
    acquaint(&alice, &bob);
    acquaint(&bob, &carol);
    for (word, verdict) in [
        ("reject", Verdict::Reject),
        ("ignore", Verdict::Ignore),
        ("accept", Verdict::Accept),
    ] {
        alice.handle.publish(Topic::Pool, word.into()).unwrap();
        let (id, source, author) = heard(&bob, word);
        assert_eq!((source, author), (alice.id, alice.id));
        bob.handle.validate(id, source, verdict).unwrap();
    }
    let (_, source, author) = heard(&carol, "accept");
    assert_eq!((source, author), (bob.id, alice.id));
    let is_other = |it: &NetEvent| match it {
        NetEvent::Gossip { bytes, .. } => !bytes.starts_with(b"hello"),
        _ => false,
    };
    assert!(!carol.has_passed(is_other));
}

/// Where Bob, who was dialed by Alice, can be dialed.
fn bob_address(alice: &Node, bob: &Node) -> libp2p::Multiaddr {
    alice.expect("Bob's address", |it| match it {
        NetEvent::Identified {
            peer, ref listens, ..
        } if peer == bob.id => Ok(listens[0].clone()),
        other => Err(other),
    })
}

#[test]
fn gossip_without_listeners_or_above_its_limit() {
    let bed = Bed::new();
    let alice = bed.node(1);
    for topic in Topic::ALL {
        let bytes_max = topic.bytes_max();
        assert_eq!(alice.handle.publish(topic, vec![0; bytes_max]), Ok(()));
        assert_eq!(
            alice.handle.publish(topic, vec![0; bytes_max + 1]),
            Err(CommandError::TooLong {
                bytes: bytes_max + 1,
                bytes_max
            })
        );
    }
}

#[test]
fn the_longest_gossip_arrives() {
    let bed = Bed::new();
    let (alice, bob) = (bed.node(1), bed.node(2));
    alice.join(&bob);
    acquaint(&alice, &bob);
    for (topic, letter) in [(Topic::Pool, b'p'), (Topic::Head, b'h')] {
        let bytes = vec![letter; topic.bytes_max()];
        alice.handle.publish(topic, bytes.clone()).unwrap();
        let got = bob.expect("gossip", |it| match it {
            NetEvent::Gossip {
                topic: it, bytes, ..
            } if it == topic && bytes[0] == letter => Ok(bytes),
            other => Err(other),
        });
        assert_eq!(got.into_vec(), bytes);
    }
}

#[test]
fn gossip_of_another_network_is_not_heard() {
    let bed = Bed::new();
    let (alice, bob) = (bed.node(1), bed.node(2));
    let eve = bed.node_with(3, |it| it.chain = ChainId([8; 32]));
    alice.join(&bob);
    eve.handle.dial(bob_address(&alice, &bob), None).unwrap();
    eve.connected(&bob);
    acquaint(&alice, &bob);
    eve.handle.publish(Topic::Pool, b"foreign".into()).unwrap();
    alice.handle.publish(Topic::Pool, b"own".into()).unwrap();
    heard(&bob, "own");
    assert!(
        !bob.has_passed(|it| matches!(it, NetEvent::Gossip { source, .. } if *source == eve.id))
    );
}

#[test]
fn a_holder_is_found_through_a_third_node_and_can_be_dialed() {
    let bed = Bed::new();
    let (alice, bob, carol) = (bed.node(1), bed.node(2), bed.node(3));
    // Provided before there is anybody to tell.
    alice.handle.provide(b"cargo").unwrap();
    alice.handle.provide(b"wool").unwrap();
    alice.join(&bob);
    let to_bob = bob_address(&alice, &bob);
    carol.handle.dial(to_bob, Some(bob.id)).unwrap();
    carol.connected(&bob);
    bob_address(&carol, &bob);
    let search = |key: &[u8]| {
        let query = carol.handle.providers(key).unwrap();
        let mut found = Vec::new();
        loop {
            let is_over = carol.expect("holders", |it| match it {
                NetEvent::Providers {
                    query: it,
                    providers,
                    is_last,
                } if it == query => {
                    found.extend(providers);
                    Ok(is_last)
                }
                other => Err(other),
            });
            if is_over {
                return found;
            }
        }
    };
    // Telling takes a moment.
    for key in [&b"cargo"[..], b"wool"] {
        within("the record", async { while search(key) != [alice.id] {} });
    }
    assert_eq!(search(b"nothing"), []);
    carol.handle.dial_peer(alice.id).unwrap();
    carol.connected(&alice);
}

/// A key and a holder.
type Told = (Vec<u8>, NodeId);

/// Provider records of several servers, who hold the same, that a test can look at.
#[derive(Clone, Default)]
struct Watched {
    records: Arc<Mutex<MemoryProviders>>,
    /// Every key and holder that a server was told, whether it kept the record or not.
    told: Arc<Mutex<BTreeSet<Told>>>,
}

impl Watched {
    fn is_told(&self, key: &[u8], node: NodeId) -> bool {
        self.told.lock().unwrap().contains(&(key.to_vec(), node))
    }
}

impl ProviderStore for Watched {
    fn add(&mut self, key: &[u8], provider: Provider, now: WallTime) -> bool {
        let told = (key.to_vec(), provider.node);
        self.told.lock().unwrap().insert(told);
        self.records.lock().unwrap().add(key, provider, now)
    }

    fn providers(
        &self,
        key: &[u8],
        now: WallTime,
        count_max: usize,
        rng: &mut Rng,
    ) -> Vec<Provider> {
        let records = self.records.lock().unwrap();
        records.providers(key, now, count_max, rng)
    }

    fn remove(&mut self, key: &[u8], node: &NodeId) {
        self.records.lock().unwrap().remove(key, node);
    }
}

#[test]
fn a_holder_announces_itself_unless_many_others_come_before_it() {
    let bed = Bed::new();
    let (alice, watched) = (bed.node(1), Watched::default());
    let servers =
        [2, 3, 4, 5].map(|seed| bed.node_with(seed, |it| it.providers = Box::new(watched.clone())));
    let others: Vec<_> = (1..=255)
        .map(|it| SecretKey::from_seed([it; 32]).public())
        .filter(|it| *it != alice.id)
        .collect();
    // Under the first key alice would be one of many, under the second she comes first.
    let mut mirror = watched.clone();
    let mut crowd = |key: &[u8], is_before: &dyn Fn(u64) -> bool| {
        let nodes = others.iter().filter(|it| is_before(score(key, it)));
        for node in nodes.copied() {
            // Kademlia keeps quiet about holders without addresses. Nobody answers at this one.
            let addresses = vec!["/memory/1".parse().unwrap()];
            let expires = WallTime::from_millis(u64::MAX);
            let record = Provider {
                node,
                addresses,
                expires,
            };
            mirror.add(key, record, WallTime::default());
        }
        let (now, rng) = (WallTime::default(), &mut Rng::new(1));
        watched.providers(key, now, usize::MAX, rng).len()
    };
    let keys = || (0_u32..).map(u32::to_be_bytes);
    let own = |key: &[u8]| score(key, &alice.id);
    let late = keys().find(|it| u64::MAX / 4 * 3 < own(it)).unwrap();
    let early = keys().find(|it| own(it) < u64::MAX / 4).unwrap();
    assert_eq!(crowd(&late, &|it| it < own(&late)), HOLDERS_MAX);
    assert_eq!(crowd(&early, &|it| own(&early) < it), HOLDERS_MAX);

    // Who knows a server alone announces itself, so alice knows all of them first.
    for server in &servers {
        alice.join(server);
        bob_address(&alice, server);
    }
    alice.handle.provide(&late).unwrap();
    alice.handle.provide(&early).unwrap();
    let wait = |key: Vec<u8>| {
        within("the record", async {
            while !watched.is_told(&key, alice.id) {
                Timer::after(Duration::from_millis(20)).await;
            }
        });
    };
    wait(early.to_vec());
    // Whatever was begun together with it has ended, too, when this one arrives.
    alice.handle.provide(b"nobody else has it").unwrap();
    wait(b"nobody else has it".to_vec());
    assert!(!watched.is_told(&late, alice.id));
}
