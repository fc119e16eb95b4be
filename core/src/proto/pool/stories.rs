//! What the pool does with honest and slow peers.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{NodeId, Sha256, Subject, Time};
use crate::proto::chain::build::Rejected;
use crate::proto::chain::member::{MemberSet, NodeKeys};
use crate::proto::chain::rules::RuleError;
use crate::proto::chain::testing::{
    GENESIS_TIME, MemoryChain, attest, node_keys, package, tag, tag_at,
};
use crate::proto::log::entry::Entry;
use crate::proto::pool::asks::{ASK_DELAY, ASK_TIMEOUT};
use crate::proto::pool::groups::AGE_MAX;
use crate::proto::pool::machine::NOTICE_BYTES_MAX;
use crate::proto::pool::samples::{
    at, chain, give, group, handle, id, keys, members, pool, purl, sized, subject,
};
use crate::proto::pool::{Effect, Group, Input, Judgement, Pool, PoolMessage};

#[test]
fn a_group_is_eligible_when_a_quorum_attests_and_its_entries_are_here() {
    let [a, b, c] = keys([0, 1, 2]);
    let whole = package(&id(), &purl(1), "", &[a.clone(), b.clone(), c.clone()]);
    let subject = subject(&whole);
    let attests = |it: &NodeKeys| PoolMessage::Attests(vec![attest(&id(), subject, it)]);

    let mut pool = pool(3);
    assert_eq!(give(&mut pool, 1, attests(&b)), Judgement::Accept);
    assert_eq!(give(&mut pool, 1, attests(&b)), Judgement::Ignore);
    assert_eq!(give(&mut pool, 2, attests(&c)), Judgement::Accept);
    assert_eq!((pool.knows_quorum(), pool.has_eligible()), (false, false));
    assert_eq!(give(&mut pool, 0, attests(&a)), Judgement::Accept);
    assert_eq!((pool.knows_quorum(), pool.has_eligible()), (true, false));

    let body = group(package(&id(), &purl(1), "", &[a]));
    let input = Input::Received {
        from: b.id(),
        message: body,
    };
    let effects = handle(&mut pool, Time::ZERO, input);
    assert!(effects.contains(&Effect::Eligible));
    assert_eq!(pool.eligible(1 << 20, 100), vec![whole.clone()]);

    let block = chain().build(pool.eligible(1 << 20, 100)).unwrap();
    let entries: Arc<[Entry]> = chain()
        .append(&block)
        .unwrap()
        .leaves()
        .map(|it| it.entry.clone())
        .collect();
    handle(&mut pool, Time::ZERO, Input::Committed(entries));
    assert_eq!(
        (pool.len(), pool.bytes(), pool.has_eligible()),
        (0, 0, false)
    );
    assert_eq!(give(&mut pool, 1, attests(&b)), Judgement::Ignore);
    assert_eq!(give(&mut pool, 1, group(whole)), Judgement::Ignore);
    assert!(pool.is_empty());
}

#[test]
fn short_groups_travel_by_gossip_and_of_long_ones_only_a_notice() {
    for (bytes, is_short) in [(300, true), (3_000, true), (5_000, false), (60_000, false)] {
        let entries = sized(1, bytes, &keys([0]));
        let len = Group::new(entries.clone()).unwrap().bytes_len();
        assert_eq!(len <= NOTICE_BYTES_MAX, is_short, "{len}");
        let effects = handle(&mut pool(0), Time::ZERO, Input::Submit(entries.clone()));
        let Some(Entry::Attest(own)) = entries.last().cloned() else {
            panic!();
        };
        let expected = if is_short {
            group(entries)
        } else {
            PoolMessage::Attests(vec![own])
        };
        assert_eq!(effects, [Effect::Gossip(expected)]);
    }
}

#[test]
fn entries_are_asked_for_once_and_elsewhere_when_they_do_not_come() {
    let [a, b] = keys([0, 1]);
    let entries = sized(1, 60_000, &[a.clone(), b.clone()]);
    let subject = subject(&entries);
    let mut pool = pool(3);
    for peer in [&a, &b] {
        handle(&mut pool, Time::ZERO, Input::Connected(peer.id()));
        let notice = PoolMessage::Attests(vec![attest(&id(), subject, peer)]);
        give(&mut pool, 0, notice);
    }
    let ask = |pool: &mut Pool, now| {
        let mut out = Vec::new();
        pool.expire(now, &mut out);
        out
    };
    let want = |peer: NodeId| [Effect::SendTo(peer, PoolMessage::Want(vec![subject]))];
    let mut order = [a.id(), b.id()];
    order.sort();
    let (first, second) = (Time::ZERO + ASK_DELAY, Time::ZERO + ASK_DELAY + ASK_TIMEOUT);
    assert_eq!(pool.next_deadline(), Some(first));
    assert_eq!(ask(&mut pool, first), want(order[0]));
    assert_eq!(pool.next_deadline(), Some(second));
    assert_eq!(ask(&mut pool, at(1_700)), []);
    assert!(
        second <= at(2_000),
        "a withheld group comes from elsewhere within two seconds"
    );
    assert_eq!(ask(&mut pool, second), want(order[1]));

    assert_eq!(give(&mut pool, 1, group(entries)), Judgement::Accept);
    assert_eq!(pool.next_deadline(), Some(Time::ZERO + AGE_MAX));
}

