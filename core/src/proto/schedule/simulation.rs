//! Downloads in virtual time: one receiver, sources with a rate, a round trip and a temper.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::Time;
use crate::proto::schedule::ranges::Ranges;
use crate::proto::schedule::scheduler::{Policy, Scheduler};

const UNIT: u64 = 65_536;
const MIB: u64 = 16;

/// A source that answers its requests one after the other.
#[derive(Clone, Copy)]
struct Peer {
    /// Unit: bytes per second.
    rate: u64,
    rtt: Duration,
    /// When it falls silent.
    stalls_at: Option<Time>,
}

fn peer(rate: u64, rtt_ms: u64) -> Peer {
    Peer {
        rate,
        rtt: Duration::from_millis(rtt_ms),
        stalls_at: None,
    }
}

impl Peer {
    fn stalling(self, at_ms: u64) -> Self {
        let stalls_at = Some(Time::ZERO + Duration::from_millis(at_ms));
        Self { stalls_at, ..self }
    }
}

#[derive(Debug)]
struct Outcome {
    elapsed: Duration,
    /// Units that came from each source.
    units: Vec<u64>,
    twice: u64,
    order: Vec<u64>,
    /// The most units under way.
    under_way_max: u64,
}

impl Outcome {
    /// Time taken over the time of an ideal division.
    fn ratio(&self, ideal: f64) -> f64 {
        self.elapsed.as_secs_f64() / ideal
    }
}

struct World {
    peers: Vec<Peer>,
    scheduler: Scheduler<usize>,
    /// When each source can send its next unit.
    free_at: Vec<Time>,
    /// Units on their way: (arrival, tie break) to (source, request, unit).
    arrivals: BTreeMap<(Time, u64), (usize, u64, u64)>,
    sent: u64,
}

impl World {
    fn new(policy: Policy, units: u64, peers: &[Peer]) -> Self {
        let mut scheduler = Scheduler::new(policy, Ranges::from(0..units));
        for source in 0..peers.len() {
            scheduler.source_added(source, Ranges::from(0..units));
        }
        Self {
            peers: peers.to_vec(),
            scheduler,
            free_at: vec![Time::ZERO; peers.len()],
            arrivals: BTreeMap::new(),
            sent: 0,
        }
    }

    fn ask(&mut self, now: Time) {
        while let Some(ask) = self.scheduler.next_request(now) {
            let peer = self.peers[ask.source];
            let mut at = self.free_at[ask.source].max(now + peer.rtt / 2);
            for unit in ask.units {
                at = at + Duration::from_nanos(UNIT * 1_000_000_000 / peer.rate);
                if peer.stalls_at.is_none_or(|it| at < it) {
                    let key = (at + peer.rtt / 2, self.sent);
                    self.arrivals.insert(key, (ask.source, ask.id, unit));
                    self.sent += 1;
                }
            }
            self.free_at[ask.source] = at;
        }
    }

    fn cancel(&mut self, now: Time, source: usize, ids: &[u64]) {
        self.arrivals.retain(|_, (_, id, _)| !ids.contains(id));
        if self.arrivals.values().all(|it| it.0 != source) {
            self.free_at[source] = now + self.peers[source].rtt / 2;
        }
    }

    fn run(mut self) -> Option<Outcome> {
        let mut now = Time::ZERO;
        let mut outcome = Outcome {
            elapsed: Duration::ZERO,
            units: vec![0; self.peers.len()],
            twice: 0,
            order: Vec::new(),
            under_way_max: 0,
        };
        while !self.scheduler.is_complete() {
            self.ask(now);
            let under_way = self.scheduler.outstanding_bytes() / UNIT;
            outcome.under_way_max = outcome.under_way_max.max(under_way);
            let arrival = self.arrivals.first_key_value().map(|(key, _)| key.0);
            let deadline = self.scheduler.next_deadline();
            now = arrival.into_iter().chain(deadline).min()?;
            if now.since(Time::ZERO) > Duration::from_secs(3_600) {
                return None;
            }
            if deadline == Some(now) {
                for late in self.scheduler.expire(now) {
                    self.cancel(now, late.source, &late.ids);
                }
            }
            if arrival == Some(now) {
                let (source, id, unit) = self.arrivals.pop_first()?.1;
                let arrived = self.scheduler.arrived(now, id, unit..unit + 1);
                outcome.units[source] += 1;
                outcome.twice += 1 - arrived.fresh;
                outcome.order.push(unit);
                for (source, id) in arrived.beaten {
                    self.cancel(now, source, &[id]);
                }
            }
        }
        outcome.elapsed = now.since(Time::ZERO);
        Some(outcome)
    }
}

fn policy(sources_max: usize) -> Policy {
    Policy {
        unit_bytes: UNIT,
        units_min: 1,
        units_max: 64,
        whole_units: 4,
        sources_max,
        window: None,
    }
}

fn run(sources_max: usize, mib: u64, peers: &[Peer]) -> Outcome {
    World::new(policy(sources_max), mib * MIB, peers)
        .run()
        .unwrap()
}

/// The time if all sources finish together.
fn ideal(mib: u64, peers: &[Peer]) -> f64 {
    let rate: u64 = peers.iter().map(|it| it.rate).sum();
    (mib * MIB * UNIT) as f64 / rate as f64
}

