//! Waybills: small files that prove offline that an entry is in the log.
//!
//! A waybill is a valid `c2sp.org/tlog-proof@v1`:
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64 of CBOR [version = 1, leaf, changes of the members]>
//! index <decimal>
//! <base64 of a hash>            the path, one line for each hash
//!
//! <portable note>
//! ```
//!
//! The extra line is not signed by anyone: the leaf is proven by the path, the changes by
//! themselves. A waybill tells that an entry was made, not that it still stands: a removal made
//! later is another entry.

use std::fmt;

use base64ct::{Base64, Encoding as _};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{CodecError, Sha256, codec};
use crate::proto::chain::light::SetChange;
use crate::proto::log::checkpoint::{Checkpoint, CheckpointError};
use crate::proto::log::entry::{Entry, EntryError};
use crate::proto::log::note::{Note, NoteError};
use crate::proto::log::proof::{PROOF_HASHES_MAX, ProofError, verify_inclusion};
use crate::proto::log::text::{base64, base64_hash, decimal};

/// Longest waybill. Unit: bytes. Other readers of the format stop at lines of 64 KiB, which is
/// more than 30 changes of a set of four.
pub const WAYBILL_BYTES_MAX: usize = 4 << 20;

/// Most changes of the members in a waybill. Beyond that, start from a pinned set.
pub const WAYBILL_CHANGES_MAX: usize = 256;

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Version of the extra data.
const VERSION: u8 = 1;

/// Why a waybill cannot be packed or read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WaybillError {
    /// The file is too long. Unit: bytes.
    #[error("the waybill has {0} bytes, at most {WAYBILL_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Not the form of a waybill.
    #[error("this is not a waybill: {0}")]
    Malformed(&'static str),
    /// The extra line is not ours.
    #[error("the extra line of the waybill is not readable: {0}")]
    Extra(#[from] CodecError),
    /// A later version.
    #[error("waybill version {0} is unknown to this program")]
    Version(u8),
    /// More changes of the members than a waybill holds.
    #[error(
        "the waybill has {0} changes of the members, at most {WAYBILL_CHANGES_MAX} are allowed"
    )]
    Changes(usize),
    /// The leaf is not an entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The checkpoint is not readable.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The leaf is not in the log.
    #[error("the entry is not in the log: {0}")]
    Proof(#[from] ProofError),
}

impl From<NoteError> for WaybillError {
    fn from(error: NoteError) -> Self {
        Self::Checkpoint(error.into())
    }
}

/// An entry with the proof that it is in the log; not checked against anybody's trust.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Waybill {
    pub(crate) leaf: Vec<u8>,
    pub(crate) index: u64,
    pub(crate) path: Vec<Sha256>,
    pub(crate) note: String,
    pub(crate) changes: Vec<SetChange>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Extra {
    #[n(0)]
    version: u8,
    #[n(1)]
    leaf: ByteVec,
    #[n(2)]
    changes: Vec<SetChange>,
}

impl Waybill {
    /// Packs the `leaf` at `index` with its inclusion proof `path` under the head in the portable
    /// `note`. `changes` are the changes of the members up to that head, from the genesis on, or
    /// from where the readers start.
    ///
    /// # Errors
    ///
    /// [`WaybillError`] if that would not be a waybill that stands: the leaf is not an entry, the
    /// path does not lead to the head, or a limit is passed.
    pub fn pack(
        leaf: Vec<u8>,
        index: u64,
        path: Vec<Sha256>,
        note: String,
        changes: Vec<SetChange>,
    ) -> Result<Self, WaybillError> {
        let it = Self {
            leaf,
            index,
            path,
            note,
            changes,
        };
        it.entry()?;
        it.check_changes()?;
        let head: Checkpoint = Note::parse(&it.note)?.text().parse()?;
        verify_inclusion(&it.leaf, index, head.size, &it.path, &head.root)?;
        let bytes = it.to_string().len();
        if WAYBILL_BYTES_MAX < bytes {
            return Err(WaybillError::TooLong(bytes));
        }
        Ok(it)
    }

