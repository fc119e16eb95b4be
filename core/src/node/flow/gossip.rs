//! What travels on the gossip topics.
//!
//! ```text
//! pool topic   1 byte kind (1 build message, 2 pool message), then the message
//! head topic   a head message
//! ```

use crate::base::CodecError;
use crate::net::Topic;
use crate::proto::build::BuildMessage;
use crate::proto::heads::HeadMessage;
use crate::proto::pool::PoolMessage;

const BUILD: u8 = 1;
const POOL: u8 = 2;

/// A gossiped message.
#[derive(Clone, Debug, PartialEq)]
pub enum Gossip {
    /// About a build.
    Build(BuildMessage),
    /// About pending entries.
    Pool(PoolMessage),
    /// A signature on a head.
    Head(HeadMessage),
}

impl Gossip {
    /// The topic and the bytes.
    pub fn encode(&self) -> (Topic, Vec<u8>) {
        let tagged = |kind, body: Vec<u8>| {
            let mut bytes = vec![kind];
            bytes.extend(body);
            bytes
        };
        match self {
            Self::Build(it) => (Topic::Pool, tagged(BUILD, it.to_bytes())),
            Self::Pool(it) => (Topic::Pool, tagged(POOL, it.to_bytes())),
            Self::Head(it) => (Topic::Head, it.to_bytes()),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if no honest node sends this.
    pub fn decode(topic: Topic, bytes: &[u8]) -> Result<Self, CodecError> {
        let malformed = |it: &dyn std::fmt::Display| CodecError::Malformed(it.to_string());
        match (topic, bytes) {
            (Topic::Head, bytes) => HeadMessage::from_bytes(bytes).map(Self::Head),
            (Topic::Pool, [BUILD, body @ ..]) => match BuildMessage::from_bytes(body) {
                Ok(BuildMessage::Open(_) | BuildMessage::Want(_)) => {
                    Err(CodecError::Invalid("not for everybody"))
                }
                Ok(message) => Ok(Self::Build(message)),
                Err(error) => Err(malformed(&error)),
            },
            (Topic::Pool, [POOL, body @ ..]) => PoolMessage::from_bytes(body)
                .map(Self::Pool)
                .map_err(|it| malformed(&it)),
            (Topic::Pool, _) => Err(CodecError::Invalid("unknown kind of pool message")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_one_peer_is_not_taken_from_gossip() {
        for message in [
            BuildMessage::Open(Vec::new()),
            BuildMessage::Want(Vec::new()),
        ] {
            let (topic, bytes) = Gossip::Build(message).encode();
            let refused = Gossip::decode(topic, &bytes);
            assert_eq!(refused, Err(CodecError::Invalid("not for everybody")));
        }
    }
}
