//! Answers from the index: pages of a [`Query`], and the look-ups that nodes do all day.
//!
//! Look-ups take microseconds and answer for the whole log: while the index is being rebuilt they
//! fail with [`StoreError::Behind`]. A page looks at no more than [`STEPS_MAX`] keys, about 50 ms,
//! and says as of which size it is true.

use std::collections::BTreeSet;

use crate::base::{Digest, Subject, WallTime};
use crate::proto::log::entry::{AddArtifact, Attest, BindTag, Entry, package_subject};
use crate::proto::log::index::{self, Prefix, PurlParts};
use crate::proto::log::query::{Cursor, LIMIT_MAX, Order, Query};
use crate::store::error::StoreError;
use crate::store::index::{Index, Shared, Snapshot, range_of};

/// Most keys that one page looks at; then it ends early and says where to go on.
pub const STEPS_MAX: usize = 20_000;

/// Most artifacts of one package version, or attestations of one subject, that are looked at.
pub const FILES_MAX: usize = 4_096;

/// Most leaves with a digest that begins with the digits of a query.
const CANDIDATES_MAX: usize = 4_096;

/// An entry with its place in the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// Index of the leaf.
    pub index: u64,
    /// The block that holds it.
    pub height: u64,
    /// Time of that block.
    pub time: WallTime,
    /// The entry.
    pub entry: Entry,
    /// Index of the entry that removed this artifact, if one did by now.
    pub removed: Option<u64>,
}

/// Rows of a query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// At most as many as the query asks for. May be fewer, even none, while `next` is given.
    pub rows: Vec<Row>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
    /// Leaves of the log that the answer covers.
    pub as_of: u64,
}

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
    /// A page of entries. Blocks for some milliseconds.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooBroad`] if the digits of a digest fit thousands of leaves.
    pub fn find(&self, query: &Query) -> Result<Page, StoreError> {
        let prefixes = query.prefixes();
        let mut ranges: Vec<_> = prefixes.iter().map(|it| range_of(it)).collect();
        let digests = query.digest_ranges();
        ranges.extend(digests.iter().flatten().cloned());
        let snapshot = self.shared.snapshot(&ranges)?;
        let candidates = digests.map(|it| candidates(&snapshot, &it)).transpose()?;
        let as_of = query
            .after
            .map_or(snapshot.size, |it| it.as_of.min(snapshot.size));
        let (low, high) = self.shared.bounds(query, as_of)?;
        let search = Search {
            snapshot,
            prefixes,
            candidates,
            order: query.order,
            low,
            high,
        };
        self.shared.page(query, &search, as_of)
    }

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

fn candidates(
    snapshot: &Snapshot<'_>,
    ranges: &[(Vec<u8>, Vec<u8>)],
) -> Result<BTreeSet<u64>, StoreError> {
    let mut candidates = BTreeSet::new();
    for (low, high) in ranges {
        candidates.extend(snapshot.unsorted(low, high, CANDIDATES_MAX)?);
        if CANDIDATES_MAX <= candidates.len() {
            return Err(StoreError::TooBroad("give more digits of the digest"));
        }
    }
    Ok(candidates)
}

/// Leaves `low .. high` that are under all prefixes and among the candidates.
struct Search<'e> {
    snapshot: Snapshot<'e>,
    prefixes: Vec<Prefix>,
    candidates: Option<BTreeSet<u64>>,
    order: Order,
    low: u64,
    high: u64,
}

