//! Gathers signatures on the newest head; asks for our own when it is due.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{NodeId, Time};
use crate::proto::chain::MemberSet;
use crate::proto::heads::message::HeadMessage;
use crate::proto::log::checkpoint::Checkpoint;
use crate::proto::log::cosign::{HeadSignature, SignedHead};

/// An idle log's head is cosigned again this often, as proof of freshness.
pub const RECOSIGN_INTERVAL: Duration = Duration::from_secs(60);

/// Signatures on heads that we have not reached; one for each member, the newest head counts.
/// Beyond this number of senders further ones are dropped.
const EARLY_MAX: usize = 128;

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// A block is durable.
    Committed {
        /// The head after the block.
        head: Checkpoint,
        /// The set after the block, which signs its head.
        members: MemberSet,
    },
    /// Our own signature on `head`, which is durable as our highest signed head.
    Signed {
        /// The head.
        head: Checkpoint,
        /// The signature.
        signature: HeadSignature,
    },
    /// A signature came from the network.
    Received(HeadMessage),
}

/// What to tell the gossip layer about a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Good: pass it on.
    Accept,
    /// Old, early or known: do not pass it on; nobody's fault.
    Ignore,
    /// Wrong on purpose: do not pass it on, and remember who sent it.
    Reject,
}

/// What the caller must do next, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Make `head` durable as our highest signed head, sign it, and come back with
    /// [`Input::Signed`].
    Sign(Checkpoint),
    /// Tell everybody.
    Publish(HeadMessage),
    /// A quorum stands for the head: keep this note and serve it.
    Checkpoint {
        /// Leaves that it covers.
        size: u64,
        /// The portable note.
        note: String,
        /// Members that signed.
        signers: usize,
    },
    /// The answer to [`Input::Received`].
    Judge(Verdict),
}

/// The newest head and the signatures on it.
#[derive(Debug)]
pub struct Heads {
    me: NodeId,
    current: Option<SignedHead>,
    /// When our signature is due, if we are a member.
    due: Option<Time>,
    /// A [`Effect::Sign`] is under way.
    is_signing: bool,
    early: BTreeMap<NodeId, HeadMessage>,
}

