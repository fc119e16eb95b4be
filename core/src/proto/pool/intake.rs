//! What the pool takes in: attestations and groups, checked in the order of cost.

use crate::base::Time;
use crate::proto::chain::consent::verify_publication;
use crate::proto::log::entry::Attest;
use crate::proto::pool::group::Group;
use crate::proto::pool::groups::{Body, Groups, Item};
use crate::proto::pool::message::PoolError;

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

impl Groups {
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
            if known == Some(true) || is_stranger || self.is_done(&subject, attest.time) {
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
        if self.is_done(&subject, rank.0) || self.members.by_node(&builder).is_none() {
            return Ok(Taken::Nothing);
        }
        let item = self.items.get(&subject);
        let body = item.and_then(|it| Some((it.body.as_ref()?.rank, it.variants)));
        let is_wanted = body.is_none_or(|(known, count)| rank < known && count < VARIANTS_MAX);
        let is_new = |it: &&Attest| {
            let known = item.and_then(|item| item.attests.get(&it.node));
            let is_replaced = is_wanted && it.node == builder && known != Some(it);
            (known.is_none() || is_replaced)
                && self.members.by_node(&it.node).is_some()
                && !self.is_done(&subject, it.time)
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
}
