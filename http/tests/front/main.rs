//! The front end of a real node, spoken to over real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step fails the test"
)]

mod api;
mod images;
mod kit;
mod maven;
mod referrers;
mod wire;
