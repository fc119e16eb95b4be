//! A small network for tests and simulators: keys, attested groups, an in-memory ledger.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Blake3, BlockId, ChainId, Sha256, Subject, WallTime};
use crate::proto::chain::block::{Block, Certificate, CommitSignature};
use crate::proto::chain::build::{Rejected, build};
use crate::proto::chain::check::{CheckedBlock, check};
use crate::proto::chain::consent::{Consent, sign_readiness};
use crate::proto::chain::genesis::{Genesis, Params};
use crate::proto::chain::member::NodeKeys;
use crate::proto::chain::rules::{Binding, Ledger, RuleError};
use crate::proto::chain::state::ChainState;
use crate::proto::log::entry::{
    AddArtifact, AddNode, Attest, BindTag, Entry, Mark, RemoveArtifact, RemoveNode, Source,
    package_subject,
};

/// When test networks start.
pub const GENESIS_TIME: WallTime = WallTime::from_millis(1_790_000_000_000);

/// The keys of the node with this number.
pub fn node_keys(number: u8) -> NodeKeys {
    NodeKeys::from_seed([number; 32])
}

/// A genesis with the nodes 0 to `count - 1` as members, named `node-0` and so on.
pub fn genesis(count: u8) -> Genesis {
    Genesis {
        version: 1,
        name: "test".into(),
        origin: "kogge.test/log".into(),
        time: GENESIS_TIME,
        members: (0..count).map(card).collect(),
        params: Params::default(),
    }
}

/// The card of the node with this number.
pub fn card(number: u8) -> crate::proto::chain::member::Card {
    node_keys(number).card(&format!("node-{number}"))
}

/// A file whose content is its name with `content`.
pub fn artifact(purl: &str, file: &str, content: &str, builder: &NodeKeys) -> AddArtifact {
    let bytes = format!("{purl} {file} {content}");
    AddArtifact {
        purl: purl.to_owned(),
        file: file.to_owned(),
        blake3: Blake3::of(bytes.as_bytes()),
        sha256: Sha256::of(bytes.as_bytes()),
        digests: Vec::new(),
        size: bytes.len() as u64,
        media_type: "application/octet-stream".into(),
        source: Source::fetched("repo.test/maven"),
        dependencies: None,
        builder: builder.id(),
        publication: None,
        time: GENESIS_TIME,
    }
}

/// The attestation of one node, at the time of the genesis.
pub fn attest(chain: &ChainId, subject: Subject, node: &NodeKeys) -> Attest {
    attest_at(chain, subject, node, GENESIS_TIME)
}

/// The attestation of one node.
pub fn attest_at(chain: &ChainId, subject: Subject, node: &NodeKeys, time: WallTime) -> Attest {
    let signed = Attest::signed_bytes(chain, &subject, time);
    Attest {
        subject,
        node: node.id(),
        time,
        signature: node.vote.sign(&signed),
    }
}

/// `heads`, followed by the attestations of `signers` for `subject` at `time`, sorted.
pub fn attested(
    chain: &ChainId,
    heads: Vec<Entry>,
    subject: Subject,
    signers: &[NodeKeys],
    time: WallTime,
) -> Vec<Entry> {
    let mut attests: Vec<_> = signers
        .iter()
        .map(|it| attest_at(chain, subject, it, time))
        .collect();
    attests.sort_by_key(|it| it.node);
    let attests = attests.into_iter().map(Entry::Attest);
    heads.into_iter().chain(attests).collect()
}

/// A package version with the given files, submitted by the first of `signers` and attested by all.
pub fn package_of(chain: &ChainId, files: Vec<AddArtifact>, signers: &[NodeKeys]) -> Vec<Entry> {
    let subject = package_subject(&files);
    let heads = files
        .into_iter()
        .map(|it| Entry::AddArtifact(Box::new(it)))
        .collect();
    attested(chain, heads, subject, signers, GENESIS_TIME)
}

/// A package version with one file; `content` tells variants apart.
pub fn package(chain: &ChainId, purl: &str, content: &str, signers: &[NodeKeys]) -> Vec<Entry> {
    let files = signers
        .first()
        .map(|it| artifact(purl, "file.jar", content, it));
    package_of(chain, files.into_iter().collect(), signers)
}

/// A binding of `registry.test/library/alpine` with `tag`, at the time of the genesis.
pub fn tag(chain: &ChainId, tag: &str, digest: Sha256, signers: &[NodeKeys]) -> Vec<Entry> {
    tag_at(chain, tag, digest, signers, GENESIS_TIME)
}

/// A binding of `registry.test/library/alpine` with `tag`.
pub fn tag_at(
    chain: &ChainId,
    tag: &str,
    digest: Sha256,
    signers: &[NodeKeys],
    time: WallTime,
) -> Vec<Entry> {
    let Some(builder) = signers.first() else {
        return Vec::new();
    };
    let bind = BindTag {
        registry: "registry.test".into(),
        repository: "library/alpine".into(),
        tag: tag.to_owned(),
        digest,
        builder: builder.id(),
        time,
    };
    let subject = bind.subject();
    attested(chain, vec![Entry::BindTag(bind)], subject, signers, time)
}

/// Admits the node with this number, which is ready at the tip of `state`.
pub fn add_node(state: &ChainState, number: u8, admins: &[NodeKeys]) -> Vec<Entry> {
    let card = card(number);
    let chain = state.chain();
    let marks = marks(chain, &Consent::AddNode(&card.member), admins);
    let vote = node_keys(number).vote;
    vec![Entry::AddNode(Box::new(AddNode {
        ready_height: state.height(),
        ready_block: *state.tip(),
        ready_signature: sign_readiness(chain, state.height(), state.tip(), &vote),
        marks,
        card,
    }))]
}

