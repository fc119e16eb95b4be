//! A node's shell: carries the engine's effects out in order, as `node/run.rs` does.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::disk::{SimVault, Stored};
use crate::kogge::base::{NodeId, Time, WallTime};
use crate::kogge::net::{GossipId, Protocol, Topic};
use crate::kogge::node::flow::{Effect, Engine, Input, Setup};
use crate::kogge::proto::build::{BuildId, BuildSpec};
use crate::kogge::proto::chain::testing::GENESIS_TIME;
use crate::kogge::proto::chain::{ChainState, NodeKeys};
use crate::kogge::proto::hello::{Message as Hello, Reason, Rejection};
use crate::kogge::proto::log::Checkpoint;
use crate::kogge::proto::peers::{Book, Seed};
use crate::net::address;
use crate::oracle::describe;
use crate::pipeline;
use crate::plan::{Moment, name};
use crate::wire::{Dial, local};
use crate::world::{Done, Event, World};

/// Longest time that a pipeline takes.
const BUILD_MAX: Duration = Duration::from_secs(3);

/// A machine on which a node runs.
pub(crate) struct SimNode {
    pub(crate) keys: NodeKeys,
    pub(crate) vault: SimVault,
    /// The process, if it runs.
    pub(crate) engine: Option<Engine<SimVault>>,
    pub(crate) is_hostile: bool,
    /// Number of the process.
    pub(crate) run: u32,
    pub(crate) booted: Time,
    /// How wrong the wall clock is. Unit: milliseconds.
    pub(crate) skew: i64,
    pub(crate) disk_slowness: u64,
    /// Dies after doing this so many times more, for so long.
    pub(crate) doom: Option<(Moment, u32, Duration)>,
    inbox: VecDeque<Input>,
    outbox: VecDeque<Effect>,
    /// For the journal, before the next sync.
    pub(crate) records: Vec<Vec<u8>>,
    /// The process waits for its journal.
    pub(crate) is_syncing: bool,
    pub(crate) is_storing: bool,
    pub(crate) signing: Option<Checkpoint>,
    /// Unfinished builds that wait for the disk.
    pub(crate) unsaved: Option<Vec<Vec<u8>>>,
    wake: Option<Time>,
    pub(crate) links: BTreeMap<usize, u64>,
    pub(crate) dials: BTreeMap<u64, Dial>,
    pub(crate) bans: BTreeMap<usize, Time>,
    pub(crate) seen: BTreeMap<GossipId, Time>,
    pub(crate) judging: BTreeMap<GossipId, (Topic, Rc<[u8]>)>,
}

impl SimNode {
    pub(crate) fn new(keys: NodeKeys, skew: i64, vault: SimVault) -> Self {
        Self {
            keys,
            vault,
            engine: None,
            is_hostile: false,
            run: 0,
            booted: Time::ZERO,
            skew,
            disk_slowness: 1,
            doom: None,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            records: Vec::new(),
            is_syncing: false,
            is_storing: false,
            signing: None,
            unsaved: None,
            wake: None,
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            bans: BTreeMap::new(),
            seen: BTreeMap::new(),
            judging: BTreeMap::new(),
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.keys.id()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.engine.is_some() || self.is_hostile
    }

    pub(crate) fn height(&self) -> u64 {
        self.vault.disk().durable as u64
    }
}

impl World {
    pub(crate) fn clock(&self, node: usize) -> (Time, WallTime) {
        let it = &self.nodes[node];
        let millis = u64::try_from(self.now.since(Time::ZERO).as_millis()).unwrap_or(0);
        let wall = GENESIS_TIME.as_millis() + 3_600_000 + millis;
        let wall = WallTime::from_millis(wall.saturating_add_signed(it.skew));
        (local(it.booted, self.now), wall)
    }

