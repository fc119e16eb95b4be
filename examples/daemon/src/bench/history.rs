//! A long log without the time it takes to agree on it: real blocks, really signed.

use std::path::Path;

use kogge::base::{BlockId, Subject};
use kogge::node::start::save_genesis;
use kogge::proto::chain::{
    Certificate, ChainState, CommitSignature, Ledger, NodeKeys, build, check, rules,
};
use kogge::store::{Options, Store};
use kogge::{Genesis, WallTime};

use crate::bench::facts;
use crate::failure::{During, Failure};

/// Entries of a block: 25 packages of one file with three attestations.
pub(super) const BLOCK_ENTRIES: u64 = 100;

/// Entries of a package with its attestations.
pub(super) const GROUP_ENTRIES: u64 = 4;

/// Blocks on their way to the disk at once.
const WRITES_MAX: u64 = 64;

/// No package is in the log twice, so nothing has to be looked up.
struct Empty;

impl Ledger for Empty {
    fn package(&self, _: &str) -> Option<Subject> {
        None
    }

    fn tag(&self, _: &str, _: &str, _: &str) -> Option<rules::Binding> {
        None
    }

    fn artifact_exists(&self, _: u64) -> bool {
        false
    }

    fn block(&self, _: u64) -> Option<BlockId> {
        None
    }
}

/// Writes a log of `entries` entries, seals not counted, into the data directory `folder`. The
/// packages are those with the numbers from 0 on. Returns the leaves of the log.
///
/// # Errors
///
/// [`Failure`] if the log cannot be written.
pub(super) fn write(
    folder: &Path,
    genesis: &Genesis,
    keys: &[NodeKeys],
    entries: u64,
) -> Result<u64, Failure> {
    let (store, _) = Store::open(folder, Options::default()).during("cannot open a store")?;
    save_genesis(folder, genesis).during("cannot save the genesis")?;
    let mut state = ChainState::genesis(genesis);
    let signers = keys.get(..state.members().quorum()).unwrap_or(keys);
    let (chain, groups) = (*state.chain(), BLOCK_ENTRIES / GROUP_ENTRIES);
    for height in 1..=entries / BLOCK_ENTRIES {
        let time = WallTime::from_millis(genesis.time.as_millis() + height);
        let from = (height - 1) * groups;
        let body = (from..from + groups).map(|it| facts::group(it, &chain, signers, time));
        let (block, rejected) = build(&state, &Empty, time, body, &mut |_| true);
        let block = block.filter(|_| rejected.is_empty());
        let block = block.ok_or_else(|| Failure::new("bench", "the packages make no block"))?;
        let checked = check(&state, &Empty, &block, None, &mut |_| true)
            .during("a block does not follow the log")?;
        let certificate = certificate(&state, *checked.id(), signers);
        state
            .apply(&checked)
            .during("a block does not follow the log")?;
        let bytes = state.to_bytes();
        let is_last = height == entries / BLOCK_ENTRIES;
        if height % WRITES_MAX == 0 || is_last {
            let written = store.chain().append_and_wait(&block, &certificate, bytes);
            written.during("a block is not written")?;
        } else {
            // The one that is waited for comes after it and fails if this one does.
            store.chain().append(&block, &certificate, bytes, |_| ());
        }
    }
    if !store.index().wait(std::time::Duration::from_secs(600)) {
        return Err(Failure::new("bench", "the index does not follow"));
    }
    Ok(state.size())
}

/// What a quorum signs when it decides `block` in the first round.
fn certificate(state: &ChainState, block: BlockId, signers: &[NodeKeys]) -> Certificate {
    let mut certificate = Certificate {
        height: state.height() + 1,
        round: 0,
        block,
        signatures: Vec::new(),
    };
    let message = certificate.signed_bytes(state.chain());
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
