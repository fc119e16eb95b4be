//! Handshakes between two machines, and hostile peers.

use std::time::Duration;

use crate::base::{ChainId, NodeId, PublicKey, Time};
use crate::proto::hello::tip::tests::{Numbered, tip};
use crate::proto::hello::*;

const ALICE: NodeId = PublicKey([1; 32]);
const BOB: NodeId = PublicKey([2; 32]);
const EVE: NodeId = PublicKey([3; 32]);

fn machine(node: NodeId, chain: u8) -> Handshakes {
    let local = Local {
        node,
        chain: ChainId([chain; 32]),
        role: Role::Full,
        authorized: false,
        agent: "kogge/test".into(),
        listen: vec!["/ip4/192.0.2.1/tcp/1".into(); LISTEN_MAX + 1],
    };
    Handshakes::new(local, u64::from(node.0[0]))
}

fn chain(height: u8) -> Numbered {
    Numbered { height, kept: 0 }
}

fn apply(it: &mut Handshakes, chain: Numbered, now: Time, input: Input) -> Vec<Effect> {
    let mut out = Vec::new();
    it.handle(&chain, now, input, &mut out);
    out
}

fn connect(it: &mut Handshakes, chain: Numbered, peer: NodeId) -> Vec<Effect> {
    apply(
        it,
        chain,
        Time::ZERO,
        Input::Connected { peer, refuse: None },
    )
}

fn receive(it: &mut Handshakes, chain: Numbered, peer: NodeId, message: Message) -> Vec<Effect> {
    apply(it, chain, Time::ZERO, Input::Received { peer, message })
}

fn sent(effects: &[Effect]) -> Vec<Message> {
    let messages = effects.iter().filter_map(|it| match it {
        Effect::Send { message, .. } => Some(message.clone()),
        Effect::Admit { .. } | Effect::Advanced { .. } | Effect::Reject { .. } => None,
    });
    messages.collect()
}

fn refusal(peer: NodeId, reason: Reason) -> Vec<Effect> {
    let by = Side::Ours;
    vec![
        Effect::Send {
            peer,
            message: Message::Refused(reason),
        },
        Effect::Reject {
            peer,
            rejection: Rejection { by, reason },
        },
    ]
}

/// Runs the handshake of two machines; returns what is not a message.
fn shake(alice: (&mut Handshakes, Numbered), bob: (&mut Handshakes, Numbered)) -> [Vec<Effect>; 2] {
    let mut sides = [(alice, BOB), (bob, ALICE)];
    let mut results = [Vec::new(), Vec::new()];
    let mut wires: [Vec<Message>; 2] = [Vec::new(), Vec::new()];
    for (at, ((it, chain), peer)) in sides.iter_mut().enumerate() {
        wires[at] = sent(&connect(it, *chain, *peer));
    }
    while wires.iter().any(|it| !it.is_empty()) {
        for at in 0..2 {
            for message in std::mem::take(&mut wires[1 - at]) {
                let ((it, chain), peer) = &mut sides[at];
                let effects = receive(it, *chain, *peer, message);
                wires[at].extend(sent(&effects));
                let other = effects.into_iter();
                results[at].extend(other.filter(|it| !matches!(it, Effect::Send { .. })));
            }
        }
    }
    results
}

fn relation_of(effects: &[Effect]) -> Option<Relation> {
    match effects {
        [Effect::Admit { relation, .. }] => Some(*relation),
        _ => None,
    }
}

fn admitted(height: u8, claim: Tip) -> Handshakes {
    let mut alice = machine(ALICE, 9);
    let effects = connect(&mut alice, chain(height), EVE);
    let nonce = nonce_of(&effects);
    receive(
        &mut alice,
        chain(height),
        EVE,
        Message::Hello(from_eve(claim)),
    );
    let effects = receive(
        &mut alice,
        chain(height),
        EVE,
        Message::Welcome { echo: nonce },
    );
    assert!(relation_of(&effects).is_some(), "{effects:?}");
    alice
}

fn nonce_of(effects: &[Effect]) -> u64 {
    match sent(effects).as_slice() {
        [Message::Hello(hello)] => hello.nonce,
        other => panic!("want a hello: {other:?}"),
    }
}

fn from_eve(tip: Tip) -> Box<Hello> {
    Box::new(Hello {
        from: EVE,
        to: ALICE,
        tip,
        ..message::tests::hello()
    })
}

