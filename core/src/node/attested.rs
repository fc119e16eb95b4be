//! Bytes that this node vouches for: the log names it as a source of them, or soon may, so they must
//! not be evicted.
//!
//! ```text
//! stored or found by a build ──► held until the build is over
//! its result is attested     ──► held for HELD_TIME, in the store: its group may wait in pools
//! the log names this node    ──► pinned, some hundred at a time, when the build is over
//! ```
//!
//! The quota asks about each artifact that it would evict: what the log names without a pin, such as
//! what came back from a peer, is pinned then. Nothing is vouched for while the node is not
//! authorized. A pin outlasts the removal of the package from the log and of the node from the
//! authorized ones: it is ended by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use minicbor::{Decode, Encode};

use crate::base::{Blake3, NodeId, WallTime, codec};
use crate::node::clock::Clock;
use crate::proto::build::BuildId;
use crate::proto::pool::GROUP_AGE_MAX;
use crate::store::find::FILES_MAX;
use crate::store::meta::VALUE_BYTES_MAX;
use crate::store::{Fate, Index, Meta, Store, StoreError};

/// How long an attested result is held: its group waits in a pool for [`GROUP_AGE_MAX`], and others may
/// have taken it in as late as we gave it up.
const HELD_TIME: Duration = GROUP_AGE_MAX.saturating_mul(2);

/// Most results that are held after their build, as many as groups fit into a pool; the oldest is
/// given up.
const RESULTS_MAX: usize = 4_096;

/// Artifacts in one row, of at most 34 bytes each.
const ROW_ROOTS_MAX: usize = 1_024;

/// Name space of the results in the store. The key is the build and the number of the row.
const RESULTS: &str = "attested";

/// What builds have stored or found in the store. Bounded by the number of builds under way, by
/// [`RESULTS_MAX`], and by the files of each.
pub(crate) struct Attested {
    own: NodeId,
    builds: Mutex<BTreeMap<BuildId, Holding>>,
    is_authorized: AtomicBool,
    /// Whether the log could not be asked at the last eviction.
    is_blind: AtomicBool,
    clock: Clock,
}

/// What one build holds.
#[derive(Debug, Default)]
struct Holding {
    roots: BTreeSet<Blake3>,
    is_over: bool,
    /// Set if the result was attested.
    until: Option<WallTime>,
}

impl Holding {
    fn is_held(&self, now: WallTime) -> bool {
        !self.is_over || self.until.is_some_and(|it| now < it)
    }
}

/// A part of a result, as it is stored.
#[derive(Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(array)]
struct Row {
    #[n(0)]
    until: WallTime,
    #[n(1)]
    roots: Vec<Blake3>,
}

impl Attested {
    /// Keeps an artifact until [`Attested::over`].
    pub(crate) fn hold(&self, build: BuildId, root: Blake3) {
        let mut builds = self.lock();
        let holding = builds.entry(build).or_default();
        holding.is_over = false;
        holding.roots.insert(root);
    }

    /// The result of a build is about to be attested: what it holds is held for [`HELD_TIME`], over
    /// restarts too. Blocks for some commits.
    ///
    /// # Errors
    ///
    /// Why it cannot be held; then it must not be attested.
    pub(crate) fn keep(&self, meta: &Meta, build: BuildId) -> io::Result<()> {
        let now = self.clock.wall();
        self.make_room(meta, now).map_err(|it| self.refused(&it))?;
        let until = now + HELD_TIME;
        let roots: Vec<Blake3> = {
            let mut builds = self.lock();
            let holding = builds.entry(build).or_default();
            holding.until = Some(until);
            holding.roots.iter().copied().collect()
        };
        for (number, roots) in (0_u16..).zip(roots.chunks(ROW_ROOTS_MAX)) {
            let roots = roots.to_vec();
            let row = codec::encode(&Row { until, roots });
            meta.put(RESULTS, &key(&build, number), &row)
                .map_err(|it| self.refused(&it))?;
        }
        Ok(())
    }

    /// The build is over. Whether its result was attested: then [`Attested::settle`] is due.
    pub(crate) fn over(&self, build: &BuildId) -> bool {
        let mut builds = self.lock();
        let Some(holding) = builds.get_mut(build) else {
            return false;
        };
        holding.is_over = true;
        let is_attested = holding.until.is_some();
        if !is_attested {
            builds.remove(build);
        }
        is_attested
    }

    /// Pins what the log names this node for, of a build that is over. The result is not held any
    /// more once all of it is pinned. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the log cannot be asked or the disk refuses; the result stays held.
    pub(crate) fn settle(&self, store: &Store, build: &BuildId) -> Result<(), StoreError> {
        let roots: Vec<Blake3> = match self.lock().get(build).filter(|it| it.is_over) {
            Some(it) => it.roots.iter().copied().collect(),
            None => return Ok(()),
        };
        if !self.is_authorized.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut named = Vec::new();
        for root in &roots {
            if is_source(store.index(), root, &self.own)? == Some(true) {
                named.push(*root);
            }
        }
        store.blobs().pin_all(&named)?;
        if let Some(holding) = self.lock().get_mut(build) {
            holding.roots.retain(|it| !named.contains(it));
        }
        self.drop_if(store.meta(), build, |it| it.is_over && it.roots.is_empty())
    }

    /// Whether this node is authorized from now on.
    pub(crate) fn authorize(&self, is_authorized: bool) {
        self.is_authorized.store(is_authorized, Ordering::Relaxed);
    }

