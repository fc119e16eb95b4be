//! What one node built, all can have from each other.

use crate::bed::{ALICE, Bed, admitted, fetch, open, read_all, stop, within};
use crate::upstream::File;

/// One of each size class: in the database, a few groups, many requests, more than one checkpoint.
const FILES: &[File] = &[
    (".jar", 1_000),
    ("-sources.jar", 100_000),
    ("-javadoc.jar", 5_000_000),
    (".module", 70_000_000),
];

#[test]
fn a_package_is_built_once_and_spreads_without_its_upstream() {
    async_io::block_on(async {
        let bed = Bed::new();
        let alice = bed.start(ALICE, &[]).await;
        let bob = bed.start("bob", &[ALICE]).await;
        let digests = bed.build(&bob, "spread", FILES).await;
        bed.upstream.switch_off();
        assert_eq!(bed.upstream.served(), FILES.len() + 1);
        assert_eq!(bob.status().store.artifacts, 0);
        for digest in &digests {
            fetch(&bob, digest).await;
        }

        // Who fetched it gives it on, when nobody else is left.
        stop(alice).await;
        let carol = bed.start("carol", &["bob"]).await;
        admitted(&carol, 1).await;
        for digest in &digests {
            fetch(&carol, digest).await;
        }
        let payload = FILES.iter().map(|it| it.1 as u64).sum::<u64>();
        assert_eq!(carol.status().transfer.received, payload);

        // What is stored is not asked for again, even if nobody is there to be asked.
        stop(carol).await;
        stop(bob).await;
        let carol = bed.start("carol", &[]).await;
        for digest in &digests {
            let artifact = open(&carol, digest).await;
            within("a stored artifact", read_all(&artifact))
                .await
                .unwrap();
        }
        assert_eq!(carol.status().transfer.received, 0);
        stop(carol).await;
    });
}

#[test]
fn a_holder_that_nobody_is_connected_to_is_found() {
    async_io::block_on(async {
        let bed = Bed::new();
        let alice = bed.start(ALICE, &[]).await;
        let bob = bed.start("bob", &[ALICE]).await;
        let digest = bed
            .build(&bob, "found", &[(".jar", 100_000)])
            .await
            .remove(0);
        fetch(&bob, &digest).await;
        // Alice, whom both know, gives nothing away.
        stop(alice).await;
        let alice = bed
            .start_with(ALICE, &["bob"], |it| it.limits.share = false)
            .await;
        admitted(&alice, 1).await;
        let carol = bed.start("carol", &[ALICE]).await;
        fetch(&carol, &digest).await;
        assert_eq!(alice.status().transfer.sent, 0);
        assert!(100_000 < bob.status().transfer.sent);
        for node in [alice, bob, carol] {
            stop(node).await;
        }
    });
}
