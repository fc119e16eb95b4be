//! The transparency log as calculations: entries, the Merkle tree, tiles, proofs, signed notes,
//! checkpoints and waybills.

pub mod checkpoint;
pub mod cosign;
pub mod entry;
pub mod note;
pub mod policy;
pub mod proof;
pub(crate) mod text;
pub mod tile;
pub mod tree;
pub mod verify;
pub mod vkey;
pub mod waybill;

pub use entry::{
    AddArtifact, AddNode, Attest, BindTag, ENTRY_BYTES_MAX, Entry, EntryError, Mark, Publication,
    RemoveArtifact, RemoveNode, Seal, Source,
};
pub use tree::{Frontier, HashReader, leaf_hash};
