//! What a small network does with requests, from the owner's word to the log.

use std::time::Duration;

use crate::base::{Sha256, Signature, WallTime};
use crate::proto::build::machine::{
    BUILDS_MAX, PEER_ACTIVE_MAX, REMOTE_ACTIVE_MAX, REPORT_TIMEOUT,
};
use crate::proto::build::network::{AUTHORIZED, NODES, Network};
use crate::proto::build::samples::{Pipeline, image, keys, maven};
use crate::proto::build::serve::PEER_FRAMES_MAX;
use crate::proto::build::{
    BuildMessage, BuildRequest, BuildSpec, Built, Failure, FailureCode, Input, Outcome, Part,
    Pending, Reason, Refusal, Report, State,
};

const SPEC: &str = "maven org.example:lib:1.0";
const PURL: &str = "pkg:maven/org.example/lib@1.0";

const MINUTE: Duration = Duration::from_secs(60);

/// After two seconds, what `result` says.
fn pipeline(result: impl Fn(usize, &BuildSpec) -> Result<Built, Failure> + 'static) -> Pipeline {
    Box::new(move |node, spec| Some((Duration::from_secs(2), result(node, spec))))
}

fn equal() -> Pipeline {
    pipeline(|node, spec| Ok(maven(node, spec, "same")))
}

/// The same commit on all of so many nodes.
fn assert_committed(network: &Network, states: &[Option<State>], nodes: usize) {
    let index = network.indexes[PURL];
    assert_eq!(states, vec![Some(State::Committed { index }); nodes]);
}

#[test]
fn duplicates_join_and_equal_results_are_committed_once() {
    for seed in 0..8 {
        let mut network = Network::new(seed, equal());
        let id = network.submit(5, SPEC);
        network.submit(4, SPEC);
        network.run(Duration::from_millis(500));
        assert_eq!(network.submit(0, SPEC), id);
        network.run(MINUTE);
        assert_committed(&network, &network.states(&id), NODES);
        let runs: Vec<usize> = network.nodes.iter().map(|it| it.runs.len()).collect();
        assert_eq!(runs, [1, 1, 1, 1, 0, 0], "seed {seed}");
        assert!(
            network
                .nodes
                .iter()
                .all(|it| it.pool.is_empty() && it.blamed.is_empty())
        );
        // Two files, three or four attestations, and the seal: nothing came twice.
        assert!((6..=7).contains(&network.chain.state.size()), "seed {seed}");
    }
}

#[test]
fn a_tag_is_committed_with_its_image_and_again_when_it_moves() {
    use std::cell::Cell;
    use std::rc::Rc;
    let current = Rc::new(Cell::new(Sha256([1; 32])));
    let upstream = current.clone();
    let mut network = Network::new(
        1,
        pipeline(move |node, spec| Ok(image(node, spec, upstream.get()))),
    );
    let id = network.submit(5, "docker alpine:3.20");
    network.run(MINUTE);
    let first = network.states(&id);
    assert!(
        matches!(first[..], [Some(State::Committed { .. }), ..]),
        "{first:?}"
    );
    assert_eq!(first, vec![first[0].clone(); NODES]);
    let size = network.chain.state.size();

    // Asked again, the tag has not moved: the log stays as it is.
    network.submit(4, "docker alpine:3.20");
    network.run(MINUTE);
    assert_eq!(network.status(4, &id).unwrap().attempt, 2);
    assert_eq!(network.states(&id), first);
    assert_eq!(network.chain.state.size(), size);

    // The image under another tag: only the binding is new.
    let other = network.submit(4, "docker alpine:latest");
    network.run(MINUTE);
    let states = network.states(&other);
    assert_eq!(states, vec![Some(State::Committed { index: size }); NODES]);

    current.set(Sha256([2; 32]));
    network.run(MINUTE);
    network.submit(0, "docker alpine:3.20");
    network.run(MINUTE);
    let moved = network.states(&id);
    assert!(
        matches!(moved[0], Some(State::Committed { .. })),
        "{moved:?}"
    );
    assert_eq!(moved, vec![moved[0].clone(); NODES]);
    assert_ne!(moved, first);
    for byte in [1, 2] {
        let hex = Sha256([byte; 32]);
        assert!(network.is_logged(&format!("pkg:docker/library/alpine@sha256:{hex}")));
    }
}

