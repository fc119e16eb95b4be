//! What two nodes lack of each other's unfinished builds, after they were apart.
//!
//! ```text
//! Connected ──► Open: all unfinished builds, 48 bytes each
//! Open ──► Want, a few builds at a time, while there is room ──► Request and Reports of each
//!      ──► Open: of those that the peer takes for unfinished and that are over here
//! ```
//!
//! A page of builds per second for as long as it takes: however many builds were begun on either
//! side of a partition, both sides know all of them in the end, and no queue overflows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::base::{NodeId, Time};
use crate::proto::build::interface::Effect;
use crate::proto::build::machine::{
    BUILDS_MAX, Builds, FIRST_ATTEMPT_MAX, PEER_ACTIVE_MAX, REMOTE_ACTIVE_MAX,
};
use crate::proto::build::message::{BuildMessage, Open, Reports, WANT_MAX};
use crate::proto::build::record::Record;
use crate::proto::build::spec::BuildId;
use crate::proto::chain::member::MEMBERS_MAX;

/// Shortest time between two pages that a peer is asked for.
pub const WANT_INTERVAL: Duration = Duration::from_secs(1);

/// How often a peer is asked for the same build; an answer may be lost.
const TRIES_MAX: u8 = 3;

/// Most peers that are being asked at a time. At the limit an authorized node takes the place of one
/// that is not, and any peer that of one without authority from which nothing came for
/// [`PATIENCE_TIME`]; the lists of others are not looked at. They hear of the builds from the first
/// ones.
const PEERS_MAX: usize = MEMBERS_MAX;

/// How long a peer keeps its place, against others that want it, without bringing a build.
const PATIENCE_TIME: Duration = Duration::from_secs(60);

/// Most builds that are noted to be asked of one peer; what is beyond it is left out. Its open ones,
/// and those that are over there.
const LACKING_MAX: usize = 2 * BUILDS_MAX;

/// Unfinished builds of one peer above which nothing more is asked of it: the rest of its
/// [`PEER_ACTIVE_MAX`] is for what it gossips.
const ASKED_ACTIVE_MAX: usize = PEER_ACTIVE_MAX / 2;

/// What peers have that this node lacks.
#[derive(Debug, Default)]
pub(crate) struct Lacking {
    peers: BTreeMap<NodeId, Wants>,
}

#[derive(Debug)]
struct Wants {
    /// Builds, and how often the peer was asked for each.
    builds: VecDeque<(BuildId, u8)>,
    /// When the next page is asked for.
    next: Time,
    /// When the peer last brought a build; at first, when it told its list.
    brought: Time,
}

impl Builds {
    /// Tells a new peer what is going on.
    pub(crate) fn tell(&self, peer: NodeId, out: &mut Vec<Effect>) {
        let open: Vec<Open> = self.unfinished().map(Record::open).collect();
        if !open.is_empty() {
            out.push(Effect::SendTo(peer, BuildMessage::Open(open)));
        }
    }

    /// Notes what is to be asked of a peer, and tells it what is over here.
    pub(crate) fn on_open(
        &mut self,
        now: Time,
        peer: NodeId,
        theirs: &[Open],
        out: &mut Vec<Effect>,
    ) {
        let mut over = Vec::new();
        let mut builds = VecDeque::new();
        let mut named = BTreeSet::new();
        for it in theirs.iter().filter(|it| named.insert(it.build)) {
            let Some(record) = self.builds.get(&it.build) else {
                // What is over, and forgotten here, is not begun again.
                if it.attempt <= FIRST_ATTEMPT_MAX && !it.is_over {
                    builds.push_back((it.build, 0));
                }
                continue;
            };
            let ours = record.open();
            // Of what is over on both sides nobody needs to hear any more.
            if (ours.attempt, ours.reports) == (it.attempt, it.reports)
                || (ours.is_over && it.is_over)
            {
                continue;
            }
            if ours.is_over && it.attempt <= ours.attempt {
                over.push(ours);
            } else {
                // Whether its answer brings news is not known, so it is asked once.
                builds.push_back((it.build, TRIES_MAX - 1));
            }
        }
        // Never longer than the list that it answers, so it needs no limit.
        if !over.is_empty() {
            out.push(Effect::SendTo(peer, BuildMessage::Open(over)));
        }
        if builds.is_empty() || !self.make_place(now, &peer) {
            return;
        }
        let wants = self.lacking.peers.entry(peer).or_insert(Wants {
            builds: VecDeque::new(),
            next: now,
            brought: now,
        });
        let listed: BTreeSet<BuildId> = wants.builds.iter().map(|it| it.0).collect();
        builds.retain(|it| !listed.contains(&it.0));
        builds.truncate(LACKING_MAX.saturating_sub(wants.builds.len()));
        wants.builds.append(&mut builds);
        self.ask(now, out);
    }

