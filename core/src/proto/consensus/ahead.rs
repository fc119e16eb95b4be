//! Messages for the next height, kept until the current one is applied: only then can a block be
//! judged, and only then are the members known.

use std::collections::BTreeMap;

use crate::base::PublicKey;
use crate::proto::chain::member::MEMBERS_MAX;
use crate::proto::consensus::message::Message;

/// Most members whose messages are kept; those of further ones are dropped.
pub const AHEAD_SENDERS_MAX: usize = MEMBERS_MAX;

/// Most messages kept for one member; the one of the lowest round makes room.
pub const AHEAD_MESSAGES_MAX: usize = 8;

/// Most bytes of blocks kept. Unit: bytes. A proposal beyond it is dropped, which costs a round.
pub const AHEAD_BYTES_MAX: usize = 32 << 20;

/// The place of a message among those of its sender: round first.
type Slot = (u32, u8);

/// The kept messages of one height.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    senders: BTreeMap<PublicKey, BTreeMap<Slot, Message>>,
    bytes: usize,
}

impl Ahead {
    /// Keeps `message`, instead of an earlier one for the same slot.
    pub(crate) fn push(&mut self, from: PublicKey, message: Message) {
        let Some(slot) = slot(&message) else {
            return;
        };
        let len = block_len(&message);
        let is_new = !self.senders.contains_key(&from);
        if AHEAD_BYTES_MAX < self.bytes + len || is_new && AHEAD_SENDERS_MAX <= self.senders.len() {
            return;
        }
        let messages = self.senders.entry(from).or_default();
        self.bytes += len;
        let mut dropped = messages.insert(slot, message);
        if AHEAD_MESSAGES_MAX < messages.len() {
            dropped = messages.pop_first().map(|(_, it)| it);
        }
        self.bytes -= dropped.as_ref().map_or(0, block_len);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    /// Takes all messages with their senders.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (PublicKey, Message)> + use<> {
        self.bytes = 0;
        let senders = std::mem::take(&mut self.senders);
        senders
            .into_iter()
            .flat_map(|(from, messages)| messages.into_values().map(move |it| (from, it)))
    }
}

/// Certificates are not kept: they are sent again while they matter.
fn slot(message: &Message) -> Option<Slot> {
    match message {
        Message::Proposal(it, _) => Some((it.round, 0)),
        Message::Vote(it) => Some((it.round, 1 + it.kind as u8)),
        Message::Polka(_) | Message::Round(_) => None,
    }
}

fn block_len(message: &Message) -> usize {
    match message {
        Message::Proposal(_, block) => block.entries.iter().map(|it| it.len()).sum(),
        Message::Vote(_) | Message::Polka(_) | Message::Round(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Signature;
    use crate::proto::chain::block::VoteKind;
    use crate::proto::chain::testing::{MemoryChain, node_keys, package};
    use crate::proto::consensus::message::{Proposal, Vote};

    fn vote(round: u32) -> Message {
        Message::Vote(Vote {
            kind: VoteKind::Prevote,
            height: 2,
            round,
            block: None,
            voter: PublicKey([1; 32]),
            signature: Signature([0; 64]),
        })
    }

    #[test]
    fn a_member_fills_only_its_own_share_and_late_rounds_stay() {
        let mut ahead = Ahead::default();
        let (alice, eve) = (PublicKey([1; 32]), PublicKey([2; 32]));
        ahead.push(alice, vote(0));
        for round in 0..100 {
            ahead.push(eve, vote(round));
            ahead.push(eve, vote(round));
        }
        let kept: Vec<_> = ahead.take().map(|(from, it)| (from, it.round())).collect();
        let late = (92..100).map(|round| (eve, round));
        assert_eq!(
            kept,
            [(alice, 0)].into_iter().chain(late).collect::<Vec<_>>()
        );
        assert!(ahead.is_empty());
    }

    #[test]
    fn senders_and_bytes_are_limited() {
        let mut ahead = Ahead::default();
        for number in 0..=u8::MAX {
            ahead.push(PublicKey([number; 32]), vote(0));
        }
        assert_eq!(ahead.take().count(), AHEAD_SENDERS_MAX);

        let chain = MemoryChain::new(1);
        let group = package(chain.state.chain(), "pkg:a/a@1", "", &[node_keys(0)]);
        let mut block = chain.build([group]).unwrap();
        block.entries = vec![vec![0; 10 << 20].into()];
        let proposal = |round| {
            let proposal = Proposal {
                height: 2,
                round,
                polka_round: None,
                block: block.id(),
                proposer: PublicKey([1; 32]),
                signature: Signature([0; 64]),
            };
            Message::Proposal(proposal, Box::new(block.clone()))
        };
        for round in [0, 1, 2, 2, 3] {
            ahead.push(PublicKey([1; 32]), proposal(round));
        }
        assert_eq!(ahead.take().count(), 3);
        ahead.push(PublicKey([1; 32]), proposal(3));
        assert_eq!(ahead.take().count(), 1);
    }
}
