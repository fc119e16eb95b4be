//! All builds that this node knows of. Runs on every node; only authorized ones have a pipeline.
//!
//! ```text
//! Submit ──► Broadcast(Request) ──► every node: Requested
//!            authorized nodes: Run ──► PipelineDone ──► Attest, Broadcast(Report)
//! a quorum of equal reports: Agreed, LookUp ──► Committed or Logged ──► Committed
//! no quorum possible, or nothing heard in time: Failed
//! ```
//!
//! Reports decide nothing: what enters the log is decided by the attestations in it. They tell
//! people how a build stands and why it failed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::{BoundedQueue, NodeId, Time, WallTime};
use crate::proto::build::interface::{Config, Effect, Input, Judgement, Part, Refusal};
use crate::proto::build::message::{BuildMessage, BuildRequest, Report};
use crate::proto::build::open::Lacking;
use crate::proto::build::record::{Local, Pending, Record};
use crate::proto::build::serve::Serving;
use crate::proto::build::spec::{BuildId, BuildSpec};
use crate::proto::build::status::{BuildStatus, Census, State};
use crate::proto::chain::member::MemberSet;

/// Most builds that a node remembers, finished ones included. At the limit the finished build that
/// was used longest ago is forgotten; if none is finished, new ones are refused.
pub const BUILDS_MAX: usize = 1_024;

/// Most unfinished builds that peers brought; beyond it their requests are ignored, so that there
/// is always room for the owner's.
pub const REMOTE_ACTIVE_MAX: usize = 768;

/// Most unfinished builds that one peer brought; beyond it its requests are ignored.
pub const PEER_ACTIVE_MAX: usize = 256;

/// How long a build waits for the next report.
pub const REPORT_TIMEOUT: Duration = Duration::from_secs(600);

/// How long an attempt may take, however much progress is reported.
pub const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(6 * 3_600);

/// How long an attempt may take while an authorized node says that it is queued.
pub const QUEUE_TIME_MAX: Duration = Duration::from_secs(2 * 3_600);

/// How long a build without hope waits for the reports that explain it better.
pub const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an agreed result waits for its block.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(600);

/// Shortest time between two reports of a node about progress. Receivers accept half of it.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Highest attempt that is believed of an unknown build: a liar must not use up the numbers.
pub(crate) const FIRST_ATTEMPT_MAX: u16 = 1_024;

/// Most reports that are kept until the request comes that they belong to; gossip does not keep
/// order. The oldest make room.
const ORPHANS_MAX: usize = 256;

/// All builds that this node knows of.
#[derive(Debug)]
pub struct Builds {
    pub(crate) config: Config,
    pub(crate) members: MemberSet,
    pub(crate) builds: BTreeMap<BuildId, Record>,
    /// Counts uses, arrivals and runs.
    pub(crate) sequence: u64,
    /// Builds that stand otherwise since the last word to the shell.
    changed: BTreeSet<BuildId>,
    /// Reports that came before their request.
    orphans: BoundedQueue<Report>,
    /// Counts the builds that ended.
    pub(crate) ended: Census,
    pub(crate) lacking: Lacking,
    pub(crate) serving: Serving,
}

impl Builds {
    /// No builds yet.
    pub fn new(config: Config, members: MemberSet) -> Self {
        Self {
            config,
            members,
            builds: BTreeMap::new(),
            sequence: 0,
            changed: BTreeSet::new(),
            orphans: BoundedQueue::new(ORPHANS_MAX),
            ended: Census::default(),
            lacking: Lacking::default(),
            serving: Serving::default(),
        }
    }

    /// How a build stands; `None` if this node has not seen it, or has forgotten it.
    pub fn status(&self, id: &BuildId) -> Option<BuildStatus> {
        self.builds.get(id).map(|it| it.status(&self.members))
    }

    /// All builds, in the order of their ids.
    pub fn list(&self) -> impl Iterator<Item = BuildStatus> {
        self.builds.values().map(|it| it.status(&self.members))
    }

    /// What to store, so that unfinished builds survive a restart: see [`Input::Restored`].
    pub fn pending(&self) -> impl Iterator<Item = Pending> {
        self.unfinished().map(|it| it.pending(&self.config.node))
    }

    /// How many builds stand where.
    pub fn census(&self) -> Census {
        let mut census = self.ended;
        for record in self.builds.values() {
            match record.state {
                State::Requested => census.requested += 1,
                State::Running | State::Attested { .. } => census.running += 1,
                State::Agreed { .. } => census.agreed += 1,
                State::Committed { .. } | State::Failed(_) => (),
            }
        }
        census
    }

