//! The node's futures run on whatever executor the host has: one story, told on each of them.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kogge::net::Spawn;
use kogge::proto::build::status::State;
use kogge::proto::pool::Change;
use kogge::{Blake3, BuildSpec, Config, Event, FetchError, Network, Node, NodeError, Sha256};
use kogge_testkit::proxy::Server;

/// How long a build may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

static JAR: [u8; 200_000] = [7; 200_000];

/// A static Maven repository with one package.
fn repository(root: &Path) -> Server {
    let folder = root.join("org/example/lib/1.0");
    std::fs::create_dir_all(&folder).unwrap();
    let pom = "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>\
               <artifactId>lib</artifactId><version>1.0</version></project>";
    std::fs::write(folder.join("lib-1.0.pom"), pom).unwrap();
    std::fs::write(folder.join("lib-1.0.jar"), JAR.as_slice()).unwrap();
    Server::files(root.to_owned()).unwrap()
}

fn config(folder: &Path, upstream: &Server) -> Config {
    let mut config = Config::new(folder.join("data"));
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    config.repositories = vec![format!("http://127.0.0.1:{}", upstream.port)];
    config
}

/// Awaits every future of the public interface; returns the jar as it was read.
async fn live(folder: &Path) -> Vec<u8> {
    let upstream = repository(&folder.join("repository"));
    let config = config(folder, &upstream);
    let node = Node::start(config, Network::StoredOrSolo).await.unwrap();
    use_it(&node).await
}

async fn use_it(node: &Node) -> Vec<u8> {
    let events = node.events();
    let spec: BuildSpec = "maven org.example:lib:1.0".parse().unwrap();
    let asked = node.request_build(spec).await.unwrap();
    let built = node.wait_build(asked.id, LIMIT).await.unwrap();
    assert!(
        matches!(built.state, State::Committed { .. }),
        "{}",
        built.state
    );
    assert_eq!(node.build(asked.id).await.unwrap(), Some(built.clone()));
    assert_eq!(node.builds().await.unwrap(), [built]);
    while !matches!(events.recv().await.unwrap(), Event::Committed { .. }) {}

    let artifact = node.open(&Sha256::of(&JAR).into()).await.unwrap();
    let mut bytes = Vec::new();
    while bytes.len() < JAR.len() {
        bytes.extend(artifact.read(bytes.len() as u64, 1 << 16).await.unwrap());
    }
    artifact.complete().await.unwrap();
    node.pin(artifact.entry().blake3, true).await.unwrap();

    // What fails comes back as well, and a future that is dropped half-way harms nothing.
    let unknown = node.open(&Sha256::of(b"nothing").into()).await.map(drop);
    assert!(matches!(unknown, Err(FetchError::Unknown(_))));
    assert!(node.pin(Blake3::of(b"nothing"), true).await.is_err());
    assert!(node.offer(Vec::new()).await.is_err());
    let reason = "a test".into();
    let stranger = Change::RemoveNode {
        node: kogge::base::PublicKey([9; 32]),
        reason,
    };
    node.consent(stranger.clone()).await.unwrap();
    assert!(
        node.consent(stranger).await.is_err(),
        "it consented already"
    );
    node.changes().await.unwrap();
    let never: BuildSpec = "maven org.example:never:1.0".parse().unwrap();
    let late = node.wait_build(never.id(), Duration::from_millis(1)).await;
    assert!(matches!(late, Err(NodeError::Timeout(_))));
    let _ = futures_lite::future::poll_once(node.builds()).await;
    let _ = futures_lite::future::poll_once(node.shutdown()).await;

    futures_lite::future::zip(node.shutdown(), node.shutdown()).await;
    assert_eq!(node.stopped().await, None);
    assert!(matches!(node.builds().await, Err(NodeError::Closed)));
    while events.recv().await.is_ok() {}
    bytes
}

fn told_by(executor: impl FnOnce(BoxFuture<'static, Vec<u8>>) -> Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let bytes = executor(Box::pin(async move { live(&path).await }));
    assert_eq!(bytes, JAR);
}

#[test]
fn smol_runs_the_node() {
    told_by(|story| smol::block_on(smol::spawn(story)));
}

#[test]
fn a_tokio_runtime_of_one_thread_runs_the_node() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    told_by(|story| { runtime }.build().unwrap().block_on(story));
}

#[test]
fn a_tokio_runtime_of_many_threads_runs_the_node() {
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    told_by(|story| runtime.block_on(runtime.spawn(story)).unwrap());
}

#[test]
fn the_executor_of_futures_runs_the_node() {
    told_by(futures::executor::block_on);
}

#[test]
fn pollster_runs_the_node() {
    told_by(pollster::block_on);
}

/// The host's executor carries the node's own tasks, too.
struct Host(tokio::runtime::Handle);

impl Spawn for Host {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.0.spawn(task));
    }
}

#[test]
fn a_node_without_threads_of_its_own_runs_on_the_executor_of_its_host() {
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let upstream = repository(&folder.path().join("repository"));
    let config = config(folder.path(), &upstream);
    let host = Arc::new(Host(runtime.handle().clone()));
    let node = pollster::block_on(Node::start_on(config, Network::StoredOrSolo, host)).unwrap();
    assert_eq!(pollster::block_on(use_it(&node)), JAR);
}
