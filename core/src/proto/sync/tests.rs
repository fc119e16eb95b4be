//! Single decisions of the machine.

use std::time::Duration;

use crate::base::{NodeId, PublicKey, Time};
use crate::proto::sync::message::tests::chain;
use crate::proto::sync::serve::tests::serve;
use crate::proto::sync::*;

const ALICE: NodeId = PublicKey([1; 32]);
const BOB: NodeId = PublicKey([2; 32]);

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn apply(sync: &mut Sync, now: Time, input: Input) -> Vec<Effect> {
    let mut out = Vec::new();
    sync.handle(now, input, &mut out);
    out
}

fn joined(peer: NodeId, base: u64, tip: u64) -> Input {
    Input::Joined { peer, base, tip }
}

fn asked(effects: &[Effect]) -> Vec<(NodeId, u64, u32)> {
    let requests = effects.iter().filter_map(|it| match it {
        Effect::Send { peer, request } => Some((*peer, request.from, request.count_max)),
        _ => None,
    });
    requests.collect()
}

fn run_of(answer: &Message) -> Run {
    match Incoming::from_bytes(&answer.to_bytes()) {
        Ok(Incoming::Blocks(run)) => run,
        other => panic!("want blocks: {other:?}"),
    }
}

/// A machine at height 5 that is live beside bob.
fn live() -> Sync {
    let mut sync = Sync::new(Config::default(), 5);
    let effects = apply(&mut sync, at(0), joined(BOB, 1, 5));
    assert_eq!(effects, vec![Effect::Turned(State::Live)]);
    sync
}

#[test]
fn the_first_tips_decide_between_live_and_catching_up() {
    for (ours, base, theirs, state, requests) in [
        (7, 1, 7, State::Live, 0),
        (7, 1, 3, State::Live, 0),
        (7, 1, 8, State::Live, 0),
        (7, 1, 100, State::CatchingUp, 2),
        (7, 9, 100, State::Searching, 0),
    ] {
        let mut sync = Sync::new(Config::default(), ours);
        let effects = apply(&mut sync, at(0), joined(BOB, base, theirs));
        assert_eq!(sync.state(), state, "{ours} {theirs}");
        assert_eq!(asked(&effects).len(), requests, "{ours} {theirs}");
    }
}

#[test]
fn a_live_node_waits_for_an_announced_block_and_then_fetches_it() {
    let mut sync = live();
    let tip = |height| Input::Tip { peer: BOB, height };
    assert_eq!(apply(&mut sync, at(1_000), tip(6)), vec![]);
    assert_eq!(sync.next_deadline(), Some(at(1_300)));

    // It arrives by itself: nothing is fetched.
    let by_gossip = Input::Applied { height: 6 };
    assert_eq!(apply(&mut sync, at(1_100), by_gossip), vec![]);
    assert_eq!(sync.next_deadline(), None);

    // The next one does not.
    assert_eq!(apply(&mut sync, at(2_000), tip(7)), vec![]);
    let mut out = Vec::new();
    sync.expire(at(2_300), &mut out);
    assert_eq!(asked(&out), vec![(BOB, 7, 1)]);
    assert_eq!(sync.state(), State::Live);
}

#[test]
fn a_live_node_turns_back_only_when_fetched_blocks_prove_that_it_is_behind() {
    let mut sync = live();
    let liar = Input::Tip {
        peer: BOB,
        height: 5_000,
    };
    apply(&mut sync, at(1_000), liar);
    let mut out = Vec::new();
    sync.expire(at(1_300), &mut out);
    assert_eq!((sync.state(), asked(&out).len()), (State::Live, 2));

    let Some(Effect::Send { request, .. }) = out.first().cloned() else {
        panic!("want a request: {out:?}");
    };
    let run = run_of(&serve(request, &chain(200, 10, 0), 1));
    let effects = apply(&mut sync, at(1_400), Input::Blocks { peer: BOB, run });
    let handed = effects.iter().find_map(|it| match it {
        Effect::Apply { blocks, .. } => blocks.last().map(|it| it.block.height()),
        _ => None,
    });
    let height = handed.unwrap();
    let effects = apply(&mut sync, at(1_500), Input::Applied { height });
    assert!(
        effects.contains(&Effect::Turned(State::CatchingUp)),
        "{effects:?}"
    );
}

#[test]
fn an_unsolicited_answer_is_counted_and_dropped() {
    let mut sync = live();
    let request = GetBlocks {
        id: 99,
        from: 6,
        count_max: 9,
        bytes_max: 9_999,
    };
    let run = run_of(&serve(request, &chain(9, 10, 0), 1));
    for peer in [BOB, ALICE] {
        let run = run.clone();
        assert_eq!(apply(&mut sync, at(1), Input::Blocks { peer, run }), vec![]);
    }
    let progress = sync.progress(at(1));
    assert_eq!((progress.spurious, progress.buffered), (2, 0));
}

