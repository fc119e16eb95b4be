//! The waiting groups, with the indexes that keep every question cheap.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::base::{ChainId, NodeId, Subject, Time};
use crate::proto::chain::consent::verify_publication;
use crate::proto::chain::member::MemberSet;
use crate::proto::log::entry::{Attest, Entry};
use crate::proto::pool::asks::Ask;
use crate::proto::pool::group::{Group, Rank};
use crate::proto::pool::message::{Have, PoolError, Signers};

/// Most groups. Each member may have an equal share of those that no quorum attests yet, so that
/// one cannot crowd out the others; what is beyond it is not taken.
pub(crate) const GROUPS_MAX: usize = 4_096;

/// Most bytes of entries, shared alike. Unit: bytes.
pub(crate) const BYTES_MAX: usize = 64 << 20;

/// How long a group waits for a block.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(3_600);

/// Most groups that are remembered after they left, so that late messages do not bring them back.
const DONE_MAX: usize = 8_192;

/// How long they are remembered: a tag may be bound to the same digest again later.
const DONE_AGE: Duration = Duration::from_secs(600);

/// How often a variant of a group with a lower rank replaces the one at hand.
const VARIANTS_MAX: u8 = 8;

/// What a message brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    /// Entries that were missing.
    Entries,
    /// Only attestations that were missing.
    Attests,
    /// Nothing: known, late, from strangers, or beyond a limit.
    Nothing,
}

/// A group, as far as it is known.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Order of arrival.
    arrived: u64,
    since: Time,
    /// The member that pays for it: the first whose attestation came.
    pub(crate) owner: NodeId,
    pub(crate) attests: BTreeMap<NodeId, Attest>,
    body: Option<Body>,
    variants: u8,
    /// The rules refused it, until the next block or attestation.
    is_blocked: bool,
    pub(crate) ask: Option<Ask>,
}

#[derive(Clone, Debug)]
pub(crate) struct Body {
    heads: Vec<Entry>,
    rank: Rank,
    bytes_len: usize,
}

/// How much of its share a member uses.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    groups: usize,
    bytes: usize,
}

/// The waiting groups.
#[derive(Debug)]
pub(crate) struct Groups {
    chain: ChainId,
    pub(crate) node: NodeId,
    members: MemberSet,
    pub(crate) items: BTreeMap<Subject, Item>,
    arrivals: u64,
    bytes: usize,
    order: BTreeMap<u64, Subject>,
    eligible: BTreeSet<u64>,
    /// Groups with a quorum, with or without their entries.
    agreed: BTreeSet<u64>,
    pub(crate) asks: BTreeSet<(Time, Subject)>,
    usage: BTreeMap<NodeId, Usage>,
    done: BTreeMap<Subject, Time>,
    done_order: VecDeque<(Time, Subject)>,
}

impl Item {
    fn bytes_len(&self) -> usize {
        self.body.as_ref().map_or(0, |it| it.bytes_len)
    }
}

