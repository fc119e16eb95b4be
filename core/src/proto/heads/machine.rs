//! Gathers signatures on the newest head; asks for our own when it is due.

use std::time::Duration;

use crate::base::{NodeId, Time};
use crate::proto::chain::MemberSet;
use crate::proto::heads::ask::Asking;
use crate::proto::heads::early::Early;
use crate::proto::heads::message::{HeadMessage, Message};
use crate::proto::log::checkpoint::Checkpoint;
use crate::proto::log::cosign::{HeadSignature, SignedHead};

/// An idle log's head is cosigned again this often, as proof of freshness.
pub const RECOSIGN_INTERVAL: Duration = Duration::from_secs(60);

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
    /// A signature was gossiped; answered by [`Effect::Judge`].
    Received(HeadMessage),
    /// A peer was admitted.
    Joined(NodeId),
    /// An admitted peer is gone.
    Left(NodeId),
    /// A peer tells us something directly.
    Told {
        /// Who.
        peer: NodeId,
        /// What.
        message: Message,
    },
}

/// What to tell the gossip layer about a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Good: pass it on.
    Accept,
    /// Old, known, or not to be judged here: do not pass it on; not the sender's fault.
    Ignore,
    /// Wrong on purpose: do not pass it on, and remember who sent it.
    Reject,
}

/// What an honest node never does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// A member signed a head that is none of the log, or two of one size.
    #[error("it signed another head of size {size}")]
    Contradiction {
        /// Leaves of the head.
        size: u64,
    },
    /// A peer answered with a signature that does not stand.
    #[error("it answered with a head signature that does not stand")]
    Forged,
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
    /// Tell a peer.
    Send {
        /// To whom.
        peer: NodeId,
        /// What.
        message: Message,
    },
    /// A node is provably at fault.
    Blame {
        /// Who; not always a peer.
        node: NodeId,
        /// What it did.
        fault: Fault,
    },
}

/// The newest head and the signatures on it.
#[derive(Debug)]
pub struct Heads {
    me: NodeId,
    origin: String,
    /// Those who sign the newest head.
    members: MemberSet,
    /// `None` before the first block.
    current: Option<SignedHead>,
    /// Whether the signatures at hand were looked at as a whole.
    is_reported: bool,
    /// When our signature is due, if we are a member.
    due: Option<Time>,
    /// A [`Effect::Sign`] is under way.
    is_signing: bool,
    early: Early,
    asking: Asking,
}

impl Heads {
    /// Nothing gathered yet of the log `origin`, whose heads `members` sign until we are told of
    /// others; `me` signs if it is a member.
    pub fn new(me: NodeId, origin: String, members: MemberSet) -> Self {
        Self {
            me,
            origin,
            members,
            current: None,
            is_reported: true,
            due: None,
            is_signing: false,
            early: Early::default(),
            asking: Asking::new(),
        }
    }

