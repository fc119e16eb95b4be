//! A network of machines in virtual time: delays, loss, partitions, crashes that lose what was not
//! made durable. Everything follows from the seed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::base::{BlockId, PublicKey, Rng, Time, WallTime};
use crate::proto::chain::block::{Block, Certificate, VoteKind};
use crate::proto::chain::member::NodeKeys;
use crate::proto::chain::testing::{
    GENESIS_TIME, MemoryChain, add_node, node_keys, package, remove_node,
};
use crate::proto::chain::{build, check};
use crate::proto::consensus::{Config, Consensus, Effect, Fault, Input, Message};

/// How a node misbehaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Habit {
    Honest,
    /// Receives and sends nothing.
    Silent,
    /// Proposes blocks that break a rule.
    BadBlocks,
    /// Sends one other node a second, different prevote.
    Equivocates,
    /// Sends everybody whatever it can think of.
    Hostile,
}

/// What a block changes besides adding a package.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Add(u8),
    Remove(u8),
}

pub(crate) struct Node {
    pub(crate) keys: NodeKeys,
    pub(crate) habit: Habit,
    pub(crate) machine: Option<Consensus>,
    pub(crate) chain: MemoryChain,
    /// Durable.
    pub(crate) blocks: Vec<(Block, Certificate)>,
    /// Durable.
    wal: Vec<Vec<u8>>,
    /// Lost in a crash, except for a prefix.
    unsynced: Vec<Vec<u8>>,
    pub(crate) faults: Vec<(PublicKey, Fault)>,
    pub(crate) rounds_max: u32,
}

pub(crate) enum Event {
    Message(usize, usize, Message),
    Sync(usize, Block, Certificate),
    Status(usize),
    Restart(usize),
}

pub(crate) struct Net {
    seed: u64,
    pub(crate) rng: Rng,
    pub(crate) now: Time,
    events: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub(crate) nodes: Vec<Node>,
    /// Nobody starts a higher height.
    pub(crate) target: u64,
    pub(crate) delay_max: Duration,
    /// Of 1,000 messages.
    pub(crate) loss: u64,
    /// Of 10,000 effects.
    pub(crate) crashes: u64,
    pub(crate) groups: Option<Vec<u8>>,
    /// All that was ever sent.
    pub(crate) seen: Vec<Message>,
    pub(crate) changes: BTreeMap<u64, Change>,
    pub(crate) decided: BTreeMap<u64, BlockId>,
    pub(crate) signed: BTreeMap<(PublicKey, u8, u64, u32), Option<BlockId>>,
}

pub(crate) const STATUS_EVERY: Duration = Duration::from_millis(300);

impl Net {
    pub(crate) fn new(seed: u64, members: u8, nodes: u8) -> Self {
        let genesis = MemoryChain::new(members);
        let nodes = (0..nodes).map(|number| Node {
            keys: node_keys(number),
            habit: Habit::Honest,
            machine: None,
            chain: genesis.clone(),
            blocks: Vec::new(),
            wal: Vec::new(),
            unsynced: Vec::new(),
            faults: Vec::new(),
            rounds_max: 0,
        });
        let mut net = Self {
            seed,
            rng: Rng::new(seed),
            now: Time::ZERO,
            events: BTreeMap::new(),
            sequence: 0,
            nodes: nodes.collect(),
            target: 8,
            delay_max: Duration::from_millis(20),
            loss: 0,
            crashes: 0,
            groups: None,
            seen: Vec::new(),
            changes: BTreeMap::new(),
            decided: BTreeMap::new(),
            signed: BTreeMap::new(),
        };
        for at in 0..net.nodes.len() {
            net.push(Duration::ZERO, Event::Restart(at));
            net.push(STATUS_EVERY, Event::Status(at));
        }
        net
    }

