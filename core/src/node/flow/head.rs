//! Signatures on the head become a checkpoint.

use crate::base::{Time, WallTime};
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
        self.heads_effects(effects)
    }

    pub(super) fn heads_effects(&mut self, effects: Vec<heads::Effect>) -> Option<Verdict> {
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
            }
        }
        verdict
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
