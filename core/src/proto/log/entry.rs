//! Entries: the leaves of the log.
//!
//! ```text
//! leaf = CBOR array [version = 1, kind, body]
//! ```
//!
//! Kinds 0 to 6 are below; 7, 8 and 9 are reserved for Release, State and ReleaseSet. A leaf has at
//! most [`ENTRY_BYTES_MAX`] bytes, the limit of an entry bundle (C2SP tlog-tiles); larger documents
//! enter by digest.

use minicbor::{Decode, Encode};

use crate::base::{CodecError, codec};
pub use crate::proto::log::kinds::{
    AddArtifact, AddNode, Attest, BindTag, Mark, Publication, RemoveArtifact, RemoveNode, Seal,
    Source, package_subject,
};
use crate::proto::log::kinds::{check_name, check_text};

/// Longest leaf. Unit: bytes.
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// The version of the entry format.
const VERSION: u8 = 1;

/// Longest package URL. Unit: bytes.
pub const PURL_BYTES_MAX: usize = 1_024;

/// Longest file name inside a package. Unit: bytes.
pub const FILE_BYTES_MAX: usize = 512;

/// Longest of the other texts in an entry. Unit: bytes.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// Most digests of one artifact beside blake3 and sha256.
pub const DIGESTS_MAX: usize = 4;

/// Why bytes are not an entry.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EntryError {
    /// Not canonical CBOR of an entry.
    #[error("the entry is not readable: {0}")]
    Codec(#[from] CodecError),
    /// A later version, or a kind this version does not know.
    #[error("entry version {version}, kind {kind} is unknown to this program")]
    Unknown {
        /// The version field.
        version: u8,
        /// The kind field.
        kind: u8,
    },
    /// A field breaks a limit or a rule.
    #[error("the entry's {0}")]
    Field(&'static str),
}

/// One leaf of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry {
    /// Closes a block; always its last leaf.
    Seal(Seal),
    /// One file of a package version.
    AddArtifact(Box<AddArtifact>),
    /// Withdraws an artifact: nodes stop serving it; the record stays.
    RemoveArtifact(RemoveArtifact),
    /// Admits an authorized node.
    AddNode(Box<AddNode>),
    /// Dismisses an authorized node.
    RemoveNode(RemoveNode),
    /// What a mutable name pointed to.
    BindTag(BindTag),
    /// An authorized node's statement that it got the same facts.
    Attest(Attest),
}

impl Entry {
    /// The kind's number in the leaf.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Seal(_) => 0,
            Self::AddArtifact(_) => 1,
            Self::RemoveArtifact(_) => 2,
            Self::AddNode(_) => 3,
            Self::RemoveNode(_) => 4,
            Self::BindTag(_) => 5,
            Self::Attest(_) => 6,
        }
    }

    /// The kind's name, for people and JSON.
    pub const fn kind_name(&self) -> &'static str {
        match self {
            Self::Seal(_) => "seal",
            Self::AddArtifact(_) => "add-artifact",
            Self::RemoveArtifact(_) => "remove-artifact",
            Self::AddNode(_) => "add-node",
            Self::RemoveNode(_) => "remove-node",
            Self::BindTag(_) => "bind-tag",
            Self::Attest(_) => "attest",
        }
    }

    /// The leaf.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a leaf and checks what can be checked without the chain: form and limits.
    ///
    /// # Errors
    ///
    /// [`EntryError`] if it is not the canonical form of a well-formed entry.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EntryError> {
        if let Some((version, kind)) = head(bytes)
            && (version != VERSION || 6 < kind)
        {
            return Err(EntryError::Unknown { version, kind });
        }
        let entry: Self = codec::decode(bytes, ENTRY_BYTES_MAX)?;
        entry.check()?;
        Ok(entry)
    }

    fn check(&self) -> Result<(), EntryError> {
        match self {
            Self::AddArtifact(it) => it.check(),
            Self::RemoveArtifact(it) => check_text(&it.reason, "reason is too long"),
            Self::RemoveNode(it) => check_text(&it.reason, "reason is too long"),
            Self::AddNode(it) => it
                .card
                .check()
                .map_err(|_| EntryError::Field("card is malformed")),
            Self::BindTag(it) => {
                check_name(&it.registry, TEXT_BYTES_MAX, "registry is malformed")?;
                check_name(&it.repository, TEXT_BYTES_MAX, "repository is malformed")?;
                check_name(&it.tag, 128, "tag is malformed")
            }
            Self::Seal(_) | Self::Attest(_) => Ok(()),
        }
    }
}

