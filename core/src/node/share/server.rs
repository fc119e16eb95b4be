//! One serving machine for all streams: its inputs come from the tasks of the streams, its effects
//! go to their queues.
//!
//! ```text
//!  stream of alice ──┐                        ┌──▶ outbox of alice ──▶ her stream
//!  stream of bob   ──┼─ input ─▶ machine ─────┼──▶ outbox of bob   ──▶ his stream
//!  budget's timer  ──┘                        └──▶ …
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::Event;
use futures_lite::future;

use crate::base::{Blake3, NodeId, Time};
use crate::node::clock::Clock;
use crate::proto::exchange::group::Piece;
use crate::proto::exchange::message::Reply;
use crate::proto::exchange::serve::{Config, Effect, Input, Serve};
use crate::proto::limit::{Bucket, Rate};

/// Roots that one peer may ask about per second; `Busy` above that. A quarter of it may come at
/// once, and one request of any length may pass and is made up for.
const HAVE_ROOTS_PER_SECOND: u64 = 4_000;

/// Answers that wait for a stream until no more requests are read from it. Those of the requests
/// that the machine took come on top: it has limits of its own.
const ANSWERS_MAX: usize = 256;

/// What is to be written to a stream.
pub(crate) enum Job {
    /// An answer without data.
    Reply(Reply),
    /// A frame of data that is to be read first.
    Turn {
        /// The request.
        id: u32,
        /// The artifact.
        root: Blake3,
        /// What to read.
        pieces: Vec<Piece>,
    },
}

/// What waits to be written to one stream.
pub(crate) struct Outbox {
    peer: NodeId,
    queue: Mutex<Queue>,
    changed: Event,
}

struct Queue {
    jobs: VecDeque<Job>,
    asked: Bucket,
    is_closed: bool,
}

impl Outbox {
    /// The oldest job, if there is one.
    pub(crate) fn pop(&self) -> Option<Job> {
        let job = self.queue().jobs.pop_front();
        if job.is_some() {
            self.changed.notify(usize::MAX);
        }
        job
    }

    /// Waits for a job; `None` if the stream is to be closed.
    pub(crate) async fn next(&self) -> Option<Job> {
        loop {
            let changed = self.changed.listen();
            if self.queue().is_closed {
                return None;
            }
            if let Some(job) = self.pop() {
                return Some(job);
            }
            changed.await;
        }
    }

    /// Waits until the stream is to be closed.
    pub(crate) async fn closed(&self) {
        loop {
            let changed = self.changed.listen();
            if self.queue().is_closed {
                return;
            }
            changed.await;
        }
    }

    /// Waits until there is room for the answer to another request.
    pub(crate) async fn has_room(&self) {
        loop {
            let changed = self.changed.listen();
            if self.queue().jobs.len() < ANSWERS_MAX {
                return;
            }
            changed.await;
        }
    }

    /// Queues an answer that is not the machine's to give.
    pub(crate) fn reply(&self, reply: Reply) {
        self.push(Job::Reply(reply));
    }

    /// Whether the peer may ask about so many roots now.
    pub(crate) fn may_ask(&self, roots: usize, now: Time) -> bool {
        self.queue().asked.try_take(roots as u64, now)
    }

    fn push(&self, job: Job) {
        self.queue().jobs.push_back(job);
        self.changed.notify(usize::MAX);
    }

