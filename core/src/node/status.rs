//! What `status` and `peers` tell: plain values, serialized as JSON without further shaping.

use serde::{Deserialize, Serialize};

use crate::base::{BlockId, ChainId, NodeId, Sha256, WallTime};

/// A snapshot of a node; also the bootstrap document at `/status`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// The node.
    pub node: NodeId,
    /// The same identity as a libp2p peer id.
    pub peer_id: String,
    /// Whether the node has recovered, listens, and answers queries.
    pub ready: bool,
    /// Since when the node runs.
    pub started: WallTime,
    /// The network.
    pub network: NetworkStatus,
    /// The log.
    pub log: LogStatus,
    /// Agreement, if this node is authorized.
    pub consensus: Option<ConsensusStatus>,
    /// Where peers reach this node: multiaddrs ending in `/p2p/<peer id>`.
    pub listen: Vec<String>,
    /// Admitted peers.
    pub peers: usize,
    /// Stored artifacts.
    pub store: StoreStatus,
    /// Payload moved since the start.
    pub transfer: TransferStatus,
    /// Builds that are not finished.
    pub builds_open: usize,
}

/// The network a node belongs to.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NetworkStatus {
    /// Its name.
    pub name: String,
    /// Origin of its log.
    pub origin: String,
    /// Its identity.
    pub chain: ChainId,
    /// Authorized nodes now.
    pub members: Vec<MemberStatus>,
    /// Votes that decide.
    pub quorum: usize,
    /// Authorized nodes that may fail while the rest still decides.
    pub faults_max: usize,
    /// Name of this node, if it is authorized.
    pub me: Option<String>,
}

/// An authorized node as seen from here.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub node: NodeId,
    /// Whether it is connected, or is this node.
    pub connected: bool,
}

/// How far the node follows the log.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LogStatus {
    /// Number of the last durable block; 0 before the first.
    pub height: u64,
    /// That block; 32 zero bytes before the first.
    pub block: BlockId,
    /// Leaves in the log.
    pub size: u64,
    /// Root of the log.
    pub root: Sha256,
    /// The last block's time.
    pub time: WallTime,
    /// `searching`, `catching-up` or `live`.
    pub state: String,
    /// The highest block that peers claim.
    pub target: u64,
    /// The newest checkpoint.
    pub checkpoint: Option<CheckpointStatus>,
}

impl LogStatus {
    /// Whether the log has what was its head when the node became live. Blocks are durable, hence
    /// readable, a moment after they are known; the head may have moved on by then.
    pub(crate) fn reaches(&self, goal: &mut Option<u64>) -> bool {
        if self.state != "live" {
            *goal = None;
            return false;
        }
        *goal.get_or_insert(self.target) <= self.height
    }
}

/// A cosigned head.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CheckpointStatus {
    /// Leaves it covers.
    pub size: u64,
    /// Authorized nodes that cosigned it.
    pub signers: usize,
    /// The newest cosignature's time.
    pub time: WallTime,
}

/// What an authorized node's agreement does.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ConsensusStatus {
    /// The height being decided, if there is work.
    pub height: Option<u64>,
    /// Connected authorized nodes, this one included.
    pub connected: usize,
    /// Why there is no progress, if there is none.
    pub waiting: Option<String>,
}

/// Stored artifacts. Unit: bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct StoreStatus {
    /// Whole artifacts.
    pub artifacts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The owner's limit.
    pub quota: u64,
    /// Bytes of artifacts that are never evicted.
    pub pinned: u64,
}

/// Payload moved since the start. Unit: bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct TransferStatus {
    /// Verified payload from peers.
    pub received: u64,
    /// Payload to peers.
    pub sent: u64,
    /// Payload from upstreams.
    pub upstream: u64,
    /// Groups refused because they were not what was asked for.
    pub bad_proofs: u64,
    /// Frames refused because nobody asked for them.
    pub spurious: u64,
}

/// A peer, or a node that was turned away lately.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PeerStatus {
    /// The peer.
    pub node: NodeId,
    /// The same identity as a libp2p peer id.
    pub peer_id: String,
    /// Its name, if it is authorized.
    pub member: Option<String>,
    /// `connecting`, `admitted`, `refused` or `banned`.
    pub state: String,
    /// Why it was refused or banned.
    pub reason: Option<String>,
    /// The address of the connection.
    pub address: Option<String>,
    /// What it calls itself.
    pub agent: Option<String>,
    /// Its last known height.
    pub height: Option<u64>,
    /// Round-trip time. Unit: microseconds.
    pub rtt_us: Option<u64>,
    /// Verified payload from it. Unit: bytes.
    pub received: u64,
    /// Payload to it. Unit: bytes.
    pub sent: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_live_when_the_head_of_that_moment_is_readable() {
        let mut goal = None;
        for (state, height, target, expected) in [
            ("searching", 0, 0, false),
            ("catching-up", 0, 4, false),
            ("live", 0, 4, false),
            ("live", 3, 5, false),
            ("live", 4, 6, true),
            ("catching-up", 4, 9, false),
            ("live", 8, 9, false),
            ("live", 9, 9, true),
        ] {
            let status = LogStatus {
                height,
                block: BlockId([0; 32]),
                size: 0,
                root: Sha256([0; 32]),
                time: WallTime::default(),
                state: state.into(),
                target,
                checkpoint: None,
            };
            let reached = status.reaches(&mut goal);
            assert_eq!(reached, expected, "{state} {height}/{target}");
        }
    }
}