impl Search<'_> {
    /// The leaf `at`, or the next in order under one prefix.
    fn seek(&self, prefix: &[u8], at: u64) -> Result<Option<u64>, StoreError> {
        let key = |at| index::key(prefix, at);
        let found = match self.order {
            Order::OldestFirst => self.snapshot.first(&key(at), &key(self.high))?,
            Order::NewestFirst => {
                let behind = range_of(&key(at)).1;
                self.snapshot.last(&key(self.low), &behind)?
            }
        };
        Ok(found.and_then(|it| index::index_of(&it)))
    }

    fn seek_candidate(&self, candidates: &BTreeSet<u64>, at: u64) -> Option<u64> {
        match self.order {
            Order::OldestFirst => candidates.range(at..self.high).next(),
            Order::NewestFirst => candidates.range(self.low..=at).next_back(),
        }
        .copied()
    }

    /// The leaf `at`, or the next in order that all streams have; counts down `steps`.
    fn next(&self, mut at: u64, steps: &mut usize) -> Result<Step, StoreError> {
        loop {
            let start = at;
            if let Some(candidates) = &self.candidates {
                let Some(found) = self.seek_candidate(candidates, at) else {
                    return Ok(Step::End);
                };
                at = found;
            }
            for prefix in &self.prefixes {
                *steps = steps.saturating_sub(1);
                let Some(found) = self.seek(prefix, at)? else {
                    return Ok(Step::End);
                };
                at = found;
            }
            if at == start {
                return Ok(Step::Leaf(at));
            }
            if *steps == 0 {
                return Ok(Step::Pause(at));
            }
        }
    }

    /// Where to look first.
    fn start(&self) -> Option<u64> {
        let at = match self.order {
            Order::OldestFirst => self.low,
            Order::NewestFirst => self.high.saturating_sub(1),
        };
        (self.low < self.high).then_some(at)
    }

    /// Where to look after `at`.
    fn after(&self, at: u64) -> Option<u64> {
        let next = match self.order {
            Order::OldestFirst => at.checked_add(1)?,
            Order::NewestFirst => at.checked_sub(1)?,
        };
        (self.low..self.high).contains(&next).then_some(next)
    }
}

enum Step {
    Leaf(u64),
    Pause(u64),
    End,
}

impl Shared {
    /// The leaves that a query is about, by size, cursor and time.
    fn bounds(&self, query: &Query, as_of: u64) -> Result<(u64, u64), StoreError> {
        let first_of = |time: Option<WallTime>| match time {
            None => Ok(None),
            Some(time) => {
                let height = self.chain.height_at(time)?;
                let header = height
                    .map(|it| self.chain.header(it))
                    .transpose()?
                    .flatten();
                Ok::<_, StoreError>(Some(header.map_or(as_of, |it| it.seal.first_index)))
            }
        };
        let low = first_of(query.since)?.unwrap_or(0);
        let high = first_of(query.until)?.unwrap_or(as_of).min(as_of);
        Ok(match (query.after, query.order) {
            (None, _) => (low, high),
            (Some(it), Order::OldestFirst) => (low.max(it.at), high),
            (Some(it), Order::NewestFirst) => (low, high.min(it.at.saturating_add(1))),
        })
    }

    fn page(&self, query: &Query, search: &Search<'_>, as_of: u64) -> Result<Page, StoreError> {
        let (mut rows, mut steps) = (Vec::new(), STEPS_MAX);
        let (mut at, limit) = (search.start(), query.limit.clamp(1, LIMIT_MAX));
        while let Some(from) = at {
            if rows.len() == limit || steps == 0 {
                break;
            }
            steps = steps.saturating_sub(1);
            match search.next(from, &mut steps)? {
                Step::Leaf(leaf) => {
                    at = search.after(leaf);
                    if let Some((index, entry)) = self.entry(Some(leaf))?
                        && query.matches(&entry)
                    {
                        rows.push(self.row(index, entry)?);
                    }
                }
                Step::Pause(leaf) => at = Some(leaf),
                Step::End => at = None,
            }
        }
        Ok(Page {
            rows,
            next: at.map(|at| Cursor { as_of, at }),
            as_of,
        })
    }

    fn row(&self, index: u64, entry: Entry) -> Result<Row, StoreError> {
        let missing = || StoreError::corrupt("the log", format!("leaf {index} has no block"));
        let height = self.chain.height_of(index)?.ok_or_else(missing)?;
        let header = self.chain.header(height)?.ok_or_else(missing)?;
        let removed = match &entry {
            Entry::AddArtifact(_) => self.removed_so_far(index)?,
            _ => None,
        };
        Ok(Row {
            index,
            height,
            time: header.seal.time,
            entry,
            removed,
        })
    }

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

    /// Like [`Shared::removed`], while the index may be behind.
    fn removed_so_far(&self, index: u64) -> Result<Option<u64>, StoreError> {
        let (low, high) = range_of(&index::by_removed(index));
        let snapshot = self.snapshot(&[(low.clone(), high.clone())])?;
        let first = snapshot.first(&low, &high)?;
        Ok(first.and_then(|it| index::index_of(&it)))
    }
}
