//! Messages and raw streams between two linked nodes.

use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt};

use crate::net::link::{INBOX_FRAMES_MAX, OUTBOX_FRAMES_MAX, RAW_INBOUND_MAX};
use crate::net::tests::bed::{Bed, Node, within};
use crate::net::{DownReason, NetEvent, OpenError, Protocol, SendError, Stream};

fn pair(bed: &Bed) -> (Node, Node) {
    let (alice, bob) = (bed.node(1), bed.node(2));
    alice.join(&bob);
    (alice, bob)
}

fn inbound(node: &Node) -> Stream {
    node.expect("a raw stream", |it| match it {
        NetEvent::Inbound { stream, .. } => Ok(stream),
        other => Err(other),
    })
}

#[test]
fn messages_of_every_protocol_arrive_both_ways_and_in_order() {
    let bed = Bed::new();
    let (alice, bob) = pair(&bed);
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        for protocol in Protocol::ALL {
            let longest = vec![3; protocol.frame_bytes_max()];
            for bytes in [vec![1], vec![], longest] {
                from.handle.send(to.id, protocol, bytes.clone()).unwrap();
                assert_eq!(to.frame(from), (protocol, bytes));
            }
        }
        for number in 0..100 {
            from.handle
                .send(to.id, Protocol::Sync, vec![number])
                .unwrap();
        }
        for number in 0..100 {
            assert_eq!(to.frame(from), (Protocol::Sync, vec![number]));
        }
    }
}

#[test]
fn a_message_to_a_stranger_or_above_the_limit_is_refused() {
    let bed = Bed::new();
    let (alice, bob) = pair(&bed);
    let eve = bed.node(3);
    assert_eq!(
        alice.handle.send(eve.id, Protocol::Hello, vec![1]),
        Err(SendError::NotConnected(eve.id))
    );
    let bytes_max = Protocol::Hello.frame_bytes_max();
    assert_eq!(
        alice
            .handle
            .send(bob.id, Protocol::Hello, vec![0; bytes_max + 1]),
        Err(SendError::TooLarge {
            protocol: Protocol::Hello,
            bytes: bytes_max + 1,
            bytes_max
        })
    );
    assert!(matches!(
        within("an answer", alice.handle.open(eve.id)),
        Err(OpenError::NotConnected(_))
    ));
}

#[test]
fn a_peer_that_does_not_take_messages_makes_us_busy_and_loses_none() {
    const ATTEMPTS: usize = 5_000;
    let bed = Bed::new();
    let (alice, bob) = pair(&bed);
    let message = Bytes::from(vec![5; 1 << 10]);
    let send = || alice.handle.send(bob.id, Protocol::Peers, message.clone());
    let (mut sent, mut outcome) = (0, Ok(()));
    // Bob's program takes nothing. The queue drains until Bob has no more room.
    for _ in 0..ATTEMPTS {
        outcome = send();
        match outcome {
            Ok(()) => sent += 1,
            Err(_) => std::thread::yield_now(),
        }
    }
    let protocol = Protocol::Peers;
    assert_eq!(outcome, Err(SendError::Busy { protocol }));
    // Both queues, the first window of a stream, and what is under way between the two.
    let held = OUTBOX_FRAMES_MAX + INBOX_FRAMES_MAX + 256 + 512;
    assert!((OUTBOX_FRAMES_MAX..held).contains(&sent), "{sent}");
    // Others of Bob's protocols go on.
    alice
        .handle
        .send(bob.id, Protocol::Consensus, vec![9])
        .unwrap();
    for _ in 0..sent {
        let (protocol, bytes) = bob.expect("a message", |it| match it {
            NetEvent::Frame {
                protocol, bytes, ..
            } if protocol == Protocol::Peers => Ok((protocol, bytes)),
            other => Err(other),
        });
        assert_eq!((protocol, &bytes[..]), (Protocol::Peers, &message[..]));
    }
    assert_eq!(bob.frame(&alice), (Protocol::Consensus, vec![9]));
    assert_eq!(send(), Ok(()));
}

#[test]
fn a_peer_that_stops_reading_is_disconnected_and_others_are_not() {
    let bed = Bed::new();
    let alice = bed.node_with(1, |it| it.stall_timeout = Duration::from_millis(300));
    let (bob, carol) = (bed.node(2), bed.node(3));
    alice.join(&bob);
    alice.join(&carol);
    let message = Bytes::from(vec![5; Protocol::Sync.frame_bytes_max()]);
    // Bob's program takes nothing.
    let send = || alice.handle.send(bob.id, Protocol::Sync, message.clone());
    while send().is_ok() {}
    alice
        .handle
        .send(carol.id, Protocol::Sync, message.clone())
        .unwrap();
    assert_eq!(carol.frame(&alice).1, message);
    let _ = send();
    assert_eq!(
        alice.disconnected(&bob),
        DownReason::Stalled {
            protocol: Protocol::Sync
        }
    );
    assert_eq!(send(), Err(SendError::NotConnected(bob.id)));
    alice
        .handle
        .send(carol.id, Protocol::Sync, vec![1])
        .unwrap();
    assert_eq!(carol.frame(&alice).1, [1]);
}

