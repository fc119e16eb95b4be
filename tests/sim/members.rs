//! Networks of other sizes, and networks whose authorized nodes change.

use std::time::Duration;

use crate::kogge::proto::chain::testing::card;
use crate::kogge::proto::pool::Change;
use crate::plan::Reform;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// The owner of an authorized node marks the planned change, if it still makes sense.
    pub(crate) fn mark_reform(&mut self, node: usize) {
        let change = match self.plan.reform {
            Some((_, Reform::Admit(it))) => admit(it),
            Some((_, Reform::Dismiss(it))) => dismiss(self, it),
            None => return,
        };
        let (now, wall) = self.clock(node);
        let Some(engine) = self.nodes[node].engine.as_mut() else {
            return;
        };
        let answer = engine.mark(now, wall, change);
        self.say(node, || format!("marks: {answer:?}"));
        self.turn(node);
    }

    /// The owner of an authorized node consents to a change.
    fn mark(&mut self, node: usize, change: &Change) {
        let (now, wall) = self.clock(node);
        let engine = self.nodes[node].engine.as_mut().expect("the node runs");
        engine
            .mark(now, wall, change.clone())
            .expect("the mark is taken");
        self.turn(node);
    }

    /// Numbers of the authorized nodes, as a node sees them.
    fn members_at(&self, node: usize) -> Vec<usize> {
        let snapshot = self.snapshot(node);
        let mut members: Vec<usize> = snapshot
            .members
            .iter()
            .filter_map(|it| self.number(&it.node))
            .collect();
        members.sort_unstable();
        members
    }

    fn members_become(&mut self, wanted: &[usize]) {
        let all = |it: &Self| (0..it.nodes.len()).all(|node| it.members_at(node) == wanted);
        let took = self.run_until(SECOND * 30, all);
        self.must_stand();
        assert!(took.is_some(), "{:?}", self.members_at(0));
    }
}

fn admit(node: usize) -> Change {
    Change::AddNode(Box::new(card(u8::try_from(node).unwrap())))
}

fn dismiss(world: &World, node: usize) -> Change {
    Change::RemoveNode {
        node: world.nodes[node].id(),
        reason: "its owner left".into(),
    }
}

#[test]
fn a_fifth_node_is_admitted_by_three_admins_and_a_founder_leaves() {
    for seed in 0..5 {
        let mut world = World::calm(seed, 4, 2);
        world.ask_now(5);
        world.must_settle(SECOND * 10);
        let change = admit(4);
        for node in [0, 1] {
            world.mark(node, &change);
        }
        world.run_for(SECOND * 5);
        assert_eq!(
            world.members_at(0),
            [0, 1, 2, 3],
            "two of four are not enough"
        );
        world.mark(2, &change);
        world.members_become(&[0, 1, 2, 3, 4]);
        world.ask_now(5);
        world.must_settle(SECOND * 10);
        world.must_cover();

        let change = dismiss(&world, 0);
        for node in [1, 2, 3, 4] {
            world.mark(node, &change);
        }
        world.members_become(&[1, 2, 3, 4]);
        world.kill(1, SECOND * 20);
        world.ask_now(0);
        world.run_for(SECOND * 20);
        world.must_settle(SECOND * 20);
        world.must_cover();
    }
}

#[test]
fn an_admission_survives_the_death_of_everybody() {
    let mut world = World::calm(11, 4, 1);
    let change = admit(4);
    for node in [0, 1, 2] {
        world.mark(node, &change);
    }
    world.members_become(&[0, 1, 2, 3, 4]);
    for node in 0..5 {
        world.kill(node, SECOND);
    }
    world.run_for(SECOND * 10);
    world.members_become(&[0, 1, 2, 3, 4]);
    world.ask_now(4);
    world.must_settle(SECOND * 20);
    world.must_cover();
}

#[test]
fn seven_authorized_nodes_bear_two_dead_ones() {
    let mut world = World::calm(12, 7, 2);
    for node in [0, 8, 3] {
        world.ask_now(node);
    }
    world.must_settle(SECOND * 15);
    world.kill(5, SECOND * 30);
    world.kill(6, SECOND * 30);
    world.ask_now(7);
    world.run_for(SECOND * 15);
    world.must_stand();
    assert!(
        world.nodes[0]
            .vault
            .disk()
            .has_package(&crate::pipeline::purl(3, false))
    );
    world.run_for(SECOND * 20);
    world.must_settle(SECOND * 30);
    world.must_cover();
}

#[test]
fn a_node_alone_decides_alone_and_survives_its_death() {
    let mut world = World::calm(13, 1, 0);
    for _ in 0..3 {
        world.ask_now(0);
        world.must_settle(SECOND * 10);
    }
    world.kill(0, SECOND);
    world.run_for(SECOND * 2);
    world.ask_now(0);
    world.must_settle(SECOND * 10);
    world.must_cover();
}