#[test]
fn a_regular_node_does_not_ask_for_entries() {
    let mut pool = pool(9);
    handle(&mut pool, Time::ZERO, Input::Connected(node_keys(0).id()));
    let notice = attest(&id(), Subject([1; 32]), &node_keys(0));
    give(&mut pool, 0, PoolMessage::Attests(vec![notice]));
    let mut out = Vec::new();
    pool.expire(at(60_000), &mut out);
    assert_eq!(out, []);
}

/// Passes messages between two pools until there are none; returns the messages to each.
fn exchange(pools: &mut [Pool; 2], mut effects: [Vec<Effect>; 2]) -> [Vec<PoolMessage>; 2] {
    let ids = [node_keys(0).id(), node_keys(1).id()];
    let mut sent = [Vec::new(), Vec::new()];
    while effects.iter().any(|it| !it.is_empty()) {
        for from in [0, 1] {
            for effect in std::mem::take(&mut effects[from]) {
                if let Effect::SendTo(_, message) = effect {
                    let message = PoolMessage::from_bytes(&message.to_bytes()).unwrap();
                    sent[1 - from].push(message.clone());
                    let input = Input::Received {
                        from: ids[from],
                        message,
                    };
                    effects[1 - from].extend(handle(&mut pools[1 - from], Time::ZERO, input));
                }
            }
        }
    }
    sent
}

#[test]
fn peers_that_meet_exchange_exactly_what_the_other_lacks() {
    let [a, b] = keys([0, 1]);
    let mut pools = [pool(0), pool(1)];
    // 500 groups at one, 100 of them at both; 20 at the other only; one with other attestations.
    for at in 0..500 {
        give(
            &mut pools[0],
            2,
            group(package(&id(), &purl(at), "", std::slice::from_ref(&a))),
        );
    }
    for at in (400..500).chain(1_000..1_020) {
        give(
            &mut pools[1],
            2,
            group(package(&id(), &purl(at), "", std::slice::from_ref(&a))),
        );
    }
    let both = subject(&package(&id(), &purl(450), "", std::slice::from_ref(&a)));
    give(
        &mut pools[1],
        2,
        PoolMessage::Attests(vec![attest(&id(), both, &b)]),
    );

    let effects = [
        handle(&mut pools[0], Time::ZERO, Input::Connected(b.id())),
        handle(&mut pools[1], Time::ZERO, Input::Connected(a.id())),
    ];
    let sent = exchange(&mut pools, effects);
    assert_eq!(pools.each_ref().map(Pool::len), [520, 520]);
    let count = |messages: &[PoolMessage]| {
        let groups = messages
            .iter()
            .filter(|it| matches!(it, PoolMessage::Group(_)))
            .count();
        let attests = messages.iter().map(|it| match it {
            PoolMessage::Attests(it) => it.len(),
            _ => 0,
        });
        (groups, attests.sum::<usize>())
    };
    assert_eq!((count(&sent[0]), count(&sent[1])), ((20, 2), (400, 1)));
    assert_eq!(pools[0].eligible(0, 0), pools[1].eligible(0, 0));
}

#[test]
fn eligible_groups_come_in_order_and_within_the_limits() {
    let signers = keys([0, 1, 2]);
    let mut pool = pool(3);
    let groups: Vec<Vec<Entry>> = [5_000, 300, 600]
        .into_iter()
        .enumerate()
        .map(|(at, bytes)| sized(at, bytes, &signers))
        .chain([tag(&id(), "3.20", Sha256([1; 32]), &signers)])
        .collect();
    for it in &groups {
        give(&mut pool, 0, group(it.clone()));
    }
    let pick = |at: &[usize]| at.iter().map(|it| groups[*it].clone()).collect::<Vec<_>>();
    for (bytes_max, entries_max, expected) in [
        (1 << 20, 100, &[0, 1, 2, 3][..]),
        (4_000, 100, &[1, 2, 3]),
        (1 << 20, 9, &[1, 2]),
        (1 << 20, 8, &[1, 3]),
        (100, 100, &[]),
        (1 << 20, 0, &[]),
    ] {
        assert_eq!(
            pool.eligible(bytes_max, entries_max),
            pick(expected),
            "{bytes_max} {entries_max}"
        );
    }
}

