//! Requests under way, and those that timed out but may still be answered.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{NodeId, Time};

/// Requests of one peer that timed out and are still remembered, because a late answer is as good
/// as any; the oldest is forgotten.
const LATE_MAX: usize = 4;

/// How long a late answer is waited for before its sender is asked for the same a third time.
const RETRY_AFTER: Duration = Duration::from_secs(120);

/// Times that a peer is asked for the same height within that time.
const REPEATS_MAX: usize = 2;

/// One request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// Who was asked.
    pub peer: NodeId,
    /// First height.
    pub from: u64,
    /// Last height.
    pub to: u64,
    /// Bytes that were asked for at most.
    pub bytes_max: u64,
    /// The peer's tip when it was asked.
    pub claim: u64,
    /// When it was asked.
    pub sent: Time,
    /// When to ask somebody else.
    pub deadline: Time,
}

/// All requests, by id.
#[derive(Debug, Default)]
pub struct Requests {
    prompt: BTreeMap<u64, Request>,
    late: BTreeMap<u64, Request>,
    id_next: u64,
}

impl Requests {
    /// Requests that have not timed out.
    pub fn in_flight(&self) -> impl Iterator<Item = &Request> {
        self.prompt.values()
    }

    /// Adds a request and returns its id.
    pub fn start(&mut self, request: Request) -> u64 {
        let id = self.id_next;
        self.id_next = self.id_next.wrapping_add(1);
        self.prompt.insert(id, request);
        id
    }

    /// Whether `peer` was asked for `height` often enough: asking again would only queue the same
    /// blocks once more on a slow link.
    pub fn is_exhausted(&self, now: Time, peer: &NodeId, height: u64) -> bool {
        let covers = |it: &&Request| {
            let is_recent = now < it.sent + RETRY_AFTER;
            it.peer == *peer && is_recent && (it.from..=it.to).contains(&height)
        };
        REPEATS_MAX <= self.late.values().filter(covers).count()
    }

    /// When a peer that was asked often enough may be asked once more.
    pub fn next_retry(&self, now: Time) -> Option<Time> {
        let retries = self.late.values().map(|it| it.sent + RETRY_AFTER);
        retries.filter(|it| now < *it).min()
    }

    /// Ends the request that `peer` answers; tells whether it had timed out.
    pub fn take(&mut self, peer: &NodeId, id: u64) -> Option<(Request, bool)> {
        let of_peer = |it: &&Request| it.peer == *peer;
        if self.prompt.get(&id).filter(of_peer).is_some() {
            return self.prompt.remove(&id).map(|it| (it, false));
        }
        self.late.get(&id).filter(of_peer)?;
        self.late.remove(&id).map(|it| (it, true))
    }

    /// Marks the requests whose time is over; returns who was asked.
    pub fn expire(&mut self, now: Time) -> Vec<NodeId> {
        let over: Vec<(u64, Request)> = self
            .prompt
            .extract_if(.., |_, it| it.deadline <= now)
            .collect();
        let peers: Vec<NodeId> = over.iter().map(|(_, it)| it.peer).collect();
        self.late.extend(over);
        for peer in &peers {
            let of_peer = self.late.iter().filter(|(_, it)| it.peer == *peer);
            let ids: Vec<u64> = of_peer.map(|(id, _)| *id).collect();
            for id in ids.iter().rev().skip(LATE_MAX) {
                self.late.remove(id);
            }
        }
        peers
    }

    /// Forgets what `peer` was asked.
    pub fn drop_peer(&mut self, peer: &NodeId) {
        self.prompt.retain(|_, it| it.peer != *peer);
        self.late.retain(|_, it| it.peer != *peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PublicKey;

    const ALICE: NodeId = PublicKey([1; 32]);
    const EVE: NodeId = PublicKey([3; 32]);

    fn request(from: u64) -> Request {
        Request {
            peer: ALICE,
            from,
            to: from,
            bytes_max: 1,
            claim: 9,
            sent: Time::ZERO,
            deadline: Time::ZERO + Duration::from_secs(from),
        }
    }

    #[test]
    fn only_the_asked_peer_answers_and_only_once() {
        let mut requests = Requests::default();
        let id = requests.start(request(1));
        assert_eq!(requests.take(&EVE, id), None);
        assert_eq!(requests.take(&ALICE, id), Some((request(1), false)));
        assert_eq!(requests.take(&ALICE, id), None);
    }

    #[test]
    fn a_few_late_requests_are_remembered() {
        let mut requests = Requests::default();
        let ids: Vec<u64> = (1..=6).map(|from| requests.start(request(from))).collect();
        let after = |seconds| Time::ZERO + Duration::from_secs(seconds);
        assert_eq!(requests.expire(after(1)), vec![ALICE]);
        assert_eq!(requests.in_flight().count(), 5);
        assert_eq!(requests.expire(after(9)).len(), 5);
        let kept = ids
            .iter()
            .filter(|id| requests.take(&ALICE, **id).is_some());
        assert_eq!(kept.count(), LATE_MAX);
    }
}
