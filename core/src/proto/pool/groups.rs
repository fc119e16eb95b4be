//! The waiting groups, with the indexes that keep every question cheap.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::{ChainId, NodeId, Subject, Time, WallTime};
use crate::proto::chain::member::MemberSet;
use crate::proto::log::entry::{Attest, Entry};
use crate::proto::pool::asks::Ask;
use crate::proto::pool::done::{Done, FOR_EVER};
use crate::proto::pool::group::{Group, Rank};
use crate::proto::pool::message::{Have, Signers};

/// Most groups. Each member may have an equal share of those that no quorum attests yet, so that
/// one cannot crowd out the others; what is beyond it is not taken.
pub(crate) const GROUPS_MAX: usize = 4_096;

/// Most bytes of entries, shared alike. Unit: bytes.
pub(crate) const BYTES_MAX: usize = 64 << 20;

/// How long a group waits for a block.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(3_600);

/// A group, as far as it is known.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Order of arrival.
    arrived: u64,
    since: Time,
    /// The member that pays for it: the first whose attestation came.
    pub(crate) owner: NodeId,
    pub(crate) attests: BTreeMap<NodeId, Attest>,
    pub(crate) body: Option<Body>,
    pub(crate) variants: u8,
    /// The rules refused it, until the next block or attestation.
    pub(crate) is_blocked: bool,
    pub(crate) ask: Option<Ask>,
}

#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) heads: Vec<Entry>,
    pub(crate) rank: Rank,
    pub(crate) bytes_len: usize,
}

/// How much of its share a member uses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Usage {
    groups: usize,
    bytes: usize,
}

/// The waiting groups.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    pub(crate) chain: ChainId,
    pub(crate) node: NodeId,
    pub(crate) members: MemberSet,
    pub(crate) items: BTreeMap<Subject, Item>,
    arrivals: u64,
    bytes: usize,
    order: BTreeMap<u64, Subject>,
    eligible: BTreeSet<u64>,
    /// Groups with a quorum, with or without their entries.
    agreed: BTreeSet<u64>,
    pub(crate) asks: BTreeSet<(Time, Subject)>,
    usage: BTreeMap<NodeId, Usage>,
    done: Done,
}

impl Item {
    pub(crate) fn bytes_len(&self) -> usize {
        self.body.as_ref().map_or(0, |it| it.bytes_len)
    }
}

