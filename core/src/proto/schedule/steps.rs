//! The scheduler, one step after the other.

use std::ops::Range;
use std::time::Duration;

use crate::base::Time;
use crate::proto::schedule::ranges::Ranges;
use crate::proto::schedule::scheduler::{Arrived, Ask, Late, Policy, SOURCES_MAX, Scheduler};

const POLICY: Policy = Policy {
    unit_bytes: 65_536,
    units_min: 1,
    units_max: 64,
    whole_units: 4,
    sources_max: 1,
    window: None,
};

fn millis(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn scheduler(
    policy: Policy,
    units: u64,
    sources: &[(&'static str, Range<u64>)],
) -> Scheduler<&'static str> {
    let mut scheduler = Scheduler::new(policy, Ranges::from(0..units));
    for (source, has) in sources {
        scheduler.source_added(*source, Ranges::from(has.clone()));
    }
    scheduler
}

/// All requests that are to be sent now.
fn asks(scheduler: &mut Scheduler<&'static str>, now: Time) -> Vec<(&'static str, Range<u64>)> {
    let next = || scheduler.next_request(now);
    std::iter::from_fn(next)
        .map(|ask| (ask.source, ask.units))
        .collect()
}

#[test]
fn an_unknown_source_gets_one_small_request_until_it_answers() {
    let mut scheduler = scheduler(POLICY, 100, &[("alice", 0..100)]);
    assert_eq!(asks(&mut scheduler, millis(0)), [("alice", 0..1)]);
    scheduler.arrived(millis(10), 0, 0..1);
    // 64 KiB in 10 ms: 25 groups in 250 ms, and two requests under way.
    assert_eq!(
        asks(&mut scheduler, millis(10)),
        [("alice", 1..26), ("alice", 26..51)]
    );
}

#[test]
fn a_small_artifact_is_asked_for_at_once() {
    let mut scheduler = scheduler(POLICY, 4, &[("alice", 0..4)]);
    assert_eq!(asks(&mut scheduler, millis(0)), [("alice", 0..4)]);
}

#[test]
fn a_source_is_asked_only_for_what_it_has() {
    let policy = Policy {
        sources_max: 3,
        ..POLICY
    };
    let sources = [("alice", 0..0), ("bob", 6..8), ("carol", 0..7)];
    let mut scheduler = scheduler(policy, 100, &sources);
    assert_eq!(scheduler.live_sources(millis(0)), 2);
    assert_eq!(
        asks(&mut scheduler, millis(0)),
        [("bob", 6..7), ("carol", 0..1)]
    );
    scheduler.source_lacks(&"bob", 0..100);
    assert_eq!(scheduler.live_sources(millis(0)), 1);
}

#[test]
fn requests_follow_the_reader_and_stay_in_its_window() {
    let policy = Policy {
        window: Some(4),
        ..POLICY
    };
    let mut scheduler = scheduler(policy, 100, &[("alice", 0..100)]);
    scheduler.want(90);
    assert_eq!(asks(&mut scheduler, millis(0)), [("alice", 90..91)]);
    scheduler.arrived(millis(1), 0, 90..91);
    // What is ahead comes first; then what was skipped, which the reader does not hold.
    let asked = asks(&mut scheduler, millis(1));
    assert_eq!(asked.first(), Some(&("alice", 91..94)));
    assert!(asked.iter().all(|(_, units)| units.end <= 94), "{asked:?}");
}

#[test]
fn what_a_source_leaves_behind_is_given_to_another() {
    let sources = [("alice", 0..100), ("bob", 0..100)];
    let mut scheduler = scheduler(POLICY, 100, &sources);
    assert_eq!(asks(&mut scheduler, millis(0)), [("alice", 0..1)]);
    scheduler.source_gone(&"alice");
    assert_eq!(asks(&mut scheduler, millis(0)), [("bob", 0..1)]);
    assert_eq!(scheduler.ended(1), Some(("bob", Ranges::from(0..1))));
    assert_eq!(scheduler.ended(1), None);
    scheduler.source_rests(&"bob", millis(500));
    assert_eq!(asks(&mut scheduler, millis(499)), []);
    assert_eq!(scheduler.next_deadline(), Some(millis(500)));
    assert_eq!(scheduler.expire(millis(500)), []);
    assert_eq!(scheduler.next_deadline(), None);
    assert_eq!(asks(&mut scheduler, millis(500)), [("bob", 0..1)]);
}

#[test]
fn a_late_request_goes_elsewhere_and_its_answer_is_still_welcome() {
    let sources = [("alice", 0..100), ("bob", 0..100)];
    let mut scheduler = scheduler(POLICY, 100, &sources);
    asks(&mut scheduler, millis(0));
    assert_eq!(scheduler.next_deadline(), Some(millis(4_000)));
    assert_eq!(scheduler.expire(millis(3_999)), []);
    let late = Late {
        source: "alice",
        ids: vec![0],
        rests: false,
    };
    assert_eq!(scheduler.expire(millis(4_000)), [late]);
    assert_eq!(asks(&mut scheduler, millis(4_000)), [("bob", 0..1)]);

    let arrived = scheduler.arrived(millis(4_001), 0, 0..1);
    let expected = Arrived {
        fresh: 1,
        beaten: vec![("bob", 1)],
    };
    assert_eq!(arrived, expected);
    assert_eq!(scheduler.arrived(millis(4_002), 1, 0..1).fresh, 0);
    assert_eq!(
        (scheduler.missing().len(), scheduler.outstanding_bytes()),
        (99, 0)
    );
}

#[test]
fn the_second_miss_in_a_row_makes_a_source_rest_unless_it_is_the_only_one() {
    let policy = Policy {
        sources_max: 2,
        ..POLICY
    };
    for others in [0, 1] {
        let mut scheduler = scheduler(policy, 100, &[("alice", 0..100)]);
        asks(&mut scheduler, millis(0));
        scheduler.expire(millis(4_000));
        asks(&mut scheduler, millis(4_000));
        if others == 1 {
            scheduler.source_added("bob", Ranges::from(0..100));
        }
        let late = scheduler.expire(millis(12_000));
        assert_eq!(late[0].rests, others == 1);
        assert_eq!(scheduler.live_sources(millis(12_001)), 1);
        assert_eq!(asks(&mut scheduler, millis(12_001)).len(), 1);
    }
}

#[test]
fn sources_beyond_the_limit_are_ignored() {
    let mut scheduler = Scheduler::new(POLICY, Ranges::from(0..9));
    for source in 0..=SOURCES_MAX {
        scheduler.source_added(source, Ranges::from(0..9));
    }
    assert_eq!(scheduler.live_sources(Time::ZERO), SOURCES_MAX);
}

#[test]
fn resuming_asks_only_for_what_is_missing() {
    let missing: Ranges = [2..3, 7..9].into_iter().collect();
    let mut scheduler = Scheduler::new(POLICY, missing);
    scheduler.source_added("alice", Ranges::from(0..10));
    let mut asked = Ranges::new();
    while let Some(Ask { id, units, .. }) = scheduler.next_request(Time::ZERO) {
        asked.insert(units.clone());
        scheduler.arrived(Time::ZERO, id, units);
    }
    assert_eq!(asked, [2..3, 7..9].into_iter().collect());
    assert!(scheduler.is_complete());
}
