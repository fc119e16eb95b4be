//! The dialer in virtual time.

use std::time::Duration;

use crate::base::{NodeId, PublicKey, Time, WallTime};
use crate::proto::peers::*;

const ALICE: NodeId = PublicKey([1; 32]);
const BOB: NodeId = PublicKey([2; 32]);
const CAROL: NodeId = PublicKey([3; 32]);
const EVE: NodeId = PublicKey([66; 32]);

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn address(number: u8) -> String {
    format!("/ip4/9.9.9.{number}/tcp/4001")
}

fn seed(peer: Option<NodeId>, number: u8) -> Seed {
    let address = address(number);
    Seed { peer, address }
}

fn config(seeds: Vec<Seed>) -> Config {
    Config {
        node: ALICE,
        seeds,
        urls: Vec::new(),
        degree_target: 4,
        degree_max: 8,
        origin: WallTime::from_millis(1_000),
    }
}

fn dialer(seeds: Vec<Seed>) -> Dialer {
    Dialer::new(config(seeds), Book::default(), 1)
}

fn start(it: &mut Dialer) -> Vec<Effect> {
    expire(it, Time::ZERO)
}

fn expire(it: &mut Dialer, now: Time) -> Vec<Effect> {
    let mut out = Vec::new();
    it.expire(now, &mut out);
    out
}

fn apply(it: &mut Dialer, now: Time, input: Input) -> Vec<Effect> {
    let mut out = Vec::new();
    it.handle(now, input, &mut out);
    out
}

fn dial(dial: u64, peer: Option<NodeId>, numbers: &[u8]) -> Effect {
    Effect::Dial {
        dial,
        peer,
        addresses: numbers.iter().copied().map(address).collect(),
    }
}

fn connected(peer: NodeId, dial: u64, number: u8) -> Input {
    let dialled = Some((dial, address(number)));
    Input::Connected { peer, dialled }
}

fn learned(peer: NodeId, number: u8) -> Input {
    Input::Learned {
        peer,
        address: address(number),
        source: Source::Hello,
    }
}

/// Runs the machine against a network in which nobody answers; returns when it dialled.
fn dial_times(it: &mut Dialer, until: Time) -> Vec<Time> {
    let mut times = Vec::new();
    while let Some(now) = it.next_deadline().filter(|it| *it <= until) {
        let mut effects = expire(it, now);
        while let Some(effect) = effects.pop() {
            if let Effect::Dial { dial, .. } = effect {
                times.push(now);
                effects.extend(apply(it, now, Input::DialFailed { dial }));
            }
        }
    }
    times
}

#[test]
fn a_configured_seed_is_dialled_and_dialled_again_when_it_leaves() {
    for peer in [None, Some(BOB)] {
        let mut alice = dialer(vec![seed(peer, 1)]);
        assert_eq!(start(&mut alice), vec![dial(0, peer, &[1])]);
        assert_eq!(apply(&mut alice, at(1), connected(BOB, 0, 1)), vec![]);
        assert_eq!(alice.next_deadline(), None);

        let pause = None;
        let left = Input::Disconnected { peer: BOB, pause };
        assert_eq!(apply(&mut alice, at(100), left), vec![]);
        let again = alice.next_deadline().unwrap();
        assert!(again <= at(102));
        let effects = expire(&mut alice, again);
        assert!(
            matches!(effects.as_slice(), [Effect::Dial { .. }]),
            "{effects:?}"
        );
    }
}

#[test]
fn a_dead_address_is_tried_with_growing_pauses() {
    let mut alice = dialer(vec![seed(None, 1)]);
    let times = dial_times(&mut alice, at(600));
    // 1 + 2 + 4 + 8 + 16 + 32 s, then once a minute.
    assert!((13..=19).contains(&times.len()), "{times:?}");
    let waits = times.windows(2).map(|it| it[1].since(it[0]));
    assert!(waits.skip(6).all(|it| Duration::from_secs(45) <= it));
}

#[test]
fn an_authorized_node_soon_tries_another_one_again() {
    for (members, pause_min, pause_max) in [
        (vec![ALICE, BOB], 1_500, 2_500),
        (vec![BOB], 45_000, 75_000),
    ] {
        let mut alice = dialer(vec![seed(Some(BOB), 1)]);
        start(&mut alice);
        apply(&mut alice, at(0), Input::Members { members });
        apply(&mut alice, at(0), Input::DialFailed { dial: 0 });
        let times = dial_times(&mut alice, at(600));
        let last = times[times.len() - 1].since(times[times.len() - 2]);
        assert!(
            (pause_min..=pause_max).contains(&last.as_millis()),
            "{last:?}"
        );
    }
}