    /// Whether a peer is among those that are asked, or can be.
    fn make_place(&mut self, now: Time, peer: &NodeId) -> bool {
        let peers = &self.lacking.peers;
        if peers.contains_key(peer) || peers.len() < PEERS_MAX {
            return true;
        }
        let is_member = |it: &NodeId| self.members.by_node(it).is_some();
        let strangers = peers.iter().filter(|it| !is_member(it.0));
        let laziest = strangers.min_by_key(|it| it.1.brought);
        let Some((laziest, wants)) = laziest.map(|it| (*it.0, it.1)) else {
            return false;
        };
        let may_go = is_member(peer) || PATIENCE_TIME <= now.since(wants.brought);
        if may_go {
            self.lacking.peers.remove(&laziest);
        }
        may_go
    }

    /// Asks peers for the next pages.
    pub(crate) fn ask(&mut self, now: Time, out: &mut Vec<Effect>) {
        let peers = self.lacking.peers.iter();
        let due: Vec<NodeId> = peers
            .filter(|it| it.1.next <= now)
            .map(|it| *it.0)
            .collect();
        for peer in due {
            let Some(mut wants) = self.lacking.peers.remove(&peer) else {
                continue;
            };
            let page = self.page(peer, &mut wants);
            if !page.is_empty() {
                out.push(Effect::SendTo(peer, BuildMessage::Want(page)));
            }
            if !wants.builds.is_empty() {
                wants.next = now + WANT_INTERVAL;
                self.lacking.peers.insert(peer, wants);
            }
        }
    }

    /// What to ask of a peer now. Unknown builds are asked for only as far as there is room, and
    /// wait otherwise.
    fn page(&self, peer: NodeId, wants: &mut Wants) -> Vec<BuildId> {
        let mut room = self.room(peer);
        let mut page = Vec::new();
        for _ in 0..wants.builds.len() {
            let Some((id, tries)) = wants.builds.pop_front() else {
                break;
            };
            let is_known = self.builds.contains_key(&id);
            if is_known && tries + 1 < TRIES_MAX {
                continue;
            }
            if WANT_MAX <= page.len() || (!is_known && room == 0) {
                wants.builds.push_back((id, tries));
                continue;
            }
            room -= usize::from(!is_known);
            page.push(id);
            if tries + 1 < TRIES_MAX {
                wants.builds.push_back((id, tries + 1));
            }
        }
        page
    }

    /// How many more builds may come from a peer.
    fn room(&self, peer: NodeId) -> usize {
        let remote = || self.unfinished().filter(|it| it.from != self.config.node);
        let by_peer = remote().filter(|it| it.from == peer).count();
        let own = ASKED_ACTIVE_MAX.saturating_sub(by_peer);
        own.min(REMOTE_ACTIVE_MAX.saturating_sub(remote().count()))
    }

    /// A peer is gone.
    pub(crate) fn forget_peer(&mut self, peer: &NodeId) {
        self.lacking.peers.remove(peer);
        self.serving.forget_peer(peer);
    }
}

