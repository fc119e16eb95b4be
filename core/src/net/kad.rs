//! Kademlia as we use it: provider records only, under our own protocol name.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use libp2p::kad::{Behaviour, BucketInserts, Config, Mode};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use crate::net::records::{PROVIDER_TTL, Records};

/// The name on the wire.
pub(crate) const NAME: StreamProtocol = StreamProtocol::new("/kogge/kad/1");

/// A search that has not ended by then ends with what it found.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Searches for holders at a time; further ones are refused.
pub const QUERIES_MAX: usize = 256;

/// How often the table of peers is refreshed.
const BOOTSTRAP_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// The behaviour of a node that answers others.
pub(crate) fn behaviour(local: PeerId, records: Records) -> Behaviour<Records> {
    let mut config = Config::new(NAME);
    config
        .set_query_timeout(QUERY_TIMEOUT)
        .set_provider_record_ttl(Some(PROVIDER_TTL))
        .set_periodic_bootstrap_interval(Some(BOOTSTRAP_INTERVAL))
        .set_kbucket_inserts(BucketInserts::Manual)
        // The publisher decides each time whether to tell again.
        .set_provider_publication_interval(None)
        // Value records are refused: nothing to republish or to replicate.
        .set_publication_interval(None)
        .set_replication_interval(None);
    let mut behaviour = Behaviour::with_config(local, records, config);
    behaviour.set_mode(Some(Mode::Server));
    behaviour
}

/// Who may be in the table: connected peers that answer searches and that the node admitted.
/// Kademlia dials by itself whom it knows, also a peer that has refused us.
#[derive(Default)]
pub(crate) struct Servers {
    admitted: HashSet<PeerId>,
    /// Where those that answer searches listen.
    told: HashMap<PeerId, Vec<Multiaddr>>,
}

impl Servers {
    /// The node admitted `peer`, to which it is connected.
    pub(crate) fn admit(&mut self, kad: &mut Behaviour<Records>, peer: PeerId) {
        self.admitted.insert(peer);
        self.meet(kad, &peer);
    }

    /// `peer`, to which we are connected, answers searches and listens there.
    pub(crate) fn learn(
        &mut self,
        kad: &mut Behaviour<Records>,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    ) {
        self.told.insert(peer, addresses);
        self.meet(kad, &peer);
    }

    fn meet(&self, kad: &mut Behaviour<Records>, peer: &PeerId) {
        let told = self.told.get(peer).filter(|_| self.admitted.contains(peer));
        for address in told.into_iter().flatten() {
            kad.add_address(peer, address.clone());
        }
    }

    /// `peer` has no connection any more; the table keeps it.
    pub(crate) fn leave(&mut self, peer: &PeerId) {
        self.admitted.remove(peer);
        self.told.remove(peer);
    }
}

/// Whether `address`, told by a peer whose connection comes from `remote`, may be worth a dial by
/// us: a loopback address only if the peer is on this machine.
pub(crate) fn is_plausible(address: &Multiaddr, remote: &Multiaddr) -> bool {
    use libp2p::multiaddr::Protocol;
    let is_loopback = |it: &Multiaddr| match it.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    };
    let is_unspecified = match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_unspecified(),
        Some(Protocol::Ip6(ip)) => ip.is_unspecified(),
        _ => false,
    };
    !is_unspecified && (!is_loopback(address) || is_loopback(remote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_are_believed_only_on_the_same_machine() {
        for (address, remote, expected) in [
            ("/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2", true),
            ("/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.1/tcp/2", false),
            ("/ip6/::1/tcp/1", "/ip4/192.0.2.1/tcp/2", false),
            ("/ip4/192.0.2.7/tcp/1", "/ip4/127.0.0.1/tcp/2", true),
            ("/ip4/0.0.0.0/tcp/1", "/ip4/127.0.0.1/tcp/2", false),
            ("/dns4/example.org/tcp/1", "/ip4/192.0.2.1/tcp/2", true),
        ] {
            let [told, seen] = [address, remote].map(|it| it.parse().unwrap());
            assert_eq!(is_plausible(&told, &seen), expected, "{address} {remote}");
        }
    }
}
