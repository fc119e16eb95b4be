//! The network between the nodes: links, latency, and what goes wrong on the way.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::kogge::base::{Rng, Time};
use crate::kogge::net::{GossipId, Protocol, Topic};

/// A link over which nothing comes through for so long is closed; the pings of the real network
/// notice it.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(20);

/// A dial into the void fails after this time.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// What travels on a link.
#[derive(Clone)]
pub(crate) enum Parcel {
    Frame(Protocol, Rc<[u8]>),
    Gossip(Topic, GossipId, Rc<[u8]>),
    /// Identify: where the sender listens.
    Address,
    /// The sender closed the link after what it sent before.
    Close,
}

/// A connection between two nodes; side 0 dialled.
pub(crate) struct Link {
    pub(crate) ends: [usize; 2],
    /// Whether the program at this end knows of it.
    pub(crate) up: [bool; 2],
    /// Nothing that is sent arrives any more.
    pub(crate) is_dead: bool,
    /// When the last parcel reaches this end.
    pub(crate) last: [Time; 2],
    /// On the way to this end, held by a clog.
    pub(crate) held: [Vec<Parcel>; 2],
}

impl Link {
    pub(crate) fn side(&self, node: usize) -> usize {
        usize::from(self.ends[1] == node)
    }
}

/// All links and the state of the ways between nodes.
pub(crate) struct Net {
    pub(crate) links: BTreeMap<u64, Link>,
    next: u64,
    seed: u64,
    /// Nothing gets from the first to the second: dials fail, what is sent waits; the number of
    /// faults that cause it.
    blocked: BTreeMap<(usize, usize), u32>,
    /// Lost frames in 1,000.
    pub(crate) loss: u64,
    /// How many times slower the links of a node are.
    pub(crate) slow: BTreeMap<usize, u64>,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            links: BTreeMap::new(),
            next: 0,
            seed,
            blocked: BTreeMap::new(),
            loss: 0,
            slow: BTreeMap::new(),
        }
    }

    pub(crate) fn open(&mut self, dialler: usize, listener: usize, now: Time) -> u64 {
        self.next += 1;
        self.links.insert(
            self.next,
            Link {
                ends: [dialler, listener],
                up: [false; 2],
                is_dead: false,
                last: [now; 2],
                held: [Vec::new(), Vec::new()],
            },
        );
        self.next
    }

    /// The link between two nodes that is not dead.
    pub(crate) fn between(&self, a: usize, b: usize) -> Option<u64> {
        let joins = |it: &Link| !it.is_dead && (it.ends == [a, b] || it.ends == [b, a]);
        self.links.iter().find(|it| joins(it.1)).map(|it| *it.0)
    }

    pub(crate) fn block(&mut self, from: usize, to: usize) {
        *self.blocked.entry((from, to)).or_default() += 1;
    }

    pub(crate) fn unblock(&mut self, from: usize, to: usize) {
        if let Some(count) = self.blocked.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.blocked.remove(&(from, to));
            }
        }
    }

    pub(crate) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.contains_key(&(from, to))
    }

    /// One way's delay: fixed for each pair, with jitter. 1 to 80 ms.
    pub(crate) fn latency(&self, from: usize, to: usize, rng: &mut Rng) -> Duration {
        let pair = (from.min(to) * 1_000 + from.max(to)) as u64;
        let base = 1_000 + Rng::new(self.seed ^ pair.wrapping_mul(0x9e37_79b9)).below(64_000);
        let slow = |it| self.slow.get(it).copied().unwrap_or(1);
        Duration::from_micros((base + rng.below(base / 4 + 1)) * slow(&from) * slow(&to))
    }
}

/// Where a node listens.
pub(crate) fn address(node: usize) -> String {
    format!("/ip4/10.0.0.{}/tcp/4001", node + 1)
}

/// The node at an address.
pub(crate) fn node_at(address: &str) -> Option<usize> {
    let host = address.strip_prefix("/ip4/10.0.0.")?.split('/').next()?;
    host.parse::<usize>().ok()?.checked_sub(1)
}
