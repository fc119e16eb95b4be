//! Verifier keys (C2SP signed-note, "vkeys"): the named public keys under notes.
//!
//! ```text
//! <key name>+<key id, 8 hex digits>+base64(type (1) ‖ public key (32))
//! key id = first 4 bytes of SHA-256(key name ‖ newline ‖ type ‖ public key)
//! ```

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding as _};

use crate::base::{PublicKey, Sha256, hex};
use crate::proto::log::text::base64;

/// How much of a malformed key an error shows. Unit: characters.
const KEY_SHOWN_MAX: usize = 200;

/// A text that is not a verifier key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a verifier key: want `<name>+<key id>+<base64>` of type 0x01 or 0x04")]
pub struct KeyError(pub String);

/// What a key signs. The numbers are those of C2SP signed-note.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum KeyKind {
    /// Signs the text, as the log.
    Log = 0x01,
    /// Signs the text with the time, as a witness.
    Cosigner = 0x04,
}

/// A public key with its name, as pinned by verifiers ("vkey").
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    id: u32,
    key: PublicKey,
}

impl VerifierKey {
    /// The key `key` under `name`, which is not empty and contains neither blanks nor `+`: the
    /// names of checked members and origins are like that.
    pub fn new(name: impl Into<String>, kind: KeyKind, key: PublicKey) -> Self {
        let name = name.into();
        let mut bytes = Vec::with_capacity(name.len() + 34);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&[b'\n', kind as u8]);
        bytes.extend_from_slice(key.as_bytes());
        let [a, b, c, d, ..] = Sha256::of(&bytes).0;
        let id = u32::from_be_bytes([a, b, c, d]);
        Self {
            name,
            kind,
            id,
            key,
        }
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the key signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Tells keys of one name apart; too short to identify a key.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.kind as u8];
        bytes.extend_from_slice(self.key.as_bytes());
        let key = Base64::encode_string(&bytes);
        write!(f, "{}+{:08x}+{key}", self.name, self.id)
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let parse = || {
            let (name, rest) = text.split_once('+')?;
            let (id, key) = rest.split_once('+')?;
            let (kind, key) = match base64(key)?.split_first()? {
                (0x01, key) => (KeyKind::Log, PublicKey(key.try_into().ok()?)),
                (0x04, key) => (KeyKind::Cosigner, PublicKey(key.try_into().ok()?)),
                _ => return None,
            };
            let it = Self::new(name, kind, key);
            let whole = is_name(name) && hex::decode_array(id)? == it.id.to_be_bytes();
            (whole && key.is_usable()).then_some(it)
        };
        parse().ok_or_else(|| KeyError(text.chars().take(KEY_SHOWN_MAX).collect()))
    }
}

/// Whether a key may have this name.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|it: char| it.is_whitespace() || it == '+')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SecretKey;

    fn key(name: &str, kind: KeyKind, seed: u8) -> VerifierKey {
        VerifierKey::new(name, kind, SecretKey::from_seed([seed; 32]).public())
    }

    #[test]
    fn verifier_keys_survive_their_text_and_no_other_text_is_one() {
        for key in [
            key("alice", KeyKind::Log, 1),
            key("bob", KeyKind::Cosigner, 2),
        ] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        let good = key("alice", KeyKind::Log, 1).to_string();
        let weak = {
            let mut bytes = [0; 32];
            bytes[0] = 1;
            VerifierKey::new("a", KeyKind::Log, PublicKey(bytes))
        };
        for bad in [
            String::new(),
            "+".into(),
            "++".into(),
            good.replace("alice", "eve"),
            good.replace("alice", "a lice"),
            good.replace("+A", "+B"),
            good.to_uppercase(),
            format!("{good}="),
            format!("{good} "),
            weak.to_string(),
        ] {
            assert_eq!(bad.parse::<VerifierKey>(), Err(KeyError(bad.clone())));
        }
    }
}
