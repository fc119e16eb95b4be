//! Signed notes (C2SP signed-note) with the two signature types that kogge uses.
//!
//! ```text
//! <text, ends with a newline>
//!
//! — <key name> base64(key id (4) ‖ signature)
//! ```
//!
//! | type | signature | over |
//! |---|---|---|
//! | `0x01` | ed25519 (64) | the text |
//! | `0x04` | seconds since 1970 (8, big-endian) ‖ ed25519 (64) | `cosignature/v1`, the time, the text |

use std::fmt;

use base64ct::{Base64, Encoding as _};

use crate::base::{Signature, WallTime};
use crate::proto::log::text::base64;
use crate::proto::log::vkey::{KeyKind, VerifierKey, is_name};

/// Longest note. Room for 16 post-quantum signatures, which verifiers have to let pass. Unit: bytes.
pub const NOTE_BYTES_MAX: usize = 128 * 1_024;

/// Most lines in a note.
pub const NOTE_LINES_MAX: usize = 256;

/// Most signatures in a note; other implementations stop there too.
pub const NOTE_SIGNATURES_MAX: usize = 100;

/// What a signature line starts with: em dash and space.
const LINE_START: &str = "— ";

/// Latest time in a cosignature (C2SP tlog-cosignature). Unit: seconds since 1970.
const COSIGN_SECS_MAX: u64 = u64::MAX >> 1;

/// Why a note or a verifier key is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoteError {
    /// The note is too long. Unit: bytes.
    #[error("the note has {0} bytes, at most {NOTE_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Too many lines.
    #[error("the note has {0} lines, at most {NOTE_LINES_MAX} are allowed")]
    Lines(usize),
    /// No signature, or too many.
    #[error("the note has {0} signatures, want 1 to {NOTE_SIGNATURES_MAX}")]
    Signatures(usize),
    /// Not the form of a note.
    #[error("the note is malformed: {0}")]
    Malformed(&'static str),
    /// A known key's signature does not stand.
    #[error("the signature of `{0}` does not stand")]
    Signature(String),
}

/// One signature line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NoteSignature {
    name: String,
    id: u32,
    /// Without the key id.
    bytes: Vec<u8>,
}

impl NoteSignature {
    /// The line of the log key `key`, which made `signature` over the text.
    pub fn by_log(key: &VerifierKey, signature: &Signature) -> Self {
        Self {
            name: key.name().to_owned(),
            id: key.id(),
            bytes: signature.as_bytes().to_vec(),
        }
    }

    /// The line of the cosigner key `key`, which made `signature` over the
    /// [`cosignature_message`] with the time `secs`.
    pub fn by_cosigner(key: &VerifierKey, secs: u64, signature: &Signature) -> Self {
        Self {
            name: key.name().to_owned(),
            id: key.id(),
            bytes: [&secs.to_be_bytes()[..], signature.as_bytes()].concat(),
        }
    }

    /// The name of the key that is said to have signed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the line claims to be by `key`.
    fn is_by(&self, key: &VerifierKey) -> bool {
        self.id == key.id() && self.name == key.name()
    }

    /// Checks the signature by `key` over `text`, strictly; tells the time that a cosigner signed.
    ///
    /// # Errors
    ///
    /// [`NoteError::Signature`] if it does not stand.
    fn verify(&self, key: &VerifierKey, text: &str) -> Result<Option<WallTime>, NoteError> {
        let refused = || NoteError::Signature(self.name.clone());
        let (time, signature, message) = match key.kind() {
            KeyKind::Log => (None, &self.bytes[..], text.as_bytes().to_vec()),
            KeyKind::Cosigner => {
                let (secs, signature) = self.bytes.split_first_chunk().ok_or_else(refused)?;
                let secs = u64::from_be_bytes(*secs);
                let message = cosignature_message(secs, text).ok_or_else(refused)?;
                let time = WallTime::from_millis(secs.saturating_mul(1_000));
                (Some(time), signature, message)
            }
        };
        let signature = Signature(signature.try_into().map_err(|_| refused())?);
        let checked = key.key().verify(&message, &signature);
        checked.map_err(|_| refused())?;
        Ok(time)
    }