    /// Starts the process from what the disk holds, as `node/start.rs` does.
    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].is_up() {
            return;
        }
        let seed = self.rng.next_u64();
        let verdict = self.oracle.restarted(&self.nodes[node].vault.disk());
        self.judge(node, verdict);
        let it = &mut self.nodes[node];
        it.run += 1;
        it.booted = self.now;
        let vault = it.vault.clone();
        let disk = vault.disk();
        let last = disk.last().cloned();
        let state = match &last {
            Some(it) => ChainState::from_bytes(&it.state).expect("the stored state is readable"),
            None => ChainState::genesis(&self.genesis),
        };
        let wal = if disk.journal.height == state.height() + 1 {
            disk.journal.records.clone()
        } else {
            Vec::new()
        };
        let setup = Setup {
            keys: it.keys.clone(),
            genesis: self.genesis.clone(),
            state,
            wal,
            builds: disk.pending(),
            changes: disk.changes.clone(),
            seeds: self.seeds(node),
            admit: kogge_node::Admit::All,
            bootstrap_urls: Vec::new(),
            book: Book::from_bytes(&disk.book).unwrap_or_default(),
            agent: "kogge/sim".into(),
            builds_max: 2,
            seed,
        };
        drop(disk);
        self.say(node, || {
            format!("starts at height {}", setup.state.height())
        });
        let (now, wall) = self.clock(node);
        self.nodes[node].engine = Some(Engine::new(setup, vault, now, wall));
        self.deliver(node, Input::Listening(vec![address(node)]));
    }

    /// Whom a node knows at the start: the members, or in a chain of regular nodes the one before.
    fn seeds(&self, node: usize) -> Vec<Seed> {
        let seed = |it: usize| Seed {
            peer: it.is_multiple_of(2).then(|| self.nodes[it].id()),
            address: address(it),
        };
        if self.is_chain && self.plan.members < node {
            return vec![seed(node - 1)];
        }
        (0..self.plan.members)
            .filter(|it| *it != node)
            .map(seed)
            .collect()
    }

    /// The process dies; the machine comes back after a while.
    pub(crate) fn kill(&mut self, node: usize, down: Duration) {
        if self.nodes[node].engine.take().is_none() {
            return;
        }
        self.say(node, || "dies".into());
        let it = &mut self.nodes[node];
        let fresh = SimNode::new(it.keys.clone(), it.skew, it.vault.clone());
        let old = std::mem::replace(it, fresh);
        it.run = old.run + 1;
        it.disk_slowness = old.disk_slowness;
        let before = it.vault.disk().durable;
        it.vault.disk_mut().crash(&mut self.rng);
        if let Some(head) = old.signing
            && self.rng.chance(1, 2)
        {
            let verdict = self.raise(node, &head);
            self.judge(node, verdict);
        }
        self.check_durable(node, before);
        for link in old.links.into_values() {
            let delay = if self.rng.chance(4, 5) { 50 } else { 10_000 };
            if let Some(it) = self.net.links.get_mut(&link) {
                let side = it.side(node);
                it.up[side] = false;
                it.is_dead = true;
                let delay = self.up_to(Duration::from_millis(delay));
                self.after(
                    delay,
                    Event::Down {
                        link,
                        side: 1 - side,
                    },
                );
            }
        }
        self.after(down, Event::Restart { node });
    }

    /// The owner of a node asks for something.
    pub(crate) fn ask(&mut self, at: usize) {
        let ask = self.plan.asks[at].clone();
        let (now, wall) = self.clock(ask.node);
        let Some(engine) = self.nodes[ask.node].engine.as_mut() else {
            return;
        };
        let spec = pipeline::spec(ask.number, ask.is_image);
        let answer = engine.submit(now, wall, spec);
        if answer.is_ok() {
            self.taken.insert(at, self.nodes[ask.node].run);
        }
        self.say(ask.node, || {
            format!(
                "is asked for {}: {:?}",
                ask.number,
                answer.map(|it| it.state)
            )
        });
        self.turn(ask.node);
    }

    pub(crate) fn deliver(&mut self, node: usize, input: Input) {
        if self.nodes[node].is_hostile {
            return self.tempt(node, input);
        }
        if self.nodes[node].engine.is_some() {
            self.nodes[node].inbox.push_back(input);
            self.turn(node);
        }
    }

    /// Goes on until nothing is left to do, or the journal has to be waited for.
    pub(crate) fn turn(&mut self, node: usize) {
        loop {
            self.perform(node);
            if self.nodes[node].is_syncing || self.failure.is_some() {
                return;
            }
            let (now, wall) = self.clock(node);
            let it = &mut self.nodes[node];
            let Some(engine) = it.engine.as_mut() else {
                return;
            };
            let Some(input) = it.inbox.pop_front() else {
                break;
            };
            engine.handle(now, wall, input);
        }
        self.set_wake(node);
    }

    fn set_wake(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        let deadline = it.engine.as_ref().and_then(Engine::next_deadline);
        let at = deadline.map(|at| it.booted + at.since(Time::ZERO));
        let at = at.map(|at| at.max(self.now));
        if it.wake != at {
            it.wake = at;
            let run = it.run;
            if let Some(at) = at {
                self.at(at, Event::Wake { node, run, at });
            }
        }
    }

    pub(crate) fn wake(&mut self, node: usize, run: u32, at: Time) {
        let it = &mut self.nodes[node];
        if it.run == run && it.wake == Some(at) {
            it.wake = None;
            if !it.is_syncing {
                self.deliver(node, Input::Tick);
            }
        }
    }

    fn perform(&mut self, node: usize) {
        loop {
            let it = &mut self.nodes[node];
            let Some(engine) = it.engine.as_mut().filter(|_| !it.is_syncing) else {
                return;
            };
            if it.outbox.is_empty() {
                it.outbox.extend(engine.take());
            }
            match it.outbox.pop_front() {
                None => break,
                Some(Effect::Wal(record)) => it.records.push(record),
                Some(effect) if it.records.is_empty() || matches!(effect, Effect::Event(_)) => {
                    self.effect(node, effect);
                }
                // What tells others waits until what it rests on is durable.
                Some(effect) => {
                    it.outbox.push_front(effect);
                    self.sync_journal(node);
                }
            }
            if self.failure.is_some() {
                return;
            }
        }
        if !self.nodes[node].records.is_empty() {
            self.sync_journal(node);
        }
    }

    fn effect(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Send {
                peer,
                protocol,
                bytes,
            } => self.sends(node, &peer, protocol, bytes),
            Effect::Publish { topic, bytes } => {
                let vault = self.nodes[node].vault.clone();
                let verdict = self.oracle.published(&vault.disk(), topic, &bytes);
                self.judge(node, verdict);
                self.note(node, "publish", &bytes);
                self.publish(node, topic, bytes);
            }
            Effect::Judge {
                id,
                source,
                verdict,
            } => self.verdict(node, id, source, verdict),
            Effect::Refuse { peer, rejection } => self.refuse(node, &peer, rejection),
            Effect::Ban { peer, reason, time } => self.ban(node, &peer, reason, time),
            Effect::Dial {
                dial,
                peer,
                addresses,
            } => self.dial(node, dial, peer, addresses),
            Effect::Members(_) | Effect::BuildChanged(_) => self.save_builds(node),
            Effect::SaveChanges(changes) => self.nodes[node].vault.disk_mut().changes = changes,
            Effect::ResetWal(height) => {
                self.nodes[node].vault.disk_mut().reset = Some(height);
                self.sync_journal(node);
            }
            Effect::Append { block, certificate } => {
                self.append(node, Stored::new(*block, &certificate));
            }
            Effect::PersistHead(head) => {
                self.nodes[node].signing = Some(head.clone());
                self.finish(node, Done::Head(head));
                self.reached(node, Moment::Head);
            }
            Effect::KeepCheckpoint { size, note, .. } => {
                let vault = self.nodes[node].vault.clone();
                let verdict = self.oracle.checkpoint(&vault.disk(), size, &note);
                self.judge(node, verdict);
                self.finish(node, Done::Checkpoint(size, note));
            }
            Effect::RunBuild { id, run, spec } => self.build(node, id, run, &spec),
            Effect::Fatal(reason) => self.fail(node, &format!("stops: {reason}")),
            Effect::Event(it) => self.say(node, || format!("! {it:?}")),
            Effect::Admitted { .. }
            | Effect::FetchBootstrap { .. }
            | Effect::CancelBuild { .. }
            | Effect::Wal(_) => (),
        }
    }

    fn refuse(&mut self, node: usize, peer: &NodeId, rejection: Rejection) {
        let Some(peer) = self.number(peer) else {
            return;
        };
        let is_blame = matches!(
            rejection.reason,
            Reason::Forked { .. } | Reason::Malformed | Reason::OtherChain | Reason::Banned
        );
        if is_blame && !self.nodes[peer].is_hostile {
            self.fail(node, &format!("refused {}: {rejection}", name(peer)));
        }
        self.say(node, || format!("refuses {}: {rejection}", name(peer)));
        self.close(node, peer);
    }

    fn ban(&mut self, node: usize, peer: &NodeId, reason: String, time: Duration) {
        let Some(peer) = self.number(peer) else {
            return;
        };
        if !self.nodes[peer].is_hostile {
            self.fail(node, &format!("banned {}: {reason}", name(peer)));
        }
        self.say(node, || format!("bans {}: {reason}", name(peer)));
        self.banned.insert((node, peer), reason);
        let until = self.now + time;
        self.nodes[node].bans.insert(peer, until);
        self.cut(node, peer);
    }

    fn build(&mut self, node: usize, id: BuildId, run: u64, spec: &BuildSpec) {
        self.say(node, || format!("builds {spec}"));
        let (hang, result) = pipeline::run(node, spec, &self.plan.asks);
        let (delay, process) = (hang + self.up_to(BUILD_MAX), self.nodes[node].run);
        let input = |input| Event::Done {
            node,
            run: process,
            done: Done::Input(input),
        };
        let (done, total) = (1, 2);
        self.after(delay / 2, input(Input::BuildProgress { id, done, total }));
        self.after(delay, input(Input::BuildDone { id, run, result }));
    }

    fn sends(&mut self, node: usize, peer: &NodeId, protocol: Protocol, bytes: Vec<u8>) {
        let vault = self.nodes[node].vault.clone();
        let Some(peer) = self.number(peer) else {
            return;
        };
        if !self.nodes[node].links.contains_key(&peer) {
            return;
        }
        let verdict = self.oracle.sent(&vault.disk(), protocol, &bytes);
        self.judge(node, verdict);
        self.note(node, protocol.name(), &bytes);
        self.say(node, || {
            format!("==> {}: {}", name(peer), describe(protocol, &bytes))
        });
        let is_tip =
            protocol == Protocol::Hello && matches!(Hello::from_bytes(&bytes), Ok(Hello::Tip(_)));
        self.send(node, peer, protocol, bytes);
        if is_tip {
            self.reached(node, Moment::Tip);
        } else if protocol == Protocol::Consensus {
            self.reached(node, Moment::Vote);
        }
    }

    /// Counts down to a planned death.
    pub(crate) fn reached(&mut self, node: usize, moment: Moment) {
        let Some((awaited, left, down)) = self.nodes[node].doom.as_mut() else {
            return;
        };
        if *awaited == moment {
            *left = left.saturating_sub(1);
            if *left == 0 {
                let down = *down;
                self.kill(node, down);
            }
        }
    }
}
