//! What was received before a crash is not received again.

use kogge::Digest;

use crate::bed::{ALICE, Bed, fetch, logged, open, stop};
use crate::child::{Process, eventually};

const BYTES: u64 = 70_000_000;

/// What is received between two checkpoints, and while one is made.
const LOOSE_BYTES_MAX: u64 = 32 << 20;

#[test]
fn after_a_crash_only_what_is_missing_is_fetched() {
    async_io::block_on(async {
        let bed = Bed::new();
        let alice = bed
            .start_with(ALICE, &[], |it| it.limits.upload = Some(40_000_000))
            .await;
        let bob = bed.start("bob", &[ALICE]).await;
        let size = usize::try_from(BYTES).unwrap();
        let digest: Digest = bed.build(&bob, "resume", &[(".jar", size)]).await.remove(0);
        logged(&bob, &digest).await;
        stop(bob).await;

        let child = Process::start(&bed.home("bob"), Some(&bed.address(ALICE)), Some(&digest));
        let sent = || Some(alice.status().transfer.sent).filter(|it| BYTES / 2 < *it);
        let sent = eventually("half of it is sent", sent).await;
        child.kill();

        let bob = bed.start("bob", &[ALICE]).await;
        let artifact = open(&bob, &digest).await;
        assert!(
            !bob.stores(&artifact.entry().blake3),
            "killed in the middle"
        );
        fetch(&bob, &digest).await;
        let received = bob.status().transfer.received;
        assert!(
            received <= BYTES - sent + LOOSE_BYTES_MAX,
            "{received} after {sent}"
        );
        let origin = bob.origin_of(&artifact.entry().blake3).unwrap();
        let earlier = ("earlier".to_owned(), BYTES - received);
        assert_eq!(
            origin.sources,
            [(alice.id().to_string(), received), earlier]
        );
        stop(alice).await;
        stop(bob).await;
    });
}
