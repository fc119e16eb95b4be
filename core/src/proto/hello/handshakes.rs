//! The machine that turns connections into admitted peers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{BoundedQueue, ChainId, NodeId, Rng, Time};
use crate::proto::hello::message::{Hello, LISTEN_MAX, Message, Protocols, Role};
use crate::proto::hello::reason::{Reason, Rejection, Side};
use crate::proto::hello::tip::{Chain, Relation, Tip, relate};

/// Handshakes under way at once; one more is refused as [`Reason::Busy`].
pub const PENDING_MAX: usize = 128;

/// Peers in all; one more is refused as [`Reason::Busy`].
pub const PEERS_MAX: usize = 1_024;

/// How long a peer may take to complete the handshake; then it is refused.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Shortest time between two announcements of our tip; commits in between are announced together.
const TIP_INTERVAL: Duration = Duration::from_millis(200);

/// Claims of one peer that wait for us to reach their height. At the limit a new claim replaces
/// the highest: the lowest is the one that is checked first.
const CLAIMS_MAX: usize = 4;

/// Nonces that are remembered to refuse a repeated hello; the oldest is forgotten.
const NONCES_MAX: usize = 1_024;

/// What our hellos say, apart from what the chain says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Local {
    /// Our identity.
    pub node: NodeId,
    /// Our network.
    pub chain: ChainId,
    /// What we keep.
    pub role: Role,
    /// Whether we are authorized.
    pub authorized: bool,
    /// Name and version of the program; 1 to 128 visible bytes.
    pub agent: String,
    /// Where we can be dialled; only the first [`LISTEN_MAX`] are sent.
    pub listen: Vec<String>,
}

/// What happened outside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// The only connection to a peer opened.
    Connected {
        /// The identity that the connection proves.
        peer: NodeId,
        /// Why we do not want it, if the caller knows a reason: banned, not authorized.
        refuse: Option<Reason>,
    },
    /// A message arrived.
    Received {
        /// From whom.
        peer: NodeId,
        /// What.
        message: Message,
    },
    /// A peer that took part so far is not wanted any longer.
    Unwanted {
        /// Who.
        peer: NodeId,
        /// Why.
        reason: Reason,
    },
    /// Bytes arrived that are no message.
    Malformed {
        /// From whom.
        peer: NodeId,
    },
    /// The connection closed.
    Disconnected {
        /// To whom.
        peer: NodeId,
    },
    /// Our chain grew. Claims at the new heights are compared and our tip is announced.
    Committed,
}

/// What the caller must do next, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Send a message to the peer.
    Send {
        /// To whom.
        peer: NodeId,
        /// What.
        message: Message,
    },
    /// Let the peer take part in the other protocols.
    Admit {
        /// Who.
        peer: NodeId,
        /// How its tip relates to our chain; never [`Relation::Forked`].
        relation: Relation,
        /// The highest protocol version that both speak.
        protocol: u16,
        /// What it said.
        hello: Box<Hello>,
    },
    /// An admitted peer finalized a block that does not contradict our chain.
    Advanced {
        /// Who.
        peer: NodeId,
        /// Its new tip, as it says; it may be lower than before if the peer lies.
        tip: Tip,
    },
    /// Close the connection, after what was sent before.
    Reject {
        /// To whom.
        peer: NodeId,
        /// Who refused whom, and why.
        rejection: Rejection,
    },
}

#[derive(Debug)]
enum Phase {
    /// One of the two hellos is not yet accepted.
    Pending {
        deadline: Time,
        nonce: u64,
        /// Their hello, once accepted, and the protocol version that we agreed on.
        accepted: Option<(u16, Box<Hello>)>,
        welcomed: bool,
    },
    /// Both are. Keeps the claims above our tip by height.
    Admitted { claims: BTreeMap<u64, Tip> },
}

/// All handshakes, and what admitted peers claim.
#[derive(Debug)]
pub struct Handshakes {
    local: Local,
    rng: Rng,
    peers: BTreeMap<NodeId, Phase>,
    nonces: BoundedQueue<(NodeId, u64)>,
    /// Before this time our tip is not announced again.
    quiet_until: Time,
    tip_due: bool,
}

impl Handshakes {
    /// No handshakes yet. The `seed` must differ between runs: nonces grow from it.
    pub fn new(local: Local, seed: u64) -> Self {
        Self {
            local,
            rng: Rng::new(seed),
            peers: BTreeMap::new(),
            nonces: BoundedQueue::new(NONCES_MAX),
            quiet_until: Time::ZERO,
            tip_due: false,
        }
    }

    /// What later hellos say.
    pub fn local_mut(&mut self) -> &mut Local {
        &mut self.local
    }

    /// Whether the handshake with `peer` is complete.
    pub fn is_admitted(&self, peer: &NodeId) -> bool {
        matches!(self.peers.get(peer), Some(Phase::Admitted { .. }))
    }

