//! How builds move on: pipelines, reports, agreement, the log.

use std::collections::BTreeMap;

use crate::base::{Sha256, Signature, Time, WallTime};
use crate::proto::build::interface::{Built, Effect};
use crate::proto::build::machine::{
    ATTEMPT_TIME_MAX, Builds, COMMIT_TIMEOUT, PROGRESS_INTERVAL, QUEUE_TIME_MAX, REPORT_TIMEOUT,
    SETTLE_TIMEOUT,
};
use crate::proto::build::message::{BuildMessage, Report};
use crate::proto::build::outcome::{Attested, Failure, FailureCode, FileDigest, Outcome};
use crate::proto::build::record::Local;
use crate::proto::build::spec::{BuildId, BuildSpec};
use crate::proto::build::status::State;
use crate::proto::build::verdict::{Outlook, Reason, Verdict, explain, judge};
use crate::proto::chain::member::MemberSet;
use crate::proto::log::entry::{AddArtifact, Attest, BindTag, Entry, package_subject};

/// Longest group of a result, so that it fits a message of the pool. Unit: bytes. A pipeline that
/// yields more has failed.
pub(crate) const GROUP_BYTES_MAX: usize = 960 * 1_024;

impl Builds {
    /// Looks into the log, and queues the pipeline if this node is authorized.
    pub(crate) fn start(&mut self, now: Time, wall: WallTime, id: BuildId, out: &mut Vec<Effect>) {
        let arrival = self.next_sequence();
        let is_authorized = self.is_authorized();
        let Some(record) = self.builds.get_mut(&id) else {
            return;
        };
        if let Some(purl) = record.purl() {
            let digest = record.digest;
            out.push(Effect::LookUp { id, purl, digest });
        }
        if is_authorized && record.local == Local::Idle {
            record.local = Local::Queued(arrival);
            self.run_next(now, wall, out);
        }
        match self.builds.get(&id).map(|it| it.local) {
            Some(Local::Queued(_)) => self.report(now, wall, id, Outcome::Queued, out),
            // Goes on from the attempt before.
            Some(Local::Running(run)) if run < arrival => {
                self.report(now, wall, id, Outcome::Started, out);
            }
            Some(Local::Running(_) | Local::Idle) | None => {}
        }
    }

    /// Starts queued pipelines, in the order of their arrival, while there is room.
    pub(crate) fn run_next(&mut self, now: Time, wall: WallTime, out: &mut Vec<Effect>) {
        loop {
            let locals = self.builds.values().map(|it| it.local);
            let running = locals.filter(|it| matches!(it, Local::Running(_))).count();
            if self.config.parallel_max.max(1) <= running {
                return;
            }
            let queued = self.builds.values().filter_map(|it| match it.local {
                Local::Queued(arrival) => Some((arrival, it.id)),
                Local::Idle | Local::Running(_) => None,
            });
            let Some((_, id)) = queued.min() else {
                return;
            };
            let run = self.next_sequence();
            if let Some(record) = self.builds.get_mut(&id) {
                record.local = Local::Running(run);
                let spec = record.request.spec.clone();
                out.push(Effect::Run { id, run, spec });
            }
            self.report(now, wall, id, Outcome::Started, out);
        }
    }

    pub(crate) fn on_progress(
        &mut self,
        now: Time,
        wall: WallTime,
        id: BuildId,
        done: u64,
        total: u64,
        out: &mut Vec<Effect>,
    ) {
        let own = self.config.node;
        let Some(record) = self.builds.get(&id) else {
            return;
        };
        let heard = record.heard.get(&own).copied().unwrap_or(record.begun);
        let is_running = matches!(record.local, Local::Running(_));
        if is_running && PROGRESS_INTERVAL <= now.since(heard) {
            let total = if total < done { 0 } else { total };
            self.report(now, wall, id, Outcome::Progress { done, total }, out);
        }
    }

