//! Authorized nodes: their keys, their cards with proofs of possession, and the set they form.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::base::{NodeId, PublicKey, SecretKey, Sha256, Signature, codec};

/// Most authorized nodes in one network. The body of a block travels from the proposer to each of
/// them directly, which is fine up to about this number.
pub const MEMBERS_MAX: usize = 64;

/// Longest name of a member. Unit: bytes.
const NAME_BYTES_MAX: usize = 63;

/// Why a card is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CardError {
    /// The name is not a lower-case host name label sequence.
    #[error("`{0}` is not a node name: want 1 to 63 of a-z, 0-9, `-` and `.`")]
    Name(String),
    /// A key is not a usable ed25519 key, or is listed twice.
    #[error("the {0} key is malformed, weak, or the same as another")]
    Key(&'static str),
    /// A key did not sign the card.
    #[error("the {0} key's proof of possession does not stand")]
    Proof(&'static str),
}

/// The secret keys of a node, all grown from one seed.
///
/// A key never serves two signature types: a precommit is not a checkpoint signature.
#[derive(Clone, Debug)]
pub struct NodeKeys {
    /// Names the node on the network.
    pub identity: SecretKey,
    /// Signs votes, proposals and attestations.
    pub vote: SecretKey,
    /// Signs checkpoints as the log (C2SP signed-note type `0x01`).
    pub log: SecretKey,
    /// Signs checkpoints as a witness (C2SP `cosignature/v1`, type `0x04`).
    pub cosign: SecretKey,
    /// Marks candidates and removals in the name of the node's owner.
    pub admin: SecretKey,
}

impl NodeKeys {
    /// The keys that grow from `seed`.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let derive = |context| SecretKey::derive(&seed, context);
        Self {
            identity: derive("kogge 2026 node identity key"),
            vote: derive("kogge 2026 node vote key"),
            log: derive("kogge 2026 node log key"),
            cosign: derive("kogge 2026 node cosigner key"),
            admin: derive("kogge 2026 node admin key"),
        }
    }

    /// The node's identity.
    pub fn id(&self) -> NodeId {
        self.identity.public()
    }

    /// The node's card under `name`.
    pub fn card(&self, name: &str) -> Card {
        let member = Member {
            name: name.to_owned(),
            node: self.identity.public(),
            vote: self.vote.public(),
            log: self.log.public(),
            cosign: self.cosign.public(),
            admin: self.admin.public(),
        };
        let message = member.proof_bytes();
        let [identity, vote, log, cosign, admin] = [
            &self.identity,
            &self.vote,
            &self.log,
            &self.cosign,
            &self.admin,
        ]
        .map(|key| key.sign(&message));
        Card {
            member,
            identity,
            vote,
            log,
            cosign,
            admin,
        }
    }
}

/// The public keys of an authorized node.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode, Serialize, Deserialize)]
#[cbor(array)]
pub struct Member {
    /// A host-name-like label, unique in the network; part of the cosigner's key name.
    #[n(0)]
    pub name: String,
    /// Identity key.
    #[n(1)]
    pub node: NodeId,
    /// Vote key.
    #[n(2)]
    pub vote: PublicKey,
    /// Log key.
    #[n(3)]
    pub log: PublicKey,
    /// Cosigner key.
    #[n(4)]
    pub cosign: PublicKey,
    /// Admin key.
    #[n(5)]
    pub admin: PublicKey,
}

