//! The machine: one height at a time.

use std::collections::BTreeMap;
use std::convert::Infallible;

use arc_malachitebft_core_consensus::{
    Error, Input as Feed, LocallyProposedValue, Params as EngineParams, State, process,
};
use arc_malachitebft_core_types as engine;
use engine::{Round, ValuePayload, VoteExtensionPolicy};

use crate::base::{PublicKey, Time};
use crate::proto::chain::block::{Block, Certificate};
use crate::proto::chain::member::MemberSet;
use crate::proto::consensus::ahead::Ahead;
use crate::proto::consensus::bodies::Body;
use crate::proto::consensus::context::{Ctx, Height, proposer};
use crate::proto::consensus::effect::{Config, Effect, Fault, Input, Judge};
use crate::proto::consensus::host::Host;
use crate::proto::consensus::message::{Message, Proposal};
use crate::proto::consensus::wal::{Event, Record, Value};

/// How many rounds ahead of ours a proposal may be. The engine drops votes beyond the same limit.
pub const ROUNDS_AHEAD_MAX: u32 = 10;

/// From this round on a member that locked a block sends its proposal again in the proposer's
/// stead, and only from then on a proposal is taken from another than its proposer.
pub const RELAY_ROUND_MIN: u32 = 10;

/// Agreement on one height after the other.
///
/// Idle after a decision: no timer runs, and messages for the next height are kept until
/// [`Consensus::start`].
pub struct Consensus {
    host: Host,
    /// Present while a height is running.
    engine: Option<State<Ctx>>,
    /// The height that is running, or the last one decided.
    height: u64,
    ahead: Ahead,
    is_dead: bool,
}

impl Consensus {
    /// An idle machine on a chain of `tip` blocks.
    pub fn new(config: &Config, tip: u64) -> Self {
        Self {
            host: Host::new(config),
            engine: None,
            height: tip,
            ahead: Ahead::default(),
            is_dead: false,
        }
    }

    /// The height that is running, or the last one decided.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Whether a height is running.
    pub fn is_running(&self) -> bool {
        self.engine.is_some()
    }

    /// The running round.
    pub fn round(&self) -> Option<u32> {
        self.engine.as_ref().and_then(|it| it.round().as_u32())
    }

    /// Whether others have begun the next height: start it, too.
    pub fn has_input_for_next(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Starts `height`, which the tip's `members` decide; ignored if it is decided or running.
    ///
    /// `wal` holds the records that were persisted, in order; those of other heights are skipped.
    /// After a restart it must be complete up to the last [`Effect::Send`], or this node may
    /// contradict itself. Once the decision is durable the records are of no more use.
    pub fn start(
        &mut self,
        now: Time,
        height: u64,
        members: &MemberSet,
        wal: &[Vec<u8>],
        judge: Judge<'_>,
        out: &mut Vec<Effect>,
    ) {
        if self.is_dead || height <= self.height {
            return;
        }
        if members.is_empty() {
            return self.die(format!("height {height} has no members"), out);
        }
        let ahead: Vec<_> = self.ahead.take().collect();
        let is_next = height == self.height + 1;
        self.height = height;
        self.host.begin(height, members.clone());
        let params = EngineParams {
            address: self.host.me,
            threshold_params: Default::default(),
            value_payload: ValuePayload::ProposalAndParts,
            enabled: true,
        };
        // The engine's own queue for later heights stays empty: `Ahead` holds them back.
        let engine = State::new(Ctx, Height(height), members.clone(), params, 1, 1);
        self.engine = Some(engine);
        self.replay(now, wal, out);
        if is_next {
            for (from, message) in ahead {
                self.on_message(now, from, message, judge, out);
            }
        }
    }

    /// The chain reached `height` without this machine: a height up to it is abandoned.
    pub fn follow(&mut self, height: u64) {
        if self.height < height {
            self.ahead = Ahead::default();
        } else if self.height > height || self.engine.is_none() {
            return;
        }
        self.stop();
        self.height = height;
    }

    /// Takes `input`. Ignored after [`Effect::Fatal`].
    pub fn handle(&mut self, now: Time, input: Input, judge: Judge<'_>, out: &mut Vec<Effect>) {
        match input {
            Input::Message { from, message } => self.on_message(now, from, message, judge, out),
            Input::Block {
                height,
                round,
                block,
            } => self.on_block(now, height, round, block, out),
            Input::Synced { block, certificate } => self.on_synced(block, certificate, out),
        }
    }

    /// When [`Consensus::expire`] is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.engine.as_ref().and_then(|_| self.host.timers.next())
    }