#[test]
fn an_oversized_announcement_ends_the_link_with_a_reason() {
    let bed = Bed::new();
    let (alice, bob) = pair(&bed);
    let bytes_max = Protocol::Hello.frame_bytes_max();
    alice
        .handle
        .link(&bob.id)
        .push_unchecked(bob.id, Protocol::Hello, vec![0; bytes_max + 1].into())
        .unwrap();
    assert_eq!(
        bob.disconnected(&alice),
        DownReason::FrameTooLarge {
            protocol: Protocol::Hello,
            bytes: bytes_max + 1,
            bytes_max
        }
    );
    assert!(matches!(alice.disconnected(&bob), DownReason::Lost(_)));
}

#[test]
fn last_words_arrive_before_the_link_ends() {
    let bed = Bed::new();
    for seed in [0, 10] {
        let (alice, bob) = (bed.node(seed + 1), bed.node(seed + 2));
        alice.join(&bob);
        for number in 0..50 {
            let words = vec![number; 20_000];
            alice.handle.send(bob.id, Protocol::Build, words).unwrap();
        }
        alice.handle.disconnect(bob.id).unwrap();
        for number in 0..50 {
            assert_eq!(bob.frame(&alice).1, vec![number; 20_000]);
        }
        assert_eq!(alice.disconnected(&bob), DownReason::Requested);
        assert!(matches!(bob.disconnected(&alice), DownReason::Lost(_)));
    }
}

#[test]
fn last_words_arrive_although_the_peer_is_talking() {
    let bed = Bed::new();
    for round in 0..16 {
        let (alice, bob) = (bed.node(100 + round), bed.node(200 + round));
        alice.join(&bob);
        let talk = Bytes::from(vec![5; 1 << 14]);
        // Alice takes nothing of it, so some of it is always under way.
        for _ in 0..OUTBOX_FRAMES_MAX {
            let _ = bob.handle.send(alice.id, Protocol::Peers, talk.clone());
        }
        alice
            .handle
            .send(bob.id, Protocol::Hello, vec![round])
            .unwrap();
        alice.handle.disconnect(bob.id).unwrap();
        assert_eq!(bob.frame(&alice), (Protocol::Hello, vec![round]));
        assert_eq!(alice.disconnected(&bob), DownReason::Requested);
    }
}

#[test]
fn raw_streams_carry_bytes_both_ways() {
    let bed = Bed::new();
    let (alice, bob) = pair(&bed);
    let mut ours = within("a stream", alice.handle.open(bob.id)).unwrap();
    within("a request", async {
        ours.write_all(b"want").await?;
        ours.flush().await
    })
    .unwrap();
    let mut theirs = inbound(&bob);
    let answer = vec![7; 3 << 20];
    let serve = async {
        let mut request = [0; 4];
        theirs.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"want");
        theirs.write_all(&answer).await.unwrap();
        theirs.close().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = within("an answer", async {
        futures::join!(serve, ours.read_to_end(&mut got))
    });
    assert_eq!((read.unwrap(), &got), (answer.len(), &answer));
}

#[test]
fn raw_streams_above_the_limit_are_told_that_the_peer_is_busy() {
    let bed = Bed::new();
    let (alice, bob) = pair(&bed);
    let mut taken = Vec::new();
    for _ in 0..RAW_INBOUND_MAX {
        let ours = within("a stream", alice.handle.open(bob.id)).unwrap();
        taken.push((ours, inbound(&bob)));
    }
    let mut refused = within("a stream", alice.handle.open(bob.id)).unwrap();
    let error = within("a refusal", refused.read(&mut [0])).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(!bob.has_passed(|it| matches!(it, NetEvent::Inbound { .. })));
    // One that ends makes room.
    taken.pop();
    let mut ours = within("a stream", alice.handle.open(bob.id)).unwrap();
    within("a byte", inbound(&bob).write_all(&[1])).unwrap();
    assert_eq!(within("a byte", ours.read(&mut [0])).unwrap(), 1);
}

#[test]
fn bytes_are_counted_per_peer() {
    let bed = Bed::new();
    let (alice, bob) = pair(&bed);
    let message = vec![1; 1 << 20];
    alice
        .handle
        .send(bob.id, Protocol::Sync, message.clone())
        .unwrap();
    assert_eq!(bob.frame(&alice).1, message);
    let [sent] = &alice.handle.status().peers[..] else {
        panic!("one peer")
    };
    let [received] = &bob.handle.status().peers[..] else {
        panic!("one peer")
    };
    assert_eq!((sent.peer, received.peer), (bob.id, alice.id));
    assert!(sent.sent >= 1 << 20 && received.received >= 1 << 20);
}
