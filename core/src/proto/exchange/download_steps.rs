//! The download machine, one step after the other.

use std::ops::Range;
use std::time::Duration;

use crate::base::Time;
use crate::proto::exchange::arrival::Fault;
use crate::proto::exchange::download::{
    BANNED_MAX, BUFFERED_BYTES_MAX, Config, Download, Effect, Failure, Input, Reason,
};
use crate::proto::exchange::group::GROUP_BYTES;
use crate::proto::exchange::presence::Presence;
use crate::proto::exchange::verify::Refused;
use crate::proto::schedule::Ranges;

const GROUP: u64 = GROUP_BYTES as u64;

fn millis(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

/// A download with its outbox.
struct Bench {
    download: Download<&'static str>,
    out: Vec<Effect<&'static str>>,
}

impl Bench {
    fn new(config: Config, groups: u64, durable: Ranges) -> Self {
        let mut out = Vec::new();
        let download = Download::new(Time::ZERO, config, groups * GROUP, &durable, &mut out);
        Self { download, out }
    }

    /// A download of so many groups that has what these sources claim, and asked for more.
    fn with(groups: u64, sources: &[(&'static str, Presence)]) -> Self {
        let mut bench = Self::new(Config::default(), groups, Ranges::new());
        assert_eq!(bench.take(), [Effect::NeedSources]);
        for (source, has) in sources {
            let has = has.clone();
            bench.give(0, Input::SourceAdded { source, has });
        }
        bench
    }

    fn give(&mut self, at: u64, input: Input<&'static str>) {
        self.download.handle(millis(at), input, &mut self.out);
    }

    fn expire(&mut self, at: u64) {
        self.download.expire(millis(at), &mut self.out);
    }

    fn take(&mut self) -> Vec<Effect<&'static str>> {
        std::mem::take(&mut self.out)
    }

    /// Lets the time pass until the machine ends; gives what it did and when.
    fn run_out(&mut self) -> Vec<(u128, Effect<&'static str>)> {
        let mut done = Vec::new();
        while let Some(at) = self.download.next_deadline() {
            self.download.expire(at, &mut self.out);
            let at = at.since(Time::ZERO).as_millis();
            done.extend(self.take().into_iter().map(|effect| (at, effect)));
        }
        done
    }
}

fn request(source: &'static str, id: u64, groups: Range<u64>) -> Effect<&'static str> {
    Effect::Request { source, id, groups }
}

fn cancel(source: &'static str, id: u64) -> Effect<&'static str> {
    Effect::CancelRequest { source, id }
}

fn avoid(source: &'static str, reason: Reason) -> Effect<&'static str> {
    Effect::Avoid { source, reason }
}

fn bad_proof(id: u32) -> Fault {
    let refused = Refused::Mismatch { piece: 0 };
    Fault::Refused { id, refused }
}

#[test]
fn an_artifact_is_done_when_its_last_group_is_durable() {
    let mut bench = Bench::with(3, &[("alice", Presence::Whole)]);
    assert_eq!(bench.take(), [request("alice", 0, 0..3)]);
    bench.give(
        5,
        Input::Arrived {
            id: 0,
            groups: 0..3,
        },
    );
    bench.give(6, Input::Ended { id: 0 });
    bench.give(7, Input::Durable { groups: 0..2 });
    assert_eq!(bench.take(), []);
    bench.give(8, Input::Durable { groups: 2..3 });
    assert_eq!(bench.take(), [Effect::Done]);
    assert_eq!(bench.download.next_deadline(), None);
    bench.give(9, Input::Cancelled);
    bench.expire(99_000);
    assert_eq!(bench.take(), []);
}

#[test]
fn a_wrong_guess_costs_nothing_but_its_answer() {
    let mut bench = Bench::with(2, &[]);
    bench.give(0, Input::SourceGuessed { source: "alice" });
    assert_eq!(bench.take(), [request("alice", 0, 0..2)]);
    bench.give(1, Input::NotFound { id: 0 });
    assert_eq!(bench.take(), [avoid("alice", Reason::NotFound)]);
    let mut other = bench.download.clone();
    let (source, has) = ("bob", Presence::Whole);
    bench.give(2, Input::SourceAdded { source, has });
    assert_eq!(bench.take(), [request("bob", 1, 0..2)]);
    // Nobody said that he has it.
    let mut out = Vec::new();
    while let Some(at) = other.next_deadline() {
        other.expire(at, &mut out);
    }
    assert_eq!(out.pop(), Some(Effect::Failed(Failure::NoSource)));
}

#[test]
fn what_is_durable_is_not_asked_for_again() {
    let durable: Ranges = [0..50, 52..100].into_iter().collect();
    let mut bench = Bench::new(Config::default(), 100, durable);
    let (source, has) = ("alice", Presence::Whole);
    bench.give(0, Input::SourceAdded { source, has });
    let asked = [Effect::NeedSources, request("alice", 0, 50..52)];
    assert_eq!(bench.take(), asked);

    let mut whole = Bench::new(Config::default(), 9, Ranges::from(0..9));
    assert_eq!(whole.take(), [Effect::Done]);
    let mut empty = Bench::new(Config::default(), 0, Ranges::new());
    assert_eq!(empty.take(), [Effect::Done]);
}

#[test]
fn a_proven_fault_bans_once_and_the_groups_come_from_another() {
    let sources = [("alice", Presence::Whole), ("eve", Presence::Whole)];
    let mut bench = Bench::with(3, &sources);
    bench.take();
    let (source, fault) = ("alice", bad_proof(0));
    let refused = Input::Refused {
        source,
        fault: fault.clone(),
    };
    bench.give(1, refused.clone());
    let ban = Effect::Ban { source, fault };
    assert_eq!(bench.take(), [ban, request("eve", 1, 0..3)]);
    bench.give(2, refused);
    let has = Presence::Whole;
    bench.give(3, Input::SourceAdded { source, has });
    assert_eq!(bench.take(), []);
}

#[test]
fn too_many_banned_sources_fail_the_download() {
    let mut out = Vec::new();
    let mut download = Download::new(
        Time::ZERO,
        Config::default(),
        GROUP,
        &Ranges::new(),
        &mut out,
    );
    for source in 0..BANNED_MAX {
        let fault = Fault::Unrequested { id: 1 };
        download.handle(Time::ZERO, Input::Refused { source, fault }, &mut out);
    }
    assert_eq!(out.last(), Some(&Effect::Failed(Failure::Hostile)));
    assert!(download.is_over());
}

#[test]
fn a_false_claim_is_avoided_not_banned() {
    let mut bench = Bench::with(9, &[("alice", Presence::Whole)]);
    bench.take();
    bench.give(3_000, Input::NotFound { id: 0 });
    let avoided = avoid("alice", Reason::NotFound);
    assert_eq!(bench.take(), [avoided, Effect::NeedSources]);
    let (source, has) = ("alice", Presence::partial(&Ranges::from(4..5)));
    bench.give(3_001, Input::SourceAdded { source, has });
    assert_eq!(bench.take(), [request("alice", 1, 4..5)]);
}

#[test]
fn a_busy_source_is_asked_again_when_it_said() {
    let mut bench = Bench::with(3, &[("alice", Presence::Whole)]);
    bench.take();
    let retry_after = Duration::from_millis(700);
    bench.give(100, Input::Busy { id: 0, retry_after });
    assert_eq!(bench.take(), []);
    assert_eq!(bench.download.next_deadline(), Some(millis(800)));
    bench.expire(800);
    assert_eq!(bench.take(), [request("alice", 1, 0..3)]);

    // A year is not obeyed.
    let retry_after = Duration::from_secs(31_536_000);
    bench.give(900, Input::Busy { id: 1, retry_after });
    bench
        .run_out()
        .iter()
        .find(|(at, _)| *at == 30_900)
        .unwrap();
}

#[test]
fn a_silent_source_is_replaced_and_named() {
    let sources = [("alice", Presence::Whole), ("bob", Presence::Whole)];
    let mut bench = Bench::with(9, &sources);
    assert_eq!(bench.take(), [request("alice", 0, 0..1)]);
    bench.expire(3_999);
    bench.take();
    bench.expire(4_000);
    let expected = [
        cancel("alice", 0),
        avoid("alice", Reason::Late),
        request("bob", 1, 0..1),
    ];
    assert_eq!(bench.take(), expected);
}

#[test]
fn an_unknown_artifact_fails_cleanly_and_asks_at_most_every_3_seconds() {
    let mut bench = Bench::with(9, &[("alice", Presence::None)]);
    let done = bench.run_out();
    let (last, asked) = done.split_last().unwrap();
    assert_eq!(*last, (60_000, Effect::Failed(Failure::NoSource)));
    let every_3_seconds: Vec<_> = (1..20)
        .map(|it| (it * 3_000, Effect::NeedSources))
        .collect();
    assert_eq!(asked, every_3_seconds);
}

#[test]
fn sources_that_never_deliver_end_in_one_clean_failure() {
    let sources = [("alice", Presence::Whole), ("bob", Presence::Whole)];
    let mut bench = Bench::with(9, &sources);
    bench.take();
    let done = bench.run_out();
    let missing = 9;
    let failed = Effect::Failed(Failure::Stalled { missing });
    assert_eq!(done.last(), Some(&(60_000, failed)));
    let ends = done
        .iter()
        .filter(|it| matches!(it.1, Effect::Failed(_) | Effect::Done));
    assert_eq!(ends.count(), 1);
    let bans = done.iter().filter(|it| matches!(it.1, Effect::Ban { .. }));
    assert_eq!(bans.count(), 0);
}

#[test]
fn cancelling_stops_every_request() {
    let mut bench = Bench::with(99, &[("alice", Presence::Whole)]);
    bench.give(
        10,
        Input::Arrived {
            id: 0,
            groups: 0..1,
        },
    );
    bench.take();
    bench.give(11, Input::Cancelled);
    let expected = [
        cancel("alice", 1),
        cancel("alice", 2),
        Effect::Failed(Failure::Cancelled),
    ];
    assert_eq!(bench.take(), expected);
}

#[test]
fn the_reader_pulls_the_next_request_to_its_position() {
    let mut bench = Bench::with(99, &[("alice", Presence::Whole)]);
    bench.take();
    bench.give(
        1,
        Input::Want {
            offset: 50 * GROUP + 9,
        },
    );
    bench.give(
        250,
        Input::Arrived {
            id: 0,
            groups: 0..1,
        },
    );
    assert_eq!(bench.take()[0], request("alice", 1, 50..51));
}

#[test]
fn a_slow_disk_stops_requests_and_bans_nobody() {
    let mut bench = Bench::with(10_000, &[("alice", Presence::Whole)]);
    let mut at = 0;
    let mut open: Vec<(u64, Range<u64>)> = Vec::new();
    let mut arrived = 0;
    loop {
        for effect in bench.take() {
            match effect {
                Effect::Request { id, groups, .. } => open.push((id, groups)),
                other => assert_eq!(other, Effect::NeedSources),
            }
        }
        if open.is_empty() {
            break;
        }
        let (id, groups) = open.remove(0);
        arrived += (groups.end - groups.start) * GROUP;
        at += 10;
        bench.give(at, Input::Arrived { id, groups });
    }
    let request_bytes_max = 64 * GROUP;
    assert!((BUFFERED_BYTES_MAX..BUFFERED_BYTES_MAX + request_bytes_max).contains(&arrived));
    bench.give(at, Input::Durable { groups: 0..1_000 });
    assert!(matches!(bench.take()[0], Effect::Request { .. }));
}
