//! One artifact on its way to the disk, from whoever has it.
//!
//! The machine decides whom to ask for which groups, what to do with those who do not deliver, and
//! when to give up. It sees no bytes: the shell verifies them (`Replies`), hands them to the store,
//! and tells the machine what arrived and what is durable.
//!
//! ```text
//!  SourceAdded ──▶ Request ──▶ Arrived ──▶ (store) ──▶ Durable … Done
//!                     │
//!                     ├─ late, NotFound, Busy ─▶ Avoid, another source
//!                     └─ Refused ─▶ Ban, another source
//! ```
//!
//! It ends exactly once, with [`Effect::Done`] or [`Effect::Failed`]; later inputs do nothing.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use crate::base::Time;
use crate::proto::exchange::arrival::Fault;
use crate::proto::exchange::group::{GROUP_BYTES, group_count};
use crate::proto::exchange::message::GROUPS_MAX;
use crate::proto::exchange::presence::Presence;
use crate::proto::schedule::{Policy, Ranges, Scheduler};

/// Bytes that have arrived and are not durable, or are under way. At the limit no more are asked
/// for until the store has caught up: a slow disk costs speed, not memory.
pub const BUFFERED_BYTES_MAX: u64 = 64 << 20;

/// Sources that may be banned during one download; beyond that it fails.
pub const BANNED_MAX: usize = 64;

/// How often more sources are asked for: while nobody can be asked, and while too few can.
pub const DISCOVERY_INTERVAL: Duration = Duration::from_secs(3);
/// See [`DISCOVERY_INTERVAL`].
pub const DISCOVERY_INTERVAL_IDLE: Duration = Duration::from_secs(30);

/// A busy source is left alone for as long as it says, within these bounds.
pub const BUSY_MIN: Duration = Duration::from_millis(100);
/// See [`BUSY_MIN`].
pub const BUSY_MAX: Duration = Duration::from_secs(30);

/// How a download behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// After so long without a new group, arrived or durable, the download fails.
    pub progress_timeout: Duration,
    /// Sources that are asked at the same time; at least one is.
    pub sources_max: usize,
    /// While fewer than these can be asked, more are looked for.
    pub sources_wanted: usize,
    /// How far ahead of the reader groups are fetched, if they have to wait for it in memory.
    /// `None` if they go to a file: a window would cost 10 to 28 % of the speed. Unit: bytes.
    pub window_bytes: Option<u64>,
    /// How fast we take bytes, if that is limited. Unit: bytes per second.
    pub rate_max: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            progress_timeout: Duration::from_secs(60),
            sources_max: 1,
            sources_wanted: 3,
            window_bytes: None,
            rate_max: None,
        }
    }
}

impl Config {
    fn policy(&self) -> Policy {
        let unit_bytes = GROUP_BYTES as u64;
        Policy {
            unit_bytes,
            units_min: 1,
            units_max: GROUPS_MAX,
            whole_units: 4,
            sources_max: self.sources_max.max(1),
            window: self.window_bytes.map(|it| it.div_ceil(unit_bytes).max(1)),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input<S> {
    /// `source` claims to have `has`; said again, it replaces the earlier claim.
    SourceAdded {
        /// Who.
        source: S,
        /// The claim.
        has: Presence,
    },
    /// `source` was not asked yet and probably has all: it is asked for groups at once, which spares
    /// a round trip.
    SourceGuessed {
        /// Who.
        source: S,
    },
    /// The connection to `source` is gone.
    SourceGone {
        /// Who.
        source: S,
    },
    /// Verified groups of request `id` came and were handed to the store.
    Arrived {
        /// The request.
        id: u64,
        /// The groups.
        groups: Range<u64>,
    },
    /// Request `id` ended: with all its groups, or because it was cancelled.
    Ended {
        /// The request.
        id: u64,
    },
    /// The source has not what request `id` asked for.
    NotFound {
        /// The request.
        id: u64,
    },
    /// The source has too much to do for request `id`.
    Busy {
        /// The request.
        id: u64,
        /// When to ask it again.
        retry_after: Duration,
    },
    /// What `source` sent was refused.
    Refused {
        /// Who.
        source: S,
        /// What it did.
        fault: Fault,
    },
    /// The reader stands at this byte of the artifact.
    Want {
        /// Unit: bytes.
        offset: u64,
    },
    /// These groups, which arrived before, would survive a crash.
    Durable {
        /// The groups.
        groups: Range<u64>,
    },
    /// Nobody wants the artifact any more.
    Cancelled,
}

/// What to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect<S> {
    /// Send a `Get`.
    Request {
        /// To whom.
        source: S,
        /// The number of the request in this download.
        id: u64,
        /// What to ask for.
        groups: Range<u64>,
    },
    /// Send a `Cancel`. What is under way may still be reported as arrived.
    CancelRequest {
        /// To whom.
        source: S,
        /// The request.
        id: u64,
    },
    /// Close the connection and ban: the fault is proven.
    Ban {
        /// Whom.
        source: S,
        /// Why.
        fault: Fault,
    },
    /// Think less of `source`: it disappointed, which proves nothing.
    Avoid {
        /// Whom.
        source: S,
        /// Why.
        reason: Reason,
    },
    /// Look for more sources.
    NeedSources,
    /// The artifact is complete and durable.
    Done,
    /// The artifact will not be complete; what is durable may be resumed from.
    Failed(Failure),
}

/// Why a source disappointed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// It did not answer in time.
    Late,
    /// It has not what it claimed to have.
    NotFound,
}

/// Why a download failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Nobody has it.
    #[error("no source for the artifact was found; ask for a build, or try later")]
    NoSource,
    /// Somebody has it, but nothing came for too long.
    #[error("no progress for too long; {missing} groups are missing")]
    Stalled {
        /// Groups that did not come or are not durable.
        missing: u64,
    },
    /// [`BANNED_MAX`] sources were banned.
    #[error("too many sources sent wrong bytes; the size in the log may be wrong")]
    Hostile,
    /// Nobody wants it any more.
    #[error("the download was cancelled")]
    Cancelled,
}

