//! The rules by which a block follows another: what they ask, how they refuse, and the calculations
//! that building and checking share.
//!
//! All nodes run [`check`](crate::proto::chain::check::check) on every block: voters before they
//! vote, with their clock; those who catch up without. What
//! [`build`](crate::proto::chain::build::build) makes passes the check on every node with the same
//! log.

use crate::base::{Blake3, BlockId, NodeId, PublicKey, Sha256, Subject, WallTime};
use crate::proto::chain::consent::Consent;
use crate::proto::chain::member::MemberSet;
use crate::proto::chain::state::ChainState;
use crate::proto::log::entry::{BindTag, EntryError, Mark, Seal};
use crate::proto::log::tree::Frontier;
use crate::proto::package::PurlError;

/// Most leaves of a block without the seal.
pub const ENTRIES_MAX: usize = 16_384;

/// What the rules ask about the log up to the tip.
///
/// A failed read must not look like absence: an implementation that can fail remembers the failure,
/// and its owner asks for it before acting on what building or checking
/// answered.
pub trait Ledger {
    /// The subject under which the package version `purl` is in the log.
    fn package(&self, purl: &str) -> Option<Subject>;

    /// The newest binding of a tag.
    fn tag(&self, registry: &str, repository: &str, tag: &str) -> Option<Binding>;

    /// Whether leaf `index` is an artifact that has not been withdrawn.
    fn artifact_exists(&self, index: u64) -> bool;

    /// The block at `height`, which is at least 1 and less than 1,000 below the tip.
    fn block(&self, height: u64) -> Option<BlockId>;
}

/// What a tag was bound to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Binding {
    /// What it points to.
    pub digest: Sha256,
    /// When the binding was submitted. What replaces it is later.
    pub time: WallTime,
}

impl From<&BindTag> for Binding {
    fn from(it: &BindTag) -> Self {
        let (digest, time) = (it.digest, it.time);
        Self { digest, time }
    }
}

