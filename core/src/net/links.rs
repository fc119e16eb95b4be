//! One link per peer, whatever happens between two nodes that dial each other at the same time.
//!
//! If each side chose for itself which of two connections to keep, messages sent over the other one
//! would be lost, or both would be closed. So the node with the smaller id is the *arbiter* of the
//! pair: it elects the first connection by opening the mark stream on it. Both sides carry messages
//! only over the elected connection. Who dialed closes a connection that turns out to be one too
//! many; if it does not, then it has lost the elected one, and the arbiter elects the new one after
//! [`REPLACE_AFTER`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_channel::Sender;
use async_io::Timer;
use futures::future::FutureExt;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::PeerAddresses;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::base::NodeId;
use crate::net::event::{DownReason, NetEvent};
use crate::net::handler::{Command, Handler, Report};
use crate::net::id;
use crate::net::link::{Link, Links};

/// A second connection that the dialer keeps for so long replaces the first. Longer than a round
/// trip, so that the dialer had the time to close it.
const REPLACE_AFTER: Duration = Duration::from_secs(3);

/// A connection with so many unanswered pings in a row is closed.
const UNANSWERED_MAX: u8 = 3;

/// A peer whose key is no ed25519 key.
#[derive(Debug, thiserror::Error)]
#[error("the peer's identity is no usable ed25519 key")]
struct ForeignKey;

/// What the links tell the swarm's task.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// There is a link. [`Behaviour::activate`] makes it carry messages.
    Up {
        peer: NodeId,
        connection: ConnectionId,
        address: Multiaddr,
        is_outbound: bool,
    },
    /// The link is gone.
    Down { peer: NodeId, reason: DownReason },
    /// A connection ended that was never the link.
    Unused {
        connection: ConnectionId,
        reason: DownReason,
    },
}

struct Connection {
    peer: NodeId,
    address: Multiaddr,
    is_outbound: bool,
    link: Arc<Link>,
    /// Pings in a row without an answer.
    unanswered: u8,
    /// Why it is being closed.
    reason: Option<DownReason>,
}

#[derive(Default)]
struct Pair {
    /// The arbiter's choice; unused on the other side.
    elected: Option<ConnectionId>,
    /// Carries the link.
    live: Option<ConnectionId>,
    /// Carries the link once the live one is closed.
    next: Option<ConnectionId>,
}

/// Makes links of connections.
pub(crate) struct Behaviour {
    local: NodeId,
    links: Links,
    events: Sender<NetEvent>,
    stall_timeout: Duration,
    connections: BTreeMap<ConnectionId, Connection>,
    pairs: BTreeMap<NodeId, Pair>,
    /// Second connections, to be elected if they still stand then; the oldest first.
    ripening: VecDeque<(Timer, ConnectionId)>,
    addresses: PeerAddresses,
    out: VecDeque<ToSwarm<LinkEvent, Command>>,
    waker: Option<Waker>,
}

impl Behaviour {
    pub(crate) fn new(
        local: NodeId,
        links: Links,
        events: Sender<NetEvent>,
        stall_timeout: Duration,
    ) -> Self {
        Self {
            local,
            links,
            events,
            stall_timeout,
            connections: BTreeMap::new(),
            pairs: BTreeMap::new(),
            ripening: VecDeque::new(),
            addresses: PeerAddresses::default(),
            out: VecDeque::new(),
            waker: None,
        }
    }

    /// Lets `connection` carry messages, now that the program knows of the link.
    pub(crate) fn activate(&mut self, connection: ConnectionId) {
        if let Some(it) = self.connections.get(&connection) {
            let peer = it.peer;
            self.notify(peer, connection, Command::Activate);
        }
    }

    /// Closes all connections to `peer` after what waits was sent.
    pub(crate) fn disconnect(&mut self, peer: &NodeId, reason: &DownReason) {
        let open: Vec<_> = self
            .connections
            .iter_mut()
            .filter(|(_, it)| it.peer == *peer && it.reason.is_none())
            .map(|(id, it)| {
                it.reason = Some(reason.clone());
                it.link.close();
                *id
            })
            .collect();
        for connection in open {
            self.notify(*peer, connection, Command::Drain);
        }
    }

    /// Closes every connection politely, whether it is a link yet or not.
    pub(crate) fn disconnect_all(&mut self, reason: &DownReason) {
        let peers: BTreeSet<NodeId> = self.connections.values().map(|it| it.peer).collect();
        for peer in peers {
            self.disconnect(&peer, reason);
        }
    }

