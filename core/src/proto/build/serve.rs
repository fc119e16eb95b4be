//! What peers asked to hear of builds and have not got yet.
//!
//! A page of wanted builds is up to 32 requests with the reports of every authorized node each: more
//! than the queue of a connection holds, and thousands of bytes for each byte of the question. So
//! builds wait here, one place each however often they are asked for, and leave at a limited rate.
//! Authorized nodes are served before others, and otherwise who waited longest; of what a peer gets,
//! requests come before reports, because a build that is not known at all is missed more.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::base::{NodeId, Time};
use crate::proto::build::interface::Effect;
use crate::proto::build::machine::{BUILDS_MAX, Builds};
use crate::proto::build::message::BuildMessage;
use crate::proto::build::spec::BuildId;

/// Most messages that one peer gets in a second; the rest waits. Twice as many, on both sides of the
/// turn of a second, leave room in the queue of its connection.
pub const PEER_FRAMES_MAX: usize = 96;

/// Bytes of these messages; the rest waits.
pub const PEER_BYTES_MAX: usize = 256 << 10;

/// Bytes that all peers get in a second; the rest waits.
pub const BYTES_MAX: usize = 1 << 20;

/// Most builds that wait for one peer; further ones are left out.
const PEER_WAITING_MAX: usize = BUILDS_MAX;

/// Most builds that wait for all peers; further ones of peers that are not authorized are left out.
const WAITING_MAX: usize = 16 * BUILDS_MAX;

const SECOND_NANOS: u64 = 1_000_000_000;

/// What waits, and what was sent in this second.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    peers: BTreeMap<NodeId, Waiting>,
    /// Builds of all peers.
    waiting: usize,
    spent: Spent,
}

#[derive(Debug, Default)]
struct Waiting {
    builds: BTreeMap<BuildId, Rest>,
    /// The second in which this peer got something last.
    served: u64,
}

/// What a peer has not got yet of a build.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rest {
    /// Everything.
    All,
    /// The reports of the nodes after this one, or of all.
    Reports(Option<NodeId>),
}

/// What was sent in a second.
#[derive(Debug, Default)]
struct Spent {
    second: u64,
    bytes: usize,
    /// Messages and bytes of each peer.
    peers: BTreeMap<NodeId, (usize, usize)>,
}

impl Spent {
    /// Whether a message to this peer has to wait, however short it is.
    fn is_over(&mut self, now: Time, peer: &NodeId) -> bool {
        let second = second(now);
        if self.second != second {
            *self = Self {
                second,
                ..Self::default()
            };
        }
        let frames = self.peers.get(peer).map_or(0, |it| it.0);
        BYTES_MAX <= self.bytes || PEER_FRAMES_MAX <= frames
    }

    /// Counts a message; false if it has to wait. Then the second is over for this peer, or for all.
    fn take(&mut self, now: Time, peer: NodeId, bytes: usize) -> bool {
        if self.is_over(now, &peer) {
            return false;
        }
        let (frames, peer_bytes) = self.peers.entry(peer).or_default();
        if PEER_BYTES_MAX < *peer_bytes + bytes {
            *frames = PEER_FRAMES_MAX;
            return false;
        }
        if BYTES_MAX < self.bytes + bytes {
            self.bytes = BYTES_MAX;
            return false;
        }
        *frames += 1;
        *peer_bytes += bytes;
        self.bytes += bytes;
        true
    }
}

impl Serving {
    /// When the next messages may leave.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let next = (self.spent.second + 1) * SECOND_NANOS;
        (!self.peers.is_empty()).then_some(Time::from_nanos(next))
    }

    /// A peer is gone.
    pub(crate) fn forget_peer(&mut self, peer: &NodeId) {
        let left = self.peers.remove(peer);
        self.waiting -= left.map_or(0, |it| it.builds.len());
    }
}

