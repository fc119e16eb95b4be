//! The machine that decides whom to ask for which blocks.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{NodeId, Time};
use crate::proto::sync::buffer::Buffer;
use crate::proto::sync::event::{Effect, Input};
use crate::proto::sync::gaps::gaps;
use crate::proto::sync::message::{GetBlocks, NotAvailable, Run};
use crate::proto::sync::progress::{Meter, Progress, State};
use crate::proto::sync::requests::{Request, Requests};
use crate::proto::sync::source::{Fault, Source, check_claim};

/// Peers that are considered as sources; further ones are ignored until one leaves.
const SOURCES_MAX: usize = 1_024;

/// Bytes buffered and under way; at the limit only the next height is asked for. Unit: bytes.
const BUFFER_BYTES_MAX: u64 = 64 << 20;

/// A node that lacks no more than this is live: a block may be on its way. Unit: heights.
const LIVE_GAP_MAX: u64 = 1;

/// A live node has fallen behind when it lacks more than this, and fetched as many blocks that
/// turned out to be good; a claim alone proves nothing. Unit: heights.
const BEHIND_GAP: u64 = 8;

/// How long a faulty peer is not asked, whatever else the caller does about it.
const FAULTY_TIMEOUT: Duration = Duration::from_secs(600);

/// Faulty peers that are remembered; the one closest to forgiveness is forgotten.
const FAULTY_MAX: usize = 256;

/// Without any progress for this long, claims of blocks that nobody delivers do not keep us from
/// being live, if some peer is where we are.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// How long a request may take before another peer is asked; grows with a peer's measured
    /// slowness. Range: above zero.
    pub timeout: Duration,
    /// How long a live node waits for an announced block to arrive by itself. Zero where no bodies
    /// are gossiped.
    pub grace: Duration,
    /// How far above the applied head blocks are requested. Unit: heights; at least 1.
    pub window: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            grace: Duration::from_millis(300),
            window: 512,
        }
    }
}

/// The synchronization of one node. After a restart it begins at the applied head.
#[derive(Debug)]
pub struct Sync {
    config: Config,
    applied: u64,
    state: State,
    sources: BTreeMap<NodeId, Source>,
    faulty: BTreeMap<NodeId, Time>,
    requests: Requests,
    buffer: Buffer,
    /// The last height that the caller is applying.
    handed: Option<u64>,
    /// Moving average of a block's length. Unit: bytes.
    block_bytes: u64,
    /// A live node asks for nothing before this time.
    grace_until: Option<Time>,
    /// When the head last moved, or the state turned.
    moved: Time,
    /// Blocks applied from here in a row.
    fetched: u64,
    meter: Meter,
    spurious: u64,
    wake: Option<Time>,
}

impl Sync {
    /// A machine for a node whose head is at `applied`.
    pub fn new(config: Config, applied: u64) -> Self {
        Self {
            config,
            applied,
            state: State::Searching,
            sources: BTreeMap::new(),
            faulty: BTreeMap::new(),
            requests: Requests::default(),
            buffer: Buffer::default(),
            handed: None,
            block_bytes: 1_024,
            grace_until: None,
            moved: Time::ZERO,
            fetched: 0,
            meter: Meter::new(),
            spurious: 0,
            wake: None,
        }
    }

    /// What the machine is doing.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Where we stand.
    pub fn progress(&self, now: Time) -> Progress {
        Progress {
            state: self.state,
            have: self.applied,
            target: self.target(),
            peers: self.sources.len(),
            usable: self.usable().count(),
            in_flight: self.requests.in_flight().count(),
            buffered: self.buffer.len(),
            rate: self.meter.rate(now, self.applied),
            spurious: self.spurious,
        }
    }

