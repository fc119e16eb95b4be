//! From a request to a group of entries that waits for a block.
//!
//! ```text
//! owner or peer: request ─► builds ─► RunBuild ─► result ─► attested group ─► pool ─► eligible
//! ```

use std::fmt::Display;
use std::sync::Arc;

use crate::base::{NodeId, Sha256, Time, WallTime};
use crate::net::{Protocol, Topic};
use crate::node::event::Event;
use crate::node::flow::engine::Engine;
use crate::node::flow::gossip::Gossip;
use crate::node::flow::interface::{Effect, Vault};
use crate::node::flow::recent::Overlay;
use crate::proto::build::{self, BuildId, BuildMessage, Effect as Building, Part, Refusal};
use crate::proto::chain::consent::sign_readiness;
use crate::proto::chain::rules::ENTRIES_MAX;
use crate::proto::chain::{ChainState, Ledger, MemberSet, NodeKeys, Rejected};
use crate::proto::heads::{self, Verdict};
use crate::proto::judgement::Judgement;
use crate::proto::log::entry::Entry;
use crate::proto::pool::{self, Change, Kept, Marks, Pool, PoolMessage, Ready};

impl<V: Vault> Engine<V> {
    pub(super) fn new_pool(keys: &NodeKeys, state: &ChainState, members: &MemberSet) -> Pool {
        Pool::new(*state.chain(), keys.id(), members.clone())
    }

    /// A gossiped message; tells what it was worth.
    pub(super) fn gossip(
        &mut self,
        now: Time,
        wall: WallTime,
        topic: Topic,
        source: NodeId,
        bytes: &[u8],
    ) -> Verdict {
        match Gossip::decode(topic, bytes) {
            Ok(Gossip::Head(message)) => {
                let verdict = self.heads(now, heads::Input::Received(message));
                verdict.unwrap_or(Verdict::Ignore)
            }
            Ok(Gossip::Build(message)) => {
                let input = build::Input::Received {
                    from: source,
                    message,
                };
                self.judged = Verdict::Ignore;
                self.builds(now, wall, input);
                self.judged
            }
            Ok(Gossip::Pool(message)) => {
                self.judged = Verdict::Ignore;
                self.pool(
                    now,
                    wall,
                    pool::Input::Received {
                        from: source,
                        message,
                    },
                );
                self.judged
            }
            Err(error) => {
                tracing::debug!(%source, %error, "unreadable gossip");
                Verdict::Reject
            }
        }
    }

    /// A build message that a peer sent directly.
    ///
    /// Peers tell what is going on when they connect, perhaps because what they gossiped was lost.
    /// News is passed on, so that it also reaches those who have no link to that peer.
    pub(super) fn build_message(&mut self, now: Time, wall: WallTime, peer: NodeId, bytes: &[u8]) {
        match BuildMessage::from_bytes(bytes) {
            Ok(message) => {
                self.judged = Verdict::Ignore;
                let input = build::Input::Received {
                    from: peer,
                    message: message.clone(),
                };
                self.builds(now, wall, input);
                if self.judged == Verdict::Accept {
                    self.publish(&Gossip::Build(message));
                }
            }
            Err(error) => self.fault(now, peer, format!("build message: {error}")),
        }
    }

    /// Keeps what a message was worth for whoever gave it to a machine, and blames who forged it.
    fn judge<E: Display>(&mut self, now: Time, peer: NodeId, what: &str, judgement: Judgement<E>) {
        self.judged = match judgement {
            Judgement::Accept => Verdict::Accept,
            Judgement::Ignore => Verdict::Ignore,
            Judgement::Reject(error) => {
                self.fault(now, peer, format!("{what}: {error}"));
                Verdict::Reject
            }
        };
    }

    /// Returns why the owner's request was refused, if `input` is one and it was.
    pub(super) fn builds(
        &mut self,
        now: Time,
        wall: WallTime,
        input: build::Input,
    ) -> Option<Refusal> {
        let mut effects = Vec::new();
        self.builds.handle(now, wall, input, &mut effects);
        self.builds_effects(now, wall, effects)
    }

