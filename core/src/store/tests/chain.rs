//! Appending, reading and serving blocks; crashes at each step of it.

use std::collections::BTreeMap;

use crate::base::{BlockId, Sha256, WallTime};
use crate::proto::chain::block::{Block, Header};
use crate::proto::log::entry::Entry;
use crate::proto::log::tree::{Frontier, HashReader as _, leaf_hash};
use crate::store::chain::{CHECKPOINT_BYTES_MAX, Tip};
use crate::store::disk::Step;
use crate::store::error::StoreError;
use crate::store::recover::{Recovery, Store};
use crate::store::tests::testing::{Failing, Maker, Sense, add, open, options, state};

fn entries(height: usize, count: usize) -> Vec<Entry> {
    (0..count)
        .map(|it| add(&format!("pkg:maven/g/a@{height}"), &format!("f{it}")))
        .collect()
}

#[test]
fn what_was_appended_is_read_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut maker, mut blocks) = (Maker::default(), Vec::new());
    let (store, _) = open(dir.path());
    // Past the first full tile of level 1 would take 65,536 leaves; past three of level 0 here.
    for height in 1..=12 {
        blocks.push(maker.append(&store, &entries(height, height * 11)));
    }
    drop(store);

    let (store, recovery) = open(dir.path());
    assert_eq!(recovery, Recovery::default());
    let chain = store.chain();
    let last = blocks.last().unwrap();
    let expected = Tip {
        height: 12,
        block: last.id(),
        time: WallTime::from_millis(12_000),
        size: last.header.size,
        root: last.header.root,
    };
    assert_eq!(chain.tip().unwrap(), Some(expected));
    assert_eq!(chain.state().unwrap(), Some(state(last)));
    assert_eq!(chain.set_changes(0).unwrap(), [5, 10]);
    assert_eq!(chain.set_changes(5).unwrap(), [10]);
    for block in &blocks {
        let height = block.height();
        assert_eq!(chain.block(height).unwrap().as_ref(), Some(block));
        assert_eq!(
            chain.root_at(block.header.size).unwrap(),
            Some(block.header.root)
        );
        let first = block.header.seal.first_index;
        assert_eq!(chain.height_of(first).unwrap(), Some(height));
        assert_eq!(
            chain.height_of(block.header.size - 1).unwrap(),
            Some(height)
        );
        assert_eq!(
            chain.height_at(block.header.seal.time).unwrap(),
            Some(height)
        );
    }
    assert_eq!(chain.height_of(expected.size).unwrap(), None);
    assert_eq!(
        chain.height_at(WallTime::from_millis(12_001)).unwrap(),
        None
    );
    assert_eq!(chain.block(13).unwrap(), None);
}

#[test]
fn every_hash_and_tile_agrees_with_the_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut maker = Maker::default();
    for height in 1..=10 {
        maker.append(&store, &entries(height, 70));
    }
    let chain = store.chain();
    let size = chain.size().unwrap();
    let leaves = chain.leaves(0, size).unwrap();
    assert_eq!(leaves.len() as u64, size);
    let (mut frontier, mut hashes) = (Frontier::default(), BTreeMap::new());
    for leaf in &leaves {
        frontier.push_with(leaf_hash(leaf), |level, index, hash| {
            hashes.insert((level, index), hash);
        });
    }
    for ((level, index), hash) in &hashes {
        assert_eq!(chain.hash(*level, *index), Some(*hash), "{level}/{index}");
    }
    for (level, index) in [(0, size), (1, size / 2), (9, 1), (64, 0), (255, u64::MAX)] {
        assert_eq!(chain.hash(level, index), None, "{level}/{index}");
    }
    let tile = |level: u8, tile: u64, width: u64| {
        let row = (tile * 256..tile * 256 + width).map(|it| hashes[&(level * 8, it)].0);
        Some(row.collect::<Vec<_>>().concat())
    };
    for (level, number, width) in [(0, 0, 256), (0, 1, 3), (0, 2, size % 256), (1, 0, 2)] {
        assert_eq!(
            chain.tile(level, number, width).unwrap(),
            tile(level, number, width)
        );
    }
    for (level, number, width) in [(0, 2, size % 256 + 1), (0, 0, 257), (9, 0, 1)] {
        assert_eq!(chain.tile(level, number, width).unwrap(), None);
    }
    assert_eq!(chain.tile(0, u64::MAX, 1).unwrap(), None);
}

