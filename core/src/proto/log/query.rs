//! Questions to the log: filters that all must hold, an order, a limit and a place to go on from.
//!
//! A query becomes prefixes of index keys (`proto/log/index`), each a stream of leaf indexes in
//! the order of the log. Who executes it intersects the streams and then asks
//! [`Query::matches`], because keys carry only cut names and digests.

use crate::base::{Algorithm, Blake3, Digest, NodeId, PublicKey, Subject, WallTime};
use crate::proto::log::entry::{AddArtifact, Entry};
use crate::proto::log::index::{self, Prefix, PurlParts};

/// Most rows of one page.
pub const LIMIT_MAX: usize = 1_000;

/// Rows of a page if the query does not say.
pub const LIMIT_DEFAULT: usize = 100;

/// Fewest hex digits of an incomplete digest: fewer would match half the log.
pub const DIGEST_DIGITS_MIN: usize = 8;

/// The kinds of entries by name, in the order of their numbers.
pub const KINDS: [&str; 7] = [
    "seal",
    "add-artifact",
    "remove-artifact",
    "add-node",
    "remove-node",
    "bind-tag",
    "attest",
];

/// A digest, or the beginning of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DigestFilter {
    /// A whole digest.
    Whole(Digest),
    /// The first hex digits, at least [`DIGEST_DIGITS_MIN`]; of any algorithm if it is `None`.
    Digits(Option<Algorithm>, String),
}

/// A mutable name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TagName {
    /// Host of the registry.
    pub registry: String,
    /// Repository.
    pub repository: String,
    /// Tag.
    pub tag: String,
}

/// In which order rows come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Order {
    /// The latest entries first.
    #[default]
    NewestFirst,
    /// In the order of the log.
    OldestFirst,
}

/// Where a page ended: pass it on to get the next one. It fixes the size of the log, so that
/// pages do not shift while the log grows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cursor {
    /// Leaves of the log that the first page saw.
    pub as_of: u64,
    /// The next leaf to look at.
    pub at: u64,
}

/// A question to the log. All filters that are given must hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Query {
    /// Artifacts of a package: type, namespace and name, such as `maven/g/a`.
    pub package: Option<String>,
    /// Artifacts of exactly this package URL.
    pub purl: Option<String>,
    /// Artifacts with this file name.
    pub file: Option<String>,
    /// Artifacts with this digest.
    pub digest: Option<DigestFilter>,
    /// Artifacts that this key published.
    pub publisher: Option<PublicKey>,
    /// Entries about or by this node.
    pub node: Option<NodeId>,
    /// Artifacts from this source repository.
    pub source: Option<String>,
    /// Artifacts from this commit; only with `source`.
    pub commit: Option<Vec<u8>>,
    /// Artifacts with this dependency list.
    pub dependency: Option<Blake3>,
    /// Attestations of this subject.
    pub subject: Option<Subject>,
    /// Bindings of this tag.
    pub tag: Option<TagName>,
    /// Entries of this kind, by number.
    pub kind: Option<u8>,
    /// Entries of blocks not before this time.
    pub since: Option<WallTime>,
    /// Entries of blocks before this time.
    pub until: Option<WallTime>,
    /// The order of rows.
    pub order: Order,
    /// Most rows of the page; at most [`LIMIT_MAX`] are given.
    pub limit: usize,
    /// Where to go on.
    pub after: Option<Cursor>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            package: None,
            purl: None,
            file: None,
            digest: None,
            publisher: None,
            node: None,
            source: None,
            commit: None,
            dependency: None,
            subject: None,
            tag: None,
            kind: None,
            since: None,
            until: None,
            order: Order::NewestFirst,
            limit: LIMIT_DEFAULT,
            after: None,
        }
    }
}

