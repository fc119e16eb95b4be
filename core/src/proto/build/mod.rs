//! Requests to add packages, and how they end.
//!
//! Anybody asks for a [`BuildSpec`]. Each authorized node runs its pipeline once, attests what it
//! got, and reports; when a quorum got the same, the pool has what a block needs. Every node that
//! saw the request can tell how it stands: [`BuildStatus`].

mod advance;
mod form;
pub mod interface;
pub mod machine;
pub mod message;
mod name;
#[cfg(test)]
mod network;
pub mod open;
pub mod outcome;
mod record;
#[cfg(test)]
mod samples;
pub mod serve;
pub mod spec;
pub mod status;
#[cfg(test)]
mod stories;
pub mod verdict;

pub use interface::{Built, Config, Effect, Input, Judgement, Part, Refusal};
pub use machine::Builds;
pub use message::{BuildMessage, BuildRequest, MessageError, Open, Report};
pub use outcome::{Attested, Failure, FailureCode, FileDigest, Outcome, ShortDigest};
pub use record::Pending;
pub use spec::{BuildId, BuildSpec, Docker, Maven, Reference, SpecError};
pub use status::{BuildStatus, Census, NodeStatus, State};
pub use verdict::{Difference, Reason};
