//! What a node remembers about one build, and the form in which it survives a restart.

use std::collections::BTreeMap;
use std::time::Duration;

use minicbor::{Decode, Encode};

use crate::base::{CodecError, NodeId, Sha256, Time, codec};
use crate::proto::build::machine::PROGRESS_INTERVAL;
use crate::proto::build::message::{BuildRequest, Report};
use crate::proto::build::outcome::Outcome;
use crate::proto::build::spec::BuildId;
use crate::proto::build::status::{BuildStatus, NodeStatus, State};
use crate::proto::build::verdict::Reports;
use crate::proto::chain::member::{MEMBERS_MAX, MemberSet};

/// Longest stored form of a pending build. Unit: bytes. A request and [`MEMBERS_MAX`] reports fit.
pub(crate) const PENDING_BYTES_MAX: usize = 5 << 20;

/// Shortest time between a failure and the next attempt; doubles with each attempt.
pub(crate) const RETRY_DELAY_MIN: Duration = Duration::from_secs(30);

/// How often [`RETRY_DELAY_MIN`] doubles at most: 16 minutes.
const RETRY_DOUBLINGS_MAX: u16 = 5;

/// How many attempts a node can have missed and still take part in the next.
pub(crate) const ATTEMPTS_MISSED_MAX: u16 = 16;

/// A build that was not finished when the node stopped.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Pending {
    /// What was asked for.
    #[n(0)]
    pub request: BuildRequest,
    /// What others reported.
    #[n(1)]
    pub reports: Vec<Report>,
}

impl Pending {
    /// The stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if it is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let pending: Self = codec::decode(bytes, PENDING_BYTES_MAX)?;
        if MEMBERS_MAX < pending.reports.len() {
            return Err(CodecError::Invalid("too many reports"));
        }
        let is_sound = |it: &Report| it.outcome.check().is_ok();
        if pending.request.attempt == 0 || !pending.reports.iter().all(is_sound) {
            return Err(CodecError::Invalid("a message in it would be refused"));
        }
        Ok(pending)
    }
}

/// How far this node's own pipeline is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Local {
    /// Nothing to do: not authorized, or done.
    Idle,
    /// Waits for a free pipeline since this arrival.
    Queued(u64),
    /// Runs, as the run with this number.
    Running(u64),
}

/// One build.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: BuildId,
    pub(crate) request: BuildRequest,
    /// Who brought it to this node; pays for it in the limits.
    pub(crate) from: NodeId,
    pub(crate) state: State,
    pub(crate) reports: Reports,
    pub(crate) local: Local,
    /// When this attempt began here.
    pub(crate) begun: Time,
    /// When the state gives up.
    pub(crate) deadline: Time,
    /// When each node was last heard in this attempt.
    pub(crate) heard: BTreeMap<NodeId, Time>,
    /// When this attempt ended.
    pub(crate) ended: Option<Time>,
    /// What the spec's tag points to, once a quorum or the log said so.
    pub(crate) digest: Option<Sha256>,
    /// Where the log holds the package.
    pub(crate) package: Option<u64>,
    /// Where the log holds the tag's binding.
    pub(crate) tag: Option<u64>,
    /// Whether the log was asked for what a quorum agrees on.
    pub(crate) is_looked_up: bool,
    /// Order of use, for forgetting the oldest.
    pub(crate) touched: u64,
}

impl Record {
    pub(crate) fn new(now: Time, request: BuildRequest, from: NodeId, deadline: Time) -> Self {
        Self {
            id: request.spec.id(),
            request,
            from,
            state: State::Requested,
            reports: Reports::new(),
            local: Local::Idle,
            begun: now,
            deadline,
            heard: BTreeMap::new(),
            ended: None,
            digest: None,
            package: None,
            tag: None,
            is_looked_up: false,
            touched: 0,
        }
    }

    /// Package URL of the result, if known yet.
    pub(crate) fn purl(&self) -> Option<String> {
        self.request.spec.purl(self.digest.as_ref())
    }

    /// Where the log holds all that was asked for.
    pub(crate) fn complete(&self) -> Option<u64> {
        match self.request.spec.tag() {
            Some(_) => self.package.and(self.tag),
            None => self.package,
        }
    }