impl Query {
    /// Prefixes of index keys: every leaf that matches has a key under each of them.
    pub fn prefixes(&self) -> Vec<Prefix> {
        let digest = match &self.digest {
            Some(DigestFilter::Whole(it)) => Some(index::by_digest(it.algorithm(), it.bytes())),
            _ => None,
        };
        let source = self.source.as_deref();
        let (commit, repository) = match (&self.commit, source) {
            (Some(commit), Some(source)) => (Some(index::by_commit(source, commit)), None),
            (_, source) => (None, source.map(index::by_source)),
        };
        let tag = self.tag.as_ref();
        [
            digest,
            self.purl.as_deref().map(index::by_purl),
            self.dependency.as_ref().map(index::by_dependency),
            self.subject.as_ref().map(index::by_subject),
            tag.map(|it| index::by_tag(&it.registry, &it.repository, &it.tag)),
            self.file.as_deref().map(index::by_file),
            commit,
            self.package.as_deref().map(index::by_package),
            repository,
            self.publisher.as_ref().map(index::by_publisher),
            self.node.as_ref().map(index::by_node),
            self.kind.map(index::by_kind),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Ranges of index keys for an incomplete digest: every leaf that matches has a key in one of
    /// them. `None` if there is no such filter. A range is not in the order of the log.
    pub fn digest_ranges(&self) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let Some(DigestFilter::Digits(algorithm, digits)) = &self.digest else {
            return None;
        };
        let all = Algorithm::ALL.into_iter();
        let wanted = all.filter(|it| algorithm.is_none_or(|only| only == *it));
        Some(
            wanted
                .filter_map(|it| index::by_digest_digits(it, digits))
                .collect(),
        )
    }

    /// Whether all filters but those on time hold for `entry`.
    pub fn matches(&self, entry: &Entry) -> bool {
        if self.kind.is_some_and(|it| it != entry.kind()) {
            return false;
        }
        let node = match entry {
            Entry::AddArtifact(it) => Some(it.builder),
            Entry::AddNode(it) => Some(it.card.member.node),
            Entry::RemoveNode(it) => Some(it.node),
            Entry::BindTag(it) => Some(it.builder),
            Entry::Attest(it) => Some(it.node),
            Entry::Seal(_) | Entry::RemoveArtifact(_) => None,
        };
        if self.node.is_some() && self.node != node {
            return false;
        }
        if let Some(subject) = &self.subject
            && !matches!(entry, Entry::Attest(it) if it.subject == *subject)
        {
            return false;
        }
        if let Some(tag) = &self.tag
            && !matches!(entry, Entry::BindTag(it) if (&it.registry, &it.repository, &it.tag)
                == (&tag.registry, &tag.repository, &tag.tag))
        {
            return false;
        }
        match entry {
            Entry::AddArtifact(it) => self.matches_artifact(it),
            _ => !self.is_about_artifacts(),
        }
    }

    /// Whether a filter can hold only for artifacts.
    fn is_about_artifacts(&self) -> bool {
        self.package.is_some()
            || self.purl.is_some()
            || self.file.is_some()
            || self.digest.is_some()
            || self.publisher.is_some()
            || self.source.is_some()
            || self.dependency.is_some()
    }

    fn matches_artifact(&self, it: &AddArtifact) -> bool {
        let package = PurlParts::of(&it.purl).package;
        let publisher = it.publication.as_ref().map(|it| &it.publisher);
        self.package.as_deref().is_none_or(|want| want == package)
            && self.purl.as_ref().is_none_or(|want| *want == it.purl)
            && self.file.as_ref().is_none_or(|want| *want == it.file)
            && self.digest.as_ref().is_none_or(|want| want.matches(it))
            && (self.publisher.is_none() || self.publisher.as_ref() == publisher)
            && self
                .source
                .as_ref()
                .is_none_or(|want| *want == it.source.repository)
            && self
                .commit
                .as_ref()
                .is_none_or(|want| *want == **it.source.commit)
            && (self.dependency.is_none() || self.dependency == it.dependencies)
    }
}

impl DigestFilter {
    /// Whether one of the artifact's digests fits.
    pub fn matches(&self, artifact: &AddArtifact) -> bool {
        let own = [artifact.blake3.into(), artifact.sha256.into()];
        let mut all = own.iter().chain(&artifact.digests);
        match self {
            Self::Whole(want) => all.any(|it| it == want),
            Self::Digits(algorithm, digits) => all.any(|it| {
                algorithm.is_none_or(|only| only == it.algorithm()) && it.hex().starts_with(digits)
            }),
        }
    }
}