/// Dismisses the node with this number.
pub fn remove_node(chain: &ChainId, number: u8, admins: &[NodeKeys]) -> Vec<Entry> {
    let mut entry = RemoveNode {
        node: node_keys(number).id(),
        reason: "test".into(),
        marks: Vec::new(),
    };
    entry.marks = marks(chain, &Consent::from(&entry), admins);
    vec![Entry::RemoveNode(entry)]
}

/// Withdraws the artifact at `index`.
pub fn remove_artifact(chain: &ChainId, index: u64, admins: &[NodeKeys]) -> Vec<Entry> {
    let mut entry = RemoveArtifact {
        index,
        reason: "test".into(),
        marks: Vec::new(),
    };
    entry.marks = marks(chain, &Consent::from(&entry), admins);
    vec![Entry::RemoveArtifact(entry)]
}

/// The consent of `admins`, sorted.
fn marks(chain: &ChainId, consent: &Consent<'_>, admins: &[NodeKeys]) -> Vec<Mark> {
    let mut marks: Vec<_> = admins
        .iter()
        .map(|it| consent.mark(chain, it.id(), &it.admin))
        .collect();
    marks.sort_by_key(|it| it.node);
    marks
}

/// The certificate of `signers` for `block`, decided in round 0.
pub fn certificate(chain: &ChainId, block: &Block, signers: &[NodeKeys]) -> Certificate {
    let mut certificate = Certificate {
        height: block.height(),
        round: 0,
        block: block.id(),
        signatures: Vec::new(),
    };
    let message = certificate.signed_bytes(chain);
    certificate.signatures = signers
        .iter()
        .map(|it| CommitSignature {
            vote: it.vote.public(),
            signature: it.vote.sign(&message),
        })
        .collect();
    certificate.signatures.sort_by_key(|it| it.vote);
    certificate
}

/// What the rules ask about the log, in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryLedger {
    packages: BTreeMap<String, Subject>,
    tags: BTreeMap<(String, String, String), Binding>,
    artifacts: BTreeSet<u64>,
    blocks: BTreeMap<u64, BlockId>,
}

impl MemoryLedger {
    /// Takes in the leaves of a block.
    pub fn apply(&mut self, block: &CheckedBlock) {
        self.blocks.insert(block.block().height(), *block.id());
        for leaf in block.leaves() {
            match leaf.entry {
                Entry::AddArtifact(_) => {
                    self.artifacts.insert(leaf.index);
                }
                Entry::RemoveArtifact(it) => {
                    self.artifacts.remove(&it.index);
                }
                Entry::BindTag(it) => {
                    let name = (it.registry.clone(), it.repository.clone(), it.tag.clone());
                    self.tags.insert(name, Binding::from(it));
                }
                Entry::Seal(_) | Entry::AddNode(_) | Entry::RemoveNode(_) | Entry::Attest(_) => {}
            }
        }
        for group in block.groups() {
            let mut files = group.iter().filter_map(|it| match it {
                Entry::AddArtifact(it) => Some(&**it),
                _ => None,
            });
            if let Some(first) = files.clone().next() {
                let subject = package_subject(files.by_ref());
                self.packages.insert(first.purl.clone(), subject);
            }
        }
    }
}

impl Ledger for MemoryLedger {
    fn package(&self, purl: &str) -> Option<Subject> {
        self.packages.get(purl).copied()
    }

    fn tag(&self, registry: &str, repository: &str, tag: &str) -> Option<Binding> {
        let name = (registry.to_owned(), repository.to_owned(), tag.to_owned());
        self.tags.get(&name).copied()
    }

    fn artifact_exists(&self, index: u64) -> bool {
        self.artifacts.contains(&index)
    }

    fn block(&self, height: u64) -> Option<BlockId> {
        self.blocks.get(&height).copied()
    }
}

/// A chain in memory, with a clock that stands still, at first at the genesis.
#[derive(Clone, Debug)]
pub struct MemoryChain {
    /// The state after the last block.
    pub state: ChainState,
    /// The content of the log.
    pub ledger: MemoryLedger,
    /// What the clock shows.
    pub now: WallTime,
}

impl MemoryChain {
    /// The chain of [`genesis`] without a block.
    pub fn new(count: u8) -> Self {
        Self {
            state: ChainState::genesis(&genesis(count)),
            ledger: MemoryLedger::default(),
            now: GENESIS_TIME,
        }
    }

    /// The next block from `groups`, if it has any entry.
    pub fn build(&self, groups: impl IntoIterator<Item = Vec<Entry>>) -> Option<Block> {
        self.build_and_reject(groups).0
    }

    /// The next block from `groups`, if it has any entry, and those that were left out.
    pub fn build_and_reject(
        &self,
        groups: impl IntoIterator<Item = Vec<Entry>>,
    ) -> (Option<Block>, Vec<Rejected>) {
        build(&self.state, &self.ledger, self.now, groups, &mut |_| false)
    }

    /// Checks `block` as a voter does.
    ///
    /// # Errors
    ///
    /// The rule that it breaks.
    pub fn check(&self, block: &Block) -> Result<CheckedBlock, RuleError> {
        let now = Some(self.now);
        check(&self.state, &self.ledger, block, now, &mut |_| false)
    }

    /// Appends `block`.
    ///
    /// # Errors
    ///
    /// The rule that it breaks.
    pub fn append(&mut self, block: &Block) -> Result<CheckedBlock, RuleError> {
        let checked = self.check(block)?;
        self.state.apply(&checked)?;
        self.ledger.apply(&checked);
        Ok(checked)
    }
}