    pub(crate) fn on_result(
        &mut self,
        now: Time,
        wall: WallTime,
        id: BuildId,
        run: u64,
        result: Result<Built, Failure>,
        out: &mut Vec<Effect>,
    ) {
        let Some(record) = self.builds.get_mut(&id) else {
            return;
        };
        if record.local != Local::Running(run) {
            return;
        }
        record.local = Local::Idle;
        let spec = record.request.spec.clone();
        let outcome = match result.and_then(|built| self.attest(wall, &spec, built)) {
            Ok((attested, groups)) => {
                out.push(Effect::Attest { id, groups });
                Outcome::Attested(attested)
            }
            Err(failure) => Outcome::Failed(failure),
        };
        self.report(now, wall, id, outcome, out);
        self.run_next(now, wall, out);
    }

    /// Signs a pipeline's result: what to report, and the groups for the pool.
    fn attest(
        &self,
        time: WallTime,
        spec: &BuildSpec,
        built: Built,
    ) -> Result<(Attested, Vec<Vec<Entry>>), Failure> {
        let builder = self.config.node;
        let Built {
            mut files,
            mut parts,
            tag,
        } = built;
        for package in parts.iter_mut().chain([&mut files]) {
            package.sort_by(|a, b| a.file.cmp(&b.file));
            for it in package {
                (it.builder, it.time) = (builder, time);
            }
        }
        let tag = tag.map(|it| BindTag {
            builder,
            time,
            ..it
        });
        check_result(spec, &files, tag.as_ref())?;

        let attested = Attested {
            subject: package_subject(&files),
            tag: tag.as_ref().map(|it| it.digest),
            files: FileDigest::list(&files),
        };
        let sign = |subject| {
            let message = Attest::signed_bytes(&self.config.chain, &subject, time);
            let signature = self.config.vote.sign(&message);
            Entry::Attest(Attest {
                subject,
                node: builder,
                time,
                signature,
            })
        };
        let package = |files: Vec<AddArtifact>| {
            let attest = sign(package_subject(&files));
            let entries = files.into_iter().map(|it| Entry::AddArtifact(Box::new(it)));
            entries.chain([attest]).collect::<Vec<_>>()
        };
        let packages = parts.into_iter().chain([files]).map(package);
        let binding = tag.map(|it| {
            let subject = it.subject();
            vec![Entry::BindTag(it), sign(subject)]
        });
        let groups: Vec<Vec<Entry>> = packages.chain(binding).collect();
        check_groups(&groups)?;
        Ok((attested, groups))
    }

    /// Says how far this node is.
    fn report(
        &mut self,
        now: Time,
        wall: WallTime,
        id: BuildId,
        outcome: Outcome,
        out: &mut Vec<Effect>,
    ) {
        let Some(record) = self.builds.get(&id) else {
            return;
        };
        let report = Report {
            build: id,
            attempt: record.request.attempt,
            node: self.config.node,
            time: wall,
            outcome,
            signature: Signature([0; 64]),
        }
        .signed(&self.config.chain, &self.config.vote);
        out.push(Effect::Broadcast(BuildMessage::Report(report.clone())));
        self.note(now, report);
        self.settle(now, wall, id, out);
    }

    /// Remembers a report that was checked, and gives the build more time.
    pub(crate) fn note(&mut self, now: Time, report: Report) {
        let Some(record) = self.builds.get_mut(&report.build) else {
            return;
        };
        if !matches!(record.state, State::Agreed { .. }) {
            let latest = record.begun + ATTEMPT_TIME_MAX;
            record.deadline = record.deadline.max((now + REPORT_TIMEOUT).min(latest));
        }
        record.heard.insert(report.node, now);
        record.reports.insert(report.node, report);
    }