/// Version and kind of a leaf, if it starts like one.
fn head(bytes: &[u8]) -> Option<(u8, u8)> {
    match bytes {
        [0x83, version @ 0..=23, kind @ 0..=23, ..] => Some((*version, *kind)),
        _ => None,
    }
}

impl Encode<()> for Entry {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut (),
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(3)?.u8(VERSION)?.u8(self.kind())?;
        match self {
            Self::Seal(it) => it.encode(e, ctx),
            Self::AddArtifact(it) => it.encode(e, ctx),
            Self::RemoveArtifact(it) => it.encode(e, ctx),
            Self::AddNode(it) => it.encode(e, ctx),
            Self::RemoveNode(it) => it.encode(e, ctx),
            Self::BindTag(it) => it.encode(e, ctx),
            Self::Attest(it) => it.encode(e, ctx),
        }
    }
}

impl<'b> Decode<'b, ()> for Entry {
    fn decode(
        d: &mut minicbor::Decoder<'b>,
        ctx: &mut (),
    ) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        if d.array()? != Some(3) {
            return Err(Error::message("an entry is an array of three"));
        }
        if d.u8()? != VERSION {
            return Err(Error::message("unknown entry version"));
        }
        Ok(match d.u8()? {
            0 => Self::Seal(Seal::decode(d, ctx)?),
            1 => Self::AddArtifact(Box::new(AddArtifact::decode(d, ctx)?)),
            2 => Self::RemoveArtifact(RemoveArtifact::decode(d, ctx)?),
            3 => Self::AddNode(Box::new(AddNode::decode(d, ctx)?)),
            4 => Self::RemoveNode(RemoveNode::decode(d, ctx)?),
            5 => Self::BindTag(BindTag::decode(d, ctx)?),
            6 => Self::Attest(Attest::decode(d, ctx)?),
            _ => return Err(Error::message("unknown entry kind")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Blake3, PublicKey, Sha256, WallTime};

    fn artifact() -> AddArtifact {
        AddArtifact {
            purl: "pkg:maven/org.example/lib@1.0".into(),
            file: "lib-1.0.jar".into(),
            blake3: Blake3::of(b"jar"),
            sha256: Sha256::of(b"jar"),
            digests: Vec::new(),
            size: 3,
            media_type: "application/java-archive".into(),
            source: Source::fetched("repo.example/maven2"),
            dependencies: None,
            builder: PublicKey([7; 32]),
            publication: None,
            time: WallTime::from_millis(1_790_000_000_000),
        }
    }

    #[test]
    fn an_entry_survives_its_bytes() {
        let entry = Entry::AddArtifact(Box::new(artifact()));
        assert_eq!(Entry::from_bytes(&entry.to_bytes()), Ok(entry));
    }

    #[test]
    fn malformed_fields_are_refused() {
        let spoil: [fn(&mut AddArtifact); 7] = [
            |it| it.file = "../etc/passwd".into(),
            |it| it.file = "/abs".into(),
            |it| it.file = "a\\b".into(),
            |it| it.purl = "maven/x".into(),
            |it| it.purl = format!("pkg:{}", "x".repeat(PURL_BYTES_MAX)),
            |it| it.media_type = "x".repeat(TEXT_BYTES_MAX + 1),
            |it| it.digests = vec![Blake3::of(b"").into(), Blake3::of(b"").into()],
        ];
        for (case, spoil) in spoil.into_iter().enumerate() {
            let mut it = artifact();
            spoil(&mut it);
            let bytes = Entry::AddArtifact(Box::new(it)).to_bytes();
            assert!(
                matches!(Entry::from_bytes(&bytes), Err(EntryError::Field(_))),
                "case {case}"
            );
        }
    }

    #[test]
    fn unknown_kinds_say_so() {
        for (bytes, version, kind) in [([0x83, 1, 9, 0xf6], 1, 9), ([0x83, 2, 1, 0xf6], 2, 1)] {
            assert_eq!(
                Entry::from_bytes(&bytes),
                Err(EntryError::Unknown { version, kind })
            );
        }
    }

    #[test]
    fn the_subject_covers_the_facts_and_nothing_else() {
        let base = artifact();
        let subject = package_subject([&base]);
        let changed: [fn(&mut AddArtifact); 3] = [
            |it| it.size = 4,
            |it| it.sha256 = Sha256::of(b"x"),
            |it| it.file = "b".into(),
        ];
        for change in changed {
            let mut it = base.clone();
            change(&mut it);
            assert_ne!(package_subject([&it]), subject);
        }
        let mut other = base.clone();
        other.builder = PublicKey([8; 32]);
        other.time = WallTime::from_millis(1);
        assert_eq!(package_subject([&other]), subject);
        assert_ne!(package_subject([&base, &base]), subject);
    }
}
