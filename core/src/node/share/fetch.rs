//! The driver of one download: carries out what `proto/exchange/download` decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future;

use crate::base::{Blake3, NodeId, Time};
use crate::node::origin::{EARLIER, OriginRecord};
use crate::node::share::arrival::Arrival;
use crate::node::share::hub::Hub;
use crate::node::share::keep::{self, News};
use crate::node::share::lane::{Command, Report};
use crate::proto::exchange::download::{Config, Download, Effect, Failure, Input};
use crate::proto::exchange::group::byte_range;
use crate::proto::exchange::message::Want;
use crate::proto::exchange::presence::Presence;
use crate::proto::schedule::Ranges;
use crate::store::StoreError;

/// Reports that wait for the driver; lanes wait above that.
const REPORTS_MAX: usize = 1_024;

/// Bytes that are written before they are made to survive a crash.
const CHECKPOINT_BYTES: u64 = 16 << 20;

/// Peers that are asked for groups of one artifact at the same time.
const SOURCES_MAX: usize = 8;

/// Artifacts up to this size are at first wanted from one peer that probably has them, without asking
/// it, the others and the DHT who has them: larger ones take long enough not to feel that. Unit: bytes.
const GUESS_BYTES_MAX: u64 = 256 * 1_024;

/// How long that peer has before all others are asked; less if it says that it cannot.
const GUESS_TIMEOUT: Duration = Duration::from_millis(200);

/// Sources that the origin of an artifact names: those that gave most.
const ORIGIN_SOURCES_MAX: usize = 64;

/// A peer whose lane has too much to do is asked again after this long.
const LANE_BUSY_RETRY: Duration = Duration::from_millis(200);

/// Why an artifact cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FetchError {
    /// The log does not have it, or it was withdrawn.
    #[error("{0} is not in the log")]
    Unknown(String),
    /// Nobody has it.
    #[error("no connected node has {0}; is a node that stores it running?")]
    NoSource(Blake3),
    /// Somebody has it, but nothing came for too long.
    #[error("{root} stalled: {missing} groups did not come in time")]
    Stalled {
        /// The artifact.
        root: Blake3,
        /// Groups of 64 KiB.
        missing: u64,
    },
    /// Too many peers sent something else.
    #[error("too many peers sent wrong bytes for {0}")]
    Hostile(Blake3),
    /// Too many downloads.
    #[error("too many downloads run; try again later")]
    Busy,
    /// The disk or the quota.
    #[error("the store: {0}")]
    Store(StoreError),
    /// The node shuts down.
    #[error("the node is shutting down")]
    Closed,
}

/// Runs the download of `arrival` to its end. `key` is the package, under which the DHT knows
/// holders; `hints` probably have it, because they attested it.
pub(crate) async fn drive(hub: Arc<Hub>, arrival: Arc<Arrival>, key: [u8; 32], hints: Vec<NodeId>) {
    let root = arrival.root();
    let end = Driver::new(hub.clone(), arrival.clone(), key, hints)
        .run()
        .await;
    match &end {
        Ok(()) => hub.peers.tally.fetched.add(1),
        Err(error) => {
            hub.peers.tally.fetches_failed.add(1);
            tracing::info!(%root, %error, "download failed");
        }
    }
    hub.over(&root);
    arrival.close(end);
}

/// Both ends.
type Channel<T> = (Sender<T>, Receiver<T>);

struct Driver {
    hub: Arc<Hub>,
    arrival: Arc<Arrival>,
    key: [u8; 32],
    hints: Vec<NodeId>,
    /// Who probably has it.
    guess: Option<NodeId>,
    /// When all are asked, if they were not yet.
    ask_all_at: Option<Time>,
    has_asked_all: bool,
    machine: Download<NodeId>,
    effects: Vec<Effect<NodeId>>,
    reports: Channel<(NodeId, Report)>,
    answers: Channel<(NodeId, Vec<Presence>)>,
    durable: Channel<Result<Ranges, FetchError>>,
    lanes: BTreeMap<NodeId, Sender<Command>>,
    asked: BTreeSet<NodeId>,
    wanted: Option<u64>,
    begun: Time,
    /// Bytes by source.
    came: BTreeMap<NodeId, u64>,
    /// Bytes that were here before.
    earlier: u64,
    /// Written and not yet durable. Unit: bytes.
    loose: u64,
    is_syncing: bool,
}

