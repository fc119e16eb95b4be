//! The scheduler: who is asked for what, how much at once, and what happens if nothing comes.
//!
//! *Units* are whole numbers: groups of an artifact, heights of blocks. The scheduler knows which
//! are missing, which are under way and from whom; it measures each source and sizes requests by
//! its rate. It holds no units itself and sends nothing.
//!
//! ```text
//!             next_request               arrived (all of it)
//!   missing ───────────────▶ under way ──────────────────────▶ here
//!      ▲                         │
//!      └──── late, gone, ended ──┘
//! ```
//!
//! * A source that has not answered yet gets one small request and nothing more until it answers.
//! * Then a request is worth 250 ms of the source's rate, and so many are under way that the source
//!   is busy until the next ones reach it.
//! * Order is ascending from the reader's position; what lies before it comes last.
//! * A late request is given to another source; the second one in a row makes its source rest,
//!   unless it is the only one: a slow source is better than none.
//! * With several sources at once, the tail is asked for twice rather than waited for, unless it
//!   may come any moment.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crate::base::Time;
use crate::proto::schedule::flight::Flight;
use crate::proto::schedule::ranges::Ranges;
use crate::proto::schedule::source::Source;

/// Sources that a scheduler knows; more are ignored until one goes.
pub const SOURCES_MAX: usize = 64;

/// Requests that may be under way from one source.
pub const REQUESTS_MAX: usize = 16;

/// How much is asked of whom.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// Bytes of a unit; an estimate where units differ.
    pub unit_bytes: u64,
    /// The smallest request, and the first one to an unknown source. Unit: units.
    pub units_min: u64,
    /// The largest request. Unit: units.
    pub units_max: u64,
    /// If no more than this is wanted in all, it is asked for in one request. Unit: units.
    pub whole_units: u64,
    /// Sources that are asked at the same time.
    pub sources_max: usize,
    /// How far ahead of the reader's position units are asked for; `None` without a reader that
    /// has to hold them in memory. Unit: units.
    pub window: Option<u64>,
}

/// A request to be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ask<S> {
    /// Its number; never used again.
    pub id: u64,
    /// Whom to ask.
    pub source: S,
    /// What to ask for.
    pub units: Range<u64>,
}

/// What an arrival changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Arrived<S> {
    /// Units that were still missing; the others came twice.
    pub fresh: u64,
    /// Requests that are pointless now, because another source was faster.
    pub beaten: Vec<(S, u64)>,
}

/// A request that was not answered in time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Late<S> {
    /// Who did not answer.
    pub source: S,
    /// The requests that are given to others.
    pub ids: Vec<u64>,
    /// Whether the source is left alone for a while.
    pub rests: bool,
}

/// Divides units among sources.
#[derive(Clone, Debug)]
pub struct Scheduler<S> {
    policy: Policy,
    /// Units wanted at the start.
    wanted: u64,
    /// Units that have not come.
    missing: Ranges,
    /// Of these, the ones that are not under way.
    free: Ranges,
    position: u64,
    sources: BTreeMap<S, Source>,
    flights: BTreeMap<u64, Flight<S>>,
    next_id: u64,
    rate_max: u64,
}

impl<S: Clone + Ord> Scheduler<S> {
    /// A scheduler that wants the units `wanted`, and knows no source.
    pub fn new(policy: Policy, wanted: Ranges) -> Self {
        Self {
            policy,
            wanted: wanted.len(),
            free: wanted.clone(),
            missing: wanted,
            position: 0,
            sources: BTreeMap::new(),
            flights: BTreeMap::new(),
            next_id: 0,
            rate_max: u64::MAX,
        }
    }

    /// Believes no source to be faster than this, because we do not take bytes any faster: a
    /// burst that the transport has buffered would say so. Unit: bytes per second.
    pub fn limit_rate(&mut self, rate_max: u64) {
        self.rate_max = rate_max.max(1);
    }

    /// Whether every unit came.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// The units that have not come.
    pub const fn missing(&self) -> &Ranges {
        &self.missing
    }

    /// The requests under way, and from whom.
    pub fn requests(&self) -> impl Iterator<Item = (&S, u64)> {
        self.flights.iter().map(|(id, it)| (&it.source, *id))
    }