#[test]
fn different_results_fail_with_both_values_on_every_node() {
    let odd = |node: usize| if node < 2 { "one" } else { "two" };
    let mut network = Network::new(
        2,
        pipeline(move |node, spec| Ok(maven(node, spec, odd(node)))),
    );
    let id = network.submit(5, SPEC);
    network.run(MINUTE);
    for state in network.states(&id) {
        let Some(State::Failed(Reason::DigestsDiffer(list))) = &state else {
            panic!("{state:?}");
        };
        let nodes: Vec<_> = list[0].values.iter().map(|it| it.1.join(" ")).collect();
        assert_eq!((list.len(), list[0].what.as_str()), (1, "a.jar"));
        assert!(nodes.contains(&"node-0 node-1".into()) && nodes.contains(&"node-2 node-3".into()));
        assert!(list[0].values.iter().all(|it| it.0.starts_with("sha256:")));
    }
    assert!(!network.is_logged(PURL));
}

#[test]
fn one_lying_node_changes_nothing() {
    let odd = |node: usize| if node == 3 { "trojan" } else { "same" };
    let mut network = Network::new(
        3,
        pipeline(move |node, spec| Ok(maven(node, spec, odd(node)))),
    );
    let id = network.submit(4, SPEC);
    network.run(MINUTE);
    assert_committed(&network, &network.states(&id), NODES);
}

#[test]
fn one_node_down_still_agrees() {
    let mut network = Network::new(4, equal());
    network.stop(2);
    let id = network.submit(5, SPEC);
    network.run(MINUTE);
    assert_committed(&network, &network.states(&id), NODES - 1);
}

#[test]
fn two_nodes_down_are_named_and_a_retry_succeeds_when_they_are_back() {
    let mut network = Network::new(5, equal());
    network.stop(2);
    network.stop(3);
    let id = network.submit(5, SPEC);
    network.run(REPORT_TIMEOUT + MINUTE);
    let silent = ["node-2", "node-3"].map(String::from).to_vec();
    let reason = Reason::QuorumMissing {
        agreeing: 2,
        needed: 3,
        silent,
        failed: Vec::new(),
    };
    let expected = State::Failed(reason);
    assert_eq!(network.states(&id), vec![Some(expected); NODES - 2]);

    network.start(2, Vec::new());
    network.run(MINUTE);
    network.submit(4, SPEC);
    network.run(MINUTE);
    assert_committed(&network, &network.states(&id), NODES - 1);
    assert_eq!(network.status(5, &id).unwrap().attempt, 2);
}

#[test]
fn a_failed_build_is_not_tried_again_at_once() {
    let failure = || Failure::new(FailureCode::NotFound, "404");
    let mut network = Network::new(6, pipeline(move |_, _| Err(failure())));
    let id = network.submit(5, SPEC);
    network.run(Duration::from_secs(10));
    let state = network.status(5, &id).unwrap().state;
    let nodes = (0..AUTHORIZED).map(|it| format!("node-{it}")).collect();
    assert_eq!(state, State::Failed(Reason::NotFound(nodes)));

    network.submit(5, SPEC);
    assert!(matches!(
        network.nodes[5].refused[..],
        [Refusal::TooSoon(_)]
    ));
    network.run(MINUTE);
    network.submit(5, SPEC);
    network.run(MINUTE);
    assert_eq!(network.nodes[0].runs.len(), 2);
    assert_eq!(network.status(3, &id).unwrap().attempt, 2);
}

#[test]
fn failures_are_told_with_their_reasons() {
    let mut network = Network::new(
        7,
        pipeline(|node, spec| match node {
            0 => Ok(maven(0, spec, "same")),
            1 => Err(Failure::new(FailureCode::NotFound, "")),
            _ => Err(Failure::new(FailureCode::Unreachable, "connection refused")),
        }),
    );
    let id = network.submit(5, SPEC);
    network.run(MINUTE);
    let text = network.status(5, &id).unwrap().state.to_string();
    assert_eq!(
        text,
        "failed: 1 nodes have a result, 3 are needed; node-1: not found upstream; node-2: upstream \
         unreachable (connection refused); node-3: upstream unreachable (connection refused)"
    );
}

#[test]
fn a_pipeline_that_breaks_its_promise_is_a_failure_of_its_node() {
    let mut network = Network::new(
        8,
        pipeline(|node, spec| {
            let mut built = maven(node, spec, "same");
            built.files[0].purl = "pkg:maven/other/lib@1.0".into();
            Ok(built)
        }),
    );
    let id = network.submit(0, SPEC);
    network.run(MINUTE);
    let text = network.status(5, &id).unwrap().state.to_string();
    assert!(
        text.contains("node-3: the node failed (the pipeline yielded files of another"),
        "{text}"
    );
}

