//! Dials with several addresses: one is tried after the other.

use std::collections::BTreeMap;

use libp2p::Multiaddr;

use crate::base::NodeId;
use crate::net::NetHandle;

/// Dials under way.
#[derive(Debug, Default)]
pub(crate) struct Dials(BTreeMap<u64, Dial>);

#[derive(Debug)]
struct Dial {
    peer: Option<NodeId>,
    /// The address being tried.
    current: Multiaddr,
    /// As it was given.
    text: String,
    /// Those to try next, the next one last.
    rest: Vec<String>,
}

impl Dials {
    /// Starts a dial; gives it back if no address can be tried.
    pub(crate) fn start(
        &mut self,
        net: &NetHandle,
        dial: u64,
        peer: Option<NodeId>,
        addresses: Vec<String>,
    ) -> Option<u64> {
        let mut rest = addresses;
        rest.reverse();
        self.try_next(net, dial, peer, rest)
    }

    fn try_next(
        &mut self,
        net: &NetHandle,
        dial: u64,
        peer: Option<NodeId>,
        mut rest: Vec<String>,
    ) -> Option<u64> {
        while let Some(text) = rest.pop() {
            let Ok(current) = text.parse::<Multiaddr>() else {
                continue;
            };
            if net.dial(current.clone(), peer).is_ok() {
                self.0.insert(
                    dial,
                    Dial {
                        peer,
                        current,
                        text,
                        rest,
                    },
                );
                return None;
            }
        }
        Some(dial)
    }

    /// A link opened: which dial led to it, by which address.
    pub(crate) fn connected(
        &mut self,
        peer: &NodeId,
        address: &Multiaddr,
        is_outbound: bool,
    ) -> Option<(u64, String)> {
        let leads = |it: &Dial| {
            let same = is_outbound && bare(&it.current) == bare(address);
            same || it.peer.as_ref() == Some(peer)
        };
        let dial = self
            .0
            .iter()
            .find(|(_, it)| leads(it))
            .map(|(dial, _)| *dial)?;
        self.0.remove(&dial).map(|it| (dial, it.text))
    }

    /// An address led to no link: the next one is tried; gives the dial if there is none.
    pub(crate) fn failed(
        &mut self,
        net: &NetHandle,
        peer: Option<NodeId>,
        address: Option<Multiaddr>,
    ) -> Option<u64> {
        let leads = |it: &Dial| match &address {
            Some(address) => bare(&it.current) == bare(address),
            None => peer.is_some() && it.peer == peer,
        };
        let dial = self
            .0
            .iter()
            .find(|(_, it)| leads(it))
            .map(|(dial, _)| *dial)?;
        let Dial { peer, rest, .. } = self.0.remove(&dial)?;
        self.try_next(net, dial, peer, rest)
    }
}

/// The address without the peer id at its end.
fn bare(address: &Multiaddr) -> Multiaddr {
    address
        .iter()
        .filter(|it| !matches!(it, libp2p::multiaddr::Protocol::P2p(_)))
        .collect()
}
