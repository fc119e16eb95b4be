//! One syncing node among peers that are slow, silent, lying or gone, in virtual time.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use crate::base::{BlockId, NodeId, PublicKey, Rng, Time};
use crate::proto::sync::message::tests::chain;
use crate::proto::sync::serve::tests::serve;
use crate::proto::sync::*;

/// Heights of the honest chain.
const TIP: u64 = 2_000;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Honest,
    /// Answers a number of requests, then no more.
    SilentAfter(usize),
    /// Closes the connection at that time.
    GoneAfter(Duration),
    /// Claims so many heights and answers as far as the honest chain goes.
    Claims(u64),
    /// Claims a base and a tip and never answers.
    Pruned(u64, u64),
    /// Serves blocks of another chain.
    Forger,
    /// Sends answers without blocks.
    Empty,
    /// Denies having what it claims.
    Denier,
    /// Announces a lower height after a second.
    Shrinking,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    kind: Kind,
    delay: Duration,
    /// Unit: bytes per second.
    rate: u64,
    busy_until: Time,
    answers: usize,
}

#[derive(Clone, Debug)]
enum Event {
    Input(Input),
    Frame(NodeId, Vec<u8>),
    Verified(NodeId, Vec<Decided>),
}

struct World {
    now: Time,
    sync: Sync,
    applied: u64,
    peers: BTreeMap<NodeId, Peer>,
    queue: BTreeMap<(Time, u64), Event>,
    order: u64,
    requests: Vec<(NodeId, GetBlocks, u64)>,
    served: BTreeMap<NodeId, u64>,
    blamed: Vec<(NodeId, Fault)>,
    states: Vec<State>,
    /// Longest time with nothing to do and nothing in flight although something was left to ask for.
    idle_max: Duration,
    idle_since: Option<Time>,
}

fn honest() -> &'static [SyncBlock] {
    static CHAIN: OnceLock<Vec<SyncBlock>> = OnceLock::new();
    CHAIN.get_or_init(|| chain(TIP, 100, 0))
}

fn forged() -> &'static [SyncBlock] {
    static CHAIN: OnceLock<Vec<SyncBlock>> = OnceLock::new();
    CHAIN.get_or_init(|| chain(TIP, 100, 1))
}

fn honest_id(height: u64) -> BlockId {
    static IDS: OnceLock<Vec<BlockId>> = OnceLock::new();
    let ids = IDS.get_or_init(|| {
        let blocks = honest().iter();
        let blocks = blocks.map(|it| crate::proto::chain::Block::from_bytes(&it.block).unwrap());
        blocks.map(|it| it.id()).collect()
    });
    ids[usize::try_from(height).unwrap() - 1]
}

fn peer(number: u8) -> NodeId {
    PublicKey([number; 32])
}

impl World {
    fn new(applied: u64, peers: &[(Kind, u64, u64)]) -> Self {
        let mut world = Self {
            now: Time::ZERO,
            sync: Sync::new(Config::default(), applied),
            applied,
            peers: BTreeMap::new(),
            queue: BTreeMap::new(),
            order: 0,
            requests: Vec::new(),
            served: BTreeMap::new(),
            blamed: Vec::new(),
            states: Vec::new(),
            idle_max: Duration::ZERO,
            idle_since: None,
        };
        for (number, (kind, delay_ms, rate)) in (1..).zip(peers) {
            world.join(peer(number), *kind, *delay_ms, *rate);
        }
        world
    }

    fn join(&mut self, id: NodeId, kind: Kind, delay_ms: u64, rate: u64) {
        let it = Peer {
            kind,
            delay: Duration::from_millis(delay_ms),
            rate,
            busy_until: self.now,
            answers: 0,
        };
        self.peers.insert(id, it);
        let (base, tip) = match kind {
            Kind::Claims(tip) => (1, tip),
            Kind::Pruned(base, tip) => (base, tip),
            _ => (1, TIP),
        };
        let peer = id;
        self.later(
            Duration::ZERO,
            Event::Input(Input::Joined { peer, base, tip }),
        );
        match kind {
            Kind::GoneAfter(delay) => self.later(delay, Event::Input(Input::Left { peer })),
            Kind::Shrinking => {
                let height = TIP - 1;
                self.later(SECOND / 10, Event::Input(Input::Tip { peer, height }));
            }
            _ => {}
        }
    }