    /// Bytes that are under way.
    pub fn outstanding_bytes(&self) -> u64 {
        let units: u64 = self.flights.values().map(|it| it.missing.len()).sum();
        units.saturating_mul(self.policy.unit_bytes)
    }

    /// The sources that could be asked for something missing, and are not left alone.
    pub fn live_sources(&self, now: Time) -> usize {
        let is_live = |source: &&Source| !source.is_resting(now) && self.is_useful(source);
        self.sources.values().filter(is_live).count()
    }

    /// Learns that `source` has the units `has`; replaces what it was said to have before.
    pub fn source_added(&mut self, source: S, has: Ranges) {
        if let Some(known) = self.sources.get_mut(&source) {
            known.has = has;
        } else if self.sources.len() < SOURCES_MAX {
            self.sources.insert(source, Source::new(has));
        }
    }

    /// Forgets `source`; what is under way from it is given to others.
    pub fn source_gone(&mut self, source: &S) {
        self.sources.remove(source);
        self.release_all(source);
    }

    /// Learns that `source` has not the units of `units`, whatever it claimed.
    pub fn source_lacks(&mut self, source: &S, units: Range<u64>) {
        if let Some(known) = self.sources.get_mut(source) {
            known.has.remove(units);
        }
    }

    /// Leaves `source` alone until `until`.
    pub fn source_rests(&mut self, source: &S, until: Time) {
        if let Some(known) = self.sources.get_mut(source) {
            known.rests_until = Some(until);
        }
    }

    /// Moves the reader's position: the next requests start there.
    pub fn want(&mut self, position: u64) {
        self.position = position;
    }

    /// The next request to be sent, which then counts as under way; `None` if nobody should be
    /// asked now. Call it until it says so, after every change.
    pub fn next_request(&mut self, now: Time) -> Option<Ask<S>> {
        let ranked = self.ranked(now, |it| self.free.next_common_run(&it.has, 0).is_some());
        for source in &ranked {
            let units = self.units_for(source, ranked.len());
            if let Some(units) = units.and_then(|it| self.next_free(source, it)) {
                self.free.remove(units.clone());
                return Some(self.launch(now, source.clone(), units));
            }
        }
        self.double_the_tail(now)
    }

    /// Learns that `units` came as part of the answer to request `id`.
    pub fn arrived(&mut self, now: Time, id: u64, units: Range<u64>) -> Arrived<S> {
        let before = self.missing.len();
        self.missing.remove(units.clone());
        self.free.remove(units.clone());
        let mut answered = Vec::new();
        for (flight_id, flight) in &mut self.flights {
            let due = flight.missing.len();
            flight.missing.remove(units.clone());
            let bytes = (due - flight.missing.len()).saturating_mul(self.policy.unit_bytes);
            let source = self.sources.get_mut(&flight.source);
            if let Some(source) = source.filter(|_| *flight_id == id) {
                source.arrived(now, bytes);
            }
            if flight.missing.is_empty() {
                answered.push((flight.source.clone(), *flight_id));
            }
        }
        for (source, flight_id) in &answered {
            self.flights.remove(flight_id);
            if *flight_id == id {
                self.completed(now, source);
            }
        }
        answered.retain(|(_, flight_id)| *flight_id != id);
        Arrived {
            fresh: before - self.missing.len(),
            beaten: answered,
        }
    }

    /// Learns that request `id` ended; what has not come of it is given to others and returned.
    pub fn ended(&mut self, id: u64) -> Option<(S, Ranges)> {
        let flight = self.flights.remove(&id)?;
        self.release(&flight.missing);
        Some((flight.source, flight.missing))
    }