impl Lacking {
    /// A peer brought a build.
    pub(crate) fn brought(&mut self, now: Time, peer: &NodeId) {
        if let Some(wants) = self.peers.get_mut(peer) {
            wants.brought = now;
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.peers.values().map(|it| it.next).min()
    }
}

impl Record {
    /// How the build stands, in short.
    fn open(&self) -> Open {
        let ranks = self
            .reports
            .values()
            .map(|it| (&it.node, it.outcome.rank()));
        Open {
            build: self.id,
            attempt: self.request.attempt,
            reports: Reports::of(ranks),
            is_over: self.state.is_final(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChainId, WallTime};
    use crate::proto::build::network::{NODES, Network};
    use crate::proto::build::samples::{keys, maven};
    use crate::proto::build::{BuildRequest, Config, Input, State};
    use crate::proto::chain::testing::MemoryChain;

    const MINUTE: Duration = Duration::from_secs(60);

    fn spec(number: usize) -> String {
        format!("maven g:a:{number}")
    }

    fn builds() -> Builds {
        let keys = keys(0);
        let config = Config {
            chain: ChainId([1; 32]),
            node: keys.id(),
            vote: keys.vote.clone(),
            parallel_max: 1,
        };
        Builds::new(config, MemoryChain::new(4).state.members().clone())
    }

    fn receive(builds: &mut Builds, secs: u64, from: usize, message: BuildMessage) -> Vec<Effect> {
        let (from, mut out) = (keys(from).id(), Vec::new());
        let now = Time::ZERO + Duration::from_secs(secs);
        let input = Input::Received { from, message };
        builds.handle(now, WallTime::default(), input, &mut out);
        out
    }

    fn request(number: usize) -> BuildMessage {
        BuildMessage::Request(BuildRequest {
            spec: spec(number).parse().unwrap(),
            node: keys(1).id(),
            time: WallTime::default(),
            attempt: 1,
        })
    }

    fn open(numbers: std::ops::Range<usize>) -> BuildMessage {
        let open = |it| Open {
            build: spec(it)
                .parse::<crate::proto::build::BuildSpec>()
                .unwrap()
                .id(),
            attempt: 1,
            reports: Reports::of([]),
            is_over: false,
        };
        BuildMessage::Open(numbers.map(open).collect())
    }

    fn wanted(effects: &[Effect]) -> usize {
        let pages = effects.iter().filter_map(|it| match it {
            Effect::SendTo(_, BuildMessage::Want(it)) => Some(it.len()),
            _ => None,
        });
        pages.sum()
    }

    #[test]
    fn hundreds_of_builds_of_both_sides_are_known_after_a_partition() {
        let quick = |node: usize, spec: &_| {
            let delay = Duration::from_millis(20);
            Some((delay, Ok(maven(node, spec, "same"))))
        };
        let mut network = Network::new(31, Box::new(quick));
        // Node 4 is the only way to node 5.
        network.stop(4);
        let far: Vec<_> = (0..300).map(|it| network.submit(5, &spec(it))).collect();
        let near: Vec<_> = (300..400).map(|it| network.submit(0, &spec(it))).collect();
        network.run(MINUTE);
        network.start(4, Vec::new());
        network.run(5 * MINUTE);
        for id in &far {
            for node in 0..NODES {
                let state = network.status(node, id).map(|it| it.state);
                assert!(
                    matches!(state, Some(State::Committed { .. })),
                    "{node}: {state:?}"
                );
            }
        }
        // What was over before the two sides met is no business of node 5.
        for id in &near {
            let state = network.status(0, id).map(|it| it.state);
            assert!(matches!(state, Some(State::Committed { .. })), "{state:?}");
        }
        assert!(network.nodes.iter().all(|it| it.blamed.is_empty()));
    }

    #[test]
    fn a_node_hears_that_its_open_builds_are_over() {
        let quick = |node: usize, spec: &_| {
            let delay = Duration::from_millis(20);
            Some((delay, Ok(maven(node, spec, "same"))))
        };
        let mut network = Network::new(32, Box::new(quick));
        network.stop(4);
        let ids: Vec<_> = (0..150).map(|it| network.submit(5, &spec(it))).collect();
        for it in 0..150 {
            network.submit(0, &spec(it));
        }
        network.run(2 * MINUTE);
        network.start(4, Vec::new());
        // Node 4 does not know them either, and both ask those who do.
        network.run(3 * MINUTE);
        for id in &ids {
            let state = network.status(5, id).map(|it| it.state);
            assert!(matches!(state, Some(State::Committed { .. })), "{state:?}");
        }
    }

    #[test]
    fn pages_go_on_until_everything_came_and_wait_for_room() {
        let mut builds = builds();
        let mut asked = wanted(&receive(&mut builds, 0, 1, open(0..300)));
        assert_eq!(asked, WANT_MAX);
        let mut came = 0;
        for secs in 1..60 {
            // The answer to the last page, and the next one.
            for number in came..asked.min(300) {
                receive(&mut builds, secs, 1, request(number));
            }
            came = asked.min(300);
            let mut out = Vec::new();
            let now = Time::ZERO + Duration::from_secs(secs);
            builds.expire(now, WallTime::default(), &mut out);
            asked += wanted(&out);
        }
        assert_eq!(
            builds.list().count(),
            ASKED_ACTIVE_MAX,
            "the rest waits for room"
        );
        assert!(builds.lacking.next_deadline().is_some());
        builds.forget_peer(&keys(1).id());
        assert_eq!(builds.lacking.next_deadline(), None);
    }

    #[test]
    fn a_second_list_of_a_peer_does_not_replace_the_first() {
        let mut builds = builds();
        receive(&mut builds, 0, 1, open(0..100));
        receive(&mut builds, 0, 1, open(90..110));
        assert_eq!(builds.lacking.peers[&keys(1).id()].builds.len(), 110);
    }

    #[test]
    fn nodes_for_which_a_build_is_over_leave_each_other_in_peace() {
        let mut builds = builds();
        receive(&mut builds, 0, 1, request(7));
        let id = builds.list().next().unwrap().id;
        let (part, index, mut out) = (crate::proto::build::Part::Package, 3, Vec::new());
        let logged = Input::Logged { id, part, index };
        builds.handle(Time::ZERO, WallTime::default(), logged, &mut out);
        let theirs = |is_over| {
            let reports = Reports([9; 8]);
            let it = Open {
                build: id,
                attempt: 1,
                reports,
                is_over,
            };
            BuildMessage::Open(vec![it])
        };
        let told = receive(&mut builds, 0, 1, theirs(false));
        let over = builds.builds[&id].open();
        assert!(over.is_over);
        let expected = Effect::SendTo(keys(1).id(), BuildMessage::Open(vec![over]));
        assert_eq!(told[0], expected);
        let quiet = receive(&mut builds, 0, 1, theirs(true));
        assert!(matches!(quiet[..], [Effect::Judge(..)]), "{quiet:?}");
    }

    #[test]
    fn a_peer_that_does_not_answer_is_asked_a_few_times() {
        let mut builds = builds();
        let mut asked = wanted(&receive(&mut builds, 0, 1, open(0..2)));
        for secs in 1..60 {
            let (mut out, now) = (Vec::new(), Time::ZERO + Duration::from_secs(secs));
            builds.expire(now, WallTime::default(), &mut out);
            asked += wanted(&out);
        }
        assert_eq!(asked, 2 * usize::from(TRIES_MAX));
        assert_eq!(builds.lacking.next_deadline(), None);
    }

    #[test]
    fn what_is_over_elsewhere_and_unknown_here_is_not_asked_for() {
        let mut builds = builds();
        let BuildMessage::Open(mut theirs) = open(0..3) else {
            panic!("not a list");
        };
        theirs[1].is_over = true;
        let asked = receive(&mut builds, 0, 1, BuildMessage::Open(theirs.clone()));
        let expected = BuildMessage::Want(vec![theirs[0].build, theirs[2].build]);
        assert_eq!(asked[0], Effect::SendTo(keys(1).id(), expected));
    }

    #[test]
    fn a_build_that_is_listed_often_is_asked_for_once() {
        let mut builds = builds();
        let BuildMessage::Open(theirs) = open(0..1) else {
            panic!("not a list");
        };
        let theirs = BuildMessage::Open(vec![theirs[0]; BUILDS_MAX]);
        assert_eq!(wanted(&receive(&mut builds, 0, 1, theirs)), 1);
    }

    #[test]
    fn strangers_do_not_keep_members_from_being_asked_nor_others_for_ever() {
        let mut builds = builds();
        // They never bring what they list.
        let is_asked = |builds: &Builds, peer: usize| {
            let peers = &builds.lacking.peers;
            peers.contains_key(&keys(peer).id())
        };
        for eve in 100..100 + PEERS_MAX {
            receive(&mut builds, 0, eve, open(0..1_000));
        }
        receive(&mut builds, 0, 50, open(0..1));
        assert!(!is_asked(&builds, 50), "no place for one more stranger");
        receive(&mut builds, 1, 1, open(0..1_000));
        assert!(is_asked(&builds, 1), "a member");
        assert_eq!(builds.lacking.peers.len(), PEERS_MAX);
        let busy = 100 + PEERS_MAX - 1;
        receive(&mut builds, 50, busy, request(7));
        for (secs, expected) in [(59, false), (60, true)] {
            receive(&mut builds, secs, 51, open(0..9));
            assert_eq!(is_asked(&builds, 51), expected);
        }
        for (number, bob) in (170..170 + PEERS_MAX).enumerate() {
            receive(&mut builds, 60, bob, open(number..number + 9));
        }
        assert!(is_asked(&builds, busy), "it brought a build of late");
        assert!(is_asked(&builds, 1));
        assert_eq!(builds.lacking.peers.len(), PEERS_MAX);
    }
}
