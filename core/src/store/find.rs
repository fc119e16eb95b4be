//! Answers from the index: the look-ups that nodes do all day. They take microseconds and answer for
//! the whole log: while the index is being rebuilt they fail with [`StoreError::Behind`].

use crate::base::{Digest, Subject};
use crate::proto::log::entry::{AddArtifact, Attest, BindTag, Entry, package_subject};
use crate::proto::log::index::{self, PurlParts};
use crate::proto::log::query::LIMIT_MAX;
use crate::store::error::StoreError;
use crate::store::index::{Index, Shared, range_of};

/// Most artifacts of one package version, or attestations of one subject, that are looked at.
pub const FILES_MAX: usize = 4_096;

/// An artifact in the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Index of the leaf.
    pub index: u64,
    /// The entry.
    pub artifact: AddArtifact,
    /// Index of the entry that removed it, if one did.
    pub removed: Option<u64>,
}

impl Index {
    /// The artifact with this digest: the first that was not removed, otherwise the first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Behind`], as for all look-ups, while the index is being rebuilt.
    pub fn by_digest(&self, digest: &Digest) -> Result<Option<Found>, StoreError> {
        let mut found = self.with_digest(digest)?;
        let live = found.iter().position(|it| it.removed.is_none());
        Ok((!found.is_empty()).then(|| found.swap_remove(live.unwrap_or(0))))
    }

    /// All artifacts with this digest, removed ones included; at most [`FILES_MAX`].
    ///
    /// # Errors
    ///
    /// As for [`Index::by_digest`].
    pub fn with_digest(&self, digest: &Digest) -> Result<Vec<Found>, StoreError> {
        let prefix = index::by_digest(digest.algorithm(), digest.bytes());
        self.shared.artifacts(&prefix, |it| {
            let own: [Digest; 2] = [it.blake3.into(), it.sha256.into()];
            own.iter().chain(&it.digests).any(|it| it == digest)
        })
    }

    /// The artifacts of exactly this package URL, in the order of the log; at most [`FILES_MAX`].
    ///
    /// # Errors
    ///
    /// As for [`Index::by_digest`].
    pub fn package(&self, purl: &str) -> Result<Vec<Found>, StoreError> {
        self.shared
            .artifacts(&index::by_purl(purl), |it| it.purl == purl)
    }

    /// What authorized nodes attest about this package URL; `None` if it is not in the log.
    ///
    /// # Errors
    ///
    /// As for [`Index::by_digest`].
    pub fn package_subject(&self, purl: &str) -> Result<Option<Subject>, StoreError> {
        let files = self.package(purl)?;
        Ok((!files.is_empty()).then(|| package_subject(files.iter().map(|it| &it.artifact))))
    }

    /// The artifact with this file name in this package.
    ///
    /// # Errors
    ///
    /// As for [`Index::by_digest`].
    pub fn file(&self, purl: &str, file: &str) -> Result<Option<Found>, StoreError> {
        let prefix = index::by_purl_and_file(purl, file);
        let is_same = |it: &AddArtifact| it.purl == purl && it.file == file;
        Ok(self.shared.artifacts(&prefix, is_same)?.into_iter().next())
    }

    /// The newest binding of a tag, with its index.
    ///
    /// # Errors
    ///
    /// As for [`Index::by_digest`].
    pub fn tag(
        &self,
        registry: &str,
        repository: &str,
        tag: &str,
    ) -> Result<Option<(u64, BindTag)>, StoreError> {
        let (low, high) = range_of(&index::by_tag(registry, repository, tag));
        let snapshot = self
            .shared
            .snapshot(&[(low.clone(), high.clone())])?
            .complete()?;
        let newest = snapshot.last(&low, &high)?;
        let newest = newest.and_then(|it| index::index_of(&it));
        let Some((at, Entry::BindTag(it))) = self.shared.entry(newest)? else {
            return Ok(None);
        };
        let is_same =
            (&it.registry[..], &it.repository[..], &it.tag[..]) == (registry, repository, tag);
        Ok(is_same.then_some((at, it)))
    }