    fn close(&self) {
        self.queue().is_closed = true;
        self.changed.notify(usize::MAX);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The machine and the outboxes of all streams.
pub(crate) struct Server {
    clock: Clock,
    state: Mutex<State>,
    /// Notified when the machine has another deadline, or at the end.
    rescheduled: Event,
}

struct State {
    machine: Serve<NodeId>,
    outboxes: BTreeMap<NodeId, Arc<Outbox>>,
    effects: Vec<Effect<NodeId>>,
    is_closed: bool,
}

impl Server {
    pub(crate) fn new(config: Config, clock: Clock) -> Arc<Self> {
        let state = State {
            machine: Serve::new(config, clock.now()),
            outboxes: BTreeMap::new(),
            effects: Vec::new(),
            is_closed: false,
        };
        Arc::new(Self {
            clock,
            state: Mutex::new(state),
            rescheduled: Event::new(),
        })
    }

    /// Whether anything is given to peers.
    pub(crate) fn is_sharing(&self) -> bool {
        self.state().machine.is_sharing()
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// A stream of `peer` is to be served. Each peer has one: the newer takes the place of the
    /// older, so that nobody gets more turns by opening more streams.
    pub(crate) fn enter(&self, peer: NodeId) -> Arc<Outbox> {
        let rate = Rate::BytesPerSecond(HAVE_ROOTS_PER_SECOND);
        let outbox = Arc::new(Outbox {
            peer,
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                asked: Bucket::new(rate, self.clock.now()),
                is_closed: false,
            }),
            changed: Event::new(),
        });
        let mut state = self.state();
        if let Some(older) = state.outboxes.insert(peer, outbox.clone()) {
            older.close();
            self.handle(&mut state, Input::PeerGone { peer });
        }
        if state.is_closed {
            outbox.close();
        }
        outbox
    }

    /// A stream has ended.
    pub(crate) fn leave(&self, outbox: &Arc<Outbox>) {
        let mut state = self.state();
        if state.is_current(outbox) {
            let peer = outbox.peer;
            state.outboxes.remove(&peer);
            self.handle(&mut state, Input::PeerGone { peer });
        }
    }

    /// Something happened on a stream. Ignored if a newer one has taken its place.
    pub(crate) fn input(&self, outbox: &Arc<Outbox>, input: Input<NodeId>) {
        let mut state = self.state();
        if state.is_current(outbox) {
            self.handle(&mut state, input);
        }
    }

    /// Gives the turns that the budget allows as time goes on; ends with [`Server::close`].
    pub(crate) async fn keep_time(self: Arc<Self>) {
        loop {
            let rescheduled = self.rescheduled.listen();
            let deadline = {
                let state = self.state();
                if state.is_closed {
                    return;
                }
                state.machine.next_deadline()
            };
            let due = async {
                match deadline {
                    Some(at) => drop(async_io::Timer::at(self.clock.instant(at)).await),
                    None => future::pending().await,
                }
            };
            future::or(due, rescheduled).await;
            let mut state = self.state();
            let (now, inner) = (self.clock.now(), &mut *state);
            inner.machine.expire(now, &mut inner.effects);
            state.perform();
        }
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.outboxes.values().for_each(|it| it.close());
        self.rescheduled.notify(usize::MAX);
    }

    fn handle(&self, state: &mut State, input: Input<NodeId>) {
        let before = state.machine.next_deadline();
        state
            .machine
            .handle(self.clock.now(), input, &mut state.effects);
        if state.machine.next_deadline() != before {
            self.rescheduled.notify(usize::MAX);
        }
        state.perform();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_current(&self, outbox: &Arc<Outbox>) -> bool {
        let current = self.outboxes.get(&outbox.peer);
        current.is_some_and(|it| Arc::ptr_eq(it, outbox))
    }

    fn perform(&mut self) {
        for effect in self.effects.drain(..) {
            let (peer, job) = match effect {
                Effect::Send {
                    peer,
                    id,
                    root,
                    pieces,
                    ..
                } => (peer, Some(Job::Turn { id, root, pieces })),
                Effect::Reply { peer, reply } => (peer, Some(Job::Reply(reply))),
                Effect::Close { peer } => (peer, None),
            };
            if let Some(outbox) = self.outboxes.get(&peer) {
                match job {
                    Some(job) => outbox.push(job),
                    None => outbox.close(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SecretKey;
    use crate::proto::exchange::message::{ROOTS_MAX, Want};

    fn alice() -> NodeId {
        SecretKey::from_seed([1; 32]).public()
    }

    fn server() -> Arc<Server> {
        Server::new(Config::default(), Clock::start())
    }

    fn requested(id: u32) -> Input<NodeId> {
        let want = Want {
            root: Blake3([7; 32]),
            size: 1_000,
            groups: 0..1,
        };
        Input::Requested {
            peer: alice(),
            id,
            want,
            is_held: true,
        }
    }

    /// The ids of the turns that wait.
    fn turns(outbox: &Outbox) -> Vec<u32> {
        let jobs = std::iter::from_fn(|| outbox.pop());
        jobs.filter_map(|it| match it {
            Job::Turn { id, .. } => Some(id),
            Job::Reply(_) => None,
        })
        .collect()
    }

    #[test]
    fn a_newer_stream_takes_the_place_of_the_older() {
        let server = server();
        let older = server.enter(alice());
        server.input(&older, requested(1));
        let newer = server.enter(alice());
        assert!(older.queue().is_closed);
        // What the older one still reports is not taken for the newer one's.
        server.input(&newer, requested(1));
        let sent = Input::Sent {
            peer: alice(),
            id: 1,
        };
        server.input(&older, sent);
        server.leave(&older);
        assert_eq!(turns(&newer), [1]);
        assert_eq!(server.state().machine.request_count(), 1);
        server.leave(&newer);
        assert_eq!(server.state().machine.request_count(), 0);
    }

    #[test]
    fn an_id_that_is_used_twice_closes_the_stream() {
        let server = server();
        let outbox = server.enter(alice());
        server.input(&outbox, requested(1));
        server.input(&outbox, requested(1));
        assert!(outbox.queue().is_closed);
    }

    #[test]
    fn who_asks_about_too_much_has_to_wait() {
        let server = server();
        let (outbox, now) = (server.enter(alice()), server.now());
        assert!(outbox.may_ask(ROOTS_MAX, now));
        assert!(!outbox.may_ask(1, now));
        assert!(outbox.may_ask(1, now + std::time::Duration::from_secs(1)));
    }

    #[test]
    fn a_closed_server_serves_no_new_stream() {
        let server = server();
        let before = server.enter(alice());
        server.close();
        let after = server.enter(alice());
        assert!(before.queue().is_closed && after.queue().is_closed);
    }
}
