//! Entries and attestations that wait for a block.
//!
//! A group is eligible when a quorum attests its facts and its entries are here; a change of the
//! members, or the withdrawal of an artifact, when a quorum of admins has marked it.

mod asks;
mod changes;
mod done;
pub mod group;
mod groups;
#[cfg(test)]
mod hostile;
mod intake;
pub mod machine;
pub mod message;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod stories;

pub use group::{Group, GroupError};
pub(crate) use groups::AGE_MAX as GROUP_AGE_MAX;
pub use machine::{Effect, Input, Judgement, Pool, Refusal};
pub use message::{Change, Have, Kept, Marks, PoolError, PoolMessage, Ready, Signers};
