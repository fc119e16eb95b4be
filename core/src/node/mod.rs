//! Composition: configuration, executor, the loop, flows, and the public handle.
//!
//! [`start`] puts a node together; `run` is its loop around the engine in [`flow`]; [`handle`] is
//! what embedders hold, [`artifact`] what they read, [`export`] how they get it out. [`share`] moves artifacts, `builder` runs the
//! [`pipeline`]s.

pub mod admit;
pub(crate) mod answers;
pub mod artifact;
pub(crate) mod attested;
pub(crate) mod builder;
pub mod clock;
pub mod config;
pub(crate) mod deposit;
pub(crate) mod dials;
pub mod event;
pub mod executor;
pub mod export;
pub mod flow;
pub mod handle;
pub mod json;
pub mod keys;
pub mod log;
pub mod metrics;
pub(crate) mod open;
pub mod origin;
pub(crate) mod pending;
pub(crate) mod perform;
pub mod pipeline;
pub(crate) mod place;
pub(crate) mod providers;
pub(crate) mod run;
pub mod share;
pub(crate) mod shared;
pub mod start;
pub mod status;
pub(crate) mod tally;
#[cfg(feature = "testing")]
pub mod testing;
pub(crate) mod tools;
pub(crate) mod vault;
pub(crate) mod view;

pub use artifact::Artifact;
pub use export::{Placement, SaveOptions};
pub use handle::{Node, NodeError};
pub use log::{Log, LogError, Proof};
pub use metrics::Metric;
pub use origin::OriginRecord;
pub use share::FetchError;
pub use start::{Network, StartError};
