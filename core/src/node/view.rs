//! The status view, put together from what the loop and the store know.

use crate::base::{BlockId, NodeId, WallTime};
use crate::node::handle::Inner;
use crate::node::status::{
    ConsensusStatus, LogStatus, MemberStatus, NetworkStatus, PeerStatus, Status, StoreStatus,
};
use crate::proto::chain::MemberSet;
use crate::proto::sync::State;

/// How the node stands.
pub(crate) fn status(node: &Inner) -> Status {
    let known = node.shared.known();
    let snapshot = known.as_ref().map(|it| &it.snapshot);
    let members = snapshot.map_or_else(|| node.genesis.member_set(), |it| it.members.clone());
    let connected: Vec<_> = snapshot
        .map(|it| it.admitted.iter().map(|it| it.0).collect())
        .unwrap_or_default();
    let is_here = |it: &NodeId| *it == node.id || connected.contains(it);
    let me = members.by_node(&node.id).map(|it| it.name.clone());
    let me_alone = me.is_some() && members.len() == 1;
    let present = members.iter().filter(|it| is_here(&it.node)).count();
    let consensus = me.is_some().then(|| ConsensusStatus {
        height: snapshot.and_then(|it| it.deciding),
        connected: present,
        waiting: waiting(&members, present),
    });
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: node.id,
        peer_id: peer_id(node),
        ready: known.is_some(),
        started: node.started,
        network: NetworkStatus {
            name: node.genesis.name.clone(),
            origin: node.genesis.origin.clone(),
            chain: node.genesis.chain(),
            quorum: members.quorum(),
            faults_max: members.faults_max(),
            me,
            members: members
                .iter()
                .map(|it| MemberStatus {
                    name: it.name.clone(),
                    node: it.node,
                    connected: is_here(&it.node),
                })
                .collect(),
        },
        log: log_status(node, me_alone),
        consensus,
        listen: listen(node),
        peers: connected.len(),
        store: store_status(node),
        transfer: node.hub.peers.status(),
        builds_open: known.as_ref().map_or(0, |it| it.builds.open()),
    }
}

fn waiting(members: &MemberSet, present: usize) -> Option<String> {
    let quorum = members.quorum();
    (present < quorum).then(|| {
        format!(
            "{present} of {} authorized nodes are connected, {quorum} are needed",
            members.len()
        )
    })
}

fn log_status(node: &Inner, decides_alone: bool) -> LogStatus {
    let tip = node.store.chain().tip().ok().flatten();
    let progress = node.shared.known().map(|it| it.snapshot.progress);
    let height = tip.map_or(0, |it| it.height);
    LogStatus {
        height,
        block: tip.map_or(BlockId([0; 32]), |it| it.block),
        size: tip.map_or(0, |it| it.size),
        root: tip.map_or_else(crate::proto::log::tree::empty_root, |it| it.root),
        time: tip.map_or(WallTime::default(), |it| it.time),
        state: match progress.map(|it| it.state) {
            // Who decides alone is at the head by definition.
            Some(_) if decides_alone => "live".into(),
            None | Some(State::Searching) => "searching".into(),
            Some(State::CatchingUp) => "catching-up".into(),
            Some(State::Live) => "live".into(),
        },
        target: progress
            .and_then(|it| it.target)
            .unwrap_or(height)
            .max(height),
        checkpoint: node.shared.checkpoint().map(|(it, _)| it),
    }
}

fn store_status(node: &Inner) -> StoreStatus {
    let stat = node.store.blobs().stat();
    StoreStatus {
        artifacts: stat.count,
        bytes: stat.bytes,
        quota: node.config.limits.disk,
        pinned: stat.pinned_bytes,
    }
}

/// Addresses with the peer id, as others dial them.
fn listen(node: &Inner) -> Vec<String> {
    let id = peer_id(node);
    node.shared
        .addresses()
        .into_iter()
        .map(|it| format!("{it}/p2p/{id}"))
        .collect()
}

fn peer_id(node: &Inner) -> String {
    crate::net::id::peer_id(&node.id)
        .map(|it| it.to_string())
        .unwrap_or_default()
}

/// Peers with their names and traffic.
pub(crate) fn peers(node: &Inner) -> Vec<PeerStatus> {
    let members = node.shared.known().map(|it| it.snapshot.members);
    let mut peers = node.shared.peers();
    for peer in &mut peers {
        let member = members.as_ref().and_then(|it| it.by_node(&peer.node));
        peer.member = member.map(|it| it.name.clone());
        (peer.received, peer.sent) = node.hub.peers.of(&peer.node);
    }
    peers
}
