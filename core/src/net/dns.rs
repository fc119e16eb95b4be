//! Addresses with host names: `/dns`, `/dns4` and `/dns6`, resolved off the loop.
//!
//! The system's resolver blocks and cannot be interrupted, so two threads of our own ask it. They
//! start with the first name and end with the transport.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_channel::{Receiver, Sender, TrySendError};
use async_io::{Async, Timer};
use futures::future::{BoxFuture, FutureExt};
use futures_lite::future;
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;

use crate::net::tcp::{self, Tcp};

/// A name that is not resolved by then counts as unknown.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Threads that ask the system's resolver.
const THREADS_MAX: usize = 2;

/// Names that wait for a thread; a dial beyond fails at once.
const NAMES_WAITING_MAX: usize = 64;

/// Addresses of one name that are tried; others are left out.
const ADDRESSES_PER_NAME_MAX: usize = 4;

/// Time for each address of a name that has several, so that a dead one leaves time for the rest.
const DIAL_EACH_TIMEOUT: Duration = Duration::from_millis(1_500);

/// [`Tcp`] that also dials host names.
#[derive(Default)]
pub struct Dns {
    tcp: Tcp,
    resolver: Option<Resolver>,
}

impl Transport for Dns {
    type Output = Async<TcpStream>;
    type Error = io::Error;
    type ListenerUpgrade = <Tcp as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.tcp.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.tcp.remove_listener(id)
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(name) = Name::of(&addr) else {
            return self.tcp.dial(addr, opts);
        };
        let dialer = self.tcp.dialer();
        let lookup = self.resolver.get_or_insert_with(Resolver::new).lookup(name);
        Ok(async move {
            let addrs = lookup.await?;
            let timeout = match addrs.len() {
                1 => tcp::DIAL_TIMEOUT,
                _ => DIAL_EACH_TIMEOUT,
            };
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for addr in addrs {
                match dialer.clone().connect(addr, opts, timeout).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.tcp).poll(cx)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Family {
    Any,
    V4,
    V6,
}

#[derive(Debug, Eq, PartialEq)]
struct Name {
    host: String,
    port: u16,
    family: Family,
}

impl Name {
    /// The name in `addr`: exactly a host and a TCP port, and perhaps a peer id.
    fn of(addr: &Multiaddr) -> Option<Self> {
        let mut parts = addr.iter();
        let (host, family) = match parts.next()? {
            Protocol::Dns(host) => (host, Family::Any),
            Protocol::Dns4(host) => (host, Family::V4),
            Protocol::Dns6(host) => (host, Family::V6),
            _ => return None,
        };
        match (parts.next()?, parts.next(), parts.next()) {
            (Protocol::Tcp(port), None | Some(Protocol::P2p(_)), None) if port != 0 => Some(Self {
                host: host.into_owned(),
                port,
                family,
            }),
            _ => None,
        }
    }

    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let addrs = (self.host.as_str(), self.port).to_socket_addrs()?;
        let fits = |it: &SocketAddr| match self.family {
            Family::Any => true,
            Family::V4 => it.is_ipv4(),
            Family::V6 => it.is_ipv6(),
        };
        Ok(addrs.filter(fits).take(ADDRESSES_PER_NAME_MAX).collect())
    }
}

struct Lookup {
    name: Name,
    answer: Sender<io::Result<Vec<SocketAddr>>>,
}

struct Resolver {
    lookups: Sender<Lookup>,
}

impl Resolver {
    fn new() -> Self {
        let (lookups, queue) = async_channel::bounded(NAMES_WAITING_MAX);
        for number in 0..THREADS_MAX {
            let queue: Receiver<Lookup> = queue.clone();
            let thread = std::thread::Builder::new().name(format!("kogge-dns-{number}"));
            let work = move || {
                while let Ok(lookup) = queue.recv_blocking() {
                    // Who asked may have given up.
                    let _ = lookup.answer.try_send(lookup.name.resolve());
                }
            };
            // Without any thread the queue closes and every lookup fails.
            if let Err(error) = thread.spawn(work) {
                tracing::warn!(%error, "cannot start a thread that resolves names");
            }
        }
        Self { lookups }
    }

    fn lookup(
        &self,
        name: Name,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + use<> {
        let (answer, answered) = async_channel::bounded(1);
        let queued = self.lookups.try_send(Lookup { name, answer });
        async move {
            match queued {
                Ok(()) => (),
                Err(TrySendError::Full(_)) => {
                    return Err(io::Error::other("too many names wait to be resolved"));
                }
                Err(TrySendError::Closed(_)) => {
                    return Err(io::Error::other("no thread resolves names"));
                }
            }
            let answer = async { answered.recv().await.map_err(io::Error::other)? };
            let late = async {
                Timer::after(RESOLVE_TIMEOUT).await;
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the name was not resolved in time",
                ))
            };
            future::or(answer, late).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_tcp_port_are_taken() {
        let name = |family| Name {
            host: "localhost".into(),
            port: 7,
            family,
        };
        for (addr, expected) in [
            ("/dns/localhost/tcp/7", Some(name(Family::Any))),
            ("/dns4/localhost/tcp/7", Some(name(Family::V4))),
            ("/dns6/localhost/tcp/7", Some(name(Family::V6))),
            ("/dns4/localhost/tcp/0", None),
            ("/dns4/localhost/udp/7", None),
            ("/dns4/localhost/tcp/7/ws", None),
            ("/ip4/127.0.0.1/tcp/7", None),
        ] {
            assert_eq!(Name::of(&addr.parse().unwrap()), expected, "{addr}");
        }
    }

    #[test]
    fn a_name_resolves_to_addresses_of_its_family() {
        let resolver = Resolver::new();
        let name = Name::of(&"/dns4/localhost/tcp/7".parse().unwrap()).unwrap();
        let addrs = future::block_on(resolver.lookup(name)).unwrap();
        assert_eq!(addrs, vec!["127.0.0.1:7".parse().unwrap()]);
        // No digits and no zone: refused by every resolver without a question to the network.
        let name = Name::of(&"/dns4/a..b/tcp/7".parse().unwrap()).unwrap();
        assert!(future::block_on(resolver.lookup(name)).is_err());
    }
}
