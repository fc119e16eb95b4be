//! The task that owns the swarm: commands in, events out.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender, TrySendError};
use async_io::Timer;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures_lite::future;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol as Part;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{self, ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, Swarm};

use crate::base::{NodeId, SecretKey};
use crate::net::behaviour::{Behaviour, BehaviourEvent};
use crate::net::event::{DialFault, DownReason, NetEvent, QueryId};
use crate::net::gossip::{self, Topics};
use crate::net::handle::{COMMANDS_MAX, Command, Config, NetHandle, Shared, Status};
use crate::net::link::Links;
use crate::net::provide::Publisher;
use crate::net::room::Room;
use crate::net::spawn::{Spawn, Tasks};
use crate::net::traffic::Meter;
use crate::net::{clock, fault, id, kad, links, transport};

/// Events that wait for the program; at the limit connections stop reading, then the swarm stops.
pub const EVENTS_MAX: usize = 512;

/// Bytes of gossip that the program has not taken yet; a message beyond is ignored. It is asked for
/// when pools are compared.
pub const GOSSIP_BYTES_MAX: usize = 32 << 20;

/// Dials under way; a further one fails at once.
pub const DIALS_MAX: usize = 256;

/// Bans at a time; at the limit the one that ends first is lifted.
pub const BANS_MAX: usize = 1024;

/// Connections are closed politely for so long at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Streams of one connection that are being negotiated; further ones wait.
const NEGOTIATING_MAX: usize = 32;

/// Addresses of one peer that are dialed at a time.
const DIAL_CONCURRENCY: std::num::NonZeroU8 = std::num::NonZeroU8::new(4).unwrap();

/// Events of one connection that wait for the swarm.
const CONNECTION_EVENTS_MAX: usize = 8;

/// A running network.
pub struct Net;

impl Net {
    /// Starts a network with the identity `key` on `executor`. An address that cannot be listened
    /// on does not stop it: that is an event.
    ///
    /// # Errors
    ///
    /// If the transport or the behaviours cannot be set up from `key`.
    pub fn start(
        mut config: Config,
        key: &SecretKey,
        executor: Arc<dyn Spawn>,
    ) -> io::Result<(NetHandle, Receiver<NetEvent>)> {
        let keypair = id::keypair(key).ok_or(io::ErrorKind::InvalidInput)?;
        let (tasks, ended) = Tasks::new(executor);
        let (commands, commands_in) = async_channel::bounded(COMMANDS_MAX);
        let (events, events_out) = async_channel::bounded(EVENTS_MAX);
        let shared = Arc::new(Shared {
            local: key.public(),
            links: Links::default(),
            meter: Meter::default(),
            status: Mutex::new(Status::default()),
        });
        let listen = std::mem::take(&mut config.listen);
        let topics = Topics::new(&config.chain);
        let transport = transport::build(&keypair, shared.meter.clone(), config.upgrade_timeout)?;
        let links = links::Behaviour::new(
            shared.local,
            shared.links.clone(),
            events.clone(),
            config.stall_timeout,
        );
        let behaviour = Behaviour::new(config, &keypair, &topics, links)?;
        let spawner = tasks.clone();
        let config = swarm::Config::with_executor(move |task| spawner.spawn(task))
            .with_notify_handler_buffer_size(NonZeroUsize::MIN)
            .with_per_connection_event_buffer_size(CONNECTION_EVENTS_MAX)
            .with_dial_concurrency_factor(DIAL_CONCURRENCY)
            .with_max_negotiating_inbound_streams(NEGOTIATING_MAX);
        let local = keypair.public().to_peer_id();
        let mut task = Task {
            swarm: Swarm::new(transport, behaviour, local, config),
            topics,
            shared: shared.clone(),
            commands: commands_in,
            events,
            backlog: VecDeque::new(),
            delivery: None,
            gossip_room: Room::new(GOSSIP_BYTES_MAX),
            observed: VecDeque::new(),
            listeners: HashMap::new(),
            dials: BTreeMap::new(),
            early: BTreeMap::new(),
            queries: HashMap::new(),
            publisher: Publisher::new(key.public()),
            servers: kad::Servers::default(),
            bans: BTreeMap::new(),
        };
        for address in listen {
            task.listen(address);
        }
        tasks.spawn(task.run().boxed());
        Ok((NetHandle::new(shared, commands, ended), events_out))
    }
}

/// An event, and the connection that may carry messages once the program has the event.
type Outgoing = (NetEvent, Option<ConnectionId>);

/// A dial that the program asked for.
pub(crate) struct Dial {
    pub(crate) peer: Option<NodeId>,
    pub(crate) address: Option<Multiaddr>,
}

/// What is known of a connection before it is a link.
#[derive(Default)]
pub(crate) struct Early {
    pub(crate) identified: Option<NetEvent>,
    pub(crate) ping: Option<NetEvent>,
}

