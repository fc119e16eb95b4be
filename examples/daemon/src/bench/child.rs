//! A child process of the bench: one node that does what standard input says.

use std::collections::VecDeque;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use futures_lite::future::{block_on, or};
use kogge::base::{Rng, Time};
use kogge::node::clock::Clock;
use kogge::node::keys;
use kogge::proto::log::query::DigestFilter;
use kogge::{BuildSpec, Config, Digest, Entry, Event, Network, Node, NodeError, Query};

use crate::bench::facts;
use crate::bench::figure::millis;
use crate::bench::orders::{Answer, Order, Start, Status};
use crate::failure::{During, Failure};

/// How long an order may take.
const ORDER_TIMEOUT: Duration = Duration::from_secs(600);

/// Between two looks at the checkpoint, which no event tells of.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Before a package that the pool did not take is offered again.
const AGAIN_INTERVAL: Duration = Duration::from_millis(5);

/// Bytes of one read. Unit: bytes.
const READ_BYTES: usize = 1 << 20;

/// Obeys until standard input ends: a child does not outlive the bench.
pub(super) fn serve() -> ExitCode {
    let mut child = Child {
        clock: Clock::start(),
        node: None,
        prepared: VecDeque::new(),
    };
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let answer = match serde_json::from_str(&line) {
            Ok(order) => block_on(child.obey(order)),
            Err(error) => Err(Failure::new("bench", format!("unreadable order: {error}"))),
        };
        let answer = answer.unwrap_or_else(|it| Answer::Failed(it.message));
        let Ok(mut text) = serde_json::to_string(&answer) else {
            break;
        };
        text.push('\n');
        let mut out = io::stdout().lock();
        if out
            .write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            break;
        }
    }
    if let Some(node) = child.node {
        block_on(node.shutdown());
    }
    ExitCode::SUCCESS
}

struct Child {
    clock: Clock,
    node: Option<Node>,
    prepared: VecDeque<Vec<Entry>>,
}

impl Child {
    async fn obey(&mut self, order: Order) -> Result<Answer, Failure> {
        if let Order::Start(start) = order {
            return self.start(*start).await;
        }
        let node = self.node.clone();
        let node = node.ok_or_else(|| Failure::new("bench", "the node does not run"))?;
        match order {
            Order::Start(_) => Ok(Answer::Done),
            Order::Status => Ok(Answer::Status(status(&node))),
            Order::Build { spec, purl } => build(&node, &spec, &purl).await,
            Order::Prepare {
                signers,
                from,
                count,
            } => {
                let mut loaded = Vec::new();
                for folder in signers {
                    loaded.push(keys::load_or_create(&folder)?);
                }
                let (chain, time) = (node.genesis().chain(), node.wall());
                let group = |it| facts::group(it, &chain, &loaded, time);
                self.prepared = (from..from + count).map(group).collect();
                Ok(Answer::Done)
            }
            Order::Offer => {
                let group = self.prepared.pop_front().unwrap_or_default();
                node.offer(group).await?;
                Ok(Answer::Done)
            }
            Order::Pour {
                pourers,
                waiting_max,
            } => {
                let groups = std::mem::take(&mut self.prepared);
                node.spawn(pour(node.clone(), groups, pourers, waiting_max));
                Ok(Answer::Done)
            }
            Order::AwaitSize(size) => in_time(await_size(&node, size)).await,
            Order::AwaitCheckpoint(size) => in_time(await_checkpoint(&node, size)).await,
            Order::Read(digest) => self.read(&node, &digest).await,
            Order::Complete(digest) => self.complete(&node, &digest).await,
            Order::Waybill(index) => {
                let waybill = node.log().waybill(index).during("no waybill")?;
                Ok(Answer::Waybill(waybill))
            }
            Order::Query { count, packages } => self.query(&node, count, packages),
        }
    }

    async fn start(&mut self, start: Start) -> Result<Answer, Failure> {
        let mut config = Config::new(start.folder);
        config.listen.clear();
        if start.listens {
            config.listen.push("/ip4/127.0.0.1/tcp/0".to_owned());
        }
        config.peers = start.peers;
        config.repositories = start.repositories;
        let network = Network::Genesis(Box::new(start.genesis));
        let began = self.clock.now();
        let node = Node::start(config, network).await?;
        if let Some(number) = start.probe {
            let found = node.log().package(&facts::purl(number));
            if found.during("the log does not answer")?.is_empty() {
                return Err(Failure::new("bench", "the log lacks the package"));
            }
        }
        let millis = self.since(began);
        let heard = async {
            let events = node.events();
            while start.listens && node.status().listen.is_empty() {
                let _ = events.recv().await;
            }
            Ok(Answer::Started { millis })
        };
        let answer = in_time(heard).await;
        self.node = Some(node);
        answer
    }

    async fn read(&self, node: &Node, digest: &str) -> Result<Answer, Failure> {
        let digest = parse(digest)?;
        let began = self.clock.now();
        let artifact = node.open(&digest).await.during("cannot open it")?;
        let (mut offset, mut first) = (0, None);
        while offset < artifact.size() {
            let bytes = artifact.read(offset, READ_BYTES).await;
            let bytes = bytes.during("cannot read it")?;
            offset += bytes.len() as u64;
            first.get_or_insert_with(|| self.since(began));
        }
        let (first, whole) = (first.unwrap_or_default(), self.since(began));
        Ok(Answer::Read { first, whole })
    }

