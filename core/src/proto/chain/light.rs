//! The light verifier: who is in charge of the log, without the log.
//!
//! It starts from the genesis, or from a set that was pinned later, and follows the changes of the
//! set by the *adjacent rule*: the members that decide height `h` commit, in the seal of `h`, to
//! the members that decide `h + 1`. So a change stands if that seal is proven to be in a log whose
//! head a quorum of the members before the change cosigned; or if they decided that block.
//!
//! It does not know whether a later change is withheld from it: a quorum of former members whose
//! keys leaked could show it another future. Judge the age of a head by its cosignature times, or
//! pin a recent set.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{ChainId, Sha256};
use crate::proto::chain::block::{Certificate, CertificateError, Header};
use crate::proto::chain::genesis::Genesis;
use crate::proto::chain::member::{MEMBERS_MAX, MemberSet};
use crate::proto::log::checkpoint::{Checkpoint, CheckpointError, VerifiedHead, verify_checkpoint};
use crate::proto::log::entry::{Entry, EntryError, Seal};
use crate::proto::log::proof::ProofError;

/// Why the light verifier refuses something.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LightError {
    /// The checkpoint does not stand under the trusted set.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The certificate does not stand under the trusted set.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The seal is not in the log.
    #[error("the seal of a change of members: {0}")]
    Proof(#[from] ProofError),
    /// The leaf is not an entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The leaf is an entry, but not a seal, or its place in the log is impossible.
    #[error("the leaf that should change the members is not a seal")]
    NotSeal,
    /// The block is older than the trusted set.
    #[error("block {height} was decided before the trusted members, who decide from {trusted} on")]
    Old {
        /// Of the block.
        height: u64,
        /// Of the trusted set.
        trusted: u64,
    },
    /// The block was decided by another set than the trusted one.
    #[error("block {0} was decided by other members; a change of members is missing before it")]
    OtherMembers(u64),
    /// The next members are not those that the seal commits to.
    #[error("the members after block {0} are missing, or not those that its seal commits to")]
    NextMembers(u64),
}

/// A change of the member set with its proof.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct SetChange {
    /// The leaf that closes the last block before the change.
    #[n(0)]
    pub seal: ByteVec,
    /// Its inclusion proof.
    #[n(1)]
    pub proof: Vec<Sha256>,
    /// A checkpoint that covers it, cosigned by the members before the change.
    #[n(2)]
    pub note: String,
    /// The members after the change.
    #[n(3)]
    pub next: MemberSet,
}

impl SetChange {
    /// The seal, not proven yet.
    ///
    /// # Errors
    ///
    /// [`LightError`] if the leaf is not a seal.
    pub fn read_seal(&self) -> Result<Seal, LightError> {
        match Entry::from_bytes(&self.seal)? {
            Entry::Seal(seal) => Ok(seal),
            _ => Err(LightError::NotSeal),
        }
    }
}

/// The members that are trusted from a height on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Light {
    origin: String,
    chain: ChainId,
    members: MemberSet,
    height: u64,
}

impl Light {
    /// Trusts the first members of a checked genesis.
    pub fn from_genesis(genesis: &Genesis) -> Self {
        Self::pinned(
            genesis.origin.clone(),
            genesis.chain(),
            genesis.member_set(),
            1,
        )
    }

    /// Trusts `members` from block `height` on, because the caller knows them.
    pub fn pinned(origin: String, chain: ChainId, members: MemberSet, height: u64) -> Self {
        Self {
            origin,
            chain,
            members,
            height,
        }
    }

    /// The trusted members.
    pub fn members(&self) -> &MemberSet {
        &self.members
    }

    /// The first block that they decide.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Origin of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Checks a checkpoint against the trusted members.
    ///
    /// # Errors
    ///
    /// [`LightError::Checkpoint`] if a quorum of them did not cosign it.
    pub fn head(&self, note: &str) -> Result<VerifiedHead, LightError> {
        Ok(verify_checkpoint(note, &self.origin, &self.members)?)
    }

    /// Follows a change of the members; on an error the trusted set stays as it is.
    ///
    /// # Errors
    ///
    /// [`LightError`] if the trusted members did not commit to it.
    pub fn follow(&mut self, change: &SetChange) -> Result<(), LightError> {
        let seal = change.read_seal()?;
        self.check_decided_by_trusted(&seal)?;
        // A seal is the last leaf of its block.
        let index = seal
            .count
            .checked_sub(1)
            .and_then(|it| it.checked_add(seal.first_index))
            .ok_or(LightError::NotSeal)?;
        self.head(&change.note)?
            .includes(&change.seal, index, &change.proof)?;
        self.turn(&seal, &change.next)
    }

