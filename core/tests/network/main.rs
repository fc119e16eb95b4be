//! Networks of real nodes in one process, over real sockets, with real upstreams.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod kit;
mod links;
mod metrics;
mod relay;

use std::time::Duration;

use futures_lite::future::block_on;
use kogge::{BuildSpec, Node};
use kogge_testkit::run::wait_until;

use crate::kit::{LIMIT, genesis, repository, start};

/// How long a checkpoint of the same log may take: seconds even on a busy machine, and far less
/// than the next round of signatures, which would bring one to who missed the first.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(15);

#[test]
fn four_authorized_nodes_agree_and_regular_nodes_share() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let folder = tempfile::tempdir().unwrap();
    let upstream = repository(&folder.path().join("repository"));
    let url = format!("http://127.0.0.1:{}", upstream.port);
    let genesis = genesis(folder.path(), 4);
    let mut nodes: Vec<Node> = Vec::new();
    for at in 0..4 {
        let peers: Vec<&Node> = nodes.iter().collect();
        nodes.push(start(
            &folder.path().join(format!("a{at}")),
            &genesis,
            &url,
            &peers,
        ));
    }
    let first: Vec<&Node> = nodes.iter().take(2).collect();
    let alice = start(&folder.path().join("alice"), &genesis, &url, &first);
    let bob = start(&folder.path().join("bob"), &genesis, &url, &[&alice]);

    let spec: BuildSpec = "maven org.example:lib:1.0".parse().unwrap();
    let build = block_on(bob.request_build(spec)).unwrap();
    let build = block_on(bob.wait_build(build.id, LIMIT)).unwrap();
    assert!(
        build.state.to_string().starts_with("committed"),
        "{}",
        build.state
    );

    // Everybody has the same log.
    for node in nodes.iter().chain([&alice, &bob]) {
        wait_until("the same log", LIMIT, || {
            node.status().log.root == bob.status().log.root && node.status().log.size != 0
        })
        .unwrap();
    }
    for node in nodes.iter().chain([&alice, &bob]) {
        wait_until("a checkpoint", CHECKPOINT_LIMIT, || {
            node.log().checkpoint().is_some()
        })
        .unwrap();
    }

    // The upstream is gone: bob gets the file from peers.
    upstream.switch_off(true);
    let (_, jar) = bob
        .log()
        .file("pkg:maven/org.example/lib@1.0", "lib-1.0.jar")
        .unwrap()
        .unwrap();
    let artifact = block_on(bob.open(&jar.sha256.into())).unwrap();
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < artifact.size() {
        bytes.extend(block_on(artifact.read(bytes.len() as u64, 1 << 20)).unwrap());
    }
    assert_eq!(kogge::Sha256::of(&bytes), jar.sha256);
    block_on(artifact.complete()).unwrap();
    assert!(bob.stores(&jar.blake3));
    // Every byte came from a peer, and was used once. A few may have come a second time, from
    // another source, if the machine was so busy that one seemed to be stuck.
    let origin = bob.origin_of(&jar.blake3).unwrap();
    let used: u64 = origin.sources.iter().map(|it| it.1).sum();
    assert_eq!(used, jar.size);
    assert!(bob.status().transfer.received >= jar.size);

    // Who comes later reads all that is known as soon as it is live, the newest block too.
    let carol = start(&folder.path().join("carol"), &genesis, &url, &[&alice]);
    block_on(carol.live()).unwrap();
    assert_eq!(carol.status().log.root, bob.status().log.root);

    for node in nodes.iter().chain([&alice, &bob, &carol]) {
        block_on(node.shutdown());
    }
}
