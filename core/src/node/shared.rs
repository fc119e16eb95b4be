//! What the loop shows to the handles: the status view, events, peers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};

use crate::base::{NodeId, WallTime};
use crate::net::ListenFault;
use crate::node::event::Event;
use crate::node::flow::Snapshot;
use crate::node::status::{CheckpointStatus, PeerStatus};
use crate::node::tally::Counter;
use crate::proto::build::Census;
use crate::proto::hello::Hello;

/// Events that one reader may be behind; beyond that the oldest are lost to it.
const EVENTS_MAX: usize = 1_024;

/// Readers of events; one more gets none.
const READERS_MAX: usize = 1_024;

/// Peers that were turned away or lost and are still shown; the oldest is forgotten.
const GONE_MAX: usize = 256;

/// Problems of listeners that are kept; the oldest is forgotten.
const PROBLEMS_MAX: usize = 16;

/// What the loop knows.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) snapshot: Snapshot,
    /// How many builds stand where.
    pub(crate) builds: Census,
}

/// Shared by the loop and all handles.
pub(crate) struct Shared {
    state: Mutex<State>,
    readers: Mutex<Vec<Sender<Event>>>,
    /// Events that readers were too slow for.
    lost: Counter,
    closed: AtomicBool,
    changed: event_listener::Event,
}

struct State {
    known: Option<Known>,
    listening: Vec<String>,
    problems: VecDeque<ListenFault>,
    peers: BTreeMap<NodeId, PeerStatus>,
    gone: VecDeque<NodeId>,
    checkpoint: Option<(CheckpointStatus, String)>,
    stopped: Option<String>,
}

impl Shared {
    pub(crate) fn new(checkpoint: Option<(u64, String)>) -> Self {
        let checkpoint = checkpoint.map(|(size, note)| {
            let (signers, time) = (count_cosigners(&note), WallTime::default());
            (
                CheckpointStatus {
                    size,
                    signers,
                    time,
                },
                note,
            )
        });
        let state = State {
            known: None,
            listening: Vec::new(),
            problems: VecDeque::new(),
            peers: BTreeMap::new(),
            gone: VecDeque::new(),
            checkpoint,
            stopped: None,
        };
        Self {
            state: Mutex::new(state),
            readers: Mutex::default(),
            lost: Counter::default(),
            closed: AtomicBool::new(false),
            changed: event_listener::Event::new(),
        }
    }

