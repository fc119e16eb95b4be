//! Receiving, keeping, evicting and losing artifacts; crashes at each step of it.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::base::{Blake3, Sha256};
use crate::store::disk::Step;
use crate::store::error::StoreError;
use crate::store::quota::Fate;
use crate::store::record::GROUP_BYTES;
use crate::store::recover::{Options, Recovery, Store};
use crate::store::staging::Staging;
use crate::store::tests::testing::{Failing, Sense, open, options};

/// Bytes that differ for each seed.
fn body(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = crate::base::Rng::new(seed);
    (0..len).map(|_| rng.next_u64().to_le_bytes()[0]).collect()
}

fn put(store: &Store, bytes: &[u8]) -> Result<Blake3, StoreError> {
    let blake3 = Blake3::of(bytes);
    if let Some(staging) = store.blobs().begin(blake3, bytes.len() as u64)? {
        staging.write_at(0, bytes)?;
        staging.mark(0..u64::MAX);
        staging.write_outboard_at(0, b"outboard")?;
        staging.finish(Sha256::of(bytes))?;
    }
    Ok(blake3)
}

fn read(store: &Store, blake3: &Blake3) -> Option<Vec<u8>> {
    let blob = store.blobs().open(blake3).unwrap()?;
    let mut bytes = vec![0; usize::try_from(blob.size()).unwrap() + 1];
    let count = blob.read_at(0, &mut bytes).unwrap();
    bytes.truncate(count);
    Some(bytes)
}

fn files(dir: &Path) -> usize {
    let folders = ["staging".into(), "blobs".to_owned()];
    let mut count = 0;
    for folder in folders {
        for it in fs::read_dir(dir.join(folder)).unwrap() {
            let path = it.unwrap().path();
            count += if path.is_dir() {
                fs::read_dir(path).unwrap().count()
            } else {
                1
            };
        }
    }
    count
}

#[test]
fn artifacts_of_every_size_class_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let sizes = [
        0,
        1,
        16 << 10,
        (16 << 10) + 1,
        64 << 10,
        (64 << 10) + 1,
        300_000,
    ];
    let bodies: Vec<_> = sizes.iter().map(|it| body(*it as u64, *it)).collect();
    for bytes in &bodies {
        put(&store, bytes).unwrap();
        assert_eq!(put(&store, bytes), Ok(Blake3::of(bytes)), "again is fine");
    }
    drop(store);
    let (store, recovery) = open(dir.path());
    assert_eq!(recovery, Recovery::default());
    let blobs = store.blobs();
    for bytes in &bodies {
        let blake3 = Blake3::of(bytes);
        assert_eq!(read(&store, &blake3).as_ref(), Some(bytes));
        assert_eq!(blobs.by_sha256(&Sha256::of(bytes)).unwrap(), Some(blake3));
        assert_eq!(blobs.verify(&blake3), Ok(true));
        let blob = blobs.open(&blake3).unwrap().unwrap();
        let (mut outboard, len) = ([0; 9], usize::try_from(blob.outboard_len()).unwrap());
        assert_eq!(blob.read_outboard_at(0, &mut outboard), Ok(len));
        assert_eq!(blob.read_at(u64::MAX, &mut outboard), Ok(0));
        assert_eq!(&outboard[..len], &b"outboard"[..len]);
    }
    assert_eq!(blobs.stat().count, 7);
    assert_eq!(blobs.list(None).unwrap().len(), 7);
    assert_eq!(files(dir.path()), 2 * 4, "four have files and outboards");
}

#[test]
fn tasks_that_received_the_same_bytes_all_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = body(1, 3 * 65_536);
    let (blake3, sha256) = (Blake3::of(&bytes), Sha256::of(&bytes));
    let size = bytes.len() as u64;
    let (store, _) = open(dir.path());
    // A peer is sending what several builds fetch as well.
    let named = store.blobs().begin(blake3, size).unwrap().unwrap();
    named.write_at(0, &bytes).unwrap();
    named.mark(0..3);
    named.checkpoint().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let unnamed = store.blobs().begin_unnamed(size).unwrap();
                unnamed.write_at(0, &bytes).unwrap();
                unnamed.finish(blake3, sha256, size).unwrap();
                assert!(read(&store, &blake3) == Some(bytes.clone()));
            });
        }
    });
    named.finish(sha256).unwrap();
    assert!(read(&store, &blake3) == Some(bytes.clone()));
    let stat = store.blobs().stat();
    assert_eq!((stat.count, stat.staging_bytes), (1, 0));
    drop(store);
    assert_eq!(files(dir.path()), 1, "nothing is left in staging");
}

