//! What peers that lie can do: cost a moment.

use std::path::Path;
use std::time::Duration;

use futures_lite::future;
use kogge::{Blake3, Digest, FetchError, Node, Sha256};

use crate::bed::{ALICE, Bed, admitted, fault, fetch, logged, open, read_all, stop, until, within};
use crate::eve::{Eve, Lie, OTHER};

/// Several groups, in several requests.
const BYTES: usize = 900_000;

/// A victim that knows `names` from the log alone, and a node that knows the victim alone.
async fn victims(bed: &Bed, names: &[String]) -> [Node; 2] {
    let alice = bed.start(ALICE, &[]).await;
    let bob = bed
        .start_with("bob", &[ALICE], |it| {
            it.limits.fetch_timeout = Duration::from_secs(20);
        })
        .await;
    let carol = bed.start("carol", &["bob"]).await;
    for name in names.iter().map(String::as_str).chain([OTHER]) {
        for digest in bed.build(&bob, name, &[(".jar", BYTES)]).await {
            logged(&bob, &digest).await;
            logged(&carol, &digest).await;
        }
    }
    stop(alice).await;
    [bob, carol]
}

/// What is in the files of an artifact that has not come whole is right, or not yet written.
fn only_right_bytes(home: &Path, content: &[u8]) {
    let name = format!("staging/{}.part", Blake3::of(content));
    let Ok(bytes) = std::fs::read(home.join(name)) else {
        return;
    };
    assert_eq!(bytes.len(), content.len());
    let is_right = |(at, byte): (usize, &u8)| *byte == 0 || *byte == content[at];
    assert!(
        bytes.iter().enumerate().all(is_right),
        "wrong bytes in {home:?}"
    );
}

/// Lets eve lie to bob while nobody else is there; then alice comes, and all must be well.
async fn endure(bed: &Bed, [bob, carol]: &[Node; 2], lie: Lie, name: &str) {
    let content = crate::upstream::noise(&format!("{name}.jar"), BYTES);
    let digest = Digest::from(Sha256::of(&content));
    let before = bob.status().transfer;
    let events = bob.events();
    let eve = Eve::start(
        &bed.genesis,
        &bed.address("bob"),
        lie,
        content.clone().into(),
    );
    let state = |id| {
        let peers = bob.peers();
        peers.into_iter().find(|it| it.node == id)
    };
    let is_admitted = || state(eve.id).filter(|it| it.state == "admitted").map(drop);
    until(bob, "eve is admitted", is_admitted).await;

    let artifact = open(bob, &digest).await;
    let passed_on = open(carol, &digest).await;
    if lie == Lie::Pushed {
        eve.push(bob.id()).await;
    }
    let (bad_proofs, spurious) = match lie {
        Lie::Silence | Lie::Tenth | Lie::Nothing => {
            within("eve is asked", eve.asked.recv()).await.unwrap();
            (0, 0)
        }
        _ => {
            let reason = fault(&events).await;
            assert!(reason.starts_with("exchange"), "{reason}");
            let is_banned = || state(eve.id).filter(|it| it.state == "banned");
            let banned = until(bob, "eve is banned", is_banned).await;
            assert_eq!(banned.reason, Some(reason));
            match lie {
                Lie::Unrequested => (0, 1),
                // Her stream ends at its first byte, which is no request.
                Lie::Pushed => (0, 0),
                _ => (1, 0),
            }
        }
    };
    only_right_bytes(&bed.home("bob"), &content);
    only_right_bytes(&bed.home("carol"), &content);

    // The honest node comes.
    let alice = bed.start(ALICE, &["bob"]).await;
    let bytes = within("an artifact comes in spite of eve", read_all(&artifact)).await;
    assert_eq!(bytes.unwrap(), content, "{lie:?}");
    artifact.complete().await.unwrap();
    let after = bob.status().transfer;
    assert_eq!(
        (
            after.bad_proofs - before.bad_proofs,
            after.spurious - before.spurious
        ),
        (bad_proofs, spurious),
        "{lie:?}"
    );
    let stored = bob.open(&digest).await.unwrap();
    assert_eq!(read_all(&stored).await.unwrap(), content, "{lie:?}");
    // Whoever fetches from the victim has nothing to complain of.
    let bytes = within("it is passed on", read_all(&passed_on)).await;
    assert_eq!(bytes.unwrap(), content, "{lie:?}");
    assert_eq!(carol.status().transfer.bad_proofs, 0);
    assert!(carol.peers().iter().all(|it| it.state != "banned"));
    stop(alice).await;
    eve.stop().await;
}

fn endure_all(lies: &[Lie]) {
    async_io::block_on(async {
        let bed = Bed::new();
        let names: Vec<String> = lies
            .iter()
            .map(|it| format!("{it:?}").to_lowercase())
            .collect();
        let victims = victims(&bed, &names).await;
        for (lie, name) in lies.iter().zip(&names) {
            endure(&bed, &victims, *lie, name).await;
        }
        for node in victims {
            stop(node).await;
        }
    });
}