    pub(crate) fn push(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    pub(crate) fn delay(&mut self) -> Duration {
        let nanos = u64::try_from(self.delay_max.as_nanos()).unwrap();
        Duration::from_nanos(self.rng.below(nanos + 1))
    }

    fn connected(&self, a: usize, b: usize) -> bool {
        let is_silent = [a, b].map(|it| self.nodes[it].habit == Habit::Silent);
        let same = |groups: &Vec<u8>| groups[a] == groups[b];
        is_silent == [false, false] && self.groups.as_ref().is_none_or(same)
    }

    /// Runs until `done` or for `limit` of virtual time; says whether it is done.
    pub(crate) fn run(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
            let event = self.events.keys().next().map(|(at, _)| *at);
            let machines = self.nodes.iter().enumerate();
            let timer = machines
                .filter_map(|(at, it)| Some((it.machine.as_ref()?.next_deadline()?, at)))
                .min();
            match (event, timer) {
                (Some(at), timer) if at <= end && timer.is_none_or(|(due, _)| at <= due) => {
                    self.now = at;
                    let (_, event) = self.events.pop_first().unwrap();
                    self.deliver(event);
                }
                (_, Some((due, at))) if due <= end => {
                    self.now = self.now.max(due);
                    let mut out = Vec::new();
                    let machine = self.nodes[at].machine.as_mut().unwrap();
                    machine.expire(self.now, &mut out);
                    self.perform(at, out);
                }
                _ => {
                    self.now = end;
                    return done(self);
                }
            }
        }
        true
    }

    fn deliver(&mut self, event: Event) {
        match event {
            Event::Message(from, to, message) => {
                if self.connected(from, to) {
                    let from = self.nodes[from].keys.vote.public();
                    self.input(to, Input::Message { from, message });
                }
            }
            Event::Sync(to, block, certificate) => self.sync(to, block, certificate),
            Event::Status(at) => {
                self.ask_for_blocks(at);
                let is_hostile = self.nodes[at].habit == Habit::Hostile;
                if is_hostile {
                    self.harass(at);
                }
                let hurry = if is_hostile { 20 } else { 1 };
                self.push(STATUS_EVERY / hurry, Event::Status(at));
            }
            Event::Restart(at) => self.restart(at),
        }
    }

    /// A node learns of another's tip and gets the blocks it lacks.
    fn ask_for_blocks(&mut self, at: usize) {
        let tip = self.nodes[at].blocks.len();
        let other = usize::try_from(self.rng.below(self.nodes.len() as u64)).unwrap();
        if self.nodes[at].machine.is_none() || !self.connected(at, other) {
            return;
        }
        let missing = self.nodes[other].blocks.iter().skip(tip).take(3).cloned();
        for (block, certificate) in missing.collect::<Vec<_>>() {
            self.push(
                Duration::from_millis(1),
                Event::Sync(at, block, certificate),
            );
        }
    }

    fn sync(&mut self, to: usize, block: Block, certificate: Certificate) {
        let node = &mut self.nodes[to];
        let Some(machine) = &mut node.machine else {
            return;
        };
        if block.height() != node.blocks.len() as u64 + 1 {
            return;
        }
        if machine.is_running() && machine.height() == block.height() {
            let state = &node.chain.state;
            let checked = check(state, &node.chain.ledger, &block, None, &mut |_| true);
            let block = Box::new(checked.unwrap());
            return self.input(to, Input::Synced { block, certificate });
        }
        machine.follow(block.height());
        self.commit(to, block, certificate);
    }

    fn input(&mut self, at: usize, input: Input) {
        let Node { machine, chain, .. } = &mut self.nodes[at];
        let Some(machine) = machine else {
            return;
        };
        let mut out = Vec::new();
        let mut judge = |block: &Block| judge(chain, block);
        machine.handle(self.now, input, &mut judge, &mut out);
        self.perform(at, out);
        self.start_if_called(at);
    }

    /// Somebody else has work for the next height.
    fn start_if_called(&mut self, at: usize) {
        let called = |it: &Consensus| !it.is_running() && it.has_input_for_next();
        if self.nodes[at].machine.as_ref().is_some_and(called) {
            self.start(at);
        }
    }

