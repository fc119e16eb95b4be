//! The machine: one height at a time.

use arc_malachitebft_core_consensus::{Input as Feed, Params as EngineParams, State};
use arc_malachitebft_core_types::ValuePayload;

use crate::base::{PublicKey, Time};
use crate::proto::chain::member::MemberSet;
use crate::proto::consensus::ahead::Ahead;
use crate::proto::consensus::context::{Ctx, Height};
use crate::proto::consensus::effect::{Config, Effect, Input, Judge};
use crate::proto::consensus::host::Host;

/// Agreement on one height after the other.
///
/// Idle after a decision: no timer runs, and messages for the next height are kept until
/// [`Consensus::start`].
pub struct Consensus {
    pub(crate) host: Host,
    /// Present while a height is running.
    pub(crate) engine: Option<State<Ctx>>,
    /// The height that is running, or the last one decided.
    pub(crate) height: u64,
    pub(crate) ahead: Ahead,
    pub(crate) is_dead: bool,
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
            Input::Synced { block, certificate } => self.on_synced(&block, certificate, out),
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BlockId, Signature};
    use crate::proto::chain::block::{Block, VoteKind};
    use crate::proto::chain::member::NodeKeys;
    use crate::proto::chain::testing::{MemoryChain, certificate, node_keys, package};
    use crate::proto::consensus::context::proposer;
    use crate::proto::consensus::effect::Fault;
    use crate::proto::consensus::message::{Message, Polka, Proposal, Vote};
    use crate::proto::consensus::wal::{Event, Record};

    const NOW: Time = Time::ZERO;

    /// One of four members at height 1; the others are played by the test.
    struct Bench {
        chain: MemoryChain,
        /// In the order of their turns, the proposer of round 0 first.
        members: Vec<NodeKeys>,
        machine: Consensus,
    }

    impl Bench {
        /// The member whose turn is in round `turn`, before it starts.
        fn new(turn: u32) -> Self {
            let chain = MemoryChain::new(4);
            let find = |round| {
                let vote = proposer(chain.state.members(), 1, round).unwrap().vote;
                let mut all = (0..4).map(node_keys);
                all.find(|it| it.vote.public() == vote).unwrap()
            };
            let members: Vec<_> = (0..4).map(find).collect();
            let config = Config {
                chain: *chain.state.chain(),
                params: *chain.state.params(),
                vote: members[turn as usize].vote.clone(),
            };
            let machine = Consensus::new(&config, 0);
            Self {
                chain,
                members,
                machine,
            }
        }

        fn start(&mut self, wal: &[Vec<u8>]) -> Vec<Effect> {
            let (set, mut out) = (self.chain.state.members().clone(), Vec::new());
            let judge = &mut |_: &Block| true;
            self.machine.start(NOW, 1, &set, wal, judge, &mut out);
            out
        }

        fn handle(&mut self, input: Input) -> Vec<Effect> {
            let mut out = Vec::new();
            let chain = &self.chain;
            let judge = &mut |block: &Block| chain.check(block).is_ok();
            self.machine.handle(NOW, input, judge, &mut out);
            out
        }

        fn receive(&mut self, from: usize, message: Message) -> Vec<Effect> {
            let from = self.members[from].vote.public();
            self.handle(Input::Message { from, message })
        }

        fn block(&self) -> Block {
            let signers = &self.members[..3];
            let group = package(self.chain.state.chain(), "pkg:a/a@1", "", signers);
            self.chain.build([group]).unwrap()
        }

        fn proposal(&self, turn: usize) -> Message {
            let block = self.block();
            let mut proposal = Proposal {
                height: 1,
                round: 0,
                polka_round: None,
                block: block.id(),
                proposer: self.members[turn].vote.public(),
                signature: Signature([0; 64]),
            };
            let bytes = proposal.signed_bytes(self.chain.state.chain());
            proposal.signature = self.members[turn].vote.sign(&bytes);
            Message::Proposal(proposal, Box::new(block))
        }

        fn vote(&self, voter: usize, kind: VoteKind, block: Option<BlockId>) -> Vote {
            let mut vote = Vote {
                kind,
                height: 1,
                round: 0,
                block,
                voter: self.members[voter].vote.public(),
                signature: Signature([0; 64]),
            };
            let bytes = vote.signed_bytes(self.chain.state.chain());
            vote.signature = self.members[voter].vote.sign(&bytes);
            vote
        }
    }

    fn records(effects: &[Effect]) -> Vec<Vec<u8>> {
        let records = effects.iter().filter_map(|it| match it {
            Effect::Persist(record) => Some(record.clone()),
            _ => None,
        });
        records.collect()
    }

    fn sent(effects: &[Effect]) -> Vec<Message> {
        let sent = effects.iter().filter_map(|it| match it {
            Effect::Send(message) => Some(message.clone()),
            _ => None,
        });
        sent.collect()
    }

    #[test]
    fn what_a_vote_rests_on_is_persisted_before_it_is_sent() {
        let mut bench = Bench::new(1);
        bench.start(&[]);
        let out = bench.receive(0, bench.proposal(0));
        let kinds: Vec<_> = out
            .iter()
            .map(|it| match it {
                Effect::Persist(bytes) => match Record::from_bytes(bytes).unwrap().event {
                    Event::Body(_) => "body",
                    Event::Value(_) => "value",
                    Event::Proposal(_) => "proposal",
                    Event::Vote(_) => "vote",
                    Event::Timeout(..) | Event::Polka(_) => "other",
                },
                Effect::Send(Message::Vote(_)) => "send vote",
                _ => "other",
            })
            .collect();
        assert_eq!(kinds, ["body", "value", "proposal", "vote", "send vote"]);
    }

    #[test]
    fn a_restarted_proposer_says_the_same_again_and_asks_for_no_other_block() {
        let mut bench = Bench::new(0);
        let (height, round) = (1, 0);
        assert_eq!(bench.start(&[]), [Effect::NeedBlock { height, round }]);
        let block = bench.block();
        let first = bench.handle(Input::Block {
            height,
            round,
            block,
        });
        assert_eq!(sent(&first).len(), 2, "proposal and prevote");

        let mut again = Bench::new(0).start(&records(&first));
        again.retain(|it| !matches!(it, Effect::Persist(_)));
        let mut expected = sent(&first);
        expected.retain(|it| matches!(it, Message::Vote(_)));
        assert_eq!(sent(&again), expected);
        assert_eq!(again.len(), expected.len());
    }

    #[test]
    fn faults_are_blamed_on_the_sender_and_change_nothing() {
        let mut bench = Bench::new(1);
        bench.start(&[]);
        let nil = bench.vote(2, VoteKind::Prevote, None);
        let mut forged = nil.clone();
        forged.signature.0[0] ^= 1;
        let mut unsound = bench.proposal(0);
        if let Message::Proposal(it, _) = &mut unsound {
            it.block = BlockId([0; 32]);
        }
        let polka = Polka {
            height: 1,
            round: 0,
            block: BlockId([1; 32]),
            signatures: Vec::new(),
        };
        for (message, fault) in [
            (Message::Vote(forged), Fault::Signature),
            (bench.proposal(3), Fault::Sender),
            (bench.proposal(2), Fault::Sender),
            (unsound, Fault::Unsound),
            (Message::Polka(polka), Fault::Certificate),
            (
                Message::Vote(bench.vote(3, VoteKind::Prevote, None)),
                Fault::Sender,
            ),
        ] {
            let member = bench.members[2].vote.public();
            let blame = Effect::Blame { member, fault };
            assert_eq!(bench.receive(2, message), [blame]);
        }
        assert_eq!(records(&bench.receive(2, Message::Vote(nil))).len(), 1);
    }

    #[test]
    fn a_quorum_decides_and_the_machine_is_idle() {
        let mut bench = Bench::new(1);
        bench.start(&[]);
        let id = bench.block().id();
        bench.receive(0, bench.proposal(0));
        let mut out = Vec::new();
        for kind in [VoteKind::Prevote, VoteKind::Precommit] {
            for voter in [0, 2] {
                let vote = bench.vote(voter, kind, Some(id));
                out = bench.receive(voter, Message::Vote(vote));
            }
        }
        let Some(Effect::Decide { block, certificate }) = out.last() else {
            panic!("{out:?}");
        };
        let (chain, members) = (bench.chain.state.chain(), bench.chain.state.members());
        assert_eq!(certificate.verify(chain, &block.header, members), Ok(()));
        assert_eq!(
            (bench.machine.is_running(), bench.machine.next_deadline()),
            (false, None)
        );
    }

    #[test]
    fn those_who_connect_get_our_last_messages() {
        let mut bench = Bench::new(1);
        bench.start(&[]);
        let vote = sent(&bench.receive(0, bench.proposal(0))).remove(0);
        let (to, mut out) = (bench.members[3].vote.public(), Vec::new());
        bench.machine.resend(to, &mut out);
        assert_eq!(out, [Effect::SendTo(to, vote)]);
    }

    #[test]
    fn a_certificate_decides_and_a_bad_one_does_not() {
        let mut bench = Bench::new(1);
        bench.start(&[]);
        let (chain, block) = (*bench.chain.state.chain(), bench.block());
        let checked = bench.chain.check(&block).unwrap();
        for (signers, decides) in [(2, false), (3, true), (3, false)] {
            let certificate = certificate(&chain, &block, &bench.members[..signers]);
            let out = bench.handle(Input::Synced {
                block: Box::new(checked.clone()),
                certificate,
            });
            assert_eq!(out.len(), usize::from(decides), "{signers} signers");
        }
    }

    #[test]
    fn a_spoiled_body_is_replaced_by_the_right_one() {
        let mut bench = Bench::new(2);
        bench.start(&[]);
        let (good, id) = (bench.block(), bench.block().id());
        let mut first = bench.proposal(0);
        if let Message::Proposal(_, block) = &mut first {
            block.entries.pop();
        }
        let votes = sent(&bench.receive(0, first));
        assert!(matches!(
            &votes[..],
            [Message::Vote(Vote { block: None, .. })]
        ));

        let mut second = bench.proposal(1);
        if let Message::Proposal(it, _) = &mut second {
            it.round = 1;
            let bytes = it.signed_bytes(bench.chain.state.chain());
            it.signature = bench.members[1].vote.sign(&bytes);
        }
        bench.receive(1, second);
        let mut out = Vec::new();
        for voter in [0, 1, 3] {
            let mut vote = bench.vote(voter, VoteKind::Precommit, Some(id));
            vote.round = 1;
            let bytes = vote.signed_bytes(bench.chain.state.chain());
            vote.signature = bench.members[voter].vote.sign(&bytes);
            out = bench.receive(voter, Message::Vote(vote));
        }
        let decided = out.iter().find_map(|it| match it {
            Effect::Decide { block, .. } => Some(block),
            _ => None,
        });
        assert_eq!(decided, Some(&good));
    }

    #[test]
    fn a_damaged_log_stops_the_machine_for_good() {
        let mut bench = Bench::new(1);
        let out = bench.start(&[vec![0]]);
        assert!(matches!(out[..], [Effect::Fatal(_)]), "{out:?}");
        assert_eq!(bench.receive(0, bench.proposal(0)), []);
        assert_eq!(bench.start(&[]), []);
        assert!(!bench.machine.has_input_for_next());
    }

    #[test]
    fn what_comes_early_is_kept_for_its_height_only() {
        let mut bench = Bench::new(1);
        assert_eq!(bench.receive(0, bench.proposal(0)), []);
        assert!(bench.machine.has_input_for_next());
        assert_eq!(sent(&bench.start(&[])).len(), 1, "voted at once");

        let mut late = Bench::new(1);
        late.receive(0, late.proposal(0));
        late.machine.follow(1);
        assert!(!late.machine.has_input_for_next());
        assert_eq!(late.start(&[]), [], "height 1 is over");
    }
}
