//! Artifacts between peers: the async side of `proto/exchange`.
//!
//! * `lane`: the client's end of one stream to a peer; verifies while it reads.
//! * `arrival`: an artifact on its way to the disk, readable as far as it has come.
//! * `fetch`: the driver of one download: sources, requests, completion.
//! * `server`: the machine that serves all streams; `serve`: the server's end of one of them;
//!   `held`: what is read there.
//! * `keep`: notes of where artifacts came from, and of what this node provides.
//! * `hub`: the lanes of this node, and the downloads that run.

pub(crate) mod arrival;
pub(crate) mod fetch;
pub(crate) mod held;
pub(crate) mod hub;
pub(crate) mod keep;
pub(crate) mod lane;
pub(crate) mod serve;
pub(crate) mod server;

pub use fetch::FetchError;
pub(crate) use hub::{Hub, Parts, Peers};