impl Member {
    fn keys(&self) -> [(&'static str, &PublicKey); 5] {
        [
            ("identity", &self.node),
            ("vote", &self.vote),
            ("log", &self.log),
            ("cosigner", &self.cosign),
            ("admin", &self.admin),
        ]
    }

    /// Whether any key of this member is any key of `other`: then one secret could speak for two.
    pub fn shares_key(&self, other: &Self) -> bool {
        self.keys()
            .iter()
            .any(|(_, ours)| other.keys().iter().any(|(_, theirs)| ours == theirs))
    }

    fn proof_bytes(&self) -> Vec<u8> {
        let mut bytes = b"kogge/card/v1\0".to_vec();
        bytes.extend(codec::encode(self));
        bytes
    }

    /// The cosigner's key name in checkpoints of the log `origin`.
    pub fn cosigner_name(&self, origin: &str) -> String {
        format!("{}.{origin}", self.name)
    }
}

/// A member with its keys' proofs of possession: each key signed the whole member.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode, Serialize, Deserialize)]
#[cbor(array)]
pub struct Card {
    /// The keys.
    #[n(0)]
    pub member: Member,
    /// Proof of the identity key.
    #[n(1)]
    pub identity: Signature,
    /// Proof of the vote key.
    #[n(2)]
    pub vote: Signature,
    /// Proof of the log key.
    #[n(3)]
    pub log: Signature,
    /// Proof of the cosigner key.
    #[n(4)]
    pub cosign: Signature,
    /// Proof of the admin key.
    #[n(5)]
    pub admin: Signature,
}

impl Card {
    /// Checks name, keys and proofs.
    ///
    /// # Errors
    ///
    /// [`CardError`] naming the first problem.
    pub fn check(&self) -> Result<(), CardError> {
        let member = &self.member;
        if !is_name(&member.name) {
            return Err(CardError::Name(member.name.clone()));
        }
        let keys = member.keys();
        for (at, (role, key)) in keys.iter().enumerate() {
            let repeated = keys.iter().take(at).any(|(_, other)| other == key);
            if repeated || !key.is_usable() {
                return Err(CardError::Key(role));
            }
        }
        let message = member.proof_bytes();
        let proofs = [
            &self.identity,
            &self.vote,
            &self.log,
            &self.cosign,
            &self.admin,
        ];
        for ((role, key), proof) in keys.iter().zip(proofs) {
            key.verify(&message, proof)
                .map_err(|_| CardError::Proof(role))?;
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    let plain = |it: u8| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(plain)
        && name
            .split('.')
            .all(|it| !it.is_empty() && !it.starts_with('-') && !it.ends_with('-'))
}

/// The authorized nodes of one height, sorted by vote key; each has one vote.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberSet(std::sync::Arc<[Member]>);

impl MemberSet {
    /// A set; order and duplicates of `members` do not matter.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        let mut members: Vec<Member> = members.into_iter().collect();
        members.sort_by_key(|it| it.vote);
        members.dedup_by_key(|it| it.vote);
        Self(members.into())
    }

    /// The set and `member`.
    pub fn with(&self, member: Member) -> Self {
        Self::new(self.iter().cloned().chain([member]))
    }

    /// The set without `node`.
    pub fn without(&self, node: &NodeId) -> Self {
        Self::new(self.iter().filter(|it| it.node != *node).cloned())
    }

    /// The members, sorted by vote key.
    pub fn iter(&self) -> std::slice::Iter<'_, Member> {
        self.0.iter()
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Votes that decide: more than two thirds. 1 of 1, 3 of 3, 3 of 4, 5 of 7.
    pub fn quorum(&self) -> usize {
        self.len() * 2 / 3 + 1
    }

    /// Members that may fail while the rest still decides.
    pub fn faults_max(&self) -> usize {
        self.len().saturating_sub(self.quorum())
    }

    /// The member whose identity is `node`.
    pub fn by_node(&self, node: &NodeId) -> Option<&Member> {
        self.iter().find(|it| it.node == *node)
    }

    /// The member that votes with `vote`.
    pub fn by_vote(&self, vote: &PublicKey) -> Option<&Member> {
        self.0
            .binary_search_by_key(vote, |it| it.vote)
            .ok()
            .and_then(|at| self.0.get(at))
    }

    /// What a seal commits to: SHA-256 of the CBOR array of the members, in order.
    pub fn hash(&self) -> Sha256 {
        Sha256::of(&codec::encode(&self.0.to_vec()))
    }
}

impl<C> Encode<C> for MemberSet {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(self.0.len() as u64)?;
        self.iter().try_for_each(|it| it.encode(e, ctx))
    }
}

impl<'b, C> Decode<'b, C> for MemberSet {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        Ok(Self::new(Vec::<Member>::decode(d, ctx)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_honest_card_passes_and_a_changed_one_does_not() {
        let alice = NodeKeys::from_seed([1; 32]).card("alice");
        assert_eq!(alice.check(), Ok(()));

        let mut renamed = alice.clone();
        renamed.member.name = "eve".into();
        assert_eq!(renamed.check(), Err(CardError::Proof("identity")));

        let mut stolen = alice.clone();
        stolen.member.admin = NodeKeys::from_seed([2; 32]).admin.public();
        assert!(stolen.check().is_err());

        let mut doubled = alice;
        doubled.member.log = doubled.member.vote;
        assert_eq!(doubled.check(), Err(CardError::Key("log")));
    }

    #[test]
    fn names_are_host_names() {
        for (name, good) in [
            ("a", true),
            ("node-1.example", true),
            ("", false),
            ("-a", false),
            ("a..b", false),
            ("Node", false),
            ("a b", false),
        ] {
            assert_eq!(is_name(name), good, "{name}");
        }
    }

    #[test]
    fn quorums_are_more_than_two_thirds() {
        for (count, quorum) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5)] {
            let members = (0..count).map(|it| NodeKeys::from_seed([it; 32]).card("n").member);
            assert_eq!(MemberSet::new(members).quorum(), quorum, "{count}");
        }
    }
}