#[test]
fn nodes_with_other_seeds_wait_otherwise() {
    let times = |seed_number| {
        let mut it = Dialer::new(config(vec![seed(None, 1)]), Book::default(), seed_number);
        dial_times(&mut it, at(60))
    };
    assert_eq!(times(1), times(1));
    assert_ne!(times(1), times(2));
}

#[test]
fn a_stable_minute_resets_the_back_off() {
    for (lasted, wait_max) in [(59, 4), (60, 2)] {
        let mut alice = dialer(vec![seed(Some(BOB), 1)]);
        start(&mut alice);
        apply(&mut alice, at(0), Input::DialFailed { dial: 0 });
        let effects = expire(&mut alice, at(2));
        assert_eq!(effects, vec![dial(1, Some(BOB), &[1])]);
        apply(&mut alice, at(2), connected(BOB, 1, 1));
        let (peer, pause) = (BOB, None);
        apply(
            &mut alice,
            at(2 + lasted),
            Input::Disconnected { peer, pause },
        );
        let wait = alice.next_deadline().unwrap().since(at(2 + lasted));
        let range = Duration::from_secs(wait_max) * 3 / 8..Duration::from_secs(wait_max) * 3 / 4;
        assert!(range.contains(&wait), "{lasted}: {wait:?}");
    }
}

#[test]
fn a_refused_peer_is_left_alone_for_the_pause() {
    let mut alice = dialer(vec![seed(Some(BOB), 1)]);
    start(&mut alice);
    apply(&mut alice, at(0), connected(BOB, 0, 1));
    let pause = Some(Duration::from_secs(600));
    apply(&mut alice, at(1), Input::Disconnected { peer: BOB, pause });
    assert_eq!(dial_times(&mut alice, at(600)), vec![]);
    assert_eq!(dial_times(&mut alice, at(601)), vec![at(601)]);
}

#[test]
fn never_dials_itself_the_banned_or_the_connected() {
    let mut alice = dialer(vec![seed(None, 1), seed(Some(EVE), 2), seed(Some(BOB), 3)]);
    let ban = Input::Banned {
        peer: EVE,
        until: at(3_600),
    };
    apply(
        &mut alice,
        Time::ZERO,
        Input::Connected {
            peer: BOB,
            dialled: None,
        },
    );
    let effects = apply(&mut alice, Time::ZERO, ban);
    assert_eq!(effects, vec![]);
    // The seeds without bob were dialled with the first input; the first leads back to us.
    apply(&mut alice, at(1), connected(ALICE, 0, 1));
    apply(&mut alice, at(1), Input::DialFailed { dial: 1 });
    for input in [learned(ALICE, 9), learned(BOB, 4), learned(EVE, 5)] {
        assert_eq!(apply(&mut alice, at(1), input), vec![]);
    }
    assert_eq!(dial_times(&mut alice, at(3_599)), vec![]);
    assert_eq!(dial_times(&mut alice, at(3_600)), vec![at(3_600)]);
}

#[test]
fn several_addresses_of_a_peer_go_into_one_dial_best_first() {
    let mut book = Book::default();
    let wall = WallTime::from_millis;
    for number in [1, 2, 3] {
        book.learn(BOB, &address(number), Source::Hello, wall(0));
    }
    book.failed(&BOB, &address(1), wall(1));
    book.succeeded(&BOB, &address(3), wall(1));
    let mut alice = Dialer::new(config(vec![]), book, 1);
    assert_eq!(start(&mut alice), vec![dial(0, Some(BOB), &[3, 2, 1])]);
    apply(&mut alice, at(5), connected(BOB, 0, 1));
    assert_eq!(alice.book().addresses(&BOB), [1, 3, 2].map(address));
}

#[test]
fn remembered_peers_are_dialled_up_to_the_target_degree() {
    let mut alice = dialer(vec![]);
    start(&mut alice);
    let mut dials = 0;
    for number in 10..30 {
        let effects = apply(&mut alice, at(0), learned(PublicKey([number; 32]), number));
        dials += effects.len();
    }
    assert_eq!(dials, 4);
    // A failed dial makes room for another peer at once.
    let effects = apply(&mut alice, at(0), Input::DialFailed { dial: 0 });
    assert_eq!(effects.len(), 1);
    for number in 40..44 {
        let peer = PublicKey([number; 32]);
        apply(
            &mut alice,
            at(1),
            Input::Connected {
                peer,
                dialled: None,
            },
        );
    }
    let effects = apply(&mut alice, at(1), Input::DialFailed { dial: 1 });
    assert_eq!(effects, vec![]);
}

