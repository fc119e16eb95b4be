//! A node that is killed while it takes in a package has nothing of it afterwards.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use kogge::store::{Options, Store};

use crate::bed::{ALICE, Bed, build, fetch, stop};
use crate::child::{Process, eventually};

const BYTES: usize = 40_000_000;

const KILLS: usize = 10;

/// Bytes reserved for artifacts that are not whole.
fn staged(home: &Path) -> u64 {
    parts(home)
        .iter()
        .map(|it| it.metadata().unwrap().len())
        .sum()
}

fn parts(home: &Path) -> Vec<File> {
    let Ok(folder) = std::fs::read_dir(home.join("staging")) else {
        return Vec::new();
    };
    let paths = folder.filter_map(|it| Some(it.ok()?.path()));
    paths.filter_map(|it| File::open(it).ok()).collect()
}

/// Whether a quarter of a long artifact has been written.
fn is_a_quarter_there(home: &Path) -> bool {
    parts(home).iter().any(|it| {
        let mut bytes = [0; 4_096];
        let count = it.read_at(&mut bytes, BYTES as u64 / 4).unwrap();
        bytes[..count].iter().any(|it| *it != 0)
    })
}

#[test]
fn whoever_is_killed_while_publishing_shows_no_half_artifact_and_gets_its_room_back() {
    async_io::block_on(async {
        let bed = Bed::new();
        let home = bed.home(ALICE);
        stop(bed.start(ALICE, &[]).await).await;
        let contents = bed.upstream.publish("large", &[(".jar", BYTES)]);
        bed.upstream.hold(true);
        for _ in 0..KILLS {
            let child = Process::build(&home, &bed.upstream, "large");
            let is_begun = || is_a_quarter_there(&home).then_some(());
            eventually("a part of it is there", is_begun).await;
            child.kill();

            let (store, _) = Store::open(&home, Options::default()).unwrap();
            assert_eq!(store.chain().tip().unwrap(), None);
            let stat = store.blobs().stat();
            assert_eq!((stat.staging_bytes, staged(&home)), (0, 0));
            for it in store.blobs().list(None).unwrap() {
                assert!(it.size < 1_000, "only the POM is whole: {it:?}");
                assert_eq!(store.blobs().verify(&it.blake3), Ok(true));
            }
        }

        // Nothing stands in the way of the next attempt.
        bed.upstream.hold(false);
        let alice = bed.start(ALICE, &[]).await;
        build(&alice, "large").await;
        fetch(&alice, &kogge::Sha256::of(&contents[0]).into()).await;
        assert_eq!(staged(&home), 0);
        assert_eq!(alice.status().store.artifacts, 2);
        stop(alice).await;
    });
}
