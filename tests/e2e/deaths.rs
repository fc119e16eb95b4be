//! Nodes die at any moment, while packages are asked for and fetched: what was said stays said.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kogge_node::base::{BlockId, Rng};
use kogge_node::proto::log::tree::{Frontier, leaf_hash};
use kogge_node::store::{Options, Store};
use kogge_testkit::run::run;
use serde_json::Value;

use kogge_testkit::network::{Network, kogge, repository};

const KILLS: usize = 20;

/// Packages upstream: more than can be asked for.
const VERSIONS: usize = 400;

/// The least that must have been acknowledged for the test to mean something.
const PACKAGES_MIN: usize = 5;

/// Sets the seed of a run; it is printed by each.
const SEED: &str = "KOGGE_KILL_SEED";

fn jar(version: usize) -> Vec<u8> {
    let mut rng = Rng::new(version as u64);
    let words = (0..20_000).map(|_| rng.next_u64().to_le_bytes());
    words.flatten().collect()
}

/// What nodes have told their users.
#[derive(Default)]
struct Told {
    /// Packages in the log.
    packages: Mutex<Vec<usize>>,
    fetched: AtomicUsize,
    /// Blocks by height.
    blocks: Mutex<BTreeMap<u64, String>>,
}

impl Told {
    /// Notes the last block of a node, if it answers.
    fn look(&self, data: &Path) {
        let Ok(text) = run(command(data).args(["--json", "status"])) else {
            return;
        };
        let status: Value = serde_json::from_str(&text).unwrap();
        let (height, block) = (&status["log"]["height"], &status["log"]["block"]);
        let (height, block) = (height.as_u64().unwrap(), block.as_str().unwrap());
        let mut blocks = self.blocks.lock().unwrap();
        let first = blocks.entry(height).or_insert_with(|| block.to_owned());
        assert_eq!(first, block, "two blocks at height {height}");
    }
}

fn command(data: &Path) -> Command {
    let mut command = Command::new(kogge());
    command.arg("--data-dir").arg(data);
    command
}

/// A user: asks for packages and fetches what others were told is there, at any node.
fn work(nodes: &[PathBuf], next: &AtomicUsize, told: &Told, is_over: &AtomicBool, seed: u64) {
    let mut rng = Rng::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut version = next.fetch_add(1, Ordering::Relaxed);
    while !is_over.load(Ordering::Relaxed) {
        let node = rng.pick(nodes).unwrap();
        assert!(version <= VERSIONS, "there are enough packages");
        let package = format!("org.example:lib:{version}");
        // The node may be dead, or die meanwhile: then nothing was promised, and another is asked.
        if run(command(node).args(["build", "maven", &package])).is_ok() {
            told.packages.lock().unwrap().push(version);
            version = next.fetch_add(1, Ordering::Relaxed);
        }
        told.look(node);

        let packages = told.packages.lock().unwrap().clone();
        let (Some(node), Some(version)) = (rng.pick(nodes), rng.pick(&packages)) else {
            continue;
        };
        let purl = format!("pkg:maven/org.example/lib@{version}");
        let file = format!("lib-{version}.jar");
        let to = folder.path().join(&file);
        if run(command(node).args(["fetch", &purl, &file, "-o"]).arg(&to)).is_ok() {
            assert_eq!(std::fs::read(&to).unwrap(), jar(*version));
            told.fetched.fetch_add(1, Ordering::Relaxed);
        }
        told.look(node);
    }
}

/// Kills nodes and starts them again.
fn kill(network: &mut Network, rng: &mut Rng) {
    let mut pause = |millis_max| {
        // Not for order: to hit the nodes at any point of their work.
        std::thread::sleep(Duration::from_millis(rng.below(millis_max)));
        rng.next_u64()
    };
    let mut kills = 0;
    while kills < KILLS {
        let drawn = pause(700);
        let count = network.nodes.len();
        let other = usize::try_from(drawn >> 32).unwrap() % (count - 1);
        let first = usize::try_from(drawn & 0xffff_ffff).unwrap() % count;
        let second = (first + 1 + other) % count;
        let is_double = pause(1) % 3 == 0 && kills + 1 < KILLS;
        let dead = if is_double {
            vec![first, second]
        } else {
            vec![first]
        };
        for node in &dead {
            network.nodes[*node].kill();
            println!("killed {}", network.nodes[*node].name);
            kills += 1;
            pause(100);
        }
        for node in &dead {
            network.nodes[*node].start();
        }
    }
}

