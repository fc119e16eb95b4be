//! Asking peers for signatures that gossip did not bring.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use crate::base::{NodeId, Time};

/// A head that a quorum has not signed for so long is asked for. Gossip takes a few round trips.
pub const ASK_AFTER: Duration = Duration::from_secs(1);

/// Longest pause between two questions; it doubles from [`ASK_AFTER`] on, as there is perhaps
/// nobody who can answer. Who is asked may have to ask first, so each hop can cost so long.
pub const ASK_PAUSE_MAX: Duration = Duration::from_secs(4);

/// Whom to ask, and when. One question at a time; an answer that does not come costs a pause.
#[derive(Debug)]
pub(super) struct Asking {
    /// Admitted peers.
    peers: BTreeSet<NodeId>,
    /// When to ask next, while signatures are wanted.
    due: Option<Time>,
    /// How long to wait for the answer to the next question.
    pause: Duration,
    /// Who was asked last.
    last: Option<NodeId>,
    /// Whether the answer to the last question is still awaited.
    is_awaited: bool,
}

impl Asking {
    pub(super) fn new() -> Self {
        Self {
            peers: BTreeSet::new(),
            due: None,
            pause: ASK_AFTER,
            last: None,
            is_awaited: false,
        }
    }

    /// Somebody who may know more.
    pub(super) fn joined(&mut self, now: Time, peer: NodeId) {
        self.peers.insert(peer);
        self.due = self.due.map(|it| it.min(now + ASK_AFTER));
    }

    /// A peer is gone.
    pub(super) fn left(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
    }

    /// Signatures are wanted. Under load the head moves on all the time; the oldest wish counts.
    pub(super) fn want(&mut self, now: Time) {
        self.pause = ASK_AFTER;
        self.due = Some(
            self.due
                .map_or(now + ASK_AFTER, |it| it.min(now + ASK_AFTER)),
        );
    }

    /// Nothing is wanted any more.
    pub(super) fn satisfied(&mut self) {
        self.due = None;
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.due.filter(|_| !self.peers.is_empty())
    }

    /// Whom to ask now: one peer after the other.
    pub(super) fn next(&mut self, now: Time) -> Option<NodeId> {
        self.due.filter(|it| *it <= now)?;
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut later = self.peers.range((after, Bound::Unbounded));
        let peer = *later.next().or_else(|| self.peers.first())?;
        self.last = Some(peer);
        self.is_awaited = true;
        self.due = Some(now + self.pause);
        self.pause = (self.pause * 2).min(ASK_PAUSE_MAX);
        Some(peer)
    }

    /// Whether `peer` answers the last question; it does so once.
    pub(super) fn answered(&mut self, peer: &NodeId) -> bool {
        let is_answer = self.is_awaited && self.last == Some(*peer);
        self.is_awaited &= !is_answer;
        is_answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: NodeId = crate::base::PublicKey([1; 32]);
    const BOB: NodeId = crate::base::PublicKey([2; 32]);

    fn at(secs: u64) -> Time {
        Time::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn peers_are_asked_in_turn_with_longer_and_longer_pauses() {
        let mut asking = Asking::new();
        asking.want(at(0));
        assert_eq!(asking.next_deadline(), None);
        asking.joined(at(0), ALICE);
        asking.joined(at(0), BOB);
        assert_eq!(asking.next(Time::ZERO), None);
        for (secs, peer) in [(1, ALICE), (2, BOB), (4, ALICE), (8, BOB), (12, ALICE)] {
            assert_eq!(asking.next_deadline(), Some(at(secs)));
            assert_eq!(asking.next(at(secs)), Some(peer));
        }
        for secs in [16, 20, 24] {
            assert_eq!(asking.next_deadline(), Some(at(secs)));
            assert!(asking.next(at(secs)).is_some());
        }
        asking.satisfied();
        assert_eq!((asking.next_deadline(), asking.next(at(99))), (None, None));
    }

    #[test]
    fn a_newer_head_and_a_new_peer_are_reasons_to_ask_soon() {
        let mut asking = Asking::new();
        asking.joined(at(0), ALICE);
        asking.want(at(0));
        asking.want(Time::ZERO + Duration::from_millis(900));
        for secs in [1, 2, 4, 8] {
            assert_eq!(asking.next(at(secs)), Some(ALICE));
        }
        assert_eq!(asking.next_deadline(), Some(at(12)));
        asking.joined(at(9), BOB);
        assert_eq!(asking.next_deadline(), Some(at(10)));
        assert_eq!(asking.next(at(10)), Some(BOB));
        assert_eq!(asking.next_deadline(), Some(at(14)));
        asking.want(at(11));
        assert_eq!(asking.next_deadline(), Some(at(12)));
    }

    #[test]
    fn only_who_was_asked_answers_and_only_once() {
        let mut asking = Asking::new();
        asking.joined(at(0), ALICE);
        assert!(!asking.answered(&ALICE));
        asking.want(at(0));
        assert_eq!(asking.next(at(1)), Some(ALICE));
        assert!(!asking.answered(&BOB));
        assert!(asking.answered(&ALICE));
        assert!(!asking.answered(&ALICE));
    }
}
