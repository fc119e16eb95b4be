//! Faults that operators know by name: partitions, dead nodes, restarts, wrong clocks, bad peers.

use std::time::Duration;

use crate::kogge::node::flow::Snapshot;
use crate::plan::{Ask, Plan};
use crate::run::{CHECKPOINT_LIMIT, uncovered, unsettled};
use crate::wire::local;
use crate::world::{World, pairs};

const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// A world whose nodes have found each other.
    pub(crate) fn calm(seed: u64, members: usize, regulars: usize) -> Self {
        let mut world = Self::new(Plan::quiet(seed, members, regulars));
        world.start_all();
        world.run_for(SECOND * 5);
        world.must_stand();
        world
    }

    /// Asks a node for the next package.
    pub(crate) fn ask_now(&mut self, node: usize) {
        let at = self.plan.asks.len();
        self.plan.asks.push(Ask {
            at: 0,
            node,
            number: u32::try_from(at).unwrap(),
            is_image: at % 3 == 2,
            odd: None,
        });
        self.ask(at);
    }

    pub(crate) fn must_stand(&self) {
        assert_eq!(self.failure, None);
    }

    /// Runs until all have the same log with all that was asked for; returns how long it took.
    pub(crate) fn must_settle(&mut self, max: Duration) -> Duration {
        let took = self.run_until(max, |it| unsettled(it).is_none());
        self.must_stand();
        took.unwrap_or_else(|| panic!("after {max:?}: {:?}", unsettled(self)))
    }

    /// Runs until all have a checkpoint of the newest head.
    pub(crate) fn must_cover(&mut self) {
        let took = self.run_until(CHECKPOINT_LIMIT, |it| uncovered(it).is_none());
        self.must_stand();
        assert!(took.is_some(), "{:?}", uncovered(self));
    }

    pub(crate) fn snapshot(&self, node: usize) -> Snapshot {
        let it = &self.nodes[node];
        let engine = it.engine.as_ref().expect("the node runs");
        engine.snapshot(local(it.booted, self.now))
    }

    /// Members that a node can talk to, itself included.
    fn present(&self, node: usize) -> usize {
        let snapshot = self.snapshot(node);
        let admitted = snapshot.admitted.iter();
        1 + admitted
            .filter(|it| snapshot.members.by_node(&it.0).is_some())
            .count()
    }

    fn part(&mut self, side: &[usize]) {
        let nodes = self.nodes.len();
        for (a, b) in pairs(nodes).filter(|it| side.contains(&it.0) != side.contains(&it.1)) {
            self.net.block(a, b);
            if let Some(link) = self.net.between(a, b) {
                self.break_link(link, SECOND);
            }
        }
    }

    fn join(&mut self, side: &[usize]) {
        let nodes = self.nodes.len();
        for (a, b) in pairs(nodes).filter(|it| side.contains(&it.0) != side.contains(&it.1)) {
            self.unblock(a, b);
        }
    }

    /// Runs until all members have links to all others.
    fn reconnect(&mut self) -> Duration {
        let members = self.plan.members;
        let all = |it: &Self| (0..members).all(|node| it.present(node) == members);
        let took = self.run_until(SECOND * 60, all);
        self.must_stand();
        took.expect("members find each other again")
    }

    fn heights(&self) -> Vec<u64> {
        self.nodes.iter().map(|it| it.height()).collect()
    }
}

#[test]
fn two_against_two_decide_nothing_and_agree_soon_after() {
    for seed in 0..8 {
        let mut world = World::calm(seed, 4, 2);
        world.ask_now(0);
        world.must_settle(SECOND * 10);
        world.part(&[0, 1, 4]);
        world.run_for(SECOND * 2);
        let before = world.heights();
        world.ask_now(0);
        world.ask_now(3);
        world.run_for(SECOND * 20);
        world.must_stand();
        assert_eq!(world.heights(), before);
        for node in 0..4 {
            assert_eq!(world.present(node), 2);
        }
        world.join(&[0, 1, 4]);
        let took = world.must_settle(SECOND * 5);
        let reconnected = world.reconnect();
        println!("seed {seed}: equal after {took:?}, all links {reconnected:?} later");
        world.must_cover();
    }
}

#[test]
fn three_against_one_go_on_and_the_one_catches_up() {
    for seed in 0..8 {
        let mut world = World::calm(seed, 4, 2);
        world.part(&[3]);
        world.run_for(SECOND * 2);
        for _ in 0..3 {
            world.ask_now(1);
            world.run_for(SECOND * 8);
        }
        world.must_stand();
        let heights = world.heights();
        assert!(3 <= heights[0] && heights[3] == 0, "{heights:?}");
        world.join(&[3]);
        let took = world.must_settle(SECOND * 5);
        let reconnected = world.reconnect();
        println!("seed {seed}: equal after {took:?}, all links {reconnected:?} later");
        world.must_cover();
    }
}