    fn parse(line: &str) -> Option<Self> {
        let (name, signature) = line.strip_prefix(LINE_START)?.split_once(' ')?;
        let bytes = base64(signature)?;
        let (id, signature) = bytes.split_first_chunk()?;
        (is_name(name) && !signature.is_empty()).then(|| Self {
            name: name.to_owned(),
            id: u32::from_be_bytes(*id),
            bytes: signature.to_vec(),
        })
    }
}

impl fmt::Display for NoteSignature {
    /// The line with its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id.to_be_bytes()[..], &self.bytes].concat();
        let signature = Base64::encode_string(&bytes);
        writeln!(f, "{LINE_START}{} {signature}", self.name)
    }
}

/// What a cosigner signs: the text with the time of the statement, in seconds since 1970; `None`
/// if the format has no room for that time.
pub fn cosignature_message(secs: u64, text: &str) -> Option<Vec<u8>> {
    (secs <= COSIGN_SECS_MAX).then(|| format!("cosignature/v1\ntime {secs}\n{text}").into_bytes())
}

/// A known key's signature that stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Signed<'a> {
    /// The key.
    pub key: &'a VerifierKey,
    /// When the key signed, if it is a cosigner's. Unit: whole seconds.
    pub time: Option<WallTime>,
}

/// A text with signature lines that nobody has checked yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// A note, to be printed. The caller passes a text that ends with a newline, and 1 to
    /// [`NOTE_SIGNATURES_MAX`] signatures.
    pub fn new(text: impl Into<String>, signatures: Vec<NoteSignature>) -> Self {
        Self {
            text: text.into(),
            signatures,
        }
    }

    /// Reads a note.
    ///
    /// # Errors
    ///
    /// [`NoteError`] if it breaks a limit or has not the form of a note.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if NOTE_BYTES_MAX < note.len() {
            return Err(NoteError::TooLong(note.len()));
        }
        let lines = note.bytes().filter(|it| *it == b'\n').count();
        if NOTE_LINES_MAX < lines {
            return Err(NoteError::Lines(lines));
        }
        if note.bytes().any(|it| it < b' ' && it != b'\n') {
            return Err(NoteError::Malformed("it contains control characters"));
        }
        // The text may contain empty lines: the last one separates it from the signatures.
        let at = note
            .rfind("\n\n")
            .ok_or(NoteError::Malformed("no empty line before the signatures"))?;
        let (text, signatures) = note.split_at(at + 1);
        let lines = signatures
            .strip_prefix('\n')
            .and_then(|it| it.strip_suffix('\n'))
            .ok_or(NoteError::Malformed("the last line has no end"))?;
        let count = lines.split('\n').count();
        if NOTE_SIGNATURES_MAX < count {
            return Err(NoteError::Signatures(count));
        }
        let signatures = lines
            .split('\n')
            .map(NoteSignature::parse)
            .collect::<Option<_>>()
            .ok_or(NoteError::Malformed("a signature line is not readable"))?;
        Ok(Self::new(text, signatures))
    }

    /// The signed text. Ignore it until [`Note::open`] has found the signatures you need.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks every signature that claims to be by one of `keys`, and returns those, each key at
    /// most once: its first line counts. Lines of other keys are ignored.
    ///
    /// # Errors
    ///
    /// [`NoteError::Signature`] if one of those does not stand: then the whole note is refused, as
    /// other implementations do.
    pub fn open<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a VerifierKey>,
    ) -> Result<Vec<Signed<'a>>, NoteError> {
        let mut signed = Vec::new();
        for key in keys {
            if let Some(line) = self.signatures.iter().find(|it| it.is_by(key)) {
                let time = line.verify(key, &self.text)?;
                signed.push(Signed { key, time });
            }
        }
        Ok(signed)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|it| it.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use curve25519_dalek::scalar::{Scalar, clamp_integer};
    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::*;
    use crate::base::{SecretKey, hex};

    const TEXT: &str = "origin\n7\nroot\n";

    fn alice() -> (SecretKey, VerifierKey) {
        let secret = SecretKey::from_seed([1; 32]);
        let key = VerifierKey::new("alice.example", KeyKind::Log, secret.public());
        (secret, key)
    }

    fn bob() -> (SecretKey, VerifierKey) {
        let secret = SecretKey::from_seed([2; 32]);
        let key = VerifierKey::new("bob.example", KeyKind::Cosigner, secret.public());
        (secret, key)
    }

    fn signed_note() -> Note {
        let ((alice, alice_key), (bob, bob_key)) = (alice(), bob());
        let cosigned = bob.sign(&cosignature_message(1_790_000_000, TEXT).unwrap());
        let lines = vec![
            NoteSignature::by_log(&alice_key, &alice.sign(TEXT.as_bytes())),
            NoteSignature::by_cosigner(&bob_key, 1_790_000_000, &cosigned),
        ];
        Note::new(TEXT, lines)
    }

    #[test]
    fn the_examples_of_the_specification_stand() {
        let key: VerifierKey =
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
                .parse()
                .unwrap();
        let note = Note::parse(
            "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXp\
             pzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n",
        )
        .unwrap();
        let expected = Signed {
            key: &key,
            time: None,
        };
        assert_eq!(note.open([&key]), Ok(vec![expected]));
        assert_eq!(note.text(), "This is an example message.\n");
    }

    #[test]
    fn a_note_survives_its_text_and_opens_with_its_keys() {
        let ((_, alice), (_, bob)) = (alice(), bob());
        let note = Note::parse(&signed_note().to_string()).unwrap();
        assert_eq!(note, signed_note());
        let (log, cosigned) = (
            Signed {
                key: &alice,
                time: None,
            },
            Signed {
                key: &bob,
                time: Some(WallTime::from_millis(1_790_000_000_000)),
            },
        );
        assert_eq!(note.open([&alice, &bob]), Ok(vec![log, cosigned]));
        assert_eq!(note.open([&bob]), Ok(vec![cosigned]));
        assert_eq!(note.open([]), Ok(vec![]));
    }

    #[test]
    fn a_known_keys_bad_signature_refuses_the_note() {
        let ((_, alice), (_, bob)) = (alice(), bob());
        let refused = |it: &VerifierKey| Err(NoteError::Signature(it.name().to_owned()));
        let mut changed = signed_note();
        changed.text = TEXT.replace('7', "8");
        assert_eq!(changed.open([&alice]), refused(&alice));
        assert_eq!(changed.open([&bob]), refused(&bob));

        let mut later = signed_note();
        later.signatures[1].bytes[7] += 1;
        assert_eq!(later.open([&alice, &bob]), refused(&bob));
        assert_eq!(later.open([&alice]).map(|it| it.len()), Ok(1));

        for bytes in [vec![], vec![0; 8], vec![0; 71], vec![0xff; 72], vec![0; 73]] {
            let mut short = signed_note();
            short
                .signatures
                .iter_mut()
                .for_each(|it| it.bytes = bytes.clone());
            assert_eq!(short.open([&alice]), refused(&alice), "{bytes:?}");
            assert_eq!(short.open([&bob]), refused(&bob), "{bytes:?}");
        }
    }

    #[test]
    fn a_line_with_a_known_name_and_another_id_is_ignored() {
        let (_, alice) = alice();
        let other = VerifierKey::new(alice.name(), KeyKind::Log, bob().0.public());
        assert_ne!(alice.id(), other.id());
        assert_eq!(signed_note().open([&other]), Ok(vec![]));
    }

    #[test]
    fn only_the_first_line_of_a_key_counts() {
        let (_, alice) = alice();
        let mut note = signed_note();
        let mut bad = note.signatures[0].clone();
        bad.bytes[0] ^= 1;
        note.signatures.push(bad.clone());
        assert_eq!(note.open([&alice]).map(|it| it.len()), Ok(1));
        note.signatures.insert(0, bad);
        assert!(note.open([&alice]).is_err());
    }

    /// `R = rB + T` and `S = r + ka` with a point `T` of order 8: the check with cofactor
    /// multiplies `T` away.
    fn signature_with_torsion(secret: &SecretKey, message: &[u8]) -> Signature {
        let hashed = sha2::Sha512::digest(secret.seed());
        let a = Scalar::from_bytes_mod_order(clamp_integer(*hashed.first_chunk().unwrap()));
        let r = Scalar::from_bytes_mod_order([7; 32]);
        let point = (ED25519_BASEPOINT_POINT * r + EIGHT_TORSION[1])
            .compress()
            .to_bytes();
        let hash = sha2::Sha512::new()
            .chain_update(point)
            .chain_update(secret.public().as_bytes())
            .chain_update(message)
            .finalize();
        let k = Scalar::from_bytes_mod_order_wide(&hash.into());
        let bytes = [point, (r + k * a).to_bytes()].concat();
        Signature(bytes.try_into().unwrap())
    }

    #[test]
    fn a_signature_that_only_stands_with_cofactor_is_refused() {
        let ((alice, alice_key), (bob, bob_key)) = (alice(), bob());
        let cofactored = signature_with_torsion(&alice, TEXT.as_bytes());
        // Kept as a vector: other checkers must refuse it too.
        assert_eq!(
            hex::encode(cofactored.as_bytes()),
            "5e3c61e750df5f4b2c2d91c167ef3f6c5636c71b5cdc5e117920f6b9c33d9780\
             6ee9d66267b2004e807808cec38bff8c1eb16266df943b9d9281011830221400"
        );
        let other_check = ed25519_compact::PublicKey::new(alice.public().0)
            .verify(TEXT, &ed25519_compact::Signature::new(cofactored.0));
        assert!(other_check.is_ok(), "the vector shows nothing");

        let line = NoteSignature::by_log(&alice_key, &cofactored);
        let refused = Err(NoteError::Signature(alice_key.name().to_owned()));
        assert_eq!(line.verify(&alice_key, TEXT), refused);

        let message = cosignature_message(9, TEXT).unwrap();
        let line = NoteSignature::by_cosigner(&bob_key, 9, &signature_with_torsion(&bob, &message));
        assert!(line.verify(&bob_key, TEXT).is_err());
    }

    #[test]
    fn malformed_notes_are_refused() {
        let good = signed_note().to_string();
        let line = signed_note().signatures[0].to_string();
        let many = |count| format!("{TEXT}\n{}", line.repeat(count));
        assert!(Note::parse(&many(NOTE_SIGNATURES_MAX)).is_ok());
        assert_eq!(
            Note::parse(&many(NOTE_SIGNATURES_MAX + 1)),
            Err(NoteError::Signatures(NOTE_SIGNATURES_MAX + 1))
        );
        let lines = "a\n".repeat(NOTE_LINES_MAX);
        assert_eq!(
            Note::parse(&format!("{lines}\n{line}")),
            Err(NoteError::Lines(NOTE_LINES_MAX + 2))
        );
        let long = "a".repeat(NOTE_BYTES_MAX);
        assert!(matches!(
            Note::parse(&format!("{long}\n\n{line}")),
            Err(NoteError::TooLong(_))
        ));
        for bad in [
            String::new(),
            "\n\n".into(),
            TEXT.into(),
            format!("{TEXT}\n"),
            good.replace("— ", "- "),
            good.replace("— ", "—\u{a0}"),
            good.replace("alice.example", "alice+example"),
            good.replace("alice.example", "alice\u{2003}example"),
            good.replace("alice.example", ""),
            good.replace('7', "\t"),
            good.replace('7', "\r"),
            good.trim_end().into(),
            format!("{good}\n"),
            format!("{good}x\n"),
            format!("{TEXT}\n— alice.example AAAAAA==\n"),
            format!("{TEXT}\n— alice.example AAAAAAB=\n"),
            format!("{TEXT}\n— alice.example !\n"),
        ] {
            assert!(
                matches!(Note::parse(&bad), Err(NoteError::Malformed(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_text_with_empty_lines_is_whole() {
        let line = signed_note().signatures[0].to_string();
        let note = Note::parse(&format!("a\n\nb\n\n{line}")).unwrap();
        assert_eq!(note.text(), "a\n\nb\n");
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[a\n— +=A]{0,60}") {
            if let Ok(note) = Note::parse(&text) {
                prop_assert_eq!(note.to_string(), text);
            }
        }
    }
}
