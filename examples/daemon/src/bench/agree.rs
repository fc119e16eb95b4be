//! Four authorized nodes that agree.

use std::thread;
use std::time::Duration;

use kogge::Digest;
use kogge::proto::chain::Light;
use kogge::proto::log::{Trust, Waybill};

use crate::bench::figure::{Figure, Goal, median, millis, percentile};
use crate::bench::fleet::{Child, Fleet, LOOK_INTERVAL, unexpected};
use crate::bench::history::{self, GROUP_ENTRIES};
use crate::bench::orders::{Answer, Order};
use crate::bench::run::Bench;
use crate::bench::{facts, process};
use crate::failure::{During, Failure};

/// Authorized nodes of the network.
const MEMBERS: usize = 4;

/// Before anything counts.
const WARM_UP: Duration = Duration::from_secs(2);

/// Packages of each node that wait for a block while it offers as many as it can.
const WAITING_MAX: u64 = 400;

/// Packages that each node can offer in a second; more than any has managed.
const PACKAGES_PER_SECOND: u64 = 750;

/// Entries of the log under the waybill.
const HISTORY_ENTRIES: u64 = 100_000;

/// From an offer to the entry on the disk of all, and to a checkpoint that covers it.
pub(super) fn commit(bench: &Bench) -> Result<Vec<Figure>, Failure> {
    let fleet = Fleet::plan(&bench.folder, bench.clock, MEMBERS)?;
    let mut nodes = fleet.start_members()?;
    let (count, warm_up) = (bench.pick(200, 40), 10);
    // Three nodes attested: a quorum. The offering node is another in every round.
    for (at, node) in (0_u64..).zip(&mut nodes) {
        node.ask(&prepare(&fleet, at * count * 2, count * 2))?;
    }
    let (mut committed, mut covered) = (Vec::new(), Vec::new());
    let mut size = 0;
    for at in 0..count + warm_up {
        size += GROUP_ENTRIES + 1;
        let offering = usize::try_from(at).unwrap_or_default() % MEMBERS;
        let (on_disk, cosigned) = commit_one(bench, &mut nodes, offering, size)?;
        if warm_up <= at {
            committed.push(on_disk);
            covered.push(cosigned);
        }
    }
    let figure = |what: &str, samples: &[f64], percent: usize, limit: f64| {
        let (value, goal) = (percentile(samples, percent), Goal::Below(limit));
        Figure::new("commit", what, value, "ms", samples.len(), goal)
    };
    Ok(vec![
        figure("offer to durable on 4 of 4, p50", &committed, 50, 60.0)
            .note(format!("p99 {:.1} ms", percentile(&committed, 99))),
        figure("offer to cosigned checkpoint, p50", &covered, 50, 150.0),
        figure("offer to cosigned checkpoint, p99", &covered, 99, 500.0),
    ])
}

/// Offers one package at node `offering`; the log of everybody then has `size` leaves. Returns the
/// times until that is so, and until a checkpoint covers it. Unit: milliseconds.
fn commit_one(
    bench: &Bench,
    nodes: &mut [Child],
    offering: usize,
    size: u64,
) -> Result<(f64, f64), Failure> {
    let is_other = |at: &usize| *at != offering;
    for (_, node) in nodes.iter_mut().enumerate().filter(|it| is_other(&it.0)) {
        node.tell(&Order::AwaitSize(size))?;
    }
    let began = bench.clock.now();
    if let Some(node) = nodes.get_mut(offering) {
        node.ask(&Order::Offer)?;
        node.ask(&Order::AwaitSize(size))?;
    }
    for (_, node) in nodes.iter_mut().enumerate().filter(|it| is_other(&it.0)) {
        node.hear()?;
    }
    let committed = millis(bench.clock.now().since(began));
    if let Some(node) = nodes.get_mut(offering) {
        node.ask(&Order::AwaitCheckpoint(size))?;
    }
    Ok((committed, millis(bench.clock.now().since(began))))
}

fn prepare(fleet: &Fleet, from: u64, count: u64) -> Order {
    let mut signers = fleet.members();
    signers.truncate(fleet.genesis.member_set().quorum());
    Order::Prepare {
        signers,
        from,
        count,
    }
}

