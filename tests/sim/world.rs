//! All nodes, the network and the clock: one queue of events, one thread.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::disk::SimVault;
use crate::kogge::base::{NodeId, Rng, Time};
use crate::kogge::node::flow::Input;
use crate::kogge::proto::chain::Genesis;
use crate::kogge::proto::chain::testing::{genesis, node_keys};
use crate::net::{Net, Parcel};
use crate::oracle::{Oracle, Trace};
use crate::plan::{Plan, What, has, name};
use crate::shell::SimNode;

/// Events of one run; more are a failure.
const EVENTS_MAX: u64 = 3_000_000;

/// Events at one instant; with more, time stands still.
const INSTANT_EVENTS_MAX: u64 = 20_000;

/// What happens at some time.
pub(crate) enum Event {
    /// A node's deadline; the time is the one for which it was set.
    Wake { node: usize, run: u32, at: Time },
    /// The journal of a node is synced.
    Synced { node: usize, run: u32 },
    /// The system writes back what was not synced, only with [`crate::plan::Plant`].
    WrittenBack { node: usize, run: u32 },
    /// The first `count` blocks of a node are durable.
    Stored { node: usize, run: u32, count: usize },
    /// Something of a process is done.
    Done { node: usize, run: u32, done: Done },
    /// A dial comes to its end.
    Dialled { node: usize, run: u32, dial: u64 },
    /// A link opens at an end.
    Up { link: u64, side: usize },
    /// A link is gone at an end.
    Down { link: u64, side: usize },
    /// Something arrives at an end of a link.
    Arrives {
        link: u64,
        side: usize,
        parcel: Parcel,
    },
    /// Nothing came through a clogged link for long.
    Silent { link: u64, side: usize },
    /// A fault of the plan begins.
    Begin(usize),
    /// A fault of the plan ends.
    End(usize),
    /// One node of a clog is freed.
    Free { fault: usize, node: usize },
    /// A dead node comes back.
    Restart { node: usize },
    /// Something is asked for.
    Ask(usize),
    /// An admin marks the planned change of the authorized nodes.
    Mark { node: usize },
    /// The hostile peer does something.
    Mischief { node: usize },
}

/// What a process waited for.
pub(crate) enum Done {
    Head(crate::kogge::proto::log::Checkpoint),
    Checkpoint(u64, String),
    Builds,
    Input(Input),
}

