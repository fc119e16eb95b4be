//! Composition: configuration, executor, the loop, flows, and the public handle.

pub mod clock;
pub mod config;
pub mod keys;
pub mod pipeline;
pub mod status;
