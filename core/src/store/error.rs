//! Why the store refuses or fails.

use std::io;
use std::path::{Path, PathBuf};

/// Why an operation on the store failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// Another node, of this or another process, has the directory open.
    #[error(
        "the data directory {} is in use by {}; stop it or choose another directory",
        .dir.display(),
        owner(*.pid)
    )]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// The process that holds it, if it could be read.
        pid: Option<u32>,
    },
    /// The directory was written by a program with another format.
    #[error(
        "the data directory {} has format `{found}`, this program reads `{ours}`; use the matching \
         version of the program or another directory",
        .dir.display()
    )]
    Schema {
        /// The data directory.
        dir: PathBuf,
        /// What the schema file says.
        found: String,
        /// What this program writes.
        ours: &'static str,
    },
    /// The operating system refused.
    #[error("{what}: {reason}")]
    Io {
        /// What was attempted.
        what: String,
        /// The system's answer.
        reason: String,
        /// The system's error number.
        code: Option<i32>,
    },
    /// No room on the disk. Reading goes on; writing works again when there is room.
    #[error("the disk of {} is full; free some space", .dir.display())]
    DiskFull {
        /// The data directory.
        dir: PathBuf,
    },
    /// The database has reached the size of its map.
    #[error("the database has reached its largest size")]
    DatabaseFull,
    /// A write to this part failed before, so what is on the disk is unknown: nothing more is
    /// written until the store is opened again, which recovers.
    #[error("{part} is stopped after a failed write ({reason}); restart the node to recover")]
    Failed {
        /// The part of the store.
        part: &'static str,
        /// The first failure.
        reason: String,
    },
    /// What is stored contradicts itself.
    #[error("{what} is damaged: {reason}")]
    Corrupt {
        /// What is damaged.
        what: String,
        /// How it shows.
        reason: String,
    },
    /// Too much work is waiting; try again later.
    #[error("the store is busy: {0}")]
    Busy(&'static str),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The block does not follow the tip.
    #[error("block {height} does not follow block {tip}: {problem}")]
    NotNext {
        /// Height of the refused block.
        height: u64,
        /// Height of the tip; 0 if there is none.
        tip: u64,
        /// What does not fit.
        problem: &'static str,
    },
    /// This head contradicts one that this node has signed.
    #[error("a head of {size} leaves contradicts the signed head of {signed} leaves")]
    SignedHead {
        /// Leaves of the refused head.
        size: u64,
        /// Leaves of the highest signed head.
        signed: u64,
    },
    /// A value above its limit. Units: bytes.
    #[error("{what} has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its length.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The artifact does not fit into the quota even after eviction. Units: bytes.
    #[error(
        "{bytes} bytes do not fit: {quota} bytes are allowed and the rest is pinned or in use; \
         raise the quota or unpin artifacts"
    )]
    Quota {
        /// Length of the artifact.
        bytes: u64,
        /// The quota.
        quota: u64,
    },
    /// The artifact is being received by another task.
    #[error("artifact {0} is being received right now")]
    InUse(crate::base::Blake3),
    /// Not all groups of the artifact have been received.
    #[error("the artifact is incomplete: {missing} of {groups} groups are missing")]
    Incomplete {
        /// Groups not marked as verified.
        missing: u64,
        /// Groups of the artifact.
        groups: u64,
    },
    /// The index does not cover the whole log yet. Units: leaves.
    #[error("the index has {indexed} of {size} leaves; try again when it has caught up")]
    Behind {
        /// Leaves indexed.
        indexed: u64,
        /// Leaves in the log.
        size: u64,
    },
    /// The query would have to look at too much.
    #[error("the query is too broad: {0}")]
    TooBroad(&'static str),
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

impl StoreError {
    /// An error of the operating system at `what`.
    pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> Self {
        Self::Io {
            what: what.into(),
            reason: error.to_string(),
            code: error.raw_os_error(),
        }
    }

    /// An error of the operating system at the file or folder `path`.
    pub(crate) fn at(verb: &str, path: &Path, error: &io::Error) -> Self {
        Self::io(format!("cannot {verb} {}", path.display()), error)
    }

    /// Damage found in `what`.
    pub(crate) fn corrupt(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            what: what.into(),
            reason: reason.into(),
        }
    }
}

impl From<heed::Error> for StoreError {
    fn from(error: heed::Error) -> Self {
        use heed::MdbError as Mdb;
        match error {
            heed::Error::Io(it) => Self::io("the database", &it),
            heed::Error::Mdb(Mdb::MapFull) => Self::DatabaseFull,
            heed::Error::Mdb(Mdb::ReadersFull) => Self::Busy("too many readers"),
            heed::Error::Mdb(Mdb::Panic) => Self::Failed {
                part: "the database",
                reason: "the head of the file could not be written".to_owned(),
            },
            heed::Error::Mdb(
                it @ (Mdb::Corrupted | Mdb::PageNotFound | Mdb::Invalid | Mdb::VersionMismatch),
            ) => Self::corrupt("the database", it.to_string()),
            other => Self::Io {
                what: "the database".to_owned(),
                reason: other.to_string(),
                code: None,
            },
        }
    }
}

/// Refuses values above their limit. Unit: bytes.
pub(crate) fn limit(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), StoreError> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(StoreError::TooLarge {
        what,
        bytes: bytes as u64,
        bytes_max: bytes_max as u64,
    })
}
