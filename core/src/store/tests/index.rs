//! Following the log, falling behind, being rebuilt.

use std::time::Duration;
use std::{fs, thread};

use futures_lite::future;

use crate::proto::log::entry::Entry;
use crate::proto::log::query::Query;
use crate::store::disk::Step;
use crate::store::error::StoreError;
use crate::store::index::IndexStatus;
use crate::store::recover::Store;
use crate::store::tail::TAIL_LEAVES_MAX;
use crate::store::tests::testing::{Failing, Maker, Sense, add, open};

const PATIENCE: Duration = Duration::from_secs(30);

fn entries(height: u64, count: usize) -> Vec<Entry> {
    (0..count)
        .map(|it| add(&format!("pkg:maven/g/a@{height}"), &format!("f{it}")))
        .collect()
}

fn count(store: &Store) -> usize {
    let query: Query = "package=maven/g/a limit=1000".parse().unwrap();
    store.index().find(&query).unwrap().rows.len()
}

#[test]
fn a_block_is_found_as_soon_as_it_is_appended_and_after_it_is_indexed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut maker = Maker::default();
    for height in 1..=5 {
        maker.append(&store, &entries(height, 3));
        assert_eq!(count(&store), 3 * usize::try_from(height).unwrap());
    }
    assert!(store.index().wait(PATIENCE));
    assert_eq!(count(&store), 15);
    let expected = IndexStatus {
        indexed: 20,
        size: 20,
        log_size: 20,
        problem: None,
    };
    assert_eq!(store.index().status(), expected);
}

#[test]
fn what_the_log_has_is_found_once_the_index_covers_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut maker = Maker::default();
    let chain = store.chain().clone();
    for height in 1..=40 {
        let before = chain.size().unwrap();
        thread::scope(|scope| {
            // The log shows a block before its completion has run.
            let look = scope.spawn(|| {
                let size = loop {
                    match chain.size().unwrap() {
                        size if before < size => break size,
                        _ => thread::yield_now(),
                    }
                };
                future::block_on(store.index().covers(size)).unwrap();
                count(&store)
            });
            maker.append(&store, &entries(height, 2));
            assert_eq!(look.join().unwrap(), 2 * usize::try_from(height).unwrap());
        });
    }
}

#[test]
fn the_index_resumes_and_a_lost_or_damaged_one_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut maker = Maker::default();
    maker.append(&store, &entries(1, 400));
    assert!(store.index().wait(PATIENCE));
    // Closed before the second block is indexed.
    maker.append(&store, &entries(2, 400));
    drop(store);
    let file = dir.path().join("index/data.mdb");
    type Damage = fn(&std::path::Path);
    let damage: [(Damage, bool); 5] = [
        (|_| (), false),
        (
            |file| fs::remove_dir_all(file.parent().unwrap()).unwrap(),
            false,
        ),
        (|file| fs::write(file, [0xff; 8_192]).unwrap(), true),
        (|file| fs::write(file, [0; 100]).unwrap(), true),
        (
            |file| {
                let len = fs::metadata(file).unwrap().len();
                let file = fs::File::options().write(true).open(file).unwrap();
                file.set_len(len.min(8_192)).unwrap();
            },
            true,
        ),
    ];
    for (at, (damage, is_rebuilt)) in damage.into_iter().enumerate() {
        damage(&file);
        let (store, recovery) = open(dir.path());
        assert_eq!(recovery.is_index_rebuilt, is_rebuilt, "case {at}");
        assert!(store.index().wait(PATIENCE));
        assert_eq!(count(&store), 800, "case {at}");
    }
}

#[test]
fn an_index_ahead_of_the_log_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut maker = Maker::default();
    maker.append(&store, &entries(1, 3));
    drop(store);
    let copy = fs::read(dir.path().join("log/data.mdb")).unwrap();
    let (store, _) = open(dir.path());
    maker.append(&store, &entries(2, 3));
    assert!(store.index().wait(PATIENCE));
    drop(store);
    fs::write(dir.path().join("log/data.mdb"), copy).unwrap();
    let (store, recovery) = open(dir.path());
    assert!(recovery.is_index_rebuilt);
    assert!(store.index().wait(PATIENCE));
    assert_eq!(count(&store), 3);
}

#[test]
fn a_failed_commit_stops_the_index_and_the_next_start_goes_on() {
    for sense in [Sense::Before, Sense::After] {
        let dir = tempfile::tempdir().unwrap();
        let faults = Failing::new();
        let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
        faults.arm(Step::Commit("index"), sense);
        let mut maker = Maker::default();
        maker.append(&store, &entries(1, 9));
        while store.index().status().problem.is_none() {
            thread::yield_now();
        }
        // The log goes on, and the blocks are found in memory.
        maker.append(&store, &entries(2, 9));
        assert_eq!(count(&store), 18);
        drop(store);
        let (store, _) = open(dir.path());
        assert!(store.index().wait(PATIENCE));
        assert_eq!(count(&store), 18, "{sense:?}");
    }
}

#[test]
fn while_the_index_is_behind_look_ups_say_so_and_pages_say_as_of_when() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Failing::new();
    let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
    faults.arm(Step::Commit("index"), Sense::Before);
    let mut maker = Maker::default();
    maker.append(&store, &entries(1, 9));
    while store.index().status().problem.is_none() {
        thread::yield_now();
    }
    // More than memory holds: with the stopped follower the rest cannot be found.
    let mut size = 10;
    while size <= TAIL_LEAVES_MAX {
        let block = maker.append(&store, &entries(size, 8_000));
        size = block.header.size;
    }
    let covered = store.index().status().size;
    assert!(covered < size);
    assert_eq!(
        store.index().file("pkg:maven/g/a@1", "f0"),
        Err(StoreError::Behind {
            indexed: covered,
            size
        })
    );
    assert_eq!(
        store.index().find(&Query::default()).unwrap().as_of,
        covered
    );
    // It has stopped: nobody waits for the rest.
    future::block_on(store.index().covers(covered)).unwrap();
    let never = future::block_on(store.index().covers(size)).err();
    assert_eq!(never, store.index().status().problem);
    assert!(never.is_some());
}