#[test]
fn an_authorized_node_keeps_a_connection_to_every_other_member() {
    let members: Vec<NodeId> = (1..=20).map(|it| PublicKey([it; 32])).collect();
    for (authorized, wanted) in [(true, 16), (false, 4)] {
        let mut alice = dialer(vec![]);
        start(&mut alice);
        let mut effects = Vec::new();
        let skip = usize::from(!authorized);
        let members = members.iter().skip(skip).copied().collect();
        effects.extend(apply(&mut alice, at(0), Input::Members { members }));
        for number in 1..=20 {
            effects.extend(apply(
                &mut alice,
                at(0),
                learned(PublicKey([number; 32]), number),
            ));
        }
        assert_eq!(effects.len(), wanted, "dials under way are bounded");
        if authorized {
            for dial in 0..16 {
                let Effect::Dial {
                    peer, addresses, ..
                } = effects[dial].clone()
                else {
                    panic!("want dials");
                };
                let dialled = Some((dial as u64, addresses[0].clone()));
                let peer = peer.unwrap();
                effects.extend(apply(&mut alice, at(1), Input::Connected { peer, dialled }));
            }
            assert_eq!(effects.len(), 19, "all but ourselves");
        }
    }
}

#[test]
fn a_bootstrap_document_brings_peers_and_a_dead_one_is_retried() {
    let urls = [
        "http://dead/status".to_owned(),
        "http://live/status".to_owned(),
    ];
    let config = Config {
        urls: urls.to_vec(),
        ..config(vec![])
    };
    let mut alice = Dialer::new(config, Book::default(), 1);
    let fetch = |it: &String| Effect::FetchBootstrap { url: it.clone() };
    assert_eq!(
        start(&mut alice),
        urls.iter().map(fetch).collect::<Vec<_>>()
    );
    let url = urls[0].clone();
    assert_eq!(apply(&mut alice, at(0), Input::FetchFailed { url }), vec![]);
    let document = Input::Fetched {
        url: urls[1].clone(),
        seeds: vec![seed(Some(BOB), 1), seed(None, 2)],
    };
    let effects = apply(&mut alice, at(0), document);
    assert_eq!(effects, vec![dial(0, Some(BOB), &[1]), dial(1, None, &[2])]);

    // Who answers at the address without a name is remembered under its name.
    apply(&mut alice, at(1), connected(CAROL, 1, 2));
    assert_eq!(alice.book().addresses(&CAROL), vec![address(2)]);
    let again = expire(&mut alice, at(2));
    assert_eq!(again, vec![fetch(&urls[0])]);
}

#[test]
fn a_dial_without_an_answer_counts_as_failed() {
    let mut alice = dialer(vec![seed(Some(BOB), 1)]);
    start(&mut alice);
    assert_eq!(alice.next_deadline(), Some(at(30)));
    assert_eq!(expire(&mut alice, at(30)), vec![]);
    let again = alice.next_deadline().unwrap();
    assert_eq!(expire(&mut alice, again), vec![dial(1, Some(BOB), &[1])]);
    // The late answer to the first dial does not disturb.
    apply(&mut alice, again, Input::DialFailed { dial: 0 });
    assert_eq!(alice.next_deadline(), Some(again + Duration::from_secs(30)));
}

#[test]
fn a_refused_peer_is_dialled_at_once_when_one_of_the_two_becomes_authorized() {
    let carol = PublicKey([77; 32]);
    for (before, after) in [
        (vec![ALICE, carol], vec![ALICE, BOB, carol]),
        (vec![BOB, carol], vec![ALICE, BOB, carol]),
    ] {
        let mut alice = dialer(vec![seed(Some(BOB), 1)]);
        start(&mut alice);
        apply(&mut alice, at(0), Input::Members { members: before });
        let (peer, dialled) = (BOB, None);
        apply(&mut alice, at(0), Input::Connected { peer, dialled });
        let pause = Some(Duration::from_secs(600));
        apply(&mut alice, at(1), Input::Disconnected { peer, pause });
        assert_eq!(expire(&mut alice, at(300)), []);
        let members = || Input::Members {
            members: after.clone(),
        };
        let effects = apply(&mut alice, at(300), members());
        assert!(
            matches!(
                effects[..],
                [Effect::Dial {
                    peer: Some(BOB),
                    ..
                }]
            ),
            "{effects:?}"
        );
        // A set that brings nothing new to it ends no pause.
        apply(
            &mut alice,
            at(301),
            Input::Connected {
                peer,
                dialled: None,
            },
        );
        apply(&mut alice, at(302), Input::Disconnected { peer, pause });
        assert_eq!(apply(&mut alice, at(400), members()), []);
    }
}
