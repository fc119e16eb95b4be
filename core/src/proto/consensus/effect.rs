//! What goes into the machine and what comes out of it.

use crate::base::{ChainId, PublicKey, SecretKey};
use crate::proto::chain::block::{Block, Certificate};
use crate::proto::chain::check::CheckedBlock;
use crate::proto::chain::genesis::Params;
use crate::proto::consensus::message::{Message, Proposal, Vote};

/// Judges a proposed block by the rules of the chain; asked once for each block and round.
pub type Judge<'a> = &'a mut dyn FnMut(&Block) -> bool;

/// What the machine is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// The network.
    pub chain: ChainId,
    /// Time-outs, among others.
    pub params: Params,
    /// Our vote key.
    pub vote: SecretKey,
}

/// What happens to the machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// A message arrived.
    Message {
        /// The vote key of the member at the other end of the authenticated connection.
        from: PublicKey,
        /// The message.
        message: Message,
    },
    /// The answer to [`Effect::NeedBlock`]. It may come late: it counts while that round lasts.
    Block {
        /// As asked.
        height: u64,
        /// As asked.
        round: u32,
        /// A block that follows the tip.
        block: Block,
    },
    /// Another node decided the running height and sent its block.
    Synced {
        /// The block, checked against the tip without a clock.
        block: Box<CheckedBlock>,
        /// Its certificate; checked here.
        certificate: Certificate,
    },
}

/// What the machine wants done, in this order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// We are the proposer and need a block. No answer means no proposal in this round.
    NeedBlock {
        /// The height.
        height: u64,
        /// The round.
        round: u32,
    },
    /// Append a record to the write-ahead log of this height.
    Persist(Vec<u8>),
    /// Send to all other members, after every earlier [`Effect::Persist`] is durable.
    Send(Message),
    /// Send to one member, after every earlier [`Effect::Persist`] is durable.
    SendTo(PublicKey, Message),
    /// The height is decided: commit block and certificate, then [`start`](crate::proto::consensus::Consensus::start) the next
    /// height when there is work for it.
    Decide {
        /// The block.
        block: Block,
        /// What decided it.
        certificate: Certificate,
    },
    /// A member broke the protocol.
    Blame {
        /// Its vote key.
        member: PublicKey,
        /// What it did.
        fault: Fault,
    },
    /// The machine cannot go on without risk of contradicting itself. It has stopped; stop the
    /// node and tell the operator.
    Fatal(String),
}

/// What a member did wrong. No network fault causes any of these.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A signature of a message it sent does not stand.
    Signature,
    /// A message contradicts itself.
    Unsound,
    /// It sent another's vote, or proposed out of turn.
    Sender,
    /// A certificate it sent does not stand.
    Certificate,
    /// It signed two votes of one kind for one round.
    DoubleVote(Box<(Vote, Vote)>),
    /// It signed two proposals for one round.
    DoubleProposal(Box<(Proposal, Proposal)>),
}
