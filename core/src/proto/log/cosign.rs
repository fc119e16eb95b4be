//! What members sign when a block is decided: the head of the log, as the log and as a cosigner.
//!
//! Each member makes a [`HeadSignature`] and sends it to the others. A [`SignedHead`] gathers them
//! until 2f+1 are there, and prints the checkpoint that outsiders get.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::base::{NodeId, Signature, WallTime};
use crate::proto::chain::member::{Member, MemberSet, NodeKeys};
use crate::proto::log::checkpoint::{Checkpoint, cosigner_key, log_key};
use crate::proto::log::note::{NOTE_SIGNATURES_MAX, Note, NoteSignature, cosignature_message};

/// Longest encoded [`HeadSignature`]. Unit: bytes.
pub const HEAD_SIGNATURE_BYTES_MAX: usize = 192;

/// Why a member's signature on a head is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CosignError {
    /// The signer is not a member.
    #[error("the signer {0} is not an authorized node")]
    Stranger(NodeId),
    /// A signature does not stand.
    #[error("the signature of `{0}` on the head does not stand")]
    Signature(String),
}

/// One member's signed statement that a head is the newest it knows. The head is not part of it.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct HeadSignature {
    /// The member.
    #[n(0)]
    pub node: NodeId,
    /// By the log key, over the checkpoint.
    #[n(1)]
    pub log: Signature,
    /// When the member cosigned. Unit: seconds since 1970.
    #[n(2)]
    pub secs: u64,
    /// By the cosigner key, over the checkpoint and the time.
    #[n(3)]
    pub cosign: Signature,
}

impl HeadSignature {
    /// Signs `head` with the time `now`. The caller has made the head durable before: a node never
    /// signs two heads that contradict each other, not even across a crash.
    pub fn sign(keys: &NodeKeys, head: &Checkpoint, now: WallTime) -> Self {
        let (text, secs) = (head.to_string(), now.as_secs());
        let message = cosignature_message(secs, &text).unwrap_or_default();
        Self {
            node: keys.id(),
            log: keys.log.sign(text.as_bytes()),
            secs,
            cosign: keys.cosign.sign(&message),
        }
    }

    /// When the member cosigned, by its own clock. Unit: whole seconds.
    pub fn time(&self) -> WallTime {
        WallTime::from_millis(self.secs.saturating_mul(1_000))
    }

    /// Checks both signatures of `member` on `head`.
    ///
    /// # Errors
    ///
    /// [`CosignError`] if the statement is another member's, or does not stand.
    pub fn verify(&self, member: &Member, head: &Checkpoint) -> Result<(), CosignError> {
        if self.node != member.node {
            return Err(CosignError::Stranger(self.node));
        }
        let refused = || CosignError::Signature(member.name.clone());
        let text = head.to_string();
        let message = cosignature_message(self.secs, &text).ok_or_else(refused)?;
        let log = member.log.verify(text.as_bytes(), &self.log);
        let cosign = member.cosign.verify(&message, &self.cosign);
        log.and(cosign).map_err(|_| refused())
    }
}

/// A head with the signatures of members that stand: one for each member, so never more than
/// there are members.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedHead {
    head: Checkpoint,
    members: MemberSet,
    signatures: BTreeMap<NodeId, HeadSignature>,
}

impl SignedHead {
    /// The head without signatures, to be signed by `members`: the set after its block, which is
    /// what verifiers expect that have followed all changes of the members up to the head.
    pub fn new(head: Checkpoint, members: MemberSet) -> Self {
        Self {
            head,
            members,
            signatures: BTreeMap::new(),
        }
    }

    /// The head.
    pub fn head(&self) -> &Checkpoint {
        &self.head
    }

    /// Takes a member's signature if it stands and is newer than the one at hand; tells whether it
    /// was taken.
    ///
    /// # Errors
    ///
    /// [`CosignError`] if it is a stranger's, or does not stand. The signature is dropped: one
    /// bad line would spoil the whole note for other tools.
    pub fn add(&mut self, signature: HeadSignature) -> Result<bool, CosignError> {
        let node = signature.node;
        let member = self
            .members
            .by_node(&node)
            .ok_or(CosignError::Stranger(node))?;
        let known = self.signatures.get(&node).map(|it| it.secs);
        if known.is_some_and(|secs| signature.secs <= secs) {
            return Ok(false);
        }
        signature.verify(member, &self.head)?;
        self.signatures.insert(node, signature);
        Ok(true)
    }

