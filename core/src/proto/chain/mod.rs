//! The chain as calculations: genesis, members, blocks, certificates, and the rules by which a
//! block follows another.

pub mod block;
pub mod genesis;
pub mod light;
pub mod member;

pub use block::{BLOCK_BYTES_MAX, Block, Certificate, CommitSignature, Header};
pub use genesis::{Genesis, GenesisError, Params};
pub use light::{Light, LightError, SetChange};
pub use member::{Card, CardError, MEMBERS_MAX, Member, MemberSet, NodeKeys};
