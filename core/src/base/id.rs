//! Identities: nodes, chains, blocks, subjects of attestations.

use crate::base::digest::bytes_newtype;
use crate::base::sign::PublicKey;

/// A node, named by its ed25519 identity key; its libp2p peer id is the same key.
pub type NodeId = PublicKey;

bytes_newtype!(
    /// A network: the BLAKE3 digest of its genesis.
    ChainId,
    32
);
bytes_newtype!(
    /// A block: the BLAKE3 digest of its header.
    BlockId,
    32
);
bytes_newtype!(
    /// What an attestation is about: the BLAKE3 digest of the facts of a package version or of a
    /// tag binding.
    Subject,
    32
);
