//! What the pool does with forgers, floods and what is malformed.

use std::time::Duration;

use crate::base::{ChainId, Signature, SignatureError, Subject, Time};
use crate::proto::chain::consent::publish;
use crate::proto::chain::member::NodeKeys;
use crate::proto::chain::testing::{artifact, attest, node_keys, package, package_of};
use crate::proto::log::entry::{Attest, Entry, package_subject};
use crate::proto::pool::groups::{BYTES_MAX, GROUPS_MAX};
use crate::proto::pool::machine::SERVE_BYTES_MAX;
use crate::proto::pool::samples::{
    at, chain, give, group, handle, id, keys, pool, purl, sized, subject,
};
use crate::proto::pool::{Effect, Group, Input, Judgement, PoolError, PoolMessage, Refusal};

#[test]
fn a_peer_gets_a_bounded_amount() {
    let mut pool = pool(0);
    let entries = sized(1, 900_000, &keys([0]));
    let (subject, bytes) = (
        subject(&entries),
        Group::new(entries.clone()).unwrap().bytes_len(),
    );
    handle(&mut pool, Time::ZERO, Input::Submit(entries));
    let peer = node_keys(7).id();
    let want = || Input::Received {
        from: peer,
        message: PoolMessage::Want(vec![subject; 64]),
    };
    let sent = |effects: Vec<Effect>| -> usize {
        let messages = effects.iter().filter(|it| matches!(it, Effect::SendTo(..)));
        messages.count() * bytes
    };
    assert_eq!(
        sent(handle(&mut pool, Time::ZERO, want())),
        0,
        "not connected"
    );
    handle(&mut pool, Time::ZERO, Input::Connected(peer));
    assert!((1..=SERVE_BYTES_MAX).contains(&sent(handle(&mut pool, Time::ZERO, want()))));
    assert_eq!(sent(handle(&mut pool, at(9_000), want())), 0);
    assert_ne!(sent(handle(&mut pool, at(10_000), want())), 0);
    handle(&mut pool, at(10_000), Input::Disconnected(peer));
    assert_eq!(sent(handle(&mut pool, at(20_000), want())), 0);
}

#[test]
fn forgers_are_blamed_and_strangers_ignored() {
    let [a, b, eve] = keys([0, 1, 9]);
    let about = Subject([1; 32]);
    let mut forged = attest(&id(), about, &eve);
    forged.node = a.id();
    let blame = |node: &NodeKeys| {
        Judgement::Reject(PoolError::Signature(node.id(), SignatureError::Mismatch))
    };
    let other_chain = attest(&ChainId([9; 32]), about, &a);
    let stranger = attest(&id(), about, &eve);
    for (message, expected) in [
        (PoolMessage::Attests(vec![forged]), blame(&a)),
        (PoolMessage::Attests(vec![other_chain]), blame(&a)),
        (PoolMessage::Attests(vec![stranger]), Judgement::Ignore),
        (PoolMessage::Attests(vec![]), Judgement::Ignore),
        (
            group(package(&id(), &purl(1), "", std::slice::from_ref(&eve))),
            Judgement::Ignore,
        ),
    ] {
        let mut pool = pool(3);
        assert_eq!(give(&mut pool, 9, message), expected);
        assert!(pool.is_empty());
    }

    let mut pool = pool(3);
    let mut entries = package(&id(), &purl(1), "", &[a.clone(), b.clone()]);
    for entry in &mut entries {
        if let Entry::Attest(it) = entry
            && it.node == b.id()
        {
            it.signature = Signature([7; 64]);
        }
    }
    assert_eq!(give(&mut pool, 9, group(entries)), blame(&b));

    let mut file = artifact(&purl(2), "a", "", &a);
    let about = package_subject([&file]);
    let mut publication = publish(&id(), &about, &eve.vote);
    publication.publisher = b.vote.public();
    file.publication = Some(publication);
    let entries = package_of(&id(), vec![file], &[a]);
    let expected = PoolError::Signature(b.vote.public(), SignatureError::Mismatch);
    assert_eq!(
        give(&mut pool, 9, group(entries)),
        Judgement::Reject(expected)
    );
    assert!(pool.is_empty());
}

