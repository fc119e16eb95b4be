//! kogge finds, verifies and shares software artifacts between peers, against a transparency log
//! that independent authorized nodes agree on.
//!
//! [`Node::start`] runs a node inside this process, on its own threads or the host's executor;
//! its futures run on any executor. What it gives out is verified against the log first.
//!
//! ```no_run
//! use kogge::{Config, Network, Node};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::start(Config::new("/var/lib/kogge"), Network::Stored).await?;
//! let artifact = node.open(&"sha256:…".parse()?).await?;
//! let first = artifact.read(0, 65_536).await?;
//! node.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! The layers, of which each names only those after it: `node` (composition), `net` and `store`
//! (IO), `proto` (rules without IO), `base`.

pub mod base;
pub mod net;
pub mod node;
pub mod proto;
pub mod store;

pub use base::{Algorithm, Blake3, Digest, NodeId, Sha256, WallTime};
pub use node::admit::Admit;
pub use node::config::{Config, ConfigError, Limits, ReadThrough};
pub use node::event::Event;
pub use node::json;
pub use node::status::{PeerStatus, Status};
pub use node::{
    Artifact, FetchError, Log, LogError, Metric, Network, Node, NodeError, OriginRecord, Placement,
    Proof, SaveOptions, StartError,
};
pub use proto::build::{BuildId, BuildSpec, BuildStatus};
pub use proto::chain::{Genesis, Params};
pub use proto::log::entry::{AddArtifact, Entry};
pub use proto::log::query::Query;
pub use proto::package::What;
pub use store::{BlobInfo, Page, Row};
