//! Consent of admins, readiness of candidates, and what becomes of both.

use super::*;
use crate::base::{BlockId, SignatureError, WallTime};
use crate::proto::chain::build::{Rejected, build};
use crate::proto::chain::consent::sign_readiness;
use crate::proto::chain::testing::{GENESIS_TIME, MemoryChain, card, node_keys, package};
use crate::proto::pool::samples::{chain, give, handle, id, keys, pool};
use crate::proto::pool::{Effect, Input, Judgement, Kept, Pool, PoolMessage};

fn marks(change: &Change, admins: &[u8], ready: Option<Ready>) -> PoolMessage {
    let admins = admins.iter().map(|it| node_keys(*it));
    let mut marks: Vec<Mark> = admins
        .map(|it| change.consent().mark(&id(), it.id(), &it.admin))
        .collect();
    marks.sort_by_key(|it| it.node);
    PoolMessage::Marks(Marks {
        change: change.clone(),
        marks,
        ready,
    })
}

fn ready(number: u8, height: u64, block: BlockId) -> Ready {
    let keys = node_keys(number);
    Ready {
        node: keys.id(),
        height,
        block,
        signature: sign_readiness(&id(), height, &block, &keys.vote),
    }
}

fn add_node() -> Change {
    Change::AddNode(Box::new(card(9)))
}

fn remove(index: u64) -> Change {
    let reason = "malware".into();
    Change::RemoveArtifact { index, reason }
}

/// Builds the next block from the pool, and tells the pool how it went.
fn propose(chain: &mut MemoryChain, pool: &mut Pool) -> Vec<Rejected> {
    let groups = pool.eligible(1 << 20, 100);
    let (state, ledger) = (&chain.state, &chain.ledger);
    let (block, rejected) = build(state, ledger, GENESIS_TIME, groups, &mut |_| false);
    for it in &rejected {
        handle(pool, Time::ZERO, Input::Rejected(it.clone()));
    }
    if let Some(block) = block {
        let checked = chain.append(&block).unwrap();
        let entries = checked.leaves().map(|it| it.entry.clone()).collect();
        handle(pool, Time::ZERO, Input::Committed(entries));
        let members = checked.next().members().clone();
        handle(pool, Time::ZERO, Input::MembersChanged(members));
    }
    rejected
}

#[test]
fn a_candidate_is_admitted_when_a_quorum_marked_it_and_it_is_ready() {
    let (mut chain, mut pool) = (chain(), pool(0));
    assert_eq!(
        give(&mut pool, 1, marks(&add_node(), &[1], None)),
        Judgement::Accept
    );
    assert_eq!(
        give(&mut pool, 1, marks(&add_node(), &[1], None)),
        Judgement::Ignore
    );
    assert!(pool.is_candidate(&node_keys(9).id()) && !pool.is_candidate(&node_keys(8).id()));
    let own = add_node()
        .consent()
        .mark(&id(), node_keys(0).id(), &node_keys(0).admin);
    let effects = handle(&mut pool, Time::ZERO, Input::Mark(add_node(), own));
    assert_eq!(effects, [Effect::Gossip(marks(&add_node(), &[0], None))]);
    give(&mut pool, 2, marks(&add_node(), &[1, 2], None));
    assert!(
        !pool.has_eligible(),
        "the candidate has not said that it is ready"
    );
    let ready = ready(9, 0, BlockId([0; 32]));
    assert_eq!(
        give(&mut pool, 2, PoolMessage::Ready(ready)),
        Judgement::Accept
    );

    assert_eq!(propose(&mut chain, &mut pool), []);
    assert_eq!(chain.state.members().len(), 5);
    assert_eq!((pool.changes().count(), pool.has_eligible()), (0, false));
    assert_eq!(
        give(&mut pool, 1, marks(&add_node(), &[1], None)),
        Judgement::Ignore
    );
}

#[test]
fn a_stale_proof_of_readiness_waits_for_a_newer_one() {
    let (mut chain, mut pool) = (chain(), pool(0));
    let wrong = ready(9, 7, BlockId([7; 32]));
    give(
        &mut pool,
        1,
        marks(&add_node(), &[0, 1, 2], Some(wrong.clone())),
    );
    assert_eq!(propose(&mut chain, &mut pool).len(), 1);
    assert!(!pool.has_eligible());
    let good = ready(9, 0, BlockId([0; 32]));
    assert_eq!(
        give(&mut pool, 1, PoolMessage::Ready(good)),
        Judgement::Accept
    );
    assert_eq!(propose(&mut chain, &mut pool), []);
    assert_eq!(chain.state.members().len(), 5);
}

