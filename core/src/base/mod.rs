//! What every layer shares: time, digests, identities, the CBOR codec, keys, bounded containers.
//!
//! This layer uses nothing of ours, performs no IO and reads no clock.

pub mod bounded;
pub mod codec;
pub mod digest;
pub mod hex;
pub mod id;
pub mod rng;
pub mod sign;
pub mod time;

pub use bounded::BoundedQueue;
pub use codec::{CodecError, decode, encode};
pub use digest::{Algorithm, Blake3, Digest, DigestError, Sha256};
pub use id::{BlockId, ChainId, NodeId, Subject};
pub use rng::Rng;
pub use sign::{PublicKey, SecretKey, Signature, SignatureError};
pub use time::{Time, WallTime};
