//! Reading one stored artifact.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{Blake3, Sha256};
use crate::store::blobs::Inner;
use crate::store::error::StoreError;
use crate::store::record::BlobRecord;

/// An open artifact. Reading is safe from several threads.
pub struct Blob {
    size: u64,
    sha256: Sha256,
    outboard_len: u64,
    source: Source,
    _lease: Lease,
}

pub(crate) enum Source {
    Inline(Vec<u8>),
    File {
        data: File,
        outboard: Option<File>,
        path: PathBuf,
    },
}

/// Keeps an artifact from being evicted.
pub(crate) struct Lease(Arc<Inner>, Blake3);

impl Lease {
    /// A lease that the ledger has noted already.
    pub(crate) fn new(blobs: &Arc<Inner>, blake3: Blake3) -> Self {
        Self(Arc::clone(blobs), blake3)
    }

    pub(crate) fn digest(&self) -> Blake3 {
        self.1
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.ledger().unlease(&self.1);
    }
}

impl Blob {
    pub(crate) fn new(record: &BlobRecord, source: Source, lease: Lease) -> Self {
        Self {
            size: record.size,
            sha256: record.sha256,
            outboard_len: record.outboard,
            source,
            _lease: lease,
        }
    }

    /// Length. Unit: bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The artifact's SHA-256 digest, as told when it was stored.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// Length of the outboard; 0 if there is none. Unit: bytes.
    pub fn outboard_len(&self) -> u64 {
        self.outboard_len
    }

    /// The file with its bytes, which stays while this is open unless the owner removes the
    /// artifact; `None` if they are in the database.
    pub fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::File { path, .. } => Some(path),
            Source::Inline(_) => None,
        }
    }

    /// Reads from `offset` into `buffer`; fewer bytes than asked for at the end, 0 behind it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the disk refuses.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        match &self.source {
            Source::Inline(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
                let rest = rest.unwrap_or_default();
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            Source::File { data, .. } => fill_at(data, offset, buffer),
        }
    }

    /// Reads from the outboard, like [`Blob::read_at`]; 0 if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the disk refuses.
    pub fn read_outboard_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        match &self.source {
            Source::File {
                outboard: Some(file),
                ..
            } => fill_at(file, offset, buffer),
            _ => Ok(0),
        }
    }
}

/// Reads until `buffer` is full or the file ends.
pub(crate) fn fill_at(file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
    let mut filled = 0;
    if i64::try_from(offset.saturating_add(buffer.len() as u64)).is_err() {
        return Ok(0); // The system counts with a sign; no file is that long.
    }
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(it) if it.kind() == std::io::ErrorKind::Interrupted => {}
            Err(it) => return Err(StoreError::io("cannot read an artifact", &it)),
        }
    }
    Ok(filled)
}

impl Inner {
    /// Opens what is recorded.
    pub(crate) fn source(
        &self,
        blake3: &Blake3,
        record: &BlobRecord,
    ) -> Result<Source, StoreError> {
        let damaged = |reason| StoreError::corrupt(format!("artifact {blake3}"), reason);
        if record.is_inline {
            let txn = self.env.read()?;
            let bytes = self.tables.inline.get(&txn, &blake3.0)?;
            return bytes
                .filter(|it| it.len() as u64 == record.size)
                .map(|it| Source::Inline(it.to_vec()))
                .ok_or_else(|| damaged("its bytes are missing"));
        }
        let path = self.path(blake3);
        let open = |path: &Path, len: u64| match File::open(path) {
            Ok(file) if file.metadata().is_ok_and(|it| it.len() == len) => Ok(file),
            Ok(_) => Err(damaged("its file has another length than recorded")),
            Err(it) if it.kind() == std::io::ErrorKind::NotFound => {
                Err(damaged("its file is missing"))
            }
            Err(it) => Err(StoreError::at("open", path, &it)),
        };
        let data = open(&path, record.size)?;
        let outboard = match record.outboard {
            0 => None,
            len => Some(open(&path.with_extension("obao"), len)?),
        };
        Ok(Source::File {
            data,
            outboard,
            path,
        })
    }
}