enum Turn {
    Report(NodeId, Report),
    Answer(NodeId, Vec<Presence>),
    Durable(Result<Ranges, FetchError>),
    Joined,
    Wanted(u64),
    AskAll,
    Deadline,
    Closed,
}

impl Driver {
    fn new(hub: Arc<Hub>, arrival: Arc<Arrival>, key: [u8; 32], hints: Vec<NodeId>) -> Self {
        let config = Config {
            progress_timeout: hub.limits.fetch_timeout,
            sources_max: SOURCES_MAX,
            rate_max: hub.limits.download,
            ..Config::default()
        };
        let mut effects = Vec::new();
        let (now, size) = (hub.clock.now(), arrival.size());
        let have = arrival.have();
        let earlier = have
            .iter()
            .map(|it| byte_range(size, &it))
            .map(|it| it.end - it.start);
        let earlier = earlier.sum();
        let guess = hub.likely().filter(|_| size <= GUESS_BYTES_MAX);
        let machine = Download::new(now, config, size, &have, &mut effects);
        Self {
            hub,
            arrival,
            key,
            hints,
            guess,
            ask_all_at: None,
            has_asked_all: false,
            machine,
            effects,
            reports: async_channel::bounded(REPORTS_MAX),
            answers: async_channel::bounded(REPORTS_MAX),
            durable: async_channel::bounded(1),
            lanes: BTreeMap::new(),
            asked: BTreeSet::new(),
            wanted: None,
            begun: now,
            came: BTreeMap::new(),
            earlier,
            loose: 0,
            is_syncing: false,
        }
    }

    async fn run(mut self) -> Result<(), FetchError> {
        loop {
            for effect in std::mem::take(&mut self.effects) {
                if let Some(end) = self.perform(effect).await {
                    return end;
                }
            }
            if !self.effects.is_empty() {
                continue;
            }
            self.sync().await;
            match self.turn().await {
                Turn::Report(peer, report) => self.report(peer, report).await?,
                Turn::Answer(source, answers) => {
                    let has = answers.into_iter().next().unwrap_or_default();
                    self.feed(Input::SourceAdded { source, has });
                }
                Turn::Durable(Ok(groups)) => {
                    self.is_syncing = false;
                    for run in groups.iter() {
                        self.feed(Input::Durable { groups: run });
                    }
                }
                Turn::Durable(Err(problem)) => return Err(problem),
                Turn::Joined if self.ask_all_at.is_some() => (),
                Turn::Joined => self.ask_peers(),
                Turn::AskAll => self.ask_all(),
                Turn::Wanted(offset) => {
                    self.wanted = Some(offset);
                    self.feed(Input::Want { offset });
                }
                Turn::Deadline => {
                    let now = self.hub.clock.now();
                    self.machine.expire(now, &mut self.effects);
                }
                Turn::Closed => return Err(FetchError::Closed),
            }
        }
    }

    async fn turn(&self) -> Turn {
        let joined = self.hub.joined.listen();
        let report = async {
            match self.reports.1.recv().await {
                Ok((peer, report)) => Turn::Report(peer, report),
                Err(_) => Turn::Closed,
            }
        };
        let answer = async {
            match self.answers.1.recv().await {
                Ok((peer, answers)) => Turn::Answer(peer, answers),
                Err(_) => Turn::Closed,
            }
        };
        let durable = async {
            self.durable
                .1
                .recv()
                .await
                .map_or(Turn::Closed, Turn::Durable)
        };
        let other = async {
            let wanted = self.arrival.wanted_other_than(self.wanted);
            let wanted = async { wanted.await.map_or(Turn::Closed, Turn::Wanted) };
            let joined = async {
                joined.await;
                Turn::Joined
            };
            let at = |time: Option<Time>, turn| async move {
                match time {
                    Some(at) => {
                        async_io::Timer::at(self.hub.clock.instant(at)).await;
                        turn
                    }
                    None => future::pending().await,
                }
            };
            let deadline = at(self.machine.next_deadline(), Turn::Deadline);
            let others = at(self.ask_all_at, Turn::AskAll);
            future::or(future::or(wanted, joined), future::or(deadline, others)).await
        };
        future::or(future::or(report, answer), future::or(durable, other)).await
    }

