//! Children as the bench sees them, and networks of them on loopback.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use kogge::node::clock::Clock;
use kogge::node::keys;
use kogge::proto::chain::NodeKeys;
use kogge::{Genesis, Params};

use crate::bench::orders::{Answer, Order, Start, Status};
use crate::failure::{During, Failure};

/// How long a network may take to find together.
const MEET_TIMEOUT: Duration = Duration::from_secs(60);

/// Between two looks at something that takes a while.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A child process with a node. It is killed when dropped.
pub(super) struct Child {
    process: process::Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Child {
    /// Starts a process of this very program, without a node yet.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the system refuses.
    pub(super) fn spawn() -> Result<Self, Failure> {
        let program = std::env::current_exe().during("cannot find this program")?;
        let mut process = Command::new(program)
            .args(["bench", "--child"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .during("cannot start a child")?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        match (input, output) {
            (Some(input), Some(output)) => Ok(Self {
                process,
                input,
                output: BufReader::new(output),
            }),
            _ => Err(Failure::new("bench", "a child without standard streams")),
        }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Tells it what to do; [`Child::hear`] gets the answer.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it is gone.
    pub(super) fn tell(&mut self, order: &Order) -> Result<(), Failure> {
        let mut text = serde_json::to_string(order).during("cannot write an order")?;
        text.push('\n');
        let written = self.input.write_all(text.as_bytes());
        written.during("a child is gone")
    }

    /// Waits for the answer to the oldest order.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it is gone, or could not do it.
    pub(super) fn hear(&mut self) -> Result<Answer, Failure> {
        let mut line = String::new();
        let count = self
            .output
            .read_line(&mut line)
            .during("a child is silent")?;
        if count == 0 {
            return Err(Failure::new("bench", "a child ended"));
        }
        match serde_json::from_str(&line).during("unreadable answer")? {
            Answer::Failed(reason) => Err(Failure::new("bench", reason)),
            answer => Ok(answer),
        }
    }

    /// Tells and hears.
    ///
    /// # Errors
    ///
    /// As for both.
    pub(super) fn ask(&mut self, order: &Order) -> Result<Answer, Failure> {
        self.tell(order)?;
        self.hear()
    }

    /// How its node stands.
    ///
    /// # Errors
    ///
    /// As for [`Child::ask`].
    pub(super) fn status(&mut self) -> Result<Status, Failure> {
        match self.ask(&Order::Status)? {
            Answer::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until `is_so` holds.
    ///
    /// # Errors
    ///
    /// [`Failure`] naming `what` if it does not hold in time.
    pub(super) fn wait(
        &mut self,
        clock: &Clock,
        what: &str,
        is_so: impl Fn(&Status) -> bool,
    ) -> Result<Status, Failure> {
        let began = clock.now();
        loop {
            let status = self.status()?;
            if is_so(&status) {
                return Ok(status);
            }
            if MEET_TIMEOUT < clock.now().since(began) {
                let text = format!("a node does not get to: {what} ({status:?})");
                return Err(Failure::new("bench", text));
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An answer to another question.
pub(super) fn unexpected(answer: &Answer) -> Failure {
    Failure::new("bench", format!("a child answered {answer:?}"))
}

/// A network on loopback; its data directories are below one folder.
pub(super) struct Fleet {
    folder: PathBuf,
    clock: Clock,
    /// Its genesis.
    pub(super) genesis: Genesis,
    /// Keys of its authorized nodes.
    pub(super) keys: Vec<NodeKeys>,
    /// Maven upstreams of nodes that start from now on.
    pub(super) repositories: Vec<String>,
}

impl Fleet {
    /// Plans a network of `members` authorized nodes, whose directories are `a0`, `a1`, ….
    ///
    /// # Errors
    ///
    /// [`Failure`] if the folder cannot be written.
    pub(super) fn plan(folder: &Path, clock: Clock, members: usize) -> Result<Self, Failure> {
        let mut made = Vec::new();
        for at in 0..members {
            let data = folder.join(member(at));
            fs::create_dir_all(&data).during("cannot make a folder")?;
            made.push(keys::load_or_create(&data)?);
        }
        let cards = made.iter().enumerate();
        let genesis = Genesis {
            version: 1,
            name: "bench".into(),
            origin: "bench.kogge/log".into(),
            time: clock.wall(),
            members: cards.map(|(at, it)| it.card(&member(at))).collect(),
            params: Params {
                block_interval_min_ms: 0,
                ..Params::default()
            },
        };
        Ok(Self {
            folder: folder.to_owned(),
            clock,
            genesis,
            keys: made,
            repositories: Vec::new(),
        })
    }

    /// The data directory of a node.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts the node `name`, which dials `peers`. Returns it with the time it took, in
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it does not start.
    pub(super) fn start(
        &self,
        name: &str,
        listens: bool,
        peers: Vec<String>,
        probe: Option<u64>,
    ) -> Result<(Child, f64), Failure> {
        let mut child = Child::spawn()?;
        let start = Order::Start(Box::new(Start {
            folder: self.data(name),
            genesis: self.genesis.clone(),
            listens,
            peers,
            repositories: self.repositories.clone(),
            probe,
        }));
        match child.ask(&start)? {
            Answer::Started { millis } => Ok((child, millis)),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts all authorized nodes and waits until each knows every other.
    ///
    /// # Errors
    ///
    /// [`Failure`] if they do not find together.
    pub(super) fn start_members(&self) -> Result<Vec<Child>, Failure> {
        let (mut nodes, mut addresses) = (Vec::new(), Vec::new());
        for at in 0..self.keys.len() {
            let (mut node, _) = self.start(&member(at), true, addresses.clone(), None)?;
            addresses.extend(node.status()?.listen);
            nodes.push(node);
        }
        let others = nodes.len().saturating_sub(1);
        for node in &mut nodes {
            node.wait(&self.clock, "all members", |it| others <= it.peers)?;
        }
        Ok(nodes)
    }

    /// The data directories of all authorized nodes.
    pub(super) fn members(&self) -> Vec<PathBuf> {
        (0..self.keys.len())
            .map(|at| self.data(&member(at)))
            .collect()
    }
}

/// Name of an authorized node and of its data directory.
pub(super) fn member(at: usize) -> String {
    format!("a{at}")
}
