//! What peers that lie can do: cost a moment.

use std::time::Duration;

use kogge::{Digest, FetchError, Node, Sha256};

use crate::bed::{ALICE, Bed, fault, logged, open, read_all, stop, until, within};
use crate::eve::{Eve, Lie};

/// Several groups, in several requests.
const BYTES: usize = 900_000;

/// A victim that knows `names` from the log alone, and where it listens.
async fn victim(bed: &Bed, names: &[String]) -> Node {
    let alice = bed.start(ALICE, &[]).await;
    let bob = bed
        .start_with("bob", &[ALICE], |it| {
            it.limits.fetch_timeout = Duration::from_secs(20);
        })
        .await;
    for name in names {
        for digest in bed.build(&bob, name, &[(".jar", BYTES)]).await {
            logged(&bob, &digest).await;
        }
    }
    stop(alice).await;
    bob
}

/// Lets eve lie to bob while nobody else is there; then alice comes, and all must be well.
async fn endure(bed: &Bed, bob: &Node, lie: Lie, name: &str) {
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
    let (bad_proofs, spurious) = match lie {
        Lie::Silence | Lie::Tenth | Lie::Nothing => {
            within("eve is asked", eve.asked.recv()).await.unwrap();
            (0, 0)
        }
        _ => {
            let reason = fault(&events).await;
            assert!(reason.starts_with("exchange: "), "{reason}");
            let is_banned = || state(eve.id).filter(|it| it.state == "banned");
            let banned = until(bob, "eve is banned", is_banned).await;
            assert_eq!(banned.reason, Some(reason));
            if lie == Lie::Unrequested {
                (0, 1)
            } else {
                (1, 0)
            }
        }
    };

    // The honest node comes; until now nothing that can be read has come of it.
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
        let bob = victim(&bed, &names).await;
        for (lie, name) in lies.iter().zip(&names) {
            endure(&bed, &bob, *lie, name).await;
        }
        stop(bob).await;
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
    ]);
}

#[test]
fn who_does_not_deliver_is_passed_over() {
    endure_all(&[Lie::Silence, Lie::Tenth, Lie::Nothing]);
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
        crate::bed::admitted(&bob, 1).await;
        crate::bed::fetch(&bob, &digest).await;
        stop(alice).await;
        stop(bob).await;
    });
}