#[test]
fn a_pruned_answer_moves_the_base_and_another_peer_is_asked() {
    let mut sync = Sync::new(Config::default(), 0);
    let effects = apply(&mut sync, at(0), joined(BOB, 1, 100));
    let Some(Effect::Send { request, .. }) = effects.get(1).cloned() else {
        panic!("want a request: {effects:?}");
    };
    apply(&mut sync, at(1), joined(ALICE, 1, 100));
    let (id, base, tip) = (request.id, 50, 120);
    let answer = NotAvailable { id, base, tip };
    let effects = apply(&mut sync, at(2), Input::NotAvailable { peer: BOB, answer });
    assert!(
        asked(&effects).iter().all(|it| it.0 == ALICE),
        "{effects:?}"
    );
    assert!(asked(&effects).iter().any(|it| it.1 == 1), "{effects:?}");
}

#[test]
fn large_blocks_over_a_thin_line_arrive_without_a_blame_and_with_little_repetition() {
    let (block, rate, heights) = (2_u64 << 20, 32_000, 4);
    let blocks = chain(heights, 2 << 20, 0);
    let mut sync = Sync::new(Config::default(), 0);
    let mut effects = apply(&mut sync, at(0), joined(BOB, 1, heights));
    let mut arriving: std::collections::VecDeque<(Time, Run)> = Default::default();
    let (mut now, mut free, mut applied) = (at(0), at(0), 0);
    while applied < heights {
        for effect in std::mem::take(&mut effects) {
            match effect {
                Effect::Send { request, .. } => {
                    let run = run_of(&serve(request, &blocks, 1));
                    let bytes = block * run.blocks().len() as u64;
                    free = free.max(now) + Duration::from_millis(bytes * 1_000 / rate);
                    arriving.push_back((free, run));
                }
                Effect::Apply { blocks, .. } => {
                    applied = blocks.last().unwrap().block.height();
                    effects.extend(apply(&mut sync, now, Input::Applied { height: applied }));
                }
                Effect::Blame { fault, .. } => panic!("{fault}"),
                Effect::Slow { .. } | Effect::Turned(_) => {}
            }
        }
        if !effects.is_empty() || applied == heights {
            continue;
        }
        let arrival = arriving.front().map(|(at, _)| *at);
        now = arrival
            .into_iter()
            .chain(sync.next_deadline())
            .min()
            .unwrap();
        if arrival == Some(now) {
            let (peer, run) = (BOB, arriving.pop_front().unwrap().1);
            effects = apply(&mut sync, now, Input::Blocks { peer, run });
        } else {
            sync.expire(now, &mut effects);
        }
    }
    let ideal = Duration::from_millis(heights * block * 1_000 / rate);
    assert!(now.since(at(0)) <= 2 * ideal, "{now:?}, ideally {ideal:?}");
}

#[test]
fn a_silent_sole_peer_is_asked_twice_and_then_rarely() {
    let mut sync = Sync::new(Config::default(), 0);
    let mut requests = asked(&apply(&mut sync, at(0), joined(BOB, 1, 9))).len();
    while let Some(now) = sync.next_deadline().filter(|it| *it < at(600_000)) {
        let mut out = Vec::new();
        sync.expire(now, &mut out);
        requests += asked(&out).len();
    }
    assert!((6..=11).contains(&requests), "{requests}");
}

#[test]
fn large_blocks_are_fetched_within_the_memory_limit() {
    let block = 4 << 20;
    let blocks = chain(24, block, 0);
    let mut sync = Sync::new(Config::default(), 0);
    let mut queue: Vec<(NodeId, GetBlocks)> = Vec::new();
    let mut now = 0;
    let mut applied = 0;
    let mut inputs = vec![joined(ALICE, 1, 24), joined(BOB, 1, 24)];
    while let Some(input) = inputs.pop() {
        now += 100;
        for effect in apply(&mut sync, at(now), input) {
            match effect {
                Effect::Send { peer, request } => queue.push((peer, request)),
                Effect::Apply { blocks, .. } => {
                    applied = blocks.last().unwrap().block.height();
                    inputs.push(Input::Applied { height: applied });
                }
                _ => {}
            }
        }
        let buffered = sync.progress(at(now)).buffered;
        assert!(buffered * block <= (64 << 20) + 4 * block, "{buffered}");
        // The newest request is answered first, so that blocks pile up.
        if inputs.is_empty()
            && let Some((peer, request)) = queue.pop()
        {
            let run = run_of(&serve(request, &blocks, 1));
            inputs.push(Input::Blocks { peer, run });
        }
    }
    assert_eq!(applied, 24);
}
