//! The loop: takes what happened and lets the engine decide; `perform` carries the effects out.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_channel::{Receiver, Sender};
use futures_lite::future;
use libp2p::Multiaddr;

use crate::base::NodeId;
use crate::net::{NetEvent, NetHandle};
use crate::node::answers::{Answers, NotTaken, Reply};
use crate::node::builder::Builder;
use crate::node::clock::Clock;
use crate::node::dials::Dials;
use crate::node::event::Event;
use crate::node::executor::Pool;
use crate::node::flow::{Engine, Input};
use crate::node::pending::save_changes;
use crate::node::share::Hub;
use crate::node::shared::{Known, Shared};
use crate::node::vault::NodeVault;
use crate::proto::build::{BuildId, BuildSpec, BuildStatus};
use crate::proto::log::entry::Entry;
use crate::proto::pool::{Change, Kept, Marks};
use crate::store::{Store, StoreError, Wal};

/// Things that happened inside and wait for the loop; who reports them waits above that.
pub(crate) const INTERNAL_MAX: usize = 1_024;

/// Commands of the owner that wait for the loop; callers wait above that.
pub(crate) const COMMANDS_MAX: usize = 256;

/// Inputs that are taken before the status view is renewed.
const TURNS_MAX: u32 = 64;

/// What the owner asks of the loop.
pub(crate) enum Command {
    /// Ask for a package.
    Build(BuildSpec, Reply),
    /// How a build stands.
    BuildStatus(BuildId, Sender<Option<BuildStatus>>),
    /// How all builds stand.
    Builds(Sender<Vec<BuildStatus>>),
    /// Give a group to the pool.
    Offer(Vec<Entry>, Sender<Result<(), String>>),
    /// Consent to a change.
    Mark(Change, Sender<Result<(), String>>),
    /// The changes that wait for consent.
    Changes(Sender<Vec<Marks>>),
    /// Stop. The sender is dropped when everything is stopped.
    Stop(Sender<()>),
}

/// What happened inside.
pub(crate) enum Internal {
    /// An input for the engine.
    Input(Input),
    /// The store failed.
    StoreFailed(StoreError),
    /// Unfinished builds were saved for owners who wait for it.
    BuildsSaved(Result<(), StoreError>),
}

pub(crate) struct Loop {
    pub(crate) engine: Engine<NodeVault>,
    pub(crate) net: NetHandle,
    pub(crate) net_events: Receiver<NetEvent>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) internal: (Sender<Internal>, Receiver<Internal>),
    pub(crate) faults: Receiver<(NodeId, String)>,
    pub(crate) store: Arc<Store>,
    /// Taken out while the pool writes to it.
    pub(crate) wal: Option<Wal>,
    pub(crate) pool: Pool,
    pub(crate) hub: Arc<Hub>,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<Shared>,
    pub(crate) builder: Builder,
    pub(crate) dials: Dials,
    pub(crate) listening: Vec<Multiaddr>,
    pub(crate) links: BTreeSet<NodeId>,
    /// Answers to owners who asked for a package.
    pub(crate) answers: Answers,
    /// Answers to owners who consented in this turn.
    pub(crate) marked: Vec<(Sender<Marked>, Marked)>,
}

enum Turn {
    Net(NetEvent),
    Command(Command),
    Internal(Internal),
    Fault(NodeId, String),
    Deadline,
    Over,
}

/// Whether the pool took an owner's consent, or why not.
pub(crate) type Marked = Result<(), String>;

/// Why the loop ended by itself.
pub(crate) type Fatal = String;

impl Loop {
    /// Runs until it is told to stop, or cannot go on.
    pub(crate) async fn run(mut self) {
        let mut stopping = None;
        let outcome = self.turns(&mut stopping).await;
        if let Err(reason) = &outcome {
            tracing::error!(%reason, "the node stops");
        }
        self.shared.stopped(outcome.err());
        // Nobody answers any more: who waits for an answer learns it by the dropped reply.
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
        self.marked.clear();
        self.answers = Answers::default();
        self.hub.close();
        self.builder.close();
        self.save().await;
        self.net.shutdown().await;
        self.pool.close().await;
        self.shared.closed();
        drop(self);
        drop(stopping);
    }

