//! The lanes of this node, the downloads that run, and what peers gave and got.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::Sender;
use event_listener::Event;

use crate::base::{Blake3, NodeId, Time};
use crate::net::{NetHandle, Stream};
use crate::node::clock::Clock;
use crate::node::config::Limits;
use crate::node::executor::{Pool, Tasks};
use crate::node::share::arrival::Arrival;
use crate::node::share::held::Held;
use crate::node::share::keep::{News, provider_key};
use crate::node::share::lane::{self, COMMANDS_MAX, Command};
use crate::node::share::server::Server;
use crate::node::share::{fetch, serve};
use crate::node::status::TransferStatus;
use crate::node::tally::Tally;
use crate::proto::exchange::arrival::Fault;
use crate::proto::exchange::message::Want;
use crate::proto::exchange::presence::Presence;
use crate::proto::exchange::verify::Refused;
use crate::proto::limit::{Budget, Rate};
use crate::proto::log::entry::AddArtifact;
use crate::proto::schedule::Ranges;
use crate::store::{Blobs, Meta, Store};

/// Downloads that run at once; further ones are refused.
pub(crate) const DOWNLOADS_MAX: usize = 1_024;

/// Peers whose traffic is remembered; the counts of others are only in the sums.
const PEERS_MAX: usize = 4_096;

/// How long the best giver is asked first.
const GIVER_LIFE: Duration = Duration::from_secs(30);

/// What peers gave and got, and what the owner allows.
pub(crate) struct Peers {
    clock: Clock,
    /// `None` without a limit.
    down: Option<Mutex<Budget<NodeId>>>,
    pub(crate) tally: Tally,
    by_peer: Mutex<BTreeMap<NodeId, (u64, u64)>>,
    /// Provable faults go to the loop, which bans.
    faults: Sender<(NodeId, String)>,
}

impl Peers {
    pub(crate) fn new(clock: Clock, limits: &Limits, faults: Sender<(NodeId, String)>) -> Self {
        let budget = |rate| Budget::new(Rate::BytesPerSecond(rate), Rate::Unlimited, clock.now());
        Self {
            clock,
            down: limits.download.map(|it| Mutex::new(budget(it))),
            tally: Tally::default(),
            by_peer: Mutex::default(),
            faults,
        }
    }

    /// Charges `bytes` that came from `peer`, and waits until the debt is earned back: meanwhile
    /// nothing more is read, and the transport slows the sender down.
    pub(crate) async fn pace_download(&self, peer: &NodeId, bytes: u64) {
        let Some(down) = &self.down else { return };
        let now = self.clock.now();
        let next = {
            let mut budget = lock(down);
            budget.take(peer, bytes, now);
            budget.next_at(peer, 0, now)
        };
        if next != Some(now) {
            self.sleep_until(next).await;
        }
    }

    async fn sleep_until(&self, time: Option<Time>) {
        match time {
            Some(time) => drop(async_io::Timer::at(self.clock.instant(time)).await),
            // A rate of zero: never.
            None => futures_lite::future::pending().await,
        }
    }

    pub(crate) fn received(&self, peer: &NodeId, bytes: u64) {
        self.tally.received.add(bytes);
        self.count(peer, |it| it.0 += bytes);
    }

    pub(crate) fn sent(&self, peer: &NodeId, bytes: u64) {
        self.tally.sent.add(bytes);
        self.count(peer, |it| it.1 += bytes);
    }

    pub(crate) fn took_upstream(&self, bytes: u64) {
        self.tally.upstream.add(bytes);
    }

    fn count(&self, peer: &NodeId, add: impl FnOnce(&mut (u64, u64))) {
        let mut by_peer = lock(&self.by_peer);
        if by_peer.len() < PEERS_MAX || by_peer.contains_key(peer) {
            add(by_peer.entry(*peer).or_default());
        }
    }

    /// Bytes received from and sent to `peer`.
    pub(crate) fn of(&self, peer: &NodeId) -> (u64, u64) {
        lock(&self.by_peer).get(peer).copied().unwrap_or_default()
    }

    /// A reply was refused.
    pub(crate) fn refused(&self, peer: &NodeId, fault: &Fault) {
        let counter = match fault {
            Fault::Refused {
                refused: Refused::Trailing,
                ..
            }
            | Fault::Unrequested { .. } => &self.tally.spurious,
            _ => &self.tally.bad_proofs,
        };
        counter.add(1);
        self.fault(*peer, format!("exchange: {fault}"));
    }