    /// Whether a quorum has signed.
    pub fn is_cosigned(&self) -> bool {
        self.members.quorum() <= self.signatures.len()
    }

    /// The signatures, by node.
    pub fn signatures(&self) -> impl Iterator<Item = &HeadSignature> {
        self.signatures.values()
    }

    /// The *portable note*: one log line and the newest 2f+1 cosignatures; `None` before a quorum
    /// has signed. The same signatures always give the same note: of cosignatures with the same
    /// time those of the smaller vote keys are chosen.
    pub fn portable_note(&self) -> Option<String> {
        let mut signed = self.signed();
        signed.sort_by_key(|(_, it)| std::cmp::Reverse(it.secs));
        signed.truncate(self.members.quorum());
        self.is_cosigned().then(|| self.note(1, &signed))
    }

    /// The note with all signatures; `None` before a quorum has signed. A note holds 100 lines:
    /// beyond that log lines are left out.
    pub fn full_note(&self) -> Option<String> {
        let signed = self.signed();
        let logs = NOTE_SIGNATURES_MAX.saturating_sub(signed.len());
        self.is_cosigned().then(|| self.note(logs, &signed))
    }

    /// The signatures in the order of the members.
    fn signed(&self) -> Vec<(&Member, &HeadSignature)> {
        self.members
            .iter()
            .filter_map(|it| Some((it, self.signatures.get(&it.node)?)))
            .collect()
    }

