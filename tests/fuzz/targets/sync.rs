//! The machine that follows the chain, against peers that do anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;

use kogge_node::base::{Blake3, BlockId, NodeId, PublicKey, Sha256, Time, WallTime, codec};
use kogge_node::proto::chain::{Block, Certificate, Header};
use kogge_node::proto::log::entry::Seal;
use kogge_node::proto::sync::{
    Config, Decided, Effect, Incoming, Input, Message, NotAvailable, Sync, SyncBlock,
};

use crate::targets::Choices;
use crate::targets::clock::Clocked;

/// Heights of the honest chain, and of eve's, which leaves it after `FORK`.
const TIP: u64 = 120;
const FORK: u64 = 40;

/// Requests that one peer may have under way, with those that timed out.
const REQUESTS_MAX: usize = 2 + 4 + 2;

/// Steps that an honest peer may take to bring the node to the tip.
const STEPS_MAX: usize = 5_000;

/// The honest peer of the end.
const ALICE: NodeId = PublicKey([99; 32]);

struct Model {
    now: Time,
    machine: Sync,
    /// Base and tip that each connected peer claims.
    peers: BTreeMap<NodeId, (u64, u64)>,
    blamed: BTreeSet<NodeId>,
    asked: BTreeMap<u64, (NodeId, u64, u64)>,
    applied: u64,
    to_apply: Option<(NodeId, Vec<Decided>)>,
}

/// Input: steps until the bytes end. Then an honest peer comes, and the node must reach its tip.
///
/// Planted: a machine that does not hear that a peer left.
pub(crate) fn syncing(bytes: &[u8], is_planted: bool) -> bool {
    let mut choices = Choices(bytes);
    let mut model = Model {
        now: Time::ZERO,
        machine: Sync::new(Config::default(), 0),
        peers: BTreeMap::new(),
        blamed: BTreeSet::new(),
        asked: BTreeMap::new(),
        applied: 0,
        to_apply: None,
    };
    while !choices.is_empty() {
        model.step(&mut choices, is_planted);
    }
    model.finish();
    assert_eq!(model.applied, TIP, "an honest peer is not enough");
    true
}

impl Clocked for Model {
    fn now(&mut self) -> &mut Time {
        &mut self.now
    }

    fn next_deadline(&self) -> Option<Time> {
        self.machine.next_deadline()
    }

    fn expire(&mut self) {
        let mut out = Vec::new();
        self.machine.expire(self.now, &mut out);
        self.watch(out);
    }
}

impl Model {
    fn step(&mut self, choices: &mut Choices<'_>, is_planted: bool) {
        let peer = PublicKey([u8::try_from(choices.below(5)).unwrap_or(0); 32]);
        let asked: Vec<u64> = self.asked.keys().copied().collect();
        let at = usize::try_from(choices.below(asked.len().max(1) as u64)).unwrap_or(0);
        let id = asked.get(at).copied().unwrap_or(choices.number());
        match choices.below(9) {
            0 => {
                let (base, tip) = (choices.below(60), choices.number() % (2 * TIP));
                self.join(peer, base, tip);
            }
            1 => {
                let height = self.peers.get(&peer).map_or(0, |it| it.1) + choices.below(9);
                if let Some(it) = self.peers.get_mut(&peer) {
                    it.1 = height;
                }
                self.handle(Input::Tip { peer, height });
            }
            2 => {
                self.left(&peer);
                if !is_planted {
                    self.handle(Input::Left { peer });
                }
            }
            3 => {
                let (base, tip) = (choices.below(200), choices.below(200));
                let owner = self.asked.remove(&id).map_or(peer, |it| it.0);
                let answer = NotAvailable { id, base, tip };
                self.handle(Input::NotAvailable {
                    peer: owner,
                    answer,
                });
            }
            4 => self.handle(Input::Malformed { peer }),
            5 => self.wait(Duration::from_millis(choices.number() >> 46)),
            6 => self.decide(),
            kind => self.answer(id, 1 + choices.below(64), kind == 7 && choices.bool()),
        }
    }

    fn join(&mut self, peer: NodeId, base: u64, tip: u64) {
        self.asked.retain(|_, it| it.0 != peer);
        if !self.blamed.contains(&peer) {
            self.peers.insert(peer, (base, tip));
        }
        self.handle(Input::Joined { peer, base, tip });
    }

    fn left(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
        self.asked.retain(|_, it| it.0 != *peer);
    }

