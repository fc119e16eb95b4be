//! The numbers of whole nodes that do something.

use std::collections::BTreeMap;

use futures_lite::future::block_on;
use kogge::node::metrics::{Kind, Unit};
use kogge::{BuildSpec, Node};
use kogge_testkit::run::wait_until;

use crate::kit::{LIMIT, genesis, repository, start};

fn numbers(node: &Node) -> BTreeMap<&'static str, u64> {
    let metrics = node.metrics().into_iter();
    metrics.map(|it| (it.name, it.value)).collect()
}

/// Waits until all of `names` are above what they were.
fn wait_for_rise(node: &Node, before: &BTreeMap<&'static str, u64>, names: &[&str]) {
    for name in names {
        wait_until(name, LIMIT, || numbers(node).get(name) > before.get(name)).unwrap();
    }
}

#[test]
fn numbers_move_when_their_thing_happens() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = repository(&folder.path().join("repository"));
    let url = format!("http://127.0.0.1:{}", upstream.port);
    let network = genesis(folder.path(), 1);
    let alice = start(&folder.path().join("a0"), &network, &url, &[]);
    let before = numbers(&alice);
    let bob = start(&folder.path().join("bob"), &network, &url, &[&alice]);
    let bob_before = numbers(&bob);
    wait_for_rise(&alice, &before, &["kogge_peers", "kogge_handshakes_total"]);

    // A build: alice gets the package from upstream, and a block.
    let spec: BuildSpec = "maven org.example:lib:1.0".parse().unwrap();
    let build = block_on(bob.request_build(spec)).unwrap();
    block_on(bob.wait_build(build.id, LIMIT)).unwrap();
    let built = [
        "kogge_builds_committed_total",
        "kogge_log_height_blocks",
        "kogge_log_size_entries",
    ];
    wait_for_rise(&alice, &before, &built);
    wait_for_rise(&bob, &bob_before, &built);
    let stored = [
        "kogge_upstream_received_bytes_total",
        "kogge_store_artifacts",
        "kogge_store_bytes",
    ];
    wait_for_rise(&alice, &before, &stored);
    let spec: BuildSpec = "maven org.example:absent:1.0".parse().unwrap();
    let build = block_on(bob.request_build(spec)).unwrap();
    block_on(bob.wait_build(build.id, LIMIT)).unwrap();
    wait_for_rise(&bob, &bob_before, &["kogge_builds_failed_total"]);

    // A fetch: bob gets the jar from alice, then reads it from his store.
    let (_, jar) = bob
        .log()
        .file("pkg:maven/org.example/lib@1.0", "lib-1.0.jar")
        .unwrap()
        .unwrap();
    let artifact = block_on(bob.open(&jar.sha256.into())).unwrap();
    block_on(artifact.complete()).unwrap();
    let artifact = block_on(bob.open(&jar.sha256.into())).unwrap();
    let bytes = block_on(artifact.read(0, 1_000)).unwrap();
    let fetched = [
        "kogge_fetches_total",
        "kogge_exchange_received_bytes_total",
        "kogge_exchange_verified_groups_total",
        "kogge_store_artifacts",
    ];
    wait_for_rise(&bob, &bob_before, &fetched);
    wait_for_rise(&alice, &before, &["kogge_exchange_sent_bytes_total"]);
    let after = numbers(&bob);
    assert_eq!(after["kogge_store_read_bytes_total"], bytes.len() as u64);
    assert!(jar.size.div_ceil(65_536) <= after["kogge_exchange_verified_groups_total"]);

    // A refusal: eve is in another network.
    let mut other = network.clone();
    other.name = "other".into();
    let eve = start(&folder.path().join("eve"), &other, &url, &[&alice]);
    let refused = ["kogge_refusals_total", "kogge_refused_peers"];
    wait_for_rise(&alice, &before, &refused);

    for node in [alice, bob, eve] {
        block_on(node.shutdown());
    }
}

#[test]
fn names_are_unique_and_tell_kind_and_unit() {
    let folder = tempfile::tempdir().unwrap();
    let network = genesis(folder.path(), 1);
    let alice = start(
        &folder.path().join("a0"),
        &network,
        "http://127.0.0.1:9",
        &[],
    );
    let mut stems = Vec::new();
    for metric in alice.metrics() {
        let name = metric.name;
        // OpenMetrics names a counter without its end, so that must be unique, too.
        let stem = name.strip_suffix("_total").unwrap_or(name);
        assert!(!stems.contains(&stem), "{name}");
        stems.push(stem);
        assert_eq!(metric.kind == Kind::Counter, name != stem, "{name}");
        let unit = |it: Unit| stem.ends_with(&format!("_{}", it.as_str()));
        for it in [Unit::Bytes, Unit::Seconds] {
            assert_eq!(metric.unit == it, unit(it), "{name}");
        }
        assert!(stem.starts_with("kogge_") && metric.help.ends_with('.'));
        assert!(metric.unit != Unit::Truth || metric.value < 2, "{name}");
    }
    block_on(alice.shutdown());
}
