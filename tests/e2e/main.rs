//! Real processes and real clients on loopback, with real images and jars.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step fails the test"
)]

mod deaths;
mod images;
mod maven;
mod outage;