impl Builds {
    /// Sends a peer what it asks for, as far as this node knows it.
    pub(crate) fn on_want(
        &mut self,
        now: Time,
        peer: NodeId,
        wanted: &[BuildId],
        out: &mut Vec<Effect>,
    ) {
        for id in wanted {
            self.note_wanted(peer, *id, Rest::All);
        }
        self.serve_peer(now, peer, out);
    }

    /// Tells a peer that asks for a known build what its nodes reported.
    pub(crate) fn answer(&mut self, now: Time, peer: NodeId, id: BuildId, out: &mut Vec<Effect>) {
        self.note_wanted(peer, id, Rest::Reports(None));
        self.serve_peer(now, peer, out);
    }

    fn note_wanted(&mut self, peer: NodeId, id: BuildId, rest: Rest) {
        if !self.builds.contains_key(&id) {
            return;
        }
        let serving = &mut self.serving;
        let builds = serving.peers.get(&peer).map(|it| &it.builds);
        let is_listed = builds.is_some_and(|it| it.contains_key(&id));
        let is_stranger = self.members.by_node(&peer).is_none();
        let is_full = builds.is_some_and(|it| PEER_WAITING_MAX <= it.len())
            || (is_stranger && WAITING_MAX <= serving.waiting);
        if is_full && !is_listed {
            return;
        }
        serving.waiting += usize::from(!is_listed);
        let builds = &mut serving.peers.entry(peer).or_default().builds;
        let known = builds.entry(id).or_insert(rest);
        if rest == Rest::All {
            *known = rest;
        }
    }

    /// Sends what waits, as far as this second allows.
    pub(crate) fn serve(&mut self, now: Time, out: &mut Vec<Effect>) {
        let peers = self.serving.peers.iter();
        let mut turns: Vec<_> = peers
            .map(|(peer, it)| (self.members.by_node(peer).is_none(), it.served, *peer))
            .collect();
        turns.sort_unstable();
        for (_, _, peer) in turns {
            self.serve_peer(now, peer, out);
        }
    }

    /// Sends a peer what waits for it, as far as this second allows.
    fn serve_peer(&mut self, now: Time, peer: NodeId, out: &mut Vec<Effect>) {
        let Some(mut waiting) = self.serving.peers.remove(&peer) else {
            return;
        };
        let (before, sent) = (waiting.builds.len(), out.len());
        self.send_waiting(now, peer, &mut waiting.builds, out);
        self.serving.waiting -= before - waiting.builds.len();
        if sent < out.len() {
            waiting.served = second(now);
        }
        if !waiting.builds.is_empty() {
            self.serving.peers.insert(peer, waiting);
        }
    }

    fn send_waiting(
        &mut self,
        now: Time,
        peer: NodeId,
        builds: &mut BTreeMap<BuildId, Rest>,
        out: &mut Vec<Effect>,
    ) {
        builds.retain(|id, _| self.builds.contains_key(id));
        let spent = &mut self.serving.spent;
        let mut send = |message: BuildMessage| {
            // To know its length costs as much as to send it.
            let fits =
                !spent.is_over(now, &peer) && spent.take(now, peer, message.to_bytes().len());
            if fits {
                out.push(Effect::SendTo(peer, message));
            }
            fits
        };
        for (id, rest) in builds.iter_mut().filter(|it| *it.1 == Rest::All) {
            if let Some(record) = self.builds.get(id) {
                if !send(BuildMessage::Request(record.request.clone())) {
                    return;
                }
                *rest = Rest::Reports(None);
            }
        }
        while let Some(mut entry) = builds.first_entry() {
            if let (Some(record), Rest::Reports(after)) =
                (self.builds.get(entry.key()), *entry.get())
            {
                let after = after.map_or(Bound::Unbounded, Bound::Excluded);
                for (node, report) in record.reports.range((after, Bound::Unbounded)) {
                    if !send(BuildMessage::Report(report.clone())) {
                        return;
                    }
                    entry.insert(Rest::Reports(Some(*node)));
                }
            }
            entry.remove();
        }
    }
}