const UNEQUAL: [(u64, u64); 5] = [
    (100_000_000, 5),
    (50_000_000, 20),
    (20_000_000, 40),
    (5_000_000, 80),
    (1_000_000, 150),
];

#[test]
fn many_sources_are_used_by_their_rate() {
    let unequal = UNEQUAL.map(|(rate, rtt)| peer(rate, rtt));
    let equal = [peer(5_000_000, 100); 8];
    let long = [peer(60_000_000, 150); 2];
    let layer = [
        peer(40_000_000, 20),
        peer(20_000_000, 40),
        peer(10_000_000, 60),
        peer(200_000, 200),
    ];
    for (name, mib, peers, ratio_max) in [
        ("unequal", 512, &unequal[..], 1.1),
        ("equal", 256, &equal, 1.1),
        ("long and fat", 512, &long, 1.2),
        ("a layer with one slow source", 16, &layer, 2.0),
    ] {
        let outcome = run(8, mib, peers);
        let ratio = outcome.ratio(ideal(mib, peers));
        assert!(ratio < ratio_max, "{name}: {ratio}");
        assert!(
            outcome.twice * 100 <= mib * MIB,
            "{name}: {} twice",
            outcome.twice
        );
    }
}

#[test]
fn in_a_local_network_nothing_is_asked_for_twice() {
    for (rate, rtt) in [(1_000_000_000, 1), (300_000_000, 2)] {
        let mut peers = [peer(rate, rtt); 4];
        peers[3] = peer(rate / 4, 10 * rtt);
        let outcome = run(8, 12, &peers);
        assert!(outcome.elapsed < Duration::from_millis(100), "{outcome:?}");
        assert_eq!(outcome.twice, 0, "{rate} B/s, {rtt} ms");
    }
}

#[test]
fn one_source_at_a_time_is_kept_busy() {
    for (rate, rtt) in [(100_000_000, 1), (60_000_000, 150), (1_000_000, 100)] {
        let peers = [peer(rate, rtt); 2];
        let outcome = run(1, 64, &peers);
        let ratio = outcome.ratio(ideal(64, &peers[..1]));
        assert!(ratio < 1.5, "{rate} B/s, {rtt} ms: {ratio}");
        assert_eq!(outcome.twice, 0);
        assert_eq!(outcome.order, (0..64 * MIB).collect::<Vec<_>>());
        assert!(outcome.under_way_max <= 256 + 64);
    }
}

#[test]
fn the_fastest_may_fall_silent() {
    let mut peers = UNEQUAL.map(|(rate, rtt)| peer(rate, rtt));
    peers[0] = peers[0].stalling(500);
    let rest = ideal(512 - 47, &peers[1..]);
    let ratio = run(8, 512, &peers).ratio(0.5 + rest);
    assert!(ratio < 1.1, "{ratio}");
}

#[test]
fn a_source_that_never_answers_costs_one_time_out() {
    let peers = [peer(10_000_000, 10).stalling(0), peer(10_000_000, 10)];
    for sources_max in [1, 2] {
        let outcome = run(sources_max, 16, &peers);
        assert!(outcome.elapsed < Duration::from_secs(4 + 3), "{outcome:?}");
        assert_eq!(outcome.units[0], 0);
    }
}

#[test]
fn a_source_that_stops_half_way_is_left_within_its_time_out() {
    let peers = [peer(10_000_000, 10).stalling(1_000), peer(10_000_000, 10)];
    let outcome = run(1, 32, &peers);
    let seconds = outcome.elapsed.as_secs_f64();
    assert!(seconds < ideal(32, &peers[..1]) + 3.0, "{seconds}");
    assert!(outcome.units.iter().all(|units| *units > 0));
    assert_eq!(outcome.twice, 0);
}

#[test]
fn the_last_block_is_not_hostage() {
    let mut peers = [peer(2_000_000, 20); 4];
    peers[2] = peers[2].stalling(7_900);
    let outcome = run(4, 64, &peers);
    let late = outcome.elapsed.as_secs_f64() - ideal(64, &peers);
    assert!(late < 2.0, "{late}");
    assert!(outcome.twice * 100 <= 64 * MIB, "{}", outcome.twice);
}

#[test]
fn equal_sources_share_and_the_fast_one_does_most() {
    let equal = run(4, 64, &[peer(2_000_000, 20); 4]);
    for units in &equal.units {
        assert!(
            (15..=35).contains(&(units * 100 / (64 * MIB))),
            "{:?}",
            equal.units
        );
    }
    let mut peers = [peer(500_000, 20); 4];
    peers[3] = peer(10_000_000, 20);
    let outcome = run(4, 64, &peers);
    assert!(
        outcome.units[3] * 100 >= 80 * 64 * MIB,
        "{:?}",
        outcome.units
    );
    assert!(outcome.ratio(ideal(64, &peers)) < 1.25);
}

#[test]
fn the_only_source_is_used_however_slow_it_is() {
    for rate in [64_000, 10_000, 4_000] {
        let outcome = run(1, 1, &[peer(rate, 300)]);
        let ratio = outcome.ratio(ideal(1, &[peer(rate, 300)]));
        assert!(ratio < 2.5, "{rate} B/s: {ratio}");
    }
}