#[test]
fn only_groups_of_the_last_checkpoint_are_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = body(1, 5 * 65_536 + 9);
    let (blake3, size) = (Blake3::of(&bytes), bytes.len() as u64);
    let write = |staging: &Staging, group: u64| {
        let from = usize::try_from(group * GROUP_BYTES).unwrap();
        let end = (from + 65_536).min(bytes.len());
        staging.write_at(from as u64, &bytes[from..end]).unwrap();
        staging.mark(group..group + 1);
    };
    let (store, _) = open(dir.path());
    let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
    assert!(matches!(
        store.blobs().begin(blake3, size),
        Err(StoreError::InUse(_))
    ));
    [0, 1, 4].into_iter().for_each(|it| write(&staging, it));
    staging.checkpoint().unwrap();
    write(&staging, 2);
    assert_eq!(staging.groups(), [0..3, 4..5]);
    assert_eq!(
        read(&store, &blake3),
        None,
        "nothing half-written is visible"
    );
    drop((staging, store));

    let (store, recovery) = open(dir.path());
    assert_eq!(recovery.resumable, 1);
    assert_eq!(store.blobs().stat().staging_bytes, size);
    let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
    assert_eq!(staging.groups(), [0..2, 4..5]);
    drop(staging);
    let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
    [2, 3].into_iter().for_each(|it| write(&staging, it));
    assert_eq!(
        staging.finish(Sha256::of(&bytes)),
        Err(StoreError::Incomplete {
            missing: 1,
            groups: 6
        })
    );
    let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
    [2, 3, 5].into_iter().for_each(|it| write(&staging, it));
    staging.finish(Sha256::of(&bytes)).unwrap();
    assert_eq!(read(&store, &blake3), Some(bytes.clone()));
    assert_eq!(store.blobs().stat().staging_bytes, 0);
    assert!(store.blobs().begin(blake3, size).unwrap().is_none());
}

#[test]
fn a_checkpoint_without_its_file_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (blake3, size) = (Blake3([7; 32]), 200_000);
    let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
    staging.mark(0..2);
    staging.checkpoint().unwrap();
    drop(staging);
    fs::remove_file(dir.path().join(format!("staging/{blake3}.part"))).unwrap();
    let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
    assert_eq!(staging.groups(), []);
    staging.discard().unwrap();
    assert_eq!(
        (files(dir.path()), store.blobs().stat().staging_bytes),
        (0, 0)
    );
}

#[test]
fn an_unnamed_artifact_gets_its_name_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for (seed, len) in [(1, 100), (2, 70_000), (2, 70_000)] {
        let bytes = body(seed, len);
        let staging = store.blobs().begin_unnamed(1 << 20).unwrap();
        staging.write_at(0, &bytes).unwrap();
        let mut back = vec![0; len];
        assert_eq!(staging.read_at(0, &mut back), Ok(len));
        staging
            .finish(Blake3::of(&bytes), Sha256::of(&bytes), len as u64)
            .unwrap();
        assert_eq!(read(&store, &Blake3::of(&bytes)), Some(bytes));
    }
    drop(store.blobs().begin_unnamed(0).unwrap());
    let stat = store.blobs().stat();
    assert_eq!((stat.count, stat.bytes, stat.staging_bytes), (2, 70_100, 0));
    assert_eq!(files(dir.path()), 1);
}

#[test]
fn writing_behind_the_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let staging = store
        .blobs()
        .begin(Blake3([1; 32]), 100_000)
        .unwrap()
        .unwrap();
    for (offset, bytes) in [(99_999, 2), (u64::MAX, 1)] {
        let refused = staging.write_at(offset, &vec![0; bytes]);
        assert!(
            matches!(refused, Err(StoreError::TooLarge { .. })),
            "{offset}"
        );
    }
    let huge = staging.write_outboard_at(1 << 40, b"x");
    assert!(matches!(huge, Err(StoreError::TooLarge { .. })));
    let refused = store.blobs().begin(Blake3([2; 32]), u64::MAX).map(|_| ());
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })));
}

#[test]
fn a_failure_at_any_step_of_finish_leaves_the_artifact_whole_or_invisible() {
    let bytes = body(3, 200_000);
    let blake3 = Blake3::of(&bytes);
    for step in [
        Step::Allocate("blob"),
        Step::Write("blob"),
        Step::Sync("blob"),
        Step::Rename("blob"),
        Step::SyncFolder("blob"),
        Step::Commit("log"),
    ] {
        for sense in [Sense::Before, Sense::After] {
            let dir = tempfile::tempdir().unwrap();
            let faults = Failing::new();
            let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
            faults.arm(step, sense);
            assert!(put(&store, &bytes).is_err(), "{step:?} {sense:?}");
            assert!(!faults.is_armed(), "{step:?}");
            let committed = (step, sense) == (Step::Commit("log"), Sense::After);
            drop(store);

            let (store, recovery) = open(dir.path());
            let expected = committed.then(|| bytes.clone());
            assert_eq!(read(&store, &blake3), expected, "{step:?} {sense:?}");
            assert_eq!(recovery.lost, []);
            put(&store, &bytes).unwrap();
            assert_eq!(read(&store, &blake3).as_ref(), Some(&bytes));
            assert_eq!(files(dir.path()), 2, "{step:?} {sense:?}");
        }
    }
}

