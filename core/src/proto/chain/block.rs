//! Blocks and the certificates that decided them.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{Blake3, BlockId, ChainId, PublicKey, Sha256, Signature, codec};
use crate::proto::chain::member::{MEMBERS_MAX, MemberSet};
use crate::proto::chain::rules::ENTRIES_MAX;
use crate::proto::log::entry::Seal;

/// Longest encoded block, whatever the genesis says. Unit: bytes.
pub const BLOCK_BYTES_MAX: usize = 9 << 20;

/// What a block id covers: the seal, and the tree after the block.
///
/// The agreed header commits to its own tree head, so a decided block is a decided log.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Header {
    /// The block's last leaf.
    #[n(0)]
    pub seal: Seal,
    /// Leaves in the log after the block.
    #[n(1)]
    pub size: u64,
    /// Root of the log after the block (RFC 6962).
    #[n(2)]
    pub root: Sha256,
}

impl Header {
    /// The block's identity: BLAKE3 of the header.
    pub fn id(&self) -> BlockId {
        BlockId(Blake3::of(&codec::encode(self)).0)
    }
}

/// A header with the leaves before its seal, each in its canonical bytes.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Block {
    /// The header.
    #[n(0)]
    pub header: Header,
    /// The leaves without the seal.
    #[cbor(n(1), decode_with = "codec::at_most::<_, _, ENTRIES_MAX>")]
    pub entries: Vec<ByteVec>,
}

impl Block {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a block; checks its form, not its content.
    ///
    /// # Errors
    ///
    /// [`codec::CodecError`] if it is not the canonical form of a block.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, codec::CodecError> {
        codec::decode(bytes, BLOCK_BYTES_MAX)
    }

    /// Number of the block.
    pub fn height(&self) -> u64 {
        self.header.seal.height
    }

    /// The block's identity.
    pub fn id(&self) -> BlockId {
        self.header.id()
    }
}

/// 2f+1 precommits of one round for one block.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Certificate {
    /// The height that was decided.
    #[n(0)]
    pub height: u64,
    /// The round in which it was decided.
    #[n(1)]
    pub round: u32,
    /// The block.
    #[n(2)]
    pub block: BlockId,
    /// The precommits, sorted by vote key.
    #[n(3)]
    pub signatures: Vec<CommitSignature>,
}

/// One precommit's signature.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct CommitSignature {
    /// The member's vote key.
    #[n(0)]
    pub vote: PublicKey,
    /// Over [`Certificate::signed_bytes`].
    #[n(1)]
    pub signature: Signature,
}

/// Why a certificate does not decide a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// Names another chain height or block than the one at hand.
    #[error("the certificate is for another block")]
    OtherBlock,
    /// Unsorted, repeated, unknown or too many signers.
    #[error("the certificate's signers are not members, unsorted or repeated")]
    Signers,
    /// Fewer signers than the quorum.
    #[error("{signers} signers, {quorum} are needed")]
    Quorum {
        /// Valid signers.
        signers: usize,
        /// Needed.
        quorum: usize,
    },
    /// A signature does not stand.
    #[error("a signature in the certificate does not stand")]
    Signature,
}

/// What kind of vote a signature is for; part of the signed bytes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Encode, Decode)]
#[cbor(index_only)]
pub enum VoteKind {
    /// First vote of a round.
    #[n(1)]
    Prevote,
    /// Second vote of a round; 2f+1 of them decide.
    #[n(2)]
    Precommit,
}

/// The message under a vote. `block` is `None` for a vote for nil.
///
/// ```text
/// "kogge/vote/v1\0" ‖ chain (32) ‖ kind (1) ‖ height (8) ‖ round (8, two's complement)
///                   ‖ 0 or 1 (1) ‖ block (32, zero for nil)
/// ```
pub fn vote_bytes(
    chain: &ChainId,
    kind: VoteKind,
    height: u64,
    round: i64,
    block: Option<&BlockId>,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(b"kogge/vote/v1\0");
    bytes.extend_from_slice(chain.as_bytes());
    bytes.push(match kind {
        VoteKind::Prevote => 1,
        VoteKind::Precommit => 2,
    });
    bytes.extend_from_slice(&height.to_be_bytes());
    bytes.extend_from_slice(&round.to_be_bytes());
    bytes.push(u8::from(block.is_some()));
    bytes.extend_from_slice(block.map_or(&[0; 32], |it| it.as_bytes()));
    bytes
}

