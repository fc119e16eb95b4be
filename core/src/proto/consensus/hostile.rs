//! A member of the test network that sends whatever it can think of.

use crate::proto::chain::block::CommitSignature;
use crate::proto::consensus::harness::{Event, Net};
use crate::proto::consensus::message::{ROUNDS_MAX, RoundReason, RoundVote};
use crate::proto::consensus::{Message, Polka, RoundVotes, Vote};

impl Net {
    /// Sends everybody what the node can think of.
    pub(crate) fn harass(&mut self, eve: usize) {
        for _ in 0..20 {
            let Some(message) = self.rng.pick(&self.seen).cloned() else {
                return;
            };
            let message = self.spoil(eve, message);
            for to in 0..self.nodes.len() {
                let delay = self.delay();
                self.push(delay, Event::Message(eve, to, message.clone()));
            }
        }
    }

    /// A message like one that was sent, with other numbers and perhaps a good signature.
    fn spoil(&mut self, eve: usize, mut message: Message) -> Message {
        let key = self.nodes[eve].keys.vote.clone();
        let chain = *self.nodes[eve].chain.state.chain();
        let rounds = [
            0,
            1,
            2,
            9,
            10,
            11,
            12,
            100,
            ROUNDS_MAX - 1,
            ROUNDS_MAX,
            u32::MAX,
        ];
        let round = *self.rng.pick(&rounds).unwrap();
        let height = self.decided.len() as u64 + self.rng.below(3);
        let is_signed = self.rng.chance(3, 4);
        match &mut message {
            Message::Proposal(it, block) => {
                it.round = round;
                it.polka_round = self.rng.chance(1, 2).then_some(round / 2);
                if self.rng.chance(1, 2) {
                    block.header.seal.height = height;
                    (it.height, it.block) = (height, block.id());
                }
                if is_signed {
                    it.proposer = key.public();
                    it.signature = key.sign(&it.signed_bytes(&chain));
                }
            }
            Message::Vote(it) => {
                (it.round, it.height) = (round, height);
                if is_signed {
                    it.voter = key.public();
                    it.signature = key.sign(&it.signed_bytes(&chain));
                }
                if self.rng.chance(1, 3) {
                    return self.certificate(it.clone());
                }
            }
            Message::Polka(it) => it.round = round,
            Message::Round(it) => (it.round, it.height) = (round, height),
        }
        message
    }

    /// A certificate of all votes like `vote` that were ever sent, or of this one alone.
    fn certificate(&mut self, vote: Vote) -> Message {
        let alike = |it: &&Vote| (it.height, it.round) == (vote.height, vote.round);
        let votes = self.seen.iter().filter_map(|it| match it {
            Message::Vote(it) => Some(it),
            Message::Proposal(..) | Message::Polka(_) | Message::Round(_) => None,
        });
        let mut votes: Vec<_> = votes.filter(alike).cloned().collect();
        votes.push(vote.clone());
        let (height, round) = (vote.height, vote.round);
        let reasons = [RoundReason::Skip, RoundReason::Precommits];
        match vote.block {
            Some(block) if self.rng.chance(1, 2) => Message::Polka(Polka {
                height,
                round,
                block,
                signatures: votes
                    .iter()
                    .map(|it| CommitSignature {
                        vote: it.voter,
                        signature: it.signature,
                    })
                    .collect(),
            }),
            _ => Message::Round(RoundVotes {
                height,
                round,
                reason: *self.rng.pick(&reasons).unwrap(),
                votes: votes
                    .iter()
                    .map(|it| RoundVote {
                        kind: it.kind,
                        block: it.block,
                        voter: it.voter,
                        signature: it.signature,
                    })
                    .collect(),
            }),
        }
    }
}
