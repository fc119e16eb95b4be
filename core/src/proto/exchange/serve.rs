//! Serving groups: whose turn it is, and who has to wait.
//!
//! Every peer that waits for groups has its place in a ring and gets one turn after the other: one
//! group, or a whole frame if nobody else waits. Within a peer, requests are served in their order.
//! A turn is charged to the upload budget before it is given, so the limit holds exactly.
//!
//! ```text
//!  Requested ─▶ waits ─▶ Send ─▶ (shell: read, write) ─▶ Sent … ─▶ Reply(End)
//!      │                                                  Lost ──▶ Reply(NotFound)
//!      └─▶ Reply(NotFound) not shared    └─▶ Reply(Busy) too much to do
//! ```
//!
//! Every request is answered exactly once, and only when no turn of it is with the shell: bytes
//! that follow their `End` would be taken for an attack.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{Blake3, Time};
use crate::proto::exchange::frame::HEADER_BYTES;
use crate::proto::exchange::group::{GROUP_BYTES, Piece, Pieces};
use crate::proto::exchange::message::{DATA_BYTES_MAX, Reply, Want};
use crate::proto::limit::{Budget, Rate};

/// Requests that may wait in all; more are answered with `Busy`.
pub const REQUESTS_MAX: usize = 1_024;

/// Requests of one peer that may wait; more are answered with `Busy`.
pub const REQUESTS_PEER_MAX: usize = 64;

/// Peers that may wait for more than [`SMALL_GROUPS_MAX`] groups at the same time; others are
/// answered with `Busy`, so that those served get a useful share.
pub const BULK_PEERS_MAX: usize = 8;

/// Requests for at most so many groups are taken even if [`BULK_PEERS_MAX`] peers are served.
pub const SMALL_GROUPS_MAX: u64 = 4;

/// Turns of one peer that may be with the shell: one is written while the next is read.
pub const TURNS_MAX: usize = 4;

/// What a busy server asks for. Unit: milliseconds.
pub const RETRY_AFTER_MS: u32 = 1_000;

/// What is shared, and how fast.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// Whether anything is shared at all.
    pub shares: bool,
    /// Upload rate to all peers together.
    pub rate: Rate,
    /// Upload rate to each peer.
    pub peer_rate: Rate,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shares: true,
            rate: Rate::Unlimited,
            peer_rate: Rate::Unlimited,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input<P> {
    /// A peer wants groups.
    Requested {
        /// Who.
        peer: P,
        /// The id of its request.
        id: u32,
        /// What.
        want: Want,
        /// Whether these groups, of an artifact of that size, are here.
        is_held: bool,
    },
    /// A peer does not want them any more.
    Cancelled {
        /// Who.
        peer: P,
        /// The id of its request.
        id: u32,
    },
    /// The oldest turn of a request was written to the stream.
    Sent {
        /// To whom.
        peer: P,
        /// The request.
        id: u32,
    },
    /// The oldest turn of a request could not be read; nothing of it was written. The shell writes
    /// no later turn of that request, and reports each of them as lost too.
    Lost {
        /// To whom.
        peer: P,
        /// The request.
        id: u32,
    },
    /// The stream of a peer is gone, with all turns that are with the shell.
    PeerGone {
        /// Who.
        peer: P,
    },
    /// What is shared changes. Requests that wait are answered with `NotFound` if nothing is.
    Configured(Config),
}

/// What to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect<P> {
    /// Read these pieces and write them as one `Data` frame, in the order of these effects; then
    /// report [`Input::Sent`] or [`Input::Lost`].
    Send {
        /// To whom.
        peer: P,
        /// The request.
        id: u32,
        /// The artifact.
        root: Blake3,
        /// What to read, in this order.
        pieces: Vec<Piece>,
        /// The sum of their lengths.
        bytes: u32,
    },
    /// Write this reply.
    Reply {
        /// To whom.
        peer: P,
        /// `End`, `NotFound` or `Busy`.
        reply: Reply,
    },
    /// Close the stream: the peer used an id twice, and could not tell the answers apart.
    Close {
        /// Whose.
        peer: P,
    },
}

/// Serves the requests of all peers.
#[derive(Debug)]
pub struct Serve<P> {
    shares: bool,
    budget: Budget<P>,
    peers: BTreeMap<P, Peer>,
    /// The peers that have requests, next one first.
    ring: VecDeque<P>,
    /// When the budget allows the next turn, if it is what everybody waits for.
    wake_at: Option<Time>,
}

#[derive(Debug, Default)]
struct Peer {
    /// In the order of their arrival.
    jobs: VecDeque<Job>,
    /// Turns that are with the shell.
    turns: usize,
}