/// As many packages as four nodes can agree on.
pub(super) fn entries(bench: &Bench) -> Result<Vec<Figure>, Failure> {
    let fleet = Fleet::plan(&bench.folder, bench.clock, MEMBERS)?;
    let mut nodes = fleet.start_members()?;
    let span = Duration::from_secs(bench.pick(10, 4));
    let each = PACKAGES_PER_SECOND * (WARM_UP + span).as_secs();
    for (at, node) in (0_u64..).zip(&mut nodes) {
        node.tell(&prepare(&fleet, at * each, each))?;
    }
    for node in &mut nodes {
        node.hear()?;
    }
    for node in &mut nodes {
        node.ask(&Order::Pour {
            pourers: MEMBERS as u64,
            waiting_max: WAITING_MAX,
        })?;
    }
    thread::sleep(WARM_UP);
    let (began, cpu_before) = (bench.clock.now(), cpu(&nodes)?);
    let before = slowest(&mut nodes)?;
    while bench.clock.now().since(began) < span {
        thread::sleep(LOOK_INTERVAL);
    }
    let after = slowest(&mut nodes)?;
    let taken = bench.clock.now().since(began).as_secs_f64();
    let cpu = (cpu(&nodes)? - cpu_before) / taken;
    let (blocks, leaves) = (after.0 - before.0, after.1 - before.1);
    let packages = (leaves - blocks) / GROUP_ENTRIES;
    if packages * 20 > each * MEMBERS as u64 * 19 {
        return Err(Failure::new(
            "bench",
            "there were too few packages to offer",
        ));
    }
    let [packages, blocks] = [packages, blocks].map(|it| f64_of(it) / taken);
    let goal = Goal::AtLeast(1_000.0);
    let note = format!(
        "over {taken:.1} s; {:.1} blocks/s, {:.0} per block, each with 3 attestations \
         ({:.0} leaves/s); {cpu:.2} cores",
        blocks,
        packages / blocks.max(1e-9),
        packages * f64_of(GROUP_ENTRIES) + blocks,
    );
    Ok(vec![
        Figure::new("entries", "AddArtifact on 4 of 4", packages, "1/s", 1, goal).note(note),
    ])
}

/// Blocks and leaves of the node that has the fewest.
fn slowest(nodes: &mut [Child]) -> Result<(u64, u64), Failure> {
    let mut found = Vec::new();
    for node in nodes {
        let status = node.status()?;
        found.push((status.height, status.size));
    }
    Ok(found.into_iter().min().unwrap_or_default())
}

fn cpu(nodes: &[Child]) -> Result<f64, Failure> {
    nodes.iter().map(|it| process::cpu_seconds(it.pid())).sum()
}

/// A count as a number to calculate with.
fn f64_of(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The proof of an entry in a long log.
pub(super) fn waybill(bench: &Bench) -> Result<Vec<Figure>, Failure> {
    let fleet = Fleet::plan(&bench.folder, bench.clock, MEMBERS)?;
    let entries = bench.pick(HISTORY_ENTRIES, HISTORY_ENTRIES / 10);
    let mut leaves = 0;
    for folder in fleet.members() {
        leaves = history::write(&folder, &fleet.genesis, &fleet.keys, entries)?;
    }
    let mut nodes = fleet.start_members()?;
    let node = nodes
        .first_mut()
        .ok_or_else(|| Failure::new("bench", "no node"))?;
    node.ask(&prepare(&fleet, entries, 1))?;
    node.ask(&Order::Offer)?;
    node.ask(&Order::AwaitCheckpoint(leaves + GROUP_ENTRIES + 1))?;
    let text = match node.ask(&Order::Waybill(leaves))? {
        Answer::Waybill(text) => text,
        other => return Err(unexpected(&other)),
    };
    let digest = Digest::from(facts::sha256(entries));
    let light = Light::from_genesis(&fleet.genesis);
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = bench.clock.now();
        let waybill = Waybill::parse(text.as_bytes()).during("the waybill is unreadable")?;
        let verified = waybill.verify(Trust::Members(&light), Some(&digest));
        verified.during("the waybill proves nothing")?;
        times.push(millis(bench.clock.now().since(began)));
    }
    let bytes = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    let what = format!("size with 4 nodes, {leaves} leaves");
    let goal = Goal::AtMost(2_500.0);
    let (time, limit) = (median(&times), Goal::Below(1.0));
    Ok(vec![
        Figure::new("waybill", what, bytes, "bytes", 1, goal),
        Figure::new(
            "waybill",
            "read and verified offline",
            time,
            "ms",
            times.len(),
            limit,
        ),
    ])
}