    async fn complete(&self, node: &Node, digest: &str) -> Result<Answer, Failure> {
        let digest = parse(digest)?;
        let began = self.clock.now();
        let artifact = node.open(&digest).await.during("cannot open it")?;
        let first = self.since(began);
        artifact.complete().await.during("it does not come")?;
        let whole = self.since(began);
        if !node.stores(&artifact.entry().blake3) {
            return Err(Failure::new("bench", "it came and is not stored"));
        }
        Ok(Answer::Read { first, whole })
    }

    fn query(&self, node: &Node, count: usize, packages: u64) -> Result<Answer, Failure> {
        let (log, mut rng) = (node.log(), Rng::new(1));
        let (mut find_purl, mut find_digest) = (Vec::new(), Vec::new());
        let (mut package, mut by_digest) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let number = rng.below(packages);
            let purl = facts::purl(number);
            let digest = Digest::from(facts::sha256(number));
            let with_purl = Query {
                purl: Some(purl.clone()),
                ..Query::default()
            };
            let with_digest = Query {
                digest: Some(DigestFilter::Whole(digest.clone())),
                ..Query::default()
            };
            let mut rows = 0;
            for (query, times) in [(with_purl, &mut find_purl), (with_digest, &mut find_digest)] {
                let began = self.clock.now();
                let page = log.find(&query).during("cannot query")?;
                times.push(self.since(began) * 1e3);
                rows += page.rows.len();
            }
            let began = self.clock.now();
            rows += log.package(&purl).during("cannot look up")?.len();
            package.push(self.since(began) * 1e3);
            let began = self.clock.now();
            rows += usize::from(log.by_digest(&digest).during("cannot look up")?.is_some());
            by_digest.push(self.since(began) * 1e3);
            if rows != 4 {
                return Err(Failure::new("bench", format!("{rows} rows for {purl}")));
            }
        }
        Ok(Answer::Queries {
            find_purl,
            find_digest,
            package,
            by_digest,
        })
    }

    /// Unit: milliseconds.
    fn since(&self, began: Time) -> f64 {
        millis(self.clock.now().since(began))
    }
}

fn status(node: &Node) -> Status {
    let status = node.status();
    Status {
        listen: status.listen,
        peers: status.peers,
        height: node.log().height(),
        size: node.log().size(),
        root: status.log.root.to_string(),
    }
}

async fn build(node: &Node, spec: &str, purl: &str) -> Result<Answer, Failure> {
    let spec: BuildSpec = spec.parse()?;
    let asked = node.request_build(spec).await?;
    let build = node.wait_build(asked.id, ORDER_TIMEOUT).await?;
    let files = node.log().package(purl).during("cannot look up")?;
    let largest = files.into_iter().max_by_key(|it| it.1.size);
    let (_, file) = largest.ok_or_else(|| Failure::new("bench", build.state.to_string()))?;
    Ok(Answer::Built {
        digest: Digest::from(file.blake3).to_string(),
        size: file.size,
    })
}

async fn await_size(node: &Node, size: u64) -> Result<Answer, Failure> {
    let events = node.events();
    while node.log().size() < size {
        match events.recv().await {
            Ok(Event::Committed { size: now, .. }) if size <= now => break,
            Ok(_) => (),
            Err(_) => return Err(Failure::new("bench", "the node stopped")),
        }
    }
    Ok(Answer::Done)
}

async fn await_checkpoint(node: &Node, size: u64) -> Result<Answer, Failure> {
    // The second line of a checkpoint is the size of the tree (C2SP tlog-checkpoint).
    let covered = || {
        let note = node.log().checkpoint()?;
        note.lines().nth(1)?.parse::<u64>().ok()
    };
    while covered().is_none_or(|it| it < size) {
        async_io::Timer::after(LOOK_INTERVAL).await;
    }
    Ok(Answer::Done)
}

/// Offers `groups` in order. All pourers together keep up to `pourers * waiting_max` waiting: a
/// pool that is never empty and never full.
async fn pour(node: Node, groups: VecDeque<Vec<Entry>>, pourers: u64, waiting_max: u64) {
    let events = node.events();
    for (at, group) in (0_u64..).zip(groups) {
        let leaves = group.len() as u64;
        let committed = || {
            let log = node.log();
            (log.size() - log.height().min(log.size())) / leaves
        };
        while committed() / pourers + waiting_max <= at {
            if events.recv().await.is_err() {
                return;
            }
        }
        loop {
            match node.offer(group.clone()).await {
                Ok(()) => break,
                Err(NodeError::Offer(_)) => drop(async_io::Timer::after(AGAIN_INTERVAL).await),
                Err(_) => return,
            }
        }
    }
}

async fn in_time(work: impl Future<Output = Result<Answer, Failure>>) -> Result<Answer, Failure> {
    let over = async {
        async_io::Timer::after(ORDER_TIMEOUT).await;
        Err(Failure::new("bench", "it takes too long"))
    };
    or(work, over).await
}

fn parse(digest: &str) -> Result<Digest, Failure> {
    digest.parse().during("not a digest")
}