#[test]
fn proofs_of_readiness_are_passed_on_in_steps() {
    let mut pool = pool(0);
    give(&mut pool, 1, marks(&add_node(), &[1], None));
    for (height, expected) in [
        (10, Judgement::Accept),
        (10, Judgement::Ignore),
        (109, Judgement::Ignore),
        (110, Judgement::Accept),
        (5, Judgement::Ignore),
    ] {
        let ready = PoolMessage::Ready(ready(9, height, BlockId([1; 32])));
        assert_eq!(give(&mut pool, 1, ready), expected, "{height}");
    }
    let stranger = PoolMessage::Ready(ready(8, 999, BlockId([1; 32])));
    assert_eq!(give(&mut pool, 1, stranger), Judgement::Ignore);
    let mut forged = ready(9, 999, BlockId([1; 32]));
    forged.height = 1_000;
    assert_eq!(
        give(&mut pool, 1, PoolMessage::Ready(forged)),
        Judgement::Ignore
    );
}

#[test]
fn two_cards_of_one_candidate_set_nobody_against_each_other() {
    let mut pool = pool(0);
    let proof = ready(9, 0, BlockId([0; 32]));
    give(&mut pool, 1, marks(&add_node(), &[1], Some(proof.clone())));
    let mut other = card(9);
    other.member.vote = node_keys(8).vote.public();
    let other = Change::AddNode(Box::new(other));
    give(&mut pool, 1, marks(&other, &[1], None));
    assert_eq!(pool.changes().count(), 2);
    for change in [add_node(), other] {
        let again = marks(&change, &[1], Some(proof.clone()));
        assert_eq!(give(&mut pool, 2, again), Judgement::Ignore);
    }
}

#[test]
fn dismissals_and_withdrawals_take_a_quorum_of_admins() {
    let (mut chain, mut pool) = (chain(), pool(0));
    let entries = package(&id(), "pkg:maven/g/a@1", "", &keys([0, 1, 2]));
    handle(&mut pool, Time::ZERO, Input::Submit(entries));
    propose(&mut chain, &mut pool);
    let node = node_keys(3).id();
    let reason = String::new();
    for change in [remove(0), Change::RemoveNode { node, reason }] {
        give(&mut pool, 1, marks(&change, &[0, 1], None));
        assert!(!pool.has_eligible());
        give(&mut pool, 1, marks(&change, &[2], None));
        assert!(pool.has_eligible());
        assert_eq!(propose(&mut chain, &mut pool), []);
    }
    assert_eq!(chain.state.members().len(), 3);
    assert_eq!(pool.changes().count(), 0);
}

#[test]
fn forged_marks_are_blamed_and_strangers_ignored() {
    let mut pool = pool(0);
    let PoolMessage::Marks(mut forged) = marks(&remove(1), &[1], None) else {
        panic!();
    };
    forged.change = remove(2);
    let error = PoolError::Signature(node_keys(1).id(), SignatureError::Mismatch);
    assert_eq!(
        give(&mut pool, 9, PoolMessage::Marks(forged)),
        Judgement::Reject(error)
    );
    assert_eq!(
        give(&mut pool, 9, marks(&remove(1), &[8], None)),
        Judgement::Ignore
    );
    assert_eq!(pool.changes().count(), 0);
}

#[test]
fn one_admin_begins_a_share_of_the_changes() {
    let mut pool = pool(0);
    let share = CHANGES_MAX as u64 / 4;
    for index in 0..share + 5 {
        let expected = if index < share {
            Judgement::Accept
        } else {
            Judgement::Ignore
        };
        assert_eq!(
            give(&mut pool, 1, marks(&remove(index), &[1], None)),
            expected
        );
    }
    assert_eq!(
        give(&mut pool, 2, marks(&remove(9_999), &[2], None)),
        Judgement::Accept
    );
    pool.expire(Time::ZERO + CHANGE_AGE_MAX, &mut Vec::new());
    assert_eq!(pool.changes().count(), 0);
}

