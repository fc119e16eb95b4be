//! Moving the groups of artifacts between peers, verified.
//!
//! ```text
//!  downloader                                                      server
//!  download ── Request ─▶ Request::Get ───────▶ Requests ─▶ serve ── Send ─▶ pieces of
//!     ▲                                                                │     outboard and file
//!     └── Arrived ── verify ◀── Replies ◀─────── Data, End ◀───────────┘
//! ```
//!
//! * The tree: [`group`] (which pieces prove which bytes), [`outboard`] (made while hashing),
//!   [`verify`] (the only maker of verified groups).
//! * The wire: [`frame`], [`message`], [`presence`]; read by [`requests`] and [`replies`], which
//!   gives [`arrival`]s.
//! * The machines: [`download`] (one artifact from many sources), [`serve`] (all peers).

pub mod group;
pub mod outboard;
pub mod verify;

pub mod frame;
pub mod message;
pub mod presence;

pub mod arrival;
mod fill;
pub mod replies;
pub mod requests;

pub mod download;
pub mod serve;

#[cfg(test)]
mod download_steps;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod serve_steps;
#[cfg(test)]
mod simulation;
