//! The light verifier: who is in charge of the log, without the log.
//!
//! It starts from the genesis, or from a set that was pinned later, and follows the changes of the
//! set by the *adjacent rule*: the members that decide height `h` commit, in the seal of `h`, to
//! the members that decide `h + 1`. So a change stands if the members before it decided that block:
//! if its certificate stands, which every node keeps with the block.
//!
//! The members after block `h` cosign the heads from `h` on, so a checkpoint is judged by the set
//! that was reached by following all changes up to it.
//!
//! It does not know whether a later change is withheld from it: a quorum of former members whose
//! keys leaked could show it another future. Judge the age of a head by its cosignature times, or
//! pin a recent set.

use minicbor::{Decode, Encode};

use crate::base::ChainId;
use crate::proto::chain::block::{Block, Certificate, CertificateError, Header};
use crate::proto::chain::genesis::Genesis;
use crate::proto::chain::member::{MEMBERS_MAX, MemberSet};
use crate::proto::log::checkpoint::{Checkpoint, CheckpointError, VerifiedHead, verify_checkpoint};
use crate::proto::log::entry::{Entry, EntryError, Seal};

/// Why the light verifier refuses something.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LightError {
    /// The checkpoint does not stand under the trusted set.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The certificate does not stand under the trusted set.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A leaf of the block that changes the members is not an entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
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

/// A change of the member set with its proof: about 1 KB in a set of four.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct SetChange {
    /// Of the last block before the change.
    #[n(0)]
    pub header: Header,
    /// By the members before the change.
    #[n(1)]
    pub certificate: Certificate,
    /// The members after the change.
    #[n(2)]
    pub next: MemberSet,
}

impl SetChange {
    /// The change that `block` makes to the members `before`.
    ///
    /// # Errors
    ///
    /// [`LightError`] if a leaf is unreadable, or the block does not follow those members.
    pub fn of(
        before: &MemberSet,
        block: &Block,
        certificate: Certificate,
    ) -> Result<Self, LightError> {
        let height = block.height();
        if before.hash() != block.header.seal.members {
            return Err(LightError::OtherMembers(height));
        }
        let mut next = before.clone();
        for leaf in &block.entries {
            match Entry::from_bytes(leaf)? {
                Entry::AddNode(it) => next = next.with(it.card.member),
                Entry::RemoveNode(it) => next = next.without(&it.node),
                _ => {}
            }
        }
        let header = block.header.clone();
        if next.hash() != header.seal.next_members {
            return Err(LightError::NextMembers(height));
        }
        Ok(Self {
            header,
            certificate,
            next,
        })
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
        self.check_decided(&change.header, &change.certificate)?;
        self.turn(&change.header.seal, &change.next)
    }

