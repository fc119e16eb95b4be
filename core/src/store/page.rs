//! Pages of a [`Query`]: entries of the log by what they are about.
//!
//! A page looks at no more than [`STEPS_MAX`] keys, about 50 ms, and says as of which size it is true.

use std::collections::BTreeSet;
use std::ops::Range;

use heed::{RoTxn, WithoutTls};

use crate::base::WallTime;
use crate::proto::log::entry::Entry;
use crate::proto::log::index::{self, Prefix};
use crate::proto::log::query::{Cursor, LIMIT_MAX, Order, Query};
use crate::store::chain::Chain;
use crate::store::error::StoreError;
use crate::store::index::{Index, Shared, Snapshot, range_of};

/// Most keys that one page looks at; then it ends early and says where to go on.
pub const STEPS_MAX: usize = 20_000;

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
        ranges.push(range_of(&index::removals()));
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

    /// The entry at `index` with its place; `None` if there is no such leaf, or a later version wrote
    /// it.
    ///
    /// # Errors
    ///
    /// As for [`Index::by_digest`].
    pub fn row(&self, index: u64) -> Result<Option<Row>, StoreError> {
        let mut leaves = Leaves::of(&self.shared.chain)?;
        let Some(entry) = leaves.entry(index)? else {
            return Ok(None);
        };
        let removed = match &entry {
            Entry::AddArtifact(_) => self.removed(index)?,
            _ => None,
        };
        leaves.row(index, entry, removed).map(Some)
    }
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

    /// Index of the entry that removed the artifact at `index`, if one did by now.
    fn removed(&self, index: u64) -> Result<Option<u64>, StoreError> {
        let (low, high) = range_of(&index::by_removed(index));
        let first = self.snapshot.first(&low, &high)?;
        Ok(first.and_then(|it| index::index_of(&it)))
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
        let mut leaves = Leaves::of(&self.chain)?;
        let (mut at, limit) = (search.start(), query.limit.clamp(1, LIMIT_MAX));
        while let Some(from) = at {
            if rows.len() == limit || steps == 0 {
                break;
            }
            steps = steps.saturating_sub(1);
            match search.next(from, &mut steps)? {
                Step::Leaf(leaf) => {
                    at = search.after(leaf);
                    if let Some(entry) = leaves.entry(leaf)?
                        && query.matches(&entry)
                    {
                        let removed = match &entry {
                            Entry::AddArtifact(_) => search.removed(leaf)?,
                            _ => None,
                        };
                        rows.push(leaves.row(leaf, entry, removed)?);
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
}

/// The log as of one moment. Short-lived, like the read transaction in it.
struct Leaves<'c> {
    chain: &'c Chain,
    txn: RoTxn<'c, WithoutTls>,
    /// The block that was looked at last: rows that follow each other are often of one.
    block: Option<(Range<u64>, u64, WallTime)>,
}

impl<'c> Leaves<'c> {
    fn of(chain: &'c Chain) -> Result<Self, StoreError> {
        Ok(Self {
            chain,
            txn: chain.env().read()?,
            block: None,
        })
    }

    /// The entry at `index`; `None` if a later version wrote it.
    fn entry(&self, index: u64) -> Result<Option<Entry>, StoreError> {
        let leaf = self.chain.tables().leaf(&self.txn, index)?;
        Ok(leaf.and_then(|it| Entry::from_bytes(it).ok()))
    }

    fn row(&mut self, index: u64, entry: Entry, removed: Option<u64>) -> Result<Row, StoreError> {
        let (height, time) = match &self.block {
            Some((leaves, height, time)) if leaves.contains(&index) => (*height, *time),
            _ => self.find_block(index)?,
        };
        Ok(Row {
            index,
            height,
            time,
            entry,
            removed,
        })
    }

    fn find_block(&mut self, index: u64) -> Result<(u64, WallTime), StoreError> {
        let missing = || StoreError::corrupt("the log", format!("leaf {index} has no block"));
        let tables = self.chain.tables();
        let height = tables.height_of(&self.txn, index)?.ok_or_else(missing)?;
        let header = tables.header(&self.txn, height)?.ok_or_else(missing)?;
        let leaves = header.seal.first_index..header.size;
        self.block = Some((leaves, height, header.seal.time));
        Ok((height, header.seal.time))
    }
}
