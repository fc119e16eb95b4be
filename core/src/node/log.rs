//! The log as embedders read it: queries, proofs, checkpoints. Synchronous, microseconds, but for
//! queries that few entries match.

use std::sync::Arc;

use crate::base::{Digest, Sha256};
use crate::node::handle::{Node, NodeError};
use crate::node::shared::Shared;
use crate::proto::chain::{Genesis, LightError, MemberSet, SetChange};
use crate::proto::log::entry::{AddArtifact, Attest, BindTag};
use crate::proto::log::proof;
use crate::proto::log::tile::{TileKind, TilePath, encode_bundle};
use crate::proto::log::waybill::{Waybill, WaybillError};
use crate::proto::log::{Query, QueryError};
use crate::proto::package::{Pointer, What};
use crate::store::{Found, Page, Row, Store, StoreError};

/// Why the log did not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The query is malformed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The store failed.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// There is no such leaf.
    #[error("the log has no entry {0}")]
    NoEntry(u64),
    /// No checkpoint covers the entry yet.
    #[error("no checkpoint covers entry {0} yet; authorized nodes cosign within seconds")]
    NotCosigned(u64),
    /// The proof could not be packed.
    #[error("no waybill: {0}")]
    Waybill(#[from] WaybillError),
    /// A stored change of the authorized nodes does not follow from the one before.
    #[error("the way from the genesis to the authorized nodes: {0}")]
    Members(#[from] LightError),
    /// A stored hash is missing.
    #[error("no proof: {0}")]
    Proof(#[from] proof::ProofError),
}

/// That a leaf is in the log.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Proof {
    /// Index of the leaf.
    pub index: u64,
    /// Leaves of the tree.
    pub size: u64,
    /// Root of the tree.
    pub root: Sha256,
    /// Hashes from the leaf to the root (RFC 6962, 2.1.1).
    pub path: Vec<Sha256>,
}

impl Node {
    /// The rows of a query, as [`Log::find`] finds them, but on the worker pool: a page of a query
    /// that few entries match takes some 50 ms. Dropping the future ends the waiting alone.
    ///
    /// # Errors
    ///
    /// [`NodeError::Store`] if the store fails, [`NodeError::Closed`] or [`NodeError::Failed`] if the
    /// node has stopped.
    pub async fn find(&self, query: Query) -> Result<Page, NodeError> {
        let store = self.0.store.clone();
        let found = self.0.pool.run(move || store.index().find(&query)).await;
        Ok(found.map_err(|_| self.gone())??)
    }
}

/// Read access to the log; cheap to clone.
#[derive(Clone)]
pub struct Log {
    pub(crate) store: Arc<Store>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) genesis: Arc<Genesis>,
}

impl Log {
    /// Leaves in the log.
    pub fn size(&self) -> u64 {
        self.store.chain().size().unwrap_or(0)
    }

    /// Number of the last block.
    pub fn height(&self) -> u64 {
        self.store
            .chain()
            .tip()
            .ok()
            .flatten()
            .map_or(0, |it| it.height)
    }

    /// A leaf with its block.
    ///
    /// # Errors
    ///
    /// [`LogError::NoEntry`] if the log is shorter.
    pub fn entry(&self, index: u64) -> Result<Row, LogError> {
        let row = self.store.index().row(index)?;
        row.ok_or(LogError::NoEntry(index))
    }

    /// The rows of a query.
    ///
    /// # Errors
    ///
    /// [`LogError::Store`] if the store fails.
    pub fn find(&self, query: &Query) -> Result<Page, LogError> {
        Ok(self.store.index().find(query)?)
    }

    /// The artifact with a digest of any algorithm, unless it was withdrawn.
    ///
    /// # Errors
    ///
    /// [`LogError::Store`] if the store fails.
    pub fn by_digest(&self, digest: &Digest) -> Result<Option<(u64, AddArtifact)>, LogError> {
        Ok(self.store.index().by_digest(digest)?.and_then(standing))
    }