    /// Reads a file. Its signatures and proofs are not checked yet: see
    /// [`Waybill::verify`].
    ///
    /// # Errors
    ///
    /// [`WaybillError`] if it breaks a limit or has not the form of a waybill.
    pub fn parse(file: &[u8]) -> Result<Self, WaybillError> {
        use WaybillError::Malformed;

        if WAYBILL_BYTES_MAX < file.len() {
            return Err(WaybillError::TooLong(file.len()));
        }
        let text = str::from_utf8(file).map_err(|_| Malformed("it is not UTF-8"))?;
        let (proof, note) = text
            .split_once("\n\n")
            .ok_or(Malformed("no empty line before the checkpoint"))?;
        let mut lines = proof.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(Malformed("want `c2sp.org/tlog-proof@v1` in the first line"));
        }
        let extra = lines
            .next()
            .and_then(|it| base64(it.strip_prefix("extra ")?))
            .ok_or(Malformed("want `extra` and base64 in the second line"))?;
        let index = lines
            .next()
            .and_then(|it| decimal(it.strip_prefix("index ")?))
            .ok_or(Malformed("want `index` and a number in the third line"))?;
        let path: Vec<_> = lines
            .take(PROOF_HASHES_MAX + 1)
            .map(base64_hash)
            .collect::<Option<_>>()
            .ok_or(Malformed("a line of the path is not a hash in base64"))?;
        if PROOF_HASHES_MAX < path.len() {
            return Err(Malformed("the path is too long"));
        }
        let extra: Extra = codec::decode(&extra, WAYBILL_BYTES_MAX)?;
        if extra.version != VERSION {
            return Err(WaybillError::Version(extra.version));
        }
        let it = Self {
            leaf: extra.leaf.into(),
            index,
            path,
            note: note.to_owned(),
            changes: extra.changes,
        };
        it.check_changes()?;
        Ok(it)
    }

    /// The entry, not proven yet.
    ///
    /// # Errors
    ///
    /// [`EntryError`] if the leaf is not an entry.
    pub fn entry(&self) -> Result<Entry, EntryError> {
        Entry::from_bytes(&self.leaf)
    }

    /// The changes of the members that the waybill brings along.
    pub fn changes(&self) -> &[SetChange] {
        &self.changes
    }

    fn check_changes(&self) -> Result<(), WaybillError> {
        if WAYBILL_CHANGES_MAX < self.changes.len() {
            return Err(WaybillError::Changes(self.changes.len()));
        }
        Ok(())
    }
}