    fn later(&mut self, delay: Duration, event: Event) {
        self.order += 1;
        self.queue.insert((self.now + delay, self.order), event);
    }

    /// Runs until the queue is empty or the time has come; returns how long it took to reach the
    /// honest tip.
    fn run(&mut self, limit: Duration) -> Option<Duration> {
        let end = self.now + limit;
        let mut reached = None;
        loop {
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.sync.next_deadline();
            let Some(at) = event
                .into_iter()
                .chain(deadline)
                .min()
                .filter(|it| *it <= end)
            else {
                self.now = end;
                return reached;
            };
            self.now = at.max(self.now);
            let mut out = Vec::new();
            if event == Some(at) {
                let (_, event) = self.queue.pop_first().unwrap();
                self.happen(event, &mut out);
            } else {
                self.sync.expire(self.now, &mut out);
            }
            out.into_iter().for_each(|it| self.carry_out(it));
            self.sample();
            if self.applied == TIP {
                reached = reached.or(Some(self.now.since(Time::ZERO)));
            }
        }
    }

    fn happen(&mut self, event: Event, out: &mut Vec<Effect>) {
        let input = match event {
            Event::Input(input) => {
                if let Input::Left { peer } = &input {
                    self.peers.remove(peer);
                }
                input
            }
            Event::Frame(peer, _) if !self.peers.contains_key(&peer) => return,
            Event::Frame(peer, bytes) => match Incoming::from_bytes(&bytes) {
                Ok(Incoming::Blocks(run)) => Input::Blocks { peer, run },
                Ok(Incoming::NotAvailable(answer)) => Input::NotAvailable { peer, answer },
                Ok(Incoming::GetBlocks(_)) | Err(_) => Input::Malformed { peer },
            },
            Event::Verified(peer, blocks) => {
                assert_eq!(blocks[0].block.height(), self.applied + 1, "in order");
                let bad = blocks.iter().map(|it| &it.block);
                let bad = bad.clone().find(|it| it.id() != honest_id(it.height()));
                if let Some(height) = bad.map(|it| it.height()) {
                    self.applied = height - 1;
                    Input::Rejected { peer, height }
                } else {
                    let height = blocks.last().unwrap().block.height();
                    *self.served.entry(peer).or_default() += blocks.len() as u64;
                    self.applied = height;
                    Input::Applied { height }
                }
            }
        };
        self.sync.handle(self.now, input, out);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send { peer, request } => {
                self.requests.push((peer, request, self.applied));
                self.answer(peer, request);
            }
            Effect::Apply { peer, blocks } => {
                // 20,000 blocks per second.
                let time = Duration::from_micros(50) * u32::try_from(blocks.len()).unwrap();
                self.later(time, Event::Verified(peer, blocks));
            }
            Effect::Blame { peer, fault } => {
                self.blamed.push((peer, fault));
                self.later(Duration::ZERO, Event::Input(Input::Left { peer }));
            }
            Effect::Slow { .. } => {}
            Effect::Turned(state) => self.states.push(state),
        }
    }

    fn answer(&mut self, id: NodeId, request: GetBlocks) {
        let Some(it) = self.peers.get_mut(&id) else {
            return;
        };
        it.answers += 1;
        let message = match it.kind {
            Kind::SilentAfter(answers) if answers < it.answers => return,
            Kind::Pruned(..) => return,
            Kind::Claims(_) if TIP < request.from => return,
            Kind::Forger => serve(request, forged(), 1),
            Kind::Empty => Message::Blocks {
                id: request.id,
                blocks: Vec::new(),
            },
            Kind::Denier => Message::NotAvailable(NotAvailable {
                id: request.id,
                base: 1,
                tip: TIP,
            }),
            _ => serve(request, honest(), 1),
        };
        let bytes = message.to_bytes();
        let millis = bytes.len() as u64 * 1_000 / it.rate;
        it.busy_until = it.busy_until.max(self.now) + Duration::from_millis(millis);
        let delay = it.busy_until.since(self.now) + 2 * it.delay;
        self.later(delay, Event::Frame(id, bytes));
    }

    fn sample(&mut self) {
        let progress = self.sync.progress(self.now);
        let last = self
            .requests
            .iter()
            .map(|(_, it, _)| it.from + u64::from(it.count_max) - 1);
        let all_asked = TIP <= last.max().unwrap_or(0);
        if progress.in_flight == 0 && progress.buffered == 0 && !all_asked {
            self.idle_since.get_or_insert(self.now);
        } else if let Some(since) = self.idle_since.take() {
            self.idle_max = self.idle_max.max(self.now.since(since));
        }
    }

    fn shares(&self) -> Vec<u64> {
        let peers = self.peers.keys();
        peers
            .map(|it| self.served.get(it).copied().unwrap_or(0) * 100 / TIP)
            .collect()
    }
}