impl Heads {
    /// Nothing gathered yet; `me` signs if it is a member.
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            current: None,
            due: None,
            is_signing: false,
            early: BTreeMap::new(),
        }
    }

    /// Applies one input.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Committed { head, members } => self.committed(now, head, members, out),
            Input::Signed { head, signature } => {
                self.is_signing = false;
                let Some(current) = self.current.as_mut().filter(|it| *it.head() == head) else {
                    return; // The log grew meanwhile; the next signature is due already.
                };
                if current.add(signature.clone()) == Ok(true) {
                    let (size, root) = (head.size, head.root);
                    out.push(Effect::Publish(HeadMessage {
                        size,
                        root,
                        signature,
                    }));
                    self.report(out);
                }
            }
            Input::Received(message) => {
                let verdict = self.received(message, out);
                out.push(Effect::Judge(verdict));
            }
        }
    }

    /// When [`Self::expire`] should be called next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.due.filter(|_| !self.is_signing)
    }

    /// Asks for our signature if it is due.
    pub fn expire(&mut self, now: Time, out: &mut Vec<Effect>) {
        let (Some(due), Some(current)) = (self.due, &self.current) else {
            return;
        };
        if due <= now && !self.is_signing {
            self.is_signing = true;
            self.due = Some(now + RECOSIGN_INTERVAL);
            out.push(Effect::Sign(current.head().clone()));
        }
    }

    fn committed(
        &mut self,
        now: Time,
        head: Checkpoint,
        members: MemberSet,
        out: &mut Vec<Effect>,
    ) {
        self.due = members.by_node(&self.me).map(|_| now);
        let mut signed = SignedHead::new(head, members);
        let reached = |it: &HeadMessage| it.size <= signed.head().size;
        let (due, early) = std::mem::take(&mut self.early)
            .into_iter()
            .partition(|(_, it)| reached(it));
        self.early = early;
        let due: BTreeMap<NodeId, HeadMessage> = due;
        for message in due.into_values() {
            if (message.size, message.root) == (signed.head().size, signed.head().root) {
                // A signature that does not stand was never vouched for: drop it.
                let _ = signed.add(message.signature);
            }
        }
        self.current = Some(signed);
        self.report(out);
        self.expire(now, out);
    }

    fn received(&mut self, message: HeadMessage, out: &mut Vec<Effect>) -> Verdict {
        let size = self.current.as_ref().map_or(0, |it| it.head().size);
        if size < message.size {
            let node = message.signature.node;
            if self.early.len() < EARLY_MAX || self.early.contains_key(&node) {
                self.early.insert(node, message);
            }
            return Verdict::Ignore;
        }
        let Some(current) = self
            .current
            .as_mut()
            .filter(|it| it.head().size == message.size)
        else {
            return Verdict::Ignore;
        };
        if current.head().root != message.root {
            return Verdict::Reject;
        }
        match current.add(message.signature) {
            Ok(true) => {
                self.report(out);
                Verdict::Accept
            }
            Ok(false) => Verdict::Ignore,
            Err(_) => Verdict::Reject,
        }
    }

    fn report(&self, out: &mut Vec<Effect>) {
        let Some(current) = &self.current else {
            return;
        };
        if let Some(note) = current.portable_note() {
            let (size, signers) = (current.head().size, current.signatures().count());
            out.push(Effect::Checkpoint {
                size,
                note,
                signers,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Sha256, WallTime};
    use crate::proto::chain::NodeKeys;
    use crate::proto::log::checkpoint::verify_checkpoint;

    const ORIGIN: &str = "kogge.test/log";

    fn node(number: u8) -> NodeKeys {
        NodeKeys::from_seed([number; 32])
    }

    fn members() -> MemberSet {
        MemberSet::new((1..=4).map(|it| node(it).card(&format!("node-{it}")).member))
    }

    fn head(size: u64) -> Checkpoint {
        Checkpoint {
            origin: ORIGIN.into(),
            size,
            root: Sha256([7; 32]),
        }
    }

    fn message(number: u8, size: u64) -> HeadMessage {
        let head = head(size);
        let signature = HeadSignature::sign(&node(number), &head, WallTime::from_millis(5_000));
        HeadMessage {
            size,
            root: head.root,
            signature,
        }
    }

    fn committed(heads: &mut Heads, size: u64) -> Vec<Effect> {
        let mut out = Vec::new();
        let input = Input::Committed {
            head: head(size),
            members: members(),
        };
        heads.handle(Time::ZERO, input, &mut out);
        out
    }

    fn received(heads: &mut Heads, message: HeadMessage) -> Vec<Effect> {
        let mut out = Vec::new();
        heads.handle(Time::ZERO, Input::Received(message), &mut out);
        out
    }

    #[test]
    fn a_quorum_of_signatures_makes_a_checkpoint() {
        let mut heads = Heads::new(node(1).id());
        assert_eq!(committed(&mut heads, 9), [Effect::Sign(head(9))]);
        assert_eq!(heads.next_deadline(), None);
        let own = message(1, 9);
        let mut out = Vec::new();
        let input = Input::Signed {
            head: head(9),
            signature: own.signature.clone(),
        };
        heads.handle(Time::ZERO, input, &mut out);
        assert_eq!(out, [Effect::Publish(own)]);
        assert_eq!(heads.next_deadline(), Some(Time::ZERO + RECOSIGN_INTERVAL));

        assert_eq!(
            received(&mut heads, message(2, 9)),
            [Effect::Judge(Verdict::Accept)]
        );
        assert_eq!(
            received(&mut heads, message(2, 9)),
            [Effect::Judge(Verdict::Ignore)]
        );
        let [
            Effect::Checkpoint {
                size: 9,
                note,
                signers: 3,
            },
            Effect::Judge(Verdict::Accept),
        ] = &received(&mut heads, message(3, 9))[..]
        else {
            panic!("no checkpoint");
        };
        assert!(verify_checkpoint(note, ORIGIN, &members()).is_ok());
    }

    #[test]
    fn early_signatures_wait_for_the_block() {
        let mut heads = Heads::new(node(9).id());
        assert_eq!(committed(&mut heads, 9), []);
        for number in 1..=3 {
            assert_eq!(
                received(&mut heads, message(number, 12)),
                [Effect::Judge(Verdict::Ignore)]
            );
        }
        assert!(matches!(
            committed(&mut heads, 12)[..],
            [Effect::Checkpoint {
                size: 12,
                signers: 3,
                ..
            }]
        ));
    }

    #[test]
    fn forged_and_contradicting_signatures_are_rejected() {
        let mut heads = Heads::new(node(9).id());
        committed(&mut heads, 9);
        let mut forged = message(2, 9);
        forged.signature.node = node(1).id();
        let mut other_root = message(2, 9);
        other_root.root = Sha256([8; 32]);
        for bad in [forged, other_root, message(8, 9)] {
            assert_eq!(received(&mut heads, bad), [Effect::Judge(Verdict::Reject)]);
        }
        assert_eq!(
            received(&mut heads, message(2, 5)),
            [Effect::Judge(Verdict::Ignore)]
        );
    }
}