    /// Tells everybody who listens.
    pub(crate) fn event(&self, event: Event) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|it| {
            let sent = it.force_send(event.clone());
            if let Ok(Some(_oldest)) = &sent {
                self.lost.add(1);
            }
            sent.is_ok()
        });
        self.changed.notify(usize::MAX);
    }

    /// Events that readers were too slow for.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.count()
    }

    /// Events from now on; a closed channel if there are too many readers, or the node has stopped.
    pub(crate) fn subscribe(&self) -> Receiver<Event> {
        let (sender, receiver) = async_channel::bounded(EVENTS_MAX);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|it| !it.is_closed());
        if readers.len() < READERS_MAX && !self.is_closed() {
            readers.push(sender);
        }
        receiver
    }

    pub(crate) fn snapshot(&self, known: Known) {
        let mut state = self.state();
        for (peer, height) in &known.snapshot.admitted {
            if let Some(it) = state.peers.get_mut(peer) {
                it.height = Some(*height);
            }
        }
        state.known = Some(known);
        drop(state);
        self.changed.notify(usize::MAX);
    }

    pub(crate) fn known(&self) -> Option<Known> {
        self.state().known.clone()
    }

    pub(crate) fn listening(&self, addresses: &[String]) {
        self.state().listening = addresses.to_vec();
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.state().listening.clone()
    }

    pub(crate) fn listen_failed(&self, problem: ListenFault) {
        tracing::error!("{problem}");
        let mut state = self.state();
        if PROBLEMS_MAX <= state.problems.len() {
            state.problems.pop_front();
        }
        state.problems.push_back(problem);
        drop(state);
        self.changed.notify(usize::MAX);
    }

    /// Why listeners failed, oldest first.
    pub(crate) fn problems(&self) -> Vec<ListenFault> {
        self.state().problems.iter().cloned().collect()
    }

    pub(crate) fn admitted(&self, peer: NodeId, hello: &Hello) {
        self.peer(peer, |it| {
            it.state = "admitted".into();
            it.reason = None;
            it.agent = Some(hello.agent.clone());
            it.height = Some(hello.tip.height);
        });
    }

    pub(crate) fn linked(&self, peer: NodeId, address: String) {
        self.peer(peer, |it| {
            it.state = "connecting".into();
            it.address = Some(address);
        });
    }

    pub(crate) fn identified(&self, peer: NodeId, agent: String) {
        self.peer(peer, |it| it.agent = Some(agent));
    }

    pub(crate) fn rtt(&self, peer: NodeId, rtt: Duration) {
        self.peer(peer, |it| it.rtt_us = u64::try_from(rtt.as_micros()).ok());
    }

    pub(crate) fn refused(&self, peer: NodeId, reason: String) {
        self.turned_away(peer, "refused", reason);
    }

    pub(crate) fn banned(&self, peer: NodeId, reason: String) {
        self.turned_away(peer, "banned", reason);
    }

    /// A link ended; a peer that was turned away stays visible with the reason.
    pub(crate) fn link_lost(&self, peer: NodeId) {
        let mut state = self.state();
        let shown = |it: &PeerStatus| it.state == "refused" || it.state == "banned";
        if !state.peers.get(&peer).is_some_and(shown) {
            state.peers.remove(&peer);
        }
    }

    fn turned_away(&self, peer: NodeId, state_name: &str, reason: String) {
        self.peer(peer, |it| {
            // A ban says more than the refusal that follows from it.
            if it.state != "banned" {
                (it.state, it.reason) = (state_name.into(), Some(reason));
            }
        });
        let mut state = self.state();
        state.gone.push_back(peer);
        if GONE_MAX < state.gone.len()
            && let Some(oldest) = state.gone.pop_front()
            && !state.gone.contains(&oldest)
        {
            state.peers.remove(&oldest);
        }
    }

    fn peer(&self, peer: NodeId, change: impl FnOnce(&mut PeerStatus)) {
        let mut state = self.state();
        change(state.peers.entry(peer).or_insert_with(|| {
            PeerStatus {
                node: peer,
                peer_id: crate::net::id::peer_id(&peer)
                    .map(|it| it.to_string())
                    .unwrap_or_default(),
                member: None,
                state: "connecting".into(),
                reason: None,
                address: None,
                agent: None,
                height: None,
                rtt_us: None,
                received: 0,
                sent: 0,
            }
        }));
    }

    pub(crate) fn peers(&self) -> Vec<PeerStatus> {
        self.state().peers.values().cloned().collect()
    }

    pub(crate) fn keep_checkpoint(&self, size: u64, note: &str, signers: usize, time: WallTime) {
        let status = CheckpointStatus {
            size,
            signers,
            time,
        };
        self.state().checkpoint = Some((status, note.to_owned()));
        self.changed.notify(usize::MAX);
    }

    /// The newest checkpoint.
    pub(crate) fn checkpoint(&self) -> Option<(CheckpointStatus, String)> {
        self.state().checkpoint.clone()
    }

    /// The loop ends; `reason` if nobody asked for it.
    pub(crate) fn stopped(&self, reason: Option<String>) {
        self.state().stopped.clone_from(&reason);
        if let Some(reason) = reason {
            self.event(Event::Stopped { reason });
        }
    }

    /// Why the loop ended by itself.
    pub(crate) fn failure(&self) -> Option<String> {
        self.state().stopped.clone()
    }

    /// Everything has stopped.
    pub(crate) fn closed(&self) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::SeqCst);
        readers.clear();
        drop(readers);
        self.changed.notify(usize::MAX);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Waits until `look` sees what it waits for; `None` if the node stopped before.
    pub(crate) async fn wait_for<T>(&self, mut look: impl FnMut(&Self) -> Option<T>) -> Option<T> {
        loop {
            let changed = self.changed.listen();
            if let Some(found) = look(self) {
                return Some(found);
            }
            if self.is_closed() {
                return None;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cosignatures of a portable note: its signature lines but the first, which is the log's.
fn count_cosigners(note: &str) -> usize {
    let lines = note.lines().filter(|it| it.starts_with('\u{2014}'));
    lines.count().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Sha256;
    use crate::proto::chain::testing::{genesis, node_keys};
    use crate::proto::log::checkpoint::Checkpoint;
    use crate::proto::log::cosign::{HeadSignature, SignedHead};

    #[test]
    fn readers_that_left_make_room_and_those_that_read_stay() {
        let shared = Shared::new(None);
        let first = shared.subscribe();
        for _ in 0..3 * READERS_MAX {
            drop(shared.subscribe());
        }
        shared.event(Event::Live);
        assert_eq!(first.try_recv(), Ok(Event::Live));
        let others: Vec<_> = (1..READERS_MAX).map(|_| shared.subscribe()).collect();
        assert!(others.iter().all(|it| !it.is_closed()));
        assert!(shared.subscribe().is_closed());
        shared.event(Event::Live);
        assert_eq!(first.try_recv(), Ok(Event::Live));
        shared.closed();
        assert!(first.is_closed() && shared.subscribe().is_closed());
    }

    #[test]
    fn readers_hear_why_a_node_stops_by_itself_and_nothing_of_one_that_was_told_to() {
        let stop = |reason: Option<&str>| {
            let shared = Shared::new(None);
            let events = shared.subscribe();
            shared.stopped(reason.map(str::to_owned));
            shared.closed();
            assert_eq!(shared.failure().as_deref(), reason);
            let last = events.try_recv().ok();
            assert!(events.try_recv().is_err() && events.is_closed());
            last
        };
        let reason = "the disk is gone".to_owned();
        assert_eq!(stop(Some(&reason)), Some(Event::Stopped { reason }));
        assert_eq!(stop(None), None);
    }

    #[test]
    fn a_restart_counts_the_signers_that_the_machine_counted() {
        let head = Checkpoint {
            origin: genesis(4).origin,
            size: 7,
            root: Sha256([1; 32]),
        };
        let mut signed = SignedHead::new(head.clone(), genesis(4).member_set());
        for it in [0, 1, 2].map(node_keys) {
            let signature = HeadSignature::sign(&it, &head, WallTime::from_millis(5_000));
            signed.add(signature).unwrap();
        }
        let shared = Shared::new(signed.portable_note().map(|note| (7, note)));
        assert_eq!(shared.checkpoint().map(|it| it.0.signers), Some(3));
    }
}
