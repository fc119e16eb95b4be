//! What goes in and out of the engine.

use std::time::Duration;

use crate::base::NodeId;
use crate::net::{GossipId, Protocol, Topic};
use crate::node::admit::Admit;
use crate::node::event::Event;
use crate::proto::build::{self, BuildId, BuildSpec, BuildStatus, Built, Failure};
use crate::proto::chain::{
    Certificate, ChainState, CheckedBlock, Genesis, Ledger, MemberSet, NodeKeys,
};
use crate::proto::heads::Verdict;
use crate::proto::hello::{self, Hello, Rejection};
use crate::proto::log::checkpoint::Checkpoint;
use crate::proto::peers::{Book, Seed};
use crate::proto::pool::Kept;
use crate::proto::sync::{self, SyncBlock};

/// Read access to what is durable, in microseconds.
pub trait Vault: Ledger + hello::Chain {
    /// A block and its certificate in their stored bytes.
    fn encoded(&self, height: u64) -> Option<SyncBlock>;
    /// Index of the first leaf of a package version.
    fn package_index(&self, purl: &str) -> Option<u64>;
    /// Index of the newest binding of a tag.
    fn tag_index(&self, registry: &str, repository: &str, tag: &str) -> Option<u64>;
    /// The read that failed since the last call, if one did: the answers since then may be wrong.
    fn take_failure(&self) -> Option<String>;
}

