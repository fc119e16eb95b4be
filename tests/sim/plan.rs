//! What a run does: the nodes, what is asked of them, and what goes wrong when.
//!
//! A plan is drawn from a seed and printed in full: it is what shrinking shortens, and what a
//! regression test keeps. Each plan first draws which kinds of fault it knows at all, so that some
//! plans have many of a few kinds.

use crate::kogge::base::Rng;

/// For how long things go wrong, most of the time. Unit: milliseconds.
const SHORT: u64 = 25_000;

/// For how long things go wrong in one of ten plans. Unit: milliseconds.
const LONG: u64 = 250_000;

/// A mistake in the simulated shell, which the simulator must find.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Plant {
    /// The store reports a block before it is durable.
    AnnounceFirst,
    /// The consensus journal is written, but not synced, before votes are sent.
    JournalUnsynced,
}

/// What a node does just before it is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Moment {
    /// Sent a consensus message.
    Vote,
    /// Told the network of a block.
    Tip,
    /// Gave a block to the store.
    Append,
    /// Asked to make a head durable.
    Head,
}

/// What goes wrong. Times in milliseconds since the start; sets of nodes are bit masks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum What {
    /// The node dies, loses what was not synced, and comes back.
    Kill { node: usize },
    /// The node dies right after it did this for the `nth` time from then on.
    KillAfter {
        node: usize,
        moment: Moment,
        nth: u32,
    },
    /// No dial and no frame gets from one side to the other; links break.
    Split { side: u32 },
    /// Frames from one side to the other wait.
    OneWay { from: u32, to: u32 },
    /// Frames to and from these nodes wait; each node is freed at another time.
    Clog { nodes: u32 },
    /// A frame of this many is lost, and with it its link.
    Loss { per_mille: u64 },
    /// All links of a node are slower.
    SlowLinks { node: usize, times: u64 },
    /// The disk of a node is slower.
    SlowDisk { node: usize, times: u64 },
    /// The wall clock of a node jumps, and back at the end. Unit: milliseconds.
    Clock { node: usize, by: i64 },
    /// A link breaks.
    Cut { a: usize, b: usize },
    /// All nodes of a set die at once.
    Blackout { nodes: u32 },
}

/// A fault in time. Unit: milliseconds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Fault {
    pub(crate) at: u64,
    pub(crate) lasts: u64,
    pub(crate) what: What,
}

/// What the pipeline of one node does with one build.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mood {
    Fails,
    Differs,
    Hangs,
}

/// Somebody asks for a package.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ask {
    /// Unit: milliseconds.
    pub(crate) at: u64,
    pub(crate) node: usize,
    /// Which package.
    pub(crate) number: u32,
    /// An image with a tag rather than a Maven version.
    pub(crate) is_image: bool,
    /// A pipeline that does not do its duty.
    pub(crate) odd: Option<(usize, Mood)>,
}

/// The authorized nodes change: their admins mark the change one after the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reform {
    Admit(usize),
    Dismiss(usize),
}

/// A whole run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Draws all delays.
    pub(crate) seed: u64,
    pub(crate) members: usize,
    pub(crate) regulars: usize,
    /// Hostile peers, which come behind all others.
    pub(crate) hostile: usize,
    /// For how long things go wrong. Unit: milliseconds.
    pub(crate) faulty_for: u64,
    /// Difference of each node's wall clock. Unit: milliseconds.
    pub(crate) skews: Vec<i64>,
    pub(crate) asks: Vec<Ask>,
    /// When the first admin marks it, and what. Unit: milliseconds.
    pub(crate) reform: Option<(u64, Reform)>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) plant: Option<Plant>,
}

impl Plan {
    /// Nodes without faults and asks.
    pub(crate) fn quiet(seed: u64, members: usize, regulars: usize) -> Self {
        Self {
            seed,
            members,
            regulars,
            hostile: 0,
            faulty_for: SHORT,
            skews: vec![0; members + regulars],
            asks: Vec::new(),
            reform: None,
            faults: Vec::new(),
            plant: None,
        }
    }

