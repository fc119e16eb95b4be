//! The wire of `/kogge/exchange/1`.
//!
//! One long-lived stream for each pair of peers and direction of interest: requests go one way,
//! replies the other, many at a time. Both are frames:
//!
//! ```text
//!  0      1               4                8
//!  +------+---------------+----------------+----------------------+
//!  | kind | length (u24)  | id (u32)       | body, `length` bytes |      integers big-endian
//!  +------+---------------+----------------+----------------------+
//!
//!  request        kind  body                                                    length at most
//!  Get             1    CBOR [root, size, first group, end of groups]             GET_BYTES_MAX
//!  Cancel          2    none                                                                  0
//!  Have            3    CBOR [root, …], at most ROOTS_MAX                        HAVE_BYTES_MAX
//!
//!  reply          kind  body                                                    length at most
//!  Data           17    raw: the next bytes of the pieces of `id`                DATA_BYTES_MAX
//!  End            18    none                                                                  0
//!  NotFound       19    none                                                                  0
//!  Busy           20    CBOR: milliseconds to wait                               BUSY_BYTES_MAX
//!  Has            21    CBOR [presence, …], one for each root asked               HAS_BYTES_MAX
//! ```
//!
//! Whoever asks chooses the ids and uses none twice while it is open. Every `Get` is answered by
//! any number of `Data` frames, interleaved with those of other ids, and then by exactly one of
//! `End`, `NotFound` or `Busy`; so is a cancelled one, then with fewer bytes. The bytes of all
//! `Data` frames of an id are the pieces of its groups in the order of
//! [`Pieces`](crate::proto::exchange::group::Pieces); frames may cut a piece anywhere. Every
//! `Have` is answered by one `Has` or `Busy`. A server that has the root with another size answers
//! `NotFound`.

use std::ops::Range;

use minicbor::{Decode, Encode};

use crate::base::{Blake3, CodecError, codec};
use crate::proto::exchange::frame::{
    BUSY, CANCEL, DATA, END, GET, HAS, HAVE, Header, NOT_FOUND, frame, header,
};
use crate::proto::exchange::group::has_groups;
use crate::proto::exchange::presence::Presence;

/// Groups that one request may ask for: 4 MiB.
pub const GROUPS_MAX: u64 = 64;

/// Roots that one `Have` may ask about.
pub const ROOTS_MAX: usize = 1_000;

/// Bytes of the body of a `Get`.
pub const GET_BYTES_MAX: usize = 64;

/// Bytes of the body of a `Have`.
pub const HAVE_BYTES_MAX: usize = 3 + 34 * ROOTS_MAX;

/// Bytes of the body of a `Data` frame.
pub const DATA_BYTES_MAX: usize = 262_144;

/// Bytes of the body of a `Busy`.
pub const BUSY_BYTES_MAX: usize = 5;

/// Bytes of the body of a `Has`.
pub const HAS_BYTES_MAX: usize = 3 + Presence::BYTES_MAX * ROOTS_MAX;

/// Bytes that are not a message of this protocol.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MessageError {
    /// The kind is not one that may come in this direction.
    #[error("unknown kind of message: {0}")]
    Kind(u8),
    /// The body is longer than its kind allows, or empty where it must not be.
    #[error("a body of {bytes} bytes is not allowed for kind {kind}")]
    Length {
        /// The kind.
        kind: u8,
        /// The declared length. Unit: bytes.
        bytes: usize,
    },
    /// The body is not what its kind demands.
    #[error("malformed body: {0}")]
    Body(#[from] CodecError),
    /// The groups of a `Get` are none, too many, or not in an artifact of that size.
    #[error("impossible range of groups")]
    Groups,
    /// A `Have` without a root or with too many.
    #[error("impossible number of roots")]
    Roots,
}

/// What a client says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// Send groups of an artifact, with their proof.
    Get {
        /// The id that replies carry.
        id: u32,
        /// What is wanted.
        want: Want,
    },
    /// Stop sending what `id` asked for.
    Cancel {
        /// The id of the `Get`.
        id: u32,
    },
    /// Which of these artifacts do you have?
    Have {
        /// The id that the reply carries.
        id: u32,
        /// The artifacts; at least one, at most [`ROOTS_MAX`].
        roots: Vec<Blake3>,
    },
}

/// Groups of an artifact.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Want {
    /// The artifact.
    pub root: Blake3,
    /// Its size, as the log says. Unit: bytes.
    pub size: u64,
    /// The groups; at least one, at most [`GROUPS_MAX`], all inside of the artifact.
    pub groups: Range<u64>,
}

