//! Several nodes in one process, over real sockets on loopback.

#![allow(
    clippy::result_large_err,
    reason = "an event that a test does not want is handed back"
)]

mod bed;
mod dials;
mod everybody;
mod messages;
#[cfg(unix)]
mod mux;
mod tcp;