    /// Whether we accepted the peer's hello. Its welcome may still be under way on another stream
    /// than its first request, so requests are answered from here on.
    pub fn is_accepted(&self, peer: &NodeId) -> bool {
        match self.peers.get(peer) {
            Some(Phase::Pending { accepted, .. }) => accepted.is_some(),
            Some(Phase::Admitted { .. }) => true,
            None => false,
        }
    }

    /// Applies one input.
    pub fn handle(&mut self, chain: &impl Chain, now: Time, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Connected { peer, refuse } => self.connected(chain, now, peer, refuse, out),
            Input::Received { peer, message } => match message {
                Message::Hello(hello) => self.hello(chain, peer, hello, out),
                Message::Welcome { echo } => self.welcome(chain, peer, echo, out),
                Message::Refused(reason) => {
                    if self.peers.remove(&peer).is_some() {
                        let by = Side::Theirs;
                        let rejection = Rejection { by, reason };
                        out.push(Effect::Reject { peer, rejection });
                    }
                }
                Message::Tip(tip) => self.tip(chain, peer, tip, out),
            },
            Input::Unwanted { peer, reason } => self.refuse(peer, reason, out),
            Input::Malformed { peer } => self.refuse(peer, Reason::Malformed, out),
            Input::Disconnected { peer } => {
                self.peers.remove(&peer);
            }
            Input::Committed => {
                self.recheck(chain, out);
                self.tip_due = true;
                self.announce(chain, now, out);
            }
        }
    }

    /// When [`Self::expire`] should be called next.
    pub fn next_deadline(&self) -> Option<Time> {
        let handshakes = self.peers.values().filter_map(|it| match it {
            Phase::Pending { deadline, .. } => Some(*deadline),
            Phase::Admitted { .. } => None,
        });
        let announcement = self.tip_due.then_some(self.quiet_until);
        handshakes.chain(announcement).min()
    }

    /// Refuses the peers that ran out of time, and announces a tip that had to wait.
    pub fn expire(&mut self, chain: &impl Chain, now: Time, out: &mut Vec<Effect>) {
        let late: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, it)| matches!(it, Phase::Pending { deadline, .. } if *deadline <= now))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in late {
            self.refuse(peer, Reason::Timeout, out);
        }
        self.announce(chain, now, out);
    }

    fn connected(
        &mut self,
        chain: &impl Chain,
        now: Time,
        peer: NodeId,
        refuse: Option<Reason>,
        out: &mut Vec<Effect>,
    ) {
        if self.peers.contains_key(&peer) {
            return; // The caller keeps one connection per peer: see `link_stays`.
        }
        let pending = self
            .peers
            .values()
            .filter(|it| matches!(it, Phase::Pending { .. }))
            .count();
        let full = PENDING_MAX <= pending || PEERS_MAX <= self.peers.len();
        let refuse = match refuse {
            _ if peer == self.local.node => Some(Reason::SelfDial),
            None if full => Some(Reason::Busy),
            reason => reason,
        };
        if let Some(reason) = refuse {
            turn_away(peer, reason, out);
            return;
        }
        let nonce = self.rng.next_u64();
        let message = Message::Hello(Box::new(self.our_hello(chain, peer, nonce)));
        out.push(Effect::Send { peer, message });
        let phase = Phase::Pending {
            deadline: now + HELLO_TIMEOUT,
            nonce,
            accepted: None,
            welcomed: false,
        };
        self.peers.insert(peer, phase);
    }

    fn our_hello(&self, chain: &impl Chain, to: NodeId, nonce: u64) -> Hello {
        let local = &self.local;
        Hello {
            chain: local.chain,
            protocols: Protocols::OURS,
            from: local.node,
            to,
            nonce,
            tip: chain.tip(),
            base: chain.base(),
            role: local.role,
            authorized: local.authorized,
            agent: local.agent.clone(),
            listen: local.listen.iter().take(LISTEN_MAX).cloned().collect(),
            index_root: None,
        }
    }

    fn hello(
        &mut self,
        chain: &impl Chain,
        peer: NodeId,
        theirs: Box<Hello>,
        out: &mut Vec<Effect>,
    ) {
        let Some(phase) = self.peers.get_mut(&peer) else {
            return; // Refused before it arrived.
        };
        let seen = (peer, theirs.nonce);
        let checked = match phase {
            Phase::Pending { accepted, .. } if accepted.is_none() => {
                let is_new = self.nonces.iter().all(|it| *it != seen);
                check(&self.local, chain, peer, &theirs)
                    .and_then(|it| is_new.then_some((it, accepted)).ok_or(Reason::NotFresh))
            }
            Phase::Pending { .. } | Phase::Admitted { .. } => Err(Reason::NotFresh),
        };
        match checked {
            Ok((protocol, accepted)) => {
                let echo = theirs.nonce;
                *accepted = Some((protocol, theirs));
                self.nonces.push_dropping_oldest(seen);
                let message = Message::Welcome { echo };
                out.push(Effect::Send { peer, message });
                self.admit(chain, peer, out);
            }
            Err(reason) => self.refuse(peer, reason, out),
        }
    }

    fn welcome(&mut self, chain: &impl Chain, peer: NodeId, echo: u64, out: &mut Vec<Effect>) {
        match self.peers.get_mut(&peer) {
            None => {}
            Some(Phase::Pending {
                nonce, welcomed, ..
            }) if *nonce == echo && !*welcomed => {
                *welcomed = true;
                self.admit(chain, peer, out);
            }
            Some(_) => self.refuse(peer, Reason::NotFresh, out),
        }
    }

    /// Admits the peer once both sides accepted the other's hello.
    fn admit(&mut self, chain: &impl Chain, peer: NodeId, out: &mut Vec<Effect>) {
        let Some(Phase::Pending {
            accepted,
            welcomed: true,
            ..
        }) = self.peers.get_mut(&peer)
        else {
            return;
        };
        let Some((protocol, hello)) = accepted.take() else {
            return;
        };
        // Our chain may have grown since the hello was accepted.
        let relation = relate(chain, hello.tip);
        if relation == Relation::Forked {
            let height = hello.tip.height;
            self.refuse(peer, Reason::Forked { height }, out);
            return;
        }
        let mut claims = BTreeMap::new();
        if relation == Relation::Ahead {
            claims.insert(hello.tip.height, hello.tip);
        }
        self.peers.insert(peer, Phase::Admitted { claims });
        out.push(Effect::Admit {
            peer,
            relation,
            protocol,
            hello,
        });
    }

    fn tip(&mut self, chain: &impl Chain, peer: NodeId, tip: Tip, out: &mut Vec<Effect>) {
        let Some(Phase::Admitted { claims }) = self.peers.get_mut(&peer) else {
            return; // A tip that overtook the handshake is worth nothing yet.
        };
        let height = tip.height;
        let contradicts_itself = claims.get(&height).is_some_and(|it| *it != tip);
        if contradicts_itself || relate(chain, tip) == Relation::Forked {
            self.refuse(peer, Reason::Forked { height }, out);
            return;
        }
        if chain.tip().height < height {
            if CLAIMS_MAX <= claims.len() && !claims.contains_key(&height) {
                claims.pop_last();
            }
            claims.insert(height, tip);
        }
        out.push(Effect::Advanced { peer, tip });
    }

    /// Compares the claims at heights that we reached.
    fn recheck(&mut self, chain: &impl Chain, out: &mut Vec<Effect>) {
        let reached = chain.tip().height;
        let mut forked = Vec::new();
        for (peer, phase) in &mut self.peers {
            let Phase::Admitted { claims } = phase else {
                continue;
            };
            while let Some(claim) = claims.first_entry().filter(|it| *it.key() <= reached) {
                let tip = claim.remove();
                if relate(chain, tip) == Relation::Forked {
                    forked.push((*peer, tip.height));
                    break;
                }
            }
        }
        for (peer, height) in forked {
            self.refuse(peer, Reason::Forked { height }, out);
        }
    }

    fn announce(&mut self, chain: &impl Chain, now: Time, out: &mut Vec<Effect>) {
        if !self.tip_due || now < self.quiet_until {
            return;
        }
        self.tip_due = false;
        self.quiet_until = now + TIP_INTERVAL;
        let tip = chain.tip();
        for (peer, phase) in &self.peers {
            if let Phase::Admitted { .. } = phase {
                let (peer, message) = (*peer, Message::Tip(tip));
                out.push(Effect::Send { peer, message });
            }
        }
    }

    fn refuse(&mut self, peer: NodeId, reason: Reason, out: &mut Vec<Effect>) {
        if self.peers.remove(&peer).is_some() {
            turn_away(peer, reason, out);
        }
    }
}

/// The protocol version to speak, or what speaks against the hello; cheapest question first.
fn check(local: &Local, chain: &impl Chain, peer: NodeId, hello: &Hello) -> Result<u16, Reason> {
    if hello.chain != local.chain {
        return Err(Reason::OtherChain);
    }
    if hello.from == local.node {
        return Err(Reason::SelfDial);
    }
    if hello.from != peer || hello.to != local.node {
        return Err(Reason::NotFresh);
    }
    let Protocols { min, max } = Protocols::OURS;
    let protocol = Protocols::OURS
        .common(hello.protocols)
        .ok_or(Reason::Version { min, max })?;
    if relate(chain, hello.tip) == Relation::Forked {
        let height = hello.tip.height;
        return Err(Reason::Forked { height });
    }
    Ok(protocol)
}

/// Tells the peer why, then closes.
fn turn_away(peer: NodeId, reason: Reason, out: &mut Vec<Effect>) {
    let message = Message::Refused(reason);
    out.push(Effect::Send { peer, message });
    let by = Side::Ours;
    let rejection = Rejection { by, reason };
    out.push(Effect::Reject { peer, rejection });
}