    pub(super) fn builds_effects(
        &mut self,
        now: Time,
        wall: WallTime,
        effects: Vec<Building>,
    ) -> Option<Refusal> {
        let mut refusal = None;
        for effect in effects {
            match effect {
                Building::Broadcast(message) => self.publish(&Gossip::Build(message)),
                Building::SendTo(peer, message) => {
                    self.send(peer, Protocol::Build, message.to_bytes());
                }
                Building::Run { id, run, spec } => {
                    self.out.push(Effect::RunBuild { id, run, spec });
                }
                Building::Cancel { id, run } => self.out.push(Effect::CancelBuild { id, run }),
                Building::Attest { id, groups } => self.attest(now, wall, id, groups),
                Building::LookUp { id, purl, digest } => {
                    self.look_up(now, wall, id, &purl, digest);
                }
                Building::Changed(status) => {
                    self.out.push(Effect::Event(Event::Build { id: status.id }));
                    self.out.push(Effect::BuildChanged(status));
                }
                Building::Refused(_, it) => refusal = Some(it),
                Building::Judge(peer, judgement) => {
                    self.judge(now, peer, "build message", judgement);
                }
            }
        }
        refusal
    }

    /// Gives the groups of a result to the pool; what the log holds already is reported instead.
    fn attest(&mut self, now: Time, wall: WallTime, id: BuildId, groups: Vec<Vec<Entry>>) {
        let is_tag = |it: &Vec<Entry>| matches!(it.first(), Some(Entry::BindTag(_)));
        let main = groups.iter().filter(|it| !is_tag(it)).count();
        for (at, group) in groups.into_iter().enumerate() {
            match self.logged(&group) {
                // A part that others need, too, or a block that is not durable yet: the machine
                // hears of it when it is.
                Some((Part::Package, _)) if at + 1 < main => (),
                Some((_, None)) => (),
                Some((part, Some(index))) => {
                    self.builds(now, wall, build::Input::Logged { id, part, index });
                }
                None => self.pool(now, wall, pool::Input::Submit(group)),
            }
        }
    }

    /// Whether a group is in the log, and at which index if that is durable.
    fn logged(&self, group: &[Entry]) -> Option<(Part, Option<u64>)> {
        let overlay = Overlay {
            vault: &self.vault,
            recent: &self.recent,
        };
        match group.first()? {
            Entry::AddArtifact(file) => {
                overlay.package(&file.purl)?;
                Some((Part::Package, self.vault.package_index(&file.purl)))
            }
            Entry::BindTag(tag) => {
                let name = (&*tag.registry, &*tag.repository, &*tag.tag);
                let bound = overlay.tag(name.0, name.1, name.2)?;
                let index = self.vault.tag_index(name.0, name.1, name.2);
                (bound.digest == tag.digest).then_some((Part::Tag, index))
            }
            _ => None,
        }
    }

    fn look_up(
        &mut self,
        now: Time,
        wall: WallTime,
        id: BuildId,
        purl: &str,
        digest: Option<Sha256>,
    ) {
        if let Some(index) = self.vault.package_index(purl) {
            let part = Part::Package;
            self.builds(now, wall, build::Input::Logged { id, part, index });
        }
        if digest.is_none() {
            return;
        }
        let tag = self.builds.status(&id).and_then(|it| match it.spec {
            build::BuildSpec::Docker(it) => Some(it),
            build::BuildSpec::Maven(_) => None,
        });
        let Some((tag, build::Reference::Tag(name))) =
            tag.as_ref().map(|it| (it, it.reference().clone()))
        else {
            return;
        };
        let image = tag.name();
        let (registry, repository) = (image.registry(), image.repository());
        let bound = self
            .vault
            .tag(registry, repository, &name)
            .map(|it| it.digest);
        if bound == digest
            && let Some(index) = self.vault.tag_index(registry, repository, &name)
        {
            let part = Part::Tag;
            self.builds(now, wall, build::Input::Logged { id, part, index });
        }
    }

    /// A pool message that a peer sent directly.
    pub(super) fn pool_message(&mut self, now: Time, wall: WallTime, peer: NodeId, bytes: &[u8]) {
        match PoolMessage::from_bytes(bytes) {
            Ok(message) => self.pool(
                now,
                wall,
                pool::Input::Received {
                    from: peer,
                    message,
                },
            ),
            Err(error) => self.fault(now, peer, format!("pool message: {error}")),
        }
    }

    pub(super) fn pool_connected(&mut self, now: Time, wall: WallTime, peer: NodeId) {
        self.pool(now, wall, pool::Input::Connected(peer));
    }

    pub(super) fn pool_disconnected(&mut self, now: Time, wall: WallTime, peer: NodeId) {
        self.pool(now, wall, pool::Input::Disconnected(peer));
    }

    pub(super) fn pool_members(&mut self, now: Time, wall: WallTime, members: MemberSet) {
        self.pool(now, wall, pool::Input::MembersChanged(members));
    }