    /// All files of a package version that were not withdrawn, in the order of the log.
    ///
    /// # Errors
    ///
    /// [`LogError::Store`] if the store fails.
    pub fn package(&self, purl: &str) -> Result<Vec<(u64, AddArtifact)>, LogError> {
        Ok(self
            .store
            .index()
            .package(purl)?
            .into_iter()
            .filter_map(standing)
            .collect())
    }

    /// One file of a package version, unless it was withdrawn.
    ///
    /// # Errors
    ///
    /// [`LogError::Store`] if the store fails.
    pub fn file(&self, purl: &str, file: &str) -> Result<Option<(u64, AddArtifact)>, LogError> {
        Ok(self.store.index().file(purl, file)?.and_then(standing))
    }

    /// The package URL of what somebody names; `None` if the log has no such artifact or tag. A package
    /// URL is not looked up: it stands for itself, whether the log has it or not. Of an image it is
    /// the manifest's that the tag points to now.
    ///
    /// # Errors
    ///
    /// [`LogError::Store`] if the store fails.
    pub fn purl_of(&self, what: &What) -> Result<Option<String>, LogError> {
        let image = match what {
            What::Digest(digest) => return Ok(self.by_digest(digest)?.map(|it| it.1.purl)),
            What::Package(purl) => return Ok(Some(purl.clone())),
            What::Image(image) => image,
        };
        let (name, digest) = match &image.pointer {
            Pointer::Digest(digest) => (&image.name, Some(*digest)),
            Pointer::Tag(tag) => {
                let (registry, repository) = (image.name.registry(), image.name.repository());
                let bound = self.tag(registry, repository, tag)?;
                (&image.name, bound.map(|it| it.1.digest))
            }
        };
        let purl = digest.and_then(|it| name.purl(&it).ok());
        Ok(purl.map(|it| it.as_str().to_owned()))
    }

    /// The artifacts that somebody names, with their indexes: one for a digest, else all files of
    /// the package version; none if the log lacks it.
    ///
    /// # Errors
    ///
    /// [`LogError::Store`] if the store fails.
    pub fn resolve(&self, what: &What) -> Result<Vec<(u64, AddArtifact)>, LogError> {
        if let What::Digest(digest) = what {
            return Ok(self.by_digest(digest)?.into_iter().collect());
        }
        let purl = self.purl_of(what)?;
        purl.map_or(Ok(Vec::new()), |it| self.package(&it))
    }

    /// Who attested a package version.
    ///
    /// # Errors
    ///
    /// [`LogError::Store`] if the store fails.
    pub fn attests(&self, purl: &str) -> Result<Vec<Attest>, LogError> {
        let Some(subject) = self.store.index().package_subject(purl)? else {
            return Ok(Vec::new());
        };
        let found = self.store.index().attestations(&subject)?;
        Ok(found.into_iter().map(|(_, it)| it).collect())
    }

    /// The newest binding of a tag.
    ///
    /// # Errors
    ///
    /// [`LogError::Store`] if the store fails.
    pub fn tag(
        &self,
        registry: &str,
        repository: &str,
        tag: &str,
    ) -> Result<Option<(u64, BindTag)>, LogError> {
        Ok(self.store.index().tag(registry, repository, tag)?)
    }