impl Body {
    /// Puts another builder, and the time of its attestation, in the place of the first one.
    fn resubmit(&mut self, (time, builder): Rank) {
        for head in &mut self.heads {
            match head {
                Entry::AddArtifact(it) => (it.time, it.builder) = (time, builder),
                Entry::BindTag(it) => (it.time, it.builder) = (time, builder),
                _ => {}
            }
        }
        self.rank = (time, builder);
        self.bytes_len = self.heads.iter().map(|it| it.to_bytes().len()).sum();
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
            done: Done::default(),
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

    /// Forgets a group that is in the log, or that the rules will never let in.
    pub(crate) fn finish(&mut self, now: Time, subject: Subject) {
        self.remove(&subject);
        self.done.remember(now, subject, FOR_EVER);
    }

    /// Forgets what was said up to `until`, because what it would replace in the log is as late.
    pub(crate) fn drop_until(&mut self, now: Time, subject: Subject, until: WallTime) {
        self.done.remember(now, subject, until);
        self.unindex(&subject);
        let Some(item) = self.items.get_mut(&subject) else {
            return;
        };
        item.attests.retain(|_, it| until < it.time);
        // Builder and time of a body are only worth what the builder's own attestation says.
        let is_vouched = |it: &mut Body| item.attests.contains_key(&it.rank.1);
        if item.body.take_if(|it| !is_vouched(it)).is_some() {
            item.ask = Some(Ask::new(now));
        }
        match item.attests.keys().next() {
            None => self.remove(&subject),
            Some(first) => {
                if !item.attests.contains_key(&item.owner) {
                    item.owner = *first;
                }
                self.index(&subject);
            }
        }
    }

    /// Whether an attestation of this time came too late.
    pub(crate) fn is_done(&self, subject: &Subject, time: WallTime) -> bool {
        self.done.is_late(subject, time)
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
            // The rules want a member as builder. Facts stand without one, so another who attests
            // them takes over; everybody who has the same attestations names the same.
            let first = item.attests.values().map(|it| (it.time, it.node)).min();
            if let (Some(body), Some(rank)) = (&mut item.body, first)
                && members.by_node(&body.rank.1).is_none()
            {
                body.resubmit(rank);
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

    /// Whether `owner` may have this much more.
    pub(crate) fn has_room(&self, owner: &NodeId, groups: usize, bytes: usize) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::chain::testing::{attest, node_keys, package};
    use crate::proto::pool::samples::{id, keys, members, purl};
    use proptest::prelude::*;

    #[test]
    fn a_group_whose_builder_was_dismissed_is_resubmitted_by_another() {
        let mut groups = Groups::new(id(), node_keys(3).id(), members());
        let entries = package(&id(), &purl(0), "", &keys([0, 1, 2, 3]));
        groups
            .take_group(Time::ZERO, Group::new(entries).unwrap())
            .unwrap();
        let gone = node_keys(0).id();
        let rest = members()
            .iter()
            .filter(|it| it.node != gone)
            .cloned()
            .collect::<Vec<_>>();
        groups.set_members(MemberSet::new(rest));
        let eligible: Vec<_> = groups.eligible().collect();
        let [entries] = &eligible[..] else {
            panic!("{eligible:?}");
        };
        let group = Group::new(entries.clone()).unwrap();
        let first = (1..4).map(|it| node_keys(it).id()).min().unwrap();
        assert_eq!((group.builder(), group.attests().len()), (&first, 3));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Attest { package: usize, node: u8 },
        Group { package: usize, node: u8 },
        Finish { package: usize },
        Block { package: usize },
        Members { count: usize },
        Ask,
        Expire,
    }

    fn step() -> impl Strategy<Value = Step> {
        let (package, node) = (0..4usize, 0..4u8);
        prop_oneof![
            4 => (package.clone(), node.clone())
                .prop_map(|(package, node)| Step::Attest { package, node }),
            4 => (package.clone(), node).prop_map(|(package, node)| Step::Group { package, node }),
            1 => package.clone().prop_map(|package| Step::Finish { package }),
            1 => package.prop_map(|package| Step::Block { package }),
            1 => (1..=4usize).prop_map(|count| Step::Members { count }),
            1 => Just(Step::Ask),
            1 => Just(Step::Expire),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn indexes_are_what_the_groups_say(steps in prop::collection::vec(step(), 1..60)) {
            let group = |package_number: usize, node: u8| {
                let entries = package(&id(), &purl(package_number), "", &keys([node]));
                Group::new(entries).unwrap()
            };
            let mut groups = Groups::new(id(), node_keys(3).id(), members());
            let mut now = Time::ZERO;
            for step in steps {
                now = now + Duration::from_millis(200);
                match step {
                    Step::Attest { package, node } => {
                        let subject = *group(package, node).subject();
                        let attest = attest(&id(), subject, &node_keys(node));
                        prop_assert!(groups.take_attests(now, vec![attest]).is_ok());
                    }
                    Step::Group { package, node } => {
                        prop_assert!(groups.take_group(now, group(package, node)).is_ok());
                    }
                    Step::Finish { package } => groups.finish(now, *group(package, 0).subject()),
                    Step::Block { package } => groups.block(now, *group(package, 0).subject()),
                    Step::Members { count } => {
                        groups.set_members(MemberSet::new(members().iter().take(count).cloned()));
                    }
                    Step::Ask => {
                        groups.asks(now, |_| true);
                    }
                    Step::Expire => {
                        now = now + AGE_MAX / 2;
                        groups.expire(now);
                    }
                }
                let mut fresh = groups.clone();
                fresh.index_all();
                prop_assert_eq!(&groups.order, &fresh.order);
                prop_assert_eq!(&groups.eligible, &fresh.eligible);
                prop_assert_eq!(&groups.agreed, &fresh.agreed);
                prop_assert_eq!(&groups.asks, &fresh.asks);
                prop_assert_eq!(&groups.usage, &fresh.usage);
                prop_assert_eq!(groups.bytes, fresh.bytes);
                prop_assert_eq!(groups.order.len(), groups.items.len());
            }
        }
    }
}
