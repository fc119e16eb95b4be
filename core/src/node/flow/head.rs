//! Signatures on the head become a checkpoint.

use crate::base::{NodeId, Time, WallTime};
use crate::net::Protocol;
use crate::node::flow::engine::Engine;
use crate::node::flow::gossip::Gossip;
use crate::node::flow::interface::{Effect, Vault};
use crate::proto::heads::{self, Verdict};
use crate::proto::log::checkpoint::Checkpoint;
use crate::proto::log::cosign::HeadSignature;

impl<V: Vault> Engine<V> {
    /// Returns the verdict if `input` was a received message.
    pub(super) fn heads(&mut self, now: Time, input: heads::Input) -> Option<Verdict> {
        let mut effects = Vec::new();
        self.heads.handle(now, input, &mut effects);
        self.heads_effects(now, effects)
    }

    pub(super) fn heads_effects(
        &mut self,
        now: Time,
        effects: Vec<heads::Effect>,
    ) -> Option<Verdict> {
        let mut verdict = None;
        for effect in effects {
            match effect {
                heads::Effect::Sign(head) => self.out.push(Effect::PersistHead(head)),
                heads::Effect::Publish(message) => self.publish(&Gossip::Head(message)),
                heads::Effect::Checkpoint {
                    size,
                    note,
                    signers,
                } => {
                    self.out.push(Effect::KeepCheckpoint {
                        size,
                        note,
                        signers,
                    });
                }
                heads::Effect::Judge(it) => verdict = Some(it),
                heads::Effect::Send { peer, message } => {
                    self.send(peer, Protocol::Heads, message.to_bytes());
                }
                heads::Effect::Blame { node, fault } => self.fault(now, node, fault.to_string()),
            }
        }
        verdict
    }

    /// A peer asks for signatures, or answers.
    pub(super) fn heads_message(&mut self, now: Time, peer: NodeId, bytes: &[u8]) {
        match heads::Message::from_bytes(bytes) {
            Ok(message) => {
                self.heads(now, heads::Input::Told { peer, message });
            }
            Err(error) => self.fault(now, peer, format!("heads message: {error}")),
        }
    }

    /// Our highest signed head is durable: only now may the signature exist.
    pub(super) fn head_persisted(&mut self, now: Time, wall: WallTime, head: Checkpoint) {
        let signature = HeadSignature::sign(&self.keys, &head, wall);
        self.heads(now, heads::Input::Signed { head, signature });
    }

    pub(super) fn publish(&mut self, message: &Gossip) {
        let (topic, bytes) = message.encode();
        self.out.push(Effect::Publish { topic, bytes });
    }
}