    /// Whether a new attempt makes sense: the last one failed, or a tag may have moved since.
    pub(crate) fn is_repeatable(&self) -> bool {
        match self.state {
            State::Failed(_) => true,
            State::Committed { .. } => self.request.spec.tag().is_some(),
            _ => false,
        }
    }

    /// How long after the end of this attempt the next may begin.
    pub(crate) fn retry_delay(&self) -> Duration {
        let doublings = self
            .request
            .attempt
            .saturating_sub(1)
            .min(RETRY_DOUBLINGS_MAX);
        RETRY_DELAY_MIN * (1 << doublings)
    }

    /// Whether a peer's word that `attempt` has begun is believed. Half of the delay has to be over:
    /// nodes notice an end at different times.
    pub(crate) fn may_begin(&self, now: Time, attempt: u16) -> bool {
        let current = self.request.attempt;
        let is_next = current < attempt && attempt - current <= ATTEMPTS_MISSED_MAX;
        let waited = now.since(self.ended.unwrap_or(now));
        is_next && self.is_repeatable() && self.retry_delay() / 2 <= waited
    }

    /// Begins a new attempt; a pipeline that still runs goes on and reports for it.
    pub(crate) fn begin(&mut self, now: Time, request: BuildRequest, deadline: Time) {
        *self = Self {
            local: self.local,
            touched: self.touched,
            ..Self::new(now, request, self.from, deadline)
        };
    }

    /// Whether `report`, of this attempt, says more than what is known of its node. Progress that
    /// is reported too often is none.
    pub(crate) fn is_news(&self, now: Time, report: &Report) -> bool {
        let Some(known) = self.reports.get(&report.node) else {
            return true;
        };
        match (&known.outcome, &report.outcome) {
            (Outcome::Progress { done: known, .. }, Outcome::Progress { done, .. }) => {
                let heard = self.heard.get(&report.node).copied().unwrap_or(self.begun);
                known < done && PROGRESS_INTERVAL / 2 <= now.since(heard)
            }
            (known, outcome) => known.rank() < outcome.rank(),
        }
    }

    /// How the build stands, with the names of `members`.
    pub(crate) fn status(&self, members: &MemberSet) -> BuildStatus {
        let mut nodes: Vec<NodeStatus> = members
            .iter()
            .map(|it| NodeStatus {
                node: it.node,
                name: it.name.clone(),
                outcome: self
                    .reports
                    .get(&it.node)
                    .map(|it| (it.outcome.clone(), it.time)),
            })
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        BuildStatus {
            id: self.id,
            spec: self.request.spec.clone(),
            attempt: self.request.attempt,
            requester: self.request.node,
            requested: self.request.time,
            state: self.state.clone(),
            quorum: members.quorum(),
            nodes,
        }
    }

    /// What survives a restart. The node's own reports do not: its pool is gone, so it runs the
    /// pipeline again, which finds the files in the store.
    pub(crate) fn pending(&self, own: &NodeId) -> Pending {
        let others = self.reports.values().filter(|it| it.node != *own);
        Pending {
            request: self.request.clone(),
            reports: others.cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PublicKey, Signature, WallTime};

    #[test]
    fn a_kept_build_holds_only_what_a_peer_might_have_sent() {
        let report = |outcome| Report {
            build: BuildId([1; 32]),
            attempt: 1,
            node: PublicKey([1; 32]),
            time: WallTime::from_millis(1),
            outcome,
            signature: Signature([0; 64]),
        };
        let pending = |attempt, outcome| Pending {
            request: BuildRequest {
                spec: "maven g:a:1".parse().unwrap(),
                node: PublicKey([1; 32]),
                time: WallTime::from_millis(1),
                attempt,
            },
            reports: vec![report(outcome)],
        };
        let beyond = Outcome::Progress { done: 2, total: 1 };
        for (pending, is_good) in [
            (pending(1, Outcome::Queued), true),
            (pending(0, Outcome::Queued), false),
            (pending(1, beyond), false),
        ] {
            let read = Pending::from_bytes(&pending.to_bytes());
            assert_eq!(read.ok(), is_good.then_some(pending));
        }
    }
}
