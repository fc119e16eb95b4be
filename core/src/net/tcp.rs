//! TCP transport on `async-io`: port reuse, interface watching, accept back-off.
//!
//! One socket per listener. A listener on the unspecified address also watches the network
//! interfaces and reports one address for each. Dials leave from a listening port, if one fits, so
//! that the address which others observe is one that can be dialed.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_io::{Async, Timer};
use futures::future::{self, BoxFuture, FutureExt};
use if_watch::{IfEvent, smol::IfWatcher};
use libp2p::Multiaddr;
use libp2p::core::Endpoint;
use libp2p::core::transport::{
    DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent,
};

use crate::net::socket;

/// A dial that has neither succeeded nor failed by then is given up.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections taken from one listener before the others get their turn.
const ACCEPTS_PER_TURN_MAX: usize = 16;

/// How long a listener stays silent after `accept` failed; mostly for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Upgrade = future::Ready<io::Result<Async<TcpStream>>>;
type Event = TransportEvent<Upgrade, io::Error>;

/// Dials and listens on `/ip4/…/tcp/…` and `/ip6/…/tcp/…`.
#[derive(Default)]
pub struct Tcp {
    listeners: Vec<Listener>,
    dialer: Dialer,
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

/// Connects from a port that some listener of its transport has.
#[derive(Clone, Default)]
pub(crate) struct Dialer {
    bound: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Dialer {
    /// Connects to `remote` within `timeout`, as `opts` say.
    pub(crate) async fn connect(
        self,
        remote: SocketAddr,
        opts: DialOpts,
        timeout: Duration,
    ) -> io::Result<Async<TcpStream>> {
        let local = match opts.port_use {
            PortUse::Reuse => self.local_addr(remote.ip()),
            PortUse::New => None,
        };
        // A hole can be punched only from the port that the other side knows.
        let is_port_free = opts.role == Endpoint::Dialer;
        socket::connect(remote, local, is_port_free, timeout).await
    }

    fn local_addr(&self, remote: IpAddr) -> Option<SocketAddr> {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |it: &&SocketAddr| {
            it.is_ipv4() == remote.is_ipv4()
                && (it.ip().is_unspecified() || it.ip().is_loopback() == remote.is_loopback())
        };
        let port = bound.iter().find(fits)?.port();
        Some(SocketAddr::new(unspecified(remote), port))
    }

    fn set_bound(&self, listeners: &[Listener]) {
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) =
            listeners.iter().map(|it| it.bound).collect();
    }
}

impl Tcp {
    /// What dials on behalf of this transport.
    pub(crate) fn dialer(&self) -> Dialer {
        self.dialer.clone()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Transport for Tcp {
    type Output = Async<TcpStream>;
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        let wanted =
            socket::to_socket_addr(&addr).ok_or(TransportError::MultiaddrNotSupported(addr))?;
        let listener = Listener::open(id, wanted).map_err(TransportError::Other)?;
        if listener.watcher.is_none() {
            self.events.push_back(TransportEvent::NewAddress {
                listener_id: id,
                listen_addr: socket::to_multiaddr(listener.bound),
            });
        }
        self.listeners.push(listener);
        self.dialer.set_bound(&self.listeners);
        self.wake();
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let Some(at) = self.listeners.iter().position(|it| it.id == id) else {
            return false;
        };
        let listener = self.listeners.swap_remove(at);
        self.dialer.set_bound(&self.listeners);
        for ip in listener.reported {
            self.events.push_back(TransportEvent::AddressExpired {
                listener_id: id,
                listen_addr: socket::to_multiaddr(SocketAddr::new(ip, listener.bound.port())),
            });
        }
        self.events.push_back(TransportEvent::ListenerClosed {
            listener_id: id,
            reason: Ok(()),
        });
        self.wake();
        true
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        match socket::to_socket_addr(&addr) {
            Some(remote) if remote.port() != 0 && !remote.ip().is_unspecified() => {
                Ok(self.dialer().connect(remote, opts, DIAL_TIMEOUT).boxed())
            }
            _ => Err(TransportError::MultiaddrNotSupported(addr)),
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        let this = &mut *self;
        if this.events.is_empty() {
            for listener in &mut this.listeners {
                listener.poll(cx, &mut this.events);
            }
            // Who was asked first goes last next time.
            if !this.listeners.is_empty() {
                this.listeners.rotate_left(1);
            }
        }
        if let Some(event) = this.events.pop_front() {
            return Poll::Ready(event);
        }
        this.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

struct Listener {
    id: ListenerId,
    socket: Async<TcpListener>,
    bound: SocketAddr,
    /// Present if bound to the unspecified address.
    watcher: Option<IfWatcher>,
    reported: BTreeSet<IpAddr>,
    pause: Option<Timer>,
}

impl Listener {
    fn open(id: ListenerId, addr: SocketAddr) -> io::Result<Self> {
        let socket = socket::listen(addr)?;
        let bound = socket.get_ref().local_addr()?;
        let watcher = if bound.ip().is_unspecified() {
            Some(IfWatcher::new()?)
        } else {
            None
        };
        Ok(Self {
            id,
            socket,
            bound,
            watcher,
            reported: BTreeSet::new(),
            pause: None,
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>, events: &mut VecDeque<Event>) {
        self.poll_interfaces(cx, events);
        if let Some(pause) = &mut self.pause {
            if pause.poll_unpin(cx).is_pending() {
                return;
            }
            self.pause = None;
        }
        if let Err(error) = self.poll_accept(cx, events) {
            let mut pause = Timer::after(ACCEPT_PAUSE);
            // Registers the waker; a timer set this moment is never ready.
            let _ = pause.poll_unpin(cx);
            self.pause = Some(pause);
            events.push_back(TransportEvent::ListenerError {
                listener_id: self.id,
                error,
            });
        }
    }

    fn poll_interfaces(&mut self, cx: &mut Context<'_>, events: &mut VecDeque<Event>) {
        while let Some(watcher) = &mut self.watcher {
            let Poll::Ready(event) = watcher.poll_if_event(cx) else {
                return;
            };
            match event {
                Ok(IfEvent::Up(net)) => self.report(net.addr(), true, events),
                Ok(IfEvent::Down(net)) => self.report(net.addr(), false, events),
                Err(error) => {
                    // Addresses known so far stay in use.
                    self.watcher = None;
                    events.push_back(TransportEvent::ListenerError {
                        listener_id: self.id,
                        error,
                    });
                }
            }
        }
    }

    fn report(&mut self, ip: IpAddr, is_up: bool, events: &mut VecDeque<Event>) {
        // A link-local address needs a scope, which a multiaddress of ours does not carry.
        let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if ip.is_ipv4() != self.bound.is_ipv4() || is_link_local {
            return;
        }
        let listener_id = self.id;
        let listen_addr = socket::to_multiaddr(SocketAddr::new(ip, self.bound.port()));
        if is_up && self.reported.insert(ip) {
            events.push_back(TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            });
        } else if !is_up && self.reported.remove(&ip) {
            events.push_back(TransportEvent::AddressExpired {
                listener_id,
                listen_addr,
            });
        }
    }

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
        events: &mut VecDeque<Event>,
    ) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            match self.socket.poll_readable(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready?,
            }
            let (stream, remote) = match self.socket.get_ref().accept() {
                Ok(accepted) => accepted,
                Err(error) if socket::is_transient(&error) => continue,
                Err(error) => return Err(error),
            };
            // The peer may be gone already: that is its failure, not the listener's.
            let Ok(local) = stream.local_addr() else {
                continue;
            };
            events.push_back(TransportEvent::Incoming {
                listener_id: self.id,
                upgrade: future::ready(socket::prepare(stream)),
                local_addr: socket::to_multiaddr(local),
                send_back_addr: socket::to_multiaddr(remote),
            });
        }
        // More may wait in the kernel.
        cx.waker().wake_by_ref();
        Ok(())
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