    async fn turns(&mut self, stopping: &mut Option<Sender<()>>) -> Result<(), Fatal> {
        self.perform().await?;
        self.publish_status();
        let mut turns = 0;
        loop {
            let turn = self.next().await;
            let (now, wall) = (self.clock.now(), self.clock.wall());
            match turn {
                Turn::Net(event) => self.net_event(event),
                Turn::Command(Command::Stop(done)) => {
                    *stopping = Some(done);
                    return Ok(());
                }
                Turn::Command(command) => self.command(command),
                Turn::Internal(Internal::Input(input)) => {
                    let done = match &input {
                        Input::BuildDone { id, run, .. } => Some((*id, *run)),
                        _ => None,
                    };
                    self.engine.handle(now, wall, input);
                    if let Some((id, run)) = done {
                        self.pipeline_ended(id, run).await;
                    }
                }
                Turn::Internal(Internal::StoreFailed(error)) => return Err(error.to_string()),
                Turn::Internal(Internal::BuildsSaved(result)) => {
                    let saved = self.answers.saved(result);
                    saved.map_err(|error| format!("unfinished builds: {error}"))?;
                }
                Turn::Fault(peer, reason) => {
                    self.engine.handle(now, wall, Input::Fault { peer, reason });
                }
                Turn::Deadline => self.engine.handle(now, wall, Input::Tick),
                Turn::Over => return Err("the network stopped".into()),
            }
            self.perform().await?;
            self.answer().await;
            turns += 1;
            if turns % TURNS_MAX == 0 || self.net_events.is_empty() {
                self.publish_status();
                future::yield_now().await;
            }
        }
    }

    async fn next(&self) -> Turn {
        let net = async { self.net_events.recv().await.map_or(Turn::Over, Turn::Net) };
        let command = async {
            if self.answers.is_full() {
                return future::pending().await;
            }
            match self.commands.recv().await {
                Ok(command) => Turn::Command(command),
                Err(_) => future::pending().await,
            }
        };
        let internal = async {
            match self.internal.1.recv().await {
                Ok(it) => Turn::Internal(it),
                Err(_) => future::pending().await,
            }
        };
        let fault = async {
            match self.faults.recv().await {
                Ok((peer, reason)) => Turn::Fault(peer, reason),
                Err(_) => future::pending().await,
            }
        };
        let deadline = async {
            match self.engine.next_deadline() {
                Some(at) => {
                    async_io::Timer::at(self.clock.instant(at)).await;
                    Turn::Deadline
                }
                None => future::pending().await,
            }
        };
        // Our own results first: they free memory; then the owner; then peers.
        future::or(
            future::or(internal, future::or(command, fault)),
            future::or(deadline, net),
        )
        .await
    }