/// What an engine starts from.
pub struct Setup {
    /// The node's keys.
    pub keys: NodeKeys,
    /// The network.
    pub genesis: Genesis,
    /// The state after the last durable block.
    pub state: ChainState,
    /// The consensus WAL of the next height.
    pub wal: Vec<Vec<u8>>,
    /// Builds that were not finished when the node stopped.
    pub builds: Vec<build::Pending>,
    /// Changes of the authorized nodes that waited for consent when the node stopped.
    pub changes: Vec<Kept>,
    /// Peers to keep connections to.
    pub seeds: Vec<Seed>,
    /// Where to fetch bootstrap documents.
    pub bootstrap_urls: Vec<String>,
    /// Who is admitted.
    pub admit: Admit,
    /// Addresses remembered from earlier runs.
    pub book: Book,
    /// Name and version of the program.
    pub agent: String,
    /// Most pipelines at once.
    pub builds_max: usize,
    /// Different in every run.
    pub seed: u64,
}

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// The only link to a peer opened.
    Connected {
        /// Who.
        peer: NodeId,
        /// The dial and the address that led there, if we dialled.
        dialled: Option<(u64, String)>,
    },
    /// None of the addresses of a dial led to a link.
    DialFailed {
        /// The dial.
        dial: u64,
    },
    /// A bootstrap document came.
    Bootstrap {
        /// From where.
        url: String,
        /// The peers it lists; `None` if it could not be fetched.
        seeds: Option<Vec<Seed>>,
    },
    /// A peer told an address of its own.
    Learned {
        /// Who.
        peer: NodeId,
        /// The address.
        address: String,
    },
    /// The link is gone.
    Disconnected {
        /// To whom.
        peer: NodeId,
        /// Why.
        reason: String,
    },
    /// A framed message arrived.
    Frame {
        /// From whom.
        peer: NodeId,
        /// Over which protocol.
        protocol: Protocol,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A gossiped message arrived; answered by [`Effect::Judge`].
    Gossip {
        /// The topic.
        topic: Topic,
        /// Names the message to the gossip layer.
        id: GossipId,
        /// Who passed it on.
        source: NodeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Where we can be dialled.
    Listening(Vec<String>),
    /// Everything up to this block is durable.
    Appended {
        /// Its number.
        height: u64,
    },
    /// A head is durable as our highest signed one.
    HeadPersisted(Checkpoint),
    /// A pipeline moved bytes.
    BuildProgress {
        /// The build.
        id: BuildId,
        /// Bytes moved.
        done: u64,
        /// Bytes to move, 0 if unknown.
        total: u64,
    },
    /// A pipeline ended.
    BuildDone {
        /// The build.
        id: BuildId,
        /// The run.
        run: u64,
        /// What it got.
        result: Result<Built, Failure>,
    },
    /// A peer is provably at fault, outside of the machines here.
    Fault {
        /// Who.
        peer: NodeId,
        /// What it did.
        reason: String,
    },
    /// Nothing but time passed.
    Tick,
}

/// What the shell does, in order.
#[derive(Debug)]
pub enum Effect {
    /// Send a message; a peer that is gone or does not read is not an error.
    Send {
        /// To whom.
        peer: NodeId,
        /// Over which protocol.
        protocol: Protocol,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Gossip a message.
    Publish {
        /// The topic.
        topic: Topic,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Tell the gossip layer what a message was worth.
    Judge {
        /// The message.
        id: GossipId,
        /// Who passed it on.
        source: NodeId,
        /// What it was worth.
        verdict: Verdict,
    },
    /// A peer passed the handshake.
    Admitted {
        /// Who.
        peer: NodeId,
        /// What it said.
        hello: Box<Hello>,
    },
    /// Close the link after what was sent before, and remember why.
    Refuse {
        /// To whom.
        peer: NodeId,
        /// Who refused whom, and why.
        rejection: Rejection,
    },
    /// Close the link and take no other from this peer for a while, for a provable fault.
    Ban {
        /// Who.
        peer: NodeId,
        /// What it did.
        reason: String,
        /// For how long.
        time: Duration,
    },
    /// Dial these addresses in turn until one leads to a link.
    Dial {
        /// Comes back in [`Input::Connected`] or [`Input::DialFailed`].
        dial: u64,
        /// Who is expected, if known.
        peer: Option<NodeId>,
        /// Multiaddrs, best first.
        addresses: Vec<String>,
    },
    /// Fetch a bootstrap document, then answer with [`Input::Bootstrap`].
    FetchBootstrap {
        /// From where.
        url: String,
    },
    /// The authorized nodes are others from now on.
    Members(MemberSet),
    /// Empty the consensus WAL: what follows belongs to this height.
    ResetWal(u64),
    /// Append to the consensus WAL.
    Wal(Vec<u8>),
    /// Make the changes that wait for consent durable, in place of those before.
    SaveChanges(Vec<Kept>),
    /// Make a block durable, then answer with [`Input::Appended`].
    Append {
        /// The block.
        block: Box<CheckedBlock>,
        /// What decided it.
        certificate: Certificate,
    },
    /// Make a head durable as our highest signed one, then answer with [`Input::HeadPersisted`].
    PersistHead(Checkpoint),
    /// Keep a checkpoint and serve it.
    KeepCheckpoint {
        /// Leaves that it covers.
        size: u64,
        /// The note.
        note: String,
        /// Members that signed.
        signers: usize,
    },
    /// Run a pipeline, then answer with [`Input::BuildDone`].
    RunBuild {
        /// The build.
        id: BuildId,
        /// The run.
        run: u64,
        /// What to get.
        spec: BuildSpec,
    },
    /// Stop a pipeline.
    CancelBuild {
        /// The build.
        id: BuildId,
        /// The run.
        run: u64,
    },
    /// A build stands otherwise than before.
    BuildChanged(Box<BuildStatus>),
    /// Tell embedders.
    Event(Event),
    /// The node cannot go on; stop it.
    Fatal(String),
}

/// How the chain and agreement stand, for the status view.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The state after the last applied block.
    pub members: MemberSet,
    /// Synchronization.
    pub progress: sync::Progress,
    /// The height being decided, if agreement runs.
    pub deciding: Option<u64>,
    /// Whether entries wait for a block.
    pub has_work: bool,
    /// Groups of entries that wait for attestations or a block, and their bytes.
    pub waiting: (usize, usize),
    /// Admitted peers and their heights.
    pub admitted: Vec<(NodeId, u64)>,
}
