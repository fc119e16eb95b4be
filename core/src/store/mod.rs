//! What a node keeps on disk: LMDB environments and artifact files.
//!
//! [`Store::open`] opens a data directory and repairs what a crash left. A [`Store`] has the
//! decided [`Chain`], its [`Index`], the artifacts ([`Blobs`]), a small table for other modules
//! ([`Meta`]), provider records of other nodes ([`Providers`]), and the consensus journal ([`Wal`]).
//!
//! Everything here may block on the disk; run it on the blocking pool, except for look-ups, which
//! take microseconds. No async runtime is needed: completions are plain closures.

pub(crate) mod append;
pub mod blob;
pub mod blobs;
pub mod chain;
pub(crate) mod claim;
pub mod disk;
pub(crate) mod draft;
pub mod env;
pub mod error;
pub(crate) mod evict;
pub mod find;
pub(crate) mod hashes;
pub mod index;
pub mod meta;
pub mod page;
pub mod providers;
pub mod quota;
pub(crate) mod record;
pub mod recover;
pub mod signed;
pub mod staging;
pub(crate) mod tables;
pub(crate) mod tail;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
pub(crate) mod tests;
pub mod wal;
pub mod writer;

pub use blob::Blob;
pub use blobs::{BlobInfo, Blobs};
pub use chain::{Chain, EncodedBlock, Tip};
pub use disk::{Faults, Step};
pub use error::StoreError;
pub use find::Found;
pub use index::{Index, IndexStatus};
pub use meta::{Meta, MetaRow};
pub use page::{Page, Row};
pub use providers::Providers;
pub use quota::{Fate, Stat};
pub use record::{ARTIFACT_BYTES_MAX, GROUP_BYTES, INLINE_BYTES_MAX};
pub use recover::{Options, Recovery, Store};
pub use signed::SignedHead;
pub use staging::{Staging, UnnamedStaging};
pub use wal::Wal;
