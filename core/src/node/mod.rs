//! Composition: configuration, executor, the loop, flows, and the public handle.

pub mod pipeline;
