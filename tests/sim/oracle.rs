//! What must hold after every event, whatever goes wrong.

use std::collections::BTreeMap;

use crate::disk::{Disk, Stored};
use crate::kogge::base::{BlockId, PublicKey, Sha256};
use crate::kogge::net::{Protocol, Topic};
use crate::kogge::node::flow::Gossip;
use crate::kogge::proto::chain::testing::MemoryLedger;
use crate::kogge::proto::chain::{ChainState, Genesis, MemberSet, VoteKind, check};
use crate::kogge::proto::consensus::Message as Agreement;
use crate::kogge::proto::heads::Message as Heads;
use crate::kogge::proto::hello::{Message as Hello, Tip};
use crate::kogge::proto::log::verify_checkpoint;
use crate::kogge::proto::sync::Incoming;

/// What was signed for a height and round: prevote, precommit or proposal.
type Ballot = (PublicKey, u64, u32, u8);

/// What one block left behind.
pub(crate) struct Known {
    pub(crate) id: BlockId,
    pub(crate) size: u64,
    pub(crate) root: Sha256,
    /// The set after it, which signs its head.
    pub(crate) members: MemberSet,
}

/// Sees everything, forgets nothing.
pub(crate) struct Oracle {
    origin: String,
    state: ChainState,
    ledger: MemoryLedger,
    /// The one log, verified from the genesis.
    pub(crate) blocks: Vec<Known>,
    ballots: BTreeMap<Ballot, Option<BlockId>>,
}

impl Oracle {
    pub(crate) fn new(genesis: &Genesis) -> Self {
        Self {
            origin: genesis.origin.clone(),
            state: ChainState::genesis(genesis),
            ledger: MemoryLedger::default(),
            blocks: Vec::new(),
            ballots: BTreeMap::new(),
        }
    }

    /// A block is durable somewhere.
    pub(crate) fn durable(&mut self, stored: &Stored) -> Result<(), String> {
        let height = stored.height();
        let known = self.known(height).map(|it| it.id);
        match known {
            Some(id) if id == *stored.checked.id() => Ok(()),
            Some(id) => Err(format!(
                "two blocks at height {height}: {id} and {}",
                stored.checked.id()
            )),
            None => self.grow(stored),
        }
    }

    /// Verifies from bytes, as a newcomer would.
    fn grow(&mut self, stored: &Stored) -> Result<(), String> {
        let Ok(Incoming::Blocks(run)) = Incoming::from_bytes(
            &crate::kogge::proto::sync::Message::Blocks {
                id: 0,
                blocks: vec![stored.encoded.clone()],
            }
            .to_bytes(),
        ) else {
            return Err("a durable block is not readable".into());
        };
        let Some(decided) = run.into_blocks().pop() else {
            return Err("a durable block is empty".into());
        };
        decided
            .certificate
            .verify(
                self.state.chain(),
                &decided.block.header,
                self.state.members(),
            )
            .map_err(|it| format!("the certificate of a durable block: {it}"))?;
        let checked = check(&self.state, &self.ledger, &decided.block, None, &mut |_| {
            false
        })
        .map_err(|it| format!("a durable block breaks a rule: {it}"))?;
        self.ledger.apply(&checked);
        self.state = checked.next().clone();
        if self.state.to_bytes() != stored.state {
            return Err("the stored state is not what follows from the log".into());
        }
        let header = &checked.block().header;
        self.blocks.push(Known {
            id: *checked.id(),
            size: header.size,
            root: header.root,
            members: self.state.members().clone(),
        });
        Ok(())
    }

    fn known(&self, height: u64) -> Option<&Known> {
        let at = usize::try_from(height.checked_sub(1)?).ok()?;
        self.blocks.get(at)
    }