/// What a server says; the bytes of `Data` follow the header and are not part of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// Bytes of the pieces of a request follow.
    Data {
        /// The request.
        id: u32,
        /// How many; at least one, at most [`DATA_BYTES_MAX`].
        bytes: u32,
    },
    /// All bytes of the request were sent, or it was cancelled.
    End {
        /// The request.
        id: u32,
    },
    /// The artifact or some of its groups are not here (any more), or not shared.
    NotFound {
        /// The request.
        id: u32,
    },
    /// Too much to do. Ask again later, or somebody else.
    Busy {
        /// The request.
        id: u32,
        /// When to ask again. Unit: milliseconds.
        retry_after_ms: u32,
    },
    /// What is here.
    Has {
        /// The request.
        id: u32,
        /// One answer for each root asked, in that order.
        answers: Vec<Presence>,
    },
}

impl Want {
    fn check(self) -> Result<Self, MessageError> {
        let is_bounded = has_groups(self.size, &self.groups)
            && self.groups.end - self.groups.start <= GROUPS_MAX;
        is_bounded.then_some(self).ok_or(MessageError::Groups)
    }
}

impl Request {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Get { id, want } => frame(
                GET,
                *id,
                &codec::encode(&GetBody {
                    root: want.root,
                    size: want.size,
                    first: want.groups.start,
                    end: want.groups.end,
                }),
            ),
            Self::Cancel { id } => frame(CANCEL, *id, &[]),
            Self::Have { id, roots } => frame(HAVE, *id, &codec::encode(roots)),
        }
    }

    /// Decodes the body that followed `header`.
    ///
    /// # Errors
    ///
    /// [`MessageError`] if the body is not exactly what the kind demands.
    pub fn decode(header: Header, body: &[u8]) -> Result<Self, MessageError> {
        let id = header.id();
        match header.kind() {
            GET => {
                let it: GetBody = codec::decode(body, GET_BYTES_MAX)?;
                let want = Want {
                    root: it.root,
                    size: it.size,
                    groups: it.first..it.end,
                };
                Ok(Self::Get {
                    id,
                    want: want.check()?,
                })
            }
            CANCEL if body.is_empty() => Ok(Self::Cancel { id }),
            HAVE => {
                let roots: Vec<Blake3> = codec::decode(body, HAVE_BYTES_MAX)?;
                if roots.is_empty() || ROOTS_MAX < roots.len() {
                    return Err(MessageError::Roots);
                }
                Ok(Self::Have { id, roots })
            }
            kind => Err(MessageError::Kind(kind)),
        }
    }
}

impl Reply {
    /// The frame; for [`Reply::Data`] its header, which the bytes must follow.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Data { id, bytes } => header(DATA, *id, *bytes).to_vec(),
            Self::End { id } => frame(END, *id, &[]),
            Self::NotFound { id } => frame(NOT_FOUND, *id, &[]),
            Self::Busy { id, retry_after_ms } => frame(BUSY, *id, &codec::encode(retry_after_ms)),
            Self::Has { id, answers } => frame(HAS, *id, &codec::encode(answers)),
        }
    }

    /// Decodes the body that followed `header`; none for [`Reply::Data`].
    ///
    /// # Errors
    ///
    /// [`MessageError`] if the body is not exactly what the kind demands.
    pub fn decode(header: Header, body: &[u8]) -> Result<Self, MessageError> {
        let id = header.id();
        match header.kind() {
            DATA => Ok(Self::Data {
                id,
                bytes: u32::try_from(header.body_bytes()).unwrap_or(u32::MAX),
            }),
            END if body.is_empty() => Ok(Self::End { id }),
            NOT_FOUND if body.is_empty() => Ok(Self::NotFound { id }),
            BUSY => Ok(Self::Busy {
                id,
                retry_after_ms: codec::decode(body, BUSY_BYTES_MAX)?,
            }),
            HAS => {
                let HasBody(answers) = codec::decode(body, HAS_BYTES_MAX)?;
                if answers.is_empty() {
                    return Err(MessageError::Roots);
                }
                Ok(Self::Has { id, answers })
            }
            kind => Err(MessageError::Kind(kind)),
        }
    }
}

