//! What the bench tells its children, and what they answer: one JSON document per line.

use std::path::PathBuf;

use kogge::Genesis;
use serde::{Deserialize, Serialize};

/// What a child shall do.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Order {
    /// Start the node.
    Start(Box<Start>),
    /// Tell how it stands.
    Status,
    /// Have a package added, and wait for it.
    Build {
        /// What to ask for.
        spec: String,
        /// What it is called in the log.
        purl: String,
    },
    /// Make the attested packages from this number on.
    Prepare {
        /// Data directories of the nodes that attest.
        signers: Vec<PathBuf>,
        /// Number of the first package.
        from: u64,
        /// How many.
        count: u64,
    },
    /// Offer the next prepared package.
    Offer,
    /// Offer all prepared packages while others do the same; answers at once.
    Pour {
        /// Nodes that do it.
        pourers: u64,
        /// Packages of each that wait for a block.
        waiting_max: u64,
    },
    /// Wait until the log has so many leaves on this disk.
    AwaitSize(u64),
    /// Wait until a cosigned checkpoint covers so many leaves.
    AwaitCheckpoint(u64),
    /// Read an artifact from its first to its last byte.
    Read(String),
    /// Open an artifact and wait until the whole of it is verified and stored.
    Complete(String),
    /// The proof of an entry.
    Waybill(u64),
    /// Ask the log for random ones of the packages 0 to `packages - 1`.
    Query {
        /// How often.
        count: usize,
        /// See above.
        packages: u64,
    },
}

/// How to start a node.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Start {
    /// Where it keeps everything.
    pub(super) folder: PathBuf,
    /// Its network.
    pub(super) genesis: Genesis,
    /// Whether others can dial it.
    pub(super) listens: bool,
    /// Whom it dials.
    pub(super) peers: Vec<String>,
    /// Its Maven upstreams.
    pub(super) repositories: Vec<String>,
    /// A package to look up: the node is ready when that is answered.
    pub(super) probe: Option<u64>,
}

/// What a child answers. Times are milliseconds if nothing else is said.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Answer {
    /// It is done.
    Done,
    /// It cannot be done.
    Failed(String),
    /// The node runs.
    Started {
        /// From the call to the answer of the probe.
        millis: f64,
    },
    /// How the node stands.
    Status(Status),
    /// The package is in the log: its largest file.
    Built {
        /// Its BLAKE3 digest, `blake3:…`.
        digest: String,
        /// Its length. Unit: bytes.
        size: u64,
    },
    /// The artifact was read.
    Read {
        /// To the first bytes.
        first: f64,
        /// To the last.
        whole: f64,
    },
    /// The proof.
    Waybill(String),
    /// Times of single queries. Unit: microseconds.
    Queries {
        /// `Log::find` by package URL.
        find_purl: Vec<f64>,
        /// `Log::find` by digest.
        find_digest: Vec<f64>,
        /// `Log::package`.
        package: Vec<f64>,
        /// `Log::by_digest`.
        by_digest: Vec<f64>,
    },
}

/// How a node stands.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Status {
    /// Where it listens.
    pub(super) listen: Vec<String>,
    /// Admitted peers.
    pub(super) peers: usize,
    /// Blocks.
    pub(super) height: u64,
    /// Leaves of the log.
    pub(super) size: u64,
    /// Root of the log.
    pub(super) root: String,
}
