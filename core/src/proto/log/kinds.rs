//! What the kinds of entries say, and the rules for their form.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{
    Blake3, BlockId, ChainId, Digest, NodeId, PublicKey, Sha256, Signature, Subject, WallTime,
    codec,
};
use crate::proto::chain::member::Card;
use crate::proto::log::entry::{
    DIGESTS_MAX, EntryError, FILE_BYTES_MAX, PURL_BYTES_MAX, TEXT_BYTES_MAX,
};

/// The leaf that closes a block: its header without size and root of the tree it is a leaf of.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Seal {
    /// Number of the block; the first is 1.
    #[n(0)]
    pub height: u64,
    /// The block before; 32 zero bytes for the first.
    #[n(1)]
    pub parent: BlockId,
    /// The proposer's time, never earlier than the parent's.
    #[n(2)]
    pub time: WallTime,
    /// The set that decided this block.
    #[n(3)]
    pub members: Sha256,
    /// The set that decides the next block.
    #[n(4)]
    pub next_members: Sha256,
    /// Index of the block's first leaf.
    #[n(5)]
    pub first_index: u64,
    /// Number of leaves, this one included.
    #[n(6)]
    pub count: u64,
    /// Reserved for the root of an authenticated index; 32 zero bytes.
    #[n(7)]
    pub index_root: Sha256,
    /// Digest of the evidence of misbehaviour in this block; 32 zero bytes if there is none.
    #[n(8)]
    pub evidence: Blake3,
}

/// One file of a package version. The first eight fields are the *facts* that authorized nodes
/// attest; the rest says how the entry came about.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct AddArtifact {
    /// Canonical package URL with version, such as `pkg:maven/g/a@1.0`.
    #[n(0)]
    pub purl: String,
    /// Name of the file inside the package; relative, `/`-separated.
    #[n(1)]
    pub file: String,
    /// Address of the artifact.
    #[n(2)]
    pub blake3: Blake3,
    /// SHA-256 of the artifact.
    #[n(3)]
    pub sha256: Sha256,
    /// Further digests that clients of this package type use; sorted by algorithm.
    #[n(4)]
    pub digests: Vec<Digest>,
    /// Length of the artifact. Unit: bytes.
    #[n(5)]
    pub size: u64,
    /// Media type, such as `application/java-archive`.
    #[n(6)]
    pub media_type: String,
    /// Where it came from.
    #[n(7)]
    pub source: Source,
    /// BLAKE3 of the package's dependency list, if it has one.
    #[n(8)]
    pub dependencies: Option<Blake3>,
    /// The authorized node that submitted the attested facts.
    #[n(9)]
    pub builder: NodeId,
    /// Who published the artifact, if somebody signed for it.
    #[n(10)]
    pub publication: Option<Publication>,
    /// When the facts were submitted.
    #[n(11)]
    pub time: WallTime,
}

/// Where an artifact came from.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Source {
    /// The upstream or source repository: host and path, no credentials.
    #[n(0)]
    pub repository: String,
    /// Commit of the source, or the digest the upstream reported; empty if unknown.
    #[n(1)]
    pub commit: ByteVec,
    /// BLAKE3 of the build specification; `None` if the file was fetched, not built.
    #[n(2)]
    pub spec: Option<Blake3>,
    /// The rule by which authorized nodes compared their results; empty means equal bytes.
    #[n(3)]
    pub rule: String,
}

impl Source {
    /// A file that was fetched from `repository`, compared byte by byte.
    pub fn fetched(repository: impl Into<String>) -> Self {
        let commit = Vec::new().into();
        Self {
            repository: repository.into(),
            commit,
            spec: None,
            rule: String::new(),
        }
    }
}

/// A publisher's signature over the facts.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Publication {
    /// The publisher's key.
    #[n(0)]
    pub publisher: PublicKey,
    /// Over the subject of the package version.
    #[n(1)]
    pub signature: Signature,
}

/// Withdraws an artifact.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct RemoveArtifact {
    /// Index of the [`AddArtifact`].
    #[n(0)]
    pub index: u64,
    /// Why, for people.
    #[n(1)]
    pub reason: String,
    /// Admins of 2f+1 authorized nodes, sorted by node.
    #[n(2)]
    pub marks: Vec<Mark>,
}

/// Admits an authorized node from the next height on.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct AddNode {
    /// The candidate's keys with proofs of possession.
    #[n(0)]
    pub card: Card,
    /// The candidate has followed the log to this height, lately.
    #[n(1)]
    pub ready_height: u64,
    /// The block at that height.
    #[n(2)]
    pub ready_block: BlockId,
    /// The candidate's signature (vote key) over chain, height and block.
    #[n(3)]
    pub ready_signature: Signature,
    /// Admins of 2f+1 authorized nodes, sorted by node.
    #[n(4)]
    pub marks: Vec<Mark>,
}

