//! The transparency log as calculations.
//!
//! [`entry`] is what is logged, of several [`kinds`], [`tree`] how, [`tile`] how outsiders read it. [`proof`] shows that a
//! leaf is in a tree, or that one tree extends another. [`checkpoint`] is a head of the log as a
//! signed [`note`], [`cosign`] how the members sign it. A [`waybill`] proves one entry offline;
//! [`verify`] says to whom: to who pins the keys of a [`policy`], or knows the members at some
//! height.

pub mod checkpoint;
pub mod cosign;
pub mod entry;
pub mod index;
pub mod kinds;
pub mod note;
pub mod policy;
pub mod proof;
pub mod query;
pub mod query_text;
pub(crate) mod text;
pub mod tile;
pub mod tree;
pub mod verify;
pub mod vkey;
pub mod waybill;

pub use checkpoint::{Checkpoint, CheckpointError, VerifiedHead, verify_checkpoint};
pub use cosign::{CosignError, HeadSignature, SignedHead};
pub use entry::{ENTRY_BYTES_MAX, Entry, EntryError};
pub use kinds::{
    AddArtifact, AddNode, Attest, BindTag, Mark, Publication, RemoveArtifact, RemoveNode, Seal,
    Source,
};
pub use policy::{Policy, PolicyError};
pub use proof::ProofError;
pub use query::{Cursor, Order, Query};
pub use query_text::QueryError;
pub use tile::{TileError, TileKind, TilePath};
pub use tree::{Frontier, HashReader, leaf_hash};
pub use verify::{Trust, VerifiedEntry, VerifyError};
pub use waybill::{Waybill, WaybillError};
