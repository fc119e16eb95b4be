//! A log of 100,000 entries: catching up with it, asking it, starting on it.

use crate::bench::figure::{Figure, Goal, median, percentile};
use crate::bench::fleet::{Fleet, unexpected};
use crate::bench::history::{self, BLOCK_ENTRIES, GROUP_ENTRIES};
use crate::bench::orders::{Answer, Order};
use crate::bench::run::Bench;
use crate::failure::Failure;

/// Entries of the log, seals not counted.
const ENTRIES: u64 = 100_000;

/// A network of four with a long log, in the data directory `source`.
fn network(bench: &Bench) -> Result<(Fleet, u64, u64), Failure> {
    let fleet = Fleet::plan(&bench.folder, bench.clock, 4)?;
    let entries = bench.pick(ENTRIES, ENTRIES / 5);
    std::fs::create_dir_all(fleet.data("source"))
        .map_err(|it| Failure::new("io", it.to_string()))?;
    let leaves = history::write(&fleet.data("source"), &fleet.genesis, &fleet.keys, entries)?;
    Ok((fleet, entries, leaves))
}

/// A regular node that has nothing, and one that has everything.
pub(super) fn catchup(bench: &Bench) -> Result<Vec<Figure>, Failure> {
    let (fleet, entries, leaves) = network(bench)?;
    let (mut source, _) = fleet.start("source", true, Vec::new(), None)?;
    let status = source.status()?;
    let mut rates = Vec::new();
    for at in 0..bench.pick(5, 3) {
        let began = bench.clock.now();
        let name = format!("r{at}");
        let (mut node, _) = fleet.start(&name, true, status.listen.clone(), None)?;
        node.ask(&Order::AwaitSize(leaves))?;
        let taken = bench.clock.now().since(began).as_secs_f64();
        let root = node.wait(&bench.clock, "the same log", |it| it.root == status.root)?;
        if root.size != leaves {
            return Err(Failure::new("bench", "the logs differ"));
        }
        rates.push(f64::from(u32::try_from(entries).unwrap_or(u32::MAX)) / taken);
    }
    let what = format!("{entries} entries in blocks of {BLOCK_ENTRIES}");
    let (value, goal) = (median(&rates), Goal::AtLeast(20_000.0));
    let note = "from the start of the process; a quarter of them packages, the rest attestations";
    Ok(vec![
        Figure::new("catchup", what, value, "1/s", rates.len(), goal).note(note),
    ])
}

/// Questions to the log inside the node's process.
pub(super) fn query(bench: &Bench) -> Result<Vec<Figure>, Failure> {
    let (fleet, entries, _) = network(bench)?;
    let (mut node, _) = fleet.start("source", false, Vec::new(), None)?;
    let order = Order::Query {
        count: bench.pick(10_000, 2_000),
        packages: entries / GROUP_ENTRIES,
    };
    let answer = node.ask(&order)?;
    let Answer::Queries {
        find_purl,
        find_digest,
        package,
        by_digest,
    } = answer
    else {
        return Err(unexpected(&answer));
    };
    let cases = [
        ("Log::find by package URL, p50", find_purl),
        ("Log::find by digest, p50", find_digest),
        ("Log::package, p50", package),
        ("Log::by_digest, p50", by_digest),
    ];
    let figure = |(what, times): (&str, Vec<f64>)| {
        let (value, goal) = (median(&times), Goal::Below(20.0));
        let note = format!("p99 {:.1} µs", percentile(&times, 99));
        Figure::new("query", what, value, "µs", times.len(), goal).note(note)
    };
    Ok(cases.map(figure).into())
}

/// From `Node::start` to the first answer.
pub(super) fn ready(bench: &Bench) -> Result<Vec<Figure>, Failure> {
    let (fleet, entries, _) = network(bench)?;
    let mut times = Vec::new();
    for _ in 0..bench.pick(11, 5) {
        let probe = Some(entries / GROUP_ENTRIES - 1);
        let (_, millis) = fleet.start("source", true, Vec::new(), probe)?;
        times.push(millis / 1e3);
    }
    let what = format!("Node::start to an answer, {entries} entries");
    let (value, goal) = (median(&times), Goal::Below(0.5));
    let note = "the last run was killed; the files are in the system's cache";
    Ok(vec![
        Figure::new("ready", what, value, "s", times.len(), goal).note(note),
    ])
}
