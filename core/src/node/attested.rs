//! Bytes that this node vouches for: the log names it as a source of them, so they must not be
//! evicted.
//!
//! The quota asks about each artifact that it would evict. What a build under way has stored stays
//! until the build is over; what the log says this node attested is pinned while the node is
//! authorized. A pin outlasts the removal of the package from the log and of the node from the
//! authorized ones: it is ended by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{Blake3, NodeId};
use crate::proto::build::BuildId;
use crate::store::{Fate, Index, Store, StoreError};

/// What builds under way have stored or found in the store. Bounded by the number of builds and of
/// files of each.
#[derive(Debug, Default)]
pub(crate) struct Attested {
    builds: Mutex<BTreeMap<BuildId, BTreeSet<Blake3>>>,
    is_authorized: AtomicBool,
}

impl Attested {
    /// Keeps an artifact until [`Attested::forget`].
    pub(crate) fn hold(&self, build: BuildId, root: Blake3) {
        self.lock().entry(build).or_default().insert(root);
    }

    /// The build is over.
    pub(crate) fn forget(&self, build: &BuildId) {
        self.lock().remove(build);
    }

    /// Whether this node is authorized from now on.
    pub(crate) fn authorize(&self, is_authorized: bool) {
        self.is_authorized.store(is_authorized, Ordering::Relaxed);
    }

    fn holds(&self, root: &Blake3) -> bool {
        self.lock().values().any(|it| it.contains(root))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BuildId, BTreeSet<Blake3>>> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees to it that nothing is evicted that `own` attested, or is about to.
pub(crate) fn watch(store: &Store, own: NodeId) -> Arc<Attested> {
    let attested = Arc::new(Attested::default());
    let (held, index) = (attested.clone(), store.index().clone());
    store.blobs().on_evict(move |root| {
        if held.holds(root) {
            return Fate::Stay;
        }
        if !held.is_authorized.load(Ordering::Relaxed) {
            return Fate::Evict;
        }
        match is_source(&index, root, &own) {
            Ok(true) => Fate::Pin,
            Ok(false) => Fate::Evict,
            // A read that failed does not say that it may go.
            Err(error) => {
                tracing::debug!(%root, %error, "not evicted");
                Fate::Stay
            }
        }
    });
    attested
}

/// What the store refuses, with the setting that helps.
pub(crate) fn refused(error: &StoreError) -> io::Error {
    match error {
        StoreError::Quota { bytes, quota } => io::Error::other(format!(
            "{bytes} bytes do not fit into the {} MiB that `limits.disk_mb` allows, because what \
             this node attested or pinned stays; raise the limit",
            quota >> 20
        )),
        other => io::Error::other(other.to_string()),
    }
}

/// Whether the log says that `own` has the artifact.
fn is_source(index: &Index, root: &Blake3, own: &NodeId) -> Result<bool, StoreError> {
    for found in index.with_digest(&(*root).into())? {
        if found.removed.is_some() {
            continue;
        }
        let Some(subject) = index.package_subject(&found.artifact.purl)? else {
            continue;
        };
        let attests = index.attestations(&subject)?;
        if attests.iter().any(|(_, it)| it.node == *own) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Sha256;
    use crate::proto::log::entry::{AddArtifact, Attest, Entry, package_subject};
    use crate::store::Options;
    use crate::store::tests::testing::{Maker, artifact, node};

    const QUOTA: u64 = 1 << 20;

    fn store(dir: &std::path::Path) -> Store {
        let options = Options {
            quota_bytes: QUOTA,
            reserve_bytes: 0,
            ..Options::default()
        };
        Store::open(dir, options).unwrap().0
    }

    fn put(store: &Store, bytes: &[u8]) -> Result<Blake3, StoreError> {
        let (root, len) = (Blake3::of(bytes), bytes.len() as u64);
        let staging = store.blobs().begin_unnamed(len)?;
        staging.write_at(0, bytes)?;
        staging.finish(root, Sha256::of(bytes), len)?;
        Ok(root)
    }

    fn body(number: u8) -> Vec<u8> {
        vec![number; 200_000]
    }

    /// The file of a package of its own with the bytes of `body(number)`.
    fn file(number: u8) -> AddArtifact {
        let bytes = body(number);
        AddArtifact {
            blake3: Blake3::of(&bytes),
            sha256: Sha256::of(&bytes),
            size: bytes.len() as u64,
            ..artifact(&format!("pkg:maven/g/a@{number}"), "a.jar")
        }
    }

    fn attest(file: &AddArtifact, by: NodeId) -> Entry {
        Entry::Attest(Attest {
            subject: package_subject([file]),
            node: by,
            time: crate::base::WallTime::default(),
            signature: crate::base::Signature([0; 64]),
        })
    }

    #[test]
    fn what_this_node_attested_stays_and_the_rest_is_evicted() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let (alice, bob) = (node(1), node(2));
        let attested = watch(&store, alice);
        attested.authorize(true);
        let (own, others, held) = (file(1), file(2), body(3));
        let entries = [
            Entry::AddArtifact(Box::new(own.clone())),
            attest(&own, alice),
            Entry::AddArtifact(Box::new(others.clone())),
            attest(&others, bob),
        ];
        Maker::default().append(&store, &entries);
        for number in [1, 2, 3] {
            put(&store, &body(number)).unwrap();
        }
        let build = BuildId([7; 32]);
        attested.hold(build, Blake3::of(&held));
        // Newer ones come until nothing old is left but what must stay.
        for number in 10..30 {
            put(&store, &body(number)).unwrap();
        }
        let has = |it: &Blake3| store.blobs().contains(it).unwrap();
        assert!(has(&own.blake3) && has(&Blake3::of(&held)));
        assert!(!has(&others.blake3));
        let pinned = |it| {
            store
                .blobs()
                .info(it)
                .unwrap()
                .is_some_and(|it| it.is_pinned)
        };
        assert!(pinned(&own.blake3) && !pinned(&Blake3::of(&held)));
        // The build has failed: nobody needs its bytes.
        attested.forget(&build);
        for number in 30..40 {
            put(&store, &body(number)).unwrap();
        }
        assert!(has(&own.blake3) && !has(&Blake3::of(&held)));
    }

    #[test]
    fn who_is_not_authorized_vouches_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let own = file(1);
        let entries = [
            Entry::AddArtifact(Box::new(own.clone())),
            attest(&own, node(1)),
        ];
        Maker::default().append(&store, &entries);
        let attested = watch(&store, node(1));
        attested.authorize(true);
        attested.authorize(false);
        for number in [1].into_iter().chain(10..20) {
            put(&store, &body(number)).unwrap();
        }
        assert_eq!(store.blobs().contains(&own.blake3), Ok(false));
    }

    #[test]
    fn a_build_that_does_not_fit_beside_what_must_stay_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let attested = watch(&store, node(1));
        let refused = (1..20).find_map(|number| {
            attested.hold(BuildId([number; 32]), Blake3::of(&body(number)));
            put(&store, &body(number)).err()
        });
        assert!(matches!(
            refused,
            Some(StoreError::Quota { quota: QUOTA, .. })
        ));
        assert_eq!(store.blobs().stat().count, 5, "all that fits is there");
        let text = super::refused(&refused.unwrap()).to_string();
        assert!(
            text.contains("200000 bytes") && text.contains("1 MiB"),
            "{text}"
        );
        assert!(text.contains("`limits.disk_mb`"), "{text}");
    }
}
