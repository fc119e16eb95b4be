//! What the engine asks of its surroundings, answered in place.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arc_malachitebft_core_consensus::{
    ConsensusMsg, Effect as Ask, Input, LivenessMsg, LocallyProposedValue, MisbehaviorEvidence,
    Resumable, Resume, SignedConsensusMsg, VoteExtensionError,
};
use arc_malachitebft_core_types as engine;
use engine::{CertificateError, Round, SignedMessage, VoteType};

use crate::base::{BlockId, PublicKey, SecretKey, Signature, Time};
use crate::proto::chain::block::Certificate;
use crate::proto::chain::member::MemberSet;
use crate::proto::consensus::bodies::Bodies;
use crate::proto::consensus::context::{self, Ctx};
use crate::proto::consensus::convert::round;
use crate::proto::consensus::effect::{Config, Effect, Fault};
use crate::proto::consensus::message::{Message, Proposal, Vote};
use crate::proto::consensus::timers::{Timers, Waits};
use crate::proto::consensus::verify::Verifier;
use crate::proto::consensus::wal::{Event, Record};

/// Which of our last messages a kept one is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Sent {
    Round,
    Polka,
    Proposal,
    Prevote,
    Precommit,
}

/// All that belongs to the running height except the engine.
#[derive(Debug)]
pub(crate) struct Host {
    key: SecretKey,
    pub(crate) me: PublicKey,
    waits: Waits,
    pub(crate) height: u64,
    pub(crate) members: MemberSet,
    pub(crate) verifier: Verifier,
    pub(crate) timers: Timers,
    pub(crate) bodies: Bodies,
    /// Our own blocks by round. The same block goes out for the same round after a restart.
    pub(crate) built: BTreeMap<u32, BlockId>,
    /// Inputs that answer the engine; fed after it returns.
    pub(crate) queue: VecDeque<Input<Ctx>>,
    /// Our last messages of the current round, for those who connect late.
    sent: BTreeMap<Sent, Message>,
    /// Records that are in the log already; not empty only during replay.
    pub(crate) replayed: BTreeSet<Vec<u8>>,
    /// Who sent the message at hand.
    pub(crate) sender: Option<PublicKey>,
    /// The decision, once the engine came to one.
    pub(crate) decided: Option<Certificate>,
}