/// A run.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub(crate) events: u64,
    at_instant: u64,
    pub(crate) rng: Rng,
    pub(crate) genesis: Genesis,
    pub(crate) nodes: Vec<SimNode>,
    ids: BTreeMap<NodeId, usize>,
    pub(crate) net: Net,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    pub(crate) failure: Option<String>,
    /// Ends of faults that are in force.
    pub(crate) active: Vec<usize>,
    pub(crate) is_healed: bool,
    /// Each regular node but the first knows only the one before it, and no member.
    pub(crate) is_chain: bool,
    /// Asks that a node took, and the number of the process that did.
    pub(crate) taken: BTreeMap<usize, u32>,
    /// What the hostile peers saw, to be sent again.
    pub(crate) loot: Vec<Parcel>,
    /// Who banned whom, and why.
    pub(crate) banned: BTreeMap<(usize, usize), String>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let genesis = genesis(u8::try_from(plan.members).unwrap_or(u8::MAX));
        let count = plan.nodes();
        let mut world = Self {
            now: Time::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            events: 0,
            at_instant: 0,
            rng: Rng::new(plan.seed),
            oracle: Oracle::new(&genesis),
            genesis,
            nodes: Vec::new(),
            ids: BTreeMap::new(),
            net: Net::new(plan.seed),
            trace: Trace::default(),
            failure: None,
            active: Vec::new(),
            is_healed: false,
            is_chain: false,
            taken: BTreeMap::new(),
            loot: Vec::new(),
            banned: BTreeMap::new(),
            plan,
        };
        for node in 0..count {
            let skew = world.plan.skews.get(node).copied().unwrap_or(0);
            world.add(skew);
        }
        for _ in 0..world.plan.hostile {
            world.add_hostile();
        }
        if let Some((at, _)) = world.plan.reform {
            for node in 0..world.plan.members {
                let spread = world.up_to(Duration::from_secs(5));
                world.after(Duration::from_millis(at) + spread, Event::Mark { node });
            }
        }
        for at in 0..world.plan.faults.len() {
            let begin = Duration::from_millis(world.plan.faults[at].at);
            world.after(begin, Event::Begin(at));
        }
        for at in 0..world.plan.asks.len() {
            let ask = Duration::from_millis(world.plan.asks[at].at);
            world.after(ask, Event::Ask(at));
        }
        world
    }

    /// Another node, not started yet.
    pub(crate) fn add(&mut self, skew: i64) -> usize {
        let node = self.nodes.len();
        let keys = node_keys(u8::try_from(node).unwrap_or(u8::MAX));
        self.ids.insert(keys.id(), node);
        self.nodes
            .push(SimNode::new(keys, skew, SimVault::default()));
        node
    }

    /// Starts all nodes at about the same time.
    pub(crate) fn start_all(&mut self) {
        for node in 0..self.plan.nodes() {
            let delay = Duration::from_millis(self.rng.below(500));
            self.after(delay, Event::Restart { node });
        }
    }

    pub(crate) fn number(&self, id: &NodeId) -> Option<usize> {
        self.ids.get(id).copied()
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    /// Something between nothing and `max`.
    pub(crate) fn up_to(&mut self, max: Duration) -> Duration {
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(0);
        Duration::from_nanos(self.rng.below(nanos + 1))
    }

    /// Runs for some time, or until something fails.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.failure.is_none() && self.step(end) {}
        if self.failure.is_none() {
            self.now = end;
        }
    }

    /// Runs until `is_done`, which is asked every 50 ms; returns how long it took, or `None` after
    /// `max`.
    pub(crate) fn run_until(
        &mut self,
        max: Duration,
        mut is_done: impl FnMut(&Self) -> bool,
    ) -> Option<Duration> {
        let begun = self.now;
        while self.now.since(begun) < max && self.failure.is_none() {
            if is_done(self) {
                return Some(self.now.since(begun));
            }
            self.run_for(Duration::from_millis(50));
        }
        None
    }

    fn step(&mut self, end: Time) -> bool {
        let Some(entry) = self.queue.first_entry() else {
            return false;
        };
        if end < entry.key().0 {
            return false;
        }
        let ((at, _), event) = entry.remove_entry();
        self.events += 1;
        self.at_instant = if at == self.now {
            self.at_instant + 1
        } else {
            0
        };
        self.now = at;
        if INSTANT_EVENTS_MAX < self.at_instant {
            self.fail(0, "time stands still");
        }
        if EVENTS_MAX < self.events {
            self.fail(0, "too many events");
        }
        self.happens(event);
        true
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Wake { node, run, at } => self.wake(node, run, at),
            Event::Synced { node, run } => self.synced(node, run),
            Event::WrittenBack { node, run } => {
                if self.nodes[node].run == run {
                    let mut disk = self.nodes[node].vault.disk_mut();
                    disk.journal.synced = disk.journal.records.len();
                }
            }
            Event::Stored { node, run, count } => self.stored(node, run, count),
            Event::Done { node, run, done } => self.done(node, run, done),
            Event::Dialled { node, run, dial } => self.dialled(node, run, dial),
            Event::Up { link, side } => self.link_up(link, side),
            Event::Down { link, side } => self.link_down(link, side, "the link broke"),
            Event::Arrives { link, side, parcel } => self.arrives(link, side, parcel),
            Event::Silent { link, side } => {
                let held = self.net.links.get(&link).map(|it| it.held[side].len());
                if held.is_some_and(|it| 0 < it) {
                    self.break_link(link, Duration::from_millis(100));
                }
            }
            Event::Begin(at) => self.begin(at),
            Event::End(at) => self.end(at),
            Event::Free { fault, node } => self.free(fault, node),
            Event::Restart { node } => self.start(node),
            Event::Ask(at) => self.ask(at),
            Event::Mark { node } => self.mark_reform(node),
            Event::Mischief { node } => self.mischief(node),
        }
    }

    pub(crate) fn note(&mut self, node: usize, what: &str, bytes: &[u8]) {
        self.trace.add(self.now.as_nanos(), node, what, bytes);
    }

    /// A line of the readable trace.
    pub(crate) fn say(&self, node: usize, text: impl FnOnce() -> String) {
        if self.trace.is_shown {
            let seconds = self.now.since(Time::ZERO).as_secs_f64();
            eprintln!("{seconds:10.6} {:>6} {}", name(node), text());
        }
    }

    pub(crate) fn fail(&mut self, node: usize, text: &str) {
        if self.failure.is_none() {
            let seconds = self.now.since(Time::ZERO).as_secs_f64();
            self.failure = Some(format!("{seconds:.6} s, {}: {text}", name(node)));
            self.say(node, || format!("FAILURE {text}"));
        }
    }

    pub(crate) fn judge(&mut self, node: usize, verdict: Result<(), String>) {
        if let Err(text) = verdict {
            self.fail(node, &text);
        }
    }

    fn begin(&mut self, at: usize) {
        if self.is_healed {
            return;
        }
        let fault = self.plan.faults[at].clone();
        self.say(usize::MAX, || format!("begins: {fault:?}"));
        let lasts = Duration::from_millis(fault.lasts);
        self.active.push(at);
        let nodes = self.nodes.len();
        match fault.what {
            What::Kill { node } => self.kill(node, lasts),
            What::Blackout { nodes: mask } => {
                for node in (0..nodes).filter(|it| has(mask, *it)) {
                    let down = self.up_to(lasts);
                    self.kill(node, down);
                }
            }
            What::KillAfter { node, moment, nth } => {
                self.nodes[node].doom = Some((moment, nth, lasts));
            }
            What::Split { side } => {
                for (a, b) in pairs(nodes).filter(|it| has(side, it.0) != has(side, it.1)) {
                    self.net.block(a, b);
                    if let Some(link) = self.net.between(a, b) {
                        let delay = self.up_to(Duration::from_secs(3));
                        self.break_link(link, delay);
                    }
                }
            }
            What::OneWay { from, to } => {
                for (a, b) in pairs(nodes).filter(|it| has(from, it.0) && has(to, it.1)) {
                    self.net.block(a, b);
                }
            }
            What::Clog { nodes: mask } => {
                for node in (0..nodes).filter(|it| has(mask, *it)) {
                    self.clog(node, true);
                    let freed = self.up_to(lasts);
                    self.after(freed, Event::Free { fault: at, node });
                }
            }
            What::Loss { per_mille } => self.net.loss += per_mille,
            What::SlowLinks { node, times } => {
                self.net.slow.insert(node, times);
            }
            What::SlowDisk { node, times } => self.nodes[node].disk_slowness = times,
            What::Clock { node, by } => self.nodes[node].skew += by,
            What::Cut { a, b } => {
                if let Some(link) = self.net.between(a, b) {
                    self.break_link(link, Duration::from_millis(50));
                }
            }
        }
        self.after(lasts, Event::End(at));
    }

    pub(crate) fn end(&mut self, at: usize) {
        let Some(place) = self.active.iter().position(|it| *it == at) else {
            return;
        };
        self.active.remove(place);
        let fault = self.plan.faults[at].clone();
        self.say(usize::MAX, || format!("ends: {fault:?}"));
        let nodes = self.nodes.len();
        match fault.what {
            What::Split { side } => {
                for (a, b) in pairs(nodes).filter(|it| has(side, it.0) != has(side, it.1)) {
                    self.unblock(a, b);
                }
            }
            What::OneWay { from, to } => {
                for (a, b) in pairs(nodes).filter(|it| has(from, it.0) && has(to, it.1)) {
                    self.unblock(a, b);
                }
            }
            What::Loss { per_mille } => self.net.loss -= per_mille,
            What::SlowLinks { node, .. } => {
                self.net.slow.remove(&node);
            }
            What::SlowDisk { node, .. } => self.nodes[node].disk_slowness = 1,
            What::Clock { node, by } => self.nodes[node].skew -= by,
            What::KillAfter { node, .. } => self.nodes[node].doom = None,
            What::Kill { .. } | What::Clog { .. } | What::Cut { .. } | What::Blackout { .. } => (),
        }
    }

    fn clog(&mut self, node: usize, is_clogged: bool) {
        for other in (0..self.nodes.len()).filter(|it| *it != node) {
            for (a, b) in [(node, other), (other, node)] {
                if is_clogged {
                    self.net.block(a, b);
                } else {
                    self.unblock(a, b);
                }
            }
        }
    }

    fn free(&mut self, fault: usize, node: usize) {
        self.say(node, || format!("freed of fault {fault}"));
        self.clog(node, false);
    }

    /// Ends all faults; dead nodes come back. Clogs end by themselves within their time.
    pub(crate) fn heal(&mut self) {
        self.is_healed = true;
        for at in self.active.clone() {
            self.end(at);
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].engine.is_none() {
                self.after(Duration::from_millis(1), Event::Restart { node });
            }
        }
    }
}

/// All ordered pairs of different nodes.
pub(crate) fn pairs(nodes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..nodes).flat_map(move |a| (0..nodes).filter(move |b| *b != a).map(move |b| (a, b)))
}
