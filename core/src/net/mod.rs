//! The libp2p shell: transports, links to peers, gossip and provider records.
//!
//! [`Net::start`] runs one task that owns the swarm. The rest of the program talks to it through a
//! [`NetHandle`] and reads [`NetEvent`]s. Everything runs on the executor that is handed in as a
//! [`Spawn`]; there is no runtime of its own.
//!
//! ```text
//! swarm      the task that owns the swarm, commands in, events out
//!   behaviour  what the swarm is made of
//!     links      one link per peer: election among connections, long-lived streams
//!       handler    one connection's streams; lane, frame: framing and limits
//!     gossip     topics over gossipsub
//!     kad        provider records over Kademlia; records: where they are kept
//! transport  tcp or dns, then noise or TLS, then mux (yamux with limits)
//! ```

mod behaviour;
mod clock;
pub mod dns;
pub mod event;
mod fault;
pub mod frame;
pub mod gossip;
pub mod handle;
pub mod handler;
mod hear;
pub mod id;
pub mod kad;
mod lane;
pub mod link;
mod links;
mod mux;
mod provide;
pub mod records;
mod room;
mod socket;
pub mod spawn;
pub mod stream;
pub mod swarm;
pub mod tcp;
#[cfg(feature = "testing")]
pub mod testing;
mod traffic;
pub mod transport;

pub use event::{DialFault, DownReason, ListenFault, NetEvent, QueryId};
pub use frame::{Payload, Protocol};
pub use gossip::{GossipId, Topic};
pub use handle::{CommandError, Config, NetHandle, PeerStatus, Status};
pub use link::{OpenError, SendError};
pub use records::{MemoryProviders, Provider, ProviderStore};
pub use spawn::Spawn;
pub use stream::Stream;
pub use swarm::Net;

#[allow(clippy::result_large_err, reason = "events are handed back")]
#[cfg(test)]
mod tests;
