//! Numbers and bytes in texts that are signed: each value has exactly one spelling.

use base64ct::{Base64, Encoding as _};

use crate::base::Sha256;

/// The bytes that `text` spells in padded base64 (RFC 4648, section 4), if it is their one spelling.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let bytes = Base64::decode_vec(text).ok()?;
    (Base64::encode_string(&bytes) == text).then_some(bytes)
}

/// A hash in base64.
pub(crate) fn base64_hash(text: &str) -> Option<Sha256> {
    base64(text)?.try_into().ok().map(Sha256)
}

/// The number that `text` spells in decimal, if it is its one spelling: no sign, no leading zero.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_base64_have_one_spelling() {
        for (text, number) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("01", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
        ] {
            assert_eq!(decimal(text), number, "{text}");
        }
        for (text, bytes) in [
            ("QQ==", Some(vec![b'A'])),
            ("", Some(vec![])),
            ("QR==", None),
            ("QQ", None),
            ("QQ=", None),
            ("QQ==\n", None),
            ("Q Q=", None),
        ] {
            assert_eq!(base64(text), bytes, "{text}");
        }
    }
}
