//! The flows: which effect of one machine becomes which input of another.
//!
//! [`Engine`] owns all machines of a node and is itself one: it takes [`Input`]s and collects
//! [`Effect`]s, without IO, so that the same code runs in a node and in the simulator. The shell
//! carries the effects out **in order**; it does not begin a [`Effect::Send`] or
//! [`Effect::Publish`] before every earlier [`Effect::Wal`] is durable.
//!
//! * `connect`: a connection becomes an admitted peer; what admitted peers say.
//! * `chain`: a decided block, from agreement or from a peer, becomes durable and known.
//! * `agree`: agreement among authorized nodes.
//! * `submit`: from a request to a group of entries that waits for a block.
//! * `head`: signatures on the head become a checkpoint.

mod agree;
mod chain;
mod connect;
mod engine;
mod gossip;
mod head;
mod interface;
mod recent;
mod submit;

pub use engine::Engine;
pub use gossip::Gossip;
pub use interface::{Effect, Input, Setup, Snapshot, Vault};
