//! What a waybill proves, and to whom.

use crate::base::{Algorithm, Digest};
use crate::proto::chain::light::{Light, LightError};
use crate::proto::log::checkpoint::VerifiedHead;
use crate::proto::log::entry::{AddArtifact, Entry, EntryError};
use crate::proto::log::policy::{Policy, PolicyError};
use crate::proto::log::proof::ProofError;
use crate::proto::log::waybill::Waybill;

/// Why a waybill proves nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VerifyError {
    /// The leaf is not an entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The leaf is not in the log.
    #[error("the entry is not in the log: {0}")]
    Proof(#[from] ProofError),
    /// The policy does not trust the checkpoint.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The members do not vouch for the checkpoint.
    #[error(transparent)]
    Light(#[from] LightError),
    /// The entry does not add an artifact.
    #[error("the waybill is about an entry of kind `{0}`, not about an artifact")]
    NotArtifact(&'static str),
    /// The entry is about another artifact.
    #[error(
        "the waybill is about `{purl}`, file `{file}`, whose {algorithm} digest is not this one"
    )]
    OtherArtifact {
        /// Package in the entry.
        purl: String,
        /// File in the entry.
        file: String,
        /// What was compared.
        algorithm: Algorithm,
    },
    /// The digest can be forged.
    #[error("a {0} digest proves nothing; want blake3, sha256 or sha512")]
    WeakDigest(Algorithm),
}

/// Whom to believe.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Pinned keys. Changes of the members in the waybill are ignored.
    Policy(&'a Policy),
    /// The members at some height, such as those of the genesis; changes of the members that the
    /// waybill proves are followed from there.
    Members(&'a Light),
}

/// What a waybill proved. Only [`Waybill::verify`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedEntry {
    entry: Entry,
    index: u64,
    head: VerifiedHead,
}

impl VerifiedEntry {
    /// The entry.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its index in the log.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The head under which it was proven.
    pub fn head(&self) -> &VerifiedHead {
        &self.head
    }
}

impl Waybill {
    /// Checks the whole chain: whom we trust → changes of the members → checkpoint → inclusion →
    /// entry, and that the entry adds the artifact with the digest `artifact`, if there is one.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] naming the first link that does not hold.
    pub fn verify(
        &self,
        trust: Trust<'_>,
        artifact: Option<&Digest>,
    ) -> Result<VerifiedEntry, VerifyError> {
        let entry = self.entry()?;
        if let Some(digest) = artifact {
            match &entry {
                Entry::AddArtifact(it) => check_digest(it, digest)?,
                other => return Err(VerifyError::NotArtifact(other.kind_name())),
            }
        }
        let head = match trust {
            Trust::Policy(policy) => policy.satisfied(&self.note)?,
            Trust::Members(light) => {
                let mut light = light.clone();
                light.follow_all(&self.changes)?;
                light.head(&self.note)?
            }
        };
        head.includes(&self.leaf, self.index, &self.path)?;
        Ok(VerifiedEntry {
            entry,
            index: self.index,
            head,
        })
    }
}

