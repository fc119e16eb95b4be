//! Changes of the set of authorized nodes.

use crate::base::BlockId;
use crate::proto::chain::consent::{Consent, verify_readiness};
use crate::proto::chain::member::{MEMBERS_MAX, Member};
use crate::proto::chain::rules::{Ledger, RuleError, check_marks};
use crate::proto::chain::state::{ChainState, RETIRED_MAX, keys_of};
use crate::proto::log::entry::{AddNode, RemoveNode};

/// How far a candidate's proof of readiness may lie behind the block that admits it. Unit: heights.
///
/// An absent member counts in the quorum: admitting one can halt the chain for good.
pub const READY_HEIGHTS_MAX: u64 = 1_000;

/// Whether the next block may admit this candidate. The form of its card is checked already.
pub(crate) fn check_admission(
    state: &ChainState,
    ledger: &dyn Ledger,
    entry: &AddNode,
) -> Result<(), RuleError> {
    let candidate = &entry.card.member;
    if MEMBERS_MAX <= state.members.len() {
        return Err(RuleError::Members(state.members.len()));
    }
    let keys = keys_of(candidate);
    if let Some(key) = keys.into_iter().find(|it| state.is_retired(it)) {
        return Err(RuleError::Retired(key));
    }
    for member in state.members.iter() {
        if member.name == candidate.name || keys_of(member).iter().any(|it| keys.contains(it)) {
            return Err(RuleError::Taken(member.name.clone()));
        }
    }
    let behind = state.height.checked_sub(entry.ready_height);
    let is_recent = behind.is_some_and(|it| it < READY_HEIGHTS_MAX);
    if !is_recent || block_at(state, ledger, entry.ready_height) != Some(entry.ready_block) {
        return Err(RuleError::Ready(entry.ready_height));
    }
    verify_readiness(&state.chain, entry).map_err(|_| RuleError::Signature(candidate.node))?;
    check_marks(state, &Consent::from(entry), &entry.marks)
}

/// The member that the next block may dismiss.
pub(crate) fn check_dismissal<'a>(
    state: &'a ChainState,
    entry: &RemoveNode,
) -> Result<&'a Member, RuleError> {
    let Some(member) = state.members.by_node(&entry.node) else {
        return Err(RuleError::Stranger(entry.node));
    };
    if state.members.len() <= 1 {
        return Err(RuleError::Members(state.members.len()));
    }
    if RETIRED_MAX < state.retired.len() + keys_of(member).len() {
        return Err(RuleError::RetiredFull);
    }
    check_marks(state, &Consent::from(entry), &entry.marks)?;
    Ok(member)
}

fn block_at(state: &ChainState, ledger: &dyn Ledger, height: u64) -> Option<BlockId> {
    match height {
        0 => Some(BlockId([0; 32])),
        it if it == state.height => Some(state.tip),
        it => ledger.block(it),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::chain::group::Body;
    use crate::proto::chain::group::tests::{append, nodes, verdict};
    use crate::proto::chain::testing::{
        GENESIS_TIME, MemoryChain, add_node, node_keys, package, remove_node,
    };
    use crate::proto::log::entry::{Attest, Entry};

    #[test]
    fn members_come_and_go_by_a_quorum_of_admins_one_at_a_time() {
        let mut chain = MemoryChain::new(1);
        for number in 1..4 {
            let admins: Vec<_> = (0..number).map(node_keys).collect();
            let group = add_node(&chain.state, number, &admins);
            append(&mut chain, group);
            assert_eq!(chain.state.members().len(), usize::from(number) + 1);
        }
        let id = *chain.state.chain();
        let admins = nodes([0, 1, 2]);
        let (dismissal, admission) = (
            remove_node(&id, 3, &admins),
            add_node(&chain.state, 4, &admins),
        );
        let mut unknown = |_: &Attest| false;
        let mut body = Body::new(&chain.state, GENESIS_TIME, &chain.ledger, &mut unknown);
        assert_eq!(body.add(&dismissal), Ok(()));
        for second in [&admission, &dismissal] {
            assert_eq!(body.add(second), Err(RuleError::MembersChanged));
        }
        assert_eq!(
            verdict(&chain, &remove_node(&id, 3, &admins[..2])),
            Err(RuleError::Quorum { have: 2, need: 3 })
        );
        append(&mut chain, dismissal);
        let keys = node_keys(3);
        assert_eq!(
            verdict(&chain, &add_node(&chain.state, 3, &admins)),
            Err(RuleError::Retired(keys.id()))
        );
    }

    #[test]
    fn the_last_member_stays() {
        let chain = MemoryChain::new(1);
        let group = remove_node(chain.state.chain(), 0, &nodes([0]));
        assert_eq!(verdict(&chain, &group), Err(RuleError::Members(1)));
    }

    #[test]
    fn a_candidate_needs_own_keys_and_recent_readiness() {
        let mut chain = MemoryChain::new(1);
        let id = *chain.state.chain();
        let admins = nodes([0]);
        let spoil = |chain: &MemoryChain, spoil: fn(&mut AddNode)| {
            let mut group = add_node(&chain.state, 1, &admins);
            let Some(Entry::AddNode(it)) = group.first_mut() else {
                panic!("one admission");
            };
            spoil(it);
            verdict(chain, &group)
        };
        let group = add_node(&chain.state, 0, &admins);
        assert_eq!(
            verdict(&chain, &group),
            Err(RuleError::Taken("node-0".into()))
        );
        assert_eq!(
            spoil(&chain, |it| it.ready_height = 1),
            Err(RuleError::Ready(1))
        );
        assert_eq!(
            spoil(&chain, |it| it.ready_block = BlockId([1; 32])),
            Err(RuleError::Ready(0))
        );
        let (candidate, member) = (node_keys(1).id(), node_keys(0).id());
        assert_eq!(
            spoil(&chain, |it| it.ready_signature.0[0] ^= 1),
            Err(RuleError::Signature(candidate))
        );
        assert_eq!(
            spoil(&chain, |it| it.marks[0].signature.0[0] ^= 1),
            Err(RuleError::Signature(member))
        );

        let early = add_node(&chain.state, 1, &admins);
        append(&mut chain, package(&id, "pkg:maven/a/a@1", "", &admins));
        chain.state.height = READY_HEIGHTS_MAX - 1;
        assert_eq!(verdict(&chain, &early), Ok(()));
        chain.state.height = READY_HEIGHTS_MAX;
        assert_eq!(verdict(&chain, &early), Err(RuleError::Ready(0)));
    }
}
