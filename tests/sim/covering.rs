//! How soon a commit is covered by a checkpoint, everywhere.

use std::time::Duration;

use crate::kogge::base::Time;
use crate::plan::{Plan, name};
use crate::run::uncovered;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

/// How often the world is looked at.
const STEP: Duration = Duration::from_millis(5);

/// From the first node that has a block to the last regular node that has a checkpoint of it.
const COVERED_WITHIN: Duration = SECOND;

/// As [`COVERED_WITHIN`], for a node that was away and gets the signatures for the asking.
const TOLD_WITHIN: Duration = Duration::from_secs(3);

impl World {
    /// A world of four members and some regular nodes in a chain: gossip reaches all but the first
    /// of them only if the one before passes it on.
    fn chained(seed: u64, regulars: usize) -> Self {
        let mut world = Self::new(Plan::quiet(seed, 4, regulars));
        world.is_chain = true;
        world.start_all();
        world.run_for(SECOND * 5);
        world.must_stand();
        for node in 5..4 + regulars {
            let peers: Vec<usize> = world.nodes[node].links.keys().copied().collect();
            assert!(peers.iter().all(|it| node.abs_diff(*it) == 1), "{peers:?}");
        }
        world
    }

    /// Runs for some time; returns the longest that a block had to wait for its checkpoint at some
    /// regular node, and the node.
    fn slowest_cover(&mut self, time: Duration) -> (Duration, &'static str) {
        let known = self.oracle.blocks.len();
        let mut committed: Vec<Time> = Vec::new();
        let mut covered = vec![known; self.nodes.len()];
        let mut slowest = (Duration::ZERO, "nobody");
        let end = self.now + time;
        while self.now < end || covered[4..].iter().any(|it| *it < known + committed.len()) {
            assert!(self.now < end + SECOND * 70, "{:?}", uncovered(self));
            self.run_for(STEP);
            self.must_stand();
            committed.resize(self.oracle.blocks.len() - known, self.now);
            for (node, at) in covered.iter_mut().enumerate().skip(4) {
                let disk = self.nodes[node].vault.disk();
                let size = disk.checkpoint.as_ref().map_or(0, |it| it.0);
                while let Some(block) = self.oracle.blocks.get(*at)
                    && block.size <= size
                {
                    let took = self.now.since(committed[*at - known]);
                    slowest = slowest.max((took, name(node)));
                    *at += 1;
                }
            }
        }
        assert!(!committed.is_empty(), "nothing was committed");
        slowest
    }
}

#[test]
fn every_regular_node_has_a_checkpoint_within_a_second_of_the_commit() {
    for seed in 0..20 {
        let mut star = World::calm(seed, 4, 4);
        let mut chain = World::chained(seed, 4);
        for (kind, world) in [("star", &mut star), ("chain", &mut chain)] {
            world.ask_now(7);
            let (took, node) = world.slowest_cover(SECOND * 10);
            println!("seed {seed}, {kind}: {took:?}, {node}");
            assert!(took < COVERED_WITHIN, "{kind}, {node}: {took:?}");
        }
    }
}

#[test]
fn under_load_checkpoints_keep_up() {
    for seed in 0..4 {
        let mut world = World::chained(seed, 4);
        let mut slowest = (Duration::ZERO, "nobody");
        for at in 0..60 {
            world.ask_now([0, 4, 7][at % 3]);
            world.run_for(Duration::from_millis(1));
        }
        slowest = slowest.max(world.slowest_cover(SECOND * 30));
        println!(
            "seed {seed}: {slowest:?}, {} blocks",
            world.oracle.blocks.len()
        );
        assert!(slowest.0 < COVERED_WITHIN, "{slowest:?}");
    }
}

#[test]
fn a_node_that_was_away_is_told_the_signatures_that_it_missed() {
    for seed in 0..8 {
        let mut world = World::calm(seed, 4, 2);
        world.kill(5, SECOND * 20);
        world.ask_now(0);
        world.run_for(SECOND * 20);
        assert_eq!(world.nodes[5].height(), 0);
        let back = world.now;
        world.must_settle(SECOND * 10);
        let caught_up = world.now;
        let took = world.run_until(TOLD_WITHIN, |it| uncovered(it).is_none());
        world.must_stand();
        println!("seed {seed}: {:?}, then {took:?}", caught_up.since(back));
        assert!(took.is_some(), "seed {seed}: {:?}", uncovered(&world));
    }
}
