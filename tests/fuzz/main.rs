//! Hostile inputs for decoders, verifiers and machines.
//!
//! ```text
//! cargo test -p kogge-ffi --test fuzz                                   replay, mutate, planted
//! KOGGE_FUZZ_SEED=7 KOGGE_FUZZ_FACTOR=100 cargo test -p kogge-ffi --test fuzz mutated::entry
//! make fuzz SECONDS_PER_TARGET=60 TARGET=entry                          libFuzzer with ASan
//! KOGGE_FUZZ_BLESS=1 cargo test -p kogge-ffi --test fuzz the_seeds      write the seeds anew
//! ```
//!
//! * [`targets`]: what is fuzzed and what must hold; the same functions for every driver.
//! * [`seeds`]: good inputs, from which `corpus` is written.
//! * [`mutate`]: changes to inputs; [`drive`]: the tests.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is a test program; a failed step fails the test"
)]

mod drive;
mod mutate;
mod seeds;
mod targets;

#[global_allocator]
static HEAP: targets::heap::Counting = targets::heap::Counting;

/// One test for each target named.
macro_rules! each {
    ($module:ident, $drive:path, [$($name:ident)*]) => {
        mod $module {
            $(#[test] fn $name() { $drive(stringify!($name)); })*
            pub(super) const NAMES: &[&str] = &[$(stringify!($name)),*];
        }
    };
}

/// Several tests for every target.
macro_rules! every {
    ($names:tt) => {
        each!(replay, crate::drive::replay, $names);
        each!(mutated, crate::drive::mutated, $names);
        each!(planted, crate::drive::planted, $names);
    };
}

every!([
    entry bundle tile note policy query waybill
    block certificate genesis state change rules
    hello consensus head book build pending spec pool kept sync gossip
    requests has replies groups
    purl image maven xml oci
    download syncing dialer
    frames request row provider journal
]);

#[test]
fn every_target_is_tested() {
    let targets: Vec<&str> = targets::ALL.iter().map(|it| it.name).collect();
    for tested in [replay::NAMES, mutated::NAMES, planted::NAMES] {
        assert_eq!(tested, targets);
    }
}

/// Memory is counted, and given back memory is not counted as used.
#[test]
fn the_heap_counts_the_peak() {
    let (_, peak) = targets::heap::peak_of(|| {
        drop(std::hint::black_box(vec![0_u8; 10_000]));
        std::hint::black_box(vec![0_u8; 1_000])
    });
    assert_eq!(peak, 10_000);
}