    /// A frame leaves a node.
    pub(crate) fn sent(
        &mut self,
        disk: &Disk,
        protocol: Protocol,
        bytes: &[u8],
    ) -> Result<(), String> {
        match protocol {
            Protocol::Hello => match Hello::from_bytes(bytes) {
                Ok(Hello::Hello(it)) => is_durable(disk, it.tip),
                Ok(Hello::Tip(it)) => is_durable(disk, it),
                Ok(_) => Ok(()),
                Err(error) => Err(format!("sent an unreadable hello message: {error}")),
            },
            Protocol::Sync => match Incoming::from_bytes(bytes) {
                Ok(Incoming::Blocks(run)) => run.blocks().iter().try_for_each(|it| {
                    is_durable(
                        disk,
                        Tip {
                            height: it.block.height(),
                            id: it.block.id(),
                        },
                    )
                }),
                Ok(Incoming::GetBlocks(it)) if disk.durable_at(it.from).is_some() => {
                    Err(format!("asked for block {}, which it has", it.from))
                }
                Ok(_) => Ok(()),
                Err(error) => Err(format!("sent an unreadable sync message: {error}")),
            },
            Protocol::Consensus => match Agreement::from_bytes(bytes) {
                Ok(message) => self.agreed(&message),
                Err(error) => Err(format!("sent an unreadable consensus message: {error}")),
            },
            Protocol::Heads => match Heads::from_bytes(bytes) {
                Ok(Heads::Signatures { size, root, .. }) if disk.root_at(size) != Some(root) => {
                    Err(format!(
                        "told of signatures on a head of size {size} that is not durable"
                    ))
                }
                Ok(_) => Ok(()),
                Err(error) => Err(format!("sent an unreadable heads message: {error}")),
            },
            Protocol::Build | Protocol::Peers | Protocol::Pool => Ok(()),
        }
    }

    fn agreed(&mut self, message: &Agreement) -> Result<(), String> {
        let kind = |it: VoteKind| match it {
            VoteKind::Prevote => 0,
            VoteKind::Precommit => 1,
        };
        match message {
            Agreement::Proposal(it, block) => {
                if block.id() != it.block {
                    return Err("sent a proposal with another block".into());
                }
                self.vote((it.proposer, it.height, it.round, 2), Some(it.block))
            }
            Agreement::Vote(it) => {
                self.vote((it.voter, it.height, it.round, kind(it.kind)), it.block)
            }
            Agreement::Polka(it) => it.signatures.iter().try_for_each(|signature| {
                let ballot = (signature.vote, it.height, it.round, 0);
                self.vote(ballot, Some(it.block))
            }),
            Agreement::Round(it) => it.votes.iter().try_for_each(|vote| {
                let ballot = (vote.voter, it.height, it.round, kind(vote.kind));
                self.vote(ballot, vote.block)
            }),
        }
    }

    fn vote(&mut self, ballot: Ballot, block: Option<BlockId>) -> Result<(), String> {
        let first = *self.ballots.entry(ballot).or_insert(block);
        if first == block {
            return Ok(());
        }
        let (key, height, round, kind) = ballot;
        let kind = ["prevotes", "precommits", "proposals"][usize::from(kind)];
        Err(format!(
            "two {kind} of {key} at height {height} round {round}: {first:?} and {block:?}"
        ))
    }