    /// Names of a repository's tags after `after`, sorted by bytes, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`LogError::Store`] if the store fails.
    pub fn tags(
        &self,
        registry: &str,
        repository: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<String>, LogError> {
        let found = self
            .store
            .index()
            .tags(registry, repository, Some(after), limit)?;
        Ok(found.into_iter().map(|(_, it)| it.tag).collect())
    }

    /// Versions of a package such as `maven/g/a`, sorted by bytes, at most 1,000 after `after`.
    ///
    /// # Errors
    ///
    /// [`LogError::Store`] if the store fails.
    pub fn versions(&self, package: &str, after: &str) -> Result<Vec<String>, LogError> {
        self.some_versions(package, after, 1_000)
    }

    /// The same, at most `limit`: a thousand take some milliseconds.
    ///
    /// # Errors
    ///
    /// [`LogError::Store`] if the store fails.
    pub fn some_versions(
        &self,
        package: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<String>, LogError> {
        let found = self.store.index().versions(package, Some(after), limit)?;
        Ok(found.into_iter().map(|(it, _)| it).collect())
    }

    /// The newest checkpoint: a signed note (C2SP) that stock tools verify.
    pub fn checkpoint(&self) -> Option<String> {
        self.shared.checkpoint().map(|(_, note)| note)
    }

    /// A tile or an entry bundle by its C2SP path; `None` if the log is not that long.
    pub fn tile(&self, path: &str) -> Option<Vec<u8>> {
        let path: TilePath = path.parse().ok()?;
        let chain = self.store.chain();
        if !path.exists_at(self.checkpoint_size()) {
            return None;
        }
        match path.kind() {
            TileKind::Hashes(_) => crate::proto::log::tile::hash_tile(chain, path).ok(),
            TileKind::Entries => {
                let (from, count) = (path.start(), u64::from(path.width()));
                let leaves = chain.leaves(from, from + count).ok()?;
                encode_bundle(leaves.iter().map(Vec::as_slice)).ok()
            }
        }
    }

    /// That leaf `index` is in the log as of the newest checkpoint, else as of now.
    ///
    /// # Errors
    ///
    /// [`LogError::NoEntry`] if the log is shorter.
    pub fn proof(&self, index: u64) -> Result<Proof, LogError> {
        let covered = self.checkpoint_size();
        let size = if index < covered {
            covered
        } else {
            self.size()
        };
        self.proof_at(index, size)
    }

    fn proof_at(&self, index: u64, size: u64) -> Result<Proof, LogError> {
        let chain = self.store.chain();
        let root = chain.root_at(size)?.filter(|_| index < size);
        let root = root.ok_or(LogError::NoEntry(index))?;
        let path = proof::inclusion(chain, index, size)?;
        Ok(Proof {
            index,
            size,
            root,
            path,
        })
    }

    /// A waybill: proves offline that leaf `index` is in the log.
    ///
    /// # Errors
    ///
    /// [`LogError::NotCosigned`] if no checkpoint covers the leaf yet.
    pub fn waybill(&self, index: u64) -> Result<String, LogError> {
        let leaf = self
            .store
            .chain()
            .leaf(index)?
            .ok_or(LogError::NoEntry(index))?;
        let (status, note) = self
            .shared
            .checkpoint()
            .ok_or(LogError::NotCosigned(index))?;
        if status.size <= index {
            return Err(LogError::NotCosigned(index));
        }
        let path = self.proof_at(index, status.size)?.path;
        let changes = self.set_changes(status.size)?;
        Ok(Waybill::pack(leaf, index, path, note, changes)?.to_string())
    }

    /// Every change of the authorized nodes in the first `size` leaves with its proof, oldest first.
    fn set_changes(&self, size: u64) -> Result<Vec<SetChange>, LogError> {
        let chain = self.store.chain();
        let mut members = self.genesis.member_set();
        let mut changes = Vec::new();
        for height in chain.set_changes(0)? {
            let (Some(block), Some(certificate)) =
                (chain.block(height)?, chain.certificate(height)?)
            else {
                break;
            };
            // Whoever follows a change too many does not accept a head from before it.
            if size < block.header.size {
                break;
            }
            let change = SetChange::of(&members, &block, certificate)?;
            members = change.next.clone();
            changes.push(change);
        }
        Ok(changes)
    }

    /// What outsiders configure to verify checkpoints: a C2SP tlog-policy.
    pub fn policy(&self) -> String {
        crate::proto::log::policy::export(&self.genesis.origin, &self.members())
    }

    /// The authorized nodes now.
    pub fn members(&self) -> MemberSet {
        let known = self.shared.known().map(|it| it.snapshot.members);
        known.unwrap_or_else(|| self.genesis.member_set())
    }

    fn checkpoint_size(&self) -> u64 {
        self.shared.checkpoint().map_or(0, |(it, _)| it.size)
    }
}

fn standing(found: Found) -> Option<(u64, AddArtifact)> {
    found
        .removed
        .is_none()
        .then_some((found.index, found.artifact))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::WallTime;
    use crate::proto::chain::testing::{
        MemoryChain, add_node, certificate, genesis, node_keys, package, remove_node,
    };
    use crate::proto::chain::{Light, NodeKeys};
    use crate::proto::log::checkpoint::Checkpoint;
    use crate::proto::log::cosign::{HeadSignature, SignedHead};
    use crate::proto::log::entry::Entry;
    use crate::proto::log::verify::Trust;
    use crate::store::Options;

    /// The nodes of a set that was 0–3, then 0–4, then 0, 1, 2 and 4.
    fn nodes(numbers: &[u8]) -> Vec<NodeKeys> {
        numbers.iter().map(|it| node_keys(*it)).collect()
    }

    fn append(chain: &mut MemoryChain, store: &Store, group: Vec<Entry>, signers: &[NodeKeys]) {
        let block = chain.build([group]).unwrap();
        let certificate = certificate(chain.state.chain(), &block, signers);
        chain.append(&block).unwrap();
        let state = chain.state.to_bytes();
        let chain = store.chain();
        chain.append_and_wait(&block, &certificate, state).unwrap();
    }

    /// The portable note of the newest head, by the members after it.
    fn note(chain: &MemoryChain, signers: &[NodeKeys]) -> (u64, String) {
        let head = Checkpoint {
            origin: genesis(4).origin,
            size: chain.state.size(),
            root: chain.state.root(),
        };
        let mut signed = SignedHead::new(head.clone(), chain.state.members().clone());
        for it in signers {
            let signature = HeadSignature::sign(it, &head, WallTime::from_millis(5_000));
            signed.add(signature).unwrap();
        }
        (head.size, signed.portable_note().unwrap())
    }

    #[test]
    fn every_node_proves_entries_from_the_genesis_across_changes_of_the_members() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path(), Options::default()).unwrap().0);
        let mut chain = MemoryChain::new(4);
        let id = *chain.state.chain();
        let (first, second) = (nodes(&[0, 1, 2]), nodes(&[0, 1, 2, 4]));
        let add = |purl: &str| package(&id, purl, "", &first);
        append(&mut chain, &store, add("pkg:maven/g/a@1"), &first);
        let group = add_node(&chain.state, 4, &first);
        append(&mut chain, &store, group, &first);
        let early = note(&chain, &second);
        let middle = chain.state.size();
        append(
            &mut chain,
            &store,
            package(&id, "pkg:maven/g/a@2", "", &second),
            &second,
        );
        append(&mut chain, &store, remove_node(&id, 3, &second), &second);
        let last = chain.state.size();
        append(
            &mut chain,
            &store,
            add("pkg:maven/g/a@3"),
            &nodes(&[1, 2, 4]),
        );
        let late = note(&chain, &nodes(&[0, 1, 4]));

        for (checkpoint, indexes, changes) in [(early, &[0][..], 1), (late, &[0, middle, last], 2)]
        {
            let log = Log {
                store: store.clone(),
                shared: Arc::new(Shared::new(Some(checkpoint))),
                genesis: Arc::new(genesis(4)),
            };
            for index in indexes {
                let file = log.waybill(*index).unwrap();
                let waybill = Waybill::parse(file.as_bytes()).unwrap();
                assert_eq!(waybill.changes().len(), changes);
                let light = Light::from_genesis(&genesis(4));
                let verified = waybill.verify(Trust::Members(&light), None).unwrap();
                assert_eq!(verified.entry(), &log.entry(*index).unwrap().entry);
            }
        }
    }
}
