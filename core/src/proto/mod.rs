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
//! *Calculations*: [`log`], [`chain`], [`package`].

pub mod chain;
pub mod log;
