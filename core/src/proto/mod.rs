//! The rules: calculations and state machines, without IO, clock or randomness of their own.
//!
//! A machine takes `now` and its input as arguments and appends effects to an outbox:
//!
//! ```text
//! handle(now, input, out)      next_deadline() -> Option<Time>      expire(now, out)
//! ```
//!
//! The shell reads `next_deadline` after every call; a wake-up is never an effect. Machines do not
//! know each other: `node/flow` connects the effect of one to the input of another.
//!
//! *Calculations*, which any machine may use: [`log`], [`chain`], [`package`], [`schedule`],
//! [`limit`], [`judgement`], [`holders`]. *Machines*: [`hello`], [`peers`], [`sync`], [`pool`], [`build`],
//! [`consensus`], [`exchange`], [`heads`].

pub mod build;
pub mod chain;
pub mod consensus;
pub mod exchange;
pub mod heads;
pub mod hello;
pub mod holders;
pub mod judgement;
pub mod limit;
pub mod log;
pub mod package;
pub mod peers;
pub mod pool;
pub mod schedule;
pub mod sync;
