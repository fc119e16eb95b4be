//! The chain as calculations: genesis, members, blocks, certificates, and the rules by which a
//! block follows another.

pub mod block;
pub mod build;
pub mod change;
pub mod check;
pub mod consent;
pub mod genesis;
pub mod group;
pub mod light;
pub mod member;
pub mod rules;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use block::{BLOCK_BYTES_MAX, Block, Certificate, CommitSignature, Header, VoteKind};
pub use build::{Rejected, build};
pub use check::{CheckedBlock, check};
pub use consent::Consent;
pub use genesis::{Genesis, GenesisError, Params};
pub use light::{Light, LightError, SetChange};
pub use member::{Card, CardError, MEMBERS_MAX, Member, MemberSet, NodeKeys};
pub use rules::{Binding, Ledger, RuleError};
pub use state::{ChainState, StateError};
