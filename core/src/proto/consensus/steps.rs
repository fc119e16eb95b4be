//! What the machine does inside: replay, guards before the engine, and running the engine.

use std::collections::BTreeMap;
use std::convert::Infallible;

use arc_malachitebft_core_consensus::{Error, Input as Feed, LocallyProposedValue, process};
use arc_malachitebft_core_types::{Round, VoteExtensionPolicy};

use crate::base::{PublicKey, Time};
use crate::proto::chain::block::{Block, Certificate};
use crate::proto::chain::check::CheckedBlock;
use crate::proto::chain::member::MemberSet;
use crate::proto::consensus::bodies::Body;
use crate::proto::consensus::context::{Ctx, Height, proposer};
use crate::proto::consensus::effect::{Effect, Fault, Judge};
use crate::proto::consensus::machine::Consensus;
use crate::proto::consensus::message::{Message, Proposal};
use crate::proto::consensus::wal::{Event, Record, Value};

/// How many rounds ahead of ours a proposal may be. The engine drops votes beyond the same limit.
pub const ROUNDS_AHEAD_MAX: u32 = 10;

/// From this round on a member that locked a block sends its proposal again in the proposer's
/// stead, and only from then on a proposal is taken from another than its proposer.
pub const RELAY_ROUND_MIN: u32 = 10;

impl Consensus {
    /// Brings the engine to where the log ends.
    pub(crate) fn replay(&mut self, now: Time, wal: &[Vec<u8>], out: &mut Vec<Effect>) {
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

    pub(crate) fn on_message(
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
                self.on_proposal(now, from, proposal, *block, judge, out);
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
            // The id covers the body only through the tree: another body may have come before, and
            // only a valid one is ever decided.
            if value.is_valid {
                host.persist(Event::Body(block.clone()), out);
            }
            self.hold(block, round, value.is_valid);
            self.feed(now, value.into_input(self.height), out);
        }
        self.feed(now, Feed::Proposal(proposal.into()), out);
    }

    pub(crate) fn on_block(
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
    pub(crate) fn on_synced(
        &mut self,
        block: &CheckedBlock,
        certificate: Certificate,
        out: &mut Vec<Effect>,
    ) {
        let (chain, block) = (self.host.verifier.chain(), block.block());
        let is_decided = self.engine.is_some()
            && block.height() == self.height
            && certificate
                .verify(chain, &block.header, &self.host.members)
                .is_ok();
        if is_decided {
            let block = block.clone();
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
    pub(crate) fn feed(&mut self, now: Time, input: Feed<Ctx>, out: &mut Vec<Effect>) {
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

    pub(crate) fn stop(&mut self) {
        self.engine = None;
        self.host.begin(self.height, MemberSet::new([]));
    }

    pub(crate) fn die(&mut self, reason: String, out: &mut Vec<Effect>) {
        self.stop();
        self.is_dead = true;
        out.push(Effect::Fatal(reason));
    }
}
