//! How a build stands, for people and programs.

use std::fmt;

use crate::base::{NodeId, WallTime};
use crate::proto::build::outcome::{Attested, Outcome};
use crate::proto::build::spec::{BuildId, BuildSpec};
use crate::proto::build::verdict::Reason;

/// Where a build is in its life.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// No authorized node has answered yet.
    Requested,
    /// Authorized nodes work on it.
    Running,
    /// Some have a result; not yet a quorum with the same.
    Attested {
        /// Nodes that agree on the most frequent result.
        agreeing: usize,
    },
    /// A quorum has the same result, which waits for a block.
    Agreed {
        /// Nodes that agree.
        agreeing: usize,
    },
    /// It is in the log.
    Committed {
        /// Index of the first leaf of the package, or of the tag's binding.
        index: u64,
    },
    /// It came to nothing; it can be tried again.
    Failed(Reason),
}

impl State {
    /// Whether nothing follows unless somebody tries again.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Requested | Self::Running | Self::Attested { .. } | Self::Agreed { .. } => false,
            Self::Committed { .. } | Self::Failed(_) => true,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => f.write_str("requested"),
            Self::Running => f.write_str("running"),
            Self::Attested { agreeing } => write!(f, "attested by {agreeing}"),
            Self::Agreed { agreeing } => write!(f, "agreed by {agreeing}, waits for a block"),
            Self::Committed { index } => write!(f, "committed at {index}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

/// How many builds stand where.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Census {
    /// Builds that no authorized node has answered yet.
    pub requested: usize,
    /// Builds that authorized nodes work on, with or without a first result.
    pub running: usize,
    /// Builds that wait for a block.
    pub agreed: usize,
    /// Builds that were committed since the start.
    pub committed: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
}

impl Census {
    /// Builds that are not finished.
    pub const fn open(&self) -> usize {
        self.requested + self.running + self.agreed
    }
}

/// How a build stands on this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BuildStatus {
    /// The build.
    pub id: BuildId,
    /// What was asked for.
    pub spec: BuildSpec,
    /// Number of the attempt, from 1.
    pub attempt: u16,
    /// Who asked first in this attempt, as far as this node knows.
    pub requester: NodeId,
    /// When.
    pub requested: WallTime,
    /// Where it is.
    pub state: State,
    /// Authorized nodes that must agree.
    pub quorum: usize,
    /// Every authorized node, sorted by name.
    pub nodes: Vec<NodeStatus>,
}

/// What one authorized node says about a build.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// What it said last, and when; `None` if it has not answered.
    pub outcome: Option<(Outcome, WallTime)>,
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        match self.outcome.as_ref().map(|it| &it.0) {
            None => f.write_str("no answer"),
            Some(Outcome::Queued) => f.write_str("queued"),
            Some(Outcome::Started) => f.write_str("started"),
            Some(Outcome::Progress { done, total: 0 }) => write!(f, "{done} bytes"),
            Some(Outcome::Progress { done, total }) => write!(f, "{done} of {total} bytes"),
            Some(Outcome::Attested(Attested { subject, .. })) => write!(f, "attested {subject:?}"),
            Some(Outcome::Present { index }) => write!(f, "in the log at {index}"),
            Some(Outcome::Failed(failure)) => write!(f, "failed: {failure}"),
        }
    }
}