#[test]
fn a_late_node_learns_what_is_going_on() {
    let slow = |node: usize, spec: &BuildSpec| {
        Some((Duration::from_secs(30), Ok(maven(node, spec, "same"))))
    };
    let mut network = Network::new(9, Box::new(slow));
    let pending: [Vec<Pending>; 2] = [network.stop(5), network.stop(3)];
    network.stop(2);
    let id = network.submit(0, SPEC);
    network.run(Duration::from_secs(10));
    for (node, pending) in [5, 3].into_iter().zip(pending) {
        assert!(pending.is_empty());
        network.start(node, pending);
    }
    network.run(Duration::from_secs(5));
    let status = network.status(5, &id).unwrap();
    assert_eq!(status.state, State::Running);
    let answered = status
        .nodes
        .iter()
        .filter(|it| it.outcome.is_some())
        .count();
    assert_eq!(answered, 3);
    network.run(MINUTE);
    assert_committed(&network, &network.states(&id), NODES - 1);
}

#[test]
fn a_node_that_comes_after_a_failure_hears_its_reason() {
    let failure = || Failure::new(FailureCode::NotFound, "404");
    let mut network = Network::new(10, pipeline(move |_, _| Err(failure())));
    network.stop(5);
    let id = network.submit(4, SPEC);
    network.run(MINUTE);
    network.submit(4, SPEC);
    network.run(MINUTE);
    network.start(5, Vec::new());
    network.submit(5, SPEC);
    network.run(MINUTE);
    assert_eq!(
        network.status(5, &id),
        network.status(4, &id).map(|mut it| {
            let own = network.status(5, &id).unwrap();
            (it.requester, it.requested) = (own.requester, own.requested);
            it
        })
    );
    assert_eq!(network.status(5, &id).unwrap().attempt, 2);
}

#[test]
fn unfinished_builds_survive_a_restart_of_all_nodes() {
    let mut network = Network::new(11, equal());
    let id = network.submit(5, SPEC);
    network.run(Duration::from_secs(1));
    let pending: Vec<Vec<Pending>> = (0..NODES).map(|it| network.stop(it)).collect();
    network.run(MINUTE);
    for (node, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.len(), 1);
        let bytes = pending[0].to_bytes();
        let copy = Pending::from_bytes(&bytes).unwrap();
        network.start(node, vec![copy]);
    }
    network.run(MINUTE);
    assert_committed(&network, &network.states(&id), NODES);
}

#[test]
fn pipelines_beyond_the_limit_wait_in_the_order_of_arrival() {
    let mut network = Network::new(12, equal());
    let specs: Vec<String> = (0..7).map(|it| format!("maven g:a:{it}")).collect();
    let ids: Vec<_> = specs.iter().map(|it| network.submit(0, it)).collect();
    assert_eq!(network.nodes[0].runs.len(), 2);
    network.run(Duration::from_secs(1));
    let queued = network.status(5, &ids[6]).unwrap().nodes[0].outcome.clone();
    assert_eq!(queued.map(|it| it.0), Some(Outcome::Queued));
    network.run(MINUTE);
    let order: Vec<String> = network.nodes[0]
        .runs
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(order, specs);
    for id in ids {
        assert!(matches!(
            network.status(5, &id).unwrap().state,
            State::Committed { .. }
        ));
    }
}

#[test]
fn a_flood_of_requests_is_bounded_and_leaves_room_for_the_owner() {
    let mut network = Network::new(13, Box::new(|_, _| None));
    let request = |at: usize| {
        BuildMessage::Request(BuildRequest {
            spec: format!("maven g:a:{at}").parse().unwrap(),
            node: keys(5).id(),
            time: WallTime::default(),
            attempt: 1,
        })
    };
    for peer in 1..NODES {
        for at in 0..300 {
            let (from, message) = (keys(peer).id(), request(10_000 * peer + at));
            network.builds(0, Input::Received { from, message });
        }
        let known = network.nodes[0].builds.list().count();
        assert_eq!(known, (peer * PEER_ACTIVE_MAX).min(REMOTE_ACTIVE_MAX));
    }
    for at in 0..300 {
        network.submit(0, &format!("maven own:a:{at}"));
    }
    assert_eq!(network.nodes[0].builds.list().count(), BUILDS_MAX);
    let refused = network.nodes[0].refused.len();
    assert_eq!(refused, 300 - (BUILDS_MAX - REMOTE_ACTIVE_MAX));
    assert_eq!(network.nodes[0].refused[0], Refusal::Busy);
    assert!(network.nodes[0].builds.pending().count() <= BUILDS_MAX);
}