    /// Applies one input.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Joined { peer, base, tip } => self.joined(now, peer, base, tip, out),
            Input::Tip { peer, height } => self.tip(now, peer, height, out),
            Input::Left { peer } => {
                self.sources.remove(&peer);
                self.requests.drop_peer(&peer);
            }
            Input::Blocks { peer, run } => self.blocks(now, peer, run, out),
            Input::NotAvailable { peer, answer } => self.not_available(now, peer, answer, out),
            Input::Malformed { peer } => self.blame(now, peer, Fault::Malformed, out),
            Input::Applied { height } => self.applied(now, height),
            Input::Rejected { peer, height } => {
                self.applied(now, height.saturating_sub(1));
                if self.handed.take().is_some() {
                    self.blame(now, peer, Fault::BadBlock(height), out);
                }
            }
        }
        self.plan(now, out);
    }

    /// When [`Self::expire`] should be called next.
    pub const fn next_deadline(&self) -> Option<Time> {
        self.wake
    }

    /// Gives up waiting for what did not come, and asks others.
    pub fn expire(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.faulty.retain(|_, until| now < *until);
        for peer in self.requests.expire(now) {
            if let Some(source) = self.sources.get_mut(&peer) {
                source.timed_out(now);
            }
            out.push(Effect::Slow { peer });
        }
        self.plan(now, out);
    }

    fn joined(&mut self, now: Time, peer: NodeId, base: u64, tip: u64, out: &mut Vec<Effect>) {
        if self.faulty.get(&peer).is_some_and(|until| now < *until) {
            return;
        }
        if let Err(fault) = check_claim(base, tip) {
            self.blame(now, peer, fault, out);
            return;
        }
        if self.sources.len() < SOURCES_MAX {
            self.requests.drop_peer(&peer);
            self.sources.insert(peer, Source::new(base, tip));
        }
    }

    fn tip(&mut self, now: Time, peer: NodeId, height: u64, out: &mut Vec<Effect>) {
        let Some(source) = self.sources.get_mut(&peer) else {
            return;
        };
        let checked = if height < source.tip {
            let (from, to) = (source.tip, height);
            Err(Fault::HeightDown { from, to })
        } else {
            check_claim(source.base, height)
        };
        match checked {
            Ok(()) => source.tip = height,
            Err(fault) => self.blame(now, peer, fault, out),
        }
    }

    fn blocks(&mut self, now: Time, peer: NodeId, run: Run, out: &mut Vec<Effect>) {
        let Some(request) = self.end_request(&peer, run.id()) else {
            self.spurious += 1;
            return;
        };
        let count = run.blocks().len() as u64;
        if run.from() != request.from || request.to - request.from + 1 < count {
            self.blame(now, peer, Fault::Malformed, out);
            return;
        }
        let bytes = run.blocks().iter().map(|it| it.bytes as u64).sum();
        if let Some(source) = self.sources.get_mut(&peer) {
            source.answered(now, request.sent, count, bytes);
        }
        self.block_bytes = self.block_bytes.midpoint(bytes / count.max(1));
        let known = self.known();
        let new = run.into_blocks().into_iter();
        for block in new.filter(|it| known < it.block.height()) {
            self.buffer.insert(peer, block);
        }
    }

    fn not_available(
        &mut self,
        now: Time,
        peer: NodeId,
        answer: NotAvailable,
        out: &mut Vec<Effect>,
    ) {
        let Some(request) = self.end_request(&peer, answer.id) else {
            self.spurious += 1;
            return;
        };
        let NotAvailable { base, tip, .. } = answer;
        // The answer may have overtaken announcements of later tips, so it is compared with what
        // the peer claimed when it was asked, and does not raise the claim.
        let checked = if tip < request.claim {
            let (from, to) = (request.claim, tip);
            Err(Fault::HeightDown { from, to })
        } else if base <= request.from {
            Err(Fault::Contradiction(request.from))
        } else {
            check_claim(base, tip)
        };
        match (checked, self.sources.get_mut(&peer)) {
            (Err(fault), _) => self.blame(now, peer, fault, out),
            (Ok(()), Some(source)) => source.base = source.base.max(base), // Pruned meanwhile.
            (Ok(()), None) => {}
        }
    }

    fn end_request(&mut self, peer: &NodeId, id: u64) -> Option<Request> {
        let (request, was_late) = self.requests.take(peer, id)?;
        if let Some(source) = self.sources.get_mut(peer).filter(|_| !was_late) {
            source.in_flight = source.in_flight.saturating_sub(1);
        }
        Some(request)
    }

    fn applied(&mut self, now: Time, height: u64) {
        if height <= self.applied {
            return;
        }
        let by_us = self.handed.is_some_and(|to| height <= to);
        let more = height - self.applied;
        self.fetched = if by_us { self.fetched + more } else { 0 };
        self.applied = height;
        self.moved = now;
        self.meter.note(now, height);
        self.handed = self.handed.filter(|to| height < *to);
        self.buffer.drop_to(height);
        // The announced block came; the next one gets its own grace.
        self.grace_until = None;
    }

    /// Forgets what the peer sent, asks it no more for a while, and reports it.
    fn blame(&mut self, now: Time, peer: NodeId, fault: Fault, out: &mut Vec<Effect>) {
        self.sources.remove(&peer);
        self.requests.drop_peer(&peer);
        self.buffer.drop_from(&peer);
        if FAULTY_MAX <= self.faulty.len() {
            let first = self.faulty.iter().min_by_key(|(_, until)| **until);
            if let Some(first) = first.map(|(peer, _)| *peer) {
                self.faulty.remove(&first);
            }
        }
        // What was under way when the peer was blamed is not blamed again.
        let until = self.faulty.insert(peer, now + FAULTY_TIMEOUT);
        if until.is_none_or(|it| it <= now) {
            out.push(Effect::Blame { peer, fault });
        }
    }

    /// What follows from the present knowledge, whatever the input was.
    fn plan(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.handed.is_none()
            && let Some((peer, blocks)) = self.buffer.take(self.applied.saturating_add(1))
        {
            self.handed = blocks.last().map(|it| it.block.height());
            out.push(Effect::Apply { peer, blocks });
        }
        let state = self.next_state(now);
        if state != self.state {
            self.state = state;
            self.moved = now;
            self.fetched = 0;
            out.push(Effect::Turned(state));
        }
        self.ask(now, out);
        self.wake = self.next_wake(now);
    }

    fn next_state(&self, now: Time) -> State {
        let Some(target) = self.target() else {
            return State::Searching;
        };
        let gap = target.saturating_sub(self.applied);
        match self.state {
            State::Live if BEHIND_GAP < gap && BEHIND_GAP < self.fetched => State::CatchingUp,
            State::Live => State::Live,
            State::Searching | State::CatchingUp if gap <= LIVE_GAP_MAX || self.is_stalled(now) => {
                State::Live
            }
            State::Searching | State::CatchingUp => State::CatchingUp,
        }
    }

    fn is_stalled(&self, now: Time) -> bool {
        let beside_us = |it: &Source| it.is_prompt() && it.tip <= self.applied + LIVE_GAP_MAX;
        self.moved + STALL_TIMEOUT <= now && self.usable().any(beside_us)
    }

    /// The highest claim of the peers that answer in time; if there are none, of those that may
    /// just be slow.
    fn target(&self) -> Option<u64> {
        let prompt = self.usable().filter(|it| it.is_prompt());
        let believable = self.usable().filter(|it| it.is_believable());
        let highest = prompt.map(|it| it.tip).max();
        highest.or_else(|| believable.map(|it| it.tip).max())
    }

    fn usable(&self) -> impl Iterator<Item = &Source> {
        let next = self.applied.saturating_add(1);
        self.sources.values().filter(move |it| it.base <= next)
    }

    /// The last height that is applied or being applied.
    fn known(&self) -> u64 {
        self.handed.unwrap_or(self.applied)
    }

    /// Sends requests for what nobody has been asked for, lowest first.
    fn ask(&mut self, now: Time, out: &mut Vec<Effect>) {
        let next = self.known().saturating_add(1);
        let claims = self.usable().filter(|it| self.may_ask(it, now));
        let top = claims.map(|it| it.tip).max().unwrap_or(0);
        let horizon = top.min(self.applied.saturating_add(self.config.window));
        if horizon < next {
            return;
        }
        if self.state == State::Live {
            let until = self.grace_until.get_or_insert(now + self.config.grace);
            if now < *until {
                return;
            }
        }
        let asked = self.requests.in_flight().map(|it| (it.from, it.to));
        let taken = asked.chain(self.buffer.heights().map(|it| (it, it)));
        for (from, to) in gaps(next, horizon, taken) {
            let mut at = from;
            while at <= to {
                let is_full = BUFFER_BYTES_MAX <= self.bytes_expected();
                let Some(peer) = self.choose(now, at).filter(|_| !is_full || at == next) else {
                    break;
                };
                at = self.send(now, peer, at, to, out).saturating_add(1);
            }
        }
        self.hedge(now, next, out);
    }

    fn bytes_expected(&self) -> u64 {
        let asked: u64 = self.requests.in_flight().map(|it| it.bytes_max).sum();
        self.buffer.bytes().saturating_add(asked)
    }

    /// Whether the peer is worth asking: one that let several requests time out rests, unless
    /// there is no better one.
    fn may_ask(&self, source: &Source, now: Time) -> bool {
        source.is_believable() || self.state == State::Searching || source.has_rested(now)
    }

    /// The peer to ask for `height`: one that answers in time if any such peer claims it, with the
    /// least in hand and, among equals, the one that served least, so that all serve.
    fn choose(&self, now: Time, height: u64) -> Option<NodeId> {
        let claimants = || {
            let claims = |it: &Source| it.claims(height) && self.may_ask(it, now);
            self.sources.iter().filter(move |(_, it)| claims(it))
        };
        let any_prompt = claimants().any(|(_, it)| it.is_prompt());
        claimants()
            .filter(|(_, it)| it.has_room() && (it.is_prompt() || !any_prompt))
            .filter(|(peer, _)| !self.requests.is_exhausted(now, peer, height))
            .min_by_key(|(_, it)| (it.timeouts(), it.in_flight, it.served))
            .map(|(peer, _)| *peer)
    }

    /// Asks `peer` for heights from `from` on, at most up to `to`; returns the last one asked for.
    fn send(&mut self, now: Time, peer: NodeId, from: u64, to: u64, out: &mut Vec<Effect>) -> u64 {
        let Some(source) = self.sources.get_mut(&peer) else {
            return to;
        };
        let count = source.count_max(self.block_bytes);
        let to = to.min(source.tip).min(from.saturating_add(count - 1));
        let count = to.saturating_sub(from) + 1;
        let bytes_max = source.bytes_max();
        let expected = bytes_max.min(count.saturating_mul(self.block_bytes));
        // The first block comes whatever its size, after what the peer has to send before.
        let queued = source.in_flight as u64 * self.block_bytes;
        let expected = expected.max(self.block_bytes) + queued;
        source.in_flight += 1;
        let id = self.requests.start(Request {
            peer,
            from,
            to,
            bytes_max,
            claim: source.tip,
            sent: now,
            deadline: now + source.patience(expected, self.config.timeout),
        });
        let request = GetBlocks {
            id,
            from,
            count_max: u32::try_from(count).unwrap_or(u32::MAX),
            bytes_max: u32::try_from(bytes_max).unwrap_or(u32::MAX),
        };
        out.push(Effect::Send { peer, request });
        to
    }

    /// Asks an idle peer too for the next height if it has been with one peer for long: the whole
    /// window waits for it.
    fn hedge(&mut self, now: Time, next: u64, out: &mut Vec<Effect>) {
        let Some((holder, to)) = self
            .hedge_at(next)
            .filter(|(at, _)| *at <= now)
            .map(|(_, it)| (it.peer, it.to))
        else {
            return;
        };
        let idle = |peer: &NodeId, it: &Source| {
            *peer != holder && it.is_prompt() && it.in_flight == 0 && it.claims(next)
        };
        let idle = self.sources.iter().filter(|(peer, it)| idle(peer, it));
        let chosen = idle.min_by_key(|(_, it)| it.served).map(|(peer, _)| *peer);
        if let Some(peer) = chosen {
            self.send(now, peer, next, to, out);
        }
    }

    /// When to ask a second peer for the next height, and the request that holds it alone.
    fn hedge_at(&self, next: u64) -> Option<(Time, &Request)> {
        let mut holders = self
            .requests
            .in_flight()
            .filter(|it| (it.from..=it.to).contains(&next));
        let only = holders.next()?;
        let at = only.sent + self.config.timeout / 4;
        holders.next().is_none().then_some((at, only))
    }

    fn next_wake(&self, now: Time) -> Option<Time> {
        let deadline = self.requests.in_flight().map(|it| it.deadline).min();
        let hedge = self.hedge_at(self.known().saturating_add(1));
        let grace = self.grace_until.filter(|_| self.state == State::Live);
        let stall = self.moved + STALL_TIMEOUT;
        let stall = (self.state == State::CatchingUp).then_some(stall);
        let retry = self.requests.next_retry(now);
        let later = [hedge.map(|(at, _)| at), grace, stall, retry];
        let later = later.into_iter().flatten().filter(|it| now < *it);
        deadline.into_iter().chain(later).min()
    }
}