    fn note(&self, logs: usize, cosigned: &[(&Member, &HeadSignature)]) -> String {
        let origin = &self.head.origin;
        let logs = self
            .signed()
            .into_iter()
            .take(logs)
            .map(|(member, it)| NoteSignature::by_log(&log_key(origin, member), &it.log));
        let cosigned = cosigned.iter().map(|(member, it)| {
            NoteSignature::by_cosigner(&cosigner_key(origin, member), it.secs, &it.cosign)
        });
        Note::new(self.head.to_string(), logs.chain(cosigned).collect()).to_string()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::{Sha256, codec};
    use crate::proto::log::checkpoint::verify_checkpoint;

    pub(crate) const ORIGIN: &str = "kogge.test/log";

    pub(crate) fn nodes(seeds: std::ops::RangeInclusive<u8>) -> Vec<(NodeKeys, Member)> {
        seeds
            .map(|it| {
                let keys = NodeKeys::from_seed([it; 32]);
                let member = keys.card(&format!("node-{it}")).member;
                (keys, member)
            })
            .collect()
    }

    pub(crate) fn set(nodes: &[(NodeKeys, Member)]) -> MemberSet {
        MemberSet::new(nodes.iter().map(|(_, it)| it.clone()))
    }

    pub(crate) fn head(size: u64, root: Sha256) -> Checkpoint {
        Checkpoint {
            origin: ORIGIN.into(),
            size,
            root,
        }
    }

    pub(crate) fn secs(secs: u64) -> WallTime {
        WallTime::from_millis(secs * 1_000)
    }

    /// The head, signed by all of `nodes`, the first one at second 1,000, the next at 1,001, ….
    pub(crate) fn signed(head: &Checkpoint, nodes: &[(NodeKeys, Member)]) -> SignedHead {
        let mut it = SignedHead::new(head.clone(), set(nodes));
        for ((keys, _), at) in nodes.iter().zip(1_000..) {
            let signature = HeadSignature::sign(keys, head, secs(at));
            assert_eq!(it.add(signature), Ok(true));
        }
        it
    }

    #[test]
    fn a_head_signature_survives_its_bytes_within_the_limit() {
        let (keys, member) = nodes(1..=1).remove(0);
        let head = head(7, Sha256([1; 32]));
        let signature = HeadSignature::sign(&keys, &head, WallTime::from_millis(u64::MAX));
        let bytes = codec::encode(&signature);
        let copy: HeadSignature = codec::decode(&bytes, HEAD_SIGNATURE_BYTES_MAX).unwrap();
        assert_eq!((copy.verify(&member, &head), copy), (Ok(()), signature));
    }

    #[test]
    fn a_head_signature_stands_for_one_member_one_head_and_one_time() {
        let both = nodes(1..=2);
        let [(alice, alice_member), (_, bob)] = &both[..] else {
            panic!()
        };
        let head = head(7, Sha256([1; 32]));
        let good = HeadSignature::sign(alice, &head, secs(9));
        assert_eq!(good.verify(alice_member, &head), Ok(()));
        assert_eq!(
            good.verify(bob, &head),
            Err(CosignError::Stranger(alice.id()))
        );

        let refused = Err(CosignError::Signature("node-1".into()));
        let other = Checkpoint {
            size: 8,
            ..head.clone()
        };
        assert_eq!(good.verify(alice_member, &other), refused);
        let spoil: [fn(&mut HeadSignature); 4] = [
            |it| it.secs += 1,
            |it| it.secs = u64::MAX,
            |it| it.log.0[0] ^= 1,
            |it| it.cosign.0[0] ^= 1,
        ];
        for (case, spoil) in spoil.into_iter().enumerate() {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert_eq!(bad.verify(alice_member, &head), refused, "case {case}");
        }
    }

    #[test]
    fn a_note_exists_once_a_quorum_has_signed() {
        let four = nodes(1..=4);
        let head = head(7, Sha256([1; 32]));
        let mut gathered = SignedHead::new(head.clone(), set(&four));
        for (keys, _) in &four[..3] {
            assert_eq!(
                (gathered.portable_note(), gathered.full_note()),
                (None, None)
            );
            let signature = HeadSignature::sign(keys, &head, secs(5));
            assert_eq!(gathered.add(signature.clone()), Ok(true));
            assert_eq!(gathered.add(signature), Ok(false));
        }
        assert!(gathered.is_cosigned());
        let note = gathered.portable_note().unwrap();
        let verified = verify_checkpoint(&note, ORIGIN, &set(&four)).unwrap();
        assert_eq!((verified.checkpoint(), verified.oldest()), (&head, secs(5)));

        let (eve, _) = nodes(9..=9).remove(0);
        assert_eq!(
            gathered.add(HeadSignature::sign(&eve, &head, secs(5))),
            Err(CosignError::Stranger(eve.id()))
        );
        let mut forged = HeadSignature::sign(&four[3].0, &head, secs(5));
        forged.log.0[3] ^= 1;
        assert!(gathered.add(forged).is_err());
        assert_eq!(gathered.signatures().count(), 3);
    }

    #[test]
    fn the_portable_note_has_one_log_line_and_the_newest_quorum() {
        let four = nodes(1..=4);
        let head = head(7, Sha256([1; 32]));
        let portable = signed(&head, &four).portable_note().unwrap();
        let full = signed(&head, &four).full_note().unwrap();
        let lines = |note: &str| note.lines().filter(|it| it.starts_with('—')).count();
        assert_eq!((lines(&portable), lines(&full)), (4, 8));

        let verified = verify_checkpoint(&portable, ORIGIN, &set(&four)).unwrap();
        assert_eq!(
            (verified.oldest(), verified.newest()),
            (secs(1_001), secs(1_003))
        );
        assert!(!verified.signed_by().contains(&format!("node-1.{ORIGIN}")));
        let verified = verify_checkpoint(&full, ORIGIN, &set(&four)).unwrap();
        assert_eq!(
            (verified.oldest(), verified.newest()),
            (secs(1_000), secs(1_003))
        );

        // The order in which signatures arrive does not matter.
        let mut reversed = SignedHead::new(head.clone(), set(&four));
        for ((keys, _), at) in four.iter().zip([1_000, 1_001, 1_002, 1_003]).rev() {
            reversed
                .add(HeadSignature::sign(keys, &head, secs(at)))
                .unwrap();
        }
        assert_eq!(reversed.portable_note(), Some(portable));
    }

    #[test]
    fn the_largest_network_fits_in_a_note() {
        let many = nodes(1..=64);
        let gathered = signed(&head(7, Sha256([1; 32])), &many);
        for note in [gathered.portable_note(), gathered.full_note()] {
            let verified = verify_checkpoint(&note.unwrap(), ORIGIN, &set(&many)).unwrap();
            assert!(43 <= verified.signed_by().len());
        }
    }
}
