//! A network of nodes on this machine: data directories, keys, genesis and configuration.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use kogge::node::start::save_genesis;
use kogge::proto::chain::member::MEMBERS_MAX;
use kogge::{Genesis, Params, WallTime};
use serde_json::{Value, json};

use crate::commands::authorize::card_in;
use crate::commands::network::write_genesis;
use crate::failure::{During, Failure};
use crate::files;
use crate::place::socket_in;

/// Most regular nodes: each is a process.
const REGULAR_MAX: usize = 64;

/// What to make.
pub(crate) struct Plan {
    /// Name of the network.
    pub(crate) name: String,
    /// Authorized nodes.
    pub(crate) authorized: usize,
    /// Regular nodes.
    pub(crate) regular: usize,
    /// Image upstreams of each node by label.
    pub(crate) registries: BTreeMap<String, String>,
    /// Maven upstreams of each node.
    pub(crate) repositories: Vec<String>,
    /// Parameters of the network.
    pub(crate) params: Params,
}

/// A node that can be started.
#[derive(Clone, Debug)]
pub(crate) struct LocalNode {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is authorized.
    pub(crate) is_authorized: bool,
    /// Its data directory.
    pub(crate) folder: PathBuf,
    /// Its port for peers.
    pub(crate) peer_port: u16,
    /// Its port for HTTP.
    pub(crate) http_port: u16,
}

impl LocalNode {
    /// The node as JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name, "authorized": self.is_authorized, "data_dir": self.folder,
            "peers": format!("/ip4/127.0.0.1/tcp/{}", self.peer_port),
            "http": format!("http://127.0.0.1:{}", self.http_port),
        })
    }
}

/// Makes the data directories `node-1`, … and `regular-1`, … in `dir`.
///
/// # Errors
///
/// [`Failure`] if one exists already, or a file cannot be written.
pub(crate) fn make(
    dir: &Path,
    plan: &Plan,
    now: WallTime,
) -> Result<(Genesis, Vec<LocalNode>), Failure> {
    if !(1..=MEMBERS_MAX).contains(&plan.authorized) || REGULAR_MAX < plan.regular {
        let message = format!(
            "want 1 to {MEMBERS_MAX} authorized nodes and at most {REGULAR_MAX} regular ones"
        );
        return Err(Failure::input(message));
    }
    let dir = std::path::absolute(dir).during(format!("the folder {}", dir.display()))?;
    let nodes = names(&dir, plan)?;
    let mut members = Vec::new();
    for node in &nodes {
        socket_in(&node.folder)?;
        if node.folder.exists() {
            let hint = "choose another folder";
            return Err(Failure::input(format!(
                "{} exists already; {hint}",
                node.folder.display()
            )));
        }
        let card = card_in(&node.folder, &node.name)?;
        if node.is_authorized {
            members.push(card);
        }
    }
    let genesis = Genesis {
        version: 1,
        name: plan.name.clone(),
        origin: format!("kogge/{}", plan.name),
        time: now,
        members,
        params: plan.params,
    };
    genesis.check()?;
    for node in &nodes {
        save_genesis(&node.folder, &genesis)?;
        let text = toml::to_string(&config(node, &nodes, plan)).during("the configuration")?;
        files::write(&node.folder.join("kogge.toml"), text.as_bytes())?;
    }
    write_genesis(&dir.join("genesis.json"), &genesis)?;
    Ok((genesis, nodes))
}

fn names(dir: &Path, plan: &Plan) -> Result<Vec<LocalNode>, Failure> {
    // All ports are held until all are chosen, so that none is chosen twice.
    let mut held = Vec::new();
    let mut port = || {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("no free port on loopback")?;
        let port = listener
            .local_addr()
            .during("no free port on loopback")?
            .port();
        held.push(listener);
        Ok::<_, Failure>(port)
    };
    let authorized = (1..=plan.authorized).map(|it| (format!("node-{it}"), true));
    let regular = (1..=plan.regular).map(|it| (format!("regular-{it}"), false));
    let node = |(name, is_authorized): (String, bool)| {
        Ok(LocalNode {
            folder: dir.join(&name),
            peer_port: port()?,
            http_port: port()?,
            name,
            is_authorized,
        })
    };
    authorized.chain(regular).map(node).collect()
}

fn config(node: &LocalNode, nodes: &[LocalNode], plan: &Plan) -> Value {
    let address = |it: &LocalNode| format!("/ip4/127.0.0.1/tcp/{}", it.peer_port);
    let peers = nodes
        .iter()
        .filter(|it| it.is_authorized && it.name != node.name);
    let mut config = json!({
        "listen": [address(node)],
        "peers": peers.map(address).collect::<Vec<_>>(),
        "http": {"address": format!("127.0.0.1:{}", node.http_port)},
    });
    if !plan.registries.is_empty() {
        config["docker"] = json!({"registries": plan.registries});
    }
    if !plan.repositories.is_empty() {
        config["maven"] = json!({"repositories": plan.repositories});
    }
    config
}

#[cfg(test)]
mod tests {
    use kogge::node::start::load_genesis;

    use super::*;
    use crate::place::Place;

    fn plan() -> Plan {
        Plan {
            name: "test".into(),
            authorized: 2,
            regular: 1,
            registries: BTreeMap::from([("r.test".into(), "http://127.0.0.1:1".into())]),
            repositories: vec!["http://127.0.0.1:2".into()],
            params: Params::default(),
        }
    }

    #[test]
    fn local_nodes_are_of_one_network_and_know_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let (genesis, nodes) = make(folder.path(), &plan(), WallTime::from_millis(1)).unwrap();
        let ports: std::collections::BTreeSet<_> = nodes
            .iter()
            .flat_map(|it| [it.peer_port, it.http_port])
            .collect();
        assert_eq!((nodes.len(), ports.len(), genesis.members.len()), (3, 6, 2));
        for node in &nodes {
            assert_eq!(load_genesis(&node.folder).unwrap().as_ref(), Some(&genesis));
            let place = Place::find(Some(node.folder.clone()), None).unwrap();
            let others = if node.is_authorized { 1 } else { 2 };
            assert_eq!(place.config.peers.len(), others);
            assert_eq!(place.http.address.unwrap().port(), node.http_port);
            assert_eq!(place.config.registries, plan().registries);
        }
        let again = make(folder.path(), &plan(), WallTime::from_millis(1));
        assert!(again.unwrap_err().message.contains("exists already"));
    }
}