const FAST: u64 = 10_000_000;
const GOOD: (Kind, u64, u64) = (Kind::Honest, 10, FAST);

#[test]
fn ranges_are_divided_among_the_peers_within_the_window() {
    let mut world = World::new(0, &[GOOD; 4]);
    assert!(world.run(60 * SECOND).is_some());
    let shares = world.shares();
    assert!(shares.iter().all(|it| (10..=40).contains(it)), "{shares:?}");
    let window = Config::default().window;
    let mut asked: Vec<(u64, u64)> = Vec::new();
    for (_, request, applied) in &world.requests {
        let to = request.from + u64::from(request.count_max) - 1;
        assert!(to <= applied + window, "{request:?} at {applied}");
        asked.push((request.from, to));
    }
    asked.sort_unstable();
    let disjoint = asked.windows(2).all(|it| it[0].1 + 1 == it[1].0);
    assert!(disjoint && asked.last().unwrap().1 == TIP, "{asked:?}");
    assert_eq!(world.states, vec![State::CatchingUp, State::Live]);
}

#[test]
fn the_queue_is_never_empty_and_delay_costs_little() {
    let time = |delay_ms| {
        let mut world = World::new(0, &[(Kind::Honest, delay_ms, FAST); 4]);
        let time = world.run(60 * SECOND).unwrap();
        assert_eq!(world.idle_max, Duration::ZERO);
        time
    };
    let (near, far) = (time(0), time(20));
    assert!(
        far < near + 8 * Duration::from_millis(40),
        "{near:?} {far:?}"
    );
}

#[test]
fn a_peer_that_falls_silent_or_leaves_is_replaced() {
    let ideal = World::new(0, &[GOOD; 4]).run(60 * SECOND).unwrap();
    for kind in [
        Kind::SilentAfter(0),
        Kind::SilentAfter(3),
        Kind::GoneAfter(SECOND / 25),
    ] {
        let mut world = World::new(0, &[(kind, 10, FAST), GOOD, GOOD, GOOD]);
        let time = world.run(60 * SECOND).unwrap();
        let limit = ideal + Config::default().timeout;
        assert!(time <= limit, "{kind:?}: {time:?}, {ideal:?}");
        assert_eq!(world.blamed, vec![], "{kind:?}");
        assert_eq!(world.states, vec![State::CatchingUp, State::Live]);
    }
}

#[test]
fn a_slow_but_honest_sole_peer_serves_everything() {
    for rate in [64_000, 8_000] {
        let mut world = World::new(0, &[(Kind::Honest, 50, rate)]);
        let time = world.run(600 * SECOND);
        assert!(time.is_some(), "{rate}: {:?}", world.applied);
        assert_eq!(world.blamed, vec![]);
        assert_eq!(world.applied, TIP);
    }
}

