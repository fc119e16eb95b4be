//! One connection's side of a link: its task sends, receives and watches.
//!
//! ```text
//!            elected                 activated              told to close
//! Waiting ─────────────► Elected ─────────────► Live ─────────────► Draining ──► Ended
//!    └── nobody elects it in time ──► Ended ◄── the peer breaks a rule or stalls ──┘
//! ```
//!
//! Messages go from the program's queue straight to this task and back, past the swarm's task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_channel::{Sender, TrySendError};
use async_io::Timer;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, ConnectionHandlerEvent, DialUpgradeError,
    StreamUpgradeError, SubstreamProtocol,
};

use crate::base::NodeId;
use crate::net::event::{DownReason, NetEvent};
use crate::net::frame::Protocol;
use crate::net::lane::{Kind, Kinds, Lane};
use crate::net::link::{Link, OPENINGS_MAX, OpenError, Opening, RAW_INBOUND_MAX};
use crate::net::stream::{self, Stream};

/// A connection that no side elects by then is closed: the peer is no node of ours.
pub(crate) const ELECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What still waits is sent for so long when we disconnect.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Messages that arrived whole before the peer disconnected are delivered for so long.
const DELIVER_TIMEOUT: Duration = Duration::from_secs(1);

/// Streams being refused at a time; beyond, they are reset without a word.
const REFUSALS_MAX: usize = RAW_INBOUND_MAX;

/// What the links tell a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Command {
    /// Be the one connection to the peer; only the node with the smaller id says so.
    Elect,
    /// The program knows of the link: carry its messages.
    Activate,
    /// Send what waits, then report [`Report::Drained`].
    Drain,
}

/// What a connection tells the links.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Report {
    /// Both sides know that this is the one connection.
    Elected,
    /// The connection must be closed.
    Failed(DownReason),
    /// All is sent.
    Drained,
}

enum Phase {
    Waiting(Timer),
    Elected,
    Live,
    Draining(Timer),
    Ended,
}

/// The handler of one connection.
pub(crate) struct Handler {
    peer: NodeId,
    link: Arc<Link>,
    events: Sender<NetEvent>,
    phase: Phase,
    lanes: [Lane; Protocol::COUNT],
    /// The lane that receives first; turns so that none starves.
    first: usize,
    /// An event that the program has no room for yet.
    delivery: Option<BoxFuture<'static, ()>>,
    openings: VecDeque<Opening>,
    raw_waiting: VecDeque<libp2p::Stream>,
    refusals: FuturesUnordered<BoxFuture<'static, ()>>,
    requests: VecDeque<Kind>,
    reports: VecDeque<Report>,
    /// Keeps the stream open; nothing is sent over it.
    mark: Option<libp2p::Stream>,
    farewell: Option<Timer>,
}

type HandlerEvent = ConnectionHandlerEvent<Kinds, Kind, Report>;

impl Handler {
    pub(crate) fn new(
        peer: NodeId,
        link: Arc<Link>,
        events: Sender<NetEvent>,
        stall_timeout: Duration,
    ) -> Self {
        Self {
            peer,
            link,
            events,
            phase: Phase::Waiting(Timer::after(ELECT_TIMEOUT)),
            lanes: Protocol::ALL.map(|it| Lane::new(it, stall_timeout)),
            first: 0,
            delivery: None,
            openings: VecDeque::new(),
            raw_waiting: VecDeque::new(),
            refusals: FuturesUnordered::new(),
            requests: VecDeque::new(),
            reports: VecDeque::new(),
            mark: None,
            farewell: None,
        }
    }

    fn fail(&mut self, reason: DownReason) {
        if !matches!(self.phase, Phase::Ended) {
            self.phase = Phase::Ended;
            self.link.close();
            self.reports.push_back(Report::Failed(reason));
        }
    }

    fn elected(&mut self, mark: libp2p::Stream) {
        if let Phase::Waiting(_) = self.phase {
            self.phase = Phase::Elected;
            self.mark = Some(mark);
            self.reports.push_back(Report::Elected);
        }
    }

