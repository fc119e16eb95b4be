//! Heads, signatures on them, and what members and peers do wrong.

use std::time::Duration;

use crate::base::{NodeId, Sha256, Time, WallTime};
use crate::proto::chain::{MemberSet, NodeKeys};
use crate::proto::heads::ask::ASK_AFTER;
use crate::proto::heads::early::PASSED_MAX;
use crate::proto::heads::{
    Effect, Fault, HeadMessage, Heads, Input, Message, RECOSIGN_INTERVAL, Verdict,
};
use crate::proto::log::checkpoint::{Checkpoint, verify_checkpoint};
use crate::proto::log::cosign::HeadSignature;

const ORIGIN: &str = "kogge.test/log";

fn node(number: u8) -> NodeKeys {
    NodeKeys::from_seed([number; 32])
}

fn members() -> MemberSet {
    MemberSet::new((1..=4).map(|it| node(it).card(&format!("node-{it}")).member))
}

fn head(size: u64) -> Checkpoint {
    Checkpoint {
        origin: ORIGIN.into(),
        size,
        root: Sha256([7; 32]),
    }
}

/// A machine of a node that is no member: it knows the members, and no head yet.
fn regular() -> Heads {
    Heads::new(node(9).id(), ORIGIN.into(), members())
}

/// A member's signature on `head` at some second.
fn signed(number: u8, head: &Checkpoint, secs: u64) -> HeadMessage {
    let now = WallTime::from_millis(secs * 1_000);
    HeadMessage {
        size: head.size,
        root: head.root,
        signature: HeadSignature::sign(&node(number), head, now),
    }
}

fn message(number: u8, size: u64) -> HeadMessage {
    signed(number, &head(size), 5)
}

/// A member's signature on a head that is none of the log.
fn contradiction(number: u8, size: u64) -> HeadMessage {
    let root = Sha256([8; 32]);
    signed(number, &Checkpoint { root, ..head(size) }, 5)
}

/// A signature by another key than that of the member it names.
fn forgery(size: u64) -> HeadMessage {
    let mut it = message(2, size);
    it.signature.node = node(1).id();
    it
}

fn blame(number: u8, fault: Fault) -> Effect {
    let node = node(number).id();
    Effect::Blame { node, fault }
}

fn at(secs: u64) -> Time {
    Time::ZERO + Duration::from_secs(secs)
}

fn committed(heads: &mut Heads, size: u64) -> Vec<Effect> {
    let mut out = Vec::new();
    let input = Input::Committed {
        head: head(size),
        members: members(),
    };
    heads.handle(Time::ZERO, input, &mut out);
    out
}

fn received(heads: &mut Heads, message: HeadMessage) -> Vec<Effect> {
    let mut out = Vec::new();
    heads.handle(Time::ZERO, Input::Received(message), &mut out);
    out
}

fn told(heads: &mut Heads, peer: NodeId, message: Message) -> Vec<Effect> {
    let mut out = Vec::new();
    heads.handle(at(1), Input::Told { peer, message }, &mut out);
    out
}

fn expired(heads: &mut Heads, now: Time) -> Vec<Effect> {
    let mut out = Vec::new();
    heads.expire(now, &mut out);
    out
}

fn answer(messages: &[HeadMessage]) -> Message {
    Message::Signatures {
        size: messages[0].size,
        root: messages[0].root,
        signatures: messages.iter().map(|it| it.signature.clone()).collect(),
    }
}

