//! Rows of the database without a node, for tests of hostile inputs: a disk may give back anything.

use libp2p::Multiaddr;

use crate::base::{PublicKey, WallTime, codec};
use crate::net::Provider;
use crate::node::providers::Row;

/// A provider record of the DHT, as it is stored under its key and node.
#[derive(Debug)]
pub struct ProviderRow(Row);

impl ProviderRow {
    /// Reads a row; `None` if it is damaged.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Row::decode(bytes).map(Self)
    }

    /// The row as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&self.0)
    }

    /// Good rows, with no address and with some.
    pub fn samples() -> Vec<Vec<u8>> {
        let addresses: Vec<Multiaddr> = [
            "/ip4/192.0.2.1/tcp/4001",
            "/ip6/2001:db8::1/tcp/1",
            "/dns4/kogge.test/tcp/443",
        ]
        .into_iter()
        .filter_map(|it| it.parse().ok())
        .collect();
        let row = |count: usize| {
            let provider = Provider {
                node: PublicKey([7; 32]),
                addresses: addresses.iter().take(count).cloned().collect(),
                expires: WallTime::from_millis(1_700_000_000_000),
            };
            codec::encode(&Row::new(&provider))
        };
        vec![row(0), row(addresses.len())]
    }
}