    /// Four authorized and three regular nodes in trouble.
    ///
    /// Other numbers come up in the scenarios.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x51a1);
        let mut plan = Self::quiet(seed, 4, 3);
        let nodes = plan.nodes();
        for it in &mut plan.skews {
            *it = signed(rng.below(4_000)) - 2_000;
        }
        if rng.chance(1, 10) {
            plan.faulty_for = LONG;
        }
        if rng.chance(1, 5) {
            plan.hostile = 1 + index(&mut rng, 2);
        }
        let end = plan.faulty_for;
        if rng.chance(1, 4) {
            let reform = if rng.chance(1, 2) {
                Reform::Admit(plan.members + index(&mut rng, plan.regulars))
            } else {
                Reform::Dismiss(index(&mut rng, plan.members))
            };
            plan.reform = Some((rng.below(end), reform));
        }
        let asks_max = *rng.pick(&[4, 10, 30]).unwrap_or(&4);
        for number in 0..1 + u32::try_from(rng.below(asks_max)).unwrap_or(0) {
            // Three of three must agree once a fourth has left.
            let may_differ = !matches!(plan.reform, Some((_, Reform::Dismiss(_))));
            let odd = (rng.chance(1, 4) && may_differ).then(|| {
                let mood = *rng
                    .pick(&[Mood::Fails, Mood::Differs, Mood::Hangs])
                    .unwrap_or(&Mood::Fails);
                (index(&mut rng, plan.members), mood)
            });
            plan.asks.push(Ask {
                at: rng.below(end),
                node: index(&mut rng, nodes),
                number,
                is_image: rng.chance(1, 3),
                odd,
            });
        }
        let kinds: Vec<u64> = (0..KINDS).filter(|_| rng.chance(1, 3)).collect();
        let faults_max = *rng.pick(&[4, 10, 25]).unwrap_or(&4);
        for _ in 0..rng.below(faults_max) {
            if let Some(kind) = rng.pick(&kinds).copied() {
                let fault = plan.draw_fault(kind, &mut rng);
                plan.faults.push(fault);
            }
        }
        plan.faults.sort_by_key(|it| it.at);
        plan
    }

    fn draw_fault(&self, kind: u64, rng: &mut Rng) -> Fault {
        let nodes = self.nodes();
        let node = index(rng, nodes);
        let mut mask = || 1 + u32::try_from(rng.below((1 << nodes) - 2)).unwrap_or(0);
        let what = match kind {
            0 => What::Kill { node },
            1 => What::KillAfter {
                node: index(rng, self.members),
                moment: *rng
                    .pick(&[Moment::Vote, Moment::Tip, Moment::Append, Moment::Head])
                    .unwrap_or(&Moment::Vote),
                nth: 1 + u32::try_from(rng.below(12)).unwrap_or(0),
            },
            2 => What::Split { side: mask() },
            3 => What::OneWay {
                from: mask(),
                to: mask(),
            },
            4 => What::Clog { nodes: mask() },
            5 => What::Loss {
                per_mille: 1 + rng.below(100),
            },
            6 => What::SlowLinks {
                node,
                times: 2 + rng.below(30),
            },
            7 => What::SlowDisk {
                node,
                times: 2 + rng.below(100),
            },
            8 => What::Clock {
                node,
                by: signed(rng.below(40_000)) - 20_000,
            },
            9 => What::Blackout {
                nodes: (1 << nodes) - 1 - u32::try_from(rng.below(3)).unwrap_or(0),
            },
            _ => What::Cut {
                a: node,
                b: (node + 1 + index(rng, nodes - 1)) % nodes,
            },
        };
        Fault {
            at: rng.below(self.faulty_for),
            lasts: 50 + rng.below(self.faulty_for / 2),
            what,
        }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.members + self.regulars
    }
}

/// Kinds of fault that a plan draws.
const KINDS: u64 = 11;

/// The name of a node.
pub(crate) fn name(node: usize) -> &'static str {
    const NAMES: [&str; 13] = [
        "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "ken",
        "leo", "mia",
    ];
    NAMES.get(node).copied().unwrap_or("eve")
}

pub(crate) fn has(mask: u32, node: usize) -> bool {
    mask >> node & 1 == 1
}

pub(crate) fn index(rng: &mut Rng, below: usize) -> usize {
    usize::try_from(rng.below(below as u64)).unwrap_or(0)
}

fn signed(it: u64) -> i64 {
    i64::try_from(it).unwrap_or(0)
}