/// A request that is being served.
#[derive(Debug)]
struct Job {
    id: u32,
    root: Blake3,
    is_bulk: bool,
    pieces: Pieces,
    /// The next ones of them: enough for a turn, unless they are the last.
    ready: VecDeque<Piece>,
    /// Turns that are with the shell.
    turns: usize,
    /// Why no more turns are given, if so.
    end: Option<End>,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Cancelled,
    NotFound,
}

impl<P: Clone + Ord> Serve<P> {
    /// A server without requests.
    pub fn new(config: Config, now: Time) -> Self {
        Self {
            shares: config.shares && !config.is_shut(),
            budget: Budget::new(config.rate, config.peer_rate, now),
            peers: BTreeMap::new(),
            ring: VecDeque::new(),
            wake_at: None,
        }
    }

    /// Whether anything is shared; if not, presence is denied too.
    pub const fn is_sharing(&self) -> bool {
        self.shares
    }

    /// Requests that wait or are being served.
    pub fn request_count(&self) -> usize {
        self.peers.values().map(|it| it.jobs.len()).sum()
    }

    /// Takes an input and appends what is to be done.
    pub fn handle(&mut self, now: Time, input: Input<P>, out: &mut Vec<Effect<P>>) {
        match input {
            Input::Requested {
                peer,
                id,
                want,
                is_held,
            } => self.requested(peer, id, &want, is_held, out),
            Input::Cancelled { peer, id } => {
                self.end(&peer, out, |job| job.id == id, End::Cancelled);
            }
            Input::Sent { peer, id } => self.turn_done(&peer, id, None, out),
            Input::Lost { peer, id } => self.turn_done(&peer, id, Some(End::NotFound), out),
            Input::PeerGone { peer } => self.forget(&peer),
            Input::Configured(config) => {
                self.shares = config.shares && !config.is_shut();
                self.budget.set_rates(config.rate, config.peer_rate, now);
                if !self.shares {
                    for peer in self.ring.clone() {
                        self.end(&peer, out, |_| true, End::NotFound);
                    }
                }
            }
        }
        self.give_turns(now, out);
    }

    /// When to call [`Serve::expire`] at the latest.
    pub const fn next_deadline(&self) -> Option<Time> {
        self.wake_at
    }

    /// Gives the turns that the budget allows at `now`.
    pub fn expire(&mut self, now: Time, out: &mut Vec<Effect<P>>) {
        self.give_turns(now, out);
    }

    fn requested(
        &mut self,
        peer: P,
        id: u32,
        want: &Want,
        is_held: bool,
        out: &mut Vec<Effect<P>>,
    ) {
        let known = self.peers.get(&peer);
        if known.is_some_and(|it| it.jobs.iter().any(|job| job.id == id)) {
            self.forget(&peer);
            return out.push(Effect::Close { peer });
        }
        let pieces = Pieces::new(want.size, &want.groups).filter(|_| is_held && self.shares);
        let Some(pieces) = pieces else {
            let reply = Reply::NotFound { id };
            return out.push(Effect::Reply { peer, reply });
        };
        let is_bulk = want.groups.end - want.groups.start > SMALL_GROUPS_MAX;
        if self.is_busy(&peer, is_bulk) {
            let retry_after_ms = RETRY_AFTER_MS;
            let reply = Reply::Busy { id, retry_after_ms };
            return out.push(Effect::Reply { peer, reply });
        }
        if !self.ring.contains(&peer) {
            self.ring.push_back(peer.clone());
        }
        let mut job = Job {
            id,
            root: want.root,
            is_bulk,
            pieces,
            ready: VecDeque::new(),
            turns: 0,
            end: None,
        };
        job.refill();
        self.peers.entry(peer).or_default().jobs.push_back(job);
    }

    fn is_busy(&self, peer: &P, is_bulk: bool) -> bool {
        let known = self.peers.get(peer);
        let bulk_peers = self.peers.values().filter(|it| it.has_bulk()).count();
        self.request_count() >= REQUESTS_MAX
            || known.is_some_and(|it| it.jobs.len() >= REQUESTS_PEER_MAX)
            || (is_bulk && bulk_peers >= BULK_PEERS_MAX && !known.is_some_and(Peer::has_bulk))
    }

    fn forget(&mut self, peer: &P) {
        self.peers.remove(peer);
        self.ring.retain(|it| it != peer);
    }

    /// Gives no more turns to the requests of `peer` that `is_meant` picks.
    fn end(
        &mut self,
        peer: &P,
        out: &mut Vec<Effect<P>>,
        is_meant: impl Fn(&Job) -> bool,
        end: End,
    ) {
        if let Some(known) = self.peers.get_mut(peer) {
            for job in known.jobs.iter_mut().filter(|job| is_meant(job)) {
                job.end.get_or_insert(end);
            }
        }
        self.reply_to_finished(peer, out);
    }

