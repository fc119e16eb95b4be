//! A small network in one thread with virtual time: builds, pools and the rules of the chain, for
//! tests. Four authorized nodes know each other; two regular ones hang on them, the last only on
//! the first:
//!
//! ```text
//! 0 ─ 1 ─ 2 ─ 3 (all with all)     4: with 0 and 1     5: with 4
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::{Blake3, NodeId, Rng, Time, WallTime};
use crate::proto::build::samples::{Pipeline, bound_name, keys, tag_name};
use crate::proto::build::{
    BuildId, BuildMessage, BuildSpec, BuildStatus, Builds, Config, Effect, Input, Judgement, Part,
    Pending, Refusal, State,
};
use crate::proto::chain::build::build;
use crate::proto::chain::member::MemberSet;
use crate::proto::chain::rules::Ledger;
use crate::proto::chain::testing::{GENESIS_TIME, MemoryChain};
use crate::proto::log::entry::Entry;
use crate::proto::pool::{self, Pool, PoolMessage};

/// Number of authorized nodes.
pub(crate) const AUTHORIZED: usize = 4;
/// Number of nodes.
pub(crate) const NODES: usize = 6;
/// A message of either machine.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// Of builds.
    Build(BuildMessage),
    /// Of the pool.
    Pool(PoolMessage),
}

#[derive(Clone, Debug)]
enum Event {
    /// A message reaches `to`.
    Message {
        from: usize,
        to: usize,
        message: Box<Message>,
        is_gossip: bool,
    },
    /// A pipeline of a node ends.
    Done { node: usize, id: BuildId, run: u64 },
    /// The authorized nodes agree on a block, if something is eligible.
    Block,
}

/// One node.
pub(crate) struct Node {
    /// Its builds.
    pub(crate) builds: Builds,
    /// Its pool.
    pub(crate) pool: Pool,
    /// Whether it runs.
    pub(crate) is_up: bool,
    /// Gossip that it has seen.
    seen: BTreeSet<Blake3>,
    /// Builds for which the pipeline was started.
    pub(crate) runs: Vec<BuildSpec>,
    /// Why the owner's requests were not taken.
    pub(crate) refused: Vec<Refusal>,
    /// Peers that were blamed.
    pub(crate) blamed: Vec<NodeId>,
}

/// The network.
pub(crate) struct Network {
    /// The nodes.
    pub(crate) nodes: Vec<Node>,
    /// The log.
    pub(crate) chain: MemoryChain,
    /// Where in the log packages and tags are.
    pub(crate) indexes: BTreeMap<String, u64>,
    /// The time.
    pub(crate) now: Time,
    /// Messages delivered.
    pub(crate) delivered: usize,
    pipeline: Pipeline,
    rng: Rng,
    events: BTreeMap<(Time, u64), Event>,
    count: u64,
}

fn is_linked(a: usize, b: usize) -> bool {
    let (low, high) = (a.min(b), a.max(b));
    match high {
        0..=3 => low != high,
        4 => low < 2,
        _ => low == 4,
    }
}

impl Network {
    /// All nodes up and connected.
    pub(crate) fn new(seed: u64, pipeline: Pipeline) -> Self {
        let chain = MemoryChain::new(u8::try_from(AUTHORIZED).unwrap());
        let members = chain.state.members().clone();
        let mut network = Self {
            nodes: (0..NODES)
                .map(|it| Self::node(it, &chain, &members))
                .collect(),
            chain,
            indexes: BTreeMap::new(),
            now: Time::ZERO,
            delivered: 0,
            pipeline,
            rng: Rng::new(seed),
            events: BTreeMap::new(),
            count: 0,
        };
        network.push(Duration::from_secs(1), Event::Block);
        (0..NODES).for_each(|it| network.connect(it));
        network
    }