#[test]
fn a_quorum_of_signatures_makes_a_checkpoint() {
    let mut heads = Heads::new(node(1).id(), ORIGIN.into(), members());
    assert_eq!(committed(&mut heads, 9), [Effect::Sign(head(9))]);
    assert_eq!(heads.next_deadline(), None);
    let own = message(1, 9);
    let mut out = Vec::new();
    let input = Input::Signed {
        head: head(9),
        signature: own.signature.clone(),
    };
    heads.handle(Time::ZERO, input, &mut out);
    assert_eq!(out, [Effect::Publish(own)]);
    assert_eq!(heads.next_deadline(), Some(Time::ZERO + RECOSIGN_INTERVAL));

    assert_eq!(
        received(&mut heads, message(2, 9)),
        [Effect::Judge(Verdict::Accept)]
    );
    assert_eq!(
        received(&mut heads, message(2, 9)),
        [Effect::Judge(Verdict::Ignore)]
    );
    let [
        Effect::Checkpoint {
            size: 9,
            note,
            signers: 3,
        },
        Effect::Judge(Verdict::Accept),
    ] = &received(&mut heads, message(3, 9))[..]
    else {
        panic!("no checkpoint");
    };
    assert!(verify_checkpoint(note, ORIGIN, &members()).is_ok());
}

#[test]
fn early_signatures_are_passed_on_and_wait_for_the_block() {
    for mut heads in [regular(), {
        let mut heads = regular();
        assert_eq!(committed(&mut heads, 9), []);
        heads
    }] {
        for number in 1..=3 {
            let accepted = [Effect::Judge(Verdict::Accept)];
            assert_eq!(received(&mut heads, message(number, 12)), accepted);
            let ignored = [Effect::Judge(Verdict::Ignore)];
            assert_eq!(received(&mut heads, message(number, 12)), ignored);
            assert_eq!(received(&mut heads, message(number, 11)), ignored);
        }
        assert!(matches!(
            committed(&mut heads, 12)[..],
            [Effect::Checkpoint {
                size: 12,
                signers: 3,
                ..
            }]
        ));
    }
}

#[test]
fn early_signatures_that_cannot_stand_are_not_passed_on() {
    let mut heads = regular();
    committed(&mut heads, 9);
    let ignored = [Effect::Judge(Verdict::Ignore)];
    let rejected = [Effect::Judge(Verdict::Reject)];
    assert_eq!(received(&mut heads, forgery(12)), rejected);
    assert_eq!(received(&mut heads, message(8, 12)), ignored, "a stranger");
    assert_eq!(received(&mut heads, message(1, u64::MAX)), ignored, "far");
    let mut other_log = head(12);
    other_log.origin = "kogge.test/other".into();
    assert_eq!(received(&mut heads, signed(1, &other_log, 5)), rejected);
    // None of them is in the way of an honest one.
    for number in 1..=3 {
        received(&mut heads, message(number, 12));
    }
    assert!(matches!(
        committed(&mut heads, 12)[..],
        [Effect::Checkpoint { signers: 3, .. }]
    ));
}

#[test]
fn a_member_can_flood_nobody_with_early_signatures() {
    let mut heads = regular();
    committed(&mut heads, 9);
    let passed = |heads: &mut Heads, sizes: std::ops::Range<u64>| {
        let accepted = [Effect::Judge(Verdict::Accept)];
        sizes
            .filter(|it| received(heads, message(1, *it))[..] == accepted)
            .count()
    };
    assert_eq!(passed(&mut heads, 10..100), PASSED_MAX as usize);
    assert_eq!(passed(&mut heads, 100..110), 0);
    committed(&mut heads, 10);
    assert_eq!(passed(&mut heads, 100..110), 10);
}

#[test]
fn a_member_that_contradicts_the_log_or_itself_is_blamed_and_its_messenger_is_not() {
    let ignored = Effect::Judge(Verdict::Ignore);
    let blamed = blame(2, Fault::Contradiction { size: 12 });

    let mut heads = regular();
    committed(&mut heads, 12);
    let both = [blamed.clone(), ignored];
    assert_eq!(received(&mut heads, contradiction(2, 12)), both);

    let mut heads = regular();
    committed(&mut heads, 9);
    received(&mut heads, contradiction(2, 12));
    assert_eq!(received(&mut heads, message(2, 12)), both);
    assert_eq!(committed(&mut heads, 12), [blamed]);
}