/// The download of one artifact. `S` names a source.
#[derive(Clone, Debug)]
pub struct Download<S> {
    config: Config,
    group_count: u64,
    scheduler: Scheduler<S>,
    /// Groups that would survive a crash.
    durable: Ranges,
    banned: BTreeSet<S>,
    had_source: bool,
    progress_at: Time,
    discovered_at: Option<Time>,
    /// When more sources are asked for; `None` if there are enough.
    discovery_at: Option<Time>,
    is_over: bool,
}

impl<S: Clone + Ord> Download<S> {
    /// Starts the download of an artifact of `size` bytes of which the groups `durable` are here.
    ///
    /// The size must come from the log. An artifact of zero bytes is done at once; the caller
    /// compares its root with the digest of no bytes.
    pub fn new(
        now: Time,
        config: Config,
        size: u64,
        durable: &Ranges,
        out: &mut Vec<Effect<S>>,
    ) -> Self {
        let group_count = group_count(size);
        let durable = durable.intersect(&Ranges::from(0..group_count));
        let mut missing = Ranges::from(0..group_count);
        durable.iter().for_each(|run| missing.remove(run));
        let mut download = Self {
            config,
            group_count,
            scheduler: Scheduler::new(config.policy(), missing),
            durable,
            banned: BTreeSet::new(),
            had_source: false,
            progress_at: now,
            discovered_at: None,
            discovery_at: None,
            is_over: false,
        };
        if let Some(rate_max) = config.rate_max {
            download.scheduler.limit_rate(rate_max);
        }
        download.proceed(now, out);
        download
    }

    /// Whether [`Effect::Done`] or [`Effect::Failed`] was given.
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The groups that would survive a crash.
    pub const fn durable(&self) -> &Ranges {
        &self.durable
    }

    /// Takes an input and appends what is to be done.
    pub fn handle(&mut self, now: Time, input: Input<S>, out: &mut Vec<Effect<S>>) {
        if self.is_over {
            return;
        }
        match input {
            Input::SourceAdded { source, has } => {
                if !self.banned.contains(&source) {
                    self.had_source |= has != Presence::None;
                    let has = has.groups(self.group_count);
                    self.scheduler.source_added(source, has);
                }
            }
            Input::SourceGuessed { source } => {
                if !self.banned.contains(&source) {
                    let has = Presence::Whole.groups(self.group_count);
                    self.scheduler.source_added(source, has);
                }
            }
            Input::SourceGone { source } => self.scheduler.source_gone(&source),
            Input::Arrived { id, groups } => {
                let arrived = self.scheduler.arrived(now, id, groups);
                self.had_source = true;
                if arrived.fresh > 0 {
                    self.progress_at = now;
                }
                let cancel = |(source, id)| Effect::CancelRequest { source, id };
                out.extend(arrived.beaten.into_iter().map(cancel));
            }
            Input::Ended { id } | Input::NotFound { id } => self.not_found(id, out),
            Input::Busy { id, retry_after } => {
                if let Some((source, _)) = self.scheduler.ended(id) {
                    let until = now + retry_after.clamp(BUSY_MIN, BUSY_MAX);
                    self.scheduler.source_rests(&source, until);
                }
            }
            Input::Refused { source, fault } => self.ban(source, fault, out),
            Input::Want { offset } => self.scheduler.want(offset / GROUP_BYTES as u64),
            Input::Durable { groups } => {
                let before = self.durable.len();
                self.durable
                    .insert(groups.start..groups.end.min(self.group_count));
                if self.durable.len() > before {
                    self.progress_at = now;
                }
            }
            Input::Cancelled => return self.fail(Failure::Cancelled, out),
        }
        self.proceed(now, out);
    }

