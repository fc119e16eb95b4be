//! The consensus journal: torn at every byte, damaged at every place, failing at each step.

use std::fs;
use std::path::Path;

use crate::store::disk::Step;
use crate::store::error::StoreError;
use crate::store::recover::Store;
use crate::store::tests::testing::{Failing, Sense, open};
use crate::store::wal::{HEAD_BYTES, MARK, PART, RECORD_HEAD_BYTES, WAL_RECORD_BYTES_MAX};

fn payloads(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|it| vec![it; usize::from(it) * 7]).collect()
}

/// A journal of height 5 with `synced` synced records, then `loose` others.
fn write(dir: &Path, synced: u8, loose: u8) {
    let (store, _) = open(dir);
    let mut wal = store.open_wal().unwrap();
    wal.reset(5).unwrap();
    for (at, payload) in payloads(synced + loose).iter().enumerate() {
        wal.append(payload).unwrap();
        if at < usize::from(synced) {
            wal.sync().unwrap();
        }
    }
}

fn reopened(dir: &Path) -> Result<Vec<Vec<u8>>, StoreError> {
    open(dir).0.open_wal()?.records(5)
}

#[test]
fn records_survive_a_restart_for_their_height_only() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 9, 0);
    let (store, _) = open(dir.path());
    let mut wal = store.open_wal().unwrap();
    assert_eq!((wal.height(), wal.records(5)), (5, Ok(payloads(9))));
    assert_eq!(wal.records(6), Ok(vec![]));
    wal.append(b"more").unwrap();
    wal.reset(5).unwrap();
    assert_eq!(wal.records(5).unwrap().last().unwrap(), b"more");
    assert!(matches!(wal.reset(4), Err(StoreError::Corrupt { .. })));
    wal.reset(6).unwrap();
    assert_eq!((wal.records(5), wal.records(6)), (Ok(vec![]), Ok(vec![])));
    assert!(matches!(store.open_wal(), Err(StoreError::Busy(_))));
    drop(wal);
    assert_eq!(store.open_wal().unwrap().height(), 6);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 2, 3);
    let path = dir.path().join("wal");
    let whole = fs::read(&path).unwrap();
    let ends: Vec<_> = (0..=5_usize)
        .map(|it| HEAD_BYTES + it * RECORD_HEAD_BYTES + (0..it).sum::<usize>() * 7)
        .collect();
    assert_eq!(ends.last(), Some(&whole.len()));
    let (store, _) = open(dir.path());
    for cut in (HEAD_BYTES..whole.len()).step_by(5) {
        fs::write(&path, &whole[..cut]).unwrap();
        let wal = store.open_wal().unwrap();
        let left = ends.iter().filter(|it| **it <= cut).count() - 1;
        assert_eq!(wal.records(5), Ok(payloads(5)[..left].to_vec()), "{cut}");
        assert_eq!(fs::metadata(&path).unwrap().len(), ends[left] as u64);
    }
    // Not even the head is there: a reset that nothing was promised after.
    for cut in [0, 1, HEAD_BYTES - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut wal = store.open_wal().unwrap();
        assert_eq!((wal.height(), wal.records(5)), (0, Ok(vec![])));
        assert!(wal.append(b"x").is_err(), "no height was begun");
        wal.reset(6).unwrap();
        wal.append(b"x").unwrap();
    }
}

#[test]
fn damage_before_a_synced_record_is_an_error_and_behind_it_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 3, 2);
    let path = dir.path().join("wal");
    let whole = fs::read(&path).unwrap();
    // The fourth record vouches for the first three.
    let vouched = HEAD_BYTES + 3 * RECORD_HEAD_BYTES + 3 * 7;
    for at in (HEAD_BYTES..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let records = reopened(dir.path());
        if at < vouched {
            assert!(
                matches!(records, Err(StoreError::Corrupt { .. })),
                "{at}: {records:?}"
            );
        } else {
            let records = records.unwrap();
            assert!(
                3 <= records.len() && payloads(5).starts_with(&records),
                "{at}"
            );
        }
    }
}

#[test]
fn records_of_an_earlier_height_are_never_taken_for_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 4, 0);
    let path = dir.path().join("wal");
    let old = fs::read(&path).unwrap();
    // The crash kept the head of the reset, but not the cut of the file.
    for height in [6, 7] {
        let (store, _) = open(dir.path());
        store.open_wal().unwrap().reset(height).unwrap();
        let mut mixed = fs::read(&path).unwrap();
        mixed.extend_from_slice(&old[HEAD_BYTES..]);
        fs::write(&path, mixed).unwrap();
        let wal = store.open_wal().unwrap();
        assert_eq!((wal.height(), wal.records(height)), (height, Ok(vec![])));
    }
}

#[test]
fn a_payload_that_looks_like_records_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut wal = store.open_wal().unwrap();
    wal.reset(5).unwrap();
    wal.append(&MARK.repeat(10_000)).unwrap();
    wal.sync().unwrap();
    drop(wal);
    let path = dir.path().join("wal");
    let len = fs::metadata(&path).unwrap().len();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(len - 1)
        .unwrap();
    assert_eq!(store.open_wal().unwrap().records(5), Ok(vec![]));
}

#[test]
fn after_a_failure_nothing_more_is_promised() {
    for step in [Step::Write(PART), Step::Sync(PART)] {
        for sense in [Sense::Before, Sense::After] {
            let dir = tempfile::tempdir().unwrap();
            let faults = Failing::new();
            let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
            let mut wal = store.open_wal().unwrap();
            wal.reset(5).unwrap();
            wal.append(b"first").unwrap();
            wal.sync().unwrap();
            faults.arm(step, sense);
            let failed = wal.append(b"second").and_then(|()| wal.sync());
            assert!(matches!(failed, Err(StoreError::Failed { .. })));
            assert_eq!(wal.sync(), failed);
            assert_eq!(wal.append(b"third"), failed);
            assert_eq!(wal.reset(6), failed);
            drop(wal);
            // Whether the second is there or not, nobody was told.
            let records = store.open_wal().unwrap().records(5).unwrap();
            let all = [b"first".to_vec(), b"second".to_vec()];
            assert!(records == all || records == all[..1], "{step:?} {sense:?}");
        }
    }
}

#[test]
fn too_long_records_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut wal = store.open_wal().unwrap();
    wal.reset(1).unwrap();
    let long = vec![0; WAL_RECORD_BYTES_MAX + 1];
    assert!(matches!(
        wal.append(&long),
        Err(StoreError::TooLarge { .. })
    ));
}