#[test]
fn who_sends_wrong_bytes_is_banned_and_nothing_of_it_is_kept() {
    endure_all(&[
        Lie::FlippedBit,
        Lie::OtherArtifact,
        Lie::OtherOffset,
        Lie::TruncatedProof,
        Lie::TruncatedData,
        Lie::OtherSize,
        Lie::Unrequested,
        Lie::Pushed,
    ]);
}

#[test]
fn who_does_not_deliver_is_passed_over() {
    endure_all(&[Lie::Silence, Lie::Tenth, Lie::Nothing]);
}

#[test]
fn who_gave_something_and_falls_silent_holds_up_nobody() {
    async_io::block_on(async {
        let bed = Bed::new();
        let alice = bed.start(ALICE, &[]).await;
        let bob = bed.start("bob", &[ALICE]).await;
        let small = [(".jar", 100_000)];
        let first = bed.build(&bob, "first", &small).await.remove(0);
        let second = bed.build(&bob, "second", &small).await.remove(0);
        logged(&bob, &second).await;
        stop(alice).await;

        let content = crate::upstream::noise("first.jar", 100_000);
        let address = bed.address("bob");
        let eve = Eve::start(&bed.genesis, &address, Lie::FirstOnly, content.into());
        admitted(&bob, 1).await;
        fetch(&bob, &first).await;
        let alice = bed.start(ALICE, &["bob"]).await;
        admitted(&bob, 2).await;
        // Sooner than a peer is given up of whom nothing is known.
        let limit = async {
            async_io::Timer::after(Duration::from_secs(3)).await;
            panic!("eve holds it up");
        };
        future::or(fetch(&bob, &second), limit).await;
        let asked = [eve.asked.recv().await, eve.asked.recv().await];
        let asked = asked.map(|it| Digest::from(it.unwrap().root));
        assert_ne!(asked[0], asked[1]);
        eve.stop().await;
        for node in [alice, bob] {
            stop(node).await;
        }
    });
}

#[test]
fn what_is_stored_is_read_without_asking_anybody() {
    async_io::block_on(async {
        let bed = Bed::new();
        let alice = bed.start(ALICE, &[]).await;
        let bob = bed.start("bob", &[ALICE]).await;
        let here = bed.build(&bob, "here", &[(".jar", BYTES)]).await.remove(0);
        let there = bed.build(&bob, "there", &[(".jar", BYTES)]).await.remove(0);
        fetch(&bob, &here).await;
        logged(&bob, &there).await;
        let received = bob.status().transfer.received;
        stop(alice).await;

        // Eve says that she has everything.
        let content = crate::upstream::noise("here.jar", BYTES);
        let address = bed.address("bob");
        let eve = Eve::start(&bed.genesis, &address, Lie::Nothing, content.clone().into());
        let is_admitted = || {
            let eve = bob.peers().into_iter().find(|it| it.node == eve.id)?;
            (eve.state == "admitted").then_some(())
        };
        until(&bob, "eve is admitted", is_admitted).await;
        let artifact = open(&bob, &here).await;
        assert_eq!(read_all(&artifact).await.unwrap(), content);
        artifact.complete().await.unwrap();
        assert_eq!(bob.status().transfer.received, received);

        // The first thing that she is asked is about what is not here.
        let missing = open(&bob, &there).await;
        let wondered = within("eve is asked", eve.wondered.recv()).await.unwrap();
        assert_eq!(wondered, missing.entry().blake3);
        drop(missing);
        eve.stop().await;
        stop(bob).await;
    });
}

#[test]
fn an_artifact_that_nobody_has_is_an_error_in_time_and_the_node_lives() {
    async_io::block_on(async {
        let bed = Bed::new();
        let alice = bed
            .start_with(ALICE, &[], |it| it.limits.share = false)
            .await;
        let bob = bed
            .start_with("bob", &[ALICE], |it| {
                it.limits.fetch_timeout = Duration::from_secs(2);
            })
            .await;
        let unknown = Digest::from(Sha256::of(b"never published"));
        let error = bob.open(&unknown).await.map(drop).unwrap_err();
        assert_eq!(error, FetchError::Unknown(unknown.to_string()));

        // In the log, but its only holder does not share.
        let digest = bed
            .build(&bob, "unshared", &[(".jar", 100_000)])
            .await
            .remove(0);
        let artifact = open(&bob, &digest).await;
        let error = within("a fetch fails in time", artifact.complete()).await;
        assert_eq!(error, Err(FetchError::NoSource(artifact.entry().blake3)));
        assert!(read_all(&artifact).await.is_err());
        assert_eq!(alice.status().transfer.sent, 0);

        // It shares again: the next attempt succeeds.
        stop(alice).await;
        let alice = bed.start(ALICE, &["bob"]).await;
        admitted(&bob, 1).await;
        fetch(&bob, &digest).await;
        stop(alice).await;
        stop(bob).await;
    });
}
