//! Cosigned heads: each authorized node signs the head of the log after a block is durable, and
//! again from time to time; every node gathers the signatures into a checkpoint.
//!
//! Signatures travel by gossip. Some reach a node before the block does: they are checked, passed
//! on to those that have the block already, and kept until it comes. Who was away asks a peer.
//!
//! Off the critical path of agreement: a precommit is not a checkpoint signature.

mod ask;
mod early;
mod machine;
mod message;
#[cfg(test)]
mod tests;

pub use ask::{ASK_AFTER, ASK_PAUSE_MAX};
pub use machine::{Effect, Fault, Heads, Input, RECOSIGN_INTERVAL, Verdict};
pub use message::{HEAD_MESSAGE_BYTES_MAX, HeadMessage, MESSAGE_BYTES_MAX, Message};