    /// Draws the conclusion from reports and log.
    pub(crate) fn settle(&mut self, now: Time, wall: WallTime, id: BuildId, out: &mut Vec<Effect>) {
        let verdict = |it| judge(&self.members, it);
        let Some(record) = self.builds.get_mut(&id) else {
            return;
        };
        let verdict = verdict(&record.reports);
        if let (None, Verdict::Present { index }) = (record.complete(), verdict) {
            (record.package, record.tag) = (Some(index), Some(index));
        }
        if let Some(index) = record.complete() {
            self.commit(now, wall, id, index, out);
            return;
        }
        let is_failed = matches!(record.state, State::Failed(_));
        match verdict {
            Verdict::Present { .. } => {}
            Verdict::Agreed { agreeing, tag } => {
                if !matches!(record.state, State::Agreed { .. }) {
                    record.deadline = now + COMMIT_TIMEOUT;
                }
                record.state = State::Agreed { agreeing };
                record.ended = None;
                record.digest = tag.or(record.digest);
                if let Some(purl) = record.purl()
                    && !record.is_looked_up
                {
                    record.is_looked_up = true;
                    let digest = record.digest;
                    out.push(Effect::LookUp { id, purl, digest });
                }
            }
            // What comes after a failure only explains it, unless it makes a quorum.
            Verdict::Open { .. } if is_failed => {}
            Verdict::Open { .. } if self.members.is_empty() => {}
            Verdict::Open {
                outlook: Outlook::Complete,
                ..
            } => {
                self.give_up(now, id, out);
                self.run_next(now, wall, out);
                return;
            }
            Verdict::Open {
                agreeing,
                reported,
                outlook,
            } => {
                record.state = match (agreeing, reported) {
                    (0, 0) => State::Requested,
                    (0, _) => State::Running,
                    (agreeing, _) => State::Attested { agreeing },
                };
                if outlook == Outlook::Hopeless {
                    record.deadline = record.deadline.min(now + SETTLE_TIMEOUT);
                }
            }
        }
        self.changed(id);
    }

    /// The log holds all that was asked for.
    fn commit(
        &mut self,
        now: Time,
        wall: WallTime,
        id: BuildId,
        index: u64,
        out: &mut Vec<Effect>,
    ) {
        let (own, is_authorized) = (self.config.node, self.is_authorized());
        let state = State::Committed { index };
        let Some(record) = self.builds.get_mut(&id).filter(|it| it.state != state) else {
            return;
        };
        self.ended.committed += u64::from(!matches!(record.state, State::Committed { .. }));
        record.state = state;
        record.ended = Some(now);
        let said = record.reports.get(&own).map(|it| it.outcome.is_final());
        self.cancel(id, out);
        self.changed(id);
        if is_authorized && said != Some(true) {
            // The others wait for this node's word.
            self.report(now, wall, id, Outcome::Present { index }, out);
        }
        self.run_next(now, wall, out);
    }

    /// The time of a build is over, or every node has answered.
    pub(crate) fn give_up(&mut self, now: Time, id: BuildId, out: &mut Vec<Effect>) {
        let Some(record) = self.builds.get_mut(&id) else {
            return;
        };
        let is_agreed = matches!(record.state, State::Agreed { .. });
        let is_queued = |it: &Report| it.outcome == Outcome::Queued;
        let is_open = matches!(
            judge(&self.members, &record.reports),
            Verdict::Open {
                outlook: Outlook::Possible,
                ..
            }
        );
        if !is_agreed
            && is_open
            && record.reports.values().any(is_queued)
            && now < record.begun + QUEUE_TIME_MAX
        {
            record.deadline = now + REPORT_TIMEOUT;
            return;
        }
        let reason = if is_agreed {
            Reason::NotCommitted
        } else {
            explain(&self.members, &record.reports, record.request.spec.tag())
        };
        record.state = State::Failed(reason);
        record.ended = Some(now);
        self.ended.failed += 1;
        self.cancel(id, out);
        self.changed(id);
    }

