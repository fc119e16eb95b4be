//! What the swarm is made of.

use std::io;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{gossipsub, identify, kad as libp2p_kad, ping};
use libp2p_allow_block_list::BlockedPeers;
use libp2p_connection_limits::ConnectionLimits;

use crate::net::gossip::Topics;
use crate::net::handle::Config;
use crate::net::records::Records;
use crate::net::{kad, links};

/// Name and version of the program, as others see them.
const AGENT: &str = concat!("kogge/", env!("CARGO_PKG_VERSION"));

/// Connections being made in each direction; further ones are refused.
const PENDING_MAX: u32 = 64;

/// Connections with one peer: the link, a double dial, a new one after the peer lost the first.
const PER_PEER_MAX: u32 = 4;

/// How often a peer is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// An answer later than this counts as none.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How often peers tell each other about themselves again.
const IDENTIFY_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// The parts, in the order in which they are asked: who may connect at all comes first.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) bans: libp2p_allow_block_list::Behaviour<BlockedPeers>,
    pub(crate) limits: libp2p_connection_limits::Behaviour,
    pub(crate) links: links::Behaviour,
    pub(crate) gossip: gossipsub::Behaviour,
    pub(crate) kad: libp2p_kad::Behaviour<Records>,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
}

impl Behaviour {
    /// # Errors
    ///
    /// If gossip cannot be set up.
    pub(crate) fn new(
        config: Config,
        key: &Keypair,
        topics: &Topics,
        links: links::Behaviour,
    ) -> io::Result<Self> {
        let local = key.public().to_peer_id();
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(PENDING_MAX))
            .with_max_pending_outgoing(Some(PENDING_MAX))
            .with_max_established_incoming(Some(config.inbound_max))
            .with_max_established_outgoing(Some(config.outbound_max))
            .with_max_established_per_peer(Some(PER_PEER_MAX));
        let records = Records::new(local, config.providers, config.seed);
        let identity = identify::Config::new("kogge/1".into(), key.public())
            .with_agent_version(AGENT.into())
            .with_interval(IDENTIFY_INTERVAL)
            .with_push_listen_addr_updates(true)
            // The links remember addresses.
            .with_cache_size(0);
        let pings = ping::Config::new()
            .with_interval(PING_INTERVAL)
            .with_timeout(PING_TIMEOUT);
        Ok(Self {
            bans: libp2p_allow_block_list::Behaviour::default(),
            limits: libp2p_connection_limits::Behaviour::new(limits),
            links,
            gossip: topics.behaviour(key)?,
            kad: kad::behaviour(local, records),
            identify: identify::Behaviour::new(identity),
            ping: ping::Behaviour::new(pings),
        })
    }
}
