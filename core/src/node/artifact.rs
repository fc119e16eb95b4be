//! An artifact that embedders read.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{Algorithm, Digest};
use crate::node::handle::Node;
use crate::node::share::FetchError;
use crate::node::share::arrival::Arrival;
use crate::proto::log::entry::AddArtifact;
use crate::store::Blob;

/// What [`Artifact::look`] reads at a time. Unit: bytes.
const LOOK_BYTES: usize = 256 << 10;

/// An open artifact; cheap to clone. Only verified bytes are given out.
#[derive(Clone)]
pub struct Artifact {
    pub(crate) entry: Arc<AddArtifact>,
    pub(crate) index: u64,
    pub(crate) source: Content,
    /// Bytes that were here when it was opened.
    pub(crate) had: u64,
    pub(crate) node: Node,
}

/// Where its bytes are read.
#[derive(Clone)]
pub(crate) enum Content {
    Stored(Arc<Blob>),
    Arriving(Arc<Arrival>),
}

impl Artifact {
    /// What the log says of it.
    pub fn entry(&self) -> &AddArtifact {
        &self.entry
    }

    /// Index in the log.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Its length. Unit: bytes.
    pub fn size(&self) -> u64 {
        self.entry.size
    }

    /// The bytes from `offset` on, at most `bytes_max`, as soon as some have come; none at the end.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] that says why the artifact does not come.
    pub async fn read(&self, offset: u64, bytes_max: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = bytes_max.min(left);
        if len == 0 {
            return Ok(Bytes::new());
        }
        loop {
            let bytes = match &self.source {
                Content::Stored(blob) => Some(self.read_stored(blob.clone(), offset, len).await?),
                Content::Arriving(arrival) => self.read_arriving(arrival, offset, len).await?,
            };
            if let Some(bytes) = bytes {
                return Ok(bytes);
            }
        }
    }

    /// What `look` makes of all bytes, on the worker pool: for what takes longer than a moment, such
    /// as parsing a document. Everything is in memory at once, so the caller looks at
    /// [`Artifact::size`] first. Dropping the future stops the reading.
    ///
    /// # Errors
    ///
    /// As for [`Artifact::read`].
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> io::Result<T> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < self.size() {
            let some = self.read(bytes.len() as u64, LOOK_BYTES).await?;
            if some.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(&some);
        }
        let look = self.node.0.pool.run(move || look(&bytes)).await;
        look.map_err(io::Error::other)
    }

    async fn read_stored(&self, blob: Arc<Blob>, offset: u64, len: usize) -> io::Result<Bytes> {
        let is_in_memory = blob.path().is_none();
        let read = move || {
            let mut buffer = vec![0; len];
            let count = blob.read_at(offset, &mut buffer)?;
            buffer.truncate(count);
            Ok::<_, crate::store::StoreError>(Bytes::from(buffer))
        };
        let read = if is_in_memory {
            read()
        } else {
            self.node.0.pool.run(read).await.map_err(io::Error::other)?
        };
        let bytes = read.map_err(io::Error::other)?;
        self.node.0.hub.peers.tally.read.add(bytes.len() as u64);
        Ok(bytes)
    }

    /// `None` if the artifact was finished meanwhile: then it is read from the store.
    async fn read_arriving(
        &self,
        arrival: &Arc<Arrival>,
        offset: u64,
        len: usize,
    ) -> io::Result<Option<Bytes>> {
        let is_stored = arrival.wait_for(offset).await.map_err(io::Error::other)?;
        if !is_stored {
            let arrival = arrival.clone();
            let read = move || {
                let mut buffer = vec![0; len];
                let count = arrival.read_at(offset, &mut buffer)?;
                Ok::<_, crate::store::StoreError>(count.map(|count| {
                    buffer.truncate(count);
                    Bytes::from(buffer)
                }))
            };
            let read = self.node.0.pool.run(read).await.map_err(io::Error::other)?;
            if let Some(bytes) = read.map_err(io::Error::other)? {
                return Ok(Some(bytes));
            }
        }
        arrival.ended().await.map_err(io::Error::other)?;
        let (store, root) = (self.node.0.store.clone(), arrival.root());
        let open = move || store.blobs().open(&root);
        let blob = self.node.0.pool.run(open).await.map_err(io::Error::other)?;
        let blob = blob.map_err(io::Error::other)?;
        let blob = blob.ok_or_else(|| io::Error::other("the artifact was evicted meanwhile"))?;
        self.read_stored(Arc::new(blob), offset, len)
            .await
            .map(Some)
    }

    /// Waits until the whole artifact is stored.
    ///
    /// # Errors
    ///
    /// [`FetchError`] if it does not come.
    pub async fn complete(&self) -> Result<(), FetchError> {
        match &self.source {
            Content::Stored(_) => Ok(()),
            Content::Arriving(arrival) => arrival.ended().await,
        }
    }

    /// The logged digest by `algorithm`, if there is one.
    pub fn digest(&self, algorithm: Algorithm) -> Option<Digest> {
        digest_of(&self.entry, algorithm)
    }
}

/// The logged digest of an artifact by `algorithm`, if there is one.
pub fn digest_of(entry: &AddArtifact, algorithm: Algorithm) -> Option<Digest> {
    match algorithm {
        Algorithm::Blake3 => Some(entry.blake3.into()),
        Algorithm::Sha256 => Some(entry.sha256.into()),
        Algorithm::Sha512 | Algorithm::Sha1 | Algorithm::Md5 => entry
            .digests
            .iter()
            .find(|it| it.algorithm() == algorithm)
            .cloned(),
    }
}
