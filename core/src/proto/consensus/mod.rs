//! Agreement among authorized nodes: Tendermint, by the Malachite engine, as a synchronous machine.
//!
//! ```text
//! Consensus::new ─► start(height) ─► handle / expire … ─► Decide ─► idle ─► start(height + 1) …
//! ```
//!
//! The host makes every `Persist` durable before the `Send` that follows it: that one rule keeps a
//! node that crashed from contradicting itself. The engine's types stay in here; messages
//! ([`message`]) and records of the write-ahead log ([`wal`]) are ours.

pub mod effect;
pub mod machine;
pub mod steps;

pub mod ahead;
pub mod bodies;
pub mod message;
pub mod timers;
pub mod wal;

pub(crate) mod context;
pub(crate) mod convert;
pub(crate) mod host;
pub(crate) mod verify;

#[cfg(test)]
mod harness;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod scenarios;

pub use effect::{Config, Effect, Fault, Input, Judge};
pub use machine::Consensus;
pub use message::{MESSAGE_BYTES_MAX, Message, Polka, Proposal, RoundVotes, Vote};
pub use wal::RECORD_BYTES_MAX;