    /// Follows those of `changes` that lie ahead, in the order of their heights.
    ///
    /// # Errors
    ///
    /// [`LightError`] of the first that does not stand; those before it were followed.
    pub fn follow_all(&mut self, changes: &[SetChange]) -> Result<(), LightError> {
        for change in changes {
            if self.height <= change.read_seal()?.height {
                self.follow(change)?;
            }
        }
        Ok(())
    }

    /// Checks that the trusted members decided a block, and follows it if it changes the members:
    /// then `next` has to be there. Returns the head of the log after the block. Blocks that change
    /// nothing may be skipped.
    ///
    /// # Errors
    ///
    /// [`LightError`] if they did not decide it; the trusted set stays as it is.
    pub fn block(
        &mut self,
        header: &Header,
        certificate: &Certificate,
        next: Option<&MemberSet>,
    ) -> Result<Checkpoint, LightError> {
        let seal = &header.seal;
        self.check_decided_by_trusted(seal)?;
        certificate.verify(&self.chain, header, &self.members)?;
        if seal.next_members != seal.members {
            let next = next.ok_or(LightError::NextMembers(seal.height))?;
            self.turn(seal, next)?;
        }
        Ok(Checkpoint {
            origin: self.origin.clone(),
            size: header.size,
            root: header.root,
        })
    }

    fn check_decided_by_trusted(&self, seal: &Seal) -> Result<(), LightError> {
        let (height, trusted) = (seal.height, self.height);
        if height < trusted {
            return Err(LightError::Old { height, trusted });
        }
        if seal.members != self.members.hash() {
            return Err(LightError::OtherMembers(height));
        }
        Ok(())
    }

