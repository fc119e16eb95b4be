//! The processes of the demo's network.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kogge::Status;
use serde_json::json;

use crate::Session;
use crate::client::{Address, Client};
use crate::commands::network::local::LocalNode;
use crate::failure::{During, Failure};
use crate::place::socket_in;
use crate::progress::Progress;
use crate::text::clean;

/// How long the network may take to be ready.
const READY_TIMEOUT_MS: u64 = 90_000;

/// How long a node may take to stop before it is killed.
const STOP_TIMEOUT_MS: u64 = 15_000;

/// Time between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Name of a node's log in its data directory.
const LOG_FILE: &str = "log.txt";

/// Bytes at the end of a log that a failure shows.
const TAIL_BYTES: usize = 600;

/// A node that was started; killed when dropped.
struct Process {
    node: LocalNode,
    client: Client,
    child: Child,
}

/// All of them, authorized ones first.
pub(crate) struct Nodes {
    all: Vec<Process>,
    asker: Client,
    reader: LocalNode,
    reader_client: Client,
    clock: kogge::node::clock::Clock,
}

impl Nodes {
    /// Starts `nodes` and waits until each follows the log and has its peers.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the end of its log if one stops or is not ready in time.
    pub(crate) async fn start(session: &Session, nodes: Vec<LocalNode>) -> Result<Self, Failure> {
        let program = std::env::current_exe().during("cannot find this program")?;
        let count = nodes.len();
        let all: Result<Vec<_>, Failure> = nodes
            .into_iter()
            .map(|it| Process::start(&program, it))
            .collect();
        let all = all?;
        let mut regular = all.iter().filter(|it| !it.node.is_authorized);
        let (Some(asker), Some(reader)) = (regular.next(), regular.next()) else {
            return Err(Failure::input("the demo needs two regular nodes"));
        };
        let mut nodes = Self {
            asker: asker.client.clone(),
            reader: reader.node.clone(),
            reader_client: reader.client.clone(),
            clock: session.clock,
            all,
        };
        let mut progress = Progress::steps(session.output, "nodes ready", count as u64);
        let end = nodes.millis() + READY_TIMEOUT_MS;
        loop {
            let mut ready = 0;
            for process in &mut nodes.all {
                process.check_alive()?;
                // Until its socket is there, a node has no status.
                let status: Result<Status, _> = process.client.get("/status").await;
                ready += u64::from(status.is_ok_and(|it| is_ready(&it)));
            }
            progress.set(ready);
            if ready == count as u64 {
                break;
            }
            if end < nodes.millis() {
                let message = format!(
                    "only {ready} of {count} nodes were ready within {} s",
                    READY_TIMEOUT_MS / 1_000
                );
                return Err(Failure::new("timeout", message));
            }
            async_io::Timer::after(POLL_INTERVAL).await;
        }
        session.output.note(format!("{count} nodes are connected"));
        Ok(nodes)
    }

    /// The nodes.
    pub(crate) fn all(&self) -> Vec<&LocalNode> {
        self.all.iter().map(|it| &it.node).collect()
    }

    /// The owner's client of the regular node that asks for packages.
    pub(crate) fn asker(&self) -> &Client {
        &self.asker
    }

    /// The regular node that gets them.
    pub(crate) fn reader(&self) -> &LocalNode {
        &self.reader
    }

    /// The owner's client of [`Nodes::reader`].
    pub(crate) fn reader_client(&self) -> &Client {
        &self.reader_client
    }

    /// Names of the nodes by their ids.
    ///
    /// # Errors
    ///
    /// [`Failure`] if one does not answer.
    pub(crate) async fn names(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut names = Vec::new();
        for process in &self.all {
            let status: Status = process.client.get("/status").await?;
            names.push((status.node.to_string(), process.node.name.clone()));
        }
        Ok(names)
    }

    /// Milliseconds since the program started.
    pub(crate) fn millis(&self) -> u64 {
        self.clock.now().as_nanos() / 1_000_000
    }

    /// Asks all nodes to stop, and kills those that do not.
    pub(crate) async fn stop(mut self) {
        for process in &self.all {
            // One that is gone already cannot answer.
            let _ = process.client.post("/api/shutdown", &json!({})).await;
        }
        let end = self.millis() + STOP_TIMEOUT_MS;
        let is_running = |it: &mut Process| matches!(it.child.try_wait(), Ok(None));
        while self.millis() < end {
            let running = self
                .all
                .iter_mut()
                .filter_map(|it| is_running(it).then_some(()))
                .count();
            if running == 0 {
                break;
            }
            async_io::Timer::after(POLL_INTERVAL).await;
        }
    }
}

/// Follows the log, and is connected as the demo needs it.
fn is_ready(status: &Status) -> bool {
    let waiting = status.consensus.as_ref().and_then(|it| it.waiting.as_ref());
    let connected = status.network.members.iter().all(|it| it.connected);
    status.ready && waiting.is_none() && connected && status.log.state == "live"
}

impl Process {
    fn start(program: &PathBuf, node: LocalNode) -> Result<Self, Failure> {
        let what = || format!("cannot start {}", node.name);
        let log = File::create(node.folder.join(LOG_FILE)).during(what())?;
        let child = Command::new(program)
            .arg("--data-dir")
            .arg(&node.folder)
            .args(["up", "--until-eof"])
            .stdin(Stdio::piped())
            .stdout(log.try_clone().during(what())?)
            .stderr(log)
            .spawn()
            .during(what())?;
        let client = Client::new(Address::Socket(socket_in(&node.folder)?));
        Ok(Self {
            node,
            client,
            child,
        })
    }

    fn check_alive(&mut self) -> Result<(), Failure> {
        let Ok(Some(status)) = self.child.try_wait() else {
            return Ok(());
        };
        let path = self.node.folder.join(LOG_FILE);
        let log = std::fs::read(&path).unwrap_or_default();
        let tail = log
            .get(log.len().saturating_sub(TAIL_BYTES)..)
            .unwrap_or_default();
        let tail = String::from_utf8_lossy(tail);
        let last = tail.trim_end().lines().last().unwrap_or_default();
        let message = format!("{} ended with {status}: {}", self.node.name, clean(last));
        Err(Failure::new("node", message))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// The name of the node with the id `source`.
pub(crate) fn name_of(names: &[(String, String)], source: &str) -> String {
    let known = names
        .iter()
        .find(|it| it.0 == source)
        .map(|it| it.1.clone());
    known.unwrap_or_else(|| crate::text::short(source))
}

/// A client of a node by its port, as image and Maven clients have it.
pub(crate) fn tcp(node: &LocalNode) -> Client {
    Client::new(Address::Tcp(([127, 0, 0, 1], node.http_port).into()))
}
