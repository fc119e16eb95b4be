//! Tests of this layer that are too long for the end of their file, and what they share.

mod artifacts;
mod chain;
mod crash;
mod find;
mod index;
mod steps;
pub(crate) mod testing;
mod wal;
