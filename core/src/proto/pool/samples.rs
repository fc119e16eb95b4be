//! Pools and groups for tests, in a network where nodes 0 to 3 are authorized.

use std::time::Duration;

use crate::base::{ChainId, Subject, Time};
use crate::proto::chain::member::{MemberSet, NodeKeys};
use crate::proto::chain::testing::{MemoryChain, artifact, node_keys, package_of};
use crate::proto::log::entry::Entry;
use crate::proto::pool::{Effect, Group, Input, Judgement, Pool, PoolMessage};

pub(crate) fn keys<const N: usize>(numbers: [u8; N]) -> [NodeKeys; N] {
    numbers.map(node_keys)
}

pub(crate) fn chain() -> MemoryChain {
    MemoryChain::new(4)
}

pub(crate) fn id() -> ChainId {
    *chain().state.chain()
}

pub(crate) fn members() -> MemberSet {
    chain().state.members().clone()
}

/// The pool of the node with this number, in a network where nodes 0 to 3 are authorized.
pub(crate) fn pool(number: u8) -> Pool {
    Pool::new(id(), node_keys(number).id(), members())
}

pub(crate) fn purl(at: usize) -> String {
    format!("pkg:maven/g/a@{at}")
}

/// A package whose only file name makes its entries about so long.
pub(crate) fn sized(at: usize, bytes: usize, signers: &[NodeKeys]) -> Vec<Entry> {
    let count = bytes / 480 + 1;
    let name = |it: usize| format!("{it:06}{}", "x".repeat((bytes / count).saturating_sub(225)));
    let files = (0..count).map(|it| artifact(&purl(at), &name(it), "", &signers[0]));
    package_of(&id(), files.collect(), signers)
}

pub(crate) fn subject(group: &[Entry]) -> Subject {
    *Group::new(group.to_vec()).unwrap().subject()
}

pub(crate) fn group(entries: Vec<Entry>) -> PoolMessage {
    PoolMessage::Group(Group::new(entries).unwrap())
}

pub(crate) fn handle(pool: &mut Pool, now: Time, input: Input) -> Vec<Effect> {
    let mut out = Vec::new();
    pool.handle(now, input, &mut out);
    out
}

/// The judgement of a message from the node with this number.
pub(crate) fn give(pool: &mut Pool, from: u8, message: PoolMessage) -> Judgement {
    let from = node_keys(from).id();
    let input = Input::Received { from, message };
    let effects = handle(pool, Time::ZERO, input);
    let judgements = effects.into_iter().filter_map(|it| match it {
        Effect::Judge(_, it) => Some(it),
        _ => None,
    });
    let [judgement] = judgements.collect::<Vec<_>>().try_into().unwrap();
    judgement
}

pub(crate) fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}