    pub(crate) fn on_committed(
        &mut self,
        now: Time,
        wall: WallTime,
        first_index: u64,
        entries: &[Entry],
        out: &mut Vec<Effect>,
    ) {
        let mut packages: BTreeMap<&str, u64> = BTreeMap::new();
        let mut tags: BTreeMap<(&str, &str, &str), (Sha256, u64)> = BTreeMap::new();
        for (index, entry) in (first_index..).zip(entries) {
            match entry {
                Entry::AddArtifact(it) => {
                    packages.entry(&it.purl).or_insert(index);
                }
                Entry::BindTag(it) => {
                    let name = (
                        it.registry.as_str(),
                        it.repository.as_str(),
                        it.tag.as_str(),
                    );
                    tags.insert(name, (it.digest, index));
                }
                _ => {}
            }
        }
        if packages.is_empty() && tags.is_empty() {
            return;
        }
        let mut found = Vec::new();
        for record in self
            .builds
            .values_mut()
            .filter(|it| it.complete().is_none())
        {
            let before = (record.package, record.tag);
            if let BuildSpec::Docker(it) = &record.request.spec
                && let Some(tag) = record.request.spec.tag()
            {
                let name = (it.name().registry(), it.name().repository(), tag);
                if let Some((digest, index)) = tags.get(&name) {
                    (record.digest, record.tag) = (Some(*digest), Some(*index));
                }
            }
            let index = record
                .purl()
                .and_then(|it| packages.get(it.as_str()).copied());
            record.package = record.package.or(index);
            if before != (record.package, record.tag) {
                found.push(record.id);
                // The package of a tag may have been in the log for long.
                if let (None, Some(purl)) = (record.complete(), record.purl()) {
                    let (id, digest) = (record.id, record.digest);
                    out.push(Effect::LookUp { id, purl, digest });
                }
            }
        }
        for id in found {
            self.settle(now, wall, id, out);
        }
    }

    pub(crate) fn on_members(
        &mut self,
        now: Time,
        wall: WallTime,
        members: MemberSet,
        out: &mut Vec<Effect>,
    ) {
        let was_authorized = self.is_authorized();
        self.members = members;
        let is_authorized = self.is_authorized();
        let active = self.builds.values().filter(|it| !it.state.is_final());
        let active: Vec<BuildId> = active.map(|it| it.id).collect();
        for id in active {
            if was_authorized && !is_authorized {
                self.cancel(id, out);
            }
            if is_authorized && !was_authorized {
                self.start(now, wall, id, out);
            }
            self.settle(now, wall, id, out);
        }
    }
}

/// What a pipeline must keep to; a result that breaks it would be refused by every other node.
fn check_result(
    spec: &BuildSpec,
    files: &[AddArtifact],
    tag: Option<&BindTag>,
) -> Result<(), Failure> {
    let fault = |text| Err(Failure::new(FailureCode::Internal, text));
    let purl = spec.purl(tag.map(|it| &it.digest));
    if files.is_empty() || !files.windows(2).all(|it| it[0].file < it[1].file) {
        return fault("the pipeline yielded no file, or one twice");
    }
    if files.iter().any(|it| Some(&it.purl) != purl.as_ref()) {
        return fault("the pipeline yielded files of another package");
    }
    let is_named = match (spec, tag) {
        (BuildSpec::Docker(it), Some(tag)) => {
            let bound = (&*tag.registry, &*tag.repository, Some(&*tag.tag));
            (it.name().registry(), it.name().repository(), spec.tag()) == bound
        }
        (_, tag) => tag.is_none() && spec.tag().is_none(),
    };
    if !is_named {
        return fault("the pipeline yielded no tag, or another one");
    }
    Ok(())
}

fn check_groups(groups: &[Vec<Entry>]) -> Result<(), Failure> {
    for group in groups {
        let mut bytes_len = 0;
        for entry in group {
            let bytes = entry.to_bytes();
            bytes_len += bytes.len();
            Entry::from_bytes(&bytes)
                .map_err(|it| Failure::new(FailureCode::Internal, &it.to_string()))?;
        }
        if GROUP_BYTES_MAX < bytes_len {
            let text = format!("{bytes_len} bytes of entries, at most {GROUP_BYTES_MAX} fit");
            return Err(Failure::new(FailureCode::Internal, &text));
        }
    }
    Ok(())
}
