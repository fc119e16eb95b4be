//! Changes that wait for the consent of enough admins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::{Blake3, ChainId, NodeId, Signature, Time};
use crate::proto::chain::consent::Consent;
use crate::proto::chain::member::MemberSet;
use crate::proto::log::entry::{AddNode, Entry, Mark, RemoveArtifact, RemoveNode};
use crate::proto::pool::message::{Change, Marks, PoolError, Ready};

/// Most changes. Each member's admin may begin an equal share; what is beyond it is not taken.
pub(crate) const CHANGES_MAX: usize = 256;

/// How long a change waits: admins are people.
pub(crate) const CHANGE_AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How much higher than the last a candidate's proof of readiness has to be to be passed on. Unit:
/// heights.
pub(crate) const READY_STEP: u64 = 100;

/// Most changes that are remembered after they left; consent does not expire by itself.
const DONE_MAX: usize = 1_024;

#[derive(Clone, Debug)]
struct Item {
    /// When it is forgotten.
    until: Time,
    change: Change,
    /// The member whose admin marked it first.
    owner: NodeId,
    marks: BTreeMap<NodeId, Mark>,
    ready: Option<Ready>,
    is_blocked: bool,
}

/// The waiting changes.
#[derive(Debug)]
pub(crate) struct Changes {
    chain: ChainId,
    members: MemberSet,
    items: BTreeMap<Blake3, Item>,
    done: BTreeSet<Blake3>,
    /// Whether the list is another than when [`Changes::take_changed`] was asked last.
    is_changed: bool,
}

impl Item {
    fn is_eligible(&self, quorum: usize) -> bool {
        let is_ready = self.ready.is_some() || self.change.candidate().is_none();
        is_ready && !self.is_blocked && quorum <= self.marks.len()
    }

    /// The entry, if it has all it needs.
    fn entry(&self, quorum: usize) -> Option<Entry> {
        if !self.is_eligible(quorum) {
            return None;
        }
        let marks = self.marks.values().cloned().collect();
        Some(match &self.change {
            Change::AddNode(card) => {
                let ready = self.ready.as_ref()?;
                Entry::AddNode(Box::new(AddNode {
                    card: (**card).clone(),
                    ready_height: ready.height,
                    ready_block: ready.block,
                    ready_signature: ready.signature,
                    marks,
                }))
            }
            Change::RemoveNode { node, reason } => Entry::RemoveNode(RemoveNode {
                node: *node,
                reason: reason.clone(),
                marks,
            }),
            Change::RemoveArtifact { index, reason } => Entry::RemoveArtifact(RemoveArtifact {
                index: *index,
                reason: reason.clone(),
                marks,
            }),
        })
    }

    fn message(&self) -> Marks {
        Marks {
            change: self.change.clone(),
            marks: self.marks.values().cloned().collect(),
            ready: self.ready.clone(),
        }
    }
}

impl Changes {
    pub(crate) fn new(chain: ChainId, members: MemberSet) -> Self {
        Self {
            chain,
            members,
            items: BTreeMap::new(),
            done: BTreeSet::new(),
            is_changed: false,
        }
    }

    /// Whether the list is another than at the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// All changes with what is known of their consent.
    pub(crate) fn list(&self) -> impl Iterator<Item = Marks> {
        self.items.values().map(Item::message)
    }

    /// All changes with their owners, and how much longer they wait.
    pub(crate) fn kept(&self, now: Time) -> impl Iterator<Item = (Marks, NodeId, Duration)> {
        let items = self.items.values();
        items.map(move |it| (it.message(), it.owner, it.until.since(now)))
    }

    pub(crate) fn eligible(&self) -> impl Iterator<Item = Entry> {
        let quorum = self.members.quorum();
        self.items.values().filter_map(move |it| it.entry(quorum))
    }

    pub(crate) fn has_eligible(&self) -> bool {
        let quorum = self.members.quorum();
        self.items.values().any(|it| it.is_eligible(quorum))
    }

    pub(crate) fn is_candidate(&self, node: &NodeId) -> bool {
        let candidates = self.items.values().filter_map(|it| it.change.candidate());
        candidates.into_iter().any(|it| it.node == *node)
    }

    /// Takes marks; true if some of them are news.
    pub(crate) fn take_marks(&mut self, now: Time, message: Marks) -> Result<bool, PoolError> {
        self.take(now, message, None)
    }

    /// Takes a change of the last run, which `owner` began and which waits for `left` more.
    pub(crate) fn restore(&mut self, now: Time, message: Marks, owner: NodeId, left: Duration) {
        // What is left out here is left out in the store, too.
        self.is_changed = true;
        if !left.is_zero() {
            // What no longer stands is left out.
            let _ = self.take(now, message, Some((owner, left)));
        }
    }