    /// When to call [`Scheduler::expire`] at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        let may_double = 1 < self.policy.sources_max;
        let flights = self.flights.values();
        let flights = flights.map(|it| it.next_deadline(may_double));
        let useful = self.sources.values().filter(|it| self.is_useful(it));
        let rests = useful.filter_map(|it| it.rests_until);
        flights.chain(rests).min()
    }

    /// Gives up requests that are late at `now`, and wakes sources that have rested.
    pub fn expire(&mut self, now: Time) -> Vec<Late<S>> {
        for source in self.sources.values_mut() {
            source.rests_until = source.rests_until.filter(|it| now < *it);
        }
        for flight in self.flights.values_mut() {
            flight.grow_old(now);
        }
        let mut late: BTreeMap<S, Late<S>> = BTreeMap::new();
        let is_late = |flight: &Flight<S>| flight.deadline <= now;
        let ids: Vec<u64> = self
            .flights
            .iter()
            .filter(|(_, flight)| is_late(flight))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(flight) = self.flights.remove(&id) else {
                continue;
            };
            self.release(&flight.missing);
            let missed_too_often = self
                .sources
                .get_mut(&flight.source)
                .is_some_and(|it| it.missed(now, flight.sent));
            let source = flight.source;
            let entry = late.entry(source.clone()).or_insert(Late {
                source,
                ids: Vec::new(),
                rests: false,
            });
            entry.ids.push(id);
            entry.rests |= missed_too_often;
        }
        for late in late.values_mut().filter(|it| it.rests) {
            // A slow source is better than none.
            let others = self.ranked(now, |it| self.is_useful(it));
            late.rests = others.iter().any(|it| *it != late.source);
            if late.rests {
                if let Some(source) = self.sources.get_mut(&late.source) {
                    source.rest(now);
                }
                late.ids.extend(self.release_all(&late.source));
            }
        }
        late.into_values().collect()
    }

    /// Whether `source` has something that is missing.
    fn is_useful(&self, source: &Source) -> bool {
        self.missing.next_common_run(&source.has, 0).is_some()
    }

    /// The sources to be asked now, best first: reliable before fast before unknown.
    fn ranked(&self, now: Time, is_useful: impl Fn(&Source) -> bool) -> Vec<S> {
        let mut ranked: Vec<_> = self
            .sources
            .iter()
            .filter(|(_, it)| !it.is_resting(now) && is_useful(it))
            .map(|(source, it)| (it.misses, std::cmp::Reverse(it.rate()), source))
            .collect();
        ranked.sort();
        let best = ranked.into_iter().take(self.policy.sources_max);
        best.map(|(_, _, source)| source.clone()).collect()
    }

    /// How many units `source` may be asked for now; `None` if enough is under way.
    fn units_for(&self, source: &S, active: usize) -> Option<u64> {
        let (requests, outstanding) = self.load(source);
        let known = self.sources.get(source)?;
        let is_small = self.wanted <= self.policy.whole_units;
        let Some(rate) = known.rate() else {
            let probe = if is_small { self.wanted } else { 0 };
            return (requests == 0).then(|| self.bounded(probe));
        };
        let unit = self.policy.unit_bytes.max(1);
        let mut units = known.request_bytes() / unit;
        if active > 1 {
            // Half of its fair share of what is left, so that all finish together.
            let rates = self.sources.values().filter_map(Source::rate);
            let total: u128 = rates.map(u128::from).sum();
            let share = u128::from(self.free.len()) * u128::from(rate) / total.max(1) / 2;
            units = units.min(u64::try_from(share).unwrap_or(u64::MAX));
        }
        let units = self.bounded(units);
        let depth = known.depth_bytes().max((2 * units).saturating_mul(unit));
        let has_room = requests < REQUESTS_MAX && outstanding.saturating_mul(unit) < depth;
        has_room.then_some(units)
    }

    fn bounded(&self, units: u64) -> u64 {
        units
            .max(self.policy.units_min)
            .min(self.policy.units_max)
            .max(1)
    }

    /// The next units to ask `source` for, at most `units`.
    fn next_free(&self, source: &S, units: u64) -> Option<Range<u64>> {
        let has = &self.sources.get(source)?.has;
        let end = match self.policy.window {
            Some(window) => self.position.saturating_add(window),
            None => u64::MAX,
        };
        let ahead = self.free.next_common_run(has, self.position);
        let run = ahead
            .filter(|run| run.start < end)
            .map(|run| run.start..run.end.min(end))
            .or_else(|| {
                let behind = self.free.next_common_run(has, 0)?;
                let run = behind.start..behind.end.min(self.position);
                (run.start < run.end).then_some(run)
            })?;
        Some(run.start..run.end.min(run.start.saturating_add(units)))
    }

    /// Asks an idle source for what another one is expected to bring last, if it would be faster.
    fn double_the_tail(&mut self, now: Time) -> Option<Ask<S>> {
        if self.policy.sources_max < 2 || !self.free.is_empty() {
            return None;
        }
        let ranked = self.ranked(now, |it| self.is_useful(it) && it.rate().is_some());
        for source in ranked {
            if self.load(&source).0 > 0 {
                continue;
            }
            let known = self.sources.get(&source)?;
            let mut slowest: Option<(Time, u64, Range<u64>)> = None;
            for (id, flight) in &self.flights {
                let Some(units) = flight.missing.next_common_run(&known.has, 0) else {
                    continue;
                };
                let bytes = (units.end - units.start).saturating_mul(self.policy.unit_bytes);
                let end = flight.sent + flight.expected;
                let is_faster = known.expected(bytes) < end.since(now) * 4 / 5;
                let is_candidate = flight.source != source
                    && !flight.is_doubled
                    && (is_faster && flight.is_ripe || flight.is_overdue);
                if is_candidate && slowest.as_ref().is_none_or(|it| it.0 < end) {
                    slowest = Some((end, *id, units));
                }
            }
            if let Some((_, id, units)) = slowest {
                if let Some(flight) = self.flights.get_mut(&id) {
                    flight.is_doubled = true;
                }
                let ask = self.launch(now, source, units);
                if let Some(flight) = self.flights.get_mut(&ask.id) {
                    flight.is_doubled = true;
                }
                return Some(ask);
            }
        }
        None
    }

    fn launch(&mut self, now: Time, source: S, units: Range<u64>) -> Ask<S> {
        let id = self.next_id;
        self.next_id += 1;
        let (requests, outstanding) = self.load(&source);
        let ahead = outstanding + (units.end - units.start);
        let bytes = ahead.saturating_mul(self.policy.unit_bytes);
        let (mut expected, mut timeout) = (Duration::ZERO, Duration::ZERO);
        if let Some(known) = self.sources.get_mut(&source) {
            known.sent(now, requests == 0);
            expected = known.expected(bytes);
            timeout = known.timeout(expected);
        }
        let flight = Flight {
            source: source.clone(),
            missing: Ranges::from(units.clone()),
            sent: now,
            expected,
            deadline: now + timeout,
            is_doubled: false,
            is_ripe: false,
            is_overdue: false,
        };
        self.flights.insert(id, flight);
        Ask { id, source, units }
    }

    /// `source` answered a request: those that waited behind it have their turn, and their time,
    /// from now on.
    fn completed(&mut self, now: Time, source: &S) {
        let Some(known) = self.sources.get_mut(source) else {
            return;
        };
        known.completed(now, self.rate_max);
        for flight in self.flights.values_mut().filter(|it| it.source == *source) {
            let bytes = flight.missing.len().saturating_mul(self.policy.unit_bytes);
            let deadline = now + known.timeout(known.expected(bytes));
            flight.deadline = flight.deadline.max(deadline);
        }
    }

    /// Requests and units under way from `source`.
    fn load(&self, source: &S) -> (usize, u64) {
        let flights = self.flights.values().filter(|it| it.source == *source);
        flights.fold((0, 0), |(requests, units), it| {
            (requests + 1, units + it.missing.len())
        })
    }

    /// Makes units free again, except those that came or are under way from another source.
    fn release(&mut self, units: &Ranges) {
        let mut freed = units.intersect(&self.missing);
        for flight in self.flights.values() {
            flight.missing.iter().for_each(|run| freed.remove(run));
        }
        freed.iter().for_each(|run| self.free.insert(run));
    }

    /// Ends all requests to `source`; gives their numbers.
    fn release_all(&mut self, source: &S) -> Vec<u64> {
        let is_theirs = |(id, it): (&u64, &Flight<S>)| (it.source == *source).then_some(*id);
        let ids: Vec<u64> = self.flights.iter().filter_map(is_theirs).collect();
        for id in &ids {
            self.ended(*id);
        }
        ids
    }
}
