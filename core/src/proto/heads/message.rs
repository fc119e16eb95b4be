//! What members gossip about the head.

use minicbor::{Decode, Encode};

use crate::base::{CodecError, Sha256, codec};
use crate::proto::log::cosign::{HEAD_SIGNATURE_BYTES_MAX, HeadSignature};

/// Longest encoded [`HeadMessage`]. Unit: bytes.
pub const HEAD_MESSAGE_BYTES_MAX: usize = HEAD_SIGNATURE_BYTES_MAX + 64;

/// A member's signature with the head it is for.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct HeadMessage {
    /// Leaves in the log.
    #[n(0)]
    pub size: u64,
    /// Root of the log.
    #[n(1)]
    pub root: Sha256,
    /// The signature.
    #[n(2)]
    pub signature: HeadSignature,
}

impl HeadMessage {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if it is not the canonical form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, HEAD_MESSAGE_BYTES_MAX)
    }
}