#[test]
fn groups_wait_an_hour() {
    let mut pool = pool(3);
    give(
        &mut pool,
        0,
        group(package(&id(), &purl(1), "", &keys([0, 1, 2]))),
    );
    let end = Time::ZERO + AGE_MAX;
    assert_eq!(pool.next_deadline(), Some(end));
    pool.expire(at(3_599_999), &mut Vec::new());
    assert_eq!(pool.len(), 1);
    pool.expire(end, &mut Vec::new());
    assert_eq!(
        (pool.len(), pool.bytes(), pool.next_deadline()),
        (0, 0, None)
    );
}

#[test]
fn attestations_of_dismissed_members_do_not_count() {
    let mut pool = pool(3);
    give(
        &mut pool,
        0,
        group(package(&id(), &purl(1), "", &keys([0, 1, 2]))),
    );
    assert!(pool.has_eligible());
    let rest = MemberSet::new(members().iter().filter(|it| it.name != "node-1").cloned());
    handle(&mut pool, Time::ZERO, Input::MembersChanged(rest.clone()));
    assert_eq!((pool.len(), pool.has_eligible()), (1, false));
    let nobody = MemberSet::new(rest.iter().filter(|it| it.name == "node-3").cloned());
    handle(&mut pool, Time::ZERO, Input::MembersChanged(nobody));
    assert!(pool.is_empty());
}

fn binding(byte: u8, at: u64, signers: &[NodeKeys]) -> Vec<Entry> {
    let time = GENESIS_TIME + Duration::from_millis(at);
    tag_at(&id(), "3.20", Sha256([byte; 32]), signers, time)
}

#[test]
fn what_was_said_before_a_binding_makes_room_for_what_is_said_after_it() {
    let signers = keys([0, 1, 2]);
    let mut pool = pool(3);
    let old = binding(1, 5, &signers);
    give(&mut pool, 0, group(old.clone()));
    assert!(pool.has_eligible());
    let rejected = Rejected {
        group: old.clone(),
        error: RuleError::Stale(GENESIS_TIME + Duration::from_millis(7)),
    };
    handle(&mut pool, Time::ZERO, Input::Rejected(rejected));
    assert!(pool.is_empty());
    assert_eq!(give(&mut pool, 0, group(old)), Judgement::Ignore);

    let new = binding(1, 8, &signers);
    assert_eq!(give(&mut pool, 0, group(new.clone())), Judgement::Accept);
    assert_eq!(pool.eligible(1 << 20, 100), [new]);
}

#[test]
fn a_late_attestation_of_one_node_is_kept_when_the_others_are_stale() {
    let [a, b, c] = keys([0, 1, 2]);
    let mut pool = pool(3);
    let early = binding(1, 5, &[a, c]);
    give(&mut pool, 0, group(early.clone()));
    let late = binding(1, 8, &[b]);
    give(&mut pool, 1, group(late.clone()));
    assert!(pool.has_eligible());
    let rejected = Rejected {
        group: early,
        error: RuleError::Stale(GENESIS_TIME + Duration::from_millis(7)),
    };
    handle(&mut pool, Time::ZERO, Input::Rejected(rejected));
    assert_eq!((pool.len(), pool.has_eligible()), (1, false));
    // Its entries went with the stale builder's word, and come again.
    assert_eq!(give(&mut pool, 1, group(late)), Judgement::Accept);
}

#[test]
fn what_the_rules_refuse_waits_or_goes() {
    let signers = keys([0, 1, 2]);
    let mut chain = chain();
    let mut pool = pool(3);
    let propose = |chain: &mut MemoryChain, pool: &mut Pool| {
        let groups = pool.eligible(1 << 20, 100);
        let (state, ledger) = (&chain.state, &chain.ledger);
        let (block, rejected) =
            crate::proto::chain::build::build(state, ledger, GENESIS_TIME, groups, &mut |_| false);
        for it in rejected {
            handle(pool, Time::ZERO, Input::Rejected(it));
        }
        if let Some(block) = block {
            let checked = chain.append(&block).unwrap();
            let entries = checked.leaves().map(|it| it.entry.clone()).collect();
            handle(pool, Time::ZERO, Input::Committed(entries));
        }
    };
    // Two bindings of one tag: one of them has to wait for the next block.
    for byte in [1, 2] {
        give(
            &mut pool,
            0,
            group(binding(byte, u64::from(byte), &signers)),
        );
    }
    propose(&mut chain, &mut pool);
    assert_eq!((pool.len(), pool.has_eligible()), (1, true));
    propose(&mut chain, &mut pool);
    assert!(pool.is_empty());

    // Another content of a package that is in the log never gets in.
    give(&mut pool, 0, group(package(&id(), &purl(1), "", &signers)));
    propose(&mut chain, &mut pool);
    give(
        &mut pool,
        0,
        group(package(&id(), &purl(1), "other", &signers)),
    );
    propose(&mut chain, &mut pool);
    assert!(pool.is_empty());
}
