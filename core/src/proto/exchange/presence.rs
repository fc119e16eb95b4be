//! What a peer has of an artifact.

use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::proto::schedule::Ranges;

/// Runs of groups that one answer may name; who has more names the first ones.
pub const RUNS_MAX: usize = 16;

/// What a peer has of an artifact. It is a claim: only the groups themselves prove it.
///
/// On the wire `0` (nothing), `1` (everything) or a flat array `[start, end, start, end, …]` of
/// disjoint, ascending, not touching runs of groups.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Presence {
    /// Nothing.
    #[default]
    None,
    /// Every group.
    Whole,
    /// Some groups; at most [`RUNS_MAX`] runs.
    Some(Ranges),
}

impl Presence {
    /// Bytes of the longest encoding.
    pub const BYTES_MAX: usize = 2 + 2 * RUNS_MAX * 9;

    /// The answer of who has `groups`; the first [`RUNS_MAX`] runs are named.
    pub fn partial(groups: &Ranges) -> Self {
        let named: Ranges = groups.iter().take(RUNS_MAX).collect();
        if named.is_empty() {
            Self::None
        } else {
            Self::Some(named)
        }
    }

    /// The groups that are claimed, of an artifact with `count` groups.
    pub fn groups(&self, count: u64) -> Ranges {
        match self {
            Self::None => Ranges::new(),
            Self::Whole => Ranges::from(0..count),
            Self::Some(groups) => groups.intersect(&Ranges::from(0..count)),
        }
    }
}

impl<C> Encode<C> for Presence {
    fn encode<W: Write>(
        &self,
        out: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        match self {
            Self::None => out.u8(0)?,
            Self::Whole => out.u8(1)?,
            Self::Some(groups) => {
                out.array(2 * groups.run_count() as u64)?;
                for run in groups.iter() {
                    out.u64(run.start)?.u64(run.end)?;
                }
                out
            }
        };
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Presence {
    fn decode(bytes: &mut Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
        if bytes.datatype()? != minicbor::data::Type::Array {
            return match bytes.u8()? {
                0 => Ok(Self::None),
                1 => Ok(Self::Whole),
                _ => Err(DecodeError::message("unknown presence")),
            };
        }
        let numbers = bytes.array()?.unwrap_or(0);
        if numbers == 0 || numbers > 2 * RUNS_MAX as u64 || numbers % 2 != 0 {
            return Err(DecodeError::message("impossible number of runs"));
        }
        // Overlaps, disorder and empty runs vanish here and are refused as not canonical.
        let mut groups = Ranges::new();
        for _ in 0..numbers / 2 {
            groups.insert(bytes.u64()?..bytes.u64()?);
        }
        if groups.is_empty() {
            return Err(DecodeError::message("no groups"));
        }
        Ok(Self::Some(groups))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{CodecError, decode, encode};

    fn read(bytes: &[u8]) -> Result<Presence, CodecError> {
        decode(bytes, Presence::BYTES_MAX)
    }

    #[test]
    fn the_bytes_of_presence() {
        let some = Presence::partial(&Ranges::from_iter([0..2, 7..9]));
        for (presence, bytes) in [
            (Presence::None, &[0x00][..]),
            (Presence::Whole, &[0x01]),
            (some, &[0x84, 0, 2, 7, 9]),
        ] {
            assert_eq!(encode(&presence), bytes);
            assert_eq!(read(bytes), Ok(presence));
        }
    }

    #[test]
    fn malformed_presence_is_refused() {
        for bytes in [
            &[0x02][..],
            &[0x80],
            &[0x81, 1],
            &[0x82, 5, 5],
            &[0x82, 5, 4],
            &[0x84, 7, 9, 0, 2],
            &[0x84, 0, 4, 2, 6],
            &[0x84, 0, 2, 2, 4],
            &[0x84, 0, 2, 5, 5],
            &[0x9f, 0, 2, 0xff],
            &[0x98, 0x22],
            &[0x20],
            &[],
        ] {
            assert!(read(bytes).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn only_the_first_runs_are_named() {
        let presence = Presence::partial(&(0..99).map(|it| 2 * it..2 * it + 1).collect());
        let named = (0..RUNS_MAX as u64).map(|it| 2 * it..2 * it + 1);
        assert_eq!(presence.groups(1_000), named.collect());
        assert!(encode(&presence).len() <= Presence::BYTES_MAX);
        assert_eq!(Presence::partial(&Ranges::new()), Presence::None);
    }

    #[test]
    fn a_claim_reaches_no_further_than_the_artifact() {
        assert_eq!(Presence::Whole.groups(3), Ranges::from(0..3));
        let presence = Presence::partial(&Ranges::from(1..u64::MAX));
        assert_eq!(presence.groups(3), Ranges::from(1..3));
        assert_eq!(Presence::None.groups(3), Ranges::new());
    }
}