/// A search for holders that the program asked for.
pub(crate) struct Search {
    pub(crate) query: QueryId,
    pub(crate) found: BTreeSet<NodeId>,
}

enum Step {
    Command(Option<Command>),
    Swarm(Box<SwarmEvent<BehaviourEvent>>),
    Delivered,
    /// A ban has ended, or a key is to be told again.
    Woken,
}

pub(crate) struct Task {
    pub(crate) swarm: Swarm<Behaviour>,
    pub(crate) topics: Topics,
    pub(crate) shared: Arc<Shared>,
    commands: Receiver<Command>,
    events: Sender<NetEvent>,
    backlog: VecDeque<Outgoing>,
    delivery: Option<(BoxFuture<'static, ()>, Option<ConnectionId>)>,
    pub(crate) gossip_room: Arc<Room>,
    /// Our addresses as peers see them, the most recent last, and who says so.
    pub(crate) observed: VecDeque<(Multiaddr, BTreeSet<NodeId>)>,
    pub(crate) listeners: HashMap<ListenerId, Multiaddr>,
    pub(crate) dials: BTreeMap<ConnectionId, Dial>,
    /// The latest of each kind that is to be told once a connection is a link.
    pub(crate) early: BTreeMap<ConnectionId, Early>,
    pub(crate) queries: HashMap<libp2p::kad::QueryId, Search>,
    pub(crate) publisher: Publisher,
    pub(crate) servers: kad::Servers,
    bans: BTreeMap<NodeId, Instant>,
}

impl Task {
    async fn run(mut self) {
        loop {
            self.deliver();
            match self.step().await {
                Step::Command(Some(Command::Shutdown) | None) => return self.end().await,
                Step::Command(Some(command)) => self.on_command(command),
                Step::Swarm(event) => self.on_swarm_event(*event),
                Step::Delivered => {
                    if let Some((_, Some(connection))) = self.delivery.take() {
                        self.swarm.behaviour_mut().links.activate(connection);
                    }
                }
                Step::Woken => {
                    self.lift_bans();
                    self.publisher.publish(&mut self.swarm.behaviour_mut().kad);
                }
            }
        }
    }

    async fn step(&mut self) -> Step {
        let Self {
            swarm,
            commands,
            delivery,
            bans,
            publisher,
            ..
        } = self;
        let command = async { Step::Command(commands.recv().await.ok()) };
        // Nothing new happens before the program has taken what did.
        let network = async {
            match delivery {
                Some((delivery, _)) => {
                    delivery.await;
                    Step::Delivered
                }
                None => Step::Swarm(Box::new(swarm.select_next_some().await)),
            }
        };
        let ends = bans.values().min().copied();
        let wake = ends.into_iter().chain(publisher.next_turn()).min();
        let alarm = async {
            match wake {
                Some(at) => {
                    Timer::at(at).await;
                }
                None => future::pending().await,
            }
            Step::Woken
        };
        future::race(command, future::race(network, alarm)).await
    }

    /// Tells the program of an event; `activate` may carry messages from then on.
    pub(crate) fn emit(&mut self, event: NetEvent, activate: Option<ConnectionId>) {
        self.backlog.push_back((event, activate));
    }

    fn deliver(&mut self) {
        while self.delivery.is_none()
            && let Some((event, activate)) = self.backlog.pop_front()
        {
            match self.events.try_send(event) {
                Err(TrySendError::Full(event)) => {
                    let events = self.events.clone();
                    let delivery = async move { drop(events.send(event).await) };
                    self.delivery = Some((delivery.boxed(), activate));
                }
                // Without a receiver there is nobody to tell.
                Ok(()) | Err(TrySendError::Closed(_)) => {
                    if let Some(connection) = activate {
                        self.swarm.behaviour_mut().links.activate(connection);
                    }
                }
            }
        }
    }