/// The ids of all blocks of a dead node's store, which is whole in every respect.
fn verified(data: &Path, packages: &[usize]) -> Vec<BlockId> {
    let (store, recovery) = Store::open(data, Options::default()).unwrap();
    assert_eq!(recovery.lost, []);
    let chain = store.chain();
    let tip = chain.tip().unwrap().unwrap();
    let mut frontier = Frontier::default();
    for leaf in chain.leaves(0, tip.size).unwrap() {
        frontier.push(leaf_hash(&leaf));
    }
    assert_eq!((frontier.size(), frontier.root()), (tip.size, tip.root));
    let signed = chain.signed_head().map(|it| (it.size, it.root));
    assert!(signed.is_none_or(|it| chain.root_at(it.0).unwrap() == Some(it.1)));
    for it in store.blobs().list(None).unwrap() {
        assert_eq!(store.blobs().verify(&it.blake3), Ok(true));
    }
    assert!(store.index().wait(Duration::from_secs(60)));
    for version in packages {
        let purl = format!("pkg:maven/org.example/lib@{version}");
        let files = store.index().package(&purl).unwrap();
        assert_eq!(files.len(), 2, "{purl}");
    }
    let header = |height| chain.header(height).unwrap().unwrap();
    let headers: Vec<_> = (1..=tip.height).map(header).collect();
    let linked = headers.windows(2).all(|it| it[1].seal.parent == it[0].id());
    assert!(linked, "each block names the one before it");
    headers.iter().map(|it| it.id()).collect()
}

#[test]
fn twenty_deaths_lose_nothing_that_was_acknowledged() {
    let drawn = || std::hash::RandomState::new().build_hasher().finish();
    let seed = std::env::var(SEED).map_or_else(|_| drawn(), |it| it.parse().unwrap());
    println!("{SEED}={seed}");
    let folder = tempfile::tempdir().unwrap();
    let upstream = repository(folder.path(), VERSIONS, jar);
    let url = format!("http://127.0.0.1:{}", upstream.port);
    let mut network = Network::start(4, 2, "http://127.0.0.1:9", &url, false);
    let nodes: Vec<PathBuf> = network.nodes.iter().map(|it| it.data.clone()).collect();
    let (told, next, is_over) = (Told::default(), AtomicUsize::new(1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for user in 1..=2 {
            let (nodes, next, told, is_over) = (&nodes, &next, &told, &is_over);
            scope.spawn(move || work(nodes, next, told, is_over, seed ^ user));
        }
        kill(&mut network, &mut Rng::new(seed));
        is_over.store(true, Ordering::Relaxed);
    });

    // Healed: the same log everywhere, with all that was promised.
    let seen = told.blocks.into_inner().unwrap();
    let highest = seen.keys().last().copied().unwrap_or(0);
    network.wait_same_log(highest);
    let (height, _, _) = network.nodes[0].head();
    for node in &mut network.nodes {
        node.kill();
    }
    let packages = told.packages.into_inner().unwrap();
    let logs: Vec<_> = nodes.iter().map(|it| verified(it, &packages)).collect();
    let shortest = logs.iter().map(Vec::len).min().unwrap();
    assert!(
        height <= shortest as u64,
        "{height} blocks, {shortest} are left"
    );
    for log in &logs {
        assert_eq!(log[..shortest], logs[0][..shortest], "one block per height");
    }
    for (height, block) in seen.iter().filter(|it| *it.0 != 0) {
        let at = usize::try_from(height - 1).unwrap();
        assert_eq!(logs[0][at].to_string(), *block, "height {height}");
    }
    let fetched = told.fetched.into_inner();
    println!(
        "{} packages, {fetched} fetched, {height} blocks",
        packages.len()
    );
    assert!(PACKAGES_MIN <= packages.len() && 0 < fetched);
}