    fn feed(&mut self, input: Input<NodeId>) {
        self.machine
            .handle(self.hub.clock.now(), input, &mut self.effects);
    }

    async fn report(&mut self, source: NodeId, report: Report) -> Result<(), FetchError> {
        if !matches!(report, Report::Arrived { .. } | Report::Ended { .. }) {
            // The guess was wrong, or is of no use; the machine is told how.
            self.guess = self.guess.filter(|it| *it != source);
            self.ask_all_at = self.ask_all_at.map(|_| self.hub.clock.now());
        }
        match report {
            Report::Arrived { id, groups, fresh } => {
                self.loose += fresh;
                *self.came.entry(source).or_default() += fresh;
                self.feed(Input::Arrived { id, groups });
            }
            Report::Ended { id } => self.feed(Input::Ended { id }),
            Report::NotFound { id } => self.feed(Input::NotFound { id }),
            Report::Busy { id, retry_after } => self.feed(Input::Busy { id, retry_after }),
            Report::Refused { fault } => {
                self.lanes.remove(&source);
                self.feed(Input::Refused { source, fault });
            }
            Report::Gone => {
                self.lanes.remove(&source);
                self.asked.remove(&source);
                self.feed(Input::SourceGone { source });
            }
            Report::Disk { problem } => return Err(problem),
        }
        Ok(())
    }

    /// Returns the end of the download.
    async fn perform(&mut self, effect: Effect<NodeId>) -> Option<Result<(), FetchError>> {
        match effect {
            Effect::Request { source, id, groups } => self.request(source, id, groups),
            Effect::CancelRequest { source, id } => {
                if let Some(lane) = self.lanes.get(&source) {
                    let _ = lane.try_send(Command::Cancel {
                        root: self.arrival.root(),
                        id,
                    });
                }
            }
            // The lane has told the loop, which bans; the machine only names it.
            Effect::Ban { .. } => (),
            Effect::Avoid { source, reason } => {
                tracing::debug!(peer = %source, ?reason, "a source disappointed");
            }
            Effect::NeedSources => {
                if !self.ask_guess() {
                    self.ask_all();
                }
            }
            Effect::Done => {
                return Some(self.finish().await);
            }
            Effect::Failed(failure) => {
                let root = self.arrival.root();
                return Some(Err(match failure {
                    Failure::NoSource => FetchError::NoSource(root),
                    Failure::Stalled { missing } => FetchError::Stalled { root, missing },
                    Failure::Hostile => FetchError::Hostile(root),
                    Failure::Cancelled => FetchError::Closed,
                }));
            }
        }
        None
    }

    /// The artifact is stored: by the last [`Driver::sync`], unless all of it was here already.
    async fn finish(&self) -> Result<(), FetchError> {
        if !self.arrival.is_finished() {
            match self.hub.pool.run(self.store()).await {
                Ok(stored) => stored.map_err(FetchError::Store)?,
                Err(_) => return Err(FetchError::Closed),
            }
        }
        if let Some((node, _)) = self.came.iter().max_by_key(|it| it.1)
            && self.has_asked_all
        {
            self.hub.gave(*node);
        }
        let _ = self.hub.news.send(News::Stored(self.arrival.root())).await;
        Ok(())
    }

