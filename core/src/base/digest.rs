//! Digests of artifacts and of our own structures.

use std::fmt;
use std::str::FromStr;

use minicbor::bytes::ByteVec;

use crate::base::hex;

/// A text that is not a digest.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DigestError {
    /// The part before the colon names no algorithm we know.
    #[error("unknown digest algorithm in `{0}`; known are blake3, sha256, sha512, sha1, md5")]
    Algorithm(String),
    /// The part after the colon is not lower-case hex of the algorithm's length.
    #[error("`{0}` is not a digest: want `algorithm:` and lower-case hex of its full length")]
    Text(String),
}

macro_rules! bytes_newtype {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, minicbor::Encode, minicbor::Decode,
        )]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; $len]);

        impl $name {
            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Parses lower-case hex of the full length.
            pub fn from_hex(text: &str) -> Option<Self> {
                crate::base::hex::decode_array(text).map(Self)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                crate::base::hex::Hex(&self.0).fmt(f)
            }
        }

        impl std::fmt::Debug for $name {
            /// The first four bytes: enough to tell values apart in a trace.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let head: &[u8] = &self.0;
                write!(f, "{}…", crate::base::hex::Hex(head.get(..4).unwrap_or(head)))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str>>::deserialize(from)?;
                Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("want lower-case hex"))
            }
        }
    };
}
pub(crate) use bytes_newtype;

bytes_newtype!(
    /// A BLAKE3 digest; the address of an artifact.
    Blake3,
    32
);
bytes_newtype!(
    /// A SHA-256 digest.
    Sha256,
    32
);

impl Blake3 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(
            sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), bytes))
                .into(),
        )
    }
}

/// A digest algorithm that package types or their lock files use. The numbers are part of the
/// format of entries and never change.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, minicbor::Encode, minicbor::Decode,
)]
#[cbor(index_only)]
pub enum Algorithm {
    /// BLAKE3, 32 bytes.
    #[n(1)]
    Blake3,
    /// SHA-256, 32 bytes.
    #[n(2)]
    Sha256,
    /// SHA-512, 64 bytes.
    #[n(3)]
    Sha512,
    /// SHA-1, 20 bytes. Only for clients that still ask for it.
    #[n(4)]
    Sha1,
    /// MD5, 16 bytes. Only for clients that still ask for it.
    #[n(5)]
    Md5,
}

impl Algorithm {
    /// Every algorithm, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Blake3,
        Self::Sha256,
        Self::Sha512,
        Self::Sha1,
        Self::Md5,
    ];

    /// The name as written before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Sha1 => "sha1",
            Self::Md5 => "md5",
        }
    }

    /// Length of a digest. Unit: bytes.
    pub const fn bytes_len(self) -> usize {
        match self {
            Self::Blake3 | Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Sha1 => 20,
            Self::Md5 => 16,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A digest with its algorithm; in text `sha256:` and lower-case hex.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Digest {
    #[n(0)]
    algorithm: Algorithm,
    #[n(1)]
    bytes: ByteVec,
}

impl Digest {
    /// A digest, or `None` if `bytes` has not the algorithm's length.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == algorithm.bytes_len()).then(|| Self {
            algorithm,
            bytes: bytes.to_vec().into(),
        })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The bytes; as many as [`Algorithm::bytes_len`] says, unless the value was decoded: see
    /// [`Digest::is_whole`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the length fits the algorithm; decoders of larger structures check it.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() == self.algorithm.bytes_len()
    }

    /// The digest in lower-case hex, without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(&self.bytes)
    }
}

impl From<Blake3> for Digest {
    fn from(digest: Blake3) -> Self {
        Self {
            algorithm: Algorithm::Blake3,
            bytes: digest.0.to_vec().into(),
        }
    }
}

impl From<Sha256> for Digest {
    fn from(digest: Sha256) -> Self {
        Self {
            algorithm: Algorithm::Sha256,
            bytes: digest.0.to_vec().into(),
        }
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, digits) = text
            .split_once(':')
            .ok_or_else(|| DigestError::Text(text.to_owned()))?;
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|it| it.name() == name)
            .ok_or_else(|| DigestError::Algorithm(text.to_owned()))?;
        hex::decode(digits)
            .and_then(|bytes| Self::new(algorithm, &bytes))
            .ok_or_else(|| DigestError::Text(text.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, hex::Hex(&self.bytes))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_its_text() {
        let digest = Digest::from(Sha256::of(b"kogge"));
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn malformed_digests_are_refused() {
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha256:00",
            "md4:00",
            "SHA256:00",
            "sha1:zz",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_decoded_digest_of_the_wrong_length_is_not_whole() {
        let odd = Digest {
            algorithm: Algorithm::Sha256,
            bytes: vec![1, 2].into(),
        };
        let bytes = minicbor::to_vec(&odd).unwrap();
        let decoded: Digest = minicbor::decode(&bytes).unwrap();
        assert!(!decoded.is_whole());
    }
}
