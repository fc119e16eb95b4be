//! What stays, for how long, and over restarts.

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
    let attested = watch(&store, alice, Clock::start()).unwrap();
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
    assert!(!attested.over(&build));
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
    let attested = watch(&store, node(1), Clock::start()).unwrap();
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
    let attested = watch(&store, node(1), Clock::start()).unwrap();
    let refused = (1..20).find_map(|number| {
        attested.hold(BuildId([number; 32]), Blake3::of(&body(number)));
        put(&store, &body(number)).err()
    });
    assert!(matches!(
        refused,
        Some(StoreError::Quota { quota: QUOTA, .. })
    ));
    assert_eq!(store.blobs().stat().count, 5, "all that fits is there");
    let text = attested.refused(&refused.unwrap()).to_string();
    assert!(
        text.contains("200000 bytes") && text.contains("1 MiB"),
        "{text}"
    );
    assert!(text.contains("`limits.disk_mb`"), "{text}");
}

fn is_pinned(store: &Store, root: &Blake3) -> bool {
    store.blobs().info(root).unwrap().unwrap().is_pinned
}

#[test]
fn what_the_log_names_is_pinned_when_its_build_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let attested = watch(&store, node(1), Clock::start()).unwrap();
    attested.authorize(true);
    let (build, own) = (BuildId([7; 32]), file(1));
    put(&store, &body(1)).unwrap();
    attested.hold(build, own.blake3);
    attested.keep(store.meta(), build).unwrap();
    let entries = [
        Entry::AddArtifact(Box::new(own.clone())),
        attest(&own, node(1)),
    ];
    Maker::default().append(&store, &entries);
    assert!(attested.over(&build));
    attested.settle(&store, &build).unwrap();
    assert!(is_pinned(&store, &own.blake3));
    assert_eq!(store.meta().all(RESULTS), Ok(vec![]));
    assert!(!attested.holds(&own.blake3, WallTime::default()));
}

#[test]
fn what_was_attested_stays_as_long_as_its_group_may_wait_also_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (build, root) = (BuildId([7; 32]), Blake3::of(&body(1)));
    let clock = Clock::start();
    let begun = clock.wall();
    {
        let store = store(dir.path());
        let attested = watch(&store, node(1), clock).unwrap();
        attested.authorize(true);
        put(&store, &body(1)).unwrap();
        attested.hold(build, root);
        attested.keep(store.meta(), build).unwrap();
        // No block took it in time.
        assert!(attested.over(&build));
        attested.settle(&store, &build).unwrap();
        assert!(!is_pinned(&store, &root));
    }
    let store = store(dir.path());
    let attested = watch(&store, node(1), clock).unwrap();
    attested.authorize(true);
    for number in 10..30 {
        put(&store, &body(number)).unwrap();
    }
    assert_eq!(store.blobs().contains(&root), Ok(true));
    let lapsed = clock.wall() + HELD_TIME;
    assert!(attested.holds(&root, begun) && !attested.holds(&root, lapsed));
    attested.make_room(store.meta(), lapsed).unwrap();
    assert_eq!(store.meta().all(RESULTS), Ok(vec![]));
    for number in 10..30 {
        put(&store, &body(number)).unwrap();
    }
    assert_eq!(store.blobs().contains(&root), Ok(false));
}

#[test]
fn results_that_are_held_have_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let attested = watch(&store, node(1), Clock::start()).unwrap();
    let build = |it: usize| BuildId(Blake3::of(&it.to_be_bytes()).0);
    let root = Blake3([1; 32]);
    for (at, millis) in (0..=RESULTS_MAX).zip(1..) {
        let holding = Holding {
            roots: [root].into(),
            is_over: true,
            until: Some(WallTime::from_millis(millis)),
        };
        attested.lock().insert(build(at), holding);
    }
    attested
        .make_room(store.meta(), WallTime::default())
        .unwrap();
    let builds = attested.lock();
    assert_eq!(builds.len(), RESULTS_MAX - 1, "there is room for one");
    assert!(!builds.contains_key(&build(1)) && builds.contains_key(&build(2)));
}

#[test]
fn what_is_in_too_many_packages_to_tell_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let attested = watch(&store, node(1), Clock::start()).unwrap();
    attested.authorize(true);
    let shared = file(1);
    let packages = |count: usize| -> Vec<Entry> {
        let entry = |it| AddArtifact {
            purl: format!("pkg:maven/g/b@{it}"),
            ..shared.clone()
        };
        (0..count)
            .map(|it| Entry::AddArtifact(Box::new(entry(it))))
            .collect()
    };
    let mut log = Maker::default();
    log.append(&store, &packages(1));
    let fate = || attested.judge(store.index(), &shared.blake3);
    assert_eq!(fate(), Fate::Evict, "others attested it");
    log.append(&store, &packages(FILES_MAX - 1));
    assert_eq!(fate(), Fate::Stay);
}

#[test]
fn pins_are_not_blamed_while_the_log_cannot_be_asked() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let attested = watch(&store, node(1), Clock::start()).unwrap();
    let error = StoreError::Quota {
        bytes: 1,
        quota: QUOTA,
    };
    for (is_blind, said) in [(false, "raise the limit"), (true, "try again")] {
        attested.is_blind.store(is_blind, Ordering::Relaxed);
        let text = attested.refused(&error).to_string();
        assert!(text.contains(said), "{text}");
    }
}