    fn command(&mut self, command: Command) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        match command {
            Command::Build(spec, reply) => match self.engine.submit(now, wall, spec) {
                Ok(status) => self.answers.wait(reply, status),
                Err(refusal) => drop(reply.try_send(Err(NotTaken::Refused(refusal)))),
            },
            Command::BuildStatus(id, reply) => {
                let _ = reply.try_send(self.engine.builds_machine().status(&id));
            }
            Command::Builds(reply) => {
                let _ = reply.try_send(self.engine.builds_machine().list().collect());
            }
            Command::Offer(group, reply) => {
                let _ = reply.try_send(self.engine.offer(now, wall, group));
            }
            Command::Mark(change, reply) => {
                let marked = self.engine.mark(now, wall, change);
                self.marked.push((reply, marked));
            }
            Command::Changes(reply) => {
                let _ = reply.try_send(self.engine.changes().collect());
            }
            Command::Stop(_) => (),
        }
    }

    #[expect(clippy::too_many_lines, reason = "one match shows every event")]
    fn net_event(&mut self, event: NetEvent) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let input = match event {
            NetEvent::Listening { address } => {
                let event = Event::Listening {
                    address: address.to_string(),
                };
                self.listening.push(address);
                // Who hears of it may look at the status at once.
                let input = self.listening_input();
                self.shared.event(event);
                input
            }
            NetEvent::Expired { address } => {
                self.listening.retain(|it| *it != address);
                self.listening_input()
            }
            NetEvent::ListenFailed { error, .. } => {
                self.shared.listen_failed(error);
                return;
            }
            NetEvent::Connected {
                peer,
                address,
                is_outbound,
            } => {
                self.links.insert(peer);
                self.shared.linked(peer, address.to_string());
                let dialled = self.dials.connected(&peer, &address, is_outbound);
                Input::Connected { peer, dialled }
            }
            NetEvent::Disconnected { peer, reason } => {
                self.links.remove(&peer);
                self.hub.left(&peer);
                self.shared.link_lost(peer);
                Input::Disconnected {
                    peer,
                    reason: reason.to_string(),
                }
            }
            NetEvent::DialFailed {
                peer,
                address,
                error,
            } => {
                tracing::debug!(?address, %error, "dial failed");
                match self.dials.failed(&self.net, peer, address) {
                    Some(dial) => Input::DialFailed { dial },
                    None => return,
                }
            }
            NetEvent::Identified {
                peer,
                agent,
                listens,
                ..
            } => {
                self.shared.identified(peer, agent);
                for address in listens {
                    let address = address.to_string();
                    self.engine
                        .handle(now, wall, Input::Learned { peer, address });
                }
                return;
            }
            NetEvent::Frame {
                peer,
                protocol,
                bytes,
            } => Input::Frame {
                peer,
                protocol,
                bytes: bytes.into_vec(),
            },
            NetEvent::Inbound { peer, stream } => {
                self.hub.inbound(peer, stream);
                return;
            }
            NetEvent::Gossip {
                topic,
                id,
                source,
                bytes,
                ..
            } => Input::Gossip {
                topic,
                id,
                source,
                bytes: bytes.into_vec(),
            },
            NetEvent::Providers { providers, .. } => {
                // A holder that answers joins the running downloads when it is admitted.
                let holders = providers.into_iter().filter(|it| self.engine.admits(it));
                for peer in holders.filter(|it| !self.links.contains(it)) {
                    let _ = self.net.dial_peer(peer);
                }
                return;
            }
            NetEvent::Ping { peer, rtt } => {
                self.shared.rtt(peer, rtt);
                return;
            }
        };
        self.engine.handle(now, wall, input);
    }

    fn listening_input(&self) -> Input {
        let addresses: Vec<String> = self.listening.iter().map(Multiaddr::to_string).collect();
        self.shared.listening(&addresses);
        Input::Listening(addresses)
    }

    async fn pipeline_ended(&mut self, id: BuildId, run: u64) {
        self.builder.done(id, run);
        let status = self.engine.builds_machine().status(&id);
        if status.is_none_or(|it| it.state.is_final()) {
            self.builder.over(id).await;
        }
    }

    fn publish_status(&self) {
        let now = self.clock.now();
        let snapshot = self.engine.snapshot(now);
        let builds = self.engine.builds_machine().census();
        self.shared.snapshot(Known { snapshot, builds });
    }

    /// Unfinished builds survive a restart.
    pub(crate) async fn save_builds(&self) {
        let pending: Vec<_> = self.engine.builds_machine().pending().collect();
        self.builder.save(pending).await;
    }

    /// Answers owners who consented: that is durable by now, as an effect of the engine. Who asked
    /// for a package waits for a save, which begins here unless one is running.
    async fn answer(&mut self) {
        for (reply, marked) in self.marked.drain(..) {
            let _ = reply.try_send(marked);
        }
        if self.answers.begin() {
            let pending = self.engine.builds_machine().pending().collect();
            self.builder.save_and_tell(pending).await;
        }
    }

    /// Returns when it is durable: the consent of an owner is answered after that.
    pub(crate) async fn save_changes(&self, changes: Vec<Kept>) -> Result<(), Fatal> {
        let store = self.store.clone();
        let saved = self.pool.run(move || save_changes(&store, changes)).await;
        saved
            .map_err(|error| error.to_string())?
            .map_err(|error| format!("changes that wait for consent: {error}"))
    }

    /// What is nice to have after a restart.
    async fn save(&mut self) {
        let book = self.engine.book().to_bytes();
        let store = self.store.clone();
        let saved = self
            .pool
            .run(move || store.meta().put("peers", b"book", &book))
            .await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "the address book was not saved");
        }
    }
}