#[test]
fn only_the_next_block_with_its_own_root_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut maker = Maker::default();
    let first = maker.append(&store, &entries(1, 2));
    let (good, certificate) = maker.block(&entries(2, 2));
    type Spoil = fn(&mut Block);
    let spoil: [(Spoil, &str); 6] = [
        (|it| it.header.seal.height = 3, "it is not the next height"),
        (
            |it| it.header.seal.parent = BlockId([1; 32]),
            "its parent is another block",
        ),
        (|it| it.header.seal.first_index = 0, "its size does not fit"),
        (|it| it.header.size = 9, "its size does not fit"),
        (
            |it| it.header.seal.count = 9,
            "its count of leaves does not fit",
        ),
        (
            |it| it.header.root = Sha256([0; 32]),
            "its root does not fit its leaves",
        ),
    ];
    for (spoil, expected) in spoil {
        let mut bad = good.clone();
        spoil(&mut bad);
        let mut certificate = certificate.clone();
        (certificate.block, certificate.height) = (bad.id(), bad.height());
        let height = bad.height();
        assert_eq!(
            store.chain().append_and_wait(&bad, &certificate, vec![]),
            Err(StoreError::NotNext {
                height,
                tip: 1,
                problem: expected
            })
        );
    }
    let refused = store.chain().append_and_wait(&first, &certificate, vec![]);
    assert!(matches!(refused, Err(StoreError::NotNext { .. })));
    assert_eq!(
        store.chain().tip().unwrap().map(|it| it.block),
        Some(first.id())
    );
    assert_eq!(store.chain().leaf(3).unwrap(), None);
    // Nothing of the refused ones was left behind.
    store
        .chain()
        .append_and_wait(&good, &certificate, vec![])
        .unwrap();
}

#[test]
fn blocks_that_wait_together_are_committed_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut maker = Maker::default();
    let (sender, receiver) = std::sync::mpsc::channel();
    for height in 1..=50_u64 {
        let (block, certificate) = maker.block(&entries(1, 3));
        let sender = sender.clone();
        let done = move |it: Result<(), StoreError>| sender.send((height, it)).unwrap();
        store.chain().append(&block, &certificate, vec![], done);
    }
    drop(sender);
    let expected: Vec<_> = (1..=50).map(|it| (it, Ok(()))).collect();
    assert_eq!(receiver.iter().collect::<Vec<_>>(), expected);
    assert_eq!(store.chain().tip().unwrap().map(|it| it.height), Some(50));
}

#[test]
fn blocks_for_others_stop_at_the_limit_of_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut maker = Maker::default();
    let blocks: Vec<_> = (1..=3)
        .map(|it| maker.append(&store, &entries(it, 3)))
        .collect();
    let count = |from, bytes| store.chain().blocks(from, bytes).unwrap().len();
    assert_eq!(
        (count(1, usize::MAX), count(1, 0), count(3, 0), count(4, 9)),
        (3, 1, 1, 0)
    );
    let served = store.chain().blocks(2, usize::MAX).unwrap();
    assert_eq!(Block::from_bytes(&served[0].block).as_ref(), Ok(&blocks[1]));
}

#[test]
fn a_certificate_is_replaced_only_by_one_for_the_same_block() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (block, mut certificate) = Maker::default().block(&[]);
    let chain = store.chain();
    chain.append_and_wait(&block, &certificate, vec![]).unwrap();
    certificate.round = 7;
    chain.replace_certificate(&certificate).unwrap();
    assert_eq!(chain.certificate(1).unwrap(), Some(certificate.clone()));
    certificate.block = BlockId([3; 32]);
    assert!(matches!(
        chain.replace_certificate(&certificate),
        Err(StoreError::NotNext { .. })
    ));
}