    /// A request is answered with blocks, of eve's chain if she answers.
    fn answer(&mut self, id: u64, count: u64, is_eve: bool) {
        let Some((peer, from, to)) = self.asked.remove(&id) else {
            return;
        };
        let to = to.min(from + count - 1).min(TIP);
        let blocks = chains()[usize::from(is_eve)].get(index(from)..=index(to));
        let Some(blocks) = blocks.filter(|it| !it.is_empty()) else {
            return self.handle(Input::Malformed { peer });
        };
        let blocks = blocks.to_vec();
        match Incoming::from_bytes(&Message::Blocks { id, blocks }.to_bytes()) {
            Ok(Incoming::Blocks(run)) => self.handle(Input::Blocks { peer, run }),
            other => panic!("a linked run is {other:?}"),
        }
    }

    /// The node checks the blocks at hand: those of the honest chain stand.
    fn decide(&mut self) {
        let Some((peer, blocks)) = self.to_apply.take() else {
            return;
        };
        for it in blocks {
            let height = it.block.height();
            let honest = chains()[0].get(index(height)).map(|it| it.block.to_vec());
            if honest != Some(it.block.to_bytes()) {
                return self.handle(Input::Rejected { peer, height });
            }
            self.applied = height;
            self.handle(Input::Applied { height });
        }
    }

    fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        self.watch(out);
    }

    fn watch(&mut self, out: Vec<Effect>) {
        for effect in out {
            match effect {
                Effect::Send { peer, request } => {
                    let Some((base, tip)) = self.peers.get(&peer).copied() else {
                        panic!("{peer} is asked, who left");
                    };
                    let to = request.from + u64::from(request.count_max) - 1;
                    let claimed = base <= request.from && to <= tip && 0 < request.count_max;
                    assert!(claimed, "{request:?} of a peer with {base} to {tip}");
                    assert!(self.applied < request.from, "{request:?} is applied");
                    let new = (peer, request.from, to);
                    assert_eq!(
                        self.asked.insert(request.id, new),
                        None,
                        "an id is used twice"
                    );
                    let theirs = self.asked.values().filter(|it| it.0 == peer);
                    // The model forgets no late request, the machine forgets some.
                    assert!(theirs.count() <= 16 * REQUESTS_MAX, "too many requests");
                }
                Effect::Apply { peer, blocks } => {
                    assert!(self.to_apply.is_none(), "two runs are handed out");
                    let heights = blocks.iter().map(|it| it.block.height());
                    let expected = self.applied + 1..;
                    assert!(heights.eq(expected.take(blocks.len())), "a gap");
                    assert!(!blocks.is_empty());
                    self.to_apply = Some((peer, blocks));
                }
                Effect::Blame { peer, .. } => {
                    self.left(&peer);
                    self.blamed.insert(peer);
                }
                Effect::Slow { .. } | Effect::Turned(_) => {}
            }
        }
        let progress = self.machine.progress(self.now);
        assert_eq!(progress.have, self.applied);
        assert!(progress.usable <= progress.peers);
    }

    /// All leave but an honest peer, which answers at once.
    fn finish(&mut self) {
        self.decide();
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.left(&peer);
            self.handle(Input::Left { peer });
        }
        self.join(ALICE, 0, TIP);
        for _ in 0..STEPS_MAX {
            if self.applied == TIP {
                return;
            }
            match self.asked.keys().next().copied() {
                _ if self.to_apply.is_some() => self.decide(),
                Some(id) => self.answer(id, 64, false),
                None => self.wait(Duration::from_millis(100)),
            }
        }
    }
}

/// Where the block of a height stands; that of height 0 nowhere.
fn index(height: u64) -> usize {
    usize::try_from(height.wrapping_sub(1)).unwrap_or(usize::MAX - 1)
}

/// The honest chain and eve's.
fn chains() -> &'static [Vec<SyncBlock>; 2] {
    static CHAINS: OnceLock<[Vec<SyncBlock>; 2]> = OnceLock::new();
    CHAINS.get_or_init(|| {
        let honest = chain(0);
        let mut eve = chain(1);
        eve.splice(..index(FORK), honest.iter().take(index(FORK)).cloned());
        [honest, eve]
    })
}

fn chain(evidence: u8) -> Vec<SyncBlock> {
    let mut parent = BlockId([0; 32]);
    let block = |height: u64| {
        let fork = if FORK <= height { evidence } else { 0 };
        let seal = Seal {
            height,
            parent,
            time: WallTime::from_millis(height),
            members: Sha256([0; 32]),
            next_members: Sha256([0; 32]),
            first_index: height,
            count: 1,
            index_root: Sha256([0; 32]),
            evidence: Blake3([fork; 32]),
        };
        let (size, root) = (height + 1, Sha256([1; 32]));
        let block = Block {
            header: Header { seal, size, root },
            entries: vec![vec![1; 20].into()],
        };
        let certificate = Certificate {
            height,
            round: 0,
            block: block.id(),
            signatures: Vec::new(),
        };
        parent = block.id();
        SyncBlock {
            block: block.to_bytes().into(),
            certificate: codec::encode(&certificate).into(),
        }
    };
    (1..=TIP).map(block).collect()
}
