//! Agreement among authorized nodes, and when it runs.
//!
//! There are no empty blocks: a height starts when entries are eligible, or when another member
//! has started it. Under load heights keep the interval of the genesis.

use crate::base::{NodeId, PublicKey, Time, WallTime};
use crate::net::Protocol;
use crate::node::flow::engine::{Engine, describe};
use crate::node::flow::interface::{Effect, Vault};
use crate::node::flow::recent::Overlay;
use crate::proto::chain::block::Block;
use crate::proto::chain::{ChainState, CheckedBlock, NodeKeys, Rejected, RuleError, build, check};
use crate::proto::consensus::{Config, Consensus, Effect as Agreed, Input, Message};
use crate::proto::log::entry::{Attest, Entry};
use crate::proto::pool::Pool;

/// What a block is checked against, or built on.
pub(super) struct Rules<'a, V> {
    chain: &'a ChainState,
    overlay: Overlay<'a, V>,
    pool: &'a Pool,
}

impl<V: Vault> Rules<'_, V> {
    /// Checks a block with a certificate. A quorum checked the attestations before it voted, some
    /// honest node among them, so their signatures are not checked once more: it would make
    /// catching up several times slower. Everything else is, the consent to changes of the
    /// authorized nodes included.
    pub(super) fn check_decided(&self, block: &Block) -> Result<CheckedBlock, RuleError> {
        check(self.chain, &self.overlay, block, None, &mut |_| true)
    }

    /// Whether this node votes for a proposed block.
    fn judge(&self, block: &Block, now: WallTime) -> bool {
        let mut is_verified = |it: &Attest| self.pool.is_verified(it);
        let verdict = check(
            self.chain,
            &self.overlay,
            block,
            Some(now),
            &mut is_verified,
        );
        if let Err(error) = &verdict {
            tracing::warn!(height = block.height(), %error, "refused a proposed block");
        }
        verdict.is_ok()
    }

    fn build(&self, now: WallTime, groups: Vec<Vec<Entry>>) -> (Option<Block>, Vec<Rejected>) {
        let mut is_verified = |it: &Attest| self.pool.is_verified(it);
        build(self.chain, &self.overlay, now, groups, &mut is_verified)
    }
}