    /// The newest bindings of a repository's tags that follow `after` in the order of their bytes;
    /// at most `limit`, and at most 1,000.
    ///
    /// # Errors
    ///
    /// As for [`Index::by_digest`].
    pub fn tags(
        &self,
        registry: &str,
        repository: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(u64, BindTag)>, StoreError> {
        let (mut low, high) = range_of(&index::tags_of(registry, repository));
        if let Some(after) = after {
            low = range_of(&index::by_tag(registry, repository, after)).1;
        }
        let snapshot = self
            .shared
            .snapshot(&[(low.clone(), high.clone())])?
            .complete()?;
        let mut tags = Vec::new();
        while tags.len() < limit.min(LIMIT_MAX) {
            let Some(first) = snapshot.first(&low, &high)? else {
                break;
            };
            let (from, to) = range_of(without_index(&first));
            let newest = snapshot.last(&from, &to)?;
            let newest = newest.and_then(|it| index::index_of(&it));
            if let Some((at, Entry::BindTag(it))) = self.shared.entry(newest)?
                && it.registry == registry
                && it.repository == repository
            {
                tags.push((at, it));
            }
            low = to;
        }
        Ok(tags)
    }

    /// Versions of a package, such as `maven/g/a`, that follow `after`, each with the index of one
    /// of its artifacts; at most `limit`, and at most 1,000. In the order of their bytes: how an
    /// ecosystem orders versions is not known here.
    ///
    /// # Errors
    ///
    /// As for [`Index::by_digest`].
    pub fn versions(
        &self,
        package: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let (mut low, high) = range_of(&index::versions_of(package));
        if let Some(after) = after {
            low = range_of(&index::by_version(package, after)).1;
        }
        let snapshot = self
            .shared
            .snapshot(&[(low.clone(), high.clone())])?
            .complete()?;
        let mut versions: Vec<(String, u64)> = Vec::new();
        while versions.len() < limit.min(LIMIT_MAX) {
            let first = snapshot.first(&low, &high)?;
            let Some(at) = first.as_ref().and_then(|it| index::index_of(it)) else {
                break;
            };
            let Some((at, Entry::AddArtifact(it))) = self.shared.entry(Some(at))? else {
                break;
            };
            let parts = PurlParts::of(&it.purl);
            if parts.package == package {
                versions.push((parts.version.to_owned(), at));
            }
            low = range_of(&index::by_version(parts.package, parts.version)).1;
        }
        Ok(versions)
    }

    /// The attestations of a subject, in the order of the log; at most [`FILES_MAX`].
    ///
    /// # Errors
    ///
    /// As for [`Index::by_digest`].
    pub fn attestations(&self, subject: &Subject) -> Result<Vec<(u64, Attest)>, StoreError> {
        let prefix = index::by_subject(subject);
        let snapshot = self.shared.snapshot(&[range_of(&prefix)])?.complete()?;
        let mut found = Vec::new();
        for at in snapshot.leaves(&prefix, FILES_MAX)? {
            if let Some((at, Entry::Attest(it))) = self.shared.entry(Some(at))?
                && it.subject == *subject
            {
                found.push((at, it));
            }
        }
        Ok(found)
    }

    /// Index of the entry that removed the artifact at `index`.
    ///
    /// # Errors
    ///
    /// As for [`Index::by_digest`].
    pub fn removed(&self, index: u64) -> Result<Option<u64>, StoreError> {
        self.shared.removed(index)
    }
}

fn without_index(key: &[u8]) -> &[u8] {
    key.split_last_chunk::<8>().map_or(key, |it| it.0)
}

impl Shared {
    /// The entry at `index`; `None` if a later version wrote it.
    fn entry(&self, index: Option<u64>) -> Result<Option<(u64, Entry)>, StoreError> {
        let Some(index) = index else { return Ok(None) };
        let leaf = self.chain.leaf(index)?;
        let entry = leaf.and_then(|it| Entry::from_bytes(&it).ok());
        Ok(entry.map(|it| (index, it)))
    }

    fn artifacts(
        &self,
        prefix: &[u8],
        is_wanted: impl Fn(&AddArtifact) -> bool,
    ) -> Result<Vec<Found>, StoreError> {
        let snapshot = self.snapshot(&[range_of(prefix)])?.complete()?;
        let leaves = snapshot.leaves(prefix, FILES_MAX)?;
        drop(snapshot);
        let mut found = Vec::new();
        for at in leaves {
            if let Some((index, Entry::AddArtifact(artifact))) = self.entry(Some(at))?
                && is_wanted(&artifact)
            {
                found.push(Found {
                    index,
                    artifact: *artifact,
                    removed: self.removed(index)?,
                });
            }
        }
        Ok(found)
    }

    fn removed(&self, index: u64) -> Result<Option<u64>, StoreError> {
        let (low, high) = range_of(&index::by_removed(index));
        let snapshot = self.snapshot(&[(low.clone(), high.clone())])?.complete()?;
        let first = snapshot.first(&low, &high)?;
        Ok(first.and_then(|it| index::index_of(&it)))
    }
}