#[test]
fn a_failed_checkpoint_is_not_repeated_and_the_last_one_stands() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Failing::new();
    let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
    let (blake3, size) = (Blake3([7; 32]), 200_000);
    let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
    staging.mark(0..1);
    staging.checkpoint().unwrap();
    staging.mark(1..2);
    faults.arm(Step::Sync("blob"), Sense::After);
    let failed = staging.checkpoint();
    assert!(matches!(failed, Err(StoreError::Failed { .. })));
    assert_eq!(staging.checkpoint(), failed);
    drop(staging);
    let staging = store.blobs().begin(blake3, size).unwrap().unwrap();
    assert_eq!(staging.groups(), vec![0..1; 1]);
}

#[test]
fn damaged_files_are_removed_and_reported_and_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let bodies: Vec<_> = (0..4).map(|it| body(it, 100_000)).collect();
    let digests: Vec<_> = bodies.iter().map(|it| put(&store, it).unwrap()).collect();
    let path = |it: usize| store.blobs().0.path(&digests[it]);
    let is_corrupt = |it| matches!(it, Err(StoreError::Corrupt { .. }));

    let mut flipped = bodies[0].clone();
    flipped[50_000] ^= 1;
    fs::write(path(0), flipped).unwrap();
    assert!(is_corrupt(store.blobs().verify(&digests[0])));
    fs::write(path(1), b"short").unwrap();
    assert!(is_corrupt(store.blobs().open(&digests[1]).map(|_| true)));
    for it in [0, 1] {
        assert_eq!(read(&store, &digests[it]), None);
        assert!(!path(it).exists());
        assert_eq!(store.blobs().verify(&digests[it]), Ok(false));
    }
    let removed = path(2);
    drop(store);
    fs::remove_file(&removed).unwrap();
    fs::write(removed.with_file_name("garbage"), b"").unwrap();
    fs::write(dir.path().join("staging/unnamed-0.part"), b"").unwrap();
    fs::write(dir.path().join("blobs/not-a-folder"), b"").unwrap();
    let (store, recovery) = open(dir.path());
    assert_eq!((recovery.lost, recovery.lost_count), (vec![digests[2]], 1));
    assert_eq!(recovery.garbage_files, 2);
    assert_eq!(store.blobs().stat().count, 1);
    assert_eq!(read(&store, &digests[3]).as_ref(), Some(&bodies[3]));
}

#[test]
fn the_least_recently_used_goes_and_what_is_pinned_or_read_stays() {
    let dir = tempfile::tempdir().unwrap();
    let quota = Options {
        quota_bytes: 1_000_000,
        ..options()
    };
    let (store, _) = Store::open(dir.path(), quota).unwrap();
    let blobs = store.blobs();
    let bodies: Vec<_> = (0..9).map(|it| body(it, 100_000)).collect();
    let digests: Vec<_> = bodies.iter().map(|it| put(&store, it).unwrap()).collect();
    assert_eq!(blobs.set_pinned(&digests[0], true), Ok(true));
    assert_eq!(blobs.set_pinned(&Blake3([0; 32]), true), Ok(false));
    let reader = blobs.open(&digests[1]).unwrap().unwrap();
    drop(blobs.open(&digests[2]).unwrap());
    // 9 × 100,008 are in use; 200,000 more lead to the low mark: three must go.
    put(&store, &body(99, 200_000)).unwrap();
    let kept: Vec<_> = (0..9)
        .filter(|it| blobs.contains(&digests[*it]).unwrap())
        .collect();
    assert_eq!(kept, [0, 1, 2, 6, 7, 8]);
    let mut all = vec![0; 100_000];
    assert_eq!(reader.read_at(0, &mut all), Ok(100_000));
    assert_eq!(all, bodies[1]);

    let too_much = blobs.begin(Blake3([9; 32]), 1_000_001).map(|_| ());
    assert_eq!(
        too_much,
        Err(StoreError::Quota {
            bytes: 1_000_001,
            quota: 1_000_000
        })
    );
    let blocked = blobs.begin(Blake3([9; 32]), 850_000).map(|_| ());
    assert!(
        matches!(blocked, Err(StoreError::Quota { .. })),
        "pinned and read"
    );
    drop(reader);
    assert!(blobs.begin(Blake3([9; 32]), 850_000).unwrap().is_some());
    assert_eq!(blobs.stat().pinned_bytes, 100_008);
}