    fn turn(&mut self, seal: &Seal, next: &MemberSet) -> Result<(), LightError> {
        let refused = LightError::NextMembers(seal.height);
        let sane = (1..=MEMBERS_MAX).contains(&next.len());
        if !sane || next.hash() != seal.next_members {
            return Err(refused);
        }
        self.height = seal.height.checked_add(1).ok_or(refused)?;
        self.members = next.clone();
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::{Blake3, BlockId, WallTime};
    use crate::proto::chain::block::CommitSignature;
    use crate::proto::chain::genesis::Params;
    use crate::proto::chain::member::{Member, NodeKeys};
    use crate::proto::log::cosign::tests::{ORIGIN, head, nodes, set, signed};
    use crate::proto::log::proof::inclusion;
    use crate::proto::log::proof::tests::Memory;

    pub(crate) type Nodes = Vec<(NodeKeys, Member)>;

    /// A log that changes its members with every block.
    pub(crate) struct Log {
        pub(crate) tree: Memory,
        pub(crate) nodes: Nodes,
        pub(crate) changes: Vec<SetChange>,
        pub(crate) headers: Vec<Header>,
    }

    pub(crate) fn genesis(nodes: &Nodes) -> Genesis {
        let genesis = Genesis {
            version: 1,
            name: "test".into(),
            origin: ORIGIN.into(),
            time: WallTime::from_millis(0),
            members: nodes.iter().map(|(keys, it)| keys.card(&it.name)).collect(),
            params: Params::default(),
        };
        assert_eq!(genesis.check(), Ok(()));
        genesis
    }

    impl Log {
        pub(crate) fn new(nodes: Nodes) -> Self {
            Self {
                tree: Memory::default(),
                nodes,
                changes: Vec::new(),
                headers: Vec::new(),
            }
        }

        /// Closes a block of one leaf and hands the log over to `next`.
        pub(crate) fn hand_over(&mut self, leaf: &[u8], next: Nodes) {
            let first_index = self.tree.edge.size();
            let seal = Seal {
                height: self.headers.len() as u64 + 1,
                parent: BlockId([0; 32]),
                time: WallTime::from_millis(0),
                members: set(&self.nodes).hash(),
                next_members: set(&next).hash(),
                first_index,
                count: 2,
                index_root: Sha256([0; 32]),
                evidence: Blake3([0; 32]),
            };
            let bytes = Entry::Seal(seal.clone()).to_bytes();
            self.tree.push(leaf);
            self.tree.push(&bytes);
            let size = self.tree.edge.size();
            self.changes.push(SetChange {
                seal: bytes.into(),
                proof: inclusion(&self.tree, first_index + 1, size).unwrap(),
                note: self.note(),
                next: set(&next),
            });
            let root = self.tree.edge.root();
            self.headers.push(Header { seal, size, root });
            self.nodes = next;
        }

        /// The portable note of the head, by the members of this moment.
        pub(crate) fn note(&self) -> String {
            let head = head(self.tree.edge.size(), self.tree.edge.root());
            signed(&head, &self.nodes).portable_note().unwrap()
        }
    }

    /// Nodes 1–4, 1–5, 2–5, 2–6 decide the blocks 1, 2, 3, 4.
    pub(crate) fn log() -> (Genesis, Log) {
        let genesis = genesis(&nodes(1..=4));
        let mut log = Log::new(nodes(1..=4));
        for next in [nodes(1..=5), nodes(2..=5), nodes(2..=6)] {
            log.hand_over(b"leaf", next);
        }
        (genesis, log)
    }

    #[test]
    fn the_genesis_leads_to_the_present_members() {
        let (genesis, log) = log();
        let mut light = Light::from_genesis(&genesis);
        assert!(light.head(&log.note()).is_err());
        light.follow_all(&log.changes).unwrap();
        assert_eq!((light.members(), light.height()), (&set(&log.nodes), 4));
        let verified = light.head(&log.note()).unwrap();
        assert_eq!(verified.root(), &log.tree.edge.root());

        // What is behind is passed over; asked for by itself it is refused.
        light.follow_all(&log.changes).unwrap();
        let old = Err(LightError::Old {
            height: 3,
            trusted: 4,
        });
        assert_eq!(light.follow(&log.changes[2]), old);
    }

    #[test]
    fn a_gap_in_the_changes_is_noticed() {
        let (genesis, log) = log();
        let mut light = Light::from_genesis(&genesis);
        assert_eq!(
            light.follow_all(&log.changes[1..]),
            Err(LightError::OtherMembers(2))
        );
        assert_eq!(light, Light::from_genesis(&genesis));
    }

    #[test]
    fn faulty_changes_are_refused_and_change_nothing() {
        let (genesis, log) = log();
        let spoil: [fn(&mut SetChange); 8] = [
            |it| it.next = set(&nodes(1..=6)),
            |it| it.next = MemberSet::new([]),
            |it| it.proof = Vec::new(),
            |it| it.proof[0].0[0] ^= 1,
            |it| it.note = it.note.replace("\n2\n", "\n3\n"),
            |it| it.note = String::new(),
            |it| it.seal = b"leaf".to_vec().into(),
            |it| it.seal = Vec::new().into(),
        ];
        for (case, spoil) in spoil.into_iter().enumerate() {
            let mut light = Light::from_genesis(&genesis);
            let mut change = log.changes[0].clone();
            spoil(&mut change);
            assert!(light.follow(&change).is_err(), "case {case}");
            assert_eq!(light, Light::from_genesis(&genesis));
        }
    }

    #[test]
    fn a_minority_cannot_change_the_members() {
        let four = nodes(1..=4);
        let light = Light::from_genesis(&genesis(&four));
        // A log of their own, in which two of the four name themselves the next members.
        let mut forged = Log::new(four.clone());
        forged.hand_over(b"leaf", nodes(1..=2));
        let mut change = forged.changes.remove(0);
        let lines = change.note.split_inclusive('\n');
        change.note = lines.filter(|it| !it.starts_with("— node-4.")).collect();
        assert_eq!(
            light.clone().follow(&change),
            Err(LightError::Checkpoint(CheckpointError::Quorum {
                signers: 2,
                quorum: 3
            }))
        );
    }

    #[test]
    fn an_impossible_seal_is_refused() {
        let (genesis, log) = log();
        for (first_index, count) in [(0, 0), (u64::MAX, 2), (u64::MAX, u64::MAX)] {
            let mut change = log.changes[0].clone();
            let mut seal = change.read_seal().unwrap();
            (seal.first_index, seal.count) = (first_index, count);
            change.seal = Entry::Seal(seal).to_bytes().into();
            assert_eq!(
                Light::from_genesis(&genesis).follow(&change),
                Err(LightError::NotSeal)
            );
        }
    }

    #[test]
    fn blocks_are_followed_by_their_certificates() {
        let (genesis, log) = log();
        let mut light = Light::from_genesis(&genesis);
        let decided_by = [nodes(1..=4), nodes(1..=5), nodes(2..=5)];
        for ((header, change), nodes) in log.headers.iter().zip(&log.changes).zip(decided_by) {
            let mut certificate = Certificate {
                height: header.seal.height,
                round: 0,
                block: header.id(),
                signatures: Vec::new(),
            };
            let message = certificate.signed_bytes(&genesis.chain());
            certificate.signatures = nodes
                .iter()
                .map(|(keys, it)| CommitSignature {
                    vote: it.vote,
                    signature: keys.vote.sign(&message),
                })
                .collect();
            certificate.signatures.sort_by_key(|it| it.vote);

            let before = light.clone();
            let missing = Err(LightError::NextMembers(header.seal.height));
            assert_eq!(light.block(header, &certificate, None), missing);
            let mut other = header.clone();
            other.size += 1;
            assert!(
                light
                    .block(&other, &certificate, Some(&change.next))
                    .is_err()
            );
            assert_eq!(light, before);
            assert_eq!(
                light.block(header, &certificate, Some(&change.next)),
                Ok(head(header.size, header.root))
            );
        }
        assert_eq!(light.members(), &set(&log.nodes));
    }
}
