//! Several nodes in one process, over real sockets on loopback.

mod bed;
mod dials;
mod everybody;
mod messages;
#[cfg(unix)]
mod mux;
mod tcp;