#[test]
fn both_sides_are_admitted_with_mirrored_relations() {
    for (ours, theirs, expected) in [
        (4, 4, [Relation::Same, Relation::Same]),
        (3, 4, [Relation::Ahead, Relation::Behind]),
        (4, 3, [Relation::Behind, Relation::Ahead]),
        (0, 9, [Relation::Ahead, Relation::Behind]),
    ] {
        let (mut alice, mut bob) = (machine(ALICE, 9), machine(BOB, 9));
        let results = shake((&mut alice, chain(ours)), (&mut bob, chain(theirs)));
        let relations = results.map(|it| relation_of(&it).unwrap());
        assert_eq!(relations, expected);
        assert!(alice.is_admitted(&BOB) && bob.is_admitted(&ALICE));
    }
}

#[test]
fn each_refusal_is_seen_by_both_sides_with_its_reason() {
    let (mut alice, mut bob) = (machine(ALICE, 9), machine(BOB, 8));
    let results = shake((&mut alice, chain(4)), (&mut bob, chain(4)));
    for effects in results {
        let [Effect::Reject { rejection, .. }] = effects.as_slice() else {
            panic!("want one rejection: {effects:?}");
        };
        assert_eq!(rejection.reason, Reason::OtherChain);
    }

    let eve = EVE;
    type Spoil = fn(&mut Hello);
    let spoil: [(Spoil, Reason); 6] = [
        (|it| it.chain = ChainId([1; 32]), Reason::OtherChain),
        (
            |it| it.protocols = Protocols { min: 2, max: 3 },
            Reason::Version { min: 1, max: 1 },
        ),
        (|it| it.from = ALICE, Reason::SelfDial),
        (|it| it.from = BOB, Reason::NotFresh),
        (|it| it.to = BOB, Reason::NotFresh),
        (|it| it.tip = tip(3, 0xff), Reason::Forked { height: 3 }),
    ];
    for (spoil, reason) in spoil {
        let mut alice = machine(ALICE, 9);
        connect(&mut alice, chain(4), eve);
        let mut hello = from_eve(tip(4, 4));
        spoil(&mut hello);
        let effects = receive(&mut alice, chain(4), eve, Message::Hello(hello));
        assert_eq!(effects, refusal(eve, reason));
        assert!(!alice.is_admitted(&eve));
    }
}

#[test]
fn a_dial_to_ourselves_and_an_unwanted_peer_are_refused_at_once() {
    let mut alice = machine(ALICE, 9);
    assert_eq!(
        connect(&mut alice, chain(1), ALICE),
        refusal(ALICE, Reason::SelfDial)
    );
    for reason in [Reason::Banned, Reason::NotAuthorized] {
        let refuse = Some(reason);
        let input = Input::Connected { peer: EVE, refuse };
        let effects = apply(&mut alice, chain(1), Time::ZERO, input);
        assert_eq!(effects, refusal(EVE, reason));
    }
    assert_eq!(alice.next_deadline(), None);
}

#[test]
fn a_repeated_hello_is_refused_also_on_the_next_connection() {
    let mut alice = admitted(4, tip(4, 4));
    let hello = || Message::Hello(from_eve(tip(4, 4)));
    let not_fresh = refusal(EVE, Reason::NotFresh);
    assert_eq!(receive(&mut alice, chain(4), EVE, hello()), not_fresh);

    connect(&mut alice, chain(4), EVE);
    assert_eq!(receive(&mut alice, chain(4), EVE, hello()), not_fresh);
}

#[test]
fn a_welcome_must_echo_our_nonce() {
    let mut alice = machine(ALICE, 9);
    let nonce = nonce_of(&connect(&mut alice, chain(4), EVE));
    receive(
        &mut alice,
        chain(4),
        EVE,
        Message::Hello(from_eve(tip(4, 4))),
    );
    let echo = nonce ^ 1;
    assert!(alice.is_accepted(&EVE) && !alice.is_admitted(&EVE));
    let effects = receive(&mut alice, chain(4), EVE, Message::Welcome { echo });
    assert_eq!(effects, refusal(EVE, Reason::NotFresh));
}

#[test]
fn a_silent_peer_is_refused_exactly_at_its_deadline() {
    let mut alice = machine(ALICE, 9);
    connect(&mut alice, chain(4), EVE);
    // Half a handshake does not help: a welcome is still missing.
    receive(
        &mut alice,
        chain(4),
        EVE,
        Message::Hello(from_eve(tip(4, 4))),
    );

    let deadline = alice.next_deadline().unwrap();
    assert_eq!(deadline, Time::ZERO + HELLO_TIMEOUT);
    let mut out = Vec::new();
    alice.expire(
        &chain(4),
        Time::from_nanos(deadline.as_nanos() - 1),
        &mut out,
    );
    assert_eq!(out, vec![]);
    alice.expire(&chain(4), deadline, &mut out);
    assert_eq!(out, refusal(EVE, Reason::Timeout));
    assert_eq!(alice.next_deadline(), None);
}

