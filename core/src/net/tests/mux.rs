//! The multiplexer against peers that break its rules.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use async_io::Async;
use futures::future::poll_fn;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerExt};
use yamux::Mode;

use crate::net::mux::{INBOUND_STREAMS_MAX, Muxer, OUTBOUND_STREAMS_MAX, RELIEF_BYTES_MAX};
use crate::net::tests::bed::within;
use crate::net::traffic::Traffic;

type Mux = Muxer<Async<UnixStream>>;

const DATA: u8 = 0;
const WINDOW: u8 = 1;
const PING: u8 = 2;
const SYN: u8 = 1;
const ACK: u8 = 2;

fn muxer(mode: Mode) -> (Mux, UnixStream, Arc<Traffic>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let traffic = Arc::<Traffic>::default();
    let mux = Muxer::new(Async::new(ours).unwrap(), mode, traffic.clone());
    (mux, theirs, traffic)
}

/// Runs `task` while the muxer moves bytes.
fn drive<T>(what: &str, mux: &mut Mux, task: impl Future<Output = T>) -> T {
    let mut task = pin!(task);
    let both = poll_fn(|cx| {
        let _ = Pin::new(&mut *mux).poll(cx);
        task.as_mut().poll(cx)
    });
    within(what, both)
}

/// A frame of the yamux specification: version, type, flags, stream, length.
fn frame(kind: u8, flags: u8, stream: u32, length: u32) -> Vec<u8> {
    let mut header = vec![0, kind, 0, flags];
    header.extend_from_slice(&stream.to_be_bytes());
    header.extend_from_slice(&length.to_be_bytes());
    header
}

/// Writes until no byte goes out any more, because the peer reads nothing.
fn fill(mux: &mut Mux, traffic: &Traffic, mut writing: Pin<&mut impl Future<Output = ()>>) {
    let (mut sent, mut idle) = (0, 0);
    drive(
        "a full socket",
        mux,
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            let _ = writing.as_mut().poll(cx);
            let now = traffic.totals().1;
            idle = if now == sent { idle + 1 } else { 0 };
            sent = now;
            match idle > 1_000 && sent > 0 {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }),
    );
}

#[test]
fn reading_goes_on_while_writing_is_blocked() {
    let (mut mux, mut peer, traffic) = muxer(Mode::Server);
    peer.write_all(&frame(WINDOW, SYN, 1, 16 << 20)).unwrap();
    let stream = poll_fn(|cx| Pin::new(&mut mux).poll_inbound(cx));
    let (mut from, mut to) = within("a stream", stream).unwrap().split();
    let writing = async move {
        let chunk = vec![7; 1 << 16];
        while to.write_all(&chunk).await.is_ok() {}
    };
    let mut writing = Box::pin(writing.fuse());
    fill(&mut mux, &traffic, writing.as_mut());
    let mut word = [0; 5];
    for (number, text) in [b"first", b"again"].into_iter().enumerate() {
        // An answer is owed before the bytes behind the ping are read.
        let ping = u32::try_from(number).unwrap();
        peer.write_all(&frame(PING, SYN, 0, ping)).unwrap();
        peer.write_all(&frame(DATA, 0, 1, 5)).unwrap();
        peer.write_all(text).unwrap();
        let read = drive(
            "bytes behind a ping",
            &mut mux,
            poll_fn(|cx| {
                let _ = writing.as_mut().poll(cx);
                let mut reading = pin!(from.read_exact(&mut word));
                reading.as_mut().poll(cx)
            }),
        );
        read.unwrap();
        assert_eq!(&word, text);
    }
    // Everything that was held arrives as whole frames, the two answers among them.
    let counting = std::thread::spawn(move || {
        let (mut answers, mut header) = (0, [0; 12]);
        while answers < 2 {
            peer.read_exact(&mut header).unwrap();
            let length = u32::from_be_bytes(header[8..].try_into().unwrap());
            match header[1] {
                DATA => {
                    let mut body = vec![0; usize::try_from(length).unwrap()];
                    peer.read_exact(&mut body).unwrap();
                    assert!(body.iter().all(|it| *it == 7));
                }
                PING if header[3] == ACK => {
                    assert_eq!(length, answers);
                    answers += 1;
                }
                WINDOW | PING => (),
                other => panic!("frame of type {other}"),
            }
        }
    });
    drive(
        "the answers",
        &mut mux,
        poll_fn(|cx| {
            let _ = writing.as_mut().poll(cx);
            match counting.is_finished() {
                true => Poll::Ready(()),
                false => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        }),
    );
    counting.join().unwrap();
}

#[test]
fn a_peer_that_asks_and_never_reads_is_not_read_for_ever() {
    let (mut mux, mut peer, traffic) = muxer(Mode::Server);
    peer.set_nonblocking(true).unwrap();
    let ping = frame(PING, SYN, 0, 1);
    let pings = ping.repeat(1_000);
    let mut blocked = 0;
    drive(
        "the end of our patience",
        &mut mux,
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            match peer.write(&pings) {
                Ok(_) => blocked = 0,
                Err(_) => blocked += 1,
            }
            match blocked > 1_000 {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }),
    );
    // As many bytes are owed as were read; some are in the socket, the rest is held.
    let (received, sent) = traffic.totals();
    assert!(received > sent);
    assert!(
        received - sent <= RELIEF_BYTES_MAX as u64 + 64,
        "{received} {sent}"
    );
}