#[test]
fn liars_are_blamed_with_a_reason_and_do_not_stall() {
    let alone = World::new(0, &[GOOD]).run(60 * SECOND).unwrap();
    let tip = (1 << 63) - 1;
    for (kind, fault) in [
        (Kind::Claims(tip), Some(Fault::Height(tip))),
        (
            Kind::Pruned(9, 7),
            Some(Fault::BaseAboveTip { base: 9, tip: 7 }),
        ),
        (
            Kind::Shrinking,
            Some(Fault::HeightDown {
                from: TIP,
                to: TIP - 1,
            }),
        ),
        (Kind::Empty, Some(Fault::Malformed)),
        (Kind::Denier, Some(Fault::Contradiction(1))),
        (Kind::Forger, Some(Fault::BadBlock(1))),
        (Kind::Claims(TIP + 1_000_000), None),
        (Kind::Pruned(1_000_000, 2_000_000), None),
    ] {
        let mut world = World::new(0, &[(kind, 1, FAST), GOOD]);
        let time = world.run(60 * SECOND);
        assert!(time.is_some_and(|it| it <= 2 * alone), "{kind:?} {time:?}");
        let expected: Vec<_> = fault.map(|it| (peer(1), it)).into_iter().collect();
        assert_eq!(world.blamed, expected, "{kind:?}");
        assert_eq!(world.states.last(), Some(&State::Live), "{kind:?}");
    }
}

#[test]
fn two_forgers_one_after_the_other_do_not_win() {
    let forger = (Kind::Forger, 1, FAST);
    let mut world = World::new(0, &[forger]);
    world.run(SECOND);
    assert_eq!(
        (world.blamed.len(), world.sync.state()),
        (1, State::Searching)
    );
    world.join(peer(2), Kind::Forger, 1, FAST);
    world.join(peer(3), Kind::Honest, 10, FAST);
    world.join(peer(1), Kind::Forger, 1, FAST);
    assert!(world.run(60 * SECOND).is_some());
    // The first one is not asked again although it came back.
    let blamed: Vec<NodeId> = world.blamed.iter().map(|(it, _)| *it).collect();
    assert_eq!(blamed, vec![peer(1), peer(2)]);
}

#[test]
fn one_range_is_asked_at_most_twice_from_one_peer() {
    for kind in [Kind::Forger, Kind::SilentAfter(2), Kind::Claims(TIP + 5)] {
        let mut world = World::new(0, &[(kind, 10, FAST), GOOD, GOOD]);
        world.run(120 * SECOND);
        let mut times: BTreeMap<(NodeId, u64), u32> = BTreeMap::new();
        for (peer, request, _) in &world.requests {
            *times.entry((*peer, request.from)).or_default() += 1;
        }
        let most = times.values().max();
        assert!(most.is_some_and(|it| *it <= 2), "{kind:?}: {times:?}");
    }
}

#[test]
fn a_restarted_node_fetches_only_what_is_missing() {
    let mut rng = Rng::new(7);
    let mut applied = 0;
    for _ in 0..10 {
        let mut world = World::new(applied, &[GOOD; 3]);
        world.run(Duration::from_millis(10 + rng.below(60)));
        let lowest = world.requests.iter().map(|(_, it, _)| it.from).min();
        assert!(
            lowest.is_none_or(|it| it == applied + 1),
            "{lowest:?} {applied}"
        );
        applied = world.applied;
    }
    let mut world = World::new(applied, &[GOOD; 3]);
    world.run(60 * SECOND);
    assert_eq!(world.applied, TIP);
}

#[test]
fn random_mixtures_with_one_honest_peer_always_finish() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let kinds = [
            Kind::Honest,
            Kind::SilentAfter(1),
            Kind::GoneAfter(SECOND / 20),
            Kind::Claims(TIP + 100),
            Kind::Pruned(1_500, TIP),
            Kind::Forger,
            Kind::Empty,
            Kind::Denier,
            Kind::Shrinking,
        ];
        let mut peers = vec![(Kind::Honest, 1 + rng.below(200), 64_000)];
        for _ in 0..rng.below(5) {
            let kind = *rng.pick(&kinds).unwrap();
            peers.push((kind, rng.below(100), 20_000 << rng.below(10)));
        }
        rng.shuffle(&mut peers);
        let mut world = World::new(0, &peers);
        let time = world.run(600 * SECOND);
        assert!(
            time.is_some(),
            "seed {seed}: {peers:?} at {}",
            world.applied
        );
        let honest = |it: &NodeId| peers[usize::from(it.0[0]) - 1].0 == Kind::Honest;
        assert!(
            !world.blamed.iter().any(|(it, _)| honest(it)),
            "seed {seed}"
        );
        assert_eq!(world.sync.state(), State::Live, "seed {seed}: {peers:?}");
    }
}