    fn poll_phase(&mut self, cx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::Waiting(timer) => {
                if timer.poll_unpin(cx).is_ready() {
                    self.fail(DownReason::NotKogge);
                }
            }
            Phase::Elected | Phase::Ended => (),
            Phase::Live => {
                let _ = self.poll_send(cx);
                self.poll_receive(cx);
                self.poll_raw(cx);
            }
            Phase::Draining(timer) => {
                let is_late = timer.poll_unpin(cx).is_ready();
                if self.poll_send(cx).is_ready() || is_late {
                    self.phase = Phase::Ended;
                    self.reports.push_back(Report::Drained);
                }
            }
        }
    }

    /// Sends what waits; ready when nothing is left.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (mut is_done, mut failure) = (true, None);
        for (lane, protocol) in self.lanes.iter_mut().zip(Protocol::ALL) {
            if lane.needs_opening(&self.link) {
                self.requests.push_back(Kind::Frames(protocol));
            }
            match lane.poll_send(cx, &self.link) {
                Poll::Ready(Ok(())) => (),
                Poll::Ready(Err(reason)) => failure = Some(reason),
                Poll::Pending => is_done = false,
            }
        }
        if let Some(reason) = failure {
            self.fail(reason);
        }
        if is_done {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Delivers messages until none has arrived or the program has no room.
    fn poll_receive(&mut self, cx: &mut Context<'_>) {
        self.first = (self.first + 1) % Protocol::COUNT;
        for turn in 0..Protocol::COUNT {
            let at = (self.first + turn) % Protocol::COUNT;
            while self.poll_delivery(cx).is_ready() {
                let lane = &mut self.lanes[at];
                match lane.poll_receive(cx, &self.link) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(bytes)) => self.deliver(NetEvent::Frame {
                        peer: self.peer,
                        protocol: Protocol::ALL[at],
                        bytes,
                    }),
                    Poll::Ready(Err(reason)) => return self.fail(reason),
                }
            }
        }
    }

    fn deliver(&mut self, event: NetEvent) {
        if let Err(TrySendError::Full(event)) = self.events.try_send(event) {
            let events = self.events.clone();
            self.delivery = Some(
                async move {
                    // Without a receiver the node is shutting down.
                    let _ = events.send(event).await;
                }
                .boxed(),
            );
        }
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(delivery) = &mut self.delivery {
            std::task::ready!(delivery.poll_unpin(cx));
            self.delivery = None;
        }
        Poll::Ready(())
    }

    fn poll_raw(&mut self, cx: &mut Context<'_>) {
        while self.openings.len() < OPENINGS_MAX
            && let Some(opening) = self.link.pop_opening()
        {
            self.openings.push_back(opening);
            self.requests.push_back(Kind::Raw);
        }
        while let Some(stream) = self.raw_waiting.pop_front() {
            self.take_raw(stream);
        }
        while let Poll::Ready(Some(())) = self.refusals.poll_next_unpin(cx) {}
    }

    fn take_raw(&mut self, stream: libp2p::Stream) {
        let Some(permit) = self.link.admit_raw() else {
            return self.refuse(stream);
        };
        let event = NetEvent::Inbound {
            peer: self.peer,
            stream: Stream::taken(stream, permit),
        };
        // A busy program refuses at once: the peer can ask another node.
        if let Err(TrySendError::Full(NetEvent::Inbound { stream, .. })) =
            self.events.try_send(event)
        {
            self.refuse(stream.into_inner());
        }
    }

    fn refuse(&mut self, stream: libp2p::Stream) {
        if self.refusals.len() < REFUSALS_MAX {
            self.refusals.push(stream::refuse(stream).boxed());
        }
    }

    fn on_inbound(&mut self, kind: Kind, stream: libp2p::Stream) {
        match kind {
            Kind::Mark => self.elected(stream),
            Kind::Frames(protocol) => {
                if let Err(reason) = self.lanes[protocol.index()].set_inbound(stream) {
                    self.fail(reason);
                }
            }
            // Beyond the limit it is reset.
            Kind::Raw if self.raw_waiting.len() >= RAW_INBOUND_MAX => (),
            Kind::Raw => self.raw_waiting.push_back(stream),
        }
    }

    fn on_outbound(&mut self, kind: Kind, stream: libp2p::Stream) {
        match kind {
            Kind::Mark => self.elected(stream),
            Kind::Frames(protocol) => self.lanes[protocol.index()].set_outbound(stream),
            Kind::Raw => {
                if let Some(opening) = self.openings.pop_front() {
                    // Who asked may have given up; then the stream is reset.
                    let _ = opening.send(Ok(Stream::opened(stream)));
                }
            }
        }
    }

    fn on_refused(&mut self, kind: Kind, is_unsupported: bool, error: OpenError) {
        match kind {
            Kind::Mark => self.fail(DownReason::NotKogge),
            Kind::Frames(protocol) if is_unsupported => self.link.refuse(protocol),
            Kind::Frames(protocol) => self.fail(DownReason::Stalled { protocol }),
            Kind::Raw => {
                if let Some(opening) = self.openings.pop_front() {
                    let _ = opening.send(Err(error));
                }
            }
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = Report;
    type InboundProtocol = Kinds;
    type OutboundProtocol = Kinds;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Kind;

    fn listen_protocol(&self) -> SubstreamProtocol<Kinds> {
        SubstreamProtocol::new(Kinds::all(), ())
    }

    fn connection_keep_alive(&self) -> bool {
        !matches!(self.phase, Phase::Ended)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<HandlerEvent> {
        self.link.register(cx.waker());
        self.poll_phase(cx);
        if let Some(report) = self.reports.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        if let Some(kind) = self.requests.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Kinds::one(kind), kind),
            });
        }
        Poll::Pending
    }

    /// A peer that sends its last words and disconnects is heard out.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Report>> {
        self.link.close();
        let timer = self
            .farewell
            .get_or_insert_with(|| Timer::after(DELIVER_TIMEOUT));
        let is_late = timer.poll_unpin(cx).is_ready();
        if is_late || !matches!(self.phase, Phase::Live) {
            return Poll::Ready(None);
        }
        self.link.register(cx.waker());
        self.poll_receive(cx);
        let is_waiting = self.lanes.iter().any(Lane::is_waiting_for_room);
        if self.delivery.is_some() || is_waiting {
            return Poll::Pending;
        }
        Poll::Ready(None)
    }

    fn on_behaviour_event(&mut self, command: Command) {
        match (command, &self.phase) {
            (Command::Elect, Phase::Waiting(_)) => self.requests.push_back(Kind::Mark),
            (Command::Activate, Phase::Elected) => self.phase = Phase::Live,
            (Command::Drain, Phase::Elected | Phase::Live) => {
                self.phase = Phase::Draining(Timer::after(DRAIN_TIMEOUT));
            }
            // Nothing waits on a connection that was never elected.
            (Command::Drain, _) => {
                self.phase = Phase::Ended;
                self.reports.push_back(Report::Drained);
            }
            (Command::Elect | Command::Activate, _) => (),
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Kinds, Kinds, (), Kind>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(it) => {
                let (kind, stream) = it.protocol;
                self.on_inbound(kind, stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(it) => {
                let (kind, stream) = it.protocol;
                self.on_outbound(kind, stream);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => match error {
                StreamUpgradeError::NegotiationFailed => {
                    self.on_refused(info, true, OpenError::Unsupported);
                }
                StreamUpgradeError::Timeout => self.on_refused(info, false, OpenError::TimedOut),
                StreamUpgradeError::Apply(never) => match never {},
                StreamUpgradeError::Io(_) => self.on_refused(info, false, OpenError::Closed),
            },
            _ => (),
        }
    }
}
