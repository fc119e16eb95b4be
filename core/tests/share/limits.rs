//! Many readers, one download; and the owner's limits.

use futures::future::join_all;
use kogge::Node;
use kogge::node::clock::Clock;

use crate::bed::{ALICE, Bed, admitted, fetch, open, read_all, stop, within};

const BYTES: usize = 4_000_000;

#[test]
fn readers_share_a_download_and_read_before_it_ends() {
    async_io::block_on(async {
        let bed = Bed::new();
        let alice = bed
            .start_with(ALICE, &[], |it| it.limits.upload = Some(3_000_000))
            .await;
        let bob = bed.start("bob", &[ALICE]).await;
        let digest = bed
            .build(&bob, "stream", &[(".jar", BYTES)])
            .await
            .remove(0);
        let content = crate::upstream::noise("stream.jar", BYTES);

        let first = open(&bob, &digest).await;
        let bytes = within("the first bytes", first.read(0, 1_000))
            .await
            .unwrap();
        assert_eq!(bytes, content[..1_000]);
        assert!(
            !bob.stores(&first.entry().blake3),
            "it cannot be there already"
        );
        // A reader that leaves takes nothing away from the others.
        drop(first);

        let readers = (0..32).map(|reader| {
            let (bob, digest, content) = (&bob, &digest, &content);
            async move {
                let artifact = open(bob, digest).await;
                let from = reader * 100_000;
                let part = artifact.read(from as u64, 70_000).await.unwrap();
                assert_eq!(part, content[from..from + part.len()]);
                assert!(!part.is_empty());
                assert_eq!(read_all(&artifact).await.unwrap(), *content);
                // All bytes are readable before the download has ended and its origin is noted.
                artifact.complete().await.unwrap();
            }
        });
        within("all readers", join_all(readers)).await;
        // One download for all; a little may come twice, because the limit makes alice look late.
        let received = bob.status().transfer.received;
        assert!(received < 3 * BYTES as u64 / 2, "{received}");

        let artifact = open(&bob, &digest).await;
        let end = artifact.read(BYTES as u64 - 5, 100).await.unwrap();
        assert_eq!(end, content[BYTES - 5..]);
        assert!(artifact.read(BYTES as u64, 1).await.unwrap().is_empty());

        // Alice has it from upstream, bob from alice.
        let root = artifact.entry().blake3;
        let origin = |node: &Node| node.origin_of(&root).map(|it| it.sources);
        let from = |name: String| Some(vec![(name, BYTES as u64)]);
        assert_eq!(origin(&alice), from("upstream".into()));
        assert_eq!(origin(&bob), from(alice.id().to_string()));
        stop(alice).await;
        stop(bob).await;
    });
}

/// How long bob takes to fetch [`BYTES`] from alice. Unit: seconds.
async fn timed(upload: Option<u64>, download: Option<u64>) -> f64 {
    let bed = Bed::new();
    let alice = bed
        .start_with(ALICE, &[], |it| it.limits.upload = upload)
        .await;
    let bob = bed
        .start_with("bob", &[ALICE], |it| it.limits.download = download)
        .await;
    let digest = bed
        .build(&bob, "limited", &[(".jar", BYTES)])
        .await
        .remove(0);
    let (clock, started) = (Clock::start(), Clock::start().now());
    fetch(&bob, &digest).await;
    let took = clock.now().since(started);
    assert_eq!(bob.status().transfer.bad_proofs, 0);
    stop(alice).await;
    stop(bob).await;
    took.as_secs_f64()
}

#[test]
fn the_upload_limit_holds() {
    let took = async_io::block_on(timed(Some(1_000_000), None));
    // A quarter of a second's worth may come at once.
    let rate = BYTES as f64 / (took + 0.25);
    assert!((0.8e6..1.1e6).contains(&rate), "{rate} bytes per second");
}

#[test]
fn the_download_limit_holds() {
    let took = async_io::block_on(timed(None, Some(1_000_000)));
    let rate = BYTES as f64 / (took + 0.25);
    assert!((0.8e6..1.1e6).contains(&rate), "{rate} bytes per second");
}

#[test]
fn who_does_not_share_sends_nothing_and_others_help() {
    async_io::block_on(async {
        let bed = Bed::new();
        let alice = bed.start(ALICE, &[]).await;
        let bob = bed.start("bob", &[ALICE]).await;
        let carol = bed
            .start_with("carol", &[ALICE], |it| it.limits.share = false)
            .await;
        let digest = bed.build(&bob, "shy", &[(".jar", BYTES)]).await.remove(0);
        fetch(&carol, &digest).await;
        admitted(&carol, 1).await;
        let dave = bed.start("dave", &["carol", "bob"]).await;
        fetch(&bob, &digest).await;
        fetch(&dave, &digest).await;
        assert_eq!(carol.status().transfer.sent, 0);
        for node in [alice, bob, carol, dave] {
            stop(node).await;
        }
    });
}