    pub(crate) fn start(&mut self, at: usize) {
        let Node {
            machine,
            chain,
            wal,
            ..
        } = &mut self.nodes[at];
        let Some(machine) = machine else {
            return;
        };
        let mut out = Vec::new();
        let (height, members) = (chain.state.height() + 1, chain.state.members().clone());
        let mut judge = |block: &Block| judge(chain, block);
        machine.start(self.now, height, &members, wal, &mut judge, &mut out);
        self.perform(at, out);
    }

    fn restart(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let tip = node.blocks.len() as u64;
        let config = Config {
            chain: *node.chain.state.chain(),
            params: *node.chain.state.params(),
            vote: node.keys.vote.clone(),
        };
        node.machine = Some(Consensus::new(&config, tip));
        if tip < self.target {
            self.start(at);
        }
        let to = self.nodes[at].keys.vote.public();
        for other in 0..self.nodes.len() {
            let mut out = Vec::new();
            if let Some(machine) = &self.nodes[other].machine {
                machine.resend(to, &mut out);
            }
            self.perform(other, out);
        }
    }

    fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let kept = self.rng.below(node.unsynced.len() as u64 + 1);
        let kept = usize::try_from(kept).unwrap();
        node.wal.extend(node.unsynced.drain(..kept));
        node.unsynced.clear();
        node.machine = None;
        let after = Duration::from_millis(self.rng.below(3_000));
        self.push(after, Event::Restart(at));
    }

    fn perform(&mut self, at: usize, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            if self.crashes > 0 && self.rng.chance(self.crashes, 10_000) {
                return self.crash(at);
            }
            match effect {
                Effect::Persist(record) => self.nodes[at].unsynced.push(record),
                Effect::Send(message) => {
                    for to in 0..self.nodes.len() {
                        self.send(at, to, &message);
                    }
                }
                Effect::SendTo(key, message) => {
                    let nodes = self.nodes.iter();
                    let to = nodes
                        .map(|it| it.keys.vote.public())
                        .position(|it| it == key);
                    self.send(at, to.unwrap(), &message);
                }
                Effect::NeedBlock { height, round } => {
                    let block = self.build(at);
                    let answer = Input::Block {
                        height,
                        round,
                        block,
                    };
                    let node = &mut self.nodes[at];
                    let (machine, chain) = (node.machine.as_mut().unwrap(), &node.chain);
                    let mut out = Vec::new();
                    let mut judge = |block: &Block| judge(chain, block);
                    machine.handle(self.now, answer, &mut judge, &mut out);
                    effects.extend(out);
                }
                Effect::Decide { block, certificate } => {
                    // The last word on a height: nothing may be sent about it afterwards.
                    assert!(effects.is_empty(), "seed {}", self.seed);
                    self.commit(at, block, certificate);
                }
                Effect::Blame { member, fault } => self.nodes[at].faults.push((member, fault)),
                Effect::Fatal(reason) => panic!("seed {}: node {at}: {reason}", self.seed),
            }
        }
    }

    fn commit(&mut self, at: usize, block: Block, certificate: Certificate) {
        let seed = self.seed;
        let height = block.height();
        let node = &mut self.nodes[at];
        let chain = node.chain.state.chain();
        let verdict = certificate.verify(chain, &block.header, node.chain.state.members());
        assert_eq!(verdict, Ok(()), "seed {seed}: node {at}, height {height}");
        let known = self.decided.entry(height).or_insert(block.id());
        assert_eq!(
            *known,
            block.id(),
            "seed {seed}: two blocks at height {height}"
        );
        let checked = check(
            &node.chain.state,
            &node.chain.ledger,
            &block,
            None,
            &mut |_| true,
        );
        let checked = checked.unwrap();
        node.chain.state.apply(&checked).unwrap();
        node.chain.ledger.apply(&checked);
        node.rounds_max = node.rounds_max.max(certificate.round);
        node.blocks.push((block, certificate));
        node.wal.clear();
        node.unsynced.clear();
        if height < self.target {
            self.start(at);
        }
    }

    fn send(&mut self, from: usize, to: usize, message: &Message) {
        let node = &mut self.nodes[from];
        node.wal.append(&mut node.unsynced);
        self.check_signed(from, message);
        if from == to || self.rng.chance(self.loss, 1_000) {
            return;
        }
        let delay = self.delay();
        assert_eq!(
            Message::from_bytes(&message.to_bytes()).as_ref(),
            Ok(message)
        );
        self.push(delay, Event::Message(from, to, message.clone()));
        self.seen.push(message.clone());
        if let (Message::Vote(vote), Habit::Equivocates, VoteKind::Prevote) =
            (message, self.nodes[from].habit, kind_of(message))
            && to == (from + 1) % self.nodes.len()
        {
            let mut other = vote.clone();
            other.block = Some(BlockId([0xee; 32]));
            let bytes = other.signed_bytes(self.nodes[from].chain.state.chain());
            other.signature = self.nodes[from].keys.vote.sign(&bytes);
            self.push(delay, Event::Message(from, to, Message::Vote(other)));
        }
    }

    /// What left a node is never contradicted.
    fn check_signed(&mut self, from: usize, message: &Message) {
        let me = self.nodes[from].keys.vote.public();
        let (slot, value) = match message {
            Message::Proposal(it, _) if it.proposer == me => {
                ((me, 0, it.height, it.round), Some(it.block))
            }
            Message::Vote(it) => ((me, it.kind as u8 + 1, it.height, it.round), it.block),
            Message::Proposal(..) | Message::Polka(_) | Message::Round(_) => return,
        };
        let before = self.signed.insert(slot, value);
        let agrees = before.is_none_or(|it| it == value);
        assert!(
            agrees,
            "seed {}: node {from} contradicts {slot:?}",
            self.seed
        );
    }

    /// A new block at every call, so that building twice would be noticed.
    fn build(&mut self, at: usize) -> Block {
        let nonce = self.rng.next_u64();
        let node = &self.nodes[at];
        let state = &node.chain.state;
        let height = state.height() + 1;
        let is_member = |it: &NodeKeys| state.members().by_node(&it.id()).is_some();
        let all = self.nodes.iter().map(|it| it.keys.clone());
        let signers: Vec<_> = all
            .filter(is_member)
            .take(state.members().quorum())
            .collect();
        let purl = format!("pkg:a/{height}@{nonce}");
        let mut groups = vec![package(state.chain(), &purl, "", &signers)];
        match self.changes.get(&height) {
            Some(Change::Add(number)) => groups.push(add_node(state, *number, &signers)),
            Some(Change::Remove(number)) => {
                groups.push(remove_node(state.chain(), *number, &signers));
            }
            None => {}
        }
        let ledger = &node.chain.ledger;
        let (block, rejected) = build(state, ledger, GENESIS_TIME, groups, &mut |_| true);
        assert_eq!(rejected, []);
        let mut block = block.unwrap();
        if node.habit == Habit::BadBlocks {
            block.header.seal.time = WallTime::from_millis(1);
        }
        block
    }

    /// Whether all nodes that speak have decided the target height.
    pub(crate) fn is_done(&self) -> bool {
        let mut speaking = self.nodes.iter().filter(|it| it.habit != Habit::Silent);
        speaking.all(|it| self.target <= it.blocks.len() as u64)
    }

    pub(crate) fn run_to(&mut self, target: u64) {
        self.target = target;
        for at in 0..self.nodes.len() {
            self.start(at);
        }
        let done = self.run(Duration::from_secs(600), Self::is_done);
        let tips: Vec<_> = self.nodes.iter().map(|it| it.blocks.len()).collect();
        assert!(done, "seed {}: no progress, tips {tips:?}", self.seed);
    }
}

fn kind_of(message: &Message) -> VoteKind {
    match message {
        Message::Vote(it) => it.kind,
        Message::Proposal(..) | Message::Polka(_) | Message::Round(_) => VoteKind::Precommit,
    }
}

fn judge(chain: &MemoryChain, block: &Block) -> bool {
    let now = Some(GENESIS_TIME);
    check(&chain.state, &chain.ledger, block, now, &mut |_| true).is_ok()
}