#[test]
fn forged_signatures_are_rejected_and_old_or_strange_ones_ignored() {
    let mut heads = regular();
    committed(&mut heads, 9);
    let mut other_root = forgery(9);
    other_root.root = Sha256([8; 32]);
    for bad in [forgery(9), other_root] {
        assert_eq!(received(&mut heads, bad), [Effect::Judge(Verdict::Reject)]);
    }
    // Somebody behind, for whom 8 is a member still, may have passed on what it signed.
    for other in [message(2, 5), message(8, 9)] {
        let ignored = [Effect::Judge(Verdict::Ignore)];
        assert_eq!(received(&mut heads, other), ignored);
    }
}

#[test]
fn signatures_that_did_not_come_are_asked_for_until_there_is_a_checkpoint() {
    let (alice, bob) = (node(7).id(), node(8).id());
    let mut heads = regular();
    for peer in [alice, bob] {
        heads.handle(Time::ZERO, Input::Joined(peer), &mut Vec::new());
    }
    assert_eq!(heads.next_deadline(), None, "there is no head to ask for");
    committed(&mut heads, 9);
    received(&mut heads, message(1, 9));
    assert_eq!(heads.next_deadline(), Some(Time::ZERO + ASK_AFTER));
    let Some(Effect::Send {
        peer,
        message: question,
    }) = expired(&mut heads, at(1)).pop()
    else {
        panic!("nobody is asked");
    };
    assert_eq!(question, Message::Get { size: 9 });

    let full = answer(&[1, 2, 3].map(|it| message(it, 9)));
    let stranger = if peer == alice { bob } else { alice };
    assert_eq!(told(&mut heads, stranger, full.clone()), []);
    assert!(matches!(
        told(&mut heads, peer, full.clone())[..],
        [Effect::Checkpoint {
            size: 9,
            signers: 3,
            ..
        }]
    ));
    assert_eq!(
        told(&mut heads, peer, full),
        [],
        "one answer to one question"
    );
    assert_eq!(
        (heads.next_deadline(), expired(&mut heads, at(99))),
        (None, vec![])
    );
}

#[test]
fn who_answers_with_a_forgery_is_blamed_and_another_is_asked() {
    let mut heads = regular();
    for number in [7, 8] {
        heads.handle(
            Time::ZERO,
            Input::Joined(node(number).id()),
            &mut Vec::new(),
        );
    }
    committed(&mut heads, 9);
    let Some(Effect::Send { peer, .. }) = expired(&mut heads, at(1)).pop() else {
        panic!("nobody is asked");
    };
    let forged = answer(&[forgery(9), message(3, 9)]);
    let (node, fault) = (peer, Fault::Forged);
    assert_eq!(
        told(&mut heads, peer, forged),
        [Effect::Blame { node, fault }]
    );
    heads.handle(at(1), Input::Left(peer), &mut Vec::new());
    let next = expired(&mut heads, at(2)).pop();
    assert!(matches!(next, Some(Effect::Send { peer: other, .. }) if other != peer));
}

#[test]
fn the_signatures_at_hand_are_told_to_who_is_not_ahead() {
    let mut heads = regular();
    let peer = node(7).id();
    assert_eq!(told(&mut heads, peer, Message::Get { size: 0 }), []);
    committed(&mut heads, 9);
    let at_hand = [1, 2].map(|it| message(it, 9));
    for message in at_hand.clone() {
        received(&mut heads, message);
    }
    for size in [0, 8, 9] {
        let [Effect::Send { peer: to, message }] =
            &told(&mut heads, peer, Message::Get { size })[..]
        else {
            panic!("no answer");
        };
        let Message::Signatures {
            size,
            root,
            signatures,
        } = message.clone()
        else {
            panic!("not an answer");
        };
        let mut nodes: Vec<NodeId> = signatures.iter().map(|it| it.node).collect();
        let mut expected = [1, 2].map(|it| node(it).id());
        nodes.sort_unstable();
        expected.sort_unstable();
        assert_eq!(
            (*to, size, root, &nodes[..]),
            (peer, 9, head(9).root, &expected[..])
        );
    }
    assert_eq!(told(&mut heads, peer, Message::Get { size: 10 }), []);
}