impl fmt::Display for Waybill {
    /// The file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extra = codec::encode(&Extra {
            version: VERSION,
            leaf: self.leaf.clone().into(),
            changes: self.changes.clone(),
        });
        writeln!(f, "{HEADER}\nextra {}", Base64::encode_string(&extra))?;
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", Base64::encode_string(hash.as_bytes()))?;
        }
        write!(f, "\n{}", self.note)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::{Algorithm, Blake3, Digest, PublicKey, WallTime};
    use crate::proto::chain::light::tests::Log;
    use crate::proto::log::cosign::tests::nodes;
    use crate::proto::log::entry::{AddArtifact, Source};
    use crate::proto::log::proof::inclusion;

    pub(crate) const JAR: &[u8] = b"the bytes of a jar";

    pub(crate) fn entry() -> Entry {
        let sha512 = Digest::new(Algorithm::Sha512, &[5; 64]).unwrap();
        let sha1 = Digest::new(Algorithm::Sha1, &[1; 20]).unwrap();
        Entry::AddArtifact(Box::new(AddArtifact {
            purl: "pkg:maven/org.example.group/some-library@1.2.3".into(),
            file: "some-library-1.2.3.jar".into(),
            blake3: Blake3::of(JAR),
            sha256: Sha256::of(JAR),
            digests: vec![sha512, sha1],
            size: JAR.len() as u64,
            media_type: "application/java-archive".into(),
            source: Source::fetched("repo.example/maven2"),
            dependencies: Some(Blake3::of(b"")),
            builder: PublicKey([7; 32]),
            publication: None,
            time: WallTime::from_millis(1_790_000_000_000),
        }))
    }

    /// A log of `size` leaves with the entry at index 1, decided by the nodes 1 to 4.
    pub(crate) fn small_log(size: u32) -> Log {
        let mut log = Log::new(nodes(1..=4));
        log.tree.push(b"first");
        log.tree.push(&entry().to_bytes());
        (2..size).for_each(|it| log.tree.push(&it.to_be_bytes()));
        log
    }

    pub(crate) fn pack(log: &Log) -> Waybill {
        let path = inclusion(&log.tree, 1, log.tree.edge.size()).unwrap();
        Waybill::pack(entry().to_bytes(), 1, path, log.note(), log.changes.clone()).unwrap()
    }

    /// A waybill of a log whose members changed twice: 1–4, 1–5, 2–5.
    pub(crate) fn travelled() -> Waybill {
        let mut log = small_log(5);
        log.hand_over(b"leaf", nodes(1..=5));
        log.hand_over(b"leaf", nodes(2..=5));
        pack(&log)
    }

    #[test]
    fn a_waybill_of_a_large_log_is_small() {
        let log = small_log(1_000);
        let mut waybill = pack(&log);
        waybill.path.resize(20, Sha256([0; 32])); // 1 M leaves
        let bytes = waybill.to_string().len();
        assert!(bytes <= 2_560, "{bytes} bytes");
    }

    #[test]
    fn what_would_not_stand_is_not_packed() {
        let log = small_log(5);
        let (leaf, note) = (entry().to_bytes(), log.note());
        let path = inclusion(&log.tree, 1, 5).unwrap();
        let change = travelled().changes.remove(0);
        let changes = vec![change; WAYBILL_CHANGES_MAX + 1];
        for (leaf, index, note, changes) in [
            (leaf.clone(), 0, note.clone(), vec![]),
            (leaf.clone(), 5, note.clone(), vec![]),
            (b"first".to_vec(), 0, note.clone(), vec![]),
            (leaf.clone(), 1, String::new(), vec![]),
            (leaf, 1, note, changes),
        ] {
            assert!(Waybill::pack(leaf, index, path.clone(), note, changes).is_err());
        }
    }

    #[test]
    fn malformed_files_are_refused() {
        let good = pack(&small_log(5)).to_string();
        let lines: Vec<_> = good.split_inclusive('\n').collect();
        let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat().concat();
        let with_extra = |extra: &[u8]| {
            let line = format!("extra {}\n", Base64::encode_string(extra));
            good.replace(lines[1], &line)
        };
        let path = lines[3];
        for bad in [
            String::new(),
            without(0),
            without(1),
            without(2),
            good.replace("@v1", "@v2"),
            good.replace("index 1", "index 01"),
            good.replace("index 1", "index -1"),
            good.replace("\n\n", "\n"),
            good.replace('\n', "\r\n"),
            good.replace(path, "AAAA\n"),
            good.replace(path, &path.repeat(PROOF_HASHES_MAX + 1)),
            with_extra(b""),
            with_extra(&[0x83, 0x01, 0x40]),
            with_extra(&[0x83, 0x02, 0x40, 0x80]),
            with_extra(&[0x83, 0x01, 0x40, 0x80, 0x00]),
            with_extra(&[
                0x83, 0x01, 0x40, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ]),
        ] {
            assert!(Waybill::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(
            Waybill::parse(with_extra(&[0x83, 0x02, 0x40, 0x80]).as_bytes()),
            Err(WaybillError::Version(2))
        );
        let long = vec![b'a'; WAYBILL_BYTES_MAX + 1];
        assert_eq!(
            Waybill::parse(&long),
            Err(WaybillError::TooLong(long.len()))
        );
        assert!(Waybill::parse(&[0xff; 8]).is_err());
    }
}
