//! Unfinished builds, and changes that wait for consent: what survives a restart.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::{Blake3, codec};
use crate::proto::build;
use crate::proto::pool::Kept;
use crate::store::meta::VALUE_BYTES_MAX;
use crate::store::{MetaRow, Store, StoreError};

const BUILDS: &str = "builds";
const CHANGES: &str = "changes";

/// Unfinished builds on their way to the store, one list at a time.
pub(crate) struct Unsaved {
    /// The newest list that waits.
    waiting: Mutex<Option<Vec<build::Pending>>>,
    /// Held while a list is taken and written, so that an older one is never written last. How the
    /// last write ended.
    writing: Mutex<Result<(), StoreError>>,
}

impl Default for Unsaved {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            writing: Mutex::new(Ok(())),
        }
    }
}

impl Unsaved {
    /// Takes the place of a list that waits; false if there was one, so that it is as good as
    /// written.
    pub(crate) fn put(&self, pending: Vec<build::Pending>) -> bool {
        lock(&self.waiting).replace(pending).is_none()
    }

    /// Writes the list that waits, and returns when it, or a newer one, is durable. Blocks on the
    /// disk.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the disk refuses; the list is dropped.
    pub(crate) fn write(&self, store: &Store) -> Result<(), StoreError> {
        let mut last = lock(&self.writing);
        // Let go of the lock at once: the loop takes it too.
        let waiting = lock(&self.waiting).take();
        // If none waits, another writer has taken it: how that ended is the answer.
        if let Some(pending) = waiting {
            *last = save_builds(store, pending);
        }
        last.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unfinished builds of the last run.
///
/// # Errors
///
/// [`StoreError`] if they cannot be read: to go on without them would lose them.
pub(crate) fn load_builds(store: &Store) -> Result<Vec<build::Pending>, StoreError> {
    let rows = store.meta().all(BUILDS)?;
    let decode = |(_, value): &MetaRow| {
        let decoded = build::Pending::from_bytes(value);
        decoded
            .inspect_err(|error| tracing::warn!(%error, "an unfinished build is not readable"))
            .ok()
    };
    Ok(rows.iter().filter_map(decode).collect())
}

fn save_builds(store: &Store, pending: Vec<build::Pending>) -> Result<(), StoreError> {
    let rows = pending.into_iter().map(|it| {
        let (key, value) = (it.request.spec.id().0.to_vec(), it.to_bytes());
        if value.len() <= VALUE_BYTES_MAX {
            return (key, value);
        }
        // The request is what counts: peers tell their reports again.
        let reports = Vec::new();
        (key, build::Pending { reports, ..it }.to_bytes())
    });
    store.meta().replace(BUILDS, rows)
}

/// Changes that waited for consent in the last run.
///
/// # Errors
///
/// As for [`load_builds`].
pub(crate) fn load_changes(store: &Store) -> Result<Vec<Kept>, StoreError> {
    let rows = store.meta().all(CHANGES)?;
    let decode = |(_, value): &MetaRow| {
        let decoded = Kept::from_bytes(value);
        decoded
            .inspect_err(|error| {
                tracing::warn!(%error, "a change that waits for consent is not readable");
            })
            .ok()
    };
    Ok(rows.iter().filter_map(decode).collect())
}

/// Stores `changes` in place of those before. Blocks for a commit.
///
/// # Errors
///
/// [`StoreError`] if the disk refuses.
pub(crate) fn save_changes(store: &Store, changes: Vec<Kept>) -> Result<(), StoreError> {
    let rows = changes.into_iter().map(|it| {
        let key = Blake3::of(&codec::encode(&it.marks.change)).0.to_vec();
        (key, it.to_bytes())
    });
    store.meta().replace(CHANGES, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::WallTime;
    use crate::proto::build::{BuildRequest, Maven, Pending};
    use crate::proto::chain::testing::node_keys;
    use crate::proto::pool::{Change, Marks};
    use crate::store::tests::testing::{Failing, Sense};
    use crate::store::{Options, Step};

    fn pending(version: &str) -> Pending {
        let spec = Maven::new(None, "g", "a", version).unwrap().into();
        let (node, time, attempt) = (node_keys(1).id(), WallTime::default(), 1);
        let request = BuildRequest {
            spec,
            node,
            time,
            attempt,
        };
        Pending {
            request,
            reports: Vec::new(),
        }
    }

    #[test]
    fn waiting_changes_are_stored_in_place_of_those_before() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path(), Options::default()).unwrap();
        let keys = node_keys(1);
        let chain = crate::base::ChainId([7; 32]);
        let marks = |index| {
            let reason = "malware".into();
            let change = Change::RemoveArtifact { index, reason };
            let mark = change.consent().mark(&chain, keys.id(), &keys.admin);
            let marks = Marks {
                change,
                marks: vec![mark],
                ready: None,
            };
            let (owner, until) = (keys.id(), WallTime::from_millis(index));
            Kept {
                marks,
                owner,
                until,
            }
        };
        for list in [vec![marks(1), marks(2)], vec![marks(2)], vec![]] {
            save_changes(&store, list.clone()).unwrap();
            let mut stored = load_changes(&store).unwrap();
            stored.sort_by_key(|it| it.until);
            assert_eq!(stored, list);
        }
    }

    #[test]
    fn a_list_waits_while_another_is_written_and_gives_way_to_a_newer_one() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path(), Options::default()).unwrap();
        let unsaved = Unsaved::default();
        assert!(unsaved.put(vec![pending("1")]));
        unsaved.write(&store).unwrap();
        assert_eq!(load_builds(&store), Ok(vec![pending("1")]));
        std::thread::scope(|scope| {
            let another = lock(&unsaved.writing);
            assert!(unsaved.put(vec![pending("2")]));
            scope.spawn(|| unsaved.write(&store).unwrap());
            // Were the list taken before its turn, this one would need a writer of its own.
            assert!(!unsaved.put(vec![pending("3")]));
            drop(another);
        });
        assert_eq!(load_builds(&store), Ok(vec![pending("3")]));
    }

    #[test]
    fn a_list_that_another_writer_could_not_write_is_not_durable() {
        let folder = tempfile::tempdir().unwrap();
        let faults = Failing::new();
        let (store, _) = Store::open(folder.path(), faults.options()).unwrap();
        let unsaved = Unsaved::default();
        unsaved.put(vec![pending("1")]);
        faults.arm_full(Step::Commit("log"), Sense::Before);
        let full = unsaved.write(&store);
        assert!(matches!(full, Err(StoreError::DiskFull { .. })));
        assert_eq!(unsaved.write(&store), full, "who put it there hears of it");
        assert!(
            unsaved.put(vec![pending("2")]),
            "the next list gets a writer"
        );
        assert_eq!(unsaved.write(&store), Ok(()));
        assert_eq!(load_builds(&store), Ok(vec![pending("2")]));
    }
}
