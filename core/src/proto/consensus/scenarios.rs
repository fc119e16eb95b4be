//! What a network of machines must do, whatever happens to it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::PublicKey;
use crate::proto::chain::testing::node_keys;
use crate::proto::consensus::Fault;
use crate::proto::consensus::harness::{Change, Habit, Net};

#[test]
fn crashes_loss_and_delays_never_fork_or_contradict_and_always_recover() {
    for seed in 0..100 {
        let mut net = Net::new(seed, 4, 4);
        net.loss = seed % 5 * 10;
        net.crashes = seed % 3 * 40;
        net.delay_max = Duration::from_millis([2, 40, 400][usize::try_from(seed % 3).unwrap()]);
        net.run_to(6);
        assert!(
            net.nodes.iter().all(|it| it.faults.is_empty()),
            "seed {seed}"
        );
    }
}

#[test]
fn one_of_four_silent_does_not_stop_the_others() {
    for silent in 0..4 {
        let mut net = Net::new(silent, 4, 4);
        net.nodes[usize::try_from(silent).unwrap()].habit = Habit::Silent;
        net.run_to(5);
    }
}

#[test]
fn networks_of_one_two_and_seven_decide() {
    for members in [1, 2, 7] {
        let mut net = Net::new(1, members, members);
        net.run_to(3);
        assert!(net.nodes.iter().all(|it| it.rounds_max == 0));
    }
}

#[test]
fn a_divided_network_waits_and_goes_on_when_healed() {
    for seed in 0..5 {
        let mut net = Net::new(seed, 4, 4);
        net.run_to(2);
        net.groups = Some(vec![0, 0, 1, 1]);
        net.target = 5;
        for at in 0..4 {
            net.start(at);
        }
        assert!(!net.run(Duration::from_secs(30), |it| it.decided.len() > 2));
        net.groups = None;
        let healed = net.now;
        net.run_to(5);
        assert!(
            net.now.since(healed) < Duration::from_secs(60),
            "seed {seed}"
        );
    }
}

#[test]
fn invalid_proposals_are_voted_nil() {
    let mut net = Net::new(3, 4, 4);
    let bad = 1;
    net.nodes[bad].habit = Habit::BadBlocks;
    net.run_to(8);
    assert!(net.nodes.iter().any(|it| it.rounds_max > 0));
    let key = net.nodes[bad].keys.vote.public();
    let mut proposals = net
        .signed
        .iter()
        .filter(|((who, kind, ..), _)| *who == key && *kind == 0);
    assert!(proposals.clone().count() > 0);
    let decided: Vec<_> = net.decided.values().copied().map(Some).collect();
    assert!(proposals.all(|(_, block)| !decided.contains(block)));
}

#[test]
fn a_double_vote_is_blamed_and_harms_nobody() {
    let mut net = Net::new(4, 4, 4);
    net.nodes[0].habit = Habit::Equivocates;
    net.run_to(6);
    let eve = net.nodes[0].keys.vote.public();
    let proven = |(member, fault): &(PublicKey, Fault)| {
        *member == eve && matches!(fault, Fault::DoubleVote(_))
    };
    assert!(net.nodes[1].faults.iter().any(proven));
    let honest = net.nodes.iter().flat_map(|it| &it.faults);
    assert_eq!(honest.filter(|(member, _)| *member != eve).count(), 0);
}

#[test]
fn members_change_at_the_next_height() {
    for seed in 0..10 {
        let mut net = Net::new(seed, 4, 6);
        net.changes = BTreeMap::from([
            (2, Change::Add(4)),
            (3, Change::Remove(0)),
            (4, Change::Add(5)),
            (5, Change::Remove(1)),
        ]);
        net.crashes = seed % 2 * 20;
        net.run_to(8);
        let sets: Vec<Vec<u8>> = net.nodes[2]
            .blocks
            .iter()
            .map(|(_, certificate)| {
                let voters = certificate.signatures.iter().map(|it| it.vote);
                let number = |key| {
                    (0..6)
                        .find(|it| node_keys(*it).vote.public() == key)
                        .unwrap()
                };
                let mut numbers: Vec<_> = voters.map(number).collect();
                numbers.sort_unstable();
                numbers
            })
            .collect();
        let may_sign: [&[u8]; 8] = [
            &[0, 1, 2, 3],
            &[0, 1, 2, 3],
            &[0, 1, 2, 3, 4],
            &[1, 2, 3, 4],
            &[1, 2, 3, 4, 5],
            &[2, 3, 4, 5],
            &[2, 3, 4, 5],
            &[2, 3, 4, 5],
        ];
        for (height, (set, may)) in sets.iter().zip(may_sign).enumerate() {
            let allowed = set.iter().all(|it| may.contains(it));
            assert!(allowed, "seed {seed}, height {}: {set:?}", height + 1);
        }
    }
}

#[test]
fn an_idle_network_is_silent_and_one_nodes_work_wakes_the_others() {
    let mut net = Net::new(5, 4, 4);
    net.run_to(3);
    net.run(Duration::from_secs(5), |_| false);
    for node in &net.nodes {
        let machine = node.machine.as_ref().unwrap();
        assert_eq!(
            (machine.next_deadline(), machine.is_running()),
            (None, false)
        );
    }
    let mut proposer = 0;
    while net.decided.len() < 4 {
        net.start(proposer);
        net.run(Duration::from_secs(60), |it| it.decided.len() == 4);
        proposer += 1;
    }
    assert_eq!(proposer, 1, "the first node's message starts the others");
}

#[test]
fn a_hostile_member_stops_nobody() {
    for seed in 0..20 {
        let mut net = Net::new(seed, 4, 4);
        net.nodes[1].habit = Habit::Hostile;
        net.delay_max = Duration::from_millis(200);
        net.run_to(6);
        let eve = net.nodes[1].keys.vote.public();
        let faults = net.nodes.iter().flat_map(|it| &it.faults);
        assert_ne!(faults.clone().count(), 0, "seed {seed}");
        let others: Vec<_> = faults.filter(|(member, _)| *member != eve).collect();
        assert!(others.is_empty(), "seed {seed}: {others:?}");
    }
}

#[test]
fn after_many_failed_rounds_the_members_still_agree() {
    let mut net = Net::new(6, 4, 4);
    let set = |net: &mut Net, habit| net.nodes.iter_mut().for_each(|it| it.habit = habit);
    set(&mut net, Habit::BadBlocks);
    net.run(Duration::from_secs(60), |_| false);
    set(&mut net, Habit::Honest);
    net.run_to(2);
    assert!(net.nodes.iter().all(|it| it.rounds_max > 10));
    assert!(net.nodes.iter().all(|it| it.faults.is_empty()));
}
