//! What goes into and comes out of [`Builds`](crate::proto::build::Builds).

use std::sync::Arc;
use std::time::Duration;

use crate::base::{ChainId, NodeId, SecretKey, Sha256};
use crate::proto::build::machine::BUILDS_MAX;
use crate::proto::build::message::{BuildMessage, MessageError};
use crate::proto::build::outcome::Failure;
use crate::proto::build::record::Pending;
use crate::proto::build::spec::{BuildId, BuildSpec};
use crate::proto::build::status::BuildStatus;
use crate::proto::chain::member::MemberSet;
use crate::proto::log::entry::{AddArtifact, BindTag, Entry};

/// What the machine needs to know of its node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The network.
    pub chain: ChainId,
    /// This node.
    pub node: NodeId,
    /// Signs attestations and reports, once the node is authorized.
    pub vote: SecretKey,
    /// Most pipelines at the same time, at least 1; the other builds are queued.
    pub parallel_max: usize,
}

/// A pipeline's result. Builder and time of the entries are set by the machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Built {
    /// Files of the package version, in any order.
    pub files: Vec<AddArtifact>,
    /// Files of each package version that it consists of, such as the images of an index.
    pub parts: Vec<Vec<AddArtifact>>,
    /// What the tag points to, if the spec has a tag.
    pub tag: Option<BindTag>,
}

/// A part of what a build adds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// The package version.
    Package,
    /// The tag's binding.
    Tag,
}

/// What happens to builds.
#[derive(Clone, Debug)]
pub enum Input {
    /// The owner asks for something.
    Submit(BuildSpec),
    /// A message came, by gossip or directly; `from` is the connected peer that delivered it.
    Received {
        /// The peer.
        from: NodeId,
        /// The message, as [`BuildMessage::from_bytes`] read it.
        message: BuildMessage,
    },
    /// A pipeline moved bytes.
    PipelineProgress {
        /// The build.
        id: BuildId,
        /// Bytes moved.
        done: u64,
        /// Bytes to move, 0 if unknown.
        total: u64,
    },
    /// A pipeline ended.
    PipelineDone {
        /// The build.
        id: BuildId,
        /// The number from [`Effect::Run`]; the results of cancelled runs are ignored by it.
        run: u64,
        /// What it got.
        result: Result<Built, Failure>,
    },
    /// A block was applied.
    Committed {
        /// Index of the first entry.
        first_index: u64,
        /// The block's entries in order; the seal may be among them.
        entries: Arc<[Entry]>,
    },
    /// The log held this part of a build's result before; the answer to [`Effect::LookUp`], or what
    /// came out when the result of [`Effect::Attest`] was submitted.
    Logged {
        /// The build.
        id: BuildId,
        /// What was found.
        part: Part,
        /// Index of its first leaf.
        index: u64,
    },
    /// The authorized nodes are others from now on.
    MembersChanged(MemberSet),
    /// A peer is connected and its hello is done.
    Connected(NodeId),
    /// A peer is gone.
    Disconnected(NodeId),
    /// A build that was not finished when the node stopped.
    Restored(Pending),
}

/// What a received message was worth.
pub type Judgement = crate::proto::judgement::Judgement<MessageError>;

/// Why the owner's request was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// [`BUILDS_MAX`] builds are unfinished.
    #[error("{BUILDS_MAX} builds are unfinished; try again when some are done")]
    Busy,
    /// The last attempt ended a moment ago.
    #[error("the last attempt ended a moment ago; try again in {} s", .0.as_secs() + 1)]
    TooSoon(Duration),
}

/// What the shell does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Publish by gossip.
    Broadcast(BuildMessage),
    /// Send to a connected peer.
    SendTo(NodeId, BuildMessage),
    /// Run the pipeline.
    Run {
        /// The build.
        id: BuildId,
        /// Comes back in [`Input::PipelineDone`].
        run: u64,
        /// What to get.
        spec: BuildSpec,
    },
    /// Stop the pipeline; what it yields is not needed.
    Cancel {
        /// The build.
        id: BuildId,
        /// The run.
        run: u64,
    },
    /// Give each group to the pool: entries, then this node's attestation.
    Attest {
        /// The build.
        id: BuildId,
        /// Those of the parts, then the package's, then the tag's.
        groups: Vec<Vec<Entry>>,
    },
    /// Look whether the log holds the package, and the tag with this digest, and answer with
    /// [`Input::Logged`] for each that it holds.
    LookUp {
        /// The build.
        id: BuildId,
        /// The package version.
        purl: String,
        /// What the tag of the spec is bound to, if it has one.
        digest: Option<Sha256>,
    },
    /// A build stands otherwise than before, or the owner asked for it again; at most once for each
    /// input and build.
    Changed(Box<BuildStatus>),
    /// The owner's request was not taken.
    Refused(BuildId, Refusal),
    /// What a received message was worth; exactly one for each.
    Judge(NodeId, Judgement),
}