    /// Closes all connections to `peer` at once.
    pub(crate) fn cut(&mut self, peer: &NodeId, reason: &DownReason) {
        let open: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, it)| it.peer == *peer)
            .map(|(id, _)| *id)
            .collect();
        for connection in open {
            self.close(connection, reason.clone());
        }
    }

    /// Number of connections, those that are no links included.
    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// The address at the other end of `connection`, and whether it carries a link.
    pub(crate) fn remote_of(&self, connection: ConnectionId) -> Option<(Multiaddr, bool)> {
        let it = self.connections.get(&connection)?;
        Some((it.address.clone(), self.is_live(connection, &it.peer)))
    }

    /// Counts an answer, or closes `connection` when [`UNANSWERED_MAX`] were missing. Whether it
    /// carries a link; `None` if it is gone.
    pub(crate) fn on_ping(&mut self, connection: ConnectionId, is_answered: bool) -> Option<bool> {
        let it = self.connections.get_mut(&connection)?;
        it.unanswered = if is_answered { 0 } else { it.unanswered + 1 };
        let peer = it.peer;
        if it.unanswered >= UNANSWERED_MAX {
            self.close(connection, DownReason::Silent);
        }
        Some(self.is_live(connection, &peer))
    }

    fn is_live(&self, connection: ConnectionId, peer: &NodeId) -> bool {
        let pair = self.pairs.get(peer);
        pair.is_some_and(|it| it.live == Some(connection))
    }

    /// Remembers where `peer` may be dialed. Ten addresses each of a hundred peers are kept.
    pub(crate) fn add_address(&mut self, peer: PeerId, address: Multiaddr) {
        self.addresses.add(peer, address);
    }

    fn notify(&mut self, peer: NodeId, connection: ConnectionId, event: Command) {
        // Every peer with a connection has passed `handler`, which knows its key.
        if let Some(peer_id) = id::peer_id(&peer) {
            self.push(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(connection),
                event,
            });
        }
    }

    fn close(&mut self, connection: ConnectionId, reason: DownReason) {
        let Some(it) = self.connections.get_mut(&connection) else {
            return;
        };
        it.reason.get_or_insert(reason);
        it.link.close();
        if let Some(peer_id) = id::peer_id(&it.peer) {
            self.push(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::One(connection),
            });
        }
    }

    fn push(&mut self, event: ToSwarm<LinkEvent, Command>) {
        self.out.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn handler(
        &mut self,
        connection: ConnectionId,
        peer: &PeerId,
        address: &Multiaddr,
        is_outbound: bool,
    ) -> Result<Handler, ConnectionDenied> {
        let peer = id::node_id(peer).ok_or_else(|| ConnectionDenied::new(ForeignKey))?;
        let link = Arc::<Link>::default();
        self.connections.insert(
            connection,
            Connection {
                peer,
                address: address.clone(),
                is_outbound,
                link: link.clone(),
                unanswered: 0,
                reason: None,
            },
        );
        Ok(Handler::new(
            peer,
            link,
            self.events.clone(),
            self.stall_timeout,
        ))
    }

    /// Decides what a new connection is good for.
    fn on_established(&mut self, peer: NodeId, connection: ConnectionId, is_outbound: bool) {
        let pair = self.pairs.entry(peer).or_default();
        let first = match self.local < peer {
            true => pair.elected,
            false => pair.live,
        };
        let stands = |it: &ConnectionId| {
            let first = self.connections.get(it);
            first.is_some_and(|it| it.reason.is_none())
        };
        let has_first = first.as_ref().is_some_and(stands);
        if has_first && is_outbound {
            self.close(connection, DownReason::Replaced);
        } else if self.local > peer {
            // The arbiter elects.
        } else if has_first {
            let timer = Timer::after(REPLACE_AFTER);
            self.ripening.push_back((timer, connection));
        } else {
            self.elect(peer, connection);
        }
    }

    fn elect(&mut self, peer: NodeId, connection: ConnectionId) {
        let older = self
            .pairs
            .entry(peer)
            .or_default()
            .elected
            .replace(connection);
        if let Some(older) = older {
            self.close(older, DownReason::Replaced);
        }
        self.notify(peer, connection, Command::Elect);
    }

    fn poll_ripening(&mut self, cx: &mut Context<'_>) {
        while let Some((timer, connection)) = self.ripening.front_mut() {
            if timer.poll_unpin(cx).is_pending() {
                return;
            }
            let connection = *connection;
            self.ripening.pop_front();
            let it = self.connections.get(&connection);
            if let Some(it) = it.filter(|it| it.reason.is_none()) {
                self.elect(it.peer, connection);
            }
        }
    }

    /// Both sides know that `connection` is the one.
    fn on_elected(&mut self, peer: NodeId, connection: ConnectionId) {
        let pair = self.pairs.entry(peer).or_default();
        match pair.live {
            None => self.go_live(peer, connection),
            Some(older) => {
                pair.next = Some(connection);
                self.close(older, DownReason::Replaced);
            }
        }
    }

    fn go_live(&mut self, peer: NodeId, connection: ConnectionId) {
        let Some(it) = self.connections.get(&connection) else {
            return;
        };
        let event = LinkEvent::Up {
            peer,
            connection,
            address: it.address.clone(),
            is_outbound: it.is_outbound,
        };
        self.links.insert(peer, it.link.clone());
        self.pairs.entry(peer).or_default().live = Some(connection);
        self.push(ToSwarm::GenerateEvent(event));
        let surplus: Vec<_> = self
            .connections
            .iter()
            .filter(|(id, it)| it.peer == peer && it.is_outbound && **id != connection)
            .map(|(id, _)| *id)
            .collect();
        for connection in surplus {
            self.close(connection, DownReason::Replaced);
        }
    }

    fn on_closed(&mut self, connection: ConnectionId, cause: Option<String>) {
        let Some(it) = self.connections.remove(&connection) else {
            return;
        };
        let reason = it
            .reason
            .unwrap_or_else(|| DownReason::Lost(cause.unwrap_or_else(|| "closed".into())));
        let Some(pair) = self.pairs.get_mut(&it.peer) else {
            return self.push(ToSwarm::GenerateEvent(LinkEvent::Unused {
                connection,
                reason,
            }));
        };
        let was_elected = pair.elected.take_if(|it| *it == connection).is_some();
        let was_live = pair.live.take_if(|it| *it == connection).is_some();
        pair.next.take_if(|it| *it == connection);
        let next = if was_live { pair.next.take() } else { None };
        let event = match was_live {
            true => {
                self.links.remove(&it.peer);
                LinkEvent::Down {
                    peer: it.peer,
                    reason,
                }
            }
            false => LinkEvent::Unused { connection, reason },
        };
        self.push(ToSwarm::GenerateEvent(event));
        if let Some(next) = next {
            self.go_live(it.peer, next);
        }
        self.tidy(it.peer, was_elected);
    }

    /// Elects what is left of a peer's connections, or forgets the pair.
    fn tidy(&mut self, peer: NodeId, was_elected: bool) {
        let mut left = self
            .connections
            .iter()
            .filter(|(_, it)| it.peer == peer)
            .peekable();
        if left.peek().is_none() {
            self.pairs.remove(&peer);
            return;
        }
        let usable = left.find(|(_, it)| it.reason.is_none());
        // The arbiter's choice is gone; on the other side nothing was elected.
        if was_elected && let Some((connection, _)) = usable {
            let connection = *connection;
            self.elect(peer, connection);
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = LinkEvent;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(connection, &peer, remote, false)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        Ok(peer.map_or_else(Vec::new, |it| self.addresses.get(&it).collect()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(connection, &peer, address, true)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.addresses.on_swarm_event(&event);
        match event {
            FromSwarm::ConnectionEstablished(it) => {
                if let Some(peer) = id::node_id(&it.peer_id) {
                    self.on_established(peer, it.connection_id, it.endpoint.is_dialer());
                }
            }
            FromSwarm::ConnectionClosed(it) => {
                self.on_closed(it.connection_id, it.cause.map(ToString::to_string));
            }
            // Another behaviour refused a connection that we had a handler made for.
            FromSwarm::DialFailure(it) => drop(self.connections.remove(&it.connection_id)),
            FromSwarm::ListenFailure(it) => drop(self.connections.remove(&it.connection_id)),
            _ => (),
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, connection: ConnectionId, report: Report) {
        let Some(it) = self.connections.get(&connection) else {
            return;
        };
        match report {
            // A connection that is being closed cannot become the link any more.
            Report::Elected if it.reason.is_some() => (),
            Report::Elected => self.on_elected(it.peer, connection),
            Report::Failed(reason) => self.close(connection, reason),
            Report::Drained => self.close(connection, DownReason::Requested),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<LinkEvent, Command>> {
        self.poll_ripening(cx);
        if let Some(event) = self.out.pop_front() {
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
