//! Cosigned heads: each authorized node signs the head of the log after a block is durable, and
//! again from time to time; every node gathers the signatures into a checkpoint.
//!
//! Off the critical path of agreement: a precommit is not a checkpoint signature.

mod machine;
mod message;

pub use machine::{Effect, Heads, Input, RECOSIGN_INTERVAL, Verdict};
pub use message::{HEAD_MESSAGE_BYTES_MAX, HeadMessage};