/// The second, from the start of the clock.
fn second(now: Time) -> u64 {
    now.as_nanos() / SECOND_NANOS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChainId, PublicKey, Signature, WallTime};
    use crate::proto::build::samples::keys;
    use crate::proto::build::{BuildRequest, Config, Failure, FailureCode, Input, Outcome, Report};
    use crate::proto::chain::testing::MemoryChain;

    const MEMBERS: usize = 8;

    fn builds() -> Builds {
        let keys = keys(20);
        let config = Config {
            chain: ChainId([1; 32]),
            node: keys.id(),
            vote: keys.vote.clone(),
            parallel_max: 1,
        };
        let chain = MemoryChain::new(u8::try_from(MEMBERS).unwrap());
        Builds::new(config, chain.state.members().clone())
    }

    fn receive(builds: &mut Builds, secs: u64, from: usize, message: BuildMessage) -> Vec<Effect> {
        let (from, mut out) = (keys(from).id(), Vec::new());
        let now = Time::from_nanos(secs * SECOND_NANOS);
        let input = Input::Received { from, message };
        builds.handle(now, WallTime::default(), input, &mut out);
        out
    }

    /// Builds with a report of every member, of about 600 bytes each.
    fn known(count: usize) -> (Builds, Vec<BuildId>) {
        let mut builds = builds();
        for number in 0..count {
            let request = BuildRequest {
                spec: format!("maven g:a:{number}").parse().unwrap(),
                node: keys(1).id(),
                time: WallTime::default(),
                attempt: 1,
            };
            let build = request.spec.id();
            receive(&mut builds, 0, 1, BuildMessage::Request(request));
            for member in 0..MEMBERS {
                let report = Report {
                    build,
                    attempt: 1,
                    node: keys(member).id(),
                    time: WallTime::default(),
                    outcome: Outcome::Failed(Failure {
                        code: FailureCode::Unreachable,
                        text: "x".repeat(500),
                    }),
                    signature: Signature([0; 64]),
                };
                let report = report.signed(&ChainId([1; 32]), &keys(member).vote);
                receive(&mut builds, 0, member, BuildMessage::Report(report));
            }
        }
        let ids = builds.list().map(|it| it.id).collect();
        (builds, ids)
    }

    fn sent(effects: &[Effect]) -> Vec<(NodeId, BuildMessage)> {
        let sent = effects.iter().filter_map(|it| match it {
            Effect::SendTo(to, it) => Some((*to, it.clone())),
            _ => None,
        });
        sent.collect()
    }

    fn expire(builds: &mut Builds, secs: u64) -> Vec<(NodeId, BuildMessage)> {
        let (now, mut out) = (Time::from_nanos(secs * SECOND_NANOS), Vec::new());
        builds.serve(now, &mut out);
        sent(&out)
    }

    #[test]
    fn a_page_comes_whole_in_pieces_that_fit_a_queue() {
        let (mut builds, ids) = known(32);
        let first = receive(&mut builds, 1, 30, BuildMessage::Want(ids.clone()));
        let mut pages = vec![sent(&first)];
        assert_eq!(
            builds.next_deadline(),
            Some(Time::from_nanos(2 * SECOND_NANOS))
        );
        for secs in 2..9 {
            pages.push(expire(&mut builds, secs));
        }
        assert_eq!(builds.serving.next_deadline(), None);
        assert!(pages.iter().all(|it| it.len() <= PEER_FRAMES_MAX));
        let is_request = |it: &(NodeId, BuildMessage)| matches!(it.1, BuildMessage::Request(_));
        assert_eq!(pages[0].iter().take_while(|it| is_request(it)).count(), 32);
        let all: Vec<_> = pages.concat();
        let reports = ids.iter().flat_map(|it| builds.builds[it].reports.values());
        let expected: Vec<_> = reports.cloned().map(BuildMessage::Report).collect();
        let got: Vec<_> = all.into_iter().skip(32).map(|it| it.1).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_build_that_is_asked_for_often_is_sent_once() {
        let (mut builds, ids) = known(1);
        let wanted = BuildMessage::Want(vec![ids[0]; 32]);
        let got = sent(&receive(&mut builds, 1, 30, wanted));
        assert_eq!(got.len(), 1 + MEMBERS);
    }

    #[test]
    fn what_all_peers_get_in_a_second_has_a_limit_and_members_come_first() {
        let (mut builds, ids) = known(32);
        let mut bytes = BTreeMap::<NodeId, usize>::new();
        let mut count = |messages: Vec<(NodeId, BuildMessage)>| {
            let mut total = 0;
            for (to, message) in messages {
                let len = message.to_bytes().len();
                *bytes.entry(to).or_default() += len;
                total += len;
            }
            total
        };
        let mut total = 0;
        for eve in 30..130 {
            let got = receive(&mut builds, 1, eve, BuildMessage::Want(ids.clone()));
            total += count(sent(&got));
        }
        assert!((BYTES_MAX - 2_000..=BYTES_MAX).contains(&total), "{total}");
        let got = receive(&mut builds, 1, 2, BuildMessage::Want(ids.clone()));
        assert_eq!(sent(&got), [], "nothing is left in this second");
        let next = expire(&mut builds, 2);
        assert_eq!(next[0].0, keys(2).id());
        assert!(count(next) <= BYTES_MAX);
        for secs in 3..40 {
            assert!(count(expire(&mut builds, secs)) <= BYTES_MAX);
        }
        assert_eq!(builds.serving.next_deadline(), None);
        let each: Vec<usize> = (31..130).map(|it| bytes[&keys(it).id()]).collect();
        assert!(each.windows(2).all(|it| it[0] == it[1]), "all got the same");
    }

    #[test]
    fn a_message_that_does_not_fit_ends_the_second() {
        let (now, next) = (Time::from_nanos(0), Time::from_nanos(SECOND_NANOS));
        let mut spent = Spent::default();
        let (alice, bob) = (keys(1).id(), keys(2).id());
        assert!(spent.take(now, alice, PEER_BYTES_MAX - 1));
        assert!(!spent.is_over(now, &alice));
        assert!(!spent.take(now, alice, 2));
        assert!(spent.is_over(now, &alice));
        assert!(!spent.is_over(now, &bob), "only for that peer");
        for number in 3..6 {
            assert!(spent.take(now, keys(number).id(), PEER_BYTES_MAX));
        }
        assert!(!spent.take(now, bob, 2));
        assert!(spent.is_over(now, &bob));
        assert!(!spent.is_over(next, &alice));
        for _ in 0..PEER_FRAMES_MAX {
            assert!(spent.take(next, alice, 1));
        }
        assert!(spent.is_over(next, &alice));
        assert!(!spent.is_over(next, &bob));
    }

    #[test]
    fn strangers_fill_the_list_and_members_are_noted_still() {
        let (mut builds, ids) = known(1);
        for number in 0..WAITING_MAX {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            builds.note_wanted(PublicKey(bytes), ids[0], Rest::All);
        }
        assert_eq!(builds.serving.waiting, WAITING_MAX);
        builds.note_wanted(keys(30).id(), ids[0], Rest::All);
        assert_eq!(builds.serving.waiting, WAITING_MAX);
        builds.note_wanted(keys(2).id(), ids[0], Rest::All);
        assert_eq!(builds.serving.waiting, WAITING_MAX + 1);
        for secs in 1..200 {
            expire(&mut builds, secs);
        }
        assert_eq!((builds.serving.waiting, builds.serving.peers.len()), (0, 0));
    }

    #[test]
    fn nobody_waits_for_a_peer_that_is_gone() {
        let (mut builds, ids) = known(32);
        receive(&mut builds, 1, 30, BuildMessage::Want(ids));
        assert!(builds.serving.next_deadline().is_some());
        builds.forget_peer(&keys(30).id());
        assert_eq!(builds.serving.next_deadline(), None);
    }
}
