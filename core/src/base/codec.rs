//! Deterministic CBOR: one value has exactly one encoding.
//!
//! Source: RFC 8949, section 4.2.1 (core deterministic encoding). Structures derive their codec
//! from minicbor with `#[cbor(array)]`; this module adds what a decoder of foreign bytes needs: a
//! size limit before decoding, no trailing bytes, and no second form of the same value.

use minicbor::{Decode, Decoder, Encode};

/// Why bytes are not an encoded value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CodecError {
    /// More bytes than the type allows. Units: bytes.
    #[error("{bytes} bytes, at most {bytes_max} are allowed")]
    TooLong {
        /// Length of the input.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Not CBOR of the expected shape.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Bytes follow after the value.
    #[error("{0} trailing bytes")]
    Trailing(usize),
    /// The value is encoded in another than the canonical form.
    #[error("not in canonical form")]
    NotCanonical,
    /// The shape is right, but a value inside breaks a rule of its type.
    #[error("{0}")]
    Invalid(&'static str),
}

/// The canonical encoding of `value`.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    // Writing to a vector cannot fail, and our types have no failing encoders.
    minicbor::to_vec(value).unwrap_or_default()
}

/// Decodes a value that fills `bytes` exactly, in canonical form.
///
/// # Errors
///
/// [`CodecError`] if there are more than `bytes_max` bytes, or they are malformed, followed by
/// others, or not canonical.
pub fn decode<'b, T>(bytes: &'b [u8], bytes_max: usize) -> Result<T, CodecError>
where
    T: Decode<'b, ()> + Encode<()>,
{
    if bytes.len() > bytes_max {
        return Err(CodecError::TooLong {
            bytes: bytes.len(),
            bytes_max,
        });
    }
    let mut decoder = minicbor::Decoder::new(bytes);
    let value: T = decoder
        .decode()
        .map_err(|it| CodecError::Malformed(it.to_string()))?;
    let trailing = bytes.len().saturating_sub(decoder.position());
    if trailing != 0 {
        return Err(CodecError::Trailing(trailing));
    }
    if encode(&value) != bytes {
        return Err(CodecError::NotCanonical);
    }
    Ok(value)
}

/// Decodes an array of at most `MAX` items: for lists whose items are longer in memory than on the
/// wire, where a limit on the bytes is none on the memory. For
/// `#[cbor(decode_with = "codec::at_most::<_, _, MAX>")]`.
///
/// # Errors
///
/// A decoding error if there are more items, or one is malformed; nothing is decoded of a list that
/// is too long.
pub fn at_most<'b, C, T, const MAX: usize>(
    d: &mut Decoder<'b>,
    ctx: &mut C,
) -> Result<Vec<T>, minicbor::decode::Error>
where
    T: Decode<'b, C>,
{
    let at = d.position();
    // A list of unknown length is not canonical.
    let count = d.array()?.unwrap_or(u64::MAX);
    if count > MAX as u64 {
        let problem = minicbor::decode::Error::message("a list is too long");
        return Err(problem.at(at));
    }
    (0..count).map(|_| d.decode_with(ctx)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_decoded_up_to_its_limit() {
        #[derive(Debug, PartialEq, Encode, Decode)]
        #[cbor(array)]
        struct Texts(#[cbor(n(0), decode_with = "at_most::<_, _, 2>")] Vec<String>);

        let of = |count| Texts(vec![String::new(); count]);
        for count in 0..=2 {
            assert_eq!(decode(&encode(&of(count)), 64), Ok(of(count)));
        }
        let indefinite = [0x81, 0x9f, 0xff];
        for bytes in [&encode(&of(3))[..], &indefinite] {
            let refused = decode::<Texts>(bytes, 64);
            assert!(
                matches!(refused, Err(CodecError::Malformed(_))),
                "{refused:?}"
            );
        }
    }

    #[derive(Debug, PartialEq, Encode, Decode)]
    #[cbor(array)]
    struct Pair(#[n(0)] u64, #[n(1)] String);

    #[test]
    fn refuses_every_second_form() {
        let good = encode(&Pair(1, "a".into()));
        assert_eq!(decode::<Pair>(&good, 64), Ok(Pair(1, "a".into())));

        let wide_integer = [0x82, 0x18, 0x01, 0x61, b'a'];
        let indefinite = [0x9f, 0x01, 0x61, b'a', 0xff];
        let extra_field = [0x83, 0x01, 0x61, b'a', 0x00];
        for bytes in [&wide_integer[..], &indefinite, &extra_field] {
            assert_eq!(
                decode::<Pair>(bytes, 64),
                Err(CodecError::NotCanonical),
                "{bytes:x?}"
            );
        }
        let mut trailing = good.clone();
        trailing.push(0);
        assert_eq!(decode::<Pair>(&trailing, 64), Err(CodecError::Trailing(1)));
        assert!(matches!(
            decode::<Pair>(&good, 2),
            Err(CodecError::TooLong { .. })
        ));
        assert!(matches!(
            decode::<Pair>(&good[..2], 64),
            Err(CodecError::Malformed(_))
        ));
    }

    #[test]
    fn a_huge_declared_length_costs_nothing() {
        let bytes = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(decode::<Vec<u64>>(&bytes, 64).is_err());
    }
}