/// Dismisses an authorized node from the next height on.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct RemoveNode {
    /// The node.
    #[n(0)]
    pub node: NodeId,
    /// Why, for people.
    #[n(1)]
    pub reason: String,
    /// Admins of 2f+1 authorized nodes, sorted by node.
    #[n(2)]
    pub marks: Vec<Mark>,
}

/// One admin's consent.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Mark {
    /// The authorized node whose admin signed.
    #[n(0)]
    pub node: NodeId,
    /// The admin key's signature over what is marked; see `proto/chain/rules`.
    #[n(1)]
    pub signature: Signature,
}

/// What a mutable name pointed to when a quorum looked.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct BindTag {
    /// Host of the registry as written by clients, such as `docker.io`.
    #[n(0)]
    pub registry: String,
    /// Repository, such as `library/alpine`.
    #[n(1)]
    pub repository: String,
    /// Tag, such as `3.20`.
    #[n(2)]
    pub tag: String,
    /// What it pointed to.
    #[n(3)]
    pub digest: Sha256,
    /// The submitting node.
    #[n(4)]
    pub builder: NodeId,
    /// When it was submitted.
    #[n(5)]
    pub time: WallTime,
}

/// "I got the same": an authorized node's signed statement about a [`Subject`].
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Attest {
    /// The facts.
    #[n(0)]
    pub subject: Subject,
    /// The authorized node.
    #[n(1)]
    pub node: NodeId,
    /// When it finished.
    #[n(2)]
    pub time: WallTime,
    /// By the node's vote key over chain, subject and time; see [`Attest::signed_bytes`].
    #[n(3)]
    pub signature: Signature,
}

impl AddArtifact {
    pub(crate) fn check(&self) -> Result<(), EntryError> {
        check_name(&self.purl, PURL_BYTES_MAX, "package URL is malformed")?;
        check_name(&self.file, FILE_BYTES_MAX, "file name is malformed")?;
        if !self.purl.starts_with("pkg:") {
            return Err(EntryError::Field("package URL is malformed"));
        }
        if self
            .file
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..")
        {
            return Err(EntryError::Field("file name is not a plain relative path"));
        }
        check_text(&self.media_type, "media type is too long")?;
        check_text(&self.source.repository, "repository is too long")?;
        check_text(&self.source.rule, "rule is too long")?;
        if TEXT_BYTES_MAX < self.source.commit.len() {
            return Err(EntryError::Field("commit is too long"));
        }
        let sorted = self
            .digests
            .windows(2)
            .all(|it| it[0].algorithm() < it[1].algorithm());
        if DIGESTS_MAX < self.digests.len() || !sorted || !self.digests.iter().all(Digest::is_whole)
        {
            return Err(EntryError::Field(
                "digests are malformed, unsorted or too many",
            ));
        }
        Ok(())
    }

    /// The CBOR of the attested facts: this entry without builder, publication and time.
    fn facts(&self) -> Vec<u8> {
        codec::encode(&(
            (
                &self.purl,
                &self.file,
                &self.blake3,
                &self.sha256,
                &self.digests,
            ),
            (
                &self.size,
                &self.media_type,
                &self.source,
                &self.dependencies,
            ),
        ))
    }
}

impl BindTag {
    /// What authorized nodes attest: the name and the digest.
    pub fn subject(&self) -> Subject {
        let facts = codec::encode(&(&self.registry, &self.repository, &self.tag, &self.digest));
        subject_of("kogge/subject/tag/v1", [facts])
    }
}

/// What authorized nodes attest about a package version: the facts of all its files, in order.
pub fn package_subject<'a>(files: impl IntoIterator<Item = &'a AddArtifact>) -> Subject {
    subject_of(
        "kogge/subject/package/v1",
        files.into_iter().map(AddArtifact::facts),
    )
}

fn subject_of(context: &str, parts: impl IntoIterator<Item = Vec<u8>>) -> Subject {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(&part);
    }
    Subject(*hasher.finalize().as_bytes())
}

impl Attest {
    /// The message under [`Attest::signature`].
    pub fn signed_bytes(chain: &ChainId, subject: &Subject, time: WallTime) -> Vec<u8> {
        let mut bytes = b"kogge/attest/v1\0".to_vec();
        bytes.extend_from_slice(chain.as_bytes());
        bytes.extend_from_slice(subject.as_bytes());
        bytes.extend_from_slice(&time.as_millis().to_be_bytes());
        bytes
    }
}

pub(crate) fn check_text(text: &str, problem: &'static str) -> Result<(), EntryError> {
    if text.len() <= TEXT_BYTES_MAX {
        Ok(())
    } else {
        Err(EntryError::Field(problem))
    }
}

/// Names end up in terminals, paths and index keys: no control characters, no blanks.
pub(crate) fn check_name(
    name: &str,
    bytes_max: usize,
    problem: &'static str,
) -> Result<(), EntryError> {
    let clean = name
        .chars()
        .all(|it| !it.is_control() && !it.is_whitespace() && it != '\\');
    if clean && !name.is_empty() && name.len() <= bytes_max {
        Ok(())
    } else {
        Err(EntryError::Field(problem))
    }
}