impl Groups {
    pub(crate) fn new(chain: ChainId, node: NodeId, members: MemberSet) -> Self {
        Self {
            chain,
            node,
            members,
            items: BTreeMap::new(),
            arrivals: 0,
            bytes: 0,
            order: BTreeMap::new(),
            eligible: BTreeSet::new(),
            agreed: BTreeSet::new(),
            asks: BTreeSet::new(),
            usage: BTreeMap::new(),
            done: BTreeMap::new(),
            done_order: VecDeque::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn has_eligible(&self) -> bool {
        !self.eligible.is_empty()
    }

    pub(crate) fn knows_quorum(&self) -> bool {
        !self.agreed.is_empty()
    }

    pub(crate) fn is_verified(&self, attest: &Attest) -> bool {
        let known = self.items.get(&attest.subject);
        known.and_then(|it| it.attests.get(&attest.node)) == Some(attest)
    }

    /// Groups with a quorum and entries, in the order of arrival.
    pub(crate) fn eligible(&self) -> impl Iterator<Item = Vec<Entry>> {
        let subjects = self.eligible.iter().filter_map(|it| self.order.get(it));
        subjects.filter_map(|it| self.entries(it))
    }

    /// The entries of a group in the form of a block; `None` if they are missing.
    fn entries(&self, subject: &Subject) -> Option<Vec<Entry>> {
        let item = self.items.get(subject)?;
        let attests = item.attests.values().cloned().map(Entry::Attest);
        Some(
            item.body
                .as_ref()?
                .heads
                .iter()
                .cloned()
                .chain(attests)
                .collect(),
        )
    }

    /// A group to send, and its length in bytes.
    pub(crate) fn group(&self, subject: &Subject) -> Option<Group> {
        Group::new(self.entries(subject)?).ok()
    }

    pub(crate) fn attests(&self, subject: &Subject) -> impl Iterator<Item = &Attest> {
        self.items
            .get(subject)
            .into_iter()
            .flat_map(|it| it.attests.values())
    }

    /// What this node has, in the order of arrival.
    pub(crate) fn have(&self) -> impl Iterator<Item = Have> {
        let items = self.order.values();
        items.filter_map(|subject| {
            let item = self.items.get(subject)?;
            Some(Have {
                subject: *subject,
                is_whole: item.body.is_some(),
                signers: Signers::of(item.attests.keys()),
            })
        })
    }

    /// Takes attestations that a peer sent.
    pub(crate) fn take_attests(
        &mut self,
        now: Time,
        attests: Vec<Attest>,
    ) -> Result<Taken, PoolError> {
        let mut taken = Taken::Nothing;
        for attest in attests {
            let (subject, node) = (attest.subject, attest.node);
            let known = self
                .items
                .get(&subject)
                .map(|it| it.attests.contains_key(&node));
            let is_stranger = self.members.by_node(&node).is_none();
            if known == Some(true) || is_stranger || self.done.contains_key(&subject) {
                continue;
            }
            if known.is_none() && !self.has_room(&node, 1, 0) {
                continue;
            }
            self.verify(&attest)?;
            self.edit(now, attest.subject, node, |item| {
                item.attests.insert(node, attest);
                item.is_blocked = false;
            });
            taken = Taken::Attests;
        }
        Ok(taken)
    }

    /// Takes a group of this node or of a peer.
    pub(crate) fn take_group(&mut self, now: Time, group: Group) -> Result<Taken, PoolError> {
        let (subject, builder, rank) = (*group.subject(), *group.builder(), group.rank());
        if self.done.contains_key(&subject) || self.members.by_node(&builder).is_none() {
            return Ok(Taken::Nothing);
        }
        let item = self.items.get(&subject);
        let body = item.and_then(|it| Some((it.body.as_ref()?.rank, it.variants)));
        let is_wanted = body.is_none_or(|(known, count)| rank < known && count < VARIANTS_MAX);
        let is_new = |it: &&Attest| {
            let known = item.and_then(|item| item.attests.get(&it.node));
            let is_replaced = is_wanted && it.node == builder && known != Some(it);
            (known.is_none() || is_replaced) && self.members.by_node(&it.node).is_some()
        };
        let fresh: Vec<Attest> = group.attests().iter().filter(is_new).cloned().collect();
        if !is_wanted && fresh.is_empty() {
            return Ok(Taken::Nothing);
        }
        let owner = item.map_or(builder, |it| it.owner);
        let bytes = group
            .heads()
            .iter()
            .map(|it| it.to_bytes().len())
            .sum::<usize>();
        let more = bytes.saturating_sub(item.map_or(0, Item::bytes_len));
        let is_roomy = self.has_room(&owner, usize::from(item.is_none()), more);
        if is_wanted && !is_roomy {
            return Ok(Taken::Nothing);
        }
        fresh.iter().try_for_each(|it| self.verify(it))?;
        if let (true, Some(publication)) = (is_wanted, group.publication()) {
            verify_publication(&self.chain, &subject, publication)
                .map_err(|it| PoolError::Signature(publication.publisher, it))?;
        }
        let (heads, _) = group.into_parts();
        self.edit(now, subject, owner, |item| {
            item.attests
                .extend(fresh.into_iter().map(|it| (it.node, it)));
            item.is_blocked = false;
            if is_wanted {
                item.variants += u8::from(item.body.is_some());
                item.body = Some(Body {
                    heads,
                    rank,
                    bytes_len: bytes,
                });
            }
        });
        Ok(if is_wanted {
            Taken::Entries
        } else {
            Taken::Attests
        })
    }

    /// Forgets a group that is in the log, or that the rules will never let in.
    pub(crate) fn finish(&mut self, now: Time, subject: Subject) {
        self.remove(&subject);
        if self.done.insert(subject, now).is_none() {
            self.done_order.push_back((now, subject));
        }
        let is_over = |it: &Self| {
            let oldest = it.done_order.front();
            oldest.is_some_and(|it| it.0 + DONE_AGE <= now) || DONE_MAX < it.done_order.len()
        };
        while is_over(self) {
            if let Some((_, subject)) = self.done_order.pop_front() {
                self.done.remove(&subject);
            }
        }
    }

    /// The rules refused a group in this moment.
    pub(crate) fn block(&mut self, now: Time, subject: Subject) {
        if let Some(owner) = self.items.get(&subject).map(|it| it.owner) {
            self.edit(now, subject, owner, |it| it.is_blocked = true);
        }
    }

    /// The log moved on: what the rules refused may be right now.
    pub(crate) fn unblock(&mut self) {
        for item in self.items.values_mut() {
            item.is_blocked = false;
        }
        self.index_all();
    }

    pub(crate) fn set_members(&mut self, members: MemberSet) {
        for item in self.items.values_mut() {
            item.attests
                .retain(|node, _| members.by_node(node).is_some());
            item.is_blocked = false;
            if let (false, Some(node)) = (
                item.attests.contains_key(&item.owner),
                item.attests.keys().next(),
            ) {
                item.owner = *node;
            }
        }
        self.items.retain(|_, it| !it.attests.is_empty());
        self.members = members;
        self.index_all();
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let oldest = self.order.values().next().and_then(|it| self.items.get(it));
        let end = oldest.map(|it| it.since + AGE_MAX);
        let ask = self.asks.first().map(|it| it.0);
        [end, ask].into_iter().flatten().min()
    }

    /// Forgets what waited too long.
    pub(crate) fn expire(&mut self, now: Time) {
        while let Some(subject) = self.order.values().next().copied() {
            let since = self.items.get(&subject).map(|it| it.since);
            if since.is_some_and(|it| now < it + AGE_MAX) {
                return;
            }
            self.remove(&subject);
        }
    }

    fn verify(&self, attest: &Attest) -> Result<(), PoolError> {
        let Some(member) = self.members.by_node(&attest.node) else {
            return Ok(());
        };
        let message = Attest::signed_bytes(&self.chain, &attest.subject, attest.time);
        member
            .vote
            .verify(&message, &attest.signature)
            .map_err(|it| PoolError::Signature(attest.node, it))
    }

    /// Whether `owner` may have this much more.
    fn has_room(&self, owner: &NodeId, groups: usize, bytes: usize) -> bool {
        let shares = self.members.len().max(1);
        let used = self.usage.get(owner).copied().unwrap_or_default();
        self.items.len() + groups <= GROUPS_MAX
            && self.bytes + bytes <= BYTES_MAX
            && used.groups + groups <= GROUPS_MAX / shares
            && used.bytes + bytes <= BYTES_MAX / shares
    }

    /// Changes a group, which is made if it is unknown, and brings the indexes up to date.
    pub(crate) fn edit(
        &mut self,
        now: Time,
        subject: Subject,
        owner: NodeId,
        change: impl FnOnce(&mut Item),
    ) {
        self.unindex(&subject);
        self.arrivals += 1;
        let item = self.items.entry(subject).or_insert(Item {
            arrived: self.arrivals,
            since: now,
            owner,
            attests: BTreeMap::new(),
            body: None,
            variants: 0,
            is_blocked: false,
            ask: None,
        });
        change(item);
        if item.body.is_some() {
            item.ask = None;
        } else if item.ask.is_none() {
            item.ask = Some(Ask::new(now));
        }
        self.index(&subject);
    }

    fn remove(&mut self, subject: &Subject) {
        self.unindex(subject);
        self.items.remove(subject);
    }

    fn index_all(&mut self) {
        self.order.clear();
        self.eligible.clear();
        self.agreed.clear();
        self.asks.clear();
        self.usage.clear();
        self.bytes = 0;
        let subjects: Vec<Subject> = self.items.keys().copied().collect();
        subjects.iter().for_each(|it| self.index(it));
    }

    fn index(&mut self, subject: &Subject) {
        let Some(item) = self.items.get(subject) else {
            return;
        };
        self.order.insert(item.arrived, *subject);
        self.bytes += item.bytes_len();
        let is_agreed = self.members.quorum() <= item.attests.len();
        if is_agreed && !item.is_blocked {
            self.agreed.insert(item.arrived);
            if item.body.is_some() {
                self.eligible.insert(item.arrived);
            }
        }
        if !is_agreed {
            let usage = self.usage.entry(item.owner).or_default();
            usage.groups += 1;
            usage.bytes += item.bytes_len();
        }
        // Only those who propose need the entries of every group.
        if let (Some(ask), Some(_)) = (&item.ask, self.members.by_node(&self.node)) {
            self.asks.insert((ask.at, *subject));
        }
    }

    /// Undoes exactly what [`Groups::index`] did for the group as it is now.
    fn unindex(&mut self, subject: &Subject) {
        let Some(item) = self.items.get(subject) else {
            return;
        };
        self.order.remove(&item.arrived);
        self.bytes = self.bytes.saturating_sub(item.bytes_len());
        self.eligible.remove(&item.arrived);
        self.agreed.remove(&item.arrived);
        if item.attests.len() < self.members.quorum()
            && let Some(usage) = self.usage.get_mut(&item.owner)
        {
            usage.groups = usage.groups.saturating_sub(1);
            usage.bytes = usage.bytes.saturating_sub(item.bytes_len());
            if usage.groups == 0 {
                self.usage.remove(&item.owner);
            }
        }
        if let Some(ask) = &item.ask {
            self.asks.remove(&(ask.at, *subject));
        }
    }
}