#[test]
fn a_stream_too_many_is_reset_and_the_connection_goes_on() {
    let (mut mux, peer, _) = muxer(Mode::Server);
    let config = yamux::Config::default();
    let mut client = yamux::Connection::new(Async::new(peer).unwrap(), config, Mode::Client);
    let (mut opened, mut taken) = (Vec::new(), Vec::new());
    let mut pump = |mux: &mut Mux, client: &mut yamux::Connection<_>, until: usize| {
        within(
            "streams",
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                while let Poll::Ready(stream) = mux.poll_inbound_unpin(cx) {
                    taken.push(stream.unwrap());
                }
                assert!(client.poll_next_inbound(cx).is_pending());
                match taken.len() >= until {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            }),
        );
        if until == INBOUND_STREAMS_MAX {
            taken.pop();
        }
    };
    let mut open = |client: &mut yamux::Connection<_>| {
        let mut stream = within("a stream", poll_fn(|cx| client.poll_new_outbound(cx))).unwrap();
        within("a byte", stream.write_all(&[1])).unwrap();
        opened.push(stream);
    };
    // In portions, so that the queue of streams to be negotiated never is the limit.
    for number in 1..=INBOUND_STREAMS_MAX {
        open(&mut client);
        if number % 16 == 0 && number < INBOUND_STREAMS_MAX {
            pump(&mut mux, &mut client, number);
        }
    }
    open(&mut client);
    pump(&mut mux, &mut client, INBOUND_STREAMS_MAX);
    // One was dropped, which makes room for another.
    open(&mut client);
    pump(&mut mux, &mut client, INBOUND_STREAMS_MAX);
    let mut refused = opened.swap_remove(INBOUND_STREAMS_MAX);
    let read = within(
        "a reset",
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            let _ = mux.poll_unpin(cx);
            assert!(client.poll_next_inbound(cx).is_pending());
            let mut byte = [0];
            pin!(refused.read(&mut byte)).poll(cx)
        }),
    );
    assert_eq!(read.unwrap(), 0);
}

#[test]
fn opening_waits_for_room_instead_of_ending_the_connection() {
    let (mut mux, _peer, _) = muxer(Mode::Client);
    let mut open = |streams: &mut Vec<_>| {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let polled = mux.poll_outbound_unpin(&mut cx);
        polled.map(|stream| streams.push(stream.unwrap()))
    };
    let mut streams = Vec::new();
    for _ in 0..OUTBOUND_STREAMS_MAX {
        assert!(open(&mut streams).is_ready());
    }
    assert!(open(&mut streams).is_pending());
    streams.pop();
    assert!(open(&mut streams).is_ready());
}

#[test]
fn closing_does_not_wait_for_a_peer_that_stopped_reading() {
    let (mut mux, mut peer, traffic) = muxer(Mode::Server);
    peer.write_all(&frame(WINDOW, SYN, 1, 16 << 20)).unwrap();
    let stream = poll_fn(|cx| Pin::new(&mut mux).poll_inbound(cx));
    let mut stream = within("a stream", stream).unwrap();
    let mut writing = Box::pin(async { while stream.write_all(&[7; 1 << 16]).await.is_ok() {} });
    fill(&mut mux, &traffic, writing.as_mut());
    within("the end", poll_fn(|cx| mux.poll_close_unpin(cx))).unwrap();
    drop(peer);
}