    /// A provable fault. Lost if the loop has too many already; the next one comes.
    pub(crate) fn fault(&self, peer: NodeId, reason: String) {
        let _ = self.faults.try_send((peer, reason));
    }

    pub(crate) fn status(&self) -> TransferStatus {
        TransferStatus {
            received: self.tally.received.count(),
            sent: self.tally.sent.count(),
            upstream: self.tally.upstream.count(),
            bad_proofs: self.tally.bad_proofs.count(),
            spurious: self.tally.spurious.count(),
        }
    }
}

/// Lanes and downloads.
pub(crate) struct Hub {
    pub(crate) net: NetHandle,
    pub(crate) tasks: Tasks,
    pub(crate) pool: Pool,
    pub(crate) blobs: Blobs,
    pub(crate) meta: Meta,
    pub(crate) peers: Arc<Peers>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) server: Arc<Server>,
    /// To the keeper of origins and provider records.
    pub(crate) news: Sender<News>,
    /// Held while a download is begun, so that there is one however many ask at once.
    beginning: Mutex<()>,
    /// Notified when a peer is admitted.
    pub(crate) joined: Event,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    admitted: BTreeSet<NodeId>,
    lanes: BTreeMap<NodeId, Sender<Command>>,
    downloads: BTreeMap<Blake3, Arc<Arrival>>,
    /// Who gave most when all were asked the last time, and when that was.
    giver: Option<(NodeId, Time)>,
    is_closed: bool,
}

/// What a hub is made of.
pub(crate) struct Parts<'a> {
    pub(crate) net: NetHandle,
    pub(crate) tasks: Tasks,
    pub(crate) pool: Pool,
    pub(crate) store: &'a Store,
    pub(crate) peers: Arc<Peers>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) news: Sender<News>,
}

impl Hub {
    pub(crate) fn new(parts: Parts<'_>) -> Arc<Self> {
        let Parts {
            net,
            tasks,
            pool,
            store,
            peers,
            clock,
            limits,
            news,
        } = parts;
        let rate = limits.upload.map_or(Rate::Unlimited, Rate::BytesPerSecond);
        let config = crate::proto::exchange::serve::Config {
            shares: limits.share,
            rate,
            peer_rate: Rate::Unlimited,
        };
        let server = Server::new(config, clock);
        tasks.spawn_net(server.clone().keep_time());
        Arc::new(Self {
            net,
            tasks,
            pool,
            blobs: store.blobs().clone(),
            meta: store.meta().clone(),
            peers,
            clock,
            limits,
            server,
            news,
            beginning: Mutex::default(),
            joined: Event::new(),
            state: Mutex::default(),
        })
    }

    /// A peer passed the handshake: it may be asked.
    pub(crate) fn admitted(&self, peer: NodeId) {
        self.state().admitted.insert(peer);
        self.joined.notify(usize::MAX);
    }

    /// The link to a peer is gone.
    pub(crate) fn left(&self, peer: &NodeId) {
        let mut state = self.state();
        state.admitted.remove(peer);
        if let Some(lane) = state.lanes.remove(peer) {
            lane.close();
        }
    }

    /// A peer opened a stream: serve it, if it was admitted.
    pub(crate) fn inbound(self: &Arc<Self>, peer: NodeId, stream: Stream) {
        // Dropping the stream resets it; the peer tries again.
        if self.state().admitted.contains(&peer) {
            self.tasks.spawn_net(serve::run(self.clone(), peer, stream));
        }
    }

    /// What is here of an artifact. Blocks on the disk.
    pub(crate) fn presence(&self, root: &Blake3) -> Presence {
        if self.blobs.contains(root) == Ok(true) {
            return Presence::Whole;
        }
        let arrival = self.state().downloads.get(root).cloned();
        arrival.map_or(Presence::None, |it| Presence::partial(&it.durable()))
    }

    /// Whether groups of an artifact of the wanted size are here. Blocks on the disk.
    pub(crate) fn has(&self, want: &Want) -> bool {
        if let Ok(Some(stored)) = self.blobs.info(&want.root) {
            return stored.size == want.size;
        }
        let arrival = self.state().downloads.get(&want.root).cloned();
        let wanted = Ranges::from(want.groups.clone());
        arrival
            .is_some_and(|it| it.size() == want.size && it.durable().intersect(&wanted) == wanted)
    }