    pub(super) fn pool_committed(&mut self, now: Time, wall: WallTime, entries: &Arc<[Entry]>) {
        self.pool(now, wall, pool::Input::Committed(entries.clone()));
    }

    pub(super) fn expire_pool(&mut self, now: Time, wall: WallTime) {
        if self.pool.next_deadline().is_some_and(|at| at <= now) {
            let mut effects = Vec::new();
            self.pool.expire(now, &mut effects);
            self.pool_effects(now, wall, effects);
        }
        self.offer_readiness(now, wall);
    }

    /// What a block may hold.
    pub(super) fn eligible(&self) -> Vec<Vec<Entry>> {
        let bytes_max = usize::try_from(self.chain.params().block_bytes_max).unwrap_or(usize::MAX);
        self.pool.eligible(bytes_max, ENTRIES_MAX)
    }

    pub(super) fn drop_group(&mut self, now: Time, wall: WallTime, rejected: Rejected) {
        self.pool(now, wall, pool::Input::Rejected(rejected));
    }

    /// Takes a group in the form of a block: entries, then attestations.
    ///
    /// # Errors
    ///
    /// Why the pool does not take it.
    pub fn offer(&mut self, now: Time, wall: WallTime, group: Vec<Entry>) -> Result<(), String> {
        self.refused = None;
        self.pool(now, wall, pool::Input::Submit(group));
        self.refused.take().map_or(Ok(()), |it| Err(it.to_string()))
    }

    /// The owner of this authorized node consents to a change.
    ///
    /// # Errors
    ///
    /// Why the pool does not take the mark.
    pub fn mark(&mut self, now: Time, wall: WallTime, change: Change) -> Result<(), String> {
        let mark = change
            .consent()
            .mark(self.chain.chain(), self.me, &self.keys.admin);
        self.refused = None;
        self.pool(now, wall, pool::Input::Mark(change, mark));
        self.refused.take().map_or(Ok(()), |it| Err(it.to_string()))
    }

    /// The changes that wait for consent.
    pub fn changes(&self) -> impl Iterator<Item = Marks> {
        self.pool.changes()
    }

    /// A candidate tells that it follows the log, once for each height.
    fn offer_readiness(&mut self, now: Time, wall: WallTime) {
        let (height, block) = self.durable_tip();
        if self.is_member(&self.me)
            || !self.pool.is_candidate(&self.me)
            || self.ready == Some(height)
        {
            return;
        }
        self.ready = Some(height);
        let signature = sign_readiness(self.chain.chain(), height, &block, &self.keys.vote);
        let ready = Ready {
            node: self.me,
            height,
            block,
            signature,
        };
        self.pool(now, wall, pool::Input::Ready(ready));
    }

    /// Changes that waited for consent in the last run. They are stored again as one list: a list
    /// of the first few would take the place of all.
    pub(super) fn pool_restored(&mut self, now: Time, wall: WallTime, changes: Vec<Kept>) {
        let mut effects = Vec::new();
        for kept in changes {
            let left = kept.left(wall, self.chain.time());
            let Kept { marks, owner, .. } = kept;
            let input = pool::Input::Restored { marks, owner, left };
            self.pool.handle(now, input, &mut effects);
        }
        self.pool_effects(now, wall, effects);
    }

    fn pool(&mut self, now: Time, wall: WallTime, input: pool::Input) {
        let mut effects = Vec::new();
        self.pool.handle(now, input, &mut effects);
        self.pool_effects(now, wall, effects);
    }

    fn pool_effects(&mut self, now: Time, wall: WallTime, effects: Vec<pool::Effect>) {
        // Before anybody hears of it.
        if self.pool.take_changed() {
            let changes = self.pool.kept(now, wall).collect();
            self.out.push(Effect::SaveChanges(changes));
        }
        for effect in effects {
            match effect {
                pool::Effect::Gossip(message) => self.publish(&Gossip::Pool(message)),
                pool::Effect::SendTo(peer, message) => {
                    self.send(peer, Protocol::Pool, message.to_bytes());
                }
                pool::Effect::Judge(peer, judgement) => {
                    self.judge(now, peer, "pool message", judgement);
                }
                pool::Effect::Refused(error) => {
                    tracing::debug!(%error, "a submission was not taken");
                    self.refused = Some(error);
                }
                pool::Effect::Eligible => {
                    self.propose(now, wall);
                    self.start_height(now, wall);
                }
            }
        }
    }
}
