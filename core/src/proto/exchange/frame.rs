//! Frames: the header before every message of the exchange.

use std::ops::RangeInclusive;

use crate::proto::exchange::message::{
    BUSY_BYTES_MAX, DATA_BYTES_MAX, GET_BYTES_MAX, HAS_BYTES_MAX, HAVE_BYTES_MAX, MessageError,
};

/// Bytes of the header of a frame.
pub const HEADER_BYTES: usize = 8;

/// The first bytes of a frame, checked for one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    kind: u8,
    id: u32,
    body_bytes: usize,
}

impl Header {
    /// Parses the header of a request, and checks the length it declares.
    ///
    /// # Errors
    ///
    /// [`MessageError`] if the kind is unknown or the length impossible for it.
    pub fn of_request(bytes: &[u8; HEADER_BYTES]) -> Result<Self, MessageError> {
        Self::parse(bytes)?.check(|kind| match kind {
            GET => Some(1..=GET_BYTES_MAX),
            CANCEL => Some(0..=0),
            HAVE => Some(1..=HAVE_BYTES_MAX),
            _ => None,
        })
    }

    /// Parses the header of a reply, and checks the length it declares.
    ///
    /// # Errors
    ///
    /// [`MessageError`] if the kind is unknown or the length impossible for it.
    pub fn of_reply(bytes: &[u8; HEADER_BYTES]) -> Result<Self, MessageError> {
        Self::parse(bytes)?.check(|kind| match kind {
            DATA => Some(1..=DATA_BYTES_MAX),
            END | NOT_FOUND => Some(0..=0),
            BUSY => Some(1..=BUSY_BYTES_MAX),
            HAS => Some(1..=HAS_BYTES_MAX),
            _ => None,
        })
    }

    pub(super) const fn kind(&self) -> u8 {
        self.kind
    }

    /// The id of the request.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Bytes that follow the header.
    pub const fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// Whether the body is raw bytes of groups, to be streamed and not collected.
    pub const fn is_data(&self) -> bool {
        self.kind == DATA
    }

    fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, MessageError> {
        let [kind, l0, l1, l2, i0, i1, i2, i3] = *bytes;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        Ok(Self {
            kind,
            id: u32::from_be_bytes([i0, i1, i2, i3]),
            body_bytes: usize::try_from(length).map_err(|_| MessageError::Kind(kind))?,
        })
    }

    fn check(
        self,
        allowed: impl Fn(u8) -> Option<RangeInclusive<usize>>,
    ) -> Result<Self, MessageError> {
        let lengths = allowed(self.kind).ok_or(MessageError::Kind(self.kind))?;
        if lengths.contains(&self.body_bytes) {
            return Ok(self);
        }
        Err(MessageError::Length {
            kind: self.kind,
            bytes: self.body_bytes,
        })
    }
}

pub(super) fn header(kind: u8, id: u32, body_bytes: u32) -> [u8; HEADER_BYTES] {
    let [_, l0, l1, l2] = body_bytes.to_be_bytes();
    let [i0, i1, i2, i3] = id.to_be_bytes();
    [kind, l0, l1, l2, i0, i1, i2, i3]
}

pub(super) fn frame(kind: u8, id: u32, body: &[u8]) -> Vec<u8> {
    // Every body of ours is far below 2^24 bytes; a longer one would be refused by the receiver.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&header(kind, id, length)[..], body].concat()
}

pub(super) const GET: u8 = 1;
pub(super) const CANCEL: u8 = 2;
pub(super) const HAVE: u8 = 3;
pub(super) const DATA: u8 = 17;
pub(super) const END: u8 = 18;
pub(super) const NOT_FOUND: u8 = 19;
pub(super) const BUSY: u8 = 20;
pub(super) const HAS: u8 = 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_the_other_direction_or_too_long_is_refused_before_its_body() {
        let too_long = |kind, bytes| Err(MessageError::Length { kind, bytes });
        for (bytes, expected) in [
            ([17, 0, 0, 1, 0, 0, 0, 0], Err(MessageError::Kind(17))),
            ([0; 8], Err(MessageError::Kind(0))),
            ([1, 0, 0, 65, 0, 0, 0, 0], too_long(1, 65)),
            ([2, 0, 0, 1, 0, 0, 0, 0], too_long(2, 1)),
            ([3, 0xff, 0xff, 0xff, 0, 0, 0, 0], too_long(3, 0xff_ffff)),
        ] {
            assert_eq!(Header::of_request(&bytes), expected);
        }
        for (bytes, expected) in [
            ([1, 0, 0, 1, 0, 0, 0, 0], Err(MessageError::Kind(1))),
            ([17, 0, 0, 0, 0, 0, 0, 0], too_long(17, 0)),
            ([17, 4, 0, 1, 0, 0, 0, 0], too_long(17, 262_145)),
            ([21, 0xff, 0xff, 0xff, 0, 0, 0, 0], too_long(21, 0xff_ffff)),
        ] {
            assert_eq!(Header::of_reply(&bytes), expected);
        }
    }
}
