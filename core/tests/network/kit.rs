//! What the tests start: an upstream, a genesis, nodes.

use std::path::Path;
use std::time::Duration;

use futures_lite::future::block_on;
use kogge::node::keys;
use kogge::{Config, Genesis, Network, Node, Params, WallTime};
use kogge_testkit::proxy::Server;
use kogge_testkit::run::wait_until;

/// How long a build or a catch-up may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A static Maven repository with one package.
pub(crate) fn repository(root: &Path) -> Server {
    let folder = root.join("org/example/lib/1.0");
    std::fs::create_dir_all(&folder).unwrap();
    let pom = "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>\
               <artifactId>lib</artifactId><version>1.0</version></project>";
    std::fs::write(folder.join("lib-1.0.pom"), pom).unwrap();
    let jar: Vec<u8> = (0..3_000_000_u32).flat_map(|it| it.to_le_bytes()).collect();
    std::fs::write(folder.join("lib-1.0.jar"), jar).unwrap();
    Server::files(root.to_owned()).unwrap()
}

/// A network whose authorized nodes have their data in `a0`, `a1` … below `folder`.
pub(crate) fn genesis(folder: &Path, count: usize) -> Genesis {
    let card = |at: usize| {
        let data = folder.join(format!("a{at}"));
        std::fs::create_dir_all(&data).unwrap();
        keys::load_or_create(&data)
            .unwrap()
            .card(&format!("node-{at}"))
    };
    Genesis {
        version: 1,
        name: "test".into(),
        origin: "kogge.test/log".into(),
        time: WallTime::from_millis(1_790_000_000_000),
        members: (0..count).map(card).collect(),
        params: Params {
            block_interval_min_ms: 0,
            ..Params::default()
        },
    }
}

/// A node with its data in `folder` that listens and keeps links to `peers`.
pub(crate) fn start(folder: &Path, genesis: &Genesis, upstream: &str, peers: &[&Node]) -> Node {
    let peers = peers.iter().flat_map(|it| it.status().listen);
    start_with(folder, genesis, |config| {
        config.peers = peers.collect();
        config.repositories = vec![upstream.into()];
    })
}

/// A node with its data in `folder` that listens, otherwise configured by `set`.
pub(crate) fn start_with(folder: &Path, genesis: &Genesis, set: impl FnOnce(&mut Config)) -> Node {
    let mut config = Config::new(folder);
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    set(&mut config);
    let node = block_on(Node::start(
        config,
        Network::Genesis(Box::new(genesis.clone())),
    ))
    .unwrap();
    wait_until("listening", LIMIT, || !node.status().listen.is_empty()).unwrap();
    node
}