    /// What makes the artifact visible in the store, with a note of where it came from. Blocks on the
    /// disk.
    fn store(&self) -> impl FnOnce() -> Result<(), StoreError> + Send + 'static {
        let came = self.came.iter();
        let mut sources: Vec<(String, u64)> = came
            .map(|(node, bytes)| (node.to_string(), *bytes))
            .collect();
        sources.sort_by_key(|it| std::cmp::Reverse(it.1));
        sources.truncate(ORIGIN_SOURCES_MAX);
        if self.earlier != 0 {
            sources.push((EARLIER.to_owned(), self.earlier));
        }
        let origin = OriginRecord::new(&self.hub.clock, self.begun, sources);
        let (arrival, meta) = (self.arrival.clone(), self.hub.meta.clone());
        move || {
            keep::note(&meta, &arrival.root(), &origin);
            arrival.finish()
        }
    }

    fn request(&mut self, source: NodeId, id: u64, groups: std::ops::Range<u64>) {
        let want = Want {
            root: self.arrival.root(),
            size: self.arrival.size(),
            groups,
        };
        let (arrival, report) = (self.arrival.clone(), self.reports.0.clone());
        let command = Command::Get {
            id,
            want,
            arrival,
            report,
        };
        match self.lanes.get(&source).map(|it| it.try_send(command)) {
            Some(Ok(())) => (),
            Some(Err(async_channel::TrySendError::Full(_))) => {
                self.feed(Input::Busy {
                    id,
                    retry_after: LANE_BUSY_RETRY,
                });
            }
            Some(Err(async_channel::TrySendError::Closed(_))) | None => {
                self.lanes.remove(&source);
                self.asked.remove(&source);
                self.feed(Input::SourceGone { source });
            }
        }
    }

    /// Wants it from the peer that probably has it; false if there is none.
    fn ask_guess(&mut self) -> bool {
        let Some(source) = self.guess.filter(|_| !self.has_asked_all) else {
            return false;
        };
        let Some(lane) = self.hub.lane(source) else {
            return false;
        };
        self.lanes.insert(source, lane);
        self.ask_all_at = Some(self.hub.clock.now() + GUESS_TIMEOUT);
        self.feed(Input::SourceGuessed { source });
        true
    }

    /// Asks everybody who has it.
    fn ask_all(&mut self) {
        (self.ask_all_at, self.has_asked_all) = (None, true);
        self.asked.clear();
        if let Some(source) = self.guess.take()
            && self.came.is_empty()
        {
            // Not a word of it: what it was asked for is free for the others, unless it comes yet.
            self.feed(Input::SourceGone { source });
            self.asked.insert(source);
        }
        // A holder that is not connected is dialled by the loop when the DHT names it.
        let _ = self.hub.net.providers(&self.key);
        self.ask_peers();
    }

    /// Asks every admitted peer that was not asked yet; those that attested come first.
    fn ask_peers(&mut self) {
        let mut peers = self.hub.known();
        peers.sort_by_key(|it| !self.hints.contains(it));
        for peer in peers {
            if !self.asked.insert(peer) {
                continue;
            }
            let Some(lane) = self.hub.lane(peer) else {
                self.asked.remove(&peer);
                continue;
            };
            let (roots, answer) = (vec![self.arrival.root()], self.answers.0.clone());
            if lane.try_send(Command::Have { roots, answer }).is_ok() {
                self.lanes.insert(peer, lane);
            } else {
                self.asked.remove(&peer);
            }
        }
    }

    /// Makes what was written survive a crash, in the background: a good piece at a time, and with the
    /// last one the artifact as it is found in the store.
    async fn sync(&mut self) {
        // By what was reported, so that all of it is in the note of where it came from.
        let came: u64 = self.came.values().sum();
        let is_last = self.earlier + came == self.arrival.size();
        if self.is_syncing || self.loose == 0 || (self.loose < CHECKPOINT_BYTES && !is_last) {
            return;
        }
        (self.is_syncing, self.loose) = (true, 0);
        let (arrival, done) = (self.arrival.clone(), self.durable.0.clone());
        let store = is_last.then(|| self.store());
        let sync = move || {
            let synced = match store {
                Some(store) => store().map(|()| arrival.have()),
                None => arrival.checkpoint(),
            };
            let _ = done.try_send(synced.map_err(FetchError::Store));
        };
        self.hub.pool.detach(sync).await;
    }
}