impl<V: Vault> Engine<V> {
    /// What the next block is checked against.
    pub(super) fn rules(&self) -> Rules<'_, V> {
        Rules {
            chain: &self.chain,
            overlay: Overlay {
                vault: &self.vault,
                recent: &self.recent,
            },
            pool: &self.pool,
        }
    }

    /// Agreement asks for a judgement of blocks while it runs.
    fn consensus_and_rules(&mut self) -> (&mut Consensus, Rules<'_, V>) {
        let Self {
            consensus,
            chain,
            vault,
            recent,
            pool,
            ..
        } = self;
        let overlay = Overlay { vault, recent };
        let rules = Rules {
            chain,
            overlay,
            pool,
        };
        (consensus, rules)
    }

    pub(super) fn new_consensus(keys: &NodeKeys, state: &ChainState) -> Consensus {
        let (chain, params) = (*state.chain(), *state.params());
        Consensus::new(
            &Config {
                chain,
                params,
                vote: keys.vote.clone(),
            },
            state.height(),
        )
    }

    /// A message of a member; anybody else has no business with this protocol.
    pub(super) fn agreement_message(
        &mut self,
        now: Time,
        wall: WallTime,
        peer: NodeId,
        bytes: &[u8],
    ) {
        let Some(member) = self.chain.members().by_node(&peer) else {
            return; // Perhaps it is one since a block that we do not have yet.
        };
        let from = member.vote;
        match Message::from_bytes(bytes) {
            Ok(message) => {
                self.agreement(now, wall, Input::Message { from, message });
                self.start_height(now, wall);
            }
            Err(error) => self.fault(now, peer, format!("consensus message: {error}")),
        }
    }

    /// Proposals are not repeated: a member that connects gets ours of the running height.
    pub(super) fn agreement_connected(&mut self, peer: NodeId) {
        if let Some(member) = self.chain.members().by_node(&peer) {
            let mut effects = Vec::new();
            self.consensus.resend(member.vote, &mut effects);
            // These are sends of what was durable before: nothing else can follow from them.
            for effect in effects {
                if let Agreed::SendTo(to, message) = effect {
                    self.send_to_member(&to, &message);
                }
            }
        }
    }

    pub(super) fn agreement(&mut self, now: Time, wall: WallTime, input: Input) {
        let mut effects = Vec::new();
        let (consensus, rules) = self.consensus_and_rules();
        let mut judge = |block: &Block| rules.judge(block, wall);
        consensus.handle(now, input, &mut judge, &mut effects);
        self.agreement_effects(now, wall, effects);
    }

    pub(super) fn expire_agreement(&mut self, now: Time, wall: WallTime) {
        if self.consensus.next_deadline().is_some_and(|at| at <= now) {
            let mut effects = Vec::new();
            self.consensus.expire(now, &mut effects);
            self.agreement_effects(now, wall, effects);
        }
    }

    /// The chain reached `height`, by whatever way.
    pub(super) fn agreement_applied(&mut self, height: u64) {
        self.consensus.follow(height);
        if self.deciding.is_some_and(|it| it <= height) {
            self.deciding = None;
        }
    }

    /// Whether entries wait for a block.
    pub(super) fn has_work(&self) -> bool {
        self.pool.has_eligible()
    }

    /// When the next height may start, if it waits for nothing but time.
    pub(super) fn next_height_at(&self) -> Option<Time> {
        (self.may_decide() && self.has_work()).then_some(self.quiet_until)
    }

    fn may_decide(&self) -> bool {
        self.deciding.is_none() && self.recent.is_empty() && self.is_member(&self.me)
    }

    /// Starts the next height if there is work for it.
    pub(super) fn start_height(&mut self, now: Time, wall: WallTime) {
        let height = self.chain.height() + 1;
        let is_due = self.has_work() && self.quiet_until <= now;
        let wal = std::mem::take(&mut self.wal);
        if !self.may_decide() {
            self.wal = wal;
            return;
        }
        if wal.is_empty() && !is_due && !self.consensus.has_input_for_next() {
            return;
        }
        self.deciding = Some(height);
        self.quiet_until = now + self.chain.params().block_interval_min();
        if wal.is_empty() {
            self.out.push(Effect::ResetWal(height));
        }
        let mut effects = Vec::new();
        let (consensus, rules) = self.consensus_and_rules();
        let members = rules.chain.members();
        let mut judge = |block: &Block| rules.judge(block, wall);
        consensus.start(now, height, members, &wal, &mut judge, &mut effects);
        self.agreement_effects(now, wall, effects);
    }

    fn agreement_effects(&mut self, now: Time, wall: WallTime, effects: Vec<Agreed>) {
        for effect in effects {
            match effect {
                Agreed::NeedBlock { height, round } => {
                    self.needed = Some((height, round));
                    self.propose(now, wall);
                }
                Agreed::Persist(record) => self.out.push(Effect::Wal(record)),
                Agreed::Send(message) => {
                    let others = self.chain.members().iter().filter(|it| it.node != self.me);
                    let others: Vec<NodeId> = others.map(|it| it.node).collect();
                    let bytes = message.to_bytes();
                    for peer in others
                        .into_iter()
                        .filter(|it| self.admitted.contains_key(it))
                    {
                        self.out.push(Effect::Send {
                            peer,
                            protocol: Protocol::Consensus,
                            bytes: bytes.clone(),
                        });
                    }
                }
                Agreed::SendTo(to, message) => self.send_to_member(&to, &message),
                Agreed::Decide { block, certificate } => match self.rules().check_decided(&block) {
                    Ok(checked) => self.apply(now, wall, checked, certificate),
                    Err(error) => self.out.push(Effect::Fatal(format!(
                        "the authorized nodes decided block {}, which breaks a rule: {error}",
                        block.height()
                    ))),
                },
                Agreed::Blame { member, fault } => {
                    if let Some(member) = self.chain.members().by_vote(&member) {
                        let (peer, reason) = (member.node, format!("agreement: {fault:?}"));
                        self.fault(now, peer, reason);
                    }
                }
                Agreed::Fatal(reason) => self.out.push(Effect::Fatal(reason)),
            }
        }
    }

    /// Answers the last question for a block, now or when there is work.
    pub(super) fn propose(&mut self, now: Time, wall: WallTime) {
        let Some((height, round)) = self.needed else {
            return;
        };
        if self.deciding != Some(height) {
            self.needed = None;
            return;
        }
        if let Some(block) = self.build_block(now, wall) {
            self.needed = None;
            self.agreement(
                now,
                wall,
                Input::Block {
                    height,
                    round,
                    block,
                },
            );
        }
    }

    fn send_to_member(&mut self, vote: &PublicKey, message: &Message) {
        if let Some(member) = self.chain.members().by_vote(vote) {
            let peer = member.node;
            self.send(peer, Protocol::Consensus, message.to_bytes());
        }
    }

    /// The block that we propose, if anything is eligible.
    fn build_block(&mut self, now: Time, wall: WallTime) -> Option<Block> {
        let (block, rejected) = self.rules().build(wall, self.eligible());
        for it in rejected {
            tracing::info!(what = describe(&it.group), error = %it.error, "left out of the block");
            self.drop_group(now, wall, it);
        }
        block
    }
}
