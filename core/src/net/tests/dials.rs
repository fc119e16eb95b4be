//! Listening, dialing, and the ends of links.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use libp2p::multiaddr::Protocol as Part;

use crate::base::SecretKey;
use crate::net::tests::bed::{Bed, Node, within};
use crate::net::{DialFault, DownReason, ListenFault, NetEvent, Protocol};

fn dial_fault(node: &Node) -> DialFault {
    node.expect("a failed dial", |it| match it {
        NetEvent::DialFailed { error, .. } => Ok(error),
        other => Err(other),
    })
}

/// Waits until `node` has so many connections. Each turn costs the node a command's round trip.
fn has_connections(node: &Node, count: usize) {
    within("connections to settle", async {
        while node.handle.status().connections != count {
            futures_lite::future::yield_now().await;
        }
    });
}

#[test]
fn two_nodes_tell_each_other_about_themselves() {
    let bed = Bed::new();
    let (alice, bob) = (bed.node(1), bed.node(2));
    let address = bob.address();
    alice.handle.dial(address.clone(), Some(bob.id)).unwrap();
    assert!(alice.connected(&bob));
    let identified = alice.expect("identity", |it| match it {
        NetEvent::Identified {
            peer,
            agent,
            listens,
            ..
        } => Ok((peer, agent, listens)),
        other => Err(other),
    });
    let agent = format!("kogge/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(identified, (bob.id, agent, vec![address]));
    let peer = bob.expect("a ping", |it| match it {
        NetEvent::Ping { peer, .. } => Ok(peer),
        other => Err(other),
    });
    assert_eq!(peer, alice.id);
    assert!(!alice.handle.status().observed.is_empty());
}

#[test]
fn a_double_dial_leaves_one_link_that_loses_no_message() {
    let bed = Bed::new();
    for round in 0..8 {
        let (alice, bob) = (bed.node(10 + round), bed.node(20 + round));
        let (to_alice, to_bob) = (alice.address(), bob.address());
        alice.handle.dial(to_bob, Some(bob.id)).unwrap();
        bob.handle.dial(to_alice, Some(alice.id)).unwrap();
        for (node, peer) in [(&alice, &bob), (&bob, &alice)] {
            node.connected(peer);
            node.handle
                .send(peer.id, Protocol::Hello, vec![round])
                .unwrap();
        }
        assert_eq!(bob.frame(&alice).1, [round]);
        assert_eq!(alice.frame(&bob).1, [round]);
        has_connections(&alice, 1);
        has_connections(&bob, 1);
        for node in [&alice, &bob] {
            let is_more = |it: &NetEvent| {
                matches!(
                    it,
                    NetEvent::Connected { .. } | NetEvent::Disconnected { .. }
                )
            };
            assert!(!node.has_passed(is_more));
        }
    }
}

#[test]
fn a_second_dial_to_a_linked_peer_is_a_duplicate() {
    let bed = Bed::new();
    // The arbiter of the pair dials, and the other one.
    for seeds in [[1, 2], [2, 1]] {
        let [alice, bob] = seeds.map(|it| bed.node(it));
        let address = bob.address();
        alice.handle.dial(address.clone(), Some(bob.id)).unwrap();
        assert!(alice.connected(&bob));
        bob.connected(&alice);
        alice.handle.dial(address.clone(), Some(bob.id)).unwrap();
        assert_eq!(dial_fault(&alice), DialFault::Duplicate);
        // Not knowing who will answer, it connects and finds out.
        alice.handle.dial(address, None).unwrap();
        assert_eq!(dial_fault(&alice), DialFault::Duplicate);
        alice.handle.send(bob.id, Protocol::Hello, vec![1]).unwrap();
        assert_eq!(bob.frame(&alice).1, [1]);
        has_connections(&alice, 1);
        has_connections(&bob, 1);
    }
}

#[test]
fn a_node_that_lost_its_link_gets_a_new_one() {
    let bed = Bed::new();
    for seeds in [[1, 2], [2, 1]] {
        let bob = bed.node(seeds[1]);
        let address = bob.address();
        let key = SecretKey::from_seed([seeds[0]; 32]);
        // The first life of Alice never closes its connection: its executor stops.
        let first = Bed::new();
        let alice = first.node(seeds[0]);
        alice.handle.dial(address.clone(), Some(bob.id)).unwrap();
        alice.connected(&bob);
        bob.connected(&alice);
        let frozen = first.freeze();
        let alice = bed.node(seeds[0]);
        assert_eq!(alice.id, key.public());
        alice.handle.dial(address, Some(bob.id)).unwrap();
        assert_eq!(bob.disconnected(&alice), DownReason::Replaced);
        bob.connected(&alice);
        alice.connected(&bob);
        alice.handle.send(bob.id, Protocol::Hello, vec![2]).unwrap();
        assert_eq!(bob.frame(&alice).1, [2]);
        drop(frozen);
    }
}

#[test]
fn somebody_else_at_the_address_is_refused() {
    let bed = Bed::new();
    let (alice, bob, eve) = (bed.node(1), bed.node(2), bed.node(3));
    let address = eve.address();
    alice.handle.dial(address.clone(), Some(bob.id)).unwrap();
    assert_eq!(dial_fault(&alice), DialFault::WrongPeer(eve.id.to_string()));
    let peer = crate::net::id::peer_id(&bob.id).unwrap();
    alice
        .handle
        .dial(address.with(Part::P2p(peer)), None)
        .unwrap();
    assert_eq!(dial_fault(&alice), DialFault::WrongPeer(eve.id.to_string()));
    has_connections(&alice, 0);
}

#[test]
fn a_dial_that_cannot_succeed_says_why() {
    let bed = Bed::new();
    let (alice, bob) = (bed.node(1), bed.node(2));
    alice.handle.dial(alice.address(), None).unwrap();
    assert_eq!(dial_fault(&alice), DialFault::Ourselves);
    alice.handle.dial_peer(bob.id).unwrap();
    assert_eq!(dial_fault(&alice), DialFault::NoAddress);
    alice
        .handle
        .dial("/ip4/127.0.0.1/udp/1".parse().unwrap(), None)
        .unwrap();
    assert!(matches!(dial_fault(&alice), DialFault::Failed(_)));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    alice.handle.dial(address.parse().unwrap(), None).unwrap();
    let fault = dial_fault(&alice).to_string();
    assert!(
        fault.contains(&address) && fault.contains("refused"),
        "{fault}"
    );
}

#[test]
fn names_are_dialed_and_known_addresses_too() {
    let bed = Bed::new();
    let (alice, bob, carol) = (bed.node(1), bed.node(2), bed.node(3));
    let address = bob.address();
    let Some(Part::Tcp(port)) = address.iter().nth(1) else {
        panic!("{address}")
    };
    let name = format!("/dns4/localhost/tcp/{port}").parse().unwrap();
    alice.handle.dial(name, None).unwrap();
    assert!(alice.linked(&bob));

    alice.handle.dial(carol.address(), None).unwrap();
    alice.linked(&carol);
    alice.expect("where Carol listens", |it| match it {
        NetEvent::Identified { peer, .. } if peer == carol.id => Ok(()),
        other => Err(other),
    });
    alice.handle.disconnect(carol.id).unwrap();
    alice.disconnected(&carol);
    alice.handle.dial_peer(carol.id).unwrap();
    assert!(alice.linked(&carol));
}

#[test]
fn a_silent_listener_and_a_silent_dialer_are_given_up() {
    let bed = Bed::new();
    let alice = bed.node_with(1, |it| it.upgrade_timeout = Duration::from_millis(300));
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    alice.handle.dial(address, None).unwrap();
    assert!(
        dial_fault(&alice)
            .to_string()
            .to_lowercase()
            .contains("timeout")
    );
    // The other way round: we are closed on.
    let Some(Part::Tcp(port)) = alice.address().iter().nth(1) else {
        panic!("a port")
    };
    let mut silent = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut heard = Vec::new();
    std::io::Read::read_to_end(&mut silent, &mut heard).unwrap();
}

#[test]
fn the_unspecified_address_listens_on_every_interface() {
    let bed = Bed::new();
    let alice = bed.node_with(1, |it| {
        it.listen = vec!["/ip4/0.0.0.0/tcp/0".parse().unwrap()];
    });
    let bob = bed.node(2);
    let address = alice.expect("loopback", |it| match it {
        NetEvent::Listening { address } if address.to_string().contains("127.0.0.1") => Ok(address),
        other => Err(other),
    });
    bob.handle.dial(address, Some(alice.id)).unwrap();
    bob.connected(&alice);
}

#[test]
fn a_port_that_is_taken_is_said_to_be() {
    let bed = Bed::new();
    let alice = bed.node(1);
    let taken = alice.address();
    let foreign = "/ip4/127.0.0.1/udp/0".parse().unwrap();
    let bob = bed.node_with(2, |it| it.listen = vec![taken.clone(), foreign]);
    let mut faults = Vec::new();
    for _ in 0..2 {
        faults.push(bob.expect("a failure", |it| match it {
            NetEvent::ListenFailed { error, .. } => Ok(error),
            other => Err(other),
        }));
    }
    assert_eq!(faults[0], ListenFault::PortTaken(taken.clone()));
    assert!(faults[0].to_string().contains(&taken.to_string()));
    assert!(matches!(faults[1], ListenFault::Unsupported(_)));
    // The node runs without a listener.
    bob.handle.dial(taken, Some(alice.id)).unwrap();
    bob.connected(&alice);
}

#[test]
fn a_banned_peer_is_cut_off_until_the_ban_ends() {
    let bed = Bed::new();
    let (alice, bob) = (bed.node(1), bed.node(2));
    let address = alice.address();
    bob.handle.dial(address.clone(), Some(alice.id)).unwrap();
    bob.connected(&alice);
    alice.connected(&bob);
    alice
        .handle
        .ban(bob.id, Duration::from_secs(3_600))
        .unwrap();
    assert_eq!(alice.disconnected(&bob), DownReason::Banned);
    bob.disconnected(&alice);
    bob.handle.dial(address.clone(), Some(alice.id)).unwrap();
    assert!(matches!(dial_fault(&bob), DialFault::NoLink(_)));
    // A shorter ban takes the place of the longer one.
    alice.handle.ban(bob.id, Duration::ZERO).unwrap();
    within("the end of the ban", async {
        loop {
            bob.handle.dial(address.clone(), Some(alice.id)).unwrap();
            let outcome = bob.expect("an outcome", |it| match it {
                NetEvent::Connected { .. } => Ok(true),
                NetEvent::DialFailed { .. } => Ok(false),
                other => Err(other),
            });
            if outcome {
                return;
            }
        }
    });
}

#[test]
fn connections_above_the_limit_are_refused() {
    let bed = Bed::new();
    let alice = bed.node_with(1, |it| it.inbound_max = 1);
    let (bob, eve) = (bed.node(2), bed.node(3));
    let address = alice.address();
    bob.handle.dial(address.clone(), None).unwrap();
    bob.connected(&alice);
    eve.handle.dial(address, None).unwrap();
    assert!(matches!(dial_fault(&eve), DialFault::NoLink(_)));
}

#[test]
fn shutdown_ends_every_task_and_tells_the_peers() {
    let quiet = Bed::new();
    let bed = Bed::new();
    let (alice, bob) = (quiet.node(1), bed.node(2));
    alice.join(&bob);
    alice.handle.send(bob.id, Protocol::Hello, vec![1]).unwrap();
    within("the end", alice.handle.shutdown());
    assert_eq!(bob.frame(&alice).1, [1]);
    bob.disconnected(&alice);
    assert!(alice.handle.dial_peer(bob.id).is_err());
    within("the executor to notice", async {
        while !quiet.is_idle() {
            futures_lite::future::yield_now().await;
        }
    });
    // A second time is no harm.
    within("the end", alice.handle.shutdown());
    // The address is free again.
    let address = alice.address();
    let again = quiet.node_with(3, |it| it.listen = vec![address.clone()]);
    assert_eq!(again.address(), address);
    drop(Arc::new(again));
}

#[test]
fn a_peer_that_is_no_node_of_ours_never_becomes_a_link() {
    use futures::StreamExt;
    use libp2p::swarm::{self, SwarmEvent};

    let bed = Bed::new();
    // The arbiter of the pair finds out at once.
    let alice = bed.node(1);
    let key = (2..)
        .map(|it| SecretKey::from_seed([it; 32]))
        .find(|it| it.public() > alice.id)
        .unwrap();
    let keypair = crate::net::id::keypair(&key).unwrap();
    let meter = crate::net::traffic::Meter::default();
    let transport = crate::net::transport::build(&keypair, meter, Duration::from_secs(10));
    let executor = bed.executor();
    let config = swarm::Config::with_executor(move |task| executor.spawn(task))
        .with_idle_connection_timeout(Duration::from_secs(3_600));
    let local = keypair.public().to_peer_id();
    let ping = libp2p::ping::Behaviour::default();
    let mut stranger = libp2p::Swarm::new(transport.unwrap(), ping, local, config);
    stranger.dial(alice.address()).unwrap();
    within("the end of the connection", async {
        loop {
            let event = stranger.select_next_some().await;
            if let SwarmEvent::ConnectionClosed { .. } = event {
                return;
            }
        }
    });
    assert!(!alice.has_passed(|it| matches!(it, NetEvent::Connected { .. })));
    assert!(alice.events.is_empty());
}