    /// A message for everybody leaves a node.
    pub(crate) fn published(&self, disk: &Disk, topic: Topic, bytes: &[u8]) -> Result<(), String> {
        match Gossip::decode(topic, bytes) {
            Ok(Gossip::Head(it)) => {
                let is_signed = disk.signed.is_some_and(|signed| it.size <= signed.0);
                if disk.root_at(it.size) != Some(it.root) || !is_signed {
                    return Err(format!(
                        "signed a head of size {} that is not durable",
                        it.size
                    ));
                }
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(format!("published an unreadable message: {error}")),
        }
    }

    /// A node keeps a checkpoint.
    pub(crate) fn checkpoint(&self, disk: &Disk, size: u64, note: &str) -> Result<(), String> {
        let Some(known) = self.blocks.iter().find(|it| it.size == size) else {
            return Err(format!("a checkpoint of size {size}, where no block ends"));
        };
        let head = verify_checkpoint(note, &self.origin, &known.members)
            .map_err(|it| format!("a checkpoint does not stand: {it}"))?;
        if head.size() != size || *head.root() != known.root || disk.root_at(size).is_none() {
            return Err(format!(
                "the checkpoint of size {size} is not of the durable log"
            ));
        }
        Ok(())
    }

    /// A node starts again: what it promised must be on its disk.
    pub(crate) fn restarted(&self, disk: &Disk) -> Result<(), String> {
        let Some((size, root)) = disk.signed else {
            return Ok(());
        };
        if disk.root_at(size) != Some(root) {
            return Err(format!("the log lost the signed head of size {size}"));
        }
        Ok(())
    }
}

fn is_durable(disk: &Disk, tip: Tip) -> Result<(), String> {
    let durable = disk.durable_at(tip.height).map(|it| *it.checked.id());
    if tip.height == 0 || durable == Some(tip.id) {
        return Ok(());
    }
    Err(format!(
        "told of block {}, which is not durable",
        tip.height
    ))
}

/// The digest of what the run did, for comparing runs.
#[derive(Default)]
pub(crate) struct Trace {
    hasher: std::hash::DefaultHasher,
    /// Prints what happens.
    pub(crate) is_shown: bool,
}

impl Trace {
    pub(crate) fn add(&mut self, now: u64, node: usize, what: &str, bytes: &[u8]) {
        use std::hash::Hasher as _;
        self.hasher.write_u64(now);
        self.hasher.write_usize(node);
        self.hasher.write(what.as_bytes());
        self.hasher.write(bytes);
    }

    pub(crate) fn finish(&self) -> u64 {
        use std::hash::Hasher as _;
        self.hasher.finish()
    }
}

/// A message in few words, for the trace.
pub(crate) fn describe(protocol: Protocol, bytes: &[u8]) -> String {
    match protocol {
        Protocol::Hello => match Hello::from_bytes(bytes) {
            Ok(Hello::Hello(it)) => format!("hello, tip {}", it.tip.height),
            Ok(Hello::Welcome { .. }) => "welcome".into(),
            Ok(Hello::Refused(it)) => format!("refused: {it}"),
            Ok(Hello::Tip(it)) => format!("tip {}", it.height),
            Err(_) => "noise".into(),
        },
        Protocol::Sync => match Incoming::from_bytes(bytes) {
            Ok(Incoming::GetBlocks(it)) => format!("get blocks from {}", it.from),
            Ok(Incoming::Blocks(it)) => format!("{} blocks from {}", it.blocks().len(), it.from()),
            Ok(Incoming::NotAvailable(it)) => format!("not available, tip {}", it.tip),
            Err(_) => "noise".into(),
        },
        Protocol::Consensus => match Agreement::from_bytes(bytes) {
            Ok(it) => {
                let kind = match &it {
                    Agreement::Proposal(..) => "proposal".to_owned(),
                    Agreement::Vote(it) => {
                        let block = it.block.map_or("nil".to_owned(), |it| short(&it));
                        format!("{:?} {block}", it.kind)
                    }
                    Agreement::Polka(_) => "polka".into(),
                    Agreement::Round(it) => format!("votes for {:?}", it.reason),
                };
                format!("{kind} at {}/{}", it.height(), it.round())
            }
            Err(_) => "noise".into(),
        },
        Protocol::Heads => match Heads::from_bytes(bytes) {
            Ok(Heads::Get { size }) => format!("get signatures on a head from {size} on"),
            Ok(Heads::Signatures {
                size, signatures, ..
            }) => format!("{} signatures on the head of size {size}", signatures.len()),
            Err(_) => "noise".into(),
        },
        Protocol::Build | Protocol::Peers | Protocol::Pool => {
            format!("{protocol} of {} bytes", bytes.len())
        }
    }
}

/// A gossiped message in few words.
pub(crate) fn describe_gossip(topic: Topic, bytes: &[u8]) -> String {
    match Gossip::decode(topic, bytes) {
        Ok(Gossip::Head(it)) => format!("head of size {}", it.size),
        Ok(Gossip::Build(it)) => format!("{it:?}").chars().take(60).collect(),
        Ok(Gossip::Pool(it)) => format!("{it:?}").chars().take(60).collect(),
        Err(_) => "noise".into(),
    }
}

pub(crate) fn short(id: &BlockId) -> String {
    id.to_string().chars().take(8).collect()
}