    fn take(
        &mut self,
        now: Time,
        message: Marks,
        kept: Option<(NodeId, Duration)>,
    ) -> Result<bool, PoolError> {
        let Marks {
            change,
            marks,
            ready,
        } = message;
        let key = Change::key(&change.consent(), &self.chain);
        if self.done.contains(&key) {
            return Ok(false);
        }
        let known = self.items.get(&key);
        let mut fresh = Vec::new();
        for mark in marks {
            let is_known = known.is_some_and(|it| it.marks.contains_key(&mark.node));
            // A stranger may be a member that this node does not know yet.
            if is_known || self.members.by_node(&mark.node).is_none() {
                continue;
            }
            change
                .consent()
                .verify(&self.chain, &self.members, &mark)
                .map_err(|it| PoolError::Signature(mark.node, it))?;
            fresh.push(mark);
        }
        let Some(first) = known
            .map(|it| it.owner)
            .or_else(|| fresh.first().map(|it| it.node))
        else {
            return Ok(false);
        };
        let (owner, left) = kept.unwrap_or((first, CHANGE_AGE_MAX));
        // Of the last run, it had room when it came; shares may have become smaller since.
        let has_room = match kept {
            Some(_) => self.items.len() < CHANGES_MAX,
            None => self.has_room(&owner),
        };
        if known.is_none() && !has_room {
            return Ok(false);
        }
        let is_news = !fresh.is_empty();
        let item = self.items.entry(key).or_insert(Item {
            until: now + left.min(CHANGE_AGE_MAX),
            change,
            owner,
            marks: BTreeMap::new(),
            ready: None,
            is_blocked: false,
        });
        item.marks.extend(fresh.into_iter().map(|it| (it.node, it)));
        item.is_blocked &= !is_news;
        self.is_changed |= is_news;
        let is_ready = ready.is_some_and(|it| self.take_ready(&it));
        Ok(is_news || is_ready)
    }

    /// Takes a candidate's proof; true if it is news.
    pub(crate) fn take_ready(&mut self, ready: &Ready) -> bool {
        let mut is_news = false;
        for item in self.items.values_mut() {
            let Some(member) = item.change.candidate() else {
                continue;
            };
            let is_higher = item.ready.as_ref().is_none_or(|it| {
                it.height.saturating_add(READY_STEP) <= ready.height
                    && it.signature != ready.signature
            });
            if member.node != ready.node || !is_higher {
                continue;
            }
            // Who passes on the proof may know another card of this node than we do: it is not to
            // blame for a proof that does not fit ours.
            if ready.verify(&self.chain, member).is_err() {
                continue;
            }
            // A candidate repeats its proof: the first one is worth a commit, newer ones are not.
            self.is_changed |= item.ready.is_none();
            item.ready = Some(ready.clone());
            item.is_blocked = false;
            is_news = true;
        }
        is_news
    }

    /// Forgets a change that is in the log, or that the rules will never let in.
    pub(crate) fn finish(&mut self, consent: &Consent<'_>) {
        let key = Change::key(consent, &self.chain);
        self.is_changed |= self.items.remove(&key).is_some();
        if DONE_MAX <= self.done.len() {
            self.done.pop_first();
        }
        self.done.insert(key);
    }

    /// The rules refused a change in this moment; with `is_stale` because of this proof of
    /// readiness, which is forgotten.
    pub(crate) fn block(&mut self, consent: &Consent<'_>, stale: Option<&Signature>) {
        let key = Change::key(consent, &self.chain);
        if let Some(item) = self.items.get_mut(&key) {
            item.is_blocked = true;
            if item.ready.as_ref().map(|it| &it.signature) == stale {
                item.ready = None;
                self.is_changed = true;
            }
        }
    }

    pub(crate) fn unblock(&mut self) {
        for item in self.items.values_mut() {
            item.is_blocked = false;
        }
    }

    pub(crate) fn set_members(&mut self, members: MemberSet) {
        for item in self.items.values_mut() {
            let count = item.marks.len();
            item.marks.retain(|node, _| members.by_node(node).is_some());
            self.is_changed |= item.marks.len() < count;
        }
        self.items.retain(|_, it| !it.marks.is_empty());
        self.members = members;
        self.unblock();
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.items.values().map(|it| it.until).min()
    }

    pub(crate) fn expire(&mut self, now: Time) {
        let count = self.items.len();
        self.items.retain(|_, it| now < it.until);
        self.is_changed |= self.items.len() < count;
    }

    fn has_room(&self, owner: &NodeId) -> bool {
        let begun = self.items.values().filter(|it| it.owner == *owner).count();
        let share = CHANGES_MAX / self.members.len().max(1);
        self.items.len() < CHANGES_MAX && begun < share
    }
}

#[cfg(test)]
mod tests;