/// The answers of a `Has`: one byte on the wire may be 32 in memory, so they are counted first.
#[derive(Encode, Decode)]
#[cbor(transparent)]
struct HasBody(#[cbor(n(0), decode_with = "codec::at_most::<_, _, ROOTS_MAX>")] Vec<Presence>);

#[derive(Encode, Decode)]
#[cbor(array)]
struct GetBody {
    #[n(0)]
    root: Blake3,
    #[n(1)]
    size: u64,
    #[n(2)]
    first: u64,
    #[n(3)]
    end: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::exchange::frame::HEADER_BYTES;
    use crate::proto::exchange::group::{ARTIFACT_BYTES_MAX, GROUP_BYTES, group_count};
    use crate::proto::schedule::Ranges;

    fn read_request(frame: &[u8]) -> Result<Request, MessageError> {
        let (head, body) = frame.split_first_chunk().unwrap();
        let header = Header::of_request(head)?;
        assert_eq!(header.body_bytes(), body.len());
        Request::decode(header, body)
    }

    fn read_reply(frame: &[u8]) -> Result<Reply, MessageError> {
        let (head, body) = frame.split_first_chunk().unwrap();
        Reply::decode(Header::of_reply(head)?, body)
    }

    fn get(size: u64, groups: Range<u64>) -> Request {
        let root = Blake3([7; 32]);
        Request::Get {
            id: 1,
            want: Want { root, size, groups },
        }
    }

    #[test]
    fn the_bytes_of_a_get() {
        let frame = get(65_537, 1..2).encode();
        let root = [7; 32];
        let expected = [
            &[1, 0, 0, 42, 0, 0, 0, 1, 0x84, 0x58, 0x20][..],
            &root,
            &[0x1a, 0x00, 0x01, 0x00, 0x01, 0x01, 0x02],
        ]
        .concat();
        assert_eq!(frame, expected);
    }

    #[test]
    fn messages_survive_the_wire_at_their_limits() {
        let groups_max = group_count(ARTIFACT_BYTES_MAX);
        let single = |it: u64| u64::MAX - 2 * it..u64::MAX - 2 * it + 1;
        let largest = Presence::partial(&(1..99).map(single).collect());
        for request in [
            get(1, 0..1),
            get(ARTIFACT_BYTES_MAX, groups_max - GROUPS_MAX..groups_max),
            Request::Cancel { id: u32::MAX },
            Request::Have {
                id: 0,
                roots: vec![Blake3([0xff; 32]); ROOTS_MAX],
            },
        ] {
            assert_eq!(read_request(&request.encode()), Ok(request));
        }
        for reply in [
            Reply::Data {
                id: 3,
                bytes: 262_144,
            },
            Reply::End { id: 4 },
            Reply::NotFound { id: 5 },
            Reply::Busy {
                id: 6,
                retry_after_ms: u32::MAX,
            },
            Reply::Has {
                id: 7,
                answers: vec![largest; ROOTS_MAX],
            },
            Reply::Has {
                id: 8,
                answers: vec![
                    Presence::None,
                    Presence::Whole,
                    Presence::partial(&Ranges::from(1..2)),
                ],
            },
        ] {
            assert_eq!(read_reply(&reply.encode()), Ok(reply));
        }
    }

    #[test]
    fn impossible_groups_are_refused() {
        let size = 100 * GROUP_BYTES as u64;
        for groups in [0..0, 0..65, 99..101, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
            let got = read_request(&get(size, groups.clone()).encode());
            assert_eq!(got, Err(MessageError::Groups), "{groups:?}");
        }
        assert_eq!(
            read_request(&get(0, 0..1).encode()),
            Err(MessageError::Groups)
        );
        assert_eq!(
            read_request(&get(u64::MAX, 0..1).encode()),
            Err(MessageError::Groups)
        );
    }

    #[test]
    fn roots_are_counted() {
        for count in [0, ROOTS_MAX + 1] {
            let roots = vec![Blake3([0; 32]); count];
            assert!(read_request(&Request::Have { id: 1, roots }.encode()).is_err());
            let answers = vec![Presence::None; count];
            assert!(read_reply(&Reply::Has { id: 1, answers }.encode()).is_err());
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(head in any::<[u8; 8]>(), body in any::<Vec<u8>>()) {
            for kind in [GET, CANCEL, HAVE, DATA, END, NOT_FOUND, BUSY, HAS] {
                let mut head = head;
                head[0] = kind;
                head[1] = 0;
                let request = Header::of_request(&head).and_then(|it| Request::decode(it, &body));
                if let Ok(request) = request {
                    prop_assert_eq!(&request.encode()[HEADER_BYTES..], &body);
                }
                let reply = Header::of_reply(&head).and_then(|it| Reply::decode(it, &body));
                if let Ok(reply) = reply && kind != DATA {
                    prop_assert_eq!(&reply.encode()[HEADER_BYTES..], &body);
                }
            }
        }
    }
}