#[test]
fn too_many_handshakes_are_refused_as_busy() {
    let mut alice = machine(ALICE, 9);
    let peer = |at: usize| PublicKey([u8::try_from(at).unwrap() + 10; 32]);
    for at in 0..PENDING_MAX {
        assert_eq!(connect(&mut alice, chain(1), peer(at)).len(), 1);
    }
    let one_more = peer(PENDING_MAX);
    let busy = refusal(one_more, Reason::Busy);
    assert_eq!(connect(&mut alice, chain(1), one_more), busy);

    apply(
        &mut alice,
        chain(1),
        Time::ZERO,
        Input::Disconnected { peer: peer(0) },
    );
    assert_eq!(connect(&mut alice, chain(1), one_more).len(), 1);
}

#[test]
fn a_claim_is_compared_when_we_reach_its_height() {
    for (claim, expected) in [
        (tip(6, 6), vec![]),
        (tip(6, 0xff), refusal(EVE, Reason::Forked { height: 6 })),
    ] {
        let mut alice = admitted(4, claim);
        let before = apply(&mut alice, chain(5), Time::ZERO, Input::Committed);
        assert_eq!(sent(&before), vec![Message::Tip(tip(5, 5))]);
        let at = apply(&mut alice, chain(6), Time::ZERO, Input::Committed);
        assert_eq!(at, expected, "{claim:?}");
    }
}

#[test]
fn later_tips_are_compared_too_and_the_lowest_claims_are_kept() {
    let mut alice = admitted(4, tip(6, 0xff));
    for height in 7..20 {
        let message = Message::Tip(tip(height, height));
        let effects = receive(&mut alice, chain(4), EVE, message);
        let advanced = Effect::Advanced {
            peer: EVE,
            tip: tip(height, height),
        };
        assert_eq!(effects, vec![advanced]);
    }
    let effects = apply(&mut alice, chain(9), Time::ZERO, Input::Committed);
    assert_eq!(effects[..2], refusal(EVE, Reason::Forked { height: 6 }));

    for (claim, height) in [(tip(4, 0xff), 4), (tip(6, 0xee), 6)] {
        let mut alice = admitted(4, tip(6, 6));
        let effects = receive(&mut alice, chain(4), EVE, Message::Tip(claim));
        assert_eq!(effects, refusal(EVE, Reason::Forked { height }));
    }
}

#[test]
fn commits_in_quick_succession_are_announced_together() {
    let mut alice = admitted(4, tip(4, 4));
    let at = |millis| Time::ZERO + Duration::from_millis(millis);
    let announced = apply(&mut alice, chain(5), at(1_000), Input::Committed);
    assert_eq!(sent(&announced), vec![Message::Tip(tip(5, 5))]);
    for height in 6..9 {
        let quiet = apply(&mut alice, chain(height), at(1_010), Input::Committed);
        assert_eq!(quiet, vec![]);
    }
    let due = alice.next_deadline().unwrap();
    assert_eq!(due, at(1_200));
    let mut out = Vec::new();
    alice.expire(&chain(8), due, &mut out);
    assert_eq!(sent(&out), vec![Message::Tip(tip(8, 8))]);
    assert_eq!(alice.next_deadline(), None);
}

#[test]
fn messages_outside_a_handshake_have_no_effect() {
    let mut alice = machine(ALICE, 9);
    for message in [
        Message::Hello(from_eve(tip(4, 4))),
        Message::Welcome { echo: 0 },
        Message::Refused(Reason::Busy),
        Message::Tip(tip(1, 1)),
    ] {
        assert_eq!(receive(&mut alice, chain(4), EVE, message), vec![]);
    }
    let malformed = Input::Malformed { peer: EVE };
    assert_eq!(apply(&mut alice, chain(4), Time::ZERO, malformed), vec![]);
}

#[test]
fn a_peer_that_is_not_wanted_any_longer_learns_why() {
    let mut alice = admitted(4, tip(4, 4));
    let reason = Reason::NotAuthorized;
    let unwanted = || Input::Unwanted { peer: EVE, reason };
    let effects = apply(&mut alice, chain(4), Time::ZERO, unwanted());
    assert_eq!(effects, refusal(EVE, reason));
    assert!(!alice.is_admitted(&EVE));
    assert_eq!(apply(&mut alice, chain(4), Time::ZERO, unwanted()), vec![]);
}
