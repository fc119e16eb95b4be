//! How fast one artifact goes from one process to another. Run by hand:
//! `cargo test --release -p kogge --test share -- --ignored --nocapture speed`

use crate::bed::{ALICE, Bed, stop};
use crate::child::Process;

const BYTES: usize = 1 << 30;

/// Neither side holds more than a part of the artifact. Unit: bytes.
const MEMORY_MAX: u64 = 200_000_000;

/// Verified and durable at the receiver. Unit: bytes per second.
const RATE_MIN: f64 = 0.3e9;

#[test]
#[ignore = "a measurement: a minute, and meaningful only in a release build on an idle machine"]
fn a_gibibyte_between_two_processes() {
    async_io::block_on(async {
        let bed = Bed::new();
        let alice = bed.start(ALICE, &[]).await;
        let bob = bed.start("bob", &[ALICE]).await;
        let digest = bed.build(&bob, "speed", &[(".jar", BYTES)]).await.remove(0);
        crate::bed::logged(&bob, &digest).await;
        stop(alice).await;
        stop(bob).await;

        let alice = Process::start(&bed.home(ALICE), None, None);
        let bob = Process::start(
            &bed.home("bob"),
            Some(&alice.address().await),
            Some(&digest),
        );
        let (seconds, received_with) = bob.report().await;
        let (rate, sent_with) = (BYTES as f64 / seconds, alice.memory());
        eprintln!("{seconds:.2} s, {rate:.3e} bytes per second");
        eprintln!("most memory: sender {sent_with} bytes, receiver {received_with} bytes");
        alice.kill();
        bob.kill();
        assert!(received_with < MEMORY_MAX && sent_with < MEMORY_MAX);
        assert!(RATE_MIN < rate);
    });
}