#[test]
fn one_of_four_may_die_and_catches_up_when_it_is_back() {
    let mut world = World::calm(3, 4, 1);
    world.kill(2, SECOND * 60);
    for _ in 0..3 {
        world.ask_now(4);
        world.run_for(SECOND * 10);
    }
    world.must_stand();
    assert!(
        world
            .heights()
            .iter()
            .enumerate()
            .all(|it| it.0 == 2 || 3 <= *it.1)
    );
    world.run_for(SECOND * 30);
    let took = world.must_settle(SECOND * 10);
    println!("caught up {took:?} after 60 s");
    world.must_cover();
}

#[test]
fn with_two_of_four_dead_nothing_is_decided_and_the_status_says_why() {
    let mut world = World::calm(4, 4, 1);
    world.ask_now(0);
    world.must_settle(SECOND * 10);
    let before = world.heights();
    world.kill(2, SECOND * 50);
    world.kill(3, SECOND * 50);
    world.run_for(SECOND * 2);
    world.ask_now(1);
    world.run_for(SECOND * 40);
    world.must_stand();
    assert_eq!(world.heights(), before);
    for node in [0, 1] {
        assert_eq!(world.present(node), 2);
        assert_eq!(world.snapshot(node).members.quorum(), 3);
    }
    world.run_for(SECOND * 20);
    world.must_settle(SECOND * 40);
}

#[test]
fn a_node_that_dies_ten_times_while_it_catches_up_gets_there() {
    let mut world = World::calm(5, 4, 2);
    world.kill(5, SECOND * 3_600);
    for _ in 0..40 {
        world.ask_now(0);
        world.run_for(SECOND);
    }
    world.run_for(SECOND * 30);
    world.must_stand();
    world.nodes[5].disk_slowness = 40;
    let mut deaths = 0;
    while deaths < 10 {
        world.start(5);
        let pause = Duration::from_millis(world.rng.below(700));
        world.run_for(pause);
        world.kill(5, SECOND * 3_600);
        deaths += 1;
    }
    let height = world.heights()[5];
    world.start(5);
    let took = world.must_settle(SECOND * 30);
    println!(
        "at {height} of {} after 10 deaths; the rest took {took:?}",
        world.heights()[0]
    );
    world.must_cover();
}

#[test]
fn hostile_peers_are_banned_and_harm_nobody() {
    for seed in 0..10 {
        let mut world = World::calm(seed, 4, 2);
        let eves = [(); 4].map(|()| world.add_hostile());
        for _ in 0..6 {
            world.ask_now(4);
            world.run_for(SECOND * 5);
        }
        world.must_settle(SECOND * 10);
        world.must_cover();
        let bans = world.banned.len();
        let banned = |eve| world.banned.keys().filter(|it| it.1 == eve).count();
        let each: Vec<usize> = eves.iter().map(|it| banned(*it)).collect();
        println!("seed {seed}: {bans} bans, of each {each:?}");
        assert!(each.iter().all(|it| 0 < *it), "{each:?}");
    }
}

#[test]
fn a_member_whose_clock_is_years_off_stops_nobody() {
    const DAY: i64 = 86_400_000;
    for by in [400 * DAY, DAY / 24, -DAY / 24, -400 * DAY] {
        let mut world = World::calm(6, 4, 1);
        world.nodes[1].skew = by;
        for node in [4, 0, 2, 3] {
            world.ask_now(node);
            world.run_for(SECOND * 4);
        }
        world.must_settle(SECOND * 20);
        world.nodes[1].skew = 0;
        world.ask_now(1);
        world.must_settle(SECOND * 20);
        world.must_cover();
    }
}

#[test]
fn an_idle_network_is_quiet() {
    let mut world = World::calm(7, 4, 3);
    world.ask_now(0);
    world.must_settle(SECOND * 10);
    world.run_for(SECOND * 60);
    let (events, before) = (world.events, world.now);
    world.run_for(SECOND * 600);
    world.must_stand();
    let seconds = world.now.since(before).as_secs_f64();
    let rate = (world.events - events) as f64 / seconds / 7.0;
    println!("{rate:.2} events a second and node");
    assert!(rate < 2.0, "{rate}");
}

#[test]
fn everything_asked_for_during_a_partition_is_built_after_it() {
    let mut world = World::calm(8, 4, 2);
    world.part(&[0, 1, 4]);
    world.run_for(SECOND * 2);
    // As many as a peer is told about when it connects.
    for at in 0..64 {
        world.ask_now([0, 4][at % 2]);
        world.run_for(SECOND / 5);
    }
    world.run_for(SECOND * 200);
    world.must_stand();
    world.join(&[0, 1, 4]);
    world.reconnect();
    let took = world.must_settle(SECOND * 400);
    println!("64 packages {took:?} after the partition");
    world.must_cover();
}