    /// Applies one input.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Committed { head, members } => self.committed(now, head, members, out),
            Input::Signed { head, signature } => self.signed(&head, signature, out),
            Input::Received(message) => {
                let verdict = self.received(message, out);
                self.report(out);
                out.push(Effect::Judge(verdict));
            }
            Input::Joined(peer) => self.asking.joined(now, peer),
            Input::Left(peer) => self.asking.left(&peer),
            Input::Told { peer, message } => self.told(peer, message, out),
        }
    }

    /// When [`Self::expire`] should be called next.
    pub fn next_deadline(&self) -> Option<Time> {
        let sign = self.due.filter(|_| !self.is_signing);
        sign.into_iter().chain(self.asking.next_deadline()).min()
    }

    /// Asks for our signature, and peers for theirs, if it is time.
    pub fn expire(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Some(current) = &self.current else {
            return;
        };
        if self.due.is_some_and(|it| it <= now) && !self.is_signing {
            self.is_signing = true;
            self.due = Some(now + RECOSIGN_INTERVAL);
            out.push(Effect::Sign(current.head().clone()));
        }
        if let Some(peer) = self.asking.next(now) {
            let size = current.head().size;
            let message = Message::Get { size };
            out.push(Effect::Send { peer, message });
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
        self.members = members.clone();
        let early = self.early.reach(&head, &members);
        self.current = Some(SignedHead::new(head, members));
        self.asking.want(now);
        for message in early {
            self.gather(message, out);
        }
        self.report(out);
        self.expire(now, out);
    }

    fn signed(&mut self, head: &Checkpoint, signature: HeadSignature, out: &mut Vec<Effect>) {
        self.is_signing = false;
        let Some(current) = self.current.as_mut().filter(|it| it.head() == head) else {
            return; // The log grew meanwhile; the next signature is due already.
        };
        if current.add(signature.clone()) == Ok(true) {
            self.is_reported = false;
            let (size, root) = (head.size, head.root);
            out.push(Effect::Publish(HeadMessage {
                size,
                root,
                signature,
            }));
            self.report(out);
        }
    }

    fn received(&mut self, message: HeadMessage, out: &mut Vec<Effect>) -> Verdict {
        let reached = self.current.as_ref().map_or(0, |it| it.head().size);
        if message.size <= reached {
            return self.gather(message, out);
        }
        let node = message.signature.node;
        let taken = self
            .early
            .take(&self.origin, &self.members, reached, message);
        taken.unwrap_or_else(|fault| {
            out.push(Effect::Blame { node, fault });
            Verdict::Ignore
        })
    }

    /// Adds a signature to those on the newest head, if it is for that one.
    ///
    /// Whoever is behind passes on what it cannot judge yet. So only a signature that never stood
    /// is the sender's fault; a former member, or one that contradicts the log, misled it.
    fn gather(&mut self, message: HeadMessage, out: &mut Vec<Effect>) -> Verdict {
        let node = message.signature.node;
        let current = self.current.as_mut();
        let current = current.filter(|it| it.head().size == message.size);
        let (Some(current), Some(member)) = (current, self.members.by_node(&node)) else {
            return Verdict::Ignore;
        };
        if current.head().root == message.root {
            return match current.add(message.signature) {
                Ok(true) => {
                    self.is_reported = false;
                    Verdict::Accept
                }
                Ok(false) => Verdict::Ignore,
                Err(_) => Verdict::Reject,
            };
        }
        if message.verify(&self.origin, member).is_err() {
            return Verdict::Reject;
        }
        let fault = Fault::Contradiction { size: message.size };
        out.push(Effect::Blame { node, fault });
        Verdict::Ignore
    }

    fn told(&mut self, peer: NodeId, message: Message, out: &mut Vec<Effect>) {
        match message {
            Message::Get { size } => {
                let Some(current) = self.current.as_ref().filter(|it| size <= it.head().size)
                else {
                    return;
                };
                let message = Message::Signatures {
                    size: current.head().size,
                    root: current.head().root,
                    signatures: current.signatures().cloned().collect(),
                };
                out.push(Effect::Send { peer, message });
            }
            Message::Signatures {
                size,
                root,
                signatures,
            } if self.asking.answered(&peer) => {
                for signature in signatures {
                    let message = HeadMessage {
                        size,
                        root,
                        signature,
                    };
                    if self.received(message, out) == Verdict::Reject {
                        let (node, fault) = (peer, Fault::Forged);
                        out.push(Effect::Blame { node, fault });
                        break;
                    }
                }
                self.report(out);
            }
            // Nobody asked, or not any more.
            Message::Signatures { .. } => (),
        }
    }

    /// Hands out the checkpoint if a quorum has signed, and again whenever it gets fresher.
    fn report(&mut self, out: &mut Vec<Effect>) {
        let Some(current) = self.current.as_ref().filter(|_| !self.is_reported) else {
            return;
        };
        self.is_reported = true;
        if let Some(note) = current.portable_note() {
            self.asking.satisfied();
            let (size, signers) = (current.head().size, current.signatures().count());
            out.push(Effect::Checkpoint {
                size,
                note,
                signers,
            });
        }
    }
}
