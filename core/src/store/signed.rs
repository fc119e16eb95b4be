//! The highest head this node has signed, in a file of its own.
//!
//! It lives outside of the database on purpose: if the database falls back to an older state, the
//! file still tells, and the node does not sign two histories.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::{Blake3, Sha256};
use crate::store::disk::{self, Disk};
use crate::store::env::Environment;
use crate::store::error::StoreError;

/// A head of the log: what a checkpoint signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SignedHead {
    /// Leaves.
    pub size: u64,
    /// Root.
    pub root: Sha256,
}

/// The file: `size (8) ‖ root (32) ‖ blake3 of both (32)`.
pub(crate) struct SignedFile {
    path: PathBuf,
    disk: Disk,
    head: Option<SignedHead>,
    /// A failed write leaves the old or the new head; until the next start nothing is signed.
    failed: Option<StoreError>,
}

impl SignedFile {
    pub(crate) fn open(env: &Arc<Environment>) -> Result<Self, StoreError> {
        let path = env.dir().join("signed");
        let head = disk::read_if_any(&path)?
            .map(|it| decode(&it).ok_or_else(|| damaged(&path)))
            .transpose()?;
        Ok(Self {
            path,
            disk: env.disk().clone(),
            head,
            failed: None,
        })
    }

    pub(crate) fn head(&self) -> Option<SignedHead> {
        self.head
    }

    /// Replaces the head by a later one.
    pub(crate) fn raise(&mut self, head: SignedHead) -> Result<(), StoreError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        match self.head {
            Some(old) if old == head => return Ok(()),
            Some(old) if head.size <= old.size => {
                return Err(StoreError::SignedHead {
                    size: head.size,
                    signed: old.size,
                });
            }
            _ => {}
        }
        if let Err(error) = self.disk.replace("signed", &self.path, &encode(head)) {
            let dir = self.path.parent().unwrap_or(&self.path);
            let error = match disk::explain(dir, error) {
                full @ StoreError::DiskFull { .. } => return Err(full),
                other => StoreError::Failed {
                    part: "the signed head",
                    reason: other.to_string(),
                },
            };
            self.failed = Some(error.clone());
            return Err(error);
        }
        self.head = Some(head);
        Ok(())
    }
}

fn damaged(path: &std::path::Path) -> StoreError {
    StoreError::corrupt(path.display().to_string(), "its checksum does not fit")
}

pub(crate) fn encode(head: SignedHead) -> Vec<u8> {
    let mut bytes = head.size.to_be_bytes().to_vec();
    bytes.extend_from_slice(&head.root.0);
    let check = Blake3::of(&bytes);
    bytes.extend_from_slice(&check.0);
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Option<SignedHead> {
    let (size, rest) = bytes.split_first_chunk::<8>()?;
    let root = rest.first_chunk::<32>()?;
    let head = SignedHead {
        size: u64::from_be_bytes(*size),
        root: Sha256(*root),
    };
    (encode(head) == bytes).then_some(head)
}
