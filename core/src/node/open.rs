//! Opening an artifact: from the store, or from peers while it arrives.

use std::sync::Arc;

use crate::base::Digest;
use crate::node::artifact::{Artifact, Content};
use crate::node::handle::Node;
use crate::node::log::LogError;
use crate::node::share::FetchError;
use crate::proto::log::entry::AddArtifact;
use crate::store::{Blob, INLINE_BYTES_MAX, StoreError};

impl Node {
    /// Opens an artifact: from the store, or from peers while it arrives.
    ///
    /// # Errors
    ///
    /// [`FetchError::Unknown`] if the log does not have it. That nobody has it shows when it is
    /// read.
    pub async fn open(&self, digest: &Digest) -> Result<Artifact, FetchError> {
        if self.0.shared.is_closed() {
            return Err(FetchError::Closed);
        }
        let found = self.log().by_digest(digest).map_err(failed)?;
        let (index, entry) = found.ok_or_else(|| FetchError::Unknown(digest.to_string()))?;
        // What the database has in it is there sooner than another thread is. Whatever else there is
        // to do waits for the disk.
        if entry.size <= INLINE_BYTES_MAX
            && let Some(blob) = self.0.store.blobs().open_inline(&entry.blake3)
        {
            return Ok(self.artifact(index, entry, blob));
        }
        let node = self.clone();
        let open = move || node.open_blocking(index, entry);
        let opened = self.0.pool.run(open).await;
        opened.map_err(|_| FetchError::Closed)?
    }

    fn open_blocking(&self, index: u64, entry: AddArtifact) -> Result<Artifact, FetchError> {
        if let Some(blob) = self.stored_blob(&entry)? {
            return Ok(self.artifact(index, entry, blob));
        }
        let attests = self.log().attests(&entry.purl).map_err(failed)?;
        let hints = attests.into_iter().map(|it| it.node).collect();
        let Some((arrival, had)) = self.0.hub.fetch(&entry, hints)? else {
            let blob = self.stored_blob(&entry)?;
            let blob = blob.ok_or(FetchError::NoSource(entry.blake3))?;
            return Ok(self.artifact(index, entry, blob));
        };
        Ok(Artifact {
            entry: Arc::new(entry),
            index,
            source: Content::Arriving(arrival),
            had,
            node: self.clone(),
        })
    }

    fn stored_blob(&self, entry: &AddArtifact) -> Result<Option<Blob>, FetchError> {
        let opened = self.0.store.blobs().open(&entry.blake3);
        opened.map_err(FetchError::Store)
    }

    /// One that is stored, whole.
    fn artifact(&self, index: u64, entry: AddArtifact, blob: Blob) -> Artifact {
        Artifact {
            had: entry.size,
            entry: Arc::new(entry),
            index,
            source: Content::Stored(Arc::new(blob)),
            node: self.clone(),
        }
    }
}

fn failed(error: LogError) -> FetchError {
    FetchError::Store(match error {
        LogError::Store(it) => it,
        other => StoreError::Corrupt {
            what: "the index".into(),
            reason: other.to_string(),
        },
    })
}
