//! Checkpoints (C2SP tlog-checkpoint): heads of the log, and the signatures of the members on them.
//!
//! ```text
//! <origin>
//! <size, decimal>
//! <root, base64>
//! ```

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding as _};

use crate::base::{Sha256, WallTime};
use crate::proto::chain::member::{Member, MemberSet};
use crate::proto::log::note::{Note, NoteError};
use crate::proto::log::proof::{ProofError, verify_consistency, verify_inclusion};
use crate::proto::log::text::{base64_hash, decimal};
use crate::proto::log::vkey::{KeyKind, VerifierKey};

/// Why a checkpoint or a signature on it is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a note, or a signature in it does not stand.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Not origin, size and root.
    #[error("the checkpoint is malformed: want the lines origin, size and root, and no others")]
    Malformed,
    /// The head of another log.
    #[error("the checkpoint is of the log `{found}`, want `{expected}`")]
    Origin {
        /// In the checkpoint.
        found: String,
        /// Asked for.
        expected: String,
    },
    /// None of the log keys that we know signed.
    #[error("no known key of the log signed the checkpoint")]
    NoLog,
    /// Too few cosignatures.
    #[error("{signers} of the known nodes cosigned the checkpoint, {quorum} are needed")]
    Quorum {
        /// Cosignatures that stand.
        signers: usize,
        /// Needed.
        quorum: usize,
    },
}

/// The head of a log, as its signers write it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root of the tree of these leaves.
    pub root: Sha256,
}

impl fmt::Display for Checkpoint {
    /// The text that is signed; it ends with a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = Base64::encode_string(self.root.as_bytes());
        writeln!(f, "{}\n{}\n{root}", self.origin, self.size)
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    /// Extension lines are refused: our logs have none, and what is signed has to be understood.
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let parse = || {
            let mut lines = text.strip_suffix('\n')?.split('\n');
            let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
            let it = Self {
                origin: origin.to_owned(),
                size: decimal(size)?,
                root: base64_hash(root)?,
            };
            (!origin.is_empty() && lines.next().is_none()).then_some(it)
        };
        parse().ok_or(CheckpointError::Malformed)
    }
}

/// The verifier key of `member` as the log `origin`.
pub fn log_key(origin: &str, member: &Member) -> VerifierKey {
    VerifierKey::new(origin, KeyKind::Log, member.log)
}

/// The verifier key of `member` as a cosigner of the log `origin`.
pub fn cosigner_key(origin: &str, member: &Member) -> VerifierKey {
    VerifierKey::new(
        member.cosigner_name(origin),
        KeyKind::Cosigner,
        member.cosign,
    )
}

/// A head that enough of the trusted signers stand for. Only checks make one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedHead {
    head: Checkpoint,
    signed_by: Vec<String>,
    oldest: WallTime,
    newest: WallTime,
}

impl VerifiedHead {
    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.head.size
    }

    /// Root of the tree.
    pub fn root(&self) -> &Sha256 {
        &self.head.root
    }

    /// The head itself.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.head
    }

    /// Key names of the cosigners.
    pub fn signed_by(&self) -> &[String] {
        &self.signed_by
    }

    /// The earliest time that a cosigner signed: judge freshness by it. It cannot be made younger
    /// than the truth as long as one of the cosigners is honest. Unit: whole seconds.
    pub fn oldest(&self) -> WallTime {
        self.oldest
    }

    /// The latest time that a cosigner signed. A single liar can move it anywhere: for display.
    pub fn newest(&self) -> WallTime {
        self.newest
    }

    /// Checks that `leaf` is the leaf `index` of this log.
    ///
    /// # Errors
    ///
    /// [`ProofError`] if the proof does not show it.
    pub fn includes(&self, leaf: &[u8], index: u64, proof: &[Sha256]) -> Result<(), ProofError> {
        verify_inclusion(leaf, index, self.size(), proof, self.root())
    }

    /// Checks that this log begins with all leaves of the one with the head `older`. Two verified
    /// heads of which none extends the other prove that the signers broke their promise: keep both.
    ///
    /// # Errors
    ///
    /// [`ProofError`] if the proof does not show it.
    pub fn extends(&self, older: &Self, proof: &[Sha256]) -> Result<(), ProofError> {
        let (old, new) = ((older.size(), older.root()), (self.size(), self.root()));
        verify_consistency(old, new, proof)
    }
}

/// Reads a note and checks it against the set that was in charge of the log: at least one log line
/// and a quorum of cosignatures.
///
/// # Errors
///
/// [`CheckpointError`] if that is not so.
pub fn verify_checkpoint(
    note: &str,
    origin: &str,
    members: &MemberSet,
) -> Result<VerifiedHead, CheckpointError> {
    let logs: Vec<_> = members.iter().map(|it| log_key(origin, it)).collect();
    let cosigners: Vec<_> = members.iter().map(|it| cosigner_key(origin, it)).collect();
    let quorum = members.quorum();
    open(note, origin, &logs, &cosigners, |signed| {
        let signers = signed.len();
        if signers < quorum {
            return Err(CheckpointError::Quorum { signers, quorum });
        }
        Ok(())
    })
}