    /// When to call [`Download::expire`] at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.is_over {
            return None;
        }
        let give_up = self.progress_at + self.config.progress_timeout;
        let deadlines = [self.scheduler.next_deadline(), self.discovery_at];
        deadlines.into_iter().flatten().chain([give_up]).min()
    }

    /// Does what is due at `now`.
    pub fn expire(&mut self, now: Time, out: &mut Vec<Effect<S>>) {
        if self.is_over {
            return;
        }
        if self.progress_at + self.config.progress_timeout <= now {
            let failure = if self.had_source {
                let missing = self.group_count - self.durable.len();
                Failure::Stalled { missing }
            } else {
                Failure::NoSource
            };
            return self.fail(failure, out);
        }
        for late in self.scheduler.expire(now) {
            for id in late.ids {
                let source = late.source.clone();
                out.push(Effect::CancelRequest { source, id });
            }
            let (source, reason) = (late.source, Reason::Late);
            out.push(Effect::Avoid { source, reason });
        }
        self.proceed(now, out);
    }

    /// Sends what may be sent, and ends if nothing is missing.
    fn proceed(&mut self, now: Time, out: &mut Vec<Effect<S>>) {
        if self.is_over {
            return;
        }
        if self.durable.len() == self.group_count {
            self.is_over = true;
            self.cancel_all(out);
            out.push(Effect::Done);
            return;
        }
        while self.buffered_bytes() < BUFFERED_BYTES_MAX {
            let Some(ask) = self.scheduler.next_request(now) else {
                break;
            };
            out.push(Effect::Request {
                source: ask.source,
                id: ask.id,
                groups: ask.units,
            });
        }
        self.discover(now, out);
    }

    /// Asks for more sources if there are too few, but not too often.
    fn discover(&mut self, now: Time, out: &mut Vec<Effect<S>>) {
        let live = self.scheduler.live_sources(now);
        if self.scheduler.is_complete() || live >= self.config.sources_wanted {
            self.discovery_at = None;
            return;
        }
        let interval = if live == 0 {
            DISCOVERY_INTERVAL
        } else {
            DISCOVERY_INTERVAL_IDLE
        };
        let mut next = self.discovered_at.map_or(now, |it| it + interval);
        if next <= now {
            out.push(Effect::NeedSources);
            self.discovered_at = Some(now);
            next = now + interval;
        }
        self.discovery_at = Some(next);
    }

    /// One false claim voids the whole of it: the source has to be asked again what it has.
    fn not_found(&mut self, id: u64, out: &mut Vec<Effect<S>>) {
        let Some((source, _)) = self.scheduler.ended(id) else {
            return;
        };
        self.scheduler.source_added(source.clone(), Ranges::new());
        let reason = Reason::NotFound;
        out.push(Effect::Avoid { source, reason });
    }

    fn ban(&mut self, source: S, fault: Fault, out: &mut Vec<Effect<S>>) {
        if !self.banned.insert(source.clone()) {
            return;
        }
        self.scheduler.source_gone(&source);
        out.push(Effect::Ban { source, fault });
        if self.banned.len() >= BANNED_MAX {
            self.fail(Failure::Hostile, out);
        }
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<Effect<S>>) {
        self.is_over = true;
        self.cancel_all(out);
        out.push(Effect::Failed(failure));
    }

    fn cancel_all(&self, out: &mut Vec<Effect<S>>) {
        let cancel = |(source, id): (&S, u64)| Effect::CancelRequest {
            source: source.clone(),
            id,
        };
        out.extend(self.scheduler.requests().map(cancel));
    }

    /// Bytes that are under way, or have arrived and are not durable.
    fn buffered_bytes(&self) -> u64 {
        let arrived = self.group_count - self.scheduler.missing().len();
        let unwritten = arrived.saturating_sub(self.durable.len());
        self.scheduler.outstanding_bytes() + unwritten * GROUP_BYTES as u64
    }
}
