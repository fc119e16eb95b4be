//! Artifacts between real nodes: over sockets on loopback, from a repository that is switched off
//! once the package is in the log.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod bed;
mod child;
mod eve;
mod hostile;
mod interrupted;
mod limits;
mod resume;
mod speed;
mod spread;
mod strangers;
mod upstream;