    fn node(node: usize, chain: &MemoryChain, members: &MemberSet) -> Node {
        let keys = keys(node);
        let config = Config {
            chain: *chain.state.chain(),
            node: keys.id(),
            vote: keys.vote.clone(),
            parallel_max: 2,
        };
        Node {
            builds: Builds::new(config, members.clone()),
            pool: Pool::new(*chain.state.chain(), keys.id(), members.clone()),
            is_up: true,
            seen: BTreeSet::new(),
            runs: Vec::new(),
            refused: Vec::new(),
            blamed: Vec::new(),
        }
    }

    /// Stops a node; what it knew is lost, except what it returns.
    pub(crate) fn stop(&mut self, node: usize) -> Vec<Pending> {
        let pending = self.nodes[node].builds.pending().collect();
        let members = self.chain.state.members().clone();
        self.nodes[node] = Self::node(node, &self.chain, &members);
        self.nodes[node].is_up = false;
        self.events
            .retain(|_, it| !matches!(it, Event::Done { node: at, .. } if *at == node));
        for peer in (0..NODES).filter(|it| is_linked(*it, node)) {
            self.pool(peer, pool::Input::Disconnected(keys(node).id()));
            self.builds(peer, Input::Disconnected(keys(node).id()));
        }
        pending
    }

    /// Starts a stopped node.
    pub(crate) fn start(&mut self, node: usize, pending: Vec<Pending>) {
        self.nodes[node].is_up = true;
        for it in pending {
            self.builds(node, Input::Restored(it));
        }
        self.connect(node);
    }

    fn connect(&mut self, node: usize) {
        for peer in (0..NODES).filter(|it| is_linked(*it, node)) {
            if self.nodes[peer].is_up {
                for (a, b) in [(node, peer), (peer, node)] {
                    self.pool(a, pool::Input::Connected(keys(b).id()));
                    self.builds(a, Input::Connected(keys(b).id()));
                }
            }
        }
    }

    /// The owner of a node asks for something.
    pub(crate) fn submit(&mut self, node: usize, spec: &str) -> BuildId {
        let spec: BuildSpec = spec.parse().unwrap();
        let id = spec.id();
        self.builds(node, Input::Submit(spec));
        id
    }

    /// How a build stands on a node.
    pub(crate) fn status(&self, node: usize, id: &BuildId) -> Option<BuildStatus> {
        self.nodes[node].builds.status(id)
    }

    /// The state of a build on all nodes that are up.
    pub(crate) fn states(&self, id: &BuildId) -> Vec<Option<State>> {
        let up = (0..NODES).filter(|it| self.nodes[*it].is_up);
        up.map(|it| self.status(it, id).map(|it| it.state))
            .collect()
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let event = self.events.first_key_value().map(|it| it.0.0);
            let deadline = self
                .nodes
                .iter()
                .filter(|it| it.is_up)
                .flat_map(|it| [it.builds.next_deadline(), it.pool.next_deadline()]);
            let next = deadline.flatten().chain(event).min();
            let Some(next) = next.filter(|it| *it <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.expire();
            while let Some(entry) = self.events.first_entry() {
                if self.now < entry.key().0 {
                    break;
                }
                let event = entry.remove();
                self.happen(event);
            }
        }
    }

    fn wall(&self) -> WallTime {
        GENESIS_TIME + self.now.since(Time::ZERO)
    }

    fn push(&mut self, delay: Duration, event: Event) {
        self.count += 1;
        self.events.insert((self.now + delay, self.count), event);
    }