    /// Opens what is here of an artifact, to give it to peers. Blocks on the disk.
    pub(crate) fn held(&self, root: &Blake3) -> Option<Held> {
        let arrival = self.state().downloads.get(root).cloned();
        if let Some(arrival) = arrival {
            return Some(Held::Arriving(arrival));
        }
        self.blobs.open(root).ok().flatten().map(Held::Stored)
    }

    /// Peers that may be asked.
    pub(crate) fn known(&self) -> Vec<NodeId> {
        self.state().admitted.iter().copied().collect()
    }

    /// Of all that were asked, `peer` gave most of an artifact.
    pub(crate) fn gave(&self, peer: NodeId) {
        self.state().giver = Some((peer, self.clock.now()));
    }

    /// Who probably has an artifact: the peer that gave another one, but not for ever, so that the best
    /// of all is found now and then.
    pub(crate) fn likely(&self) -> Option<NodeId> {
        let state = self.state();
        let (peer, at) = state.giver?;
        let is_fresh = self.clock.now().since(at) < GIVER_LIFE;
        (is_fresh && state.admitted.contains(&peer)).then_some(peer)
    }

    /// The lane to `peer`, opened if there is none; `None` if the peer may not be asked.
    pub(crate) fn lane(self: &Arc<Self>, peer: NodeId) -> Option<Sender<Command>> {
        let mut state = self.state();
        if let Some(lane) = state.lanes.get(&peer).filter(|it| !it.is_closed()) {
            return Some(lane.clone());
        }
        if !state.admitted.contains(&peer) || state.is_closed {
            return None;
        }
        let (commands, received) = async_channel::bounded(COMMANDS_MAX);
        state.lanes.insert(peer, commands.clone());
        let run = lane::run(
            peer,
            self.net.clone(),
            received,
            self.pool.clone(),
            self.peers.clone(),
        );
        self.tasks.spawn_net(run);
        Some(commands)
    }

    /// The download of `file`, started if it does not run, and the bytes that were here before; `None`
    /// if the store has it already. Blocks on the disk.
    pub(crate) fn fetch(
        self: &Arc<Self>,
        file: &AddArtifact,
        hints: Vec<NodeId>,
    ) -> Result<Option<(Arc<Arrival>, u64)>, fetch::FetchError> {
        let _one_at_a_time = lock(&self.beginning);
        let running = self.state().downloads.get(&file.blake3).cloned();
        if let Some(running) = running {
            let had = running.bytes();
            return Ok(Some((running, had)));
        }
        {
            let state = self.state();
            if state.is_closed {
                return Err(fetch::FetchError::Closed);
            }
            if DOWNLOADS_MAX <= state.downloads.len() {
                return Err(fetch::FetchError::Busy);
            }
        }
        let begun = self.blobs.begin(file.blake3, file.size);
        let Some(staging) = begun.map_err(fetch::FetchError::Store)? else {
            return Ok(None);
        };
        let arrival = Arrival::new(file.blake3, file.size, file.sha256, staging);
        let had = arrival.bytes();
        {
            let mut state = self.state();
            // Nobody would end it any more.
            if state.is_closed {
                return Err(fetch::FetchError::Closed);
            }
            state.downloads.insert(file.blake3, arrival.clone());
        }
        let (hub, it) = (self.clone(), arrival.clone());
        let key = provider_key(&file.purl);
        self.tasks
            .spawn(async move { fetch::drive(hub, it, key, hints).await });
        Ok(Some((arrival, had)))
    }

    /// Downloads that run.
    pub(crate) fn downloads(&self) -> usize {
        self.state().downloads.len()
    }

    /// The download is over.
    pub(crate) fn over(&self, root: &Blake3) {
        self.state().downloads.remove(root);
    }

    /// The log has grown. Lost if the keeper has too much to do; it grows again.
    pub(crate) fn committed(&self) {
        let _ = self.news.try_send(News::Committed);
    }

    /// Ends every download and lane.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.server.close();
        self.news.close();
        for lane in std::mem::take(&mut state.lanes).into_values() {
            lane.close();
        }
        let arrivals = std::mem::take(&mut state.downloads);
        drop(state);
        // One that is being stored is waited for.
        for arrival in arrivals.into_values() {
            arrival.close(Err(fetch::FetchError::Closed));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
