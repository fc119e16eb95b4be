//! Ed25519 keys and signatures.
//!
//! `ed25519-compact` signs. Its own check is *cofactored*: it accepts signatures that Go's and
//! other stock verifiers refuse, so one bad node could poison a checkpoint for them. Every
//! signature is therefore checked *strictly* (cofactorless, no small-order keys), everywhere by
//! the same predicate, so that all nodes agree on what a valid signature is.

use std::fmt;

use zeroize::Zeroizing;

use crate::base::digest::bytes_newtype;

/// A signature that does not stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignatureError {
    /// The public key is not a point of the curve, or has small order.
    #[error("the public key is not usable")]
    Key,
    /// The signature does not fit the key and the message.
    #[error("the signature does not fit")]
    Mismatch,
}

bytes_newtype!(
    /// An ed25519 public key. Any 32 bytes have this type: see [`PublicKey::is_usable`].
    PublicKey,
    32
);
bytes_newtype!(
    /// An ed25519 signature (RFC 8032).
    Signature,
    64
);

impl PublicKey {
    /// Whether the key is a point of the curve whose order is not small.
    pub fn is_usable(&self) -> bool {
        ed25519_dalek::VerifyingKey::from_bytes(&self.0).is_ok_and(|key| !key.is_weak())
    }

    /// Checks `signature` over `message`, strictly (RFC 8032, 5.1.7 without cofactor, canonical
    /// `S`, no small-order `A` or `R`).
    ///
    /// # Errors
    ///
    /// [`SignatureError`] if it does not stand.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        let key =
            ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError::Key)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(message, &signature)
            .map_err(|_| SignatureError::Mismatch)
    }
}

/// An ed25519 secret key. Wiped from memory when dropped; never printed.
#[derive(Clone)]
pub struct SecretKey {
    seed: Zeroizing<[u8; 32]>,
    pair: ed25519_compact::KeyPair,
}

impl SecretKey {
    /// The key that grows from `seed` (RFC 8032, 5.1.5). Seeds from outside go through
    /// [`SecretKey::derive`], which takes any bytes.
    ///
    /// # Panics
    ///
    /// If all bytes are zero, which only a bug brings about.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let pair = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new(seed));
        Self {
            seed: Zeroizing::new(seed),
            pair,
        }
    }

    /// A key for one purpose, grown from the secret `root` by BLAKE3's key derivation; keys of
    /// different purposes are independent. `context` is a constant that names the purpose and is
    /// never reused for another.
    pub fn derive(root: &[u8; 32], context: &str) -> Self {
        Self::from_seed(blake3::derive_key(context, root))
    }

    /// The seed. Unit: bytes.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(*self.pair.pk)
    }

    /// Signs `message`, deterministically.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(*self.pair.sk.sign(message, None))
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut *self.pair.sk);
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({:?})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_fits_only_its_key_and_message() {
        let (alice, bob) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let signature = alice.sign(b"ahoy");
        assert_eq!(alice.public().verify(b"ahoy", &signature), Ok(()));
        assert_eq!(
            alice.public().verify(b"ahoi", &signature),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(
            bob.public().verify(b"ahoy", &signature),
            Err(SignatureError::Mismatch)
        );
    }

    #[test]
    fn small_order_keys_are_not_usable() {
        let identity = {
            let mut bytes = [0; 32];
            bytes[0] = 1;
            PublicKey(bytes)
        };
        assert!(!identity.is_usable());
        assert!(identity.verify(b"", &Signature([0; 64])).is_err());
        assert!(SecretKey::from_seed([1; 32]).public().is_usable());
    }

    #[test]
    fn derived_keys_differ_by_purpose() {
        let [a, b] = ["a", "b"].map(|it| SecretKey::derive(&[0; 32], it).public());
        assert_ne!(a, b);
    }
}
