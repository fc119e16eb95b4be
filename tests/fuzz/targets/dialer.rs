//! The machine that keeps connections up, fed with whatever peers and bootstrap documents say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kogge_node::base::{NodeId, PublicKey, Time, WallTime};
use kogge_node::proto::peers::address::is_address;
use kogge_node::proto::peers::book::{Book, Source};
use kogge_node::proto::peers::dial::{Config, Dialer};
use kogge_node::proto::peers::event::{Effect, Input, Seed};

use crate::targets::Choices;
use crate::targets::clock::Clocked;

/// Dials at one time, as the module says.
const DIALS_MAX: usize = 16;

struct Model {
    now: Time,
    machine: Dialer,
    links: BTreeSet<NodeId>,
    bans: BTreeMap<NodeId, Time>,
    dials: BTreeMap<u64, (Option<NodeId>, Vec<String>)>,
    dialled: u64,
}

/// Input: configuration, then steps until the bytes end.
///
/// Planted: a machine that does not hear of new connections.
pub(crate) fn dialer(bytes: &[u8], is_planted: bool) -> bool {
    let mut choices = Choices(bytes);
    let seeds = (0..choices.below(4)).map(|_| seed(&mut choices));
    let config = Config {
        node: node(0),
        seeds: seeds.collect(),
        urls: vec!["https://boot.test/peers".into()],
        degree_target: usize::from(choices.byte() % 8),
        degree_max: usize::from(choices.byte() % 12),
        origin: WallTime::from_millis(1_790_000_000_000),
    };
    let random = choices.number();
    let mut model = Model {
        now: Time::ZERO,
        machine: Dialer::new(config, Book::default(), random),
        links: BTreeSet::new(),
        bans: BTreeMap::new(),
        dials: BTreeMap::new(),
        dialled: 0,
    };
    while !choices.is_empty() {
        model.step(&mut choices, is_planted);
    }
    model.wait(Duration::from_secs(3_600));
    let book = model.machine.book();
    assert_eq!(Book::from_bytes(&book.to_bytes()).as_ref(), Ok(book));
    true
}

fn node(number: u8) -> NodeId {
    PublicKey([number; 32])
}

fn peer(choices: &mut Choices<'_>) -> NodeId {
    node(choices.byte() % 20)
}

/// Good addresses, malformed ones and long ones.
fn address(choices: &mut Choices<'_>) -> String {
    let number = choices.byte();
    match number % 8 {
        0 => String::new(),
        1 => "no address".into(),
        2 => format!("/{}", "x".repeat(200 + usize::from(number))),
        _ => format!("/ip4/192.0.2.{}/tcp/4001", number % 40),
    }
}

fn seed(choices: &mut Choices<'_>) -> Seed {
    Seed {
        peer: choices.bool().then(|| peer(choices)),
        address: address(choices),
    }
}

impl Clocked for Model {
    fn now(&mut self) -> &mut Time {
        &mut self.now
    }

    fn next_deadline(&self) -> Option<Time> {
        self.machine.next_deadline()
    }

    fn expire(&mut self) {
        let mut out = Vec::new();
        self.machine.expire(self.now, &mut out);
        // Dials that took too long are given up without a word.
        self.watch(out);
    }
}

impl Model {
    fn step(&mut self, choices: &mut Choices<'_>, is_planted: bool) {
        let who = peer(choices);
        let dial = self.dials.keys().next().copied();
        let input = match choices.below(10) {
            0 => self.connected(who, None),
            1 | 2 => {
                let dialled = dial.and_then(|it| Some((it, self.dials.remove(&it)?)));
                let Some((dial, (peer, addresses))) = dialled else {
                    return;
                };
                let address = addresses.into_iter().next().unwrap_or_default();
                self.connected(peer.unwrap_or(who), Some((dial, address)))
            }
            3 => {
                self.links.remove(&who);
                let pause = choices
                    .bool()
                    .then(|| Duration::from_secs(choices.number() >> 52));
                Input::Disconnected { peer: who, pause }
            }
            4 => {
                let dial = dial.unwrap_or(choices.number());
                self.dials.remove(&dial);
                Input::DialFailed { dial }
            }
            5 => {
                let url = "https://boot.test/peers".into();
                let seeds = (0..choices.byte()).map(|_| seed(choices)).collect();
                Input::Fetched { url, seeds }
            }
            6 => Input::FetchFailed {
                url: "https://boot.test/peers".into(),
            },
            7 => Input::Learned {
                peer: who,
                address: address(choices),
                source: if choices.bool() {
                    Source::Hello
                } else {
                    Source::Exchange
                },
            },
            8 => {
                let until = self.now + Duration::from_secs(choices.number() >> 48);
                self.bans.insert(who, until);
                Input::Banned { peer: who, until }
            }
            _ if choices.bool() => return self.wait(Duration::from_millis(choices.number() >> 44)),
            _ => Input::Members {
                members: (0..choices.below(8)).map(|_| peer(choices)).collect(),
            },
        };
        if is_planted && matches!(input, Input::Connected { .. }) {
            return;
        }
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        self.watch(out);
    }

    fn connected(&mut self, peer: NodeId, dialled: Option<(u64, String)>) -> Input {
        if peer != node(0) {
            self.links.insert(peer);
        }
        Input::Connected { peer, dialled }
    }

    fn watch(&mut self, out: Vec<Effect>) {
        let mut dials = 0;
        for effect in out {
            let Effect::Dial {
                dial,
                peer,
                addresses,
            } = effect
            else {
                continue;
            };
            dials += 1;
            assert_eq!(dial, self.dialled, "numbers of dials are not used twice");
            self.dialled += 1;
            assert!((1..=8).contains(&addresses.len()), "{addresses:?}");
            assert!(addresses.iter().all(|it| is_address(it)), "{addresses:?}");
            if let Some(peer) = peer {
                assert_ne!(peer, node(0), "a dial to ourselves");
                assert!(!self.links.contains(&peer), "{peer} is connected");
                let until = self.bans.get(&peer).copied().unwrap_or_default();
                assert!(until <= self.now, "{peer} is banned");
            }
            self.dials.insert(dial, (peer, addresses));
        }
        assert!(dials <= DIALS_MAX, "{dials} dials at once");
        assert!(self.machine.book().len() <= 1_024);
    }
}
