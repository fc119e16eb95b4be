//! How the program talks to the network.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_channel::{Sender, TrySendError};
use bytes::Bytes;
use libp2p::Multiaddr;

use crate::base::{ChainId, NodeId};
use crate::net::event::QueryId;
use crate::net::frame::Protocol;
use crate::net::gossip::{GossipId, Topic};
use crate::net::link::{Links, OpenError, SendError};
use crate::net::records::{KEY_BYTES_MAX, MemoryProviders, ProviderStore};
use crate::net::spawn::Ended;
use crate::net::stream::Stream;
use crate::net::traffic::Meter;
use crate::proto::heads::Verdict;

/// Commands that wait for the swarm's task; further ones are refused.
pub const COMMANDS_MAX: usize = 1024;

/// What a network needs to know.
pub struct Config {
    /// The network: part of the names of gossip topics.
    pub chain: ChainId,
    /// Where to listen: `/ip4/…/tcp/…` or `/ip6/…/tcp/…`; port 0 takes a free one.
    pub listen: Vec<Multiaddr>,
    /// Connections that others may make to us; further ones are refused.
    pub inbound_max: u32,
    /// Connections that we make; further ones are refused.
    pub outbound_max: u32,
    /// Where other nodes' provider records are kept.
    pub providers: Box<dyn ProviderStore>,
    /// Randomness for answers to others; different for each start.
    pub seed: u64,
    /// From the first packet of a connection to its being ready for streams.
    pub upgrade_timeout: Duration,
    /// A peer that takes no byte of a waiting message for so long is disconnected.
    pub stall_timeout: Duration,
}

/// Default of [`Config::stall_timeout`]. A slow peer takes a byte now and then.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

impl Config {
    /// A node of `chain` that does not listen and keeps provider records in memory.
    pub fn new(chain: ChainId, seed: u64) -> Self {
        Self {
            chain,
            listen: Vec::new(),
            inbound_max: 256,
            outbound_max: 128,
            providers: Box::new(MemoryProviders::new()),
            seed,
            upgrade_timeout: crate::net::transport::UPGRADE_TIMEOUT,
            stall_timeout: STALL_TIMEOUT,
        }
    }
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// Too many commands wait.
    #[error("the network has {COMMANDS_MAX} commands waiting; try again")]
    Busy,
    /// The network was shut down.
    #[error("the network is shut down")]
    Closed,
    /// A message or key above its limit. Units: bytes.
    #[error("{bytes} bytes, at most {bytes_max} are allowed")]
    TooLong {
        /// The length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// What the swarm's task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Publish(Topic, Vec<u8>),
    Validate(GossipId, NodeId, Verdict),
    Dial(Option<Multiaddr>, Option<NodeId>),
    Disconnect(NodeId),
    Ban(NodeId, Duration),
    Provide(Vec<u8>),
    StopProviding(Vec<u8>),
    Providers(QueryId, Vec<u8>),
    Admit(NodeId),
    Shutdown,
}

/// The network at a moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// Where we listen.
    pub listens: Vec<Multiaddr>,
    /// Our addresses as others see them, with the number of peers that say so; at most
    /// [`OBSERVED_MAX`]. Hints: nobody has dialed them.
    pub observed: Vec<(Multiaddr, usize)>,
    /// Peers that we have a link to.
    pub peers: Vec<PeerStatus>,
    /// Connections, those that are no links (yet) included.
    pub connections: usize,
}

/// One peer at a moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerStatus {
    /// The peer.
    pub peer: NodeId,
    /// Received over the present connections. Unit: bytes.
    pub received: u64,
    /// Sent over the present connections. Unit: bytes.
    pub sent: u64,
}

/// Observed addresses kept; the oldest makes room.
pub const OBSERVED_MAX: usize = 16;

/// Peers counted for one observed address.
pub const OBSERVERS_MAX: usize = 64;

/// What the handle and the swarm's task share.
pub(crate) struct Shared {
    pub(crate) local: NodeId,
    pub(crate) links: Links,
    pub(crate) meter: Meter,
    pub(crate) status: Mutex<Status>,
}

/// Talks to a running network. Cheap to clone. When the last clone is dropped, the network ends.
#[derive(Clone)]
pub struct NetHandle {
    shared: Arc<Shared>,
    commands: Sender<Command>,
    queries: Arc<AtomicU64>,
    ended: Ended,
}

impl NetHandle {
    pub(crate) fn new(shared: Arc<Shared>, commands: Sender<Command>, ended: Ended) -> Self {
        Self {
            shared,
            commands,
            queries: Arc::default(),
            ended,
        }
    }

    /// Our own id.
    pub fn local(&self) -> NodeId {
        self.shared.local
    }

    /// Queues a message for `peer`. Messages of one protocol arrive in order, as long as the link
    /// stands; when it ends, those not yet sent are lost.
    ///
    /// # Errors
    ///
    /// [`SendError`]: no link, no room, too long, or not spoken by the peer.
    pub fn send(
        &self,
        peer: NodeId,
        protocol: Protocol,
        bytes: impl Into<Bytes>,
    ) -> Result<(), SendError> {
        let link = self.shared.links.get(&peer);
        let link = link.ok_or(SendError::NotConnected(peer))?;
        link.push(peer, protocol, bytes.into())
    }