    fn listen(&mut self, address: Multiaddr) {
        match self.swarm.listen_on(address.clone()) {
            Ok(listener) => drop(self.listeners.insert(listener, address)),
            Err(error) => {
                let error = fault::listen(&address, error);
                self.emit(NetEvent::ListenFailed { address, error }, None);
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        let behaviour = self.swarm.behaviour_mut();
        match command {
            Command::Publish(topic, bytes) => {
                self.topics.publish(&mut behaviour.gossip, topic, bytes);
            }
            Command::Validate(id, source, verdict) => {
                gossip::judge(&mut behaviour.gossip, id, &source, verdict);
            }
            Command::Dial(address, peer) => self.dial(address, peer),
            Command::Disconnect(peer) => {
                // Kademlia would dial it again by itself.
                if let Some(peer) = id::peer_id(&peer) {
                    self.servers.leave(&peer);
                    behaviour.kad.remove_peer(&peer);
                }
                behaviour.links.disconnect(&peer, &DownReason::Requested);
            }
            Command::Ban(peer, time) => self.ban(peer, time),
            Command::Provide(key) => self.publisher.provide(&mut behaviour.kad, key),
            Command::StopProviding(key) => self.publisher.stop(&mut behaviour.kad, &key),
            Command::Providers(query, key) => self.search(query, key),
            Command::Admit(peer) => {
                if let Some(peer) = id::peer_id(&peer).filter(|it| self.swarm.is_connected(it)) {
                    self.servers
                        .admit(&mut self.swarm.behaviour_mut().kad, peer);
                }
            }
            // Handled by the loop.
            Command::Shutdown => (),
        }
    }

    fn dial(&mut self, address: Option<Multiaddr>, expected: Option<NodeId>) {
        // Some write the peer id into the address.
        let mut bare = address.clone();
        let named = bare.as_mut().and_then(|it| match it.iter().last() {
            Some(Part::P2p(peer)) => {
                it.pop();
                id::node_id(&peer)
            }
            _ => None,
        });
        let dial = Dial {
            peer: expected.or(named),
            address,
        };
        if self.dials.len() >= DIALS_MAX {
            let reason = DialFault::Refused(format!("{DIALS_MAX} dials are under way"));
            return self.dial_failed(dial, reason);
        }
        let opts = match (bare, dial.peer.map(|it| id::peer_id(&it))) {
            (Some(address), None) => DialOpts::unknown_peer_id().address(address).build(),
            (Some(address), Some(Some(peer))) => DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(vec![address])
                .build(),
            (None, Some(Some(peer))) => DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .build(),
            (_, _) => return self.dial_failed(dial, DialFault::NoAddress),
        };
        let connection = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => drop(self.dials.insert(connection, dial)),
            // The swarm leaves our own addresses out.
            Err(swarm::DialError::NoAddresses) if dial.address.is_some() => {
                self.dial_failed(dial, DialFault::Ourselves);
            }
            Err(error) => self.dial_failed(dial, fault::dial(&error)),
        }
    }

    pub(crate) fn dial_failed(&mut self, dial: Dial, error: DialFault) {
        let event = NetEvent::DialFailed {
            peer: dial.peer,
            address: dial.address,
            error,
        };
        self.emit(event, None);
    }

    fn search(&mut self, query: QueryId, key: Vec<u8>) {
        if self.queries.len() >= kad::QUERIES_MAX {
            let event = NetEvent::Providers {
                query,
                providers: Vec::new(),
                is_last: true,
            };
            return self.emit(event, None);
        }
        let kad = &mut self.swarm.behaviour_mut().kad;
        let id = kad.get_providers(key.into());
        let found = BTreeSet::new();
        self.queries.insert(id, Search { query, found });
    }

    fn ban(&mut self, peer: NodeId, time: Duration) {
        let Some(peer_id) = id::peer_id(&peer) else {
            return;
        };
        if self.bans.len() >= BANS_MAX
            && !self.bans.contains_key(&peer)
            && let Some((first, _)) = self.bans.iter().min_by_key(|it| it.1)
        {
            let first = *first;
            self.lift_ban(first);
        }
        let now = clock::now();
        // A ban beyond the end of time is one for a year.
        let end = now.checked_add(time);
        let end = end.unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3_600));
        self.bans.insert(peer, end);
        let behaviour = self.swarm.behaviour_mut();
        self.servers.leave(&peer_id);
        behaviour.kad.remove_peer(&peer_id);
        behaviour.links.cut(&peer, &DownReason::Banned);
        behaviour.bans.block_peer(peer_id);
    }

    fn lift_bans(&mut self) {
        let now = clock::now();
        let ended = self.bans.iter().filter(|it| *it.1 <= now).map(|it| *it.0);
        for peer in ended.collect::<Vec<_>>() {
            self.lift_ban(peer);
        }
    }

    fn lift_ban(&mut self, peer: NodeId) {
        self.bans.remove(&peer);
        if let Some(peer) = id::peer_id(&peer) {
            self.swarm.behaviour_mut().bans.unblock_peer(peer);
        }
    }

    /// Says good-bye to every peer, then drops everything: the tasks of connections end with it.
    async fn end(mut self) {
        self.commands.close();
        self.events.close();
        for listener in self.listeners.keys() {
            self.swarm.remove_listener(*listener);
        }
        let swarm = &mut self.swarm;
        swarm
            .behaviour_mut()
            .links
            .disconnect_all(&DownReason::Requested);
        let polite = async {
            while swarm.behaviour().links.connection_count() > 0 {
                // One that was being made meanwhile has nobody to say good-bye to.
                if let SwarmEvent::ConnectionEstablished { connection_id, .. } =
                    swarm.select_next_some().await
                {
                    swarm.close_connection(connection_id);
                }
            }
        };
        let late = async {
            Timer::after(SHUTDOWN_TIMEOUT).await;
        };
        future::or(polite, late).await;
    }
}
