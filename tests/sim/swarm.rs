//! Many plans from many seeds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::plan::{Plan, Plant};
use crate::run::{Outcome, run, shrink};

/// Plans of one test.
const SEEDS: u64 = 200;

/// One of so many seeds runs twice.
const TWICE_EVERY: u64 = 50;

/// Seeds within which a planted bug must be found.
const PLANTED_SEEDS_MAX: u64 = 200;

#[expect(clippy::disallowed_methods, reason = "measures the simulator itself")]
fn instant() -> Instant {
    Instant::now()
}

fn seeds() -> u64 {
    let given = std::env::var("KOGGE_SIM_SEEDS").ok();
    given.and_then(|it| it.parse().ok()).unwrap_or(SEEDS)
}

/// Runs `task` for all numbers below `count` on two threads.
fn on_two_threads(count: u64, task: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if count <= seed {
                return;
            }
            task(seed);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
}

#[test]
fn nothing_is_lost_or_forked_under_faults_and_all_agree_after_healing() {
    let failures = Mutex::new(Vec::new());
    let totals = Mutex::new((0, 0, Duration::ZERO, Duration::ZERO, Duration::ZERO));
    let begun = instant();
    on_two_threads(seeds(), |seed| {
        let plan = Plan::draw(seed);
        let started = instant();
        let outcome = run(&plan, false);
        let took = started.elapsed();
        if seed % TWICE_EVERY == 0 {
            assert_eq!(
                outcome.trace,
                run(&plan, false).trace,
                "seed {seed} does not repeat"
            );
        }
        let mut totals = totals.lock().unwrap();
        totals.0 += outcome.events;
        totals.1 += outcome.blocks;
        totals.2 += outcome.lasted;
        totals.3 = totals.3.max(outcome.settled);
        totals.4 += took;
        drop(totals);
        if let Some(failure) = outcome.failure {
            failures.lock().unwrap().push((seed, failure));
        }
    });
    let (events, blocks, virtually, slowest, busy) = *totals.lock().unwrap();
    let per_event = busy.as_secs_f64() * 1e6 / events as f64;
    println!(
        "{} seeds in {:.1} s: {events} events, {blocks} blocks, {:.0} virtual s, {per_event:.1} µs an \
         event, {:.0} events/s a thread, slowest agreement after healing {slowest:?}",
        seeds(),
        begun.elapsed().as_secs_f64(),
        virtually.as_secs_f64(),
        1e6 / per_event,
    );
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    for (seed, failure) in &failures {
        println!("seed {seed}: {failure}");
    }
    if let Some((seed, failure)) = failures.first() {
        let least = shrink(&Plan::draw(*seed));
        panic!(
            "{} seeds fail; seed {seed}: {failure}\nsmallest plan: {least:#?}\nfails with {:?}",
            failures.len(),
            run(&least, false).failure
        );
    }
}

/// Prints what happens; does nothing unless a seed is given.
#[test]
fn one_seed() {
    let seed = std::env::var("KOGGE_SIM_SEED").ok();
    let Some(seed) = seed.and_then(|it| it.parse().ok()) else {
        return;
    };
    let plan = Plan::draw(seed);
    println!("{plan:#?}");
    let outcome = run(&plan, true);
    println!("{outcome:#?}");
    assert_eq!(outcome.failure, None);
}

/// The first failure with a planted bug.
fn planted(plant: Plant) -> (Plan, Outcome) {
    for seed in 0..PLANTED_SEEDS_MAX {
        let plan = Plan {
            plant: Some(plant),
            ..Plan::draw(seed)
        };
        let outcome = run(&plan, false);
        if outcome.failure.is_some() {
            println!("{plant:?} is found by seed {seed}: {:?}", outcome.failure);
            return (plan, outcome);
        }
    }
    panic!("{plant:?} is not found in {PLANTED_SEEDS_MAX} seeds");
}

#[test]
fn a_store_that_reports_blocks_too_early_is_found() {
    let (_, outcome) = planted(Plant::AnnounceFirst);
    let failure = outcome.failure.unwrap();
    assert!(failure.contains("durable"), "{failure}");
}

#[test]
fn a_journal_that_is_not_synced_is_found_and_shrunk_to_two_faults() {
    let (plan, outcome) = planted(Plant::JournalUnsynced);
    let failure = outcome.failure.unwrap();
    assert!(failure.contains("two "), "{failure}");
    let least = shrink(&plan);
    println!("{} faults shrunk to {:#?}", plan.faults.len(), least.faults);
    assert!(least.faults.len() <= 2, "{least:#?}");
}