    /// Takes an input. `wall` goes into messages and attestations and decides nothing here.
    pub fn handle(&mut self, now: Time, wall: WallTime, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Submit(spec) => self.submit(now, wall, spec, out),
            Input::Received { from, message } => {
                let judgement = match message {
                    BuildMessage::Request(it) => self.on_request(now, wall, from, it, out),
                    BuildMessage::Report(it) => self.on_report(now, wall, it, out),
                    BuildMessage::Open(it) => {
                        self.on_open(now, from, &it, out);
                        Judgement::Ignore
                    }
                    BuildMessage::Want(it) => {
                        self.on_want(now, from, &it, out);
                        Judgement::Ignore
                    }
                };
                out.push(Effect::Judge(from, judgement));
            }
            Input::PipelineProgress { id, done, total } => {
                self.on_progress(now, wall, id, done, total, out);
            }
            Input::PipelineDone { id, run, result } => {
                self.on_result(now, wall, id, run, result, out);
            }
            Input::Committed {
                first_index,
                entries,
            } => self.on_committed(now, wall, first_index, &entries, out),
            Input::Logged { id, part, index } => {
                if let Some(record) = self.builds.get_mut(&id) {
                    match part {
                        Part::Package => record.package = Some(index),
                        Part::Tag => record.tag = Some(index),
                    }
                    self.settle(now, wall, id, out);
                }
            }
            Input::MembersChanged(members) => self.on_members(now, wall, members, out),
            Input::Connected(peer) => self.tell(peer, out),
            Input::Disconnected(peer) => self.forget_peer(&peer),
            Input::Restored(pending) => self.restore(now, wall, pending, out),
        }
        self.tell_changes(out);
    }

    /// When [`Builds::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        let deadlines = self.unfinished().map(|it| it.deadline);
        let peers = [self.lacking.next_deadline(), self.serving.next_deadline()];
        deadlines.chain(peers.into_iter().flatten()).min()
    }

    /// Ends the builds whose time is over.
    pub fn expire(&mut self, now: Time, wall: WallTime, out: &mut Vec<Effect>) {
        let due = self.unfinished().filter(|it| it.deadline <= now);
        let due: Vec<BuildId> = due.map(|it| it.id).collect();
        for id in due {
            self.give_up(now, id, out);
        }
        self.run_next(now, wall, out);
        self.ask(now, out);
        self.serve(now, out);
        self.tell_changes(out);
    }

    pub(crate) fn unfinished(&self) -> impl Iterator<Item = &Record> {
        self.builds.values().filter(|it| !it.state.is_final())
    }

    pub(crate) fn is_authorized(&self) -> bool {
        self.members.by_node(&self.config.node).is_some()
    }

    pub(crate) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn submit(&mut self, now: Time, wall: WallTime, spec: BuildSpec, out: &mut Vec<Effect>) {
        let (id, node) = (spec.id(), self.config.node);
        let request = |attempt| BuildRequest {
            spec,
            node,
            time: wall,
            attempt,
        };
        let request = match self.builds.get(&id) {
            None => request(1),
            Some(record) if record.is_repeatable() => {
                let waited = now.since(record.ended.unwrap_or(now));
                let wait = record.retry_delay().saturating_sub(waited);
                if !wait.is_zero() {
                    out.push(Effect::Refused(id, Refusal::TooSoon(wait)));
                    return;
                }
                request(record.request.attempt.saturating_add(1))
            }
            Some(_) => {
                self.changed(id); // The owner joins what is under way, or done.
                return;
            }
        };
        if self.builds.contains_key(&id) {
            self.renew(now, request.clone());
        } else if !self.insert(now, node, request.clone()) {
            out.push(Effect::Refused(id, Refusal::Busy));
            return;
        }
        out.push(Effect::Broadcast(BuildMessage::Request(request)));
        self.start(now, wall, id, out);
        self.changed(id);
    }

    fn on_request(
        &mut self,
        now: Time,
        wall: WallTime,
        from: NodeId,
        request: BuildRequest,
        out: &mut Vec<Effect>,
    ) -> Judgement {
        let id = request.spec.id();
        match self.builds.get(&id) {
            None if FIRST_ATTEMPT_MAX < request.attempt => return Judgement::Ignore,
            None => {
                if !self.insert(now, from, request) {
                    return Judgement::Ignore;
                }
                self.lacking.brought(now, &from);
            }
            Some(record) if record.may_begin(now, request.attempt) => self.renew(now, request),
            Some(_) => {
                self.answer(now, from, id, out);
                return Judgement::Ignore;
            }
        }
        self.start(now, wall, id, out);
        self.adopt(now, wall, id, out);
        self.changed(id);
        Judgement::Accept
    }

    fn on_report(
        &mut self,
        now: Time,
        wall: WallTime,
        report: Report,
        out: &mut Vec<Effect>,
    ) -> Judgement {
        let (id, node) = (report.build, report.node);
        let Some(member) = self.members.by_node(&node) else {
            return Judgement::Ignore; // Perhaps this node does not know the newest set yet.
        };
        let record = self.builds.get(&id);
        // An attempt of which this node missed the request: it may follow a member's word, unless
        // members have answered in the attempt that it knows.
        let is_later = record.is_some_and(|it| it.request.attempt < report.attempt);
        let is_wanted = record.is_none_or(|it| match report.attempt.cmp(&it.request.attempt) {
            Ordering::Less => false,
            Ordering::Equal => it.is_news(now, &report),
            Ordering::Greater => it.state == State::Requested || it.may_begin(now, report.attempt),
        });
        if !is_wanted || node == self.config.node {
            return Judgement::Ignore;
        }
        let message = report.signed_bytes(&self.config.chain);
        if let Err(error) = member.vote.verify(&message, &report.signature) {
            return Judgement::Reject(error.into());
        }
        let Some(record) = record else {
            self.orphans.push_dropping_oldest(report);
            return Judgement::Accept;
        };
        if is_later {
            let attempt = report.attempt;
            let request = BuildRequest {
                attempt,
                ..record.request.clone()
            };
            self.renew(now, request);
            self.start(now, wall, id, out);
        }
        self.note(now, report);
        self.settle(now, wall, id, out);
        Judgement::Accept
    }

    /// Takes the reports that came before the request.
    fn adopt(&mut self, now: Time, wall: WallTime, id: BuildId, out: &mut Vec<Effect>) {
        for _ in 0..self.orphans.len() {
            let Some(report) = self.orphans.pop() else {
                return;
            };
            if report.build == id {
                // What no longer stands is left out.
                let _ = self.on_report(now, wall, report, out);
            } else {
                self.orphans.push_dropping_oldest(report);
            }
        }
    }

    fn restore(&mut self, now: Time, wall: WallTime, pending: Pending, out: &mut Vec<Effect>) {
        let Pending { request, reports } = pending;
        let (id, own) = (request.spec.id(), self.config.node);
        if self.builds.contains_key(&id) || !self.insert(now, own, request.clone()) {
            return;
        }
        out.push(Effect::Broadcast(BuildMessage::Request(request)));
        for report in reports {
            // What no longer stands is left out.
            let _ = self.on_report(now, wall, report, out);
        }
        self.start(now, wall, id, out);
        self.changed(id);
    }

    /// Makes a record if there is room.
    fn insert(&mut self, now: Time, from: NodeId, request: BuildRequest) -> bool {
        let own = self.config.node;
        let remote = || self.unfinished().filter(|it| it.from != own);
        let by_peer = remote().filter(|it| it.from == from).count();
        if from != own && (REMOTE_ACTIVE_MAX <= remote().count() || PEER_ACTIVE_MAX <= by_peer) {
            return false;
        }
        if BUILDS_MAX <= self.builds.len() {
            let finished = self.builds.values().filter(|it| it.state.is_final());
            let Some(oldest) = finished.min_by_key(|it| it.touched).map(|it| it.id) else {
                return false;
            };
            self.builds.remove(&oldest);
        }
        let mut record = Record::new(now, request, from, now + REPORT_TIMEOUT);
        record.touched = self.next_sequence();
        self.builds.insert(record.id, record);
        true
    }

    /// Begins a new attempt of a known build.
    fn renew(&mut self, now: Time, request: BuildRequest) {
        let touched = self.next_sequence();
        if let Some(record) = self.builds.get_mut(&request.spec.id()) {
            record.begin(now, request, now + REPORT_TIMEOUT);
            record.touched = touched;
        }
    }

    /// Notes that a build was used or stands otherwise than before.
    pub(crate) fn changed(&mut self, id: BuildId) {
        let touched = self.next_sequence();
        if let Some(record) = self.builds.get_mut(&id) {
            record.touched = touched;
            self.changed.insert(id);
        }
    }

    fn tell_changes(&mut self, out: &mut Vec<Effect>) {
        for id in std::mem::take(&mut self.changed) {
            if let Some(status) = self.status(&id) {
                out.push(Effect::Changed(Box::new(status)));
            }
        }
    }

    /// Stops the pipeline of a build, if it runs or waits.
    pub(crate) fn cancel(&mut self, id: BuildId, out: &mut Vec<Effect>) {
        if let Some(record) = self.builds.get_mut(&id) {
            if let Local::Running(run) = record.local {
                out.push(Effect::Cancel { id, run });
            }
            record.local = Local::Idle;
        }
    }
}
