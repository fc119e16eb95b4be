//! Nodes in processes of their own: this test program, started again.
//!
//! A child runs the ignored test below on its data directory, tells by files how it stands, and
//! ends when it is killed or its standard input is closed.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kogge::node::clock::Clock;
use kogge::{Digest, Network, Node};

use crate::bed::{admitted, build, config, listens, within};
use crate::upstream::Upstream;

/// How often files and counters are looked at that cannot be waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

pub(crate) struct Process {
    child: Child,
    home: PathBuf,
}

impl Process {
    /// Starts a node on `home`; with `want`, it fetches that from the node at `peer`.
    pub(crate) fn start(home: &Path, peer: Option<&str>, want: Option<&Digest>) -> Self {
        let want = want.map(ToString::to_string).unwrap_or_default();
        Self::start_with(
            home,
            &[
                ("KOGGE_TEST_PEER", peer.unwrap_or_default()),
                ("KOGGE_TEST_WANT", &want),
            ],
        )
    }

    /// Starts a node on `home` that asks for the package `name`.
    pub(crate) fn build(home: &Path, upstream: &Upstream, name: &str) -> Self {
        let url = upstream.url();
        Self::start_with(
            home,
            &[("KOGGE_TEST_UPSTREAM", &url), ("KOGGE_TEST_BUILD", name)],
        )
    }

    fn start_with(home: &Path, variables: &[(&str, &str)]) -> Self {
        for file in ["address", "report"] {
            let _ = std::fs::remove_file(home.join(file));
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::node", "--ignored", "--nocapture"])
            .env("KOGGE_TEST_HOME", home)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let home = home.to_owned();
        Self { child, home }
    }

    /// Where it listens.
    pub(crate) async fn address(&self) -> String {
        self.file("address").await
    }

    /// Seconds that its fetch took, and the most memory it has used in bytes.
    pub(crate) async fn report(&self) -> (f64, u64) {
        let report = self.file("report").await;
        let (seconds, memory) = report.split_once(' ').unwrap();
        (seconds.parse().unwrap(), memory.parse().unwrap())
    }

    /// The most memory that it has used by now. Unit: bytes.
    pub(crate) fn memory(&self) -> u64 {
        memory(&self.child.id().to_string())
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn file(&self, name: &str) -> String {
        let path = self.home.join(name);
        eventually(name, || std::fs::read_to_string(&path).ok()).await
    }
}

/// Looks again and again until `look` sees what it waits for.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            async_io::Timer::after(LOOK_INTERVAL).await;
        }
    })
    .await
}

#[test]
#[ignore = "the body of a child process"]
fn node() {
    let variable = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
    let home = PathBuf::from(variable("KOGGE_TEST_HOME").unwrap());
    let peers = variable("KOGGE_TEST_PEER").into_iter().collect();
    let upstream = variable("KOGGE_TEST_UPSTREAM");
    let upstream = upstream.as_deref().unwrap_or("http://127.0.0.1:9");
    async_io::block_on(async {
        let config = config(&home, upstream, peers);
        let node = Node::start(config, Network::Stored).await.unwrap();
        tell(&home, "address", &listens(&node).await);
        if let Some(name) = variable("KOGGE_TEST_BUILD") {
            build(&node, &name).await;
        }
        if let Some(want) = variable("KOGGE_TEST_WANT") {
            admitted(&node, 1).await;
            let (clock, began) = (Clock::start(), Clock::start().now());
            let artifact = node.open(&want.parse().unwrap()).await.unwrap();
            artifact.complete().await.unwrap();
            let seconds = clock.now().since(began).as_secs_f64();
            tell(&home, "report", &format!("{seconds} {}", memory("self")));
        }
        // Until the parent ends.
        let _ = std::io::stdin().read(&mut [0]);
    });
}

/// Writes a file whole or not at all.
fn tell(home: &Path, name: &str, text: &str) {
    let staged = home.join("telling");
    std::fs::write(&staged, text).unwrap();
    std::fs::rename(staged, home.join(name)).unwrap();
}

/// The most resident memory that a process had.
fn memory(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|it| it.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1_024
}