    fn expire(&mut self) {
        for node in 0..NODES {
            if self.nodes[node].is_up {
                let (mut effects, mut pool_effects) = (Vec::new(), Vec::new());
                let (now, wall) = (self.now, self.wall());
                self.nodes[node].builds.expire(now, wall, &mut effects);
                self.nodes[node].pool.expire(now, &mut pool_effects);
                self.apply(node, effects);
                self.apply_pool(node, pool_effects);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Message {
                from,
                to,
                message,
                is_gossip,
            } => self.deliver(from, to, &message, is_gossip),
            Event::Done { node, id, run } => {
                let spec = self.status(node, &id).unwrap().spec;
                let (_, result) = (self.pipeline)(node, &spec).unwrap();
                self.builds(node, Input::PipelineDone { id, run, result });
            }
            Event::Block => {
                self.block();
                self.push(Duration::from_secs(1), Event::Block);
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: &Message, is_gossip: bool) {
        if !self.nodes[to].is_up {
            return;
        }
        let bytes = match message {
            Message::Build(it) => it.to_bytes(),
            Message::Pool(it) => it.to_bytes(),
        };
        if is_gossip && !self.nodes[to].seen.insert(Blake3::of(&bytes)) {
            return;
        }
        self.delivered += 1;
        let peer = keys(from).id();
        // Every message passes its codec, as it does between processes.
        let is_news = match message {
            Message::Build(_) => {
                let message = BuildMessage::from_bytes(&bytes).unwrap();
                self.builds(
                    to,
                    Input::Received {
                        from: peer,
                        message,
                    },
                )
            }
            Message::Pool(_) => {
                let message = PoolMessage::from_bytes(&bytes).unwrap();
                self.pool(
                    to,
                    pool::Input::Received {
                        from: peer,
                        message,
                    },
                )
            }
        };
        match (is_news, is_gossip, message) {
            (true, true, _) => self.spread(to, Some(from), message),
            (true, false, Message::Build(_)) => self.publish(to, message.clone()),
            _ => {}
        }
    }

    fn spread(&mut self, node: usize, except: Option<usize>, message: &Message) {
        for to in (0..NODES).filter(|it| is_linked(*it, node) && Some(*it) != except) {
            self.send(node, to, message.clone(), true);
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message, is_gossip: bool) {
        let delay = Duration::from_millis(1 + self.rng.below(30));
        let event = Event::Message {
            from,
            to,
            message: Box::new(message),
            is_gossip,
        };
        self.push(delay, event);
    }

    fn publish(&mut self, node: usize, message: Message) {
        let bytes = match &message {
            Message::Build(it) => it.to_bytes(),
            Message::Pool(it) => it.to_bytes(),
        };
        self.nodes[node].seen.insert(Blake3::of(&bytes));
        self.spread(node, None, &message);
    }

    /// True if the message was news.
    pub(crate) fn builds(&mut self, node: usize, input: Input) -> bool {
        let mut effects = Vec::new();
        let (now, wall) = (self.now, self.wall());
        self.nodes[node]
            .builds
            .handle(now, wall, input, &mut effects);
        self.apply(node, effects)
    }

    fn apply(&mut self, node: usize, effects: Vec<Effect>) -> bool {
        let mut is_news = false;
        for effect in effects {
            match effect {
                Effect::Broadcast(it) => self.publish(node, Message::Build(it)),
                Effect::SendTo(to, it) => {
                    let to = (0..NODES).find(|it| keys(*it).id() == to).unwrap();
                    self.send(node, to, Message::Build(it), false);
                }
                Effect::Run { id, run, spec } => {
                    if let Some((delay, _)) = (self.pipeline)(node, &spec) {
                        self.push(delay, Event::Done { node, id, run });
                    }
                    self.nodes[node].runs.push(spec);
                }
                Effect::Cancel { id, run } => self.events.retain(|_, it| {
                    !matches!(it, Event::Done { node: at, id: of, run: number }
                        if (*at, *of, *number) == (node, id, run))
                }),
                Effect::Attest { id, groups } => {
                    for group in groups {
                        self.attest(node, id, group);
                    }
                }
                Effect::LookUp { id, purl, digest } => {
                    let tag = self
                        .status(node, &id)
                        .and_then(|it| tag_name(&it.spec, digest));
                    self.answer(node, id, Part::Package, &purl);
                    if let Some(tag) = tag {
                        self.answer(node, id, Part::Tag, &tag);
                    }
                }
                Effect::Changed(_) => {}
                Effect::Refused(_, it) => self.nodes[node].refused.push(it),
                Effect::Judge(peer, judgement) => match judgement {
                    Judgement::Accept => is_news = true,
                    Judgement::Ignore => {}
                    Judgement::Reject(_) => self.nodes[node].blamed.push(peer),
                },
            }
        }
        is_news
    }

    fn attest(&mut self, node: usize, id: BuildId, group: Vec<Entry>) {
        let (part, name) = match &group[0] {
            Entry::AddArtifact(it) => (Part::Package, it.purl.clone()),
            Entry::BindTag(it) => (Part::Tag, bound_name(it)),
            it => panic!("{it:?}"),
        };
        if self.indexes.contains_key(&name) {
            self.answer(node, id, part, &name);
        } else {
            self.pool(node, pool::Input::Submit(group));
        }
    }

    fn answer(&mut self, node: usize, id: BuildId, part: Part, name: &str) {
        if let Some(index) = self.indexes.get(name).copied() {
            self.builds(node, Input::Logged { id, part, index });
        }
    }

    pub(crate) fn pool(&mut self, node: usize, input: pool::Input) -> bool {
        let mut effects = Vec::new();
        self.nodes[node].pool.handle(self.now, input, &mut effects);
        self.apply_pool(node, effects)
    }

    fn apply_pool(&mut self, node: usize, effects: Vec<pool::Effect>) -> bool {
        let mut is_news = false;
        for effect in effects {
            match effect {
                pool::Effect::Gossip(it) => self.publish(node, Message::Pool(it)),
                pool::Effect::SendTo(to, it) => {
                    let to = (0..NODES).find(|it| keys(*it).id() == to).unwrap();
                    self.send(node, to, Message::Pool(it), false);
                }
                pool::Effect::Judge(peer, judgement) => match judgement {
                    pool::Judgement::Accept => is_news = true,
                    pool::Judgement::Ignore => {}
                    pool::Judgement::Reject(_) => self.nodes[node].blamed.push(peer),
                },
                pool::Effect::Refused(_) | pool::Effect::Eligible => {}
            }
        }
        is_news
    }

    /// The first authorized node that has something proposes it; a quorum has to be up.
    fn block(&mut self) {
        let up = |it: &usize| self.nodes[*it].is_up;
        let voters = (0..AUTHORIZED).filter(up).count();
        let proposer = (0..AUTHORIZED)
            .filter(up)
            .find(|it| self.nodes[*it].pool.has_eligible());
        let Some(proposer) = proposer.filter(|_| self.chain.state.members().quorum() <= voters)
        else {
            return;
        };
        let pool = &self.nodes[proposer].pool;
        let groups = pool.eligible(1 << 20, 10_000);
        let mut is_verified = |it: &_| pool.is_verified(it);
        self.chain.now = GENESIS_TIME + self.now.since(Time::ZERO);
        let MemoryChain { state, ledger, now } = &self.chain;
        let (block, rejected) = build(state, ledger, *now, groups, &mut is_verified);
        for it in rejected {
            self.pool(proposer, pool::Input::Rejected(it));
        }
        let Some(block) = block else {
            return;
        };
        let checked = self.chain.append(&block).unwrap();
        let first_index = block.header.seal.first_index;
        let entries: Vec<Entry> = checked.leaves().map(|it| it.entry.clone()).collect();
        for (index, entry) in (first_index..).zip(&entries) {
            match entry {
                Entry::AddArtifact(it) => {
                    self.indexes.entry(it.purl.clone()).or_insert(index);
                }
                Entry::BindTag(it) => {
                    self.indexes.insert(bound_name(it), index);
                }
                _ => {}
            }
        }
        let members = self.chain.state.members().clone();
        for node in (0..NODES)
            .filter(|it| self.nodes[*it].is_up)
            .collect::<Vec<_>>()
        {
            let entries: std::sync::Arc<[Entry]> = entries.clone().into();
            self.pool(node, pool::Input::Committed(entries.clone()));
            self.builds(
                node,
                Input::Committed {
                    first_index,
                    entries,
                },
            );
            if block.header.seal.members != block.header.seal.next_members {
                self.pool(node, pool::Input::MembersChanged(members.clone()));
                self.builds(node, Input::MembersChanged(members.clone()));
            }
        }
    }

    /// Files of a package version in the log.
    pub(crate) fn is_logged(&self, purl: &str) -> bool {
        self.chain.ledger.package(purl).is_some()
    }
}