impl Certificate {
    /// The message under each signature: a precommit.
    pub fn signed_bytes(&self, chain: &ChainId) -> Vec<u8> {
        let round = i64::from(self.round);
        vote_bytes(
            chain,
            VoteKind::Precommit,
            self.height,
            round,
            Some(&self.block),
        )
    }

    /// Checks that `members` decided `header` on `chain`.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] if they did not.
    pub fn verify(
        &self,
        chain: &ChainId,
        header: &Header,
        members: &MemberSet,
    ) -> Result<(), CertificateError> {
        if self.height != header.seal.height || self.block != header.id() {
            return Err(CertificateError::OtherBlock);
        }
        let sorted = self.signatures.windows(2).all(|it| it[0].vote < it[1].vote);
        if !sorted || MEMBERS_MAX < self.signatures.len() {
            return Err(CertificateError::Signers);
        }
        let (signers, quorum) = (self.signatures.len(), members.quorum());
        if signers < quorum {
            return Err(CertificateError::Quorum { signers, quorum });
        }
        let message = self.signed_bytes(chain);
        for it in &self.signatures {
            let member = members.by_vote(&it.vote).ok_or(CertificateError::Signers)?;
            member
                .vote
                .verify(&message, &it.signature)
                .map_err(|_| CertificateError::Signature)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{SecretKey, WallTime};
    use crate::proto::chain::member::NodeKeys;

    fn header() -> Header {
        let seal = Seal {
            height: 1,
            parent: BlockId([0; 32]),
            time: WallTime::from_millis(1),
            members: Sha256([1; 32]),
            next_members: Sha256([1; 32]),
            first_index: 0,
            count: 1,
            index_root: Sha256([0; 32]),
            evidence: Blake3([0; 32]),
        };
        Header {
            seal,
            size: 1,
            root: Sha256([2; 32]),
        }
    }

    fn certificate(chain: &ChainId, header: &Header, keys: &[SecretKey]) -> Certificate {
        let mut it = Certificate {
            height: 1,
            round: 0,
            block: header.id(),
            signatures: Vec::new(),
        };
        let message = it.signed_bytes(chain);
        it.signatures = keys
            .iter()
            .map(|key| CommitSignature {
                vote: key.public(),
                signature: key.sign(&message),
            })
            .collect();
        it.signatures.sort_by_key(|it| it.vote);
        it
    }

    #[test]
    fn only_a_quorum_of_members_decides() {
        let chain = ChainId([9; 32]);
        let nodes: Vec<_> = (1..=4).map(|it| NodeKeys::from_seed([it; 32])).collect();
        let members = MemberSet::new(nodes.iter().map(|it| it.card("n").member));
        let keys: Vec<_> = nodes.iter().map(|it| it.vote.clone()).collect();
        let header = header();

        let good = certificate(&chain, &header, &keys[..3]);
        assert_eq!(good.verify(&chain, &header, &members), Ok(()));
        assert_eq!(
            certificate(&chain, &header, &keys[..2]).verify(&chain, &header, &members),
            Err(CertificateError::Quorum {
                signers: 2,
                quorum: 3
            })
        );
        let stranger = [
            keys[0].clone(),
            keys[1].clone(),
            SecretKey::from_seed([99; 32]),
        ];
        assert_eq!(
            certificate(&chain, &header, &stranger).verify(&chain, &header, &members),
            Err(CertificateError::Signers)
        );
        let twice = [keys[0].clone(), keys[1].clone(), keys[1].clone()];
        assert_eq!(
            certificate(&chain, &header, &twice).verify(&chain, &header, &members),
            Err(CertificateError::Signers)
        );
        let other_chain = ChainId([8; 32]);
        assert_eq!(
            good.verify(&other_chain, &header, &members),
            Err(CertificateError::Signature)
        );
        let mut other = header.clone();
        other.size += 1;
        assert_eq!(
            good.verify(&chain, &other, &members),
            Err(CertificateError::OtherBlock)
        );
    }
}