#[test]
fn a_crash_at_the_commit_leaves_the_whole_block_or_nothing() {
    for (sense, height) in [(Sense::Before, 1), (Sense::After, 2)] {
        let dir = tempfile::tempdir().unwrap();
        let faults = Failing::new();
        let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
        let mut maker = Maker::default();
        maker.append(&store, &entries(1, 3));
        let (block, certificate) = maker.block(&entries(2, 300));
        faults.arm(Step::Commit("log"), sense);
        let failed = store
            .chain()
            .append_and_wait(&block, &certificate, state(&block));
        assert!(
            matches!(failed, Err(StoreError::Failed { part: "log", .. })),
            "{failed:?}"
        );
        // A failed sync is not repeated: everything later gets the first error.
        let (next, its) = maker.clone().block(&[]);
        assert_eq!(store.chain().append_and_wait(&next, &its, vec![]), failed);
        drop(store);

        let (store, _) = open(dir.path());
        let tip = store.chain().tip().unwrap().unwrap();
        assert_eq!(tip.height, height, "{sense:?}");
        let expected = format!("state {height}").into_bytes();
        assert_eq!(store.chain().state().unwrap(), Some(expected));
        assert_eq!(store.chain().root_at(tip.size).unwrap(), Some(tip.root));
        assert_eq!(store.chain().leaf(tip.size).unwrap(), None);
        if sense == Sense::Before {
            store
                .chain()
                .append_and_wait(&block, &certificate, vec![])
                .unwrap();
        }
    }
}

#[test]
fn a_full_disk_refuses_the_block_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Failing::new();
    let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
    let (block, certificate) = Maker::default().block(&entries(1, 3));
    faults.arm_full(Step::Commit("log"), Sense::Before);
    let full = store.chain().append_and_wait(&block, &certificate, vec![]);
    let expected = StoreError::DiskFull {
        dir: store.dir().to_owned(),
    };
    assert_eq!(full, Err(expected));
    store
        .chain()
        .append_and_wait(&block, &certificate, vec![])
        .unwrap();
}

#[test]
fn the_signed_head_is_durable_in_both_senses_of_failure_and_never_falls() {
    for step in [
        Step::Write("signed"),
        Step::Sync("signed"),
        Step::Rename("signed"),
        Step::SyncFolder("signed"),
    ] {
        for sense in [Sense::Before, Sense::After] {
            let dir = tempfile::tempdir().unwrap();
            let faults = Failing::new();
            let (store, _) = Store::open(dir.path(), faults.options()).unwrap();
            let mut maker = Maker::default();
            let first = maker.append(&store, &[]).header;
            let second = maker.append(&store, &[]).header;
            let sign = |it: &Header| store.chain().persist_signed_head(it.size, it.root);
            sign(&first).unwrap();
            faults.arm(step, sense);
            assert!(sign(&second).is_err());
            // What is on the disk is unknown, so nothing is signed until the next start.
            assert!(matches!(sign(&second), Err(StoreError::Failed { .. })));
            assert!(!faults.is_armed());
            drop(store);
            let (store, _) = open(dir.path());
            let head = store.chain().signed_head().unwrap();
            assert!(
                [first.size, second.size].contains(&head.size),
                "{step:?} {sense:?}"
            );
            store
                .chain()
                .persist_signed_head(second.size, second.root)
                .unwrap();
            assert_eq!(
                store.chain().persist_signed_head(first.size, first.root),
                Err(StoreError::SignedHead {
                    size: first.size,
                    signed: second.size
                })
            );
            let unknown = store
                .chain()
                .persist_signed_head(second.size + 1, second.root);
            assert!(matches!(unknown, Err(StoreError::SignedHead { .. })));
        }
    }
}

#[test]
fn a_log_without_the_signed_head_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut maker = Maker::default();
    maker.append(&store, &entries(1, 3));
    drop(store);
    let copy = std::fs::read(dir.path().join("log/data.mdb")).unwrap();
    let (store, _) = open(dir.path());
    let header = maker.append(&store, &entries(2, 3)).header;
    store
        .chain()
        .persist_signed_head(header.size, header.root)
        .unwrap();
    drop(store);

    // The database falls back to an earlier state, as after restoring a part of a backup.
    std::fs::write(dir.path().join("log/data.mdb"), copy).unwrap();
    let refused = Store::open(dir.path(), options()).map(|_| ());
    assert!(
        matches!(refused, Err(StoreError::Corrupt { .. })),
        "{refused:?}"
    );
}

#[test]
fn the_newest_checkpoint_is_kept_and_old_ones_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let chain = store.chain();
    assert_eq!(chain.latest_checkpoint().unwrap(), None);
    chain.put_checkpoint(7, "seven").unwrap();
    chain.put_checkpoint(3, "three").unwrap();
    chain.put_checkpoint(7, "seven, later").unwrap();
    assert_eq!(
        chain.latest_checkpoint().unwrap(),
        Some((7, "seven, later".into()))
    );
    let long = "x".repeat(CHECKPOINT_BYTES_MAX + 1);
    assert!(matches!(
        chain.put_checkpoint(9, &long),
        Err(StoreError::TooLarge { .. })
    ));
}
