//! The engine: all machines of a node.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::base::{BlockId, NodeId, Time, WallTime};
use crate::node::admit::Admit;
use crate::node::flow::connect::Admitted;
use crate::node::flow::interface::{Effect, Input, Setup, Snapshot, Vault};
use crate::node::flow::recent::Recent;
use crate::proto::build::{self, BuildSpec, BuildStatus, Builds};
use crate::proto::chain::{ChainState, NodeKeys};
use crate::proto::consensus::Consensus;
use crate::proto::heads::{Heads, Verdict};
use crate::proto::hello::{self, Handshakes, Role};
use crate::proto::log::checkpoint::Checkpoint;
use crate::proto::log::entry::Entry;
use crate::proto::peers::{self, Book, Dialer, Scores};
use crate::proto::pool::{Kept, Pool};
use crate::proto::sync::{self, Decided, Sync};

/// Links below which remembered peers are dialled.
const DEGREE_TARGET: usize = 8;

/// Links, dials included, at which only configured peers and members are dialled.
const DEGREE_MAX: usize = 32;

/// All machines of a node.
pub struct Engine<V> {
    pub(super) me: NodeId,
    pub(super) keys: NodeKeys,
    pub(super) origin: String,
    pub(super) vault: V,
    /// After the last applied block.
    pub(super) chain: ChainState,
    /// Applied, not yet durable.
    pub(super) recent: Recent,
    /// Handed over by synchronization, not yet applied.
    pub(super) to_apply: VecDeque<(NodeId, Decided)>,
    pub(super) is_applying: bool,
    pub(super) hello: Handshakes,
    pub(super) admit: Admit,
    pub(super) admitted: BTreeMap<NodeId, Admitted>,
    pub(super) dialer: Dialer,
    pub(super) scores: Scores,
    /// How long not to dial peers that refused us or that we refused, once they are gone.
    pub(super) pauses: BTreeMap<NodeId, Duration>,
    pub(super) sync: Sync,
    pub(super) pool: Pool,
    pub(super) builds: Builds,
    pub(super) heads: Heads,
    pub(super) consensus: Consensus,
    /// The height that agreement works on.
    pub(super) deciding: Option<u64>,
    /// Height and round for which agreement waits for our block.
    pub(super) needed: Option<(u64, u32)>,
    /// The WAL that was found at the start, until it is replayed or out of date.
    pub(super) wal: Vec<Vec<u8>>,
    /// Under load the next height does not start before.
    pub(super) quiet_until: Time,
    /// What the last received message was worth.
    pub(super) judged: Verdict,
    /// Why the pool did not take the last submission.
    pub(super) refused: Option<crate::proto::pool::Refusal>,
    /// The height at which we last said that we are ready to be a member.
    pub(super) ready: Option<u64>,
    pub(super) out: Vec<Effect>,
}

impl<V: Vault> Engine<V> {
    /// An engine at the state of `setup`; take its first effects with [`Engine::take`].
    pub fn new(setup: Setup, vault: V, now: Time, wall: WallTime) -> Self {
        let Setup {
            keys,
            genesis,
            state,
            ..
        } = setup;
        let me = keys.id();
        let members = state.members().clone();
        let local = hello::Local {
            node: me,
            chain: *state.chain(),
            role: Role::Full,
            authorized: members.by_node(&me).is_some(),
            agent: setup.agent,
            listen: Vec::new(),
        };
        let build_config = build::Config {
            chain: *state.chain(),
            node: me,
            vote: keys.vote.clone(),
            parallel_max: setup.builds_max,
        };
        let dial_config = peers::Config {
            node: me,
            seeds: setup.seeds,
            urls: setup.bootstrap_urls,
            degree_target: DEGREE_TARGET,
            degree_max: DEGREE_MAX,
            origin: wall,
        };
        // Bodies are not gossiped: an announced block is fetched at once.
        let sync_config = sync::Config {
            grace: Duration::ZERO,
            ..sync::Config::default()
        };
        let mut this = Self {
            me,
            origin: genesis.origin.clone(),
            hello: Handshakes::new(local, setup.seed),
            admit: setup.admit,
            admitted: BTreeMap::new(),
            dialer: Dialer::new(dial_config, setup.book, setup.seed),
            scores: Scores::default(),
            pauses: BTreeMap::new(),
            sync: Sync::new(sync_config, state.height()),
            pool: Self::new_pool(&keys, &state, &members),
            builds: Builds::new(build_config, members),
            heads: Heads::new(me, genesis.origin, state.members().clone()),
            consensus: Self::new_consensus(&keys, &state),
            deciding: None,
            needed: None,
            wal: setup.wal,
            quiet_until: Time::ZERO,
            recent: Recent::default(),
            to_apply: VecDeque::new(),
            is_applying: false,
            chain: state,
            keys,
            vault,
            judged: Verdict::Ignore,
            refused: None,
            ready: None,
            out: Vec::new(),
        };
        this.recover(now, wall, setup.builds, setup.changes);
        this
    }

    /// Goes on where the last run stopped.
    fn recover(
        &mut self,
        now: Time,
        wall: WallTime,
        builds: Vec<build::Pending>,
        changes: Vec<Kept>,
    ) {
        let members = self.chain.members().clone();
        if self.chain.height() != 0 {
            let head = Checkpoint {
                origin: self.origin.clone(),
                size: self.chain.size(),
                root: self.chain.root(),
            };
            let members = members.clone();
            self.heads(now, crate::proto::heads::Input::Committed { head, members });
        }
        self.dial_members(now, &members);
        for pending in builds {
            self.builds(now, wall, build::Input::Restored(pending));
        }
        self.pool_restored(now, wall, changes);
        self.start_height(now, wall);
    }