impl Host {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            key: config.vote.clone(),
            me: config.vote.public(),
            waits: Waits::new(&config.params),
            height: 0,
            members: MemberSet::new([]),
            verifier: Verifier::new(config.chain),
            timers: Timers::default(),
            bodies: Bodies::default(),
            built: BTreeMap::new(),
            queue: VecDeque::new(),
            sent: BTreeMap::new(),
            replayed: BTreeSet::new(),
            sender: None,
            decided: None,
        }
    }

    /// Forgets the height before.
    pub(crate) fn begin(&mut self, height: u64, members: MemberSet) {
        self.height = height;
        self.members = members;
        self.verifier.clear();
        self.timers.clear();
        self.bodies.clear();
        self.built.clear();
        self.queue.clear();
        self.sent.clear();
        self.replayed.clear();
        self.sender = None;
        self.decided = None;
    }

    /// Our last messages, in an order in which a receiver can use them.
    pub(crate) fn sent(&self) -> impl Iterator<Item = &Message> {
        self.sent.values()
    }

    /// Persists `event`, unless we do not vote at this height or it is in the log already.
    pub(crate) fn persist(&self, event: Event, out: &mut Vec<Effect>) {
        if self.members.by_vote(&self.me).is_none() {
            return;
        }
        let record = Record::new(self.height, event).to_bytes();
        if !self.replayed.contains(&record) {
            out.push(Effect::Persist(record));
        }
    }

    /// Answers the engine.
    pub(crate) fn answer(
        &mut self,
        now: Time,
        ask: Ask<Ctx>,
        out: &mut Vec<Effect>,
    ) -> Resume<Ctx> {
        match ask {
            Ask::SignVote(vote, it) => {
                let bytes = self.verifier.vote_bytes(&vote);
                it.resume_with(SignedMessage::new(vote, self.sign(&bytes)))
            }
            Ask::SignProposal(proposal, it) => {
                let bytes = self.verifier.proposal_bytes(&proposal);
                it.resume_with(SignedMessage::new(proposal, self.sign(&bytes)))
            }
            Ask::VerifySignature(signed, key, it) => {
                it.resume_with(self.verify(&signed.message, &key, &signed.signature, out))
            }
            Ask::VerifyCommitCertificate(certificate, members, _, it) => {
                it.resume_with(verdict(self.verifier.commit(&certificate, &members)))
            }
            Ask::VerifyPolkaCertificate(certificate, members, _, it) => {
                let stands = self.verifier.polka(&certificate, &members);
                it.resume_with(verdict(self.or_blame(stands, Fault::Certificate, out)))
            }
            Ask::VerifyRoundCertificate(certificate, members, _, it) => {
                let stands = self.verifier.round(&certificate, &members);
                it.resume_with(verdict(self.or_blame(stands, Fault::Certificate, out)))
            }
            // Sync goes past the engine, and vote extensions are switched off.
            Ask::VerifyExtendedCommitCertificate(_, _, _, _, it) => it.resume_with(verdict(false)),
            Ask::ExtendVote(_, _, _, _, it) => it.resume_with(None),
            Ask::VerifyVoteExtension(_, _, _, _, _, _, it) => {
                it.resume_with(Err(VoteExtensionError::InvalidVoteExtension))
            }
            told => {
                self.act(now, told, out);
                Resume::Continue
            }
        }
    }

    /// Does what the engine tells without asking for an answer.
    fn act(&mut self, now: Time, told: Ask<Ctx>, out: &mut Vec<Effect>) {
        match told {
            Ask::CancelAllTimeouts(_) => self.timers.clear(),
            Ask::CancelTimeout(timeout, _) => self.timers.cancel(timeout),
            Ask::ScheduleTimeout(timeout, _) => self.timers.schedule(now, &self.waits, timeout),
            Ask::StartRound(..) => self.sent.retain(|kind, _| *kind == Sent::Round),
            Ask::GetValue(_, round, _, _) => self.provide_block(round, out),
            Ask::WalAppend(_, input, _) => {
                if let Some(event) = Event::of(input) {
                    self.persist(event, out);
                }
            }
            Ask::PublishConsensusMsg(SignedConsensusMsg::Vote(vote), _)
            | Ask::PublishLivenessMsg(LivenessMsg::Vote(vote), _)
            | Ask::RepublishVote(vote, _) => {
                let kind = match vote.message.kind {
                    VoteType::Prevote => Sent::Prevote,
                    VoteType::Precommit => Sent::Precommit,
                };
                self.send(kind, Message::Vote(vote.into()), out);
            }
            Ask::PublishConsensusMsg(SignedConsensusMsg::Proposal(proposal), _) => {
                if let Some(body) = self.bodies.get(&proposal.message.block) {
                    let message = Message::Proposal(proposal.into(), Box::new(body.block.clone()));
                    self.send(Sent::Proposal, message, out);
                }
            }
            Ask::PublishLivenessMsg(LivenessMsg::PolkaCertificate(polka), _) => {
                self.send(Sent::Polka, Message::Polka(polka.into()), out);
            }
            Ask::PublishLivenessMsg(LivenessMsg::SkipRoundCertificate(votes), _)
            | Ask::RepublishRoundCertificate(votes, _) => {
                self.send(Sent::Round, Message::Round(votes.into()), out);
            }
            Ask::Finalize(certificate, _, evidence, _) => {
                self.decided = Some(certificate.into());
                blame_equivocators(evidence, out);
            }
            // The body travels with every proposal, so there is nothing to stream again, and
            // Finalize follows Decide at once. The rest is answered above.
            _ => {}
        }
    }

    /// Proposes the block that we built for this round, or asks for one.
    fn provide_block(&mut self, asked: Round, out: &mut Vec<Effect>) {
        let (height, number) = (self.height, round(asked));
        match self.built.get(&number) {
            Some(id) if self.bodies.get(id).is_some() => {
                let value = LocallyProposedValue::new(context::Height(height), asked, *id);
                self.queue.push_back(Input::Propose(value));
            }
            _ => out.push(Effect::NeedBlock {
                height,
                round: number,
            }),
        }
    }

    fn send(&mut self, kind: Sent, message: Message, out: &mut Vec<Effect>) {
        self.sent.insert(kind, message.clone());
        out.push(Effect::Send(message));
    }

    fn sign(&mut self, bytes: &[u8]) -> Signature {
        let signature = self.key.sign(bytes);
        self.verifier.trust(&self.me, bytes, &signature);
        signature
    }

    fn verify(
        &mut self,
        message: &ConsensusMsg<Ctx>,
        key: &PublicKey,
        signature: &Signature,
        out: &mut Vec<Effect>,
    ) -> bool {
        let bytes = match message {
            ConsensusMsg::Vote(vote) => self.verifier.vote_bytes(vote),
            ConsensusMsg::Proposal(proposal) => self.verifier.proposal_bytes(proposal),
        };
        let stands = self.verifier.check(key, &bytes, signature);
        self.or_blame(stands, Fault::Signature, out)
    }

    fn or_blame(&self, stands: bool, fault: Fault, out: &mut Vec<Effect>) -> bool {
        if !stands {
            self.blame(fault, out);
        }
        stands
    }

    /// Blames the sender of the message at hand.
    pub(crate) fn blame(&self, fault: Fault, out: &mut Vec<Effect>) {
        if let Some(member) = self.sender {
            out.push(Effect::Blame { member, fault });
        }
    }
}

/// The engine only needs to know whether a certificate stands.
#[allow(clippy::result_large_err, reason = "the engine asks for this type")]
fn verdict(stands: bool) -> Result<(), CertificateError<Ctx>> {
    let error = CertificateError::VerificationError(None);
    if stands { Ok(()) } else { Err(error) }
}

fn blame_equivocators(evidence: MisbehaviorEvidence<Ctx>, out: &mut Vec<Effect>) {
    for (member, pairs) in evidence.votes {
        for (first, second) in pairs {
            let pair: (Vote, Vote) = (first.into(), second.into());
            let fault = Fault::DoubleVote(Box::new(pair));
            out.push(Effect::Blame { member, fault });
        }
    }
    for (member, pairs) in evidence.proposals.iter() {
        for (first, second) in pairs {
            let pair: (Proposal, Proposal) = (first.clone().into(), second.clone().into());
            let fault = Fault::DoubleProposal(Box::new(pair));
            let member = *member;
            out.push(Effect::Blame { member, fault });
        }
    }
}
