//! What people and candidates sign: marks of admins, proofs of readiness, publications.
//!
//! Every message starts with the name of its purpose and the chain, so that a signature given for
//! one thing never counts for another.
//!
//! ```text
//! mark         "kogge/mark/v1\0"        ‖ chain (32) ‖ kind (1) ‖ BLAKE3 of CBOR of the consent (32)
//! readiness    "kogge/ready/v1\0"       ‖ chain (32) ‖ height (8, big endian) ‖ block (32)
//! publication  "kogge/publication/v1\0" ‖ chain (32) ‖ subject (32)
//! ```

use crate::base::{
    Blake3, BlockId, ChainId, NodeId, PublicKey, SecretKey, Signature, SignatureError, Subject,
    codec,
};
use crate::proto::chain::member::{Member, MemberSet};
use crate::proto::log::entry::{AddNode, Mark, Publication, RemoveArtifact, RemoveNode};

/// What an admin consents to. It does not expire; it counts while the admin's node is a member.
#[derive(Clone, Copy, Debug)]
pub enum Consent<'a> {
    /// Admit a node with these keys. Its readiness is proven apart, because it grows stale.
    AddNode(&'a Member),
    /// Dismiss a node.
    RemoveNode {
        /// The node.
        node: &'a NodeId,
        /// Why, as in the entry.
        reason: &'a str,
    },
    /// Withdraw an artifact.
    RemoveArtifact {
        /// Index of the artifact's leaf.
        index: u64,
        /// Why, as in the entry.
        reason: &'a str,
    },
}

impl<'a> From<&'a AddNode> for Consent<'a> {
    fn from(entry: &'a AddNode) -> Self {
        Self::AddNode(&entry.card.member)
    }
}

impl<'a> From<&'a RemoveNode> for Consent<'a> {
    fn from(entry: &'a RemoveNode) -> Self {
        Self::RemoveNode {
            node: &entry.node,
            reason: &entry.reason,
        }
    }
}

impl<'a> From<&'a RemoveArtifact> for Consent<'a> {
    fn from(entry: &'a RemoveArtifact) -> Self {
        Self::RemoveArtifact {
            index: entry.index,
            reason: &entry.reason,
        }
    }
}

impl Consent<'_> {
    /// The message that an admin signs.
    pub fn signed_bytes(&self, chain: &ChainId) -> Vec<u8> {
        let (kind, body) = match self {
            Self::AddNode(member) => (3, codec::encode(member)),
            Self::RemoveNode { node, reason } => (4, codec::encode(&(node, reason))),
            Self::RemoveArtifact { index, reason } => (2, codec::encode(&(index, reason))),
        };
        let mut bytes = b"kogge/mark/v1\0".to_vec();
        bytes.extend_from_slice(chain.as_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(Blake3::of(&body).as_bytes());
        bytes
    }

    /// The mark of the admin of `node`.
    pub fn mark(&self, chain: &ChainId, node: NodeId, admin: &SecretKey) -> Mark {
        Mark {
            node,
            signature: admin.sign(&self.signed_bytes(chain)),
        }
    }

    /// Checks that `mark` is by the admin of a member.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] if it does not stand; [`SignatureError::Key`] if its node is no member.
    pub fn verify(
        &self,
        chain: &ChainId,
        members: &MemberSet,
        mark: &Mark,
    ) -> Result<(), SignatureError> {
        let member = members.by_node(&mark.node).ok_or(SignatureError::Key)?;
        member
            .admin
            .verify(&self.signed_bytes(chain), &mark.signature)
    }
}

/// The message by which a candidate's vote key says that it has followed the log to `block`.
pub fn readiness_bytes(chain: &ChainId, height: u64, block: &BlockId) -> Vec<u8> {
    let mut bytes = b"kogge/ready/v1\0".to_vec();
    bytes.extend_from_slice(chain.as_bytes());
    bytes.extend_from_slice(&height.to_be_bytes());
    bytes.extend_from_slice(block.as_bytes());
    bytes
}

/// A candidate's proof that it has followed the log to `block`.
pub fn sign_readiness(
    chain: &ChainId,
    height: u64,
    block: &BlockId,
    vote: &SecretKey,
) -> Signature {
    vote.sign(&readiness_bytes(chain, height, block))
}

/// Checks the proof of readiness in `entry`; not whether the block is ours or recent.
///
/// # Errors
///
/// [`SignatureError`] if it does not stand.
pub fn verify_readiness(chain: &ChainId, entry: &AddNode) -> Result<(), SignatureError> {
    let message = readiness_bytes(chain, entry.ready_height, &entry.ready_block);
    entry
        .card
        .member
        .vote
        .verify(&message, &entry.ready_signature)
}

/// The message by which a publisher vouches for a package version.
pub fn publication_bytes(chain: &ChainId, subject: &Subject) -> Vec<u8> {
    let mut bytes = b"kogge/publication/v1\0".to_vec();
    bytes.extend_from_slice(chain.as_bytes());
    bytes.extend_from_slice(subject.as_bytes());
    bytes
}

/// A publisher's signature for a package version.
pub fn publish(chain: &ChainId, subject: &Subject, publisher: &SecretKey) -> Publication {
    Publication {
        publisher: publisher.public(),
        signature: publisher.sign(&publication_bytes(chain, subject)),
    }
}

/// Checks a publisher's signature.
///
/// # Errors
///
/// [`SignatureError`] if it does not stand.
pub fn verify_publication(
    chain: &ChainId,
    subject: &Subject,
    publication: &Publication,
) -> Result<(), SignatureError> {
    let key: &PublicKey = &publication.publisher;
    key.verify(&publication_bytes(chain, subject), &publication.signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::chain::member::NodeKeys;

    #[test]
    fn a_mark_counts_for_one_thing_on_one_chain_by_one_admin() {
        let [alice, bob] = [1, 2].map(|it| NodeKeys::from_seed([it; 32]));
        let members = MemberSet::new([&alice, &bob].map(|it| it.card("n").member));
        let (chain, other) = (ChainId([1; 32]), ChainId([2; 32]));
        let [here, there] = [1, 2].map(|index| Consent::RemoveArtifact { index, reason: "" });
        let node = bob.id();
        let dismissal = Consent::RemoveNode {
            node: &node,
            reason: "",
        };

        let mark = here.mark(&chain, alice.id(), &alice.admin);
        assert_eq!(here.verify(&chain, &members, &mark), Ok(()));
        for (consent, chain) in [(there, &chain), (dismissal, &chain), (here, &other)] {
            assert_eq!(
                consent.verify(chain, &members, &mark),
                Err(SignatureError::Mismatch)
            );
        }
        for (node, admin, error) in [
            (bob.id(), &alice.admin, SignatureError::Mismatch),
            (alice.id(), &alice.vote, SignatureError::Mismatch),
            (alice.vote.public(), &alice.admin, SignatureError::Key),
        ] {
            let mark = here.mark(&chain, node, admin);
            assert_eq!(here.verify(&chain, &members, &mark), Err(error));
        }
    }

    #[test]
    fn a_publication_is_for_one_subject() {
        let (chain, key) = (ChainId([1; 32]), SecretKey::from_seed([9; 32]));
        let publication = publish(&chain, &Subject([1; 32]), &key);
        assert_eq!(
            verify_publication(&chain, &Subject([1; 32]), &publication),
            Ok(())
        );
        assert!(verify_publication(&chain, &Subject([2; 32]), &publication).is_err());
    }
}
