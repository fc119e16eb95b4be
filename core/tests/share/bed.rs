//! A small network in one process: one authorized node, and regular ones that know it.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use futures_lite::future;
use kogge::node::keys;
use kogge::proto::build::Maven;
use kogge::proto::build::status::State;
use kogge::{
    Artifact, BuildSpec, Config, Digest, Event, Genesis, Network, Node, Params, Sha256, WallTime,
};

use crate::upstream::{File, Upstream};

/// No single wait of a test takes longer, unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Bed {
    dir: tempfile::TempDir,
    pub(crate) upstream: Upstream,
    pub(crate) genesis: Genesis,
    /// Where the nodes that run or ran listen.
    addresses: Mutex<BTreeMap<String, String>>,
}

/// The authorized node.
pub(crate) const ALICE: &str = "alice";

impl Bed {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join(ALICE);
        std::fs::create_dir(&home).unwrap();
        let keys = keys::load_or_create(&home).unwrap();
        let genesis = Genesis {
            version: 1,
            name: "share".into(),
            origin: "kogge.test/share".into(),
            time: WallTime::from_millis(1_790_000_000_000),
            members: vec![keys.card(ALICE)],
            params: Params {
                block_interval_min_ms: 10,
                ..Params::default()
            },
        };
        Self {
            dir,
            upstream: Upstream::start(),
            genesis,
            addresses: Mutex::default(),
        }
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self, name: &str, peers: &[&str]) -> Config {
        let addresses = self.addresses.lock().unwrap();
        let peers = peers.iter().map(|it| addresses[*it].clone()).collect();
        config(&self.home(name), &self.upstream.url(), peers)
    }

    pub(crate) fn network(&self) -> Network {
        Network::Genesis(Box::new(self.genesis.clone()))
    }

    /// Where `name` listens.
    pub(crate) fn address(&self, name: &str) -> String {
        self.addresses.lock().unwrap()[name].clone()
    }

    pub(crate) async fn start(&self, name: &str, peers: &[&str]) -> Node {
        self.start_with(name, peers, |_| {}).await
    }

    pub(crate) async fn start_with(
        &self,
        name: &str,
        peers: &[&str],
        change: impl FnOnce(&mut Config),
    ) -> Node {
        let mut config = self.config(name, peers);
        change(&mut config);
        let node = Node::start(config, self.network()).await.unwrap();
        let address = listens(&node).await;
        let mut addresses = self.addresses.lock().unwrap();
        addresses.insert(name.to_owned(), address);
        node
    }

    /// Publishes a package upstream and has `node` ask for it; returns the digests of `files`.
    pub(crate) async fn build(&self, node: &Node, name: &str, files: &[File]) -> Vec<Digest> {
        let contents = self.upstream.publish(name, files);
        build(node, name).await;
        contents
            .iter()
            .map(|it| Sha256::of(it.as_slice()).into())
            .collect()
    }
}

/// Shuts a node down and lets go of its data directory.
pub(crate) async fn stop(node: Node) {
    within("a node stops", node.shutdown()).await;
}

pub(crate) fn config(home: &Path, upstream: &str, peers: Vec<String>) -> Config {
    std::fs::create_dir_all(home).unwrap();
    let mut config = Config::new(home);
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    config.repositories = vec![upstream.to_owned()];
    config.peers = peers;
    config
}

pub(crate) async fn build(node: &Node, name: &str) {
    let spec = BuildSpec::Maven(Maven::new(None, "org.example", name, "1.0").unwrap());
    let id = within("a build is taken", async {
        let events = node.events();
        loop {
            match node.request_build(spec.clone()).await {
                Ok(status) => return status.id,
                Err(_) => drop(events.recv().await),
            }
        }
    })
    .await;
    let status = node.wait_build(id, PATIENCE).await.unwrap();
    assert!(
        matches!(status.state, State::Committed { .. }),
        "{:?} {:?}",
        status.state,
        status.nodes
    );
}

/// The first address of `node`.
pub(crate) async fn listens(node: &Node) -> String {
    let listens = || node.status().listen.first().cloned();
    until(node, "a node listens", listens).await
}

/// Waits until `look` sees what it waits for; it is called whenever something happened.
pub(crate) async fn until<T>(node: &Node, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let events = node.events();
    within(what, async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            events.recv().await.unwrap();
        }
    })
    .await
}

/// Waits until the log of `node` has `digest`.
pub(crate) async fn logged(node: &Node, digest: &Digest) {
    let log = node.log();
    let look = || log.by_digest(digest).unwrap();
    until(node, "an artifact is in the log", look).await;
}

/// Waits until `node` has admitted `count` peers.
pub(crate) async fn admitted(node: &Node, count: usize) {
    let look = || {
        let peers = node.peers();
        (peers.iter().filter(|it| it.state == "admitted").count() >= count).then_some(())
    };
    until(node, "peers are admitted", look).await;
}

/// Waits for a fault, and tells what it was.
pub(crate) async fn fault(events: &async_channel::Receiver<Event>) -> String {
    within("a fault is seen", async {
        loop {
            if let Event::Fault { reason, .. } = events.recv().await.unwrap() {
                return reason;
            }
        }
    })
    .await
}

pub(crate) async fn open(node: &Node, digest: &Digest) -> Artifact {
    logged(node, digest).await;
    node.open(digest).await.unwrap()
}

/// Reads an artifact from its first to its last byte.
pub(crate) async fn read_all(artifact: &Artifact) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let next = artifact.read(bytes.len() as u64, 1 << 20).await?;
        if next.is_empty() {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&next);
    }
}

/// Fetches an artifact and checks what came against the digest it was asked by.
pub(crate) async fn fetch(node: &Node, digest: &Digest) {
    let artifact = open(node, digest).await;
    let bytes = within("an artifact comes", read_all(&artifact))
        .await
        .unwrap();
    assert_eq!(Digest::from(Sha256::of(&bytes)), *digest);
    artifact.complete().await.unwrap();
    assert!(node.stores(&artifact.entry().blake3));
}

pub(crate) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let limit = async {
        async_io::Timer::after(PATIENCE).await;
        panic!("not within {} s: {what}", PATIENCE.as_secs());
    };
    future::or(wait, limit).await
}
