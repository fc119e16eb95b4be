//! The hello handshake: the first exchange on every connection.
//!
//! Both sides send a [`Hello`] at once and compare the other's finalized block with their own
//! chain. Each answers with a welcome, which echoes the nonce of the hello it answers, or with the
//! [`Reason`] for its refusal, so both sides know why a connection ended. Whoever is admitted on
//! one side is admitted on the other. Afterwards the same stream carries [`Tip`]s, and a peer whose
//! claims turn out to contradict our chain is turned away as soon as we reach the claimed height.

pub mod handshakes;
pub mod message;
pub mod reason;
pub mod tip;

#[cfg(test)]
mod tests;

pub use handshakes::{Effect, HELLO_TIMEOUT, Handshakes, Input, Local, PEERS_MAX, PENDING_MAX};
pub use message::{HELLO_BYTES_MAX, Hello, LISTEN_MAX, Message, Protocols, Role};
pub use reason::{Reason, Rejection, Side, link_stays};
pub use tip::{Chain, Relation, Tip, relate};