#[test]
fn finished_builds_are_forgotten_oldest_first() {
    let mut network = Network::new(14, Box::new(|_, _| None));
    let mut finish = |spec: &str| {
        let id = network.submit(4, spec);
        let (part, index) = (Part::Package, 7);
        network.builds(4, Input::Logged { id, part, index });
        (id, network.nodes[4].builds.list().count())
    };
    let (first, _) = finish(SPEC);
    let counts: Vec<usize> = (0..BUILDS_MAX)
        .map(|it| finish(&format!("maven g:a:{it}")).1)
        .collect();
    assert_eq!(
        counts[BUILDS_MAX - 3..],
        [BUILDS_MAX - 1, BUILDS_MAX, BUILDS_MAX]
    );
    assert_eq!(network.status(4, &first), None);
}

#[test]
fn repeated_questions_do_not_multiply() {
    let mut network = Network::new(15, Box::new(|_, _| None));
    let id = network.submit(0, SPEC);
    network.run(Duration::from_secs(1));
    let before = network.delivered;
    let request = network.nodes[0].builds.pending().next().unwrap().request;
    for _ in 0..1_000 {
        let message = BuildMessage::Request(request.clone());
        network.builds(
            0,
            Input::Received {
                from: keys(1).id(),
                message,
            },
        );
    }
    network.run(Duration::from_millis(900));
    assert!(network.status(0, &id).is_some());
    assert!(network.delivered - before <= 2 * PEER_FRAMES_MAX);
}

#[test]
fn forged_reports_are_refused_and_strangers_ignored() {
    let mut network = Network::new(16, Box::new(|_, _| None));
    let id = network.submit(0, SPEC);
    let chain = *network.chain.state.chain();
    let report = |signer: usize, node: usize, outcome| {
        BuildMessage::Report(
            Report {
                build: id,
                attempt: 1,
                node: keys(node).id(),
                time: WallTime::default(),
                outcome,
                signature: Signature([0; 64]),
            }
            .signed(&chain, &keys(signer).vote),
        )
    };
    let eve = keys(5).id();
    let present = || Outcome::Present { index: 7 };
    for (signer, node, is_news, blamed) in [(5, 1, false, 1), (5, 5, false, 1), (1, 1, true, 1)] {
        let message = report(signer, node, present());
        assert_eq!(
            network.builds(0, Input::Received { from: eve, message }),
            is_news
        );
        assert_eq!(network.nodes[0].blamed, vec![eve; blamed]);
    }
    // One liar alone cannot make anybody believe that it is in the log.
    assert_eq!(network.status(0, &id).unwrap().state, State::Running);
}

#[test]
fn progress_keeps_a_build_alive_but_not_for_ever() {
    let mut network = Network::new(17, Box::new(|_, _| None));
    let id = network.submit(0, SPEC);
    let mut done = 0;
    for _ in 0..60 {
        network.run(5 * MINUTE);
        done += 1;
        network.builds(0, Input::PipelineProgress { id, done, total: 0 });
    }
    assert_eq!(network.status(5, &id).unwrap().state, State::Running);
    for _ in 0..20 {
        network.run(5 * MINUTE);
        done += 1;
        network.builds(0, Input::PipelineProgress { id, done, total: 0 });
    }
    let state = network.status(5, &id).unwrap().state;
    assert!(
        matches!(state, State::Failed(Reason::TimedOut { .. })),
        "{state}"
    );
}

#[test]
fn whatever_happens_builds_end_and_the_log_holds_them_once() {
    for seed in 0..12 {
        let mut network = Network::new(seed, equal());
        let mut rng = crate::base::Rng::new(seed);
        let victim = usize::try_from(rng.below(AUTHORIZED as u64)).unwrap();
        let ids: Vec<_> = (0..5)
            .map(|at| {
                network.run(Duration::from_millis(rng.below(3_000)));
                let node = usize::try_from(rng.below(NODES as u64)).unwrap();
                network.submit(node, &format!("maven g:a:{}", at / 2))
            })
            .collect();
        let pending = network.stop(victim);
        network.run(Duration::from_millis(rng.below(5_000)));
        network.start(victim, pending);
        network.run(REPORT_TIMEOUT * 3);
        for id in ids {
            let states = network
                .states(&id)
                .into_iter()
                .flatten()
                .collect::<Vec<_>>();
            assert!(!states.is_empty(), "seed {seed}");
            let index = match &states[0] {
                State::Committed { index } => *index,
                it => panic!("seed {seed}: {it}"),
            };
            assert_eq!(
                states,
                vec![State::Committed { index }; states.len()],
                "seed {seed}"
            );
        }
        assert!(
            network.nodes.iter().all(|it| it.pool.is_empty()),
            "seed {seed}"
        );
    }
}
