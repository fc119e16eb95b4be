//! Node ids are ed25519 keys; libp2p's peer ids name the same keys.

use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey as PeerKey, ed25519};

use crate::base::{NodeId, SecretKey};

/// Code of the multihash that holds its input unchanged.
const IDENTITY_MULTIHASH: u64 = 0;

/// The peer id of `node`, or `None` if the bytes are not a usable key.
pub fn peer_id(node: &NodeId) -> Option<PeerId> {
    if !node.is_usable() {
        return None;
    }
    let key = ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(PeerKey::from(key).to_peer_id())
}

/// The node behind `peer`, or `None` if its key is not a usable ed25519 key.
///
/// Only ed25519 keys are short enough to stand in a peer id unhashed.
pub fn node_id(peer: &PeerId) -> Option<NodeId> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY_MULTIHASH {
        return None;
    }
    let key = PeerKey::try_decode_protobuf(hash.digest()).ok()?;
    let node = crate::base::PublicKey(key.try_into_ed25519().ok()?.to_bytes());
    node.is_usable().then_some(node)
}

/// libp2p's form of `key`; `None` never happens for a key that can sign.
pub(crate) fn keypair(key: &SecretKey) -> Option<Keypair> {
    // libp2p wipes the copy it is given.
    let mut seed = *key.seed();
    Keypair::ed25519_from_bytes(&mut seed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_and_peer_ids_name_the_same_key() {
        let alice = SecretKey::from_seed([1; 32]);
        let peer = peer_id(&alice.public()).unwrap();
        assert_eq!(peer, keypair(&alice).unwrap().public().to_peer_id());
        assert_eq!(node_id(&peer), Some(alice.public()));
    }

    #[test]
    fn other_kinds_of_keys_are_not_nodes() {
        assert_eq!(node_id(&PeerId::random()), None);
        let mut weak = [0; 32];
        weak[0] = 1;
        assert_eq!(peer_id(&crate::base::PublicKey(weak)), None);
    }
}