    /// Fires the timeouts that are due.
    pub fn expire(&mut self, now: Time, out: &mut Vec<Effect>) {
        while self.engine.is_some()
            && let Some(timeout) = self.host.timers.pop(now)
        {
            self.feed(now, Feed::TimeoutElapsed(timeout), out);
        }
    }

    /// Sends our last messages of the running height to a member that connected: proposals are
    /// never repeated otherwise.
    pub fn resend(&self, to: PublicKey, out: &mut Vec<Effect>) {
        if self.engine.is_some() {
            let sent = self.host.sent().cloned();
            out.extend(sent.map(|it| Effect::SendTo(to, it)));
        }
    }

    /// Brings the engine to where the log ends.
    fn replay(&mut self, now: Time, wal: &[Vec<u8>], out: &mut Vec<Effect>) {
        let (mut inputs, mut bodies) = (Vec::new(), BTreeMap::new());
        for bytes in wal {
            let record = match Record::from_bytes(bytes) {
                Ok(it) if it.height == self.height => it,
                Ok(_) => continue,
                Err(error) => {
                    let problem = format!("the write-ahead log of consensus is damaged: {error}");
                    return self.die(problem, out);
                }
            };
            match &record.event {
                Event::Body(block) => {
                    bodies.insert(block.id(), block.clone());
                }
                Event::Value(it) => {
                    if let Some(block) = bodies.remove(&it.block) {
                        self.hold(block, it.round, it.is_valid);
                    }
                    self.host.bodies.judged(&it.block, it.round, it.is_valid);
                    if it.proposer == self.host.me {
                        self.host.built.entry(it.round).or_insert(it.block);
                    }
                }
                Event::Vote(_) | Event::Proposal(_) | Event::Timeout(..) | Event::Polka(_) => {}
            }
            if let Some(input) = record.event.into_input(self.height) {
                inputs.push(input);
                self.host.replayed.insert(bytes.clone());
            }
        }
        // What StartHeight signs must agree with the log as well.
        if let Some(engine) = &mut self.engine {
            engine.index_wal_entries(&inputs);
        }
        let members = self.host.members.clone();
        let policy = VoteExtensionPolicy::Disabled;
        let start = Feed::StartHeight(Height(self.height), members, false, None, policy);
        for input in std::iter::once(start).chain(inputs) {
            self.process(now, input, out);
        }
        if let Some(engine) = &mut self.engine {
            engine.reset_entries_index();
        }
        self.host.replayed.clear();
        self.settle(now, out);
    }

    fn on_message(
        &mut self,
        now: Time,
        from: PublicKey,
        message: Message,
        judge: Judge<'_>,
        out: &mut Vec<Effect>,
    ) {
        if self.is_dead || from == self.host.me {
            return;
        }
        if message.height() == self.height + 1 {
            return self.ahead.push(from, message);
        }
        let is_ours = self.engine.is_some() && message.height() == self.height;
        if !is_ours || self.host.members.by_vote(&from).is_none() {
            return;
        }
        self.host.sender = Some(from);
        match message {
            it if !it.is_sound() => self.host.blame(Fault::Unsound, out),
            Message::Proposal(proposal, block) => {
                self.on_proposal(now, from, proposal, block, judge, out);
            }
            Message::Vote(vote) if vote.voter != from => self.host.blame(Fault::Sender, out),
            Message::Vote(vote) => self.feed(now, Feed::Vote(vote.into()), out),
            Message::Polka(it) => self.feed(now, Feed::PolkaCertificate(it.into()), out),
            Message::Round(it) => self.feed(now, Feed::RoundCertificate(it.into()), out),
        }
        self.host.sender = None;
    }

