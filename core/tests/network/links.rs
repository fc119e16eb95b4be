//! Whom whole nodes admit, and how many links they keep.

use futures_lite::future::block_on;
use kogge::proto::pool::Change;
use kogge::{Admit, BuildSpec, Node, PeerStatus};
use kogge_testkit::run::wait_until;

use crate::kit::{LIMIT, genesis, repository, start, start_with};
use crate::relay::Relay;

const REFUSED: &str = "refused: only authorized and listed nodes are admitted";
const REFUSED_BY_PEER: &str = "refused by the peer: only authorized and listed nodes are admitted";

fn seen(node: &Node, peer: &Node) -> Option<PeerStatus> {
    node.peers().into_iter().find(|it| it.node == peer.id())
}

fn wait_for(node: &Node, peer: &Node, state: &str) {
    wait_until(state, LIMIT, || {
        seen(node, peer).is_some_and(|it| it.state == state)
    })
    .unwrap();
}

fn number(node: &Node, name: &str) -> u64 {
    let found = node.metrics().into_iter().find(|it| it.name == name);
    found.unwrap().value
}

#[test]
fn a_closed_node_refuses_strangers_once_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = repository(&folder.path().join("repository"));
    let url = format!("http://127.0.0.1:{}", upstream.port);
    let network = genesis(folder.path(), 1);
    // Bob's identity must be known before alice starts.
    let bob_folder = folder.path().join("bob");
    std::fs::create_dir_all(&bob_folder).unwrap();
    let bob_id = kogge::node::keys::load_or_create(&bob_folder).unwrap().id();
    let alice = start_with(&folder.path().join("a0"), &network, |config| {
        config.admit = Admit::Listed([bob_id].into());
        config.repositories = vec![url.clone()];
    });
    let eve = start(&folder.path().join("eve"), &network, &url, &[&alice]);
    wait_for(&alice, &eve, "refused");
    wait_for(&eve, &alice, "refused");
    let reason = |node, peer| seen(node, peer).and_then(|it| it.reason);
    assert_eq!(reason(&alice, &eve).as_deref(), Some(REFUSED));
    assert_eq!(reason(&eve, &alice).as_deref(), Some(REFUSED_BY_PEER));

    // Bob is listed: he works with her as if there were no list. Meanwhile eve leaves her alone.
    let bob = start(&bob_folder, &network, &url, &[&alice]);
    wait_for(&alice, &bob, "admitted");
    let spec: BuildSpec = "maven org.example:lib:1.0".parse().unwrap();
    let build = block_on(bob.request_build(spec)).unwrap();
    let build = block_on(bob.wait_build(build.id, LIMIT)).unwrap();
    assert!(build.state.to_string().starts_with("committed"));
    assert_eq!(number(&alice, "kogge_refusals_total"), 1);
    assert_eq!(number(&eve, "kogge_refusals_total"), 1);
    assert_eq!(eve.status().log.size, 0);
    for node in [alice, bob, eve] {
        block_on(node.shutdown());
    }
}

#[test]
fn a_closed_node_parts_from_a_member_that_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    let network = genesis(folder.path(), 2);
    let url = "http://127.0.0.1:9";
    let alice = start_with(&folder.path().join("a0"), &network, |config| {
        config.admit = Admit::Listed([].into());
    });
    let bob = start(&folder.path().join("a1"), &network, url, &[&alice]);
    wait_for(&alice, &bob, "admitted");
    let removal = || Change::RemoveNode {
        node: bob.id(),
        reason: "it left".into(),
    };
    for node in [&alice, &bob] {
        block_on(node.consent(removal())).unwrap();
    }
    wait_for(&alice, &bob, "refused");
    assert_eq!(
        seen(&alice, &bob).and_then(|it| it.reason).as_deref(),
        Some(REFUSED)
    );
    wait_for(&bob, &alice, "refused");
    for node in [alice, bob] {
        block_on(node.shutdown());
    }
}

#[test]
fn of_two_nodes_that_dial_each_other_at_once_one_link_remains() {
    let folder = tempfile::tempdir().unwrap();
    let network = genesis(folder.path(), 1);
    let url = "http://127.0.0.1:9";
    let relay = Relay::start();
    let alice = start_with(&folder.path().join("a0"), &network, |config| {
        config.peers = vec![relay.address()];
    });
    wait_until("alice dials", LIMIT, || relay.accepted() != 0).unwrap();
    let bob = start(&folder.path().join("bob"), &network, url, &[&alice]);
    relay.lead_to(&bob.status().listen[0]);
    wait_for(&alice, &bob, "admitted");
    wait_for(&bob, &alice, "admitted");
    wait_until("one connection", LIMIT, || {
        let both = [&alice, &bob];
        both.iter().all(|it| {
            let counts = ["kogge_connections", "kogge_peers"].map(|name| number(it, name));
            counts == [1, 1]
        })
    })
    .unwrap();
    for node in [alice, bob] {
        block_on(node.shutdown());
    }
}

#[test]
fn a_node_that_is_led_to_itself_keeps_no_link() {
    let folder = tempfile::tempdir().unwrap();
    let network = genesis(folder.path(), 1);
    let relay = Relay::start();
    let alice = start_with(&folder.path().join("a0"), &network, |config| {
        config.peers = vec![relay.address()];
    });
    relay.lead_to(&alice.status().listen[0]);
    wait_until("alice dials", LIMIT, || relay.accepted() != 0).unwrap();
    wait_until("no connection", LIMIT, || {
        number(&alice, "kogge_connections") == 0
    })
    .unwrap();
    // She is not her own peer, and goes on working.
    assert_eq!(number(&alice, "kogge_peers"), 0);
    assert_eq!(number(&alice, "kogge_handshakes_total"), 0);
    let bob = start(
        &folder.path().join("bob"),
        &network,
        "http://127.0.0.1:9",
        &[&alice],
    );
    wait_for(&alice, &bob, "admitted");
    assert_eq!(number(&alice, "kogge_peers"), 1);
    for node in [alice, bob] {
        block_on(node.shutdown());
    }
}
