//! Whom a node admits: everybody in its network, or authorized nodes and those that its owner lists.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::base::NodeId;
use crate::node::config::ConfigError;
use crate::proto::chain::MemberSet;

/// Most nodes that a closed node lists.
pub const ADMITTED_MAX: usize = 4_096;

/// The setting that lists nodes.
const KEY: &str = "network.nodes";

/// Which peers a node takes part in the network with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Admit {
    /// Anybody in the same network.
    #[default]
    All,
    /// Authorized nodes and these; at most [`ADMITTED_MAX`]. Others are refused at the handshake,
    /// whoever dialled. A node that is to become authorized should be listed before.
    ///
    /// Authorized are those that the last block this node has names. If all of them were replaced
    /// while it was away it refuses their successors, from which alone it could learn that: list at
    /// least one node that stays. The peers it refuses are in its status, with the reason.
    Listed(BTreeSet<NodeId>),
}

impl Admit {
    /// Whether `peer` may take part, when `members` are authorized.
    pub fn admits(&self, peer: &NodeId, members: &MemberSet) -> bool {
        match self {
            Self::All => true,
            Self::Listed(nodes) => nodes.contains(peer) || members.by_node(peer).is_some(),
        }
    }

    /// Checks the length of the list.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Value`] if it is too long.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Listed(nodes) if ADMITTED_MAX < nodes.len() => Err(ConfigError::Value {
                key: KEY,
                problem: format!("{} nodes, at most {ADMITTED_MAX}", nodes.len()),
            }),
            Self::All | Self::Listed(_) => Ok(()),
        }
    }
}

/// The table `network` of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawNetwork {
    #[serde(default)]
    admit: RawAdmit,
    #[serde(default)]
    nodes: Vec<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawAdmit {
    #[default]
    All,
    Listed,
}

impl RawNetwork {
    /// Whom the table names.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Value`] for what is no node, or nodes that would be admitted anyway.
    pub(crate) fn admit(&self) -> Result<Admit, ConfigError> {
        let key = KEY;
        match self.admit {
            RawAdmit::All if self.nodes.is_empty() => Ok(Admit::All),
            RawAdmit::All => {
                let problem = "everybody is admitted; want admit = \"listed\" or no nodes".into();
                Err(ConfigError::Value { key, problem })
            }
            RawAdmit::Listed => {
                let nodes = self.nodes.iter().map(|it| {
                    let problem = || format!("`{it}` is neither a node id nor a peer id");
                    node_of(it).ok_or_else(|| ConfigError::Value {
                        key,
                        problem: problem(),
                    })
                });
                Ok(Admit::Listed(nodes.collect::<Result<_, _>>()?))
            }
        }
    }
}

/// A node by its id, as `kogge status` shows it, or by its libp2p peer id.
fn node_of(text: &str) -> Option<NodeId> {
    match NodeId::from_hex(text) {
        Some(node) => node.is_usable().then_some(node),
        None => crate::net::id::node_id(&text.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::node::config::Config;
    use crate::proto::chain::testing::{genesis, node_keys};

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::from_toml(text, Path::new("/etc/kogge.toml"), "/var/lib/kogge")
    }

    #[test]
    fn a_closed_node_admits_members_and_whom_it_lists() {
        let (members, listed) = (genesis(1).member_set(), node_keys(7).id());
        let peer_id = crate::net::id::peer_id(&listed).unwrap();
        for id in [listed.to_string(), peer_id.to_string()] {
            let text = format!("[network]\nadmit = 'listed'\nnodes = ['{id}']\n");
            let config = parse(&text).unwrap();
            assert_eq!(config.admit, Admit::Listed([listed].into()));
            for (peer, expected) in [(0, true), (7, true), (8, false)] {
                let peer = node_keys(peer).id();
                assert_eq!(config.admit.admits(&peer, &members), expected);
                assert!(Admit::All.admits(&peer, &members));
            }
        }
        assert_eq!(parse("[network]\nadmit = 'all'").unwrap().admit, Admit::All);
        let alone = parse("[network]\nadmit = 'listed'").unwrap();
        assert_eq!(alone.admit, Admit::Listed(BTreeSet::new()));
    }

    #[test]
    fn problems_name_the_line() {
        for (text, part) in [
            (
                "[network]\nadmit = 'some'",
                "line 2, column 9: unknown variant `some`",
            ),
            (
                "[network]\nadmit = 'listed'\nnodes = ['bob']",
                "line 3, `network.nodes`: `bob` is neither a node id nor a peer id",
            ),
            (
                "[network]\n\nnodes = []\nnodez = []",
                "line 4, column 1: unknown field `nodez`",
            ),
            (
                "[network]\nnodes = ['bob']",
                "line 2, `network.nodes`: everybody is admitted",
            ),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn a_list_has_a_limit() {
        let node = |at: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&at.to_le_bytes());
            crate::base::PublicKey(bytes)
        };
        for (count, fits) in [(ADMITTED_MAX, true), (ADMITTED_MAX + 1, false)] {
            let mut config = Config::new("/x");
            config.admit = Admit::Listed((0..count).map(node).collect());
            assert_eq!(config.check().is_ok(), fits, "{count}");
        }
    }
}
