//! Which source is asked for which range: for groups of an artifact and for heights of blocks.

pub mod flight;
pub mod ranges;
pub mod scheduler;
pub mod source;

pub use ranges::Ranges;
pub use scheduler::{Arrived, Ask, Late, Policy, Scheduler};

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod steps;