    /// Follows those of `changes` that lie ahead, in the order of their heights.
    ///
    /// # Errors
    ///
    /// [`LightError`] of the first that does not stand; those before it were followed.
    pub fn follow_all(&mut self, changes: &[SetChange]) -> Result<(), LightError> {
        for change in changes {
            if self.height <= change.header.seal.height {
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
        self.check_decided(header, certificate)?;
        let seal = &header.seal;
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

    fn check_decided(&self, header: &Header, certificate: &Certificate) -> Result<(), LightError> {
        let seal = &header.seal;
        let (height, trusted) = (seal.height, self.height);
        if height < trusted {
            return Err(LightError::Old { height, trusted });
        }
        if seal.members != self.members.hash() {
            return Err(LightError::OtherMembers(height));
        }
        Ok(certificate.verify(&self.chain, header, &self.members)?)
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
    use crate::base::{Blake3, BlockId, Sha256, WallTime};
    use crate::proto::chain::block::CommitSignature;
    use crate::proto::chain::genesis::Params;
    use crate::proto::chain::member::{Member, NodeKeys};
    use crate::proto::chain::testing::{self, MemoryChain, add_node, node_keys, remove_node};
    use crate::proto::log::cosign::tests::{ORIGIN, head, nodes, set, signed};
    use crate::proto::log::proof::tests::Memory;

    pub(crate) type Nodes = Vec<(NodeKeys, Member)>;

    /// A log that changes its members with every block.
    pub(crate) struct Log {
        pub(crate) tree: Memory,
        pub(crate) nodes: Nodes,
        pub(crate) changes: Vec<SetChange>,
        chain: ChainId,
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
                chain: genesis(&nodes).chain(),
                nodes,
                changes: Vec::new(),
            }
        }

        /// Closes a block of one leaf and hands the log over to `next`.
        pub(crate) fn hand_over(&mut self, leaf: &[u8], next: Nodes) {
            let first_index = self.tree.edge.size();
            let seal = Seal {
                height: self.changes.len() as u64 + 1,
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
            let (size, root) = (self.tree.edge.size(), self.tree.edge.root());
            let header = Header { seal, size, root };
            self.changes.push(SetChange {
                certificate: certificate(&self.chain, &header, &self.nodes),
                header,
                next: set(&next),
            });
            self.nodes = next;
        }

        /// The portable note of the head, by the members of this moment.
        pub(crate) fn note(&self) -> String {
            let head = head(self.tree.edge.size(), self.tree.edge.root());
            signed(&head, &self.nodes).portable_note().unwrap()
        }
    }

    fn certificate(chain: &ChainId, header: &Header, nodes: &Nodes) -> Certificate {
        let mut it = Certificate {
            height: header.seal.height,
            round: 0,
            block: header.id(),
            signatures: Vec::new(),
        };
        let message = it.signed_bytes(chain);
        it.signatures = nodes
            .iter()
            .map(|(keys, it)| CommitSignature {
                vote: it.vote,
                signature: keys.vote.sign(&message),
            })
            .collect();
        it.signatures.sort_by_key(|it| it.vote);
        it
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
            |it| it.header.size += 1,
            |it| it.header.seal.next_members = set(&nodes(1..=6)).hash(),
            |it| it.certificate.block = BlockId([0; 32]),
            |it| it.certificate.round += 1,
            |it| it.certificate.signatures.clear(),
            |it| it.certificate.signatures.reverse(),
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
        change.certificate.signatures.truncate(2);
        assert_eq!(
            light.clone().follow(&change),
            Err(LightError::Certificate(CertificateError::Quorum {
                signers: 2,
                quorum: 3
            }))
        );
    }

    #[test]
    fn a_change_is_read_from_its_block() {
        let mut chain = MemoryChain::new(4);
        let admins = [0, 1, 2].map(node_keys);
        let mut light = Light::from_genesis(&testing::genesis(4));
        for add in [true, false] {
            let group = if add {
                add_node(&chain.state, 4, &admins)
            } else {
                remove_node(chain.state.chain(), 3, &[0, 1, 2, 4].map(node_keys))
            };
            let block = chain.build([group]).unwrap();
            let signers = [0, 1, 2, 4].map(node_keys);
            let signers = if add { &signers[..3] } else { &signers[..] };
            let certificate = testing::certificate(chain.state.chain(), &block, signers);
            let before = chain.state.members().clone();
            chain.append(&block).unwrap();
            let change = SetChange::of(&before, &block, certificate.clone()).unwrap();
            assert_eq!(&change.next, chain.state.members());
            assert_eq!(light.follow(&change), Ok(()));
            assert_eq!(
                SetChange::of(&change.next, &block, certificate),
                Err(LightError::OtherMembers(block.height()))
            );
        }
        assert_eq!(light.members(), chain.state.members());
    }

    #[test]
    fn blocks_are_followed_by_their_certificates() {
        let (genesis, log) = log();
        let mut light = Light::from_genesis(&genesis);
        for SetChange {
            header,
            certificate,
            next,
        } in &log.changes
        {
            let before = light.clone();
            let missing = Err(LightError::NextMembers(header.seal.height));
            assert_eq!(light.block(header, certificate, None), missing);
            let mut other = header.clone();
            other.size += 1;
            assert!(light.block(&other, certificate, Some(next)).is_err());
            assert_eq!(light, before);
            assert_eq!(
                light.block(header, certificate, Some(next)),
                Ok(head(header.size, header.root))
            );
        }
        assert_eq!(light.members(), &set(&log.nodes));
    }
}
