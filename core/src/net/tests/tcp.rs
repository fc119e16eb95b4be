//! The TCP transport alone.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::time::Duration;

use futures::future::poll_fn;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Multiaddr;
use libp2p::core::Endpoint;
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, Transport, TransportEvent};
use libp2p::multiaddr::Protocol;

use crate::net::socket;
use crate::net::tcp::Tcp;
use crate::net::tests::bed::within;

type Event = TransportEvent<<Tcp as Transport>::ListenerUpgrade, io::Error>;

fn next(tcp: &mut Tcp) -> Event {
    within(
        "an event of the transport",
        poll_fn(|cx| Pin::new(&mut *tcp).poll(cx)),
    )
}

const fn opts(role: Endpoint, port_use: PortUse) -> DialOpts {
    DialOpts { role, port_use }
}

fn port(addr: &Multiaddr) -> u16 {
    socket::to_socket_addr(addr).unwrap().port()
}

fn listening(addr: &str) -> (Tcp, Multiaddr) {
    let mut tcp = Tcp::default();
    tcp.listen_on(ListenerId::next(), addr.parse().unwrap())
        .unwrap();
    match next(&mut tcp) {
        TransportEvent::NewAddress { listen_addr, .. } => (tcp, listen_addr),
        other => panic!("{other:?}"),
    }
}

/// Dials `addr` of `to` and returns the port that the acceptor saw.
fn seen_port(from: &mut Tcp, to: &mut Tcp, addr: Multiaddr, port_use: PortUse) -> u16 {
    let dial = from.dial(addr, opts(Endpoint::Dialer, port_use)).unwrap();
    let mut dialed = within("a connection", dial).unwrap();
    let TransportEvent::Incoming {
        upgrade,
        send_back_addr,
        ..
    } = next(to)
    else {
        panic!("a connection")
    };
    let mut word = [0; 5];
    within("a word", async {
        upgrade.await.unwrap().write_all(b"hello").await.unwrap();
        dialed.read_exact(&mut word).await.unwrap();
    });
    assert_eq!(&word, b"hello");
    port(&send_back_addr)
}

#[test]
fn a_dial_leaves_from_the_listening_port_unless_told_otherwise() {
    for any in ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"] {
        let (mut alice, address) = listening(any);
        let (mut bob, to_bob) = listening(any);
        let reused = seen_port(&mut alice, &mut bob, to_bob.clone(), PortUse::Reuse);
        assert_eq!(reused, port(&address));
        let fresh = seen_port(&mut alice, &mut bob, to_bob, PortUse::New);
        assert_ne!(fresh, port(&address));
    }
}

#[test]
fn a_second_dial_to_the_same_address_takes_another_port_but_never_in_a_hole_punch() {
    let (mut alice, address) = listening("/ip4/127.0.0.1/tcp/0");
    let (_bob, to_bob) = listening("/ip4/127.0.0.1/tcp/0");
    let mut dial = |role| {
        let dial = alice.dial(to_bob.clone(), opts(role, PortUse::Reuse));
        within("an outcome", dial.unwrap())
    };
    let first = dial(Endpoint::Dialer).unwrap();
    let second = dial(Endpoint::Dialer).unwrap();
    let ports = [&first, &second].map(|it| it.get_ref().local_addr().unwrap().port());
    assert_eq!(ports[0], port(&address));
    assert_ne!(ports[1], ports[0]);
    assert!(dial(Endpoint::Listener).is_err());
}

#[test]
fn a_listener_on_every_interface_reports_those_of_its_family() {
    for (any, own) in [
        ("/ip4/0.0.0.0/tcp/0", "/ip4/127.0.0.1/"),
        ("/ip6/::/tcp/0", "/ip6/::1/"),
    ] {
        let (mut tcp, mut address) = listening(any);
        loop {
            assert_eq!(address.to_string()[..5], own[..5]);
            assert_ne!(port(&address), 0);
            if address.to_string().starts_with(own) {
                break;
            }
            address = match next(&mut tcp) {
                TransportEvent::NewAddress { listen_addr, .. } => listen_addr,
                other => panic!("{other:?}"),
            };
        }
    }
}

#[test]
fn a_listener_on_ipv6_leaves_the_port_free_on_ipv4() {
    // Another program may have the same port on IPv4, but not time and again.
    let is_free = |_| {
        let (_tcp, address) = listening("/ip6/::/tcp/0");
        TcpListener::bind(("127.0.0.1", port(&address))).is_ok()
    };
    assert!((0..8).any(is_free));
}

#[test]
fn a_second_listener_on_a_port_is_refused() {
    let (_alice, address) = listening("/ip4/127.0.0.1/tcp/0");
    let wildcard = format!("/ip4/0.0.0.0/tcp/{}", port(&address));
    for taken in [address.to_string(), wildcard] {
        let mut bob = Tcp::default();
        let outcome = bob.listen_on(ListenerId::next(), taken.parse().unwrap());
        assert!(outcome.is_err(), "{taken}");
    }
}

#[test]
fn a_dial_to_oneself_never_ends_at_its_own_socket() {
    let (mut tcp, address) = listening("/ip4/127.0.0.1/tcp/0");
    let dial = tcp.dial(address, opts(Endpoint::Dialer, PortUse::Reuse));
    // Either it fails, or it reaches the listener from another port.
    if let Ok(stream) = within("an outcome", dial.unwrap()) {
        let stream = stream.get_ref();
        assert_ne!(stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    }
}

#[test]
fn a_dial_into_the_void_times_out() {
    // The kernel ignores whoever comes after its queue is full.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    full.bind(&any.into()).unwrap();
    full.listen(0).unwrap();
    let addr = full.local_addr().unwrap().as_socket().unwrap();
    let _queued = TcpStream::connect(addr).unwrap();
    let dial = socket::connect(addr, None, true, Duration::from_millis(50));
    let error = within("an outcome", dial).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[test]
fn a_removed_listener_says_so_and_frees_the_port() {
    let mut tcp = Tcp::default();
    let id = ListenerId::next();
    let any = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    tcp.listen_on(id, any).unwrap();
    let TransportEvent::NewAddress { listen_addr, .. } = next(&mut tcp) else {
        panic!("an address")
    };
    assert!(tcp.remove_listener(id));
    assert!(!tcp.remove_listener(id));
    let event = next(&mut tcp);
    assert!(matches!(
        event,
        TransportEvent::ListenerClosed { reason: Ok(()), .. }
    ));
    assert!(TcpListener::bind(("127.0.0.1", port(&listen_addr))).is_ok());
}

#[test]
fn addresses_of_other_transports_are_left_alone() {
    let mut tcp = Tcp::default();
    for address in [
        "/ip4/127.0.0.1/udp/1/quic-v1",
        "/ip4/127.0.0.1/tcp/1/ws",
        "/dns4/example.org/tcp/1",
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/0.0.0.0/tcp/1",
    ] {
        let dial = tcp.dial(
            address.parse().unwrap(),
            opts(Endpoint::Dialer, PortUse::Reuse),
        );
        assert!(dial.is_err(), "{address}");
    }
    let address = Multiaddr::empty().with(Protocol::Tcp(1));
    assert_eq!(socket::to_socket_addr(&address), None);
}