#[test]
fn a_pin_that_fails_leaves_nothing_claimed() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Failing::new();
    let quota = Options {
        quota_bytes: 1_000_000,
        ..faults.options()
    };
    let (store, _) = Store::open(dir.path(), quota).unwrap();
    let blobs = store.blobs();
    let bodies: Vec<_> = (0..9).map(|it| body(it, 100_000)).collect();
    let digests: Vec<_> = bodies.iter().map(|it| put(&store, it).unwrap()).collect();
    let vouched = digests[0];
    blobs.on_evict(move |it| match *it == vouched {
        true => Fate::Pin,
        false => Fate::Evict,
    });
    faults.arm_full(Step::Commit("log"), Sense::Before);
    let full = blobs.begin(Blake3([9; 32]), 200_000).map(|_| ());
    assert!(matches!(full, Err(StoreError::DiskFull { .. })));
    for (digest, bytes) in digests.iter().zip(&bodies) {
        assert_eq!(read(&store, digest).as_ref(), Some(bytes), "readable");
    }
    for digest in &digests[1..] {
        assert_eq!(blobs.remove(digest), Ok(true), "removable");
    }
    assert!(blobs.begin(Blake3([9; 32]), 200_000).unwrap().is_some());
}

#[test]
fn pins_are_made_in_bounded_steps_that_a_failure_does_not_undo() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Failing::new();
    let quota = Options {
        quota_bytes: 1_000_000,
        ..faults.options()
    };
    let (store, _) = Store::open(dir.path(), quota).unwrap();
    for seed in 0..600 {
        put(&store, &body(seed, 1_000)).unwrap();
    }
    let (asked, disk) = (AtomicU64::new(0), faults.clone());
    store.blobs().on_evict(move |_| {
        if asked.fetch_add(1, Ordering::Relaxed) == 300 {
            disk.arm_full(Step::Commit("log"), Sense::Before);
        }
        Fate::Pin
    });
    let full = store.blobs().begin(Blake3([9; 32]), 900_000).map(|_| ());
    assert!(matches!(full, Err(StoreError::DiskFull { .. })));
    assert_eq!(store.blobs().stat().pinned_bytes, 256 * 1_000);
    let blocked = store.blobs().begin(Blake3([9; 32]), 900_000).map(|_| ());
    assert!(matches!(blocked, Err(StoreError::Quota { .. })));
    assert_eq!(store.blobs().stat().pinned_bytes, 600 * 1_000);
}

#[test]
fn who_fits_does_not_wait_for_who_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let quota = Options {
        quota_bytes: 1_000_000,
        ..options()
    };
    let (store, _) = Store::open(dir.path(), quota).unwrap();
    for seed in 0..9 {
        put(&store, &body(seed, 100_000)).unwrap();
    }
    let ((ask, asked), (answer, answered)) = (mpsc::channel(), mpsc::channel::<()>());
    let answered = Mutex::new(answered);
    let waited = Duration::from_secs(20);
    store.blobs().on_evict(move |_| {
        ask.send(()).unwrap();
        match answered.lock().unwrap().recv_timeout(waited) {
            Ok(()) => Fate::Evict,
            // Nobody else could go on.
            Err(_) => Fate::Stay,
        }
    });
    std::thread::scope(|scope| {
        let large = scope.spawn(|| put(&store, &body(10, 200_000)));
        asked.recv().unwrap();
        put(&store, &body(11, 50_000)).unwrap();
        for _ in 0..9 {
            answer.send(()).unwrap();
        }
        large.join().unwrap().unwrap();
    });
    assert_eq!(store.blobs().stat().count, 8, "three of nine have gone");
}

#[test]
fn abandoned_downloads_go_before_stored_artifacts() {
    let dir = tempfile::tempdir().unwrap();
    let quota = Options {
        quota_bytes: 1_000_000,
        ..options()
    };
    let (store, _) = Store::open(dir.path(), quota).unwrap();
    let kept = put(&store, &body(1, 400_000)).unwrap();
    let staging = store
        .blobs()
        .begin(Blake3([7; 32]), 500_000)
        .unwrap()
        .unwrap();
    staging.checkpoint().unwrap();
    drop(staging);
    put(&store, &body(2, 300_000)).unwrap();
    assert_eq!(store.blobs().contains(&kept), Ok(true));
    assert_eq!(store.blobs().stat().staging_bytes, 0);
}