#[test]
fn one_member_cannot_crowd_out_the_others() {
    let mut pool = pool(3);
    let [eve, a] = keys([1, 0]);
    let fake = |at: u32| {
        let mut subject = [0; 32];
        subject[..4].copy_from_slice(&at.to_be_bytes());
        PoolMessage::Attests(vec![attest(&id(), Subject(subject), &eve)])
    };
    let share = GROUPS_MAX / 4;
    let accepted = (0..1_500).filter(|it| give(&mut pool, 1, fake(*it)) == Judgement::Accept);
    assert_eq!(accepted.count(), share);
    let body = group(package(&id(), &purl(1), "", std::slice::from_ref(&eve)));
    assert_eq!(give(&mut pool, 1, body), Judgement::Ignore);
    let body = group(package(&id(), &purl(1), "", &[a, eve]));
    assert_eq!(give(&mut pool, 0, body), Judgement::Accept);
    assert_eq!(pool.len(), share + 1);
}

#[test]
fn bytes_are_bounded() {
    let mut pool = pool(3);
    let eve = keys([1]);
    for at in 0..25 {
        give(&mut pool, 1, group(sized(at, 900_000, &eve)));
    }
    assert!((BYTES_MAX / 4 - 1_000_000..=BYTES_MAX / 4).contains(&pool.bytes()));
    let refused = handle(
        &mut pool,
        Time::ZERO,
        Input::Submit(sized(99, 900_000, &eve)),
    );
    assert_eq!(refused, [Effect::Refused(Refusal::NotTaken)]);
}

#[test]
fn all_nodes_keep_the_same_variant_of_a_group() {
    let variants = [0, 1, 2].map(|it| package(&id(), &purl(1), "", &keys([it])));
    let mut results = Vec::new();
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut pool = pool(3);
        for at in order {
            assert_eq!(
                give(&mut pool, 2, group(variants[at].clone())),
                Judgement::Accept
            );
        }
        results.push(pool.eligible(1 << 20, 100));
        assert_eq!(pool.len(), 1);
    }
    assert_eq!(results[0].len(), 1);
    assert!(results.iter().all(|it| *it == results[0]));
    assert!(chain().build(results.remove(0)).is_some());
}

#[test]
fn only_the_very_same_attestation_counts_as_checked() {
    let mut pool = pool(3);
    let good = attest(&id(), Subject([1; 32]), &node_keys(0));
    assert!(!pool.is_verified(&good));
    give(&mut pool, 0, PoolMessage::Attests(vec![good.clone()]));
    assert!(pool.is_verified(&good));
    let changes: [fn(&mut Attest); 4] = [
        |it| it.subject = Subject([2; 32]),
        |it| it.node = node_keys(1).id(),
        |it| it.time = it.time + Duration::from_millis(1),
        |it| it.signature = Signature([0; 64]),
    ];
    for change in changes {
        let mut it = good.clone();
        change(&mut it);
        assert!(!pool.is_verified(&it), "{it:?}");
    }
}

#[test]
fn malformed_submissions_are_refused() {
    let mut pool = pool(0);
    let entries = package(&id(), &purl(1), "", &keys([0]));
    let foreign = package(&id(), &purl(1), "", &keys([9]));
    for input in [vec![], entries[..1].to_vec(), foreign] {
        let effects = handle(&mut pool, Time::ZERO, Input::Submit(input));
        assert!(matches!(effects[..], [Effect::Refused(_)]), "{effects:?}");
    }
    assert!(matches!(
        handle(&mut pool, Time::ZERO, Input::Submit(entries))[..],
        [Effect::Gossip(_)]
    ));
}