    /// Opens a raw stream to `peer`. A busy peer says so at the first read. Dropping the future is
    /// safe.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: no link, too many openings, or the peer does not answer.
    pub async fn open(&self, peer: NodeId) -> Result<Stream, OpenError> {
        let link = self.shared.links.get(&peer);
        let link = link.ok_or(OpenError::NotConnected(peer))?;
        link.open(peer)?.await.unwrap_or(Err(OpenError::Closed))
    }

    /// Sends a message to everybody who is subscribed to `topic`. That nobody is, is no failure.
    ///
    /// # Errors
    ///
    /// [`CommandError`], also for a message above [`Topic::bytes_max`].
    pub fn publish(&self, topic: Topic, bytes: Vec<u8>) -> Result<(), CommandError> {
        check(bytes.len(), topic.bytes_max())?;
        self.command(Command::Publish(topic, bytes))
    }

    /// Judges a message that [`NetEvent::Gossip`](crate::net::NetEvent::Gossip) brought, within
    /// about five seconds; later nothing happens.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn validate(
        &self,
        id: GossipId,
        source: NodeId,
        verdict: Verdict,
    ) -> Result<(), CommandError> {
        self.command(Command::Validate(id, source, verdict))
    }

    /// Dials `address`, where `expected` shall answer. Leads to `Connected` or `DialFailed`.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn dial(&self, address: Multiaddr, expected: Option<NodeId>) -> Result<(), CommandError> {
        self.command(Command::Dial(Some(address), expected))
    }

    /// Dials `peer` at the addresses known of it, all at a time. Leads to `Connected` or
    /// `DialFailed`.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn dial_peer(&self, peer: NodeId) -> Result<(), CommandError> {
        self.command(Command::Dial(None, Some(peer)))
    }

    /// Ends the link to `peer` after sending what waits, for at most two seconds.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn disconnect(&self, peer: NodeId) -> Result<(), CommandError> {
        self.command(Command::Disconnect(peer))
    }

    /// Ends the link to `peer` at once and refuses its connections for `time`.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn ban(&self, peer: NodeId, time: Duration) -> Result<(), CommandError> {
        self.command(Command::Ban(peer, time))
    }

    /// Tells the network that we hold what `key` names, and goes on telling until
    /// [`NetHandle::stop_providing`]. At most
    /// [`PROVIDED_KEYS_MAX`](crate::net::records::PROVIDED_KEYS_MAX) keys; further ones are logged
    /// and ignored.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn provide(&self, key: &[u8]) -> Result<(), CommandError> {
        check(key.len(), KEY_BYTES_MAX)?;
        self.command(Command::Provide(key.to_vec()))
    }

    /// Stops telling. What others know expires by itself.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn stop_providing(&self, key: &[u8]) -> Result<(), CommandError> {
        check(key.len(), KEY_BYTES_MAX)?;
        self.command(Command::StopProviding(key.to_vec()))
    }

    /// Searches who holds what `key` names. Answers come as
    /// [`NetEvent::Providers`](crate::net::NetEvent::Providers), the last one within
    /// [`QUERY_TIMEOUT`](crate::net::kad::QUERY_TIMEOUT); above
    /// [`QUERIES_MAX`](crate::net::kad::QUERIES_MAX) searches at once and empty.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn providers(&self, key: &[u8]) -> Result<QueryId, CommandError> {
        check(key.len(), KEY_BYTES_MAX)?;
        let query = QueryId(self.queries.fetch_add(1, Ordering::Relaxed));
        self.command(Command::Providers(query, key.to_vec()))?;
        Ok(query)
    }

    /// Lets `peer`, which is connected, take part in searches for holders.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn admit(&self, peer: NodeId) -> Result<(), CommandError> {
        self.command(Command::Admit(peer))
    }

    /// The network at this moment.
    pub fn status(&self) -> Status {
        let status = self.shared.status.lock();
        let mut status = status.unwrap_or_else(PoisonError::into_inner).clone();
        let peers = self.shared.links.peers().into_iter();
        status.peers = peers
            .map(|peer| {
                let (received, sent) = self.shared.meter.totals(&peer);
                PeerStatus {
                    peer,
                    received,
                    sent,
                }
            })
            .collect();
        status
    }

    /// Closes all connections and listeners, and waits until every task has ended; for that the
    /// executor must be running. Dropping the future does not stop the shutdown.
    pub async fn shutdown(&self) {
        // A closed channel means that it has begun already.
        let _ = self.commands.send(Command::Shutdown).await;
        self.ended.wait().await;
    }

    /// The link to `peer`, to break rules with.
    #[cfg(test)]
    pub(crate) fn link(&self, peer: &NodeId) -> Arc<crate::net::link::Link> {
        self.shared.links.get(peer).expect("a link")
    }

    fn command(&self, command: Command) -> Result<(), CommandError> {
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                TrySendError::Full(_) => CommandError::Busy,
                TrySendError::Closed(_) => CommandError::Closed,
            })
    }
}

fn check(bytes: usize, bytes_max: usize) -> Result<(), CommandError> {
    if bytes > bytes_max {
        return Err(CommandError::TooLong { bytes, bytes_max });
    }
    Ok(())
}
