//! Catching up with the log: blocks by height range, from several peers at once.
//!
//! Peers claim what they have; the machine believes only blocks that the caller verified and
//! applied. It divides the missing heights among the peers that claim them, keeps requests in
//! flight up to a window above the applied head, and hands blocks over strictly in order.
//!
//! The machine does not verify certificates: the caller does, with [`crate::proto::chain`], and
//! answers with [`Input::Applied`] or [`Input::Rejected`]. What a frame must fulfil on its own is
//! checked where it is read, by [`Incoming::from_bytes`].

pub mod buffer;
pub mod event;
pub mod gaps;
pub mod machine;
pub mod message;
pub mod progress;
pub mod requests;
pub mod serve;
pub mod source;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

pub use event::{Effect, Input};
pub use machine::{Config, Sync};
pub use message::{
    COUNT_MAX, Decided, FRAME_BYTES_MAX, GetBlocks, Incoming, Message, NotAvailable, Run, SyncBlock,
};
pub use progress::{Progress, State};
pub use serve::{ANSWER_BYTES_MAX, Answer};
pub use source::Fault;
