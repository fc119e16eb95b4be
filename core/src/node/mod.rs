//! Composition: configuration, executor, the loop, flows, and the public handle.

pub mod clock;
pub mod config;
pub mod keys;
pub mod event;
pub mod executor;
pub mod flow;
pub mod pipeline;
pub mod share;
pub mod status;
