//! Checksums of files, for clients that ask for `.sha1` beside every jar.
//!
//! The log holds sha256 always and often the others. What it lacks is computed from the verified
//! bytes, all at once, and kept for a while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use kogge::base::{Algorithm, hex};
use kogge::{Artifact, Blake3};
use sha1::Digest as _;

use crate::body::CHUNK_BYTES;
use crate::problem::{Fault, Problem};
use crate::source::{Found, Source};

/// Files whose computed checksums are remembered; the oldest is forgotten.
const FILES_MAX: usize = 1_024;

/// Largest file whose checksums are computed. Unit: bytes.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// The kinds that Maven clients ask for.
pub(crate) const KINDS: [Algorithm; 4] = [
    Algorithm::Sha1,
    Algorithm::Md5,
    Algorithm::Sha256,
    Algorithm::Sha512,
];

/// Checksums in hex, by kind.
type Sums = BTreeMap<Algorithm, String>;

/// Computed checksums.
#[derive(Default)]
pub(crate) struct Checksums(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    sums: BTreeMap<Blake3, Sums>,
    order: VecDeque<Blake3>,
}

impl Checksums {
    /// The checksum of a file in hex: from the log, else computed before, else computed now.
    ///
    /// # Errors
    ///
    /// [`Problem`] if the bytes cannot be had, or are too many.
    pub(crate) async fn of(
        &self,
        source: &Source,
        found: &Found,
        kind: Algorithm,
    ) -> Result<String, Problem> {
        if let Some(known) = self.known(found, kind) {
            return Ok(known);
        }
        if FILE_BYTES_MAX < found.entry.size {
            let message = format!("the file is too large for a checksum of kind {kind}");
            return Err(Problem::new(Fault::NotFound, message));
        }
        let artifact = source.artifact(found).await?;
        let sums = sum(&artifact)
            .await
            .map_err(|it| Problem::unavailable(format!("cannot read the file: {it}")))?;
        let wanted = sums.get(&kind).cloned();
        self.memory().keep(found.entry.blake3, sums);
        wanted.ok_or_else(|| Problem::new(Fault::NotFound, format!("no {kind} here")))
    }

    /// The checksum if it needs no computing.
    pub(crate) fn known(&self, found: &Found, kind: Algorithm) -> Option<String> {
        let entry = &found.entry;
        if kind == Algorithm::Sha256 {
            return Some(entry.sha256.to_string());
        }
        let logged = entry.digests.iter().find(|it| it.algorithm() == kind);
        logged.map(|it| it.hex()).or_else(|| {
            let memory = self.memory();
            memory.sums.get(&entry.blake3)?.get(&kind).cloned()
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(|it| it.into_inner())
    }
}

impl Memory {
    fn keep(&mut self, file: Blake3, sums: Sums) {
        if self.sums.insert(file, sums).is_some() {
            return;
        }
        self.order.push_back(file);
        if FILES_MAX < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.sums.remove(&oldest);
        }
    }
}

/// The checksum of bytes at hand, in hex.
pub(crate) fn of_bytes(bytes: &[u8], kind: Algorithm) -> Option<String> {
    let mut hashers = Hashers::default();
    hashers.update(bytes);
    hashers.finish().remove(&kind)
}

async fn sum(artifact: &Artifact) -> std::io::Result<Sums> {
    let mut hashers = Hashers::default();
    let mut at = 0;
    while at < artifact.size() {
        let chunk = artifact.read(at, CHUNK_BYTES).await?;
        if chunk.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        hashers.update(&chunk);
        at += chunk.len() as u64;
        // Hashing a chunk takes about a millisecond: let others have a turn.
        futures_lite::future::yield_now().await;
    }
    Ok(hashers.finish())
}

#[derive(Default)]
struct Hashers {
    sha1: sha1::Sha1,
    md5: md5::Md5,
    sha256: sha2::Sha256,
    sha512: sha2::Sha512,
}

impl Hashers {
    fn update(&mut self, bytes: &[u8]) {
        self.sha1.update(bytes);
        self.md5.update(bytes);
        self.sha256.update(bytes);
        self.sha512.update(bytes);
    }

    fn finish(self) -> Sums {
        BTreeMap::from([
            (Algorithm::Sha1, hex::encode(&self.sha1.finalize())),
            (Algorithm::Md5, hex::encode(&self.md5.finalize())),
            (Algorithm::Sha256, hex::encode(&self.sha256.finalize())),
            (Algorithm::Sha512, hex::encode(&self.sha512.finalize())),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_everybody_else() {
        for (kind, expected) in [
            (Algorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Algorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (
                Algorithm::Sha256,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                Algorithm::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
        ] {
            assert_eq!(of_bytes(b"abc", kind).as_deref(), Some(expected), "{kind}");
        }
        assert_eq!(of_bytes(b"abc", Algorithm::Blake3), None);
    }

    #[test]
    fn the_oldest_file_is_forgotten() {
        let mut memory = Memory::default();
        let file = |it: usize| Blake3::of(&it.to_be_bytes());
        for at in (0..=FILES_MAX).chain([FILES_MAX]) {
            memory.keep(file(at), Sums::new());
        }
        assert_eq!(
            (memory.sums.len(), memory.order.len()),
            (FILES_MAX, FILES_MAX)
        );
        assert!(!memory.sums.contains_key(&file(0)));
        assert!(memory.sums.contains_key(&file(FILES_MAX)));
    }
}
