//! The transparency log as calculations: entries, the Merkle tree, tiles, proofs, signed notes,
//! checkpoints and waybills.

pub mod entry;
pub mod index;
pub mod query;
pub mod query_text;
pub mod tree;

pub use entry::{
    AddArtifact, AddNode, Attest, BindTag, ENTRY_BYTES_MAX, Entry, EntryError, Mark, Publication,
    RemoveArtifact, RemoveNode, Seal, Source,
};
pub use query::{Cursor, Order, Query};
pub use query_text::QueryError;
pub use tree::{Frontier, HashReader, leaf_hash};
