//! Unfinished builds, and changes that wait for consent: what survives a restart.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::Blake3;
use crate::proto::build;
use crate::proto::pool::{Marks, PoolMessage};
use crate::store::{MetaRow, Store, StoreError};

const BUILDS: &str = "builds";
const CHANGES: &str = "changes";

/// Unfinished builds on their way to the store, one list at a time.
#[derive(Default)]
pub(crate) struct Unsaved {
    /// The newest list that waits.
    waiting: Mutex<Option<Vec<build::Pending>>>,
    /// Held while a list is taken and written, so that an older one is never written last.
    writing: Mutex<()>,
}

impl Unsaved {
    /// Takes the place of a list that waits; false if there was one, so that it is as good as
    /// written.
    pub(crate) fn put(&self, pending: Vec<build::Pending>) -> bool {
        lock(&self.waiting).replace(pending).is_none()
    }

    /// Writes the list that waits. Blocks on the disk.
    pub(crate) fn write(&self, store: &Store) {
        let _one_at_a_time = lock(&self.writing);
        let Some(pending) = lock(&self.waiting).take() else {
            return;
        };
        if let Err(error) = save_builds(store, pending) {
            tracing::warn!(%error, "unfinished builds were not saved");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unfinished builds of the last run.
pub(crate) fn load_builds(store: &Store) -> Vec<build::Pending> {
    let rows = store.meta().scan(BUILDS, b"", None).unwrap_or_default();
    rows.iter()
        .filter_map(|(_, value)| build::Pending::from_bytes(value).ok())
        .collect()
}

fn save_builds(store: &Store, pending: Vec<build::Pending>) -> Result<(), StoreError> {
    let rows = pending.into_iter();
    let rows = rows.map(|it| (it.request.spec.id().0.to_vec(), it.to_bytes()));
    save(store, BUILDS, rows)
}

/// Changes that waited for consent in the last run.
pub(crate) fn load_changes(store: &Store) -> Vec<Marks> {
    let rows = store.meta().scan(CHANGES, b"", None).unwrap_or_default();
    rows.iter()
        .filter_map(|(_, value)| match PoolMessage::from_bytes(value) {
            Ok(PoolMessage::Marks(marks)) => Some(marks),
            _ => None,
        })
        .collect()
}

/// Stores `changes` in place of those before. Blocks for commits.
///
/// # Errors
///
/// [`StoreError`] if the disk refuses.
pub(crate) fn save_changes(store: &Store, changes: Vec<Marks>) -> Result<(), StoreError> {
    let rows = changes.into_iter().map(|it| {
        let change = PoolMessage::Marks(Marks {
            marks: Vec::new(),
            ready: None,
            ..it.clone()
        });
        let key = Blake3::of(&change.to_bytes()).0.to_vec();
        (key, PoolMessage::Marks(it).to_bytes())
    });
    save(store, CHANGES, rows)
}

/// Makes `rows` the only ones of a namespace.
fn save(
    store: &Store,
    namespace: &str,
    rows: impl Iterator<Item = MetaRow>,
) -> Result<(), StoreError> {
    let meta = store.meta();
    let stale = meta.scan(namespace, b"", None)?;
    let mut stale: BTreeMap<Vec<u8>, Vec<u8>> = stale.into_iter().collect();
    for (key, value) in rows {
        if stale.remove(&key).as_ref() != Some(&value) {
            meta.put(namespace, &key, &value)?;
        }
    }
    for key in stale.into_keys() {
        meta.remove(namespace, &key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::WallTime;
    use crate::proto::build::{BuildRequest, Maven, Pending};
    use crate::proto::chain::testing::node_keys;
    use crate::proto::pool::Change;
    use crate::store::Options;

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
            Marks {
                change,
                marks: vec![mark],
                ready: None,
            }
        };
        for list in [vec![marks(1), marks(2)], vec![marks(2)], vec![]] {
            save_changes(&store, list.clone()).unwrap();
            let mut stored = load_changes(&store);
            stored.sort_by_key(|it| format!("{:?}", it.change));
            assert_eq!(stored, list);
        }
    }

    #[test]
    fn a_list_waits_while_another_is_written_and_gives_way_to_a_newer_one() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path(), Options::default()).unwrap();
        let unsaved = Unsaved::default();
        assert!(unsaved.put(vec![pending("1")]));
        unsaved.write(&store);
        assert_eq!(load_builds(&store), [pending("1")]);
        std::thread::scope(|scope| {
            let another = lock(&unsaved.writing);
            assert!(unsaved.put(vec![pending("2")]));
            scope.spawn(|| unsaved.write(&store));
            // Were the list taken before its turn, this one would need a writer of its own.
            assert!(!unsaved.put(vec![pending("3")]));
            drop(another);
        });
        assert_eq!(load_builds(&store), [pending("3")]);
    }
}