fn check_digest(entry: &AddArtifact, digest: &Digest) -> Result<(), VerifyError> {
    let algorithm = digest.algorithm();
    let same = match algorithm {
        Algorithm::Blake3 => Digest::from(entry.blake3) == *digest,
        Algorithm::Sha256 => Digest::from(entry.sha256) == *digest,
        Algorithm::Sha512 => entry.digests.contains(digest),
        Algorithm::Sha1 | Algorithm::Md5 => return Err(VerifyError::WeakDigest(algorithm)),
    };
    same.then_some(())
        .ok_or_else(|| VerifyError::OtherArtifact {
            purl: entry.purl.clone(),
            file: entry.file.clone(),
            algorithm,
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::{Blake3, Sha256};
    use crate::proto::chain::light::tests::genesis;
    use crate::proto::log::cosign::tests::{ORIGIN, nodes, set};
    use crate::proto::log::note::Note;
    use crate::proto::log::policy;
    use crate::proto::log::proof::inclusion;
    use crate::proto::log::waybill::tests::{JAR, entry, pack, small_log, travelled};

    fn from_genesis() -> Light {
        Light::from_genesis(&genesis(&nodes(1..=4)))
    }

    #[test]
    fn a_waybill_proves_an_artifact_to_whoever_trusts_the_members() {
        let log = small_log(1_000);
        let file = pack(&log).to_string();
        let waybill = Waybill::parse(file.as_bytes()).unwrap();
        assert_eq!(waybill, pack(&log));

        let policy = Policy::parse(&policy::export(ORIGIN, &set(&log.nodes))).unwrap();
        let light = from_genesis();
        let sha512 = Digest::new(Algorithm::Sha512, &[5; 64]).unwrap();
        for trust in [Trust::Policy(&policy), Trust::Members(&light)] {
            for digest in [
                Blake3::of(JAR).into(),
                Sha256::of(JAR).into(),
                sha512.clone(),
            ] {
                let verified = waybill.verify(trust, Some(&digest)).unwrap();
                assert_eq!((verified.entry(), verified.index()), (&entry(), 1));
                assert_eq!(verified.head().size(), 1_000);
            }
            assert!(waybill.verify(trust, None).is_ok());
        }
    }

    #[test]
    fn changes_of_the_members_are_followed_from_the_genesis() {
        let waybill = Waybill::parse(travelled().to_string().as_bytes()).unwrap();
        let light = from_genesis();
        let verified = waybill.verify(Trust::Members(&light), None).unwrap();
        assert_eq!(verified.head().signed_by().len(), 3);
        assert_eq!(light, from_genesis(), "the caller's trust stays as it was");

        // Who has followed the changes already passes over them.
        let mut present = from_genesis();
        present.follow_all(waybill.changes()).unwrap();
        assert_eq!(waybill.verify(Trust::Members(&present), None), Ok(verified));

        let mut cut = waybill;
        cut.changes.pop();
        assert!(matches!(
            cut.verify(Trust::Members(&light), None),
            Err(VerifyError::Light(LightError::Checkpoint(_)))
        ));
    }

    #[test]
    fn entries_before_and_after_a_change_of_the_members_stand_from_the_genesis_alone() {
        let mut log = small_log(5);
        log.hand_over(b"leaf", nodes(1..=5));
        log.tree.push(&entry().to_bytes());
        log.hand_over(b"leaf", nodes(2..=5));
        let size = log.tree.edge.size();
        let policy = Policy::parse(&policy::export(ORIGIN, &set(&log.nodes))).unwrap();
        for index in [1, 7] {
            let path = inclusion(&log.tree, index, size).unwrap();
            let changes = log.changes.clone();
            let file = Waybill::pack(entry().to_bytes(), index, path, log.note(), changes).unwrap();
            let waybill = Waybill::parse(file.to_string().as_bytes()).unwrap();
            let verified = waybill.verify(Trust::Members(&from_genesis()), None);
            let policy = waybill.verify(Trust::Policy(&policy), None);
            let verified = verified.unwrap();
            assert_eq!((verified.entry(), verified.index()), (&entry(), index));
            assert_eq!(policy.unwrap().head().size(), size);
        }
    }

    #[test]
    fn an_entry_about_something_else_proves_nothing_about_the_artifact() {
        let (waybill, light) = (pack(&small_log(5)), from_genesis());
        let verify =
            |it: &Waybill, digest: Digest| it.verify(Trust::Members(&light), Some(&digest));
        assert!(matches!(
            verify(&waybill, Blake3::of(b"another jar").into()),
            Err(VerifyError::OtherArtifact {
                algorithm: Algorithm::Blake3,
                ..
            })
        ));
        for (algorithm, bytes) in [(Algorithm::Sha1, &[1; 20][..]), (Algorithm::Md5, &[1; 16])] {
            assert_eq!(
                verify(&waybill, Digest::new(algorithm, bytes).unwrap()),
                Err(VerifyError::WeakDigest(algorithm))
            );
        }
        let mut log = small_log(5);
        log.hand_over(b"leaf", nodes(1..=4));
        let seal = Entry::Seal(log.changes.remove(0).header.seal).to_bytes();
        let path = inclusion(&log.tree, 6, 7).unwrap();
        let seal = Waybill::pack(seal, 6, path, log.note(), vec![]).unwrap();
        assert!(seal.verify(Trust::Members(&light), None).is_ok());
        assert_eq!(
            verify(&seal, Blake3::of(JAR).into()),
            Err(VerifyError::NotArtifact("seal"))
        );
    }

    #[test]
    fn no_link_of_the_chain_can_be_exchanged() {
        let (good, light) = (travelled(), from_genesis());
        let other = Entry::AddArtifact(Box::new(match entry() {
            Entry::AddArtifact(it) => AddArtifact { size: 1, ..*it },
            _ => panic!(),
        }));
        let spoil: [&dyn Fn(&mut Waybill); 7] = [
            &|it| it.leaf = other.to_bytes(),
            &|it| it.leaf = b"first".to_vec(),
            &|it| it.index = 0,
            &|it| it.path[0].0[0] ^= 1,
            &|it| it.path.clear(),
            &|it| it.note = it.note.replace("\n9\n", "\n8\n"),
            &|it| it.changes.swap(0, 1),
        ];
        assert!(good.verify(Trust::Members(&light), None).is_ok());
        for (case, spoil) in spoil.iter().enumerate() {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert!(
                bad.verify(Trust::Members(&light), None).is_err(),
                "case {case}"
            );
        }
        let strangers = Policy::parse(&policy::export(ORIGIN, &set(&nodes(6..=9)))).unwrap();
        assert!(good.verify(Trust::Policy(&strangers), None).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_flipped_bit_is_noticed_or_means_nothing(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let (good, light) = (travelled(), from_genesis());
            let mut file = good.to_string().into_bytes();
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
            // A line of an unknown key is ignored: only then the file may still stand.
            if let Ok(it) = Waybill::parse(&file)
                && let Ok(verified) = it.verify(Trust::Members(&light), None)
            {
                prop_assert_eq!(verified.entry(), &entry());
                prop_assert_eq!((verified.index(), verified.head().checkpoint().clone()),
                    (1, Note::parse(&good.note).unwrap().text().parse().unwrap()));
            }
        }
    }
}