    /// Guards in the order of their cost; the signature stands before the block is judged.
    fn on_proposal(
        &mut self,
        now: Time,
        from: PublicKey,
        proposal: Proposal,
        block: Block,
        judge: Judge<'_>,
        out: &mut Vec<Effect>,
    ) {
        let (round, host) = (proposal.round, &mut self.host);
        let turn = proposer(&host.members, self.height, round).map(|it| it.vote);
        let is_relayed = from != proposal.proposer;
        if turn != Some(proposal.proposer) || is_relayed && round < RELAY_ROUND_MIN {
            return host.blame(Fault::Sender, out);
        }
        let current = self.engine.as_ref().and_then(|it| it.round().as_u32());
        if current.unwrap_or(0) + ROUNDS_AHEAD_MAX < round {
            return;
        }
        let message = proposal.signed_bytes(host.verifier.chain());
        if !host
            .verifier
            .check(&proposal.proposer, &message, &proposal.signature)
        {
            return host.blame(Fault::Signature, out);
        }
        let is_judged = match host.bodies.get(&proposal.block) {
            // Our clock may have been behind the block's: judge it again when others prefer it.
            Some(body) => body.is_valid || round <= body.round,
            None if !host.bodies.has_room(round) => return,
            None => false,
        };
        if !is_judged {
            let value = Value {
                round,
                polka_round: proposal.polka_round,
                proposer: proposal.proposer,
                block: proposal.block,
                is_valid: judge(&block),
            };
            if host.bodies.get(&proposal.block).is_none() {
                // The body is in the log before the value that names it.
                host.persist(Event::Body(block.clone()), out);
                self.hold(block, round, value.is_valid);
            }
            self.host.bodies.judged(&value.block, round, value.is_valid);
            self.feed(now, value.into_input(self.height), out);
        }
        self.feed(now, Feed::Proposal(proposal.into()), out);
    }

    fn on_block(
        &mut self,
        now: Time,
        height: u64,
        round: u32,
        block: Block,
        out: &mut Vec<Effect>,
    ) {
        let turn = proposer(&self.host.members, height, round).map(|it| it.vote);
        let is_asked = self.round() == Some(round)
            && height == self.height
            && height == block.height()
            && turn == Some(self.host.me)
            && !self.host.built.contains_key(&round);
        if !is_asked {
            return;
        }
        let id = block.id();
        self.host.persist(Event::Body(block.clone()), out);
        self.hold(block, round, true);
        self.host.built.insert(round, id);
        let value = LocallyProposedValue::new(Height(height), Round::new(round), id);
        self.feed(now, Feed::Propose(value), out);
    }

    /// A certificate decides by itself, whatever the engine knows.
    fn on_synced(&mut self, block: Block, certificate: Certificate, out: &mut Vec<Effect>) {
        let chain = self.host.verifier.chain();
        if self.engine.is_some()
            && block.height() == self.height
            && certificate
                .verify(chain, &block.header, &self.host.members)
                .is_ok()
        {
            self.stop();
            out.push(Effect::Decide { block, certificate });
        }
    }

    /// Keeps a block; those that we locked or prefer stay at the limit.
    fn hold(&mut self, block: Block, round: u32, is_valid: bool) {
        let state = self.engine.as_ref().map(|it| it.driver.round_state());
        let preferred = state.iter().flat_map(|it| [&it.locked, &it.valid]);
        let preferred: Vec<_> = preferred.flatten().map(|it| it.value).collect();
        let body = Body {
            round,
            is_valid,
            block,
        };
        self.host.bodies.insert(body.block.id(), body, &preferred);
    }

    /// Feeds the engine, and what follows from it.
    fn feed(&mut self, now: Time, input: Feed<Ctx>, out: &mut Vec<Effect>) {
        self.process(now, input, out);
        self.settle(now, out);
    }

    fn settle(&mut self, now: Time, out: &mut Vec<Effect>) {
        while let Some(input) = self.host.queue.pop_front() {
            self.process(now, input, out);
        }
        let Some(certificate) = self.host.decided.take() else {
            return;
        };
        // Without the block, which is only possible beyond `BODIES_MAX`, sync brings the decision.
        if let Some(block) = self.host.bodies.take(&certificate.block) {
            self.stop();
            out.push(Effect::Decide { block, certificate });
        }
        self.host.timers.clear();
    }

    /// Runs the engine until it waits for the next input. It never starts a height here.
    fn process(&mut self, now: Time, input: Feed<Ctx>, out: &mut Vec<Effect>) {
        let Some(state) = &mut self.engine else {
            return;
        };
        let host = &mut self.host;
        let result: Result<(), Error<Ctx>> = process!(
            input: input,
            state: state,
            metrics: &(),
            with: ask => Ok::<_, Infallible>(host.answer(now, ask, out))
        );
        match result {
            // Only a message that would have helped others is missing.
            Ok(()) | Err(Error::MissingPolkaCertificate(..)) => {}
            Err(error) => self.die(format!("consensus stopped: {error}"), out),
        }
    }

    fn stop(&mut self) {
        self.engine = None;
        self.host.begin(self.height, MemberSet::new([]));
    }

    fn die(&mut self, reason: String, out: &mut Vec<Effect>) {
        self.stop();
        self.is_dead = true;
        out.push(Effect::Fatal(reason));
    }
}