#[test]
fn every_change_of_the_list_is_told_once() {
    let mut pool = pool(0);
    assert!(!pool.take_changed());
    give(&mut pool, 1, marks(&remove(1), &[1], None));
    assert!(pool.take_changed() && !pool.take_changed());
    give(&mut pool, 1, marks(&remove(1), &[1], None));
    assert!(!pool.take_changed(), "that mark was known");
    give(&mut pool, 1, marks(&remove(1), &[2], None));
    assert!(pool.take_changed());
    pool.expire(Time::ZERO + CHANGE_AGE_MAX, &mut Vec::new());
    assert!(pool.take_changed());
}

#[test]
fn a_new_peer_hears_of_all_changes() {
    let mut pool = pool(0);
    give(&mut pool, 1, marks(&remove(1), &[1, 2], None));
    let peer = node_keys(7).id();
    let effects = handle(&mut pool, Time::ZERO, Input::Connected(peer));
    assert_eq!(
        effects,
        [
            Effect::SendTo(peer, PoolMessage::Have(Vec::new())),
            Effect::SendTo(peer, marks(&remove(1), &[1, 2], None)),
        ]
    );
}

fn restored(pool: &mut Pool, now: Time, wall: WallTime, kept: Vec<Kept>) {
    for it in kept {
        let it = Kept::from_bytes(&it.to_bytes()).unwrap();
        let left = it.left(wall, wall);
        let (marks, owner) = (it.marks, it.owner);
        handle(pool, now, Input::Restored { marks, owner, left });
    }
}

#[test]
fn restarts_do_not_make_a_change_younger() {
    let day = Duration::from_secs(24 * 3_600);
    let (mut pool_now, mut wall) = (pool(0), GENESIS_TIME);
    give(&mut pool_now, 1, marks(&remove(1), &[1], None));
    // Each life lasts ten days, and has a clock that begins at zero.
    for life in 1..=3 {
        let end = Time::ZERO + day * 10;
        pool_now.expire(end, &mut Vec::new());
        wall = wall + day * 10;
        let kept: Vec<_> = pool_now.kept(end, wall).collect();
        assert_eq!(kept.len(), usize::from(life < 3), "{life}");
        pool_now = pool(0);
        restored(&mut pool_now, Time::ZERO, wall, kept);
    }
}

#[test]
fn a_change_whose_time_ended_while_the_node_was_down_is_forgotten_in_the_store_too() {
    let mut before = pool(0);
    give(&mut before, 1, marks(&remove(1), &[1], None));
    let kept = before.kept(Time::ZERO, GENESIS_TIME).collect();
    let mut after = pool(0);
    restored(&mut after, Time::ZERO, GENESIS_TIME + CHANGE_AGE_MAX, kept);
    assert_eq!(after.changes().count(), 0);
    assert!(after.take_changed());
}

#[test]
fn a_clock_that_is_ahead_does_not_end_a_change() {
    let mut before = pool(0);
    give(&mut before, 1, marks(&remove(1), &[1], None));
    let kept: Vec<_> = before.kept(Time::ZERO, GENESIS_TIME).collect();
    let (hour, years) = (Duration::from_secs(3_600), CHANGE_AGE_MAX * 99);
    for (clock, log, left) in [
        (hour, hour, CHANGE_AGE_MAX - hour),
        (years, hour, CHANGE_AGE_MAX - hour),
        (hour, years, CHANGE_AGE_MAX - hour),
        (years, years, Duration::ZERO),
    ] {
        let left_now = kept[0].left(GENESIS_TIME + clock, GENESIS_TIME + log);
        assert_eq!(left_now, left, "{clock:?} {log:?}");
    }
}

#[test]
fn restarts_do_not_shift_the_burden_to_another_owner() {
    let share = CHANGES_MAX as u64 / 4;
    let mut before = pool(0);
    // Admin 2 began them all; admin 1, who comes first by name, joined.
    let order = keys([1, 2]).map(|it| it.id());
    let (early, late) = if order[0] < order[1] { (1, 2) } else { (2, 1) };
    for index in 0..share {
        give(&mut before, late, marks(&remove(index), &[late], None));
        give(&mut before, late, marks(&remove(index), &[early], None));
    }
    let kept = before.kept(Time::ZERO, GENESIS_TIME).collect();
    let mut after = pool(0);
    restored(&mut after, Time::ZERO, GENESIS_TIME, kept);
    assert_eq!(after.changes().count() as u64, share);
    let more = |admin| marks(&remove(1_000 + u64::from(admin)), &[admin], None);
    assert_eq!(give(&mut after, late, more(late)), Judgement::Ignore);
    assert_eq!(give(&mut after, early, more(early)), Judgement::Accept);
}
