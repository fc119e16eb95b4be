//! What members gossip about the head, and what peers ask each other: `/kogge/heads/1`.

use minicbor::{Decode, Encode};

use crate::base::{CodecError, Sha256, codec};
use crate::proto::chain::{MEMBERS_MAX, Member};
use crate::proto::log::checkpoint::Checkpoint;
use crate::proto::log::cosign::{CosignError, HEAD_SIGNATURE_BYTES_MAX, HeadSignature};

/// Longest encoded [`HeadMessage`]. Unit: bytes.
pub const HEAD_MESSAGE_BYTES_MAX: usize = HEAD_SIGNATURE_BYTES_MAX + 64;

/// Longest encoded [`Message`]: an answer with a signature of each member. Unit: bytes.
pub const MESSAGE_BYTES_MAX: usize = MEMBERS_MAX * HEAD_SIGNATURE_BYTES_MAX + 64;

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

    /// Checks that `member` signed this head of the log `origin`.
    pub(super) fn verify(&self, origin: &str, member: &Member) -> Result<(), CosignError> {
        let head = Checkpoint {
            origin: origin.to_owned(),
            size: self.size,
            root: self.root,
        };
        self.signature.verify(member, &head)
    }

    /// Whether the two cannot both be heads of one log.
    pub(super) fn contradicts(&self, other: &Self) -> bool {
        self.size == other.size && self.root != other.root
    }
}

/// What peers tell each other directly.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub enum Message {
    /// Asks for the signatures on the newest head, if it is not older than the asker's. There is
    /// no answer if it is.
    #[n(0)]
    Get {
        /// Leaves in the asker's log.
        #[n(0)]
        size: u64,
    },
    /// The answer. The head may be newer than the one asked for.
    #[n(1)]
    Signatures {
        /// Leaves in the log.
        #[n(0)]
        size: u64,
        /// Root of the log.
        #[n(1)]
        root: Sha256,
        /// At most [`MEMBERS_MAX`].
        #[cbor(n(2), decode_with = "codec::at_most::<_, _, MEMBERS_MAX>")]
        signatures: Vec<HeadSignature>,
    },
}

impl Message {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if no honest node sends this.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, MESSAGE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::WallTime;
    use crate::proto::chain::NodeKeys;

    fn answer(count: usize) -> Message {
        let head = Checkpoint {
            origin: "kogge.test/log".into(),
            size: u64::MAX,
            root: Sha256([7; 32]),
        };
        let keys = NodeKeys::from_seed([1; 32]);
        let signature = HeadSignature::sign(&keys, &head, WallTime::from_millis(u64::MAX));
        Message::Signatures {
            size: head.size,
            root: head.root,
            signatures: vec![signature; count],
        }
    }

    #[test]
    fn an_answer_of_all_members_survives_its_bytes_and_a_longer_one_is_refused() {
        let most = answer(MEMBERS_MAX);
        assert_eq!(Message::from_bytes(&most.to_bytes()), Ok(most));
        assert!(Message::from_bytes(&answer(MEMBERS_MAX + 1).to_bytes()).is_err());
        let too_long = vec![0; MESSAGE_BYTES_MAX + 1];
        assert!(matches!(
            Message::from_bytes(&too_long),
            Err(CodecError::TooLong { .. })
        ));
    }

    proptest! {
        #[test]
        fn questions_survive_their_bytes(size: u64) {
            let it = Message::Get { size };
            prop_assert_eq!(Message::from_bytes(&it.to_bytes()), Ok(it));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Message::from_bytes(&bytes);
        }
    }
}
