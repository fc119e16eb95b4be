//! Where fetched bytes go, and their digests on the way.

use std::io;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256 as Sha256Hasher, Sha512};

use crate::base::{Algorithm, Blake3, Digest, Sha256};

/// A place for bytes. Blocking; called from worker threads.
pub trait Deposit: Send + Sync {
    /// The blob with this SHA-256, if it is stored already: then it is not fetched again.
    fn has(&self, sha256: &Sha256) -> Option<Stored>;

    /// Opens a place for one blob of about `size_hint` bytes.
    ///
    /// # Errors
    ///
    /// Any [`io::Error`] ends the run as [`PipelineError::Local`].
    ///
    /// [`PipelineError::Local`]: crate::node::pipeline::PipelineError::Local
    fn begin(&self, size_hint: Option<u64>) -> io::Result<Box<dyn DepositWriter>>;
}

/// One blob on its way into a [`Deposit`]. Dropping it without [`finish`](Self::finish) discards
/// the bytes.
pub trait DepositWriter {
    /// Appends `bytes`.
    ///
    /// # Errors
    ///
    /// As for [`Deposit::begin`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Keeps the blob. All announced digests have been compared already.
    ///
    /// # Errors
    ///
    /// As for [`Deposit::begin`].
    fn finish(self: Box<Self>, digests: &Digests) -> io::Result<()>;
}

/// What a deposit knows of a blob by its SHA-256.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stored {
    /// Its address.
    pub blake3: Blake3,
    /// Its length. Unit: bytes.
    pub size: u64,
}

/// The digests of a blob, from one pass over its bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Digests {
    /// Its address.
    pub blake3: Blake3,
    /// Its SHA-256.
    pub sha256: Sha256,
    /// SHA-512, SHA-1 and MD5 if they were asked for; sorted by algorithm.
    pub others: Vec<Digest>,
    /// Its length. Unit: bytes.
    pub size: u64,
}

impl Digests {
    /// The digest by `algorithm`, if it was computed.
    pub fn get(&self, algorithm: Algorithm) -> Option<Digest> {
        match algorithm {
            Algorithm::Blake3 => Some(self.blake3.into()),
            Algorithm::Sha256 => Some(self.sha256.into()),
            Algorithm::Sha512 | Algorithm::Sha1 | Algorithm::Md5 => self
                .others
                .iter()
                .find(|it| it.algorithm() == algorithm)
                .cloned(),
        }
    }
}

/// Computes [`Digests`] as bytes pass by.
pub struct Hasher {
    blake3: blake3::Hasher,
    sha256: Sha256Hasher,
    others: Option<Box<(Sha512, Sha1, Md5)>>,
    size: u64,
}

impl Hasher {
    /// A hasher that has seen nothing. `all` adds the digests that Maven's clients ask for.
    pub fn new(all: bool) -> Self {
        Self {
            blake3: blake3::Hasher::new(),
            sha256: Sha256Hasher::new(),
            others: all.then(Box::default),
            size: 0,
        }
    }

    /// Takes in `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.blake3.update(bytes);
        self.sha256.update(bytes);
        if let Some(others) = &mut self.others {
            others.0.update(bytes);
            others.1.update(bytes);
            others.2.update(bytes);
        }
        self.size = self.size.saturating_add(bytes.len() as u64);
    }

    /// How much it has seen. Unit: bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digests of what it has seen.
    pub fn finish(self) -> Digests {
        let others = self.others.map(|others| {
            let (sha512, sha1, md5) = *others;
            [
                Digest::new(Algorithm::Sha512, &sha512.finalize()),
                Digest::new(Algorithm::Sha1, &sha1.finalize()),
                Digest::new(Algorithm::Md5, &md5.finalize()),
            ]
        });
        Digests {
            blake3: Blake3(*self.blake3.finalize().as_bytes()),
            sha256: Sha256(self.sha256.finalize().into()),
            others: others.into_iter().flatten().flatten().collect(),
            size: self.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_gives_every_digest() {
        let mut hasher = Hasher::new(true);
        hasher.update(b"ko");
        hasher.update(b"gge");
        let digests = hasher.finish();
        let expected = [
            "blake3:".to_owned() + &Blake3::of(b"kogge").to_string(),
            "sha256:".to_owned() + &Sha256::of(b"kogge").to_string(),
        ];
        for (algorithm, expected) in [Algorithm::Blake3, Algorithm::Sha256]
            .into_iter()
            .zip(expected)
        {
            assert_eq!(digests.get(algorithm).unwrap().to_string(), expected);
        }
        let order: Vec<_> = digests.others.iter().map(Digest::algorithm).collect();
        assert_eq!(order, [Algorithm::Sha512, Algorithm::Sha1, Algorithm::Md5]);
        // RFC 1321 and RFC 3174 test suites.
        let empty = Hasher::new(true).finish();
        assert_eq!(
            empty.get(Algorithm::Md5).unwrap().hex(),
            "d41d8cd98f00b204e9800998ecf8427e"
        );
        assert_eq!(
            empty.get(Algorithm::Sha1).unwrap().hex(),
            "da39a3ee5e6b4b0d3255bfef95601890afd80709"
        );
        assert_eq!(Hasher::new(false).finish().get(Algorithm::Md5), None);
    }
}