/// Reads a note, checks all signatures by known keys, and asks `check` whether the cosigners, named
/// by their keys, are enough; at least one is needed.
pub(crate) fn open<E: From<CheckpointError>>(
    note: &str,
    origin: &str,
    logs: &[VerifierKey],
    cosigners: &[VerifierKey],
    check: impl FnOnce(&[&VerifierKey]) -> Result<(), E>,
) -> Result<VerifiedHead, E> {
    let note = Note::parse(note).map_err(CheckpointError::from)?;
    let head: Checkpoint = note.text().parse()?;
    if head.origin != origin {
        return Err(E::from(CheckpointError::Origin {
            found: head.origin,
            expected: origin.to_owned(),
        }));
    }
    let by_log = note.open(logs).map_err(CheckpointError::from)?;
    if by_log.is_empty() {
        return Err(E::from(CheckpointError::NoLog));
    }
    let cosigned = note.open(cosigners).map_err(CheckpointError::from)?;
    let signed: Vec<_> = cosigned.iter().map(|it| it.key).collect();
    check(&signed)?;
    let times = || cosigned.iter().filter_map(|it| it.time);
    let (Some(oldest), Some(newest)) = (times().min(), times().max()) else {
        return Err(E::from(CheckpointError::Quorum {
            signers: 0,
            quorum: 1,
        }));
    };
    let signed_by = signed.iter().map(|it| it.name().to_owned()).collect();
    Ok(VerifiedHead {
        head,
        signed_by,
        oldest,
        newest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::log::cosign::tests::{ORIGIN, head, nodes, set, signed};

    #[test]
    fn a_checkpoint_survives_its_text_and_no_other_text_is_one() {
        let head = head(7, Sha256([1; 32]));
        let good = head.to_string();
        assert_eq!(
            good,
            format!("{ORIGIN}\n7\n{}=\n", "AQEB".repeat(10) + "AQE")
        );
        assert_eq!(good.parse(), Ok(head));
        for bad in [
            String::new(),
            "\n\n\n".into(),
            good.trim_end().into(),
            good.replace(ORIGIN, ""),
            good.replace('7', "07"),
            good.replace('7', "+7"),
            good.replace('7', "-7"),
            good.replace('7', ""),
            good.replace("AQE=", "AQF="),
            good.replace("AQEB", ""),
            format!("{good}\n"),
            format!("{good}extension\n"),
        ] {
            assert_eq!(
                bad.parse::<Checkpoint>(),
                Err(CheckpointError::Malformed),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_checkpoint_needs_its_log_its_origin_and_a_quorum() {
        let (four, head) = (nodes(1..=4), head(7, Sha256([1; 32])));
        let good = signed(&head, &four).portable_note().unwrap();
        let without = |start: &str| {
            let start = format!("— {start}");
            let lines = good
                .split_inclusive('\n')
                .filter(|it| !it.starts_with(&start));
            lines.collect::<String>()
        };
        let members = set(&four);
        for (note, origin, expected) in [
            (
                without(&format!("{ORIGIN} ")),
                ORIGIN,
                CheckpointError::NoLog,
            ),
            (
                without("node-3"),
                ORIGIN,
                CheckpointError::Quorum {
                    signers: 2,
                    quorum: 3,
                },
            ),
            (
                good.clone(),
                "other",
                CheckpointError::Origin {
                    found: ORIGIN.into(),
                    expected: "other".into(),
                },
            ),
        ] {
            assert_eq!(verify_checkpoint(&note, origin, &members), Err(expected));
        }
        let forged = good.replace("\n7\n", "\n8\n");
        assert!(matches!(
            verify_checkpoint(&forged, ORIGIN, &members),
            Err(CheckpointError::Note(NoteError::Signature(_)))
        ));
        let strangers = set(&nodes(5..=8));
        assert_eq!(
            verify_checkpoint(&good, ORIGIN, &strangers),
            Err(CheckpointError::NoLog)
        );
        let nobody = MemberSet::new([]);
        assert_eq!(
            verify_checkpoint(&good, ORIGIN, &nobody),
            Err(CheckpointError::NoLog)
        );
    }

    #[test]
    fn a_repeated_cosignature_counts_once() {
        let (four, head) = (nodes(1..=4), head(7, Sha256([1; 32])));
        let good = signed(&head, &four).portable_note().unwrap();
        let two = good
            .lines()
            .filter(|it| !it.starts_with("— node-2."))
            .collect::<Vec<_>>();
        let doubled = format!("{}\n{}\n", two.join("\n"), two.last().unwrap());
        assert_eq!(
            verify_checkpoint(&doubled, ORIGIN, &set(&four)),
            Err(CheckpointError::Quorum {
                signers: 2,
                quorum: 3
            })
        );
    }
}