    fn turn_done(&mut self, peer: &P, id: u32, end: Option<End>, out: &mut Vec<Effect<P>>) {
        let Some(known) = self.peers.get_mut(peer) else {
            return;
        };
        let job = known.jobs.iter_mut().find(|job| job.id == id);
        if let Some(job) = job.filter(|job| job.turns > 0) {
            job.turns -= 1;
            job.end = job.end.or(end);
            known.turns -= 1;
        }
        self.reply_to_finished(peer, out);
    }

    /// Answers the requests of `peer` that get no more turns and have none with the shell.
    fn reply_to_finished(&mut self, peer: &P, out: &mut Vec<Effect<P>>) {
        let Some(known) = self.peers.get_mut(peer) else {
            return;
        };
        known.jobs.retain_mut(|job| {
            let is_finished = job.turns == 0 && !job.has_turn();
            if is_finished {
                let id = job.id;
                let reply = match job.end {
                    None | Some(End::Cancelled) => Reply::End { id },
                    Some(End::NotFound) => Reply::NotFound { id },
                };
                let peer = peer.clone();
                out.push(Effect::Reply { peer, reply });
            }
            !is_finished
        });
        if known.jobs.is_empty() {
            self.forget(peer);
        }
    }

    /// Gives turns around the ring until nobody can have one.
    fn give_turns(&mut self, now: Time, out: &mut Vec<Effect<P>>) {
        self.wake_at = None;
        let mut place = 0;
        while let Some(peer) = self.ring.get(place).cloned() {
            match self.give_turn(now, &peer) {
                Turn::Given(effect) => {
                    out.push(effect);
                    self.ring.remove(place);
                    self.ring.push_back(peer);
                    place = 0;
                }
                Turn::NotNow => place += 1,
                // Whoever comes later waits too, else small turns would starve a large one.
                Turn::NobodyNow => return,
            }
        }
    }

    fn give_turn(&mut self, now: Time, peer: &P) -> Turn<P> {
        let Some(known) = self.peers.get_mut(peer) else {
            return Turn::NotNow;
        };
        let job = known.jobs.iter_mut().find(|job| job.has_turn());
        let Some(job) = job.filter(|_| known.turns < TURNS_MAX) else {
            return Turn::NotNow;
        };
        let is_alone = self.ring.len() == 1;
        let bytes_max = if is_alone {
            DATA_BYTES_MAX
        } else {
            GROUP_BYTES
        };
        let (pieces, bytes) = job.turn(bytes_max);
        let cost = (HEADER_BYTES + bytes) as u64;
        if !self.budget.try_take(peer, cost, now) {
            let next = self.budget.next_at(peer, cost, now);
            self.wake_at = self.wake_at.into_iter().chain(next).min();
            return match self.budget.whole_next_at(cost, now) {
                Some(at) if at <= now => Turn::NotNow,
                _ => Turn::NobodyNow,
            };
        }
        let pieces = job.ready.drain(..pieces).collect();
        job.refill();
        job.turns += 1;
        known.turns += 1;
        Turn::Given(Effect::Send {
            peer: peer.clone(),
            id: job.id,
            root: job.root,
            pieces,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        })
    }
}

/// Whether a peer got a turn.
enum Turn<P> {
    Given(Effect<P>),
    /// It has enough with the shell, or used up its own budget.
    NotNow,
    /// The budget of all peers is used up.
    NobodyNow,
}

impl Peer {
    fn has_bulk(&self) -> bool {
        self.jobs.iter().any(|job| job.is_bulk)
    }
}

impl Job {
    /// Whether another turn is to be given.
    fn has_turn(&self) -> bool {
        self.end.is_none() && !self.ready.is_empty()
    }

    /// The pieces of the next turn and their length: up to and including the first group, and as
    /// many more as fit into `bytes_max`.
    fn turn(&self, bytes_max: usize) -> (usize, usize) {
        let (mut count, mut bytes, mut has_group) = (0, 0, false);
        for piece in &self.ready {
            if has_group && bytes_max < bytes + piece.len() {
                break;
            }
            has_group |= matches!(piece, Piece::Group { .. });
            bytes += piece.len();
            count += 1;
        }
        (count, bytes)
    }

    fn refill(&mut self) {
        let mut bytes: usize = self.ready.iter().map(Piece::len).sum();
        while bytes < DATA_BYTES_MAX {
            let Some(piece) = self.pieces.next() else {
                return;
            };
            bytes += piece.len();
            self.ready.push_back(piece);
        }
    }
}

impl Config {
    /// Whether a limit of zero bytes forbids sending.
    fn is_shut(&self) -> bool {
        [self.rate, self.peer_rate].contains(&Rate::BytesPerSecond(0))
    }
}