    /// What the store refuses, with what helps.
    pub(crate) fn refused(&self, error: &StoreError) -> io::Error {
        let StoreError::Quota { bytes, quota } = error else {
            return io::Error::other(error.to_string());
        };
        let quota = quota >> 20;
        let why = if self.is_blind.load(Ordering::Relaxed) {
            "while the index cannot tell what this node attested, nothing is evicted; try again \
             when `kogge status` shows that it has caught up"
        } else {
            "what this node attested or pinned stays; raise the limit"
        };
        io::Error::other(format!(
            "{bytes} bytes do not fit into the {quota} MiB that `limits.disk_mb` allows: {why}"
        ))
    }

    fn judge(&self, index: &Index, root: &Blake3) -> Fate {
        if self.holds(root, self.clock.wall()) {
            return Fate::Stay;
        }
        if !self.is_authorized.load(Ordering::Relaxed) {
            return Fate::Evict;
        }
        let is_source = is_source(index, root, &self.own);
        self.is_blind.store(is_source.is_err(), Ordering::Relaxed);
        match is_source {
            Ok(Some(true)) => Fate::Pin,
            Ok(Some(false)) => Fate::Evict,
            Ok(None) => Fate::Stay,
            // A read that failed does not say that it may go.
            Err(error) => {
                tracing::debug!(%root, %error, "not evicted");
                Fate::Stay
            }
        }
    }

    fn holds(&self, root: &Blake3, now: WallTime) -> bool {
        let builds = self.lock();
        builds
            .values()
            .any(|it| it.roots.contains(root) && it.is_held(now))
    }

    /// Takes up the results of the last run.
    fn restore(&self, meta: &Meta) -> Result<(), StoreError> {
        let latest = self.clock.wall() + HELD_TIME;
        let mut builds = self.lock();
        for (key, value) in meta.all(RESULTS)? {
            let row = codec::decode::<Row>(&value, VALUE_BYTES_MAX);
            let (Some((build, _)), Ok(row)) = (key.split_first_chunk::<32>(), row) else {
                tracing::warn!("a row of an attested result is not readable");
                continue;
            };
            let holding = builds.entry(BuildId(*build)).or_default();
            // If the clock was ahead when it was written.
            let until = row.until.min(latest);
            holding.until = holding.until.max(Some(until));
            holding.is_over = true;
            holding.roots.extend(row.roots);
        }
        Ok(())
    }

    /// Gives up the results that were held long enough, and the oldest if there are too many.
    fn make_room(&self, meta: &Meta, now: WallTime) -> Result<(), StoreError> {
        let due: Vec<BuildId> = {
            let builds = self.lock();
            let results = builds.iter().filter(|it| it.1.is_over);
            let mut results: Vec<_> = results.map(|(id, it)| (it.until, *id)).collect();
            results.sort_unstable();
            let extra = results.len().saturating_sub(RESULTS_MAX - 1);
            let lapsed = results.partition_point(|it| it.0 <= Some(now));
            results.truncate(lapsed.max(extra));
            results.into_iter().map(|it| it.1).collect()
        };
        due.iter()
            .try_for_each(|it| self.drop_if(meta, it, |it| it.is_over))
    }

    /// Forgets a result, unless its build has begun again.
    fn drop_if(
        &self,
        meta: &Meta,
        build: &BuildId,
        is_due: impl Fn(&Holding) -> bool,
    ) -> Result<(), StoreError> {
        {
            let mut builds = self.lock();
            if !builds.get(build).is_some_and(is_due) {
                return Ok(());
            }
            builds.remove(build);
        }
        for (key, _) in meta.scan(RESULTS, &build.0, None)? {
            meta.remove(RESULTS, &key)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BuildId, Holding>> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(build: &BuildId, number: u16) -> Vec<u8> {
    [&build.0[..], &number.to_be_bytes()].concat()
}

/// Sees to it that nothing is evicted that `own` attested, or is about to.
///
/// # Errors
///
/// [`StoreError`] if the results of the last run cannot be read.
pub(crate) fn watch(store: &Store, own: NodeId, clock: Clock) -> Result<Arc<Attested>, StoreError> {
    let attested = Arc::new(Attested {
        own,
        builds: Mutex::default(),
        is_authorized: AtomicBool::new(false),
        is_blind: AtomicBool::new(false),
        clock,
    });
    attested.restore(store.meta())?;
    attested.make_room(store.meta(), clock.wall())?;
    let (judge, index) = (attested.clone(), store.index().clone());
    store
        .blobs()
        .on_evict(move |root| judge.judge(&index, root));
    Ok(attested)
}

/// Whether the log says that `own` has the artifact; `None` if it is in too many packages to tell.
fn is_source(index: &Index, root: &Blake3, own: &NodeId) -> Result<Option<bool>, StoreError> {
    let named = index.with_digest(&(*root).into())?;
    if FILES_MAX <= named.len() {
        return Ok(None);
    }
    for found in named.iter().filter(|it| it.removed.is_none()) {
        let Some(subject) = index.package_subject(&found.artifact.purl)? else {
            continue;
        };
        let attests = index.attestations(&subject)?;
        if attests.iter().any(|(_, it)| it.node == *own) {
            return Ok(Some(true));
        }
    }
    Ok(Some(false))
}

#[cfg(test)]
mod tests;
