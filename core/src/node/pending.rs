//! Unfinished builds, which survive a restart.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::proto::build;
use crate::store::{Store, StoreError};

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
    let rows = store.meta().scan("builds", b"", None).unwrap_or_default();
    rows.iter()
        .filter_map(|(_, value)| build::Pending::from_bytes(value).ok())
        .collect()
}

fn save_builds(store: &Store, pending: Vec<build::Pending>) -> Result<(), StoreError> {
    let mut stale: BTreeMap<Vec<u8>, Vec<u8>> = store
        .meta()
        .scan("builds", b"", None)?
        .into_iter()
        .collect();
    for it in pending {
        let (key, value) = (it.request.spec.id().0, it.to_bytes());
        if stale.remove(&key[..]).as_ref() != Some(&value) {
            store.meta().put("builds", &key, &value)?;
        }
    }
    for key in stale.into_keys() {
        store.meta().remove("builds", &key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::WallTime;
    use crate::proto::build::{BuildRequest, Maven, Pending};
    use crate::proto::chain::testing::node_keys;
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