/// Why a block, or a group of entries, is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RuleError {
    /// Height or parent are not those of the next block.
    #[error("the block does not follow the tip")]
    Parent,
    /// The block's time is before its parent's.
    #[error("the block's time {0} is before its parent's")]
    Early(WallTime),
    /// The block's time is further ahead of our clock than the genesis allows.
    #[error("the block's time {0} is ahead of this node's clock; check both clocks")]
    Ahead(WallTime),
    /// The block has no entry, or the group has none.
    #[error("there is no entry")]
    Empty,
    /// More entries than [`ENTRIES_MAX`].
    #[error("{0} entries, at most {ENTRIES_MAX} are allowed")]
    Entries(usize),
    /// More bytes than the genesis allows. Units: bytes.
    #[error("{bytes} bytes of entries, at most {bytes_max} are allowed")]
    Bytes {
        /// Length of the body.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A leaf is not a well-formed entry.
    #[error("leaf {at} of the block: {error}")]
    Entry {
        /// Place in the block, from 0.
        at: usize,
        /// The problem.
        error: EntryError,
    },
    /// Seal, size or root are not what the entries yield.
    #[error("the block's {0} does not fit its entries")]
    Header(&'static str),
    /// An entry of this kind stands where no group may start or go on.
    #[error("a leaf of kind {0} is out of place")]
    Stray(&'static str),
    /// The package is not named as the log names it: one package, one name.
    #[error(transparent)]
    Purl(#[from] PurlError),
    /// The tag is not named as the log names it: one image, one name.
    #[error("`{0}` is not how the log names a tag; want `registry/repository:tag` in full")]
    Tag(String),
    /// Files of a package are unsorted, repeated, or differ in builder, time or publication.
    #[error("the files of `{0}` are unsorted, repeated, or not of one submission")]
    Files(String),
    /// The very same facts are in the log.
    #[error("`{0}` is already in the log")]
    AlreadyLogged(String),
    /// Other facts are in the log: one digest for each file of a package version.
    #[error("`{purl}` is in the log with other content ({logged})")]
    Conflict {
        /// The package version.
        purl: String,
        /// What is in the log.
        logged: Subject,
    },
    /// The same thing twice in one block.
    #[error("the block names the same {0} twice")]
    Repeated(&'static str),
    /// Too few members signed.
    #[error("{have} members signed, {need} are needed")]
    Quorum {
        /// Signers.
        have: usize,
        /// Needed.
        need: usize,
    },
    /// Attestations or marks are unsorted or repeated.
    #[error("the signers are unsorted or repeated")]
    Unsorted,
    /// An attestation is about something else.
    #[error("an attestation is about other facts")]
    Subject,
    /// Nobody vouches for who submitted the entries, and when.
    #[error("node {0}, which submitted the entries, did not attest them at their time")]
    Builder(NodeId),
    /// A binding, or an attestation of it, is not later than the binding it would replace: else
    /// anybody could turn a tag back with what was said long ago.
    #[error("the tag was bound at {0}, and something in the group is not later; attest it again")]
    Stale(WallTime),
    /// A binding is later than the block may be: no later one could ever replace it.
    #[error("the tag's binding is of {0}, after the block; check the clock of who submitted it")]
    Premature(WallTime),
    /// The node is not a member at this height.
    #[error("node {0} is not authorized")]
    Stranger(NodeId),
    /// A signature of this node does not stand.
    #[error("a signature of node {0} does not stand")]
    Signature(NodeId),
    /// The publisher's signature does not stand.
    #[error("the publisher's signature for `{0}` does not stand")]
    Publication(String),
    /// Only one node is admitted or dismissed per block, so that at most a third of the votes
    /// changes at once in any set of three or more.
    #[error("the block changes the members twice")]
    MembersChanged,
    /// The set would become empty or too large.
    #[error("the set of {0} members cannot change this way")]
    Members(usize),
    /// A key of a removed node; it never comes back.
    #[error("the key {0} belonged to a removed node; use new keys")]
    Retired(PublicKey),
    /// More removals than the state remembers.
    #[error("too many nodes were removed since the genesis")]
    RetiredFull,
    /// The candidate shares a name or key with this member.
    #[error("the member `{0}` has the same name or key")]
    Taken(String),
    /// The proof of readiness names no recent block of ours.
    #[error("the candidate's readiness at height {0} is stale or for another chain; renew it")]
    Ready(u64),
    /// No such artifact in the log, or it is withdrawn.
    #[error("leaf {0} is not an artifact, or it is withdrawn")]
    NoArtifact(u64),
}

impl RuleError {
    /// Whether the same group may enter a later block unchanged: it only came in a bad moment.
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::MembersChanged | Self::Repeated(_) | Self::Premature(_)
        )
    }
}

/// Room for these entries in an otherwise empty block.
pub(crate) fn check_room(
    state: &ChainState,
    entries: usize,
    bytes: usize,
) -> Result<(), RuleError> {
    let bytes_max = usize::try_from(state.params.block_bytes_max).unwrap_or(usize::MAX);
    match entries {
        0 => Err(RuleError::Empty),
        it if ENTRIES_MAX < it => Err(RuleError::Entries(it)),
        _ if bytes_max < bytes => Err(RuleError::Bytes { bytes, bytes_max }),
        _ => Ok(()),
    }
}

/// Signers are sorted, distinct, members, and at least a quorum.
pub(crate) fn check_signers<'a>(
    members: &MemberSet,
    signers: impl ExactSizeIterator<Item = &'a NodeId> + Clone,
) -> Result<(), RuleError> {
    let (have, need) = (signers.len(), members.quorum());
    if have < need {
        return Err(RuleError::Quorum { have, need });
    }
    if !signers.clone().is_sorted_by(|a, b| a < b) {
        return Err(RuleError::Unsorted);
    }
    for signer in signers {
        if members.by_node(signer).is_none() {
            return Err(RuleError::Stranger(*signer));
        }
    }
    Ok(())
}

/// Admins of a quorum of members consent.
pub(crate) fn check_marks(
    state: &ChainState,
    consent: &Consent<'_>,
    marks: &[Mark],
) -> Result<(), RuleError> {
    check_signers(&state.members, marks.iter().map(|it| &it.node))?;
    for mark in marks {
        consent
            .verify(&state.chain, &state.members, mark)
            .map_err(|_| RuleError::Signature(mark.node))?;
    }
    Ok(())
}

/// The edge after these leaves.
pub(crate) fn grown(frontier: &Frontier, hashes: &[Sha256]) -> Frontier {
    let mut frontier = frontier.clone();
    hashes.iter().for_each(|it| frontier.push(*it));
    frontier
}

/// The seal of the block after `state` with this number of entries.
pub(crate) fn seal_of(
    state: &ChainState,
    next: &ChainState,
    time: WallTime,
    entries: usize,
) -> Seal {
    Seal {
        height: state.height + 1,
        parent: state.tip,
        time,
        members: state.members.hash(),
        next_members: next.members.hash(),
        first_index: state.frontier.size(),
        count: entries as u64 + 1,
        index_root: Sha256([0; 32]),
        evidence: Blake3([0; 32]),
    }
}