    /// Applies one input; the effects wait in [`Engine::take`].
    pub fn handle(&mut self, now: Time, wall: WallTime, input: Input) {
        match input {
            Input::Connected { peer, dialled } => self.connected(now, wall, peer, dialled),
            Input::DialFailed { dial } => self.dial(now, peers::Input::DialFailed { dial }),
            Input::Bootstrap { url, seeds } => self.dial(
                now,
                match seeds {
                    Some(seeds) => peers::Input::Fetched { url, seeds },
                    None => peers::Input::FetchFailed { url },
                },
            ),
            Input::Learned { peer, address } => {
                let source = peers::Source::Hello;
                self.dial(
                    now,
                    peers::Input::Learned {
                        peer,
                        address,
                        source,
                    },
                );
            }
            Input::Disconnected { peer, reason } => self.disconnected(now, wall, peer, reason),
            Input::Frame {
                peer,
                protocol,
                bytes,
            } => {
                self.frame(now, wall, peer, protocol, &bytes);
            }
            Input::Gossip {
                topic,
                id,
                source,
                bytes,
            } => {
                let verdict = self.gossip(now, wall, topic, source, &bytes);
                self.out.push(Effect::Judge {
                    id,
                    source,
                    verdict,
                });
            }
            Input::Listening(addresses) => self.hello.local_mut().listen = addresses,
            Input::Appended { height } => self.appended(now, wall, height),
            Input::HeadPersisted(head) => self.head_persisted(now, wall, head),
            Input::BuildProgress { id, done, total } => {
                self.builds(
                    now,
                    wall,
                    build::Input::PipelineProgress { id, done, total },
                );
            }
            Input::BuildDone { id, run, result } => {
                self.builds(now, wall, build::Input::PipelineDone { id, run, result });
            }
            Input::Fault { peer, reason } => self.fault(now, peer, reason),
            Input::Tick => (),
        }
        self.expire(now, wall);
        if let Some(failure) = self.vault.take_failure() {
            self.out.push(Effect::Fatal(failure));
        }
    }

    /// The owner asks for a package.
    ///
    /// # Errors
    ///
    /// [`build::Refusal`] if it cannot be asked for now.
    pub fn submit(
        &mut self,
        now: Time,
        wall: WallTime,
        spec: BuildSpec,
    ) -> Result<BuildStatus, build::Refusal> {
        let id = spec.id();
        let refusal = self.builds(now, wall, build::Input::Submit(spec));
        match (refusal, self.builds.status(&id)) {
            (None, Some(status)) => Ok(status),
            (Some(refusal), _) => Err(refusal),
            (None, None) => Err(build::Refusal::Busy),
        }
    }

    /// When [`Engine::handle`] should be called next, with [`Input::Tick`] if nothing else happens.
    pub fn next_deadline(&self) -> Option<Time> {
        [
            self.hello.next_deadline(),
            self.dialer.next_deadline(),
            self.sync.next_deadline(),
            self.pool.next_deadline(),
            self.builds.next_deadline(),
            self.heads.next_deadline(),
            self.consensus.next_deadline(),
            self.next_height_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The effects so far, in order.
    pub fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.out)
    }

    /// The state after the last applied block.
    pub fn chain(&self) -> &ChainState {
        &self.chain
    }

    /// Read access to what is durable.
    pub fn vault(&self) -> &V {
        &self.vault
    }

    /// All builds this node knows of.
    pub fn builds_machine(&self) -> &Builds {
        &self.builds
    }

    /// The addresses to remember over restarts.
    pub fn book(&self) -> &Book {
        self.dialer.book()
    }

    /// Bans in force, with their reasons.
    pub fn bans(&self, now: Time) -> impl Iterator<Item = (NodeId, &peers::Ban)> {
        self.scores.bans(now)
    }

    /// How things stand.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        Snapshot {
            members: self.chain.members().clone(),
            progress: self.sync.progress(now),
            deciding: self.deciding,
            has_work: self.has_work(),
            waiting: (self.pool.len(), self.pool.bytes()),
            admitted: self
                .admitted
                .iter()
                .map(|(peer, it)| (*peer, it.height))
                .collect(),
        }
    }

    /// The tip that peers are told about.
    pub fn durable_tip(&self) -> (u64, BlockId) {
        let tip = hello::Chain::tip(&self.vault);
        (tip.height, tip.id)
    }

    fn expire(&mut self, now: Time, wall: WallTime) {
        let due = |it: Option<Time>| it.is_some_and(|at| at <= now);
        if due(self.hello.next_deadline()) {
            let mut effects = Vec::new();
            self.hello.expire(&self.vault, now, &mut effects);
            self.hello_effects(now, wall, effects);
        }
        if due(self.dialer.next_deadline()) {
            let mut effects = Vec::new();
            self.dialer.expire(now, &mut effects);
            self.dial_effects(effects);
        }
        if due(self.sync.next_deadline()) {
            let mut effects = Vec::new();
            self.sync.expire(now, &mut effects);
            self.sync_effects(now, wall, effects);
        }
        if due(self.heads.next_deadline()) {
            let mut effects = Vec::new();
            self.heads.expire(now, &mut effects);
            self.heads_effects(now, effects);
        }
        if due(self.builds.next_deadline()) {
            let mut effects = Vec::new();
            self.builds.expire(now, wall, &mut effects);
            self.builds_effects(now, wall, effects);
        }
        self.expire_pool(now, wall);
        self.expire_agreement(now, wall);
        self.start_height(now, wall);
    }
}

/// The entries of a group, for logs.
pub(super) fn describe(group: &[Entry]) -> &str {
    match group.first() {
        Some(Entry::AddArtifact(it)) => &it.purl,
        Some(Entry::BindTag(it)) => &it.tag,
        Some(other) => other.kind_name(),
        None => "nothing",
    }
}
