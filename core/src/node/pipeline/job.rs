//! What a pipeline is asked for, and what it gives back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::base::{Blake3, Digest, NodeId, Sha256, WallTime};
use crate::node::pipeline::deposit::{Deposit, Digests};
use crate::node::pipeline::error::PipelineError;
use crate::proto::log::{AddArtifact, Source};
use crate::proto::package::{Coordinates, ImageReference, Platform, Purl, Variant};

/// How often a waiting thread looks whether it was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(25);

/// Gets the files of a package. Blocking: a run takes a worker thread for as long as it lasts.
///
/// Authorized nodes attest only *equal* facts, so an outcome depends on nothing but the spec and
/// what is published: not on the mirror a node uses, on the time, or on what it has stored.
pub trait Pipeline: Send + Sync {
    /// Gets what `spec` asks for into the deposit of `job`.
    ///
    /// # Errors
    ///
    /// [`PipelineError`]. Files that were complete by then stay in the deposit.
    fn run(&self, spec: &Spec, job: &Job<'_>) -> Result<Outcome, PipelineError>;
}

/// What to get.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Spec {
    /// An image.
    Image {
        /// By tag or digest.
        reference: ImageReference,
        /// Which platforms of an index; empty means all of them.
        platforms: Vec<Platform>,
    },
    /// A released version of a Maven artifact.
    Maven {
        /// The URL of the repository; the first that has it if `None`.
        repository: Option<String>,
        /// Which.
        coordinates: Coordinates,
        /// Files beyond those that every version has; they must exist.
        extras: Vec<Variant>,
    },
}

/// The surroundings of a run.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Where bytes go.
    pub deposit: &'a dyn Deposit,
    /// Who hears how it goes.
    pub progress: &'a dyn Progress,
    /// Ends the run early.
    pub cancel: &'a Cancel,
}

/// Hears how a run goes; called often and must not block.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn report(&self, step: Step<'_>);
}

/// One step of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step<'a> {
    /// A file is being fetched.
    Started {
        /// Its name in the package.
        file: &'a str,
        /// Its length, if it is known. Unit: bytes.
        size: Option<u64>,
    },
    /// More bytes of that file came in.
    Received {
        /// How many.
        bytes: u64,
    },
    /// The connection broke and the file starts again from its first byte.
    Restarted,
    /// The file is in the deposit.
    Stored {
        /// Its name in the package.
        file: &'a str,
    },
    /// Something the user should know, such as a file that was left out.
    Note(&'a str),
}

/// Ends a run early. Clones share one flag.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag: the run ends at its next chunk or wait.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Fails if the flag is raised.
    pub(crate) fn check(&self) -> Result<(), PipelineError> {
        if self.0.load(Ordering::Relaxed) {
            Err(PipelineError::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Waits, unless the flag is raised before or meanwhile.
    pub(crate) fn sleep(&self, mut duration: Duration) -> Result<(), PipelineError> {
        while !duration.is_zero() {
            self.check()?;
            let nap = duration.min(CANCEL_POLL);
            std::thread::sleep(nap);
            duration -= nap;
        }
        self.check()
    }
}

/// What a run got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// The packages, each complete: what was asked for first, then what it consists of.
    pub packages: Vec<Package>,
    /// What the tag pointed to, if one was asked for.
    pub tag: Option<TagBinding>,
    /// What the user should know, such as files that were left out.
    pub notes: Vec<String>,
}

/// A package version with all of its files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Package {
    /// Its name.
    pub purl: Purl,
    /// The facts of its files, sorted by file name: the order in which they are attested.
    pub files: Vec<FileFacts>,
}

/// What a tag pointed to; with builder and time it is a
/// [`BindTag`](crate::proto::log::BindTag).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TagBinding {
    /// The registry's label.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The digest.
    pub digest: Sha256,
}

/// The facts of a file: an [`AddArtifact`] before anybody submitted it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileFacts {
    /// The package it belongs to.
    pub purl: Purl,
    /// Its name in the package.
    pub file: String,
    /// Its address.
    pub blake3: Blake3,
    /// Its SHA-256.
    pub sha256: Sha256,
    /// Further digests that clients of the type use, sorted by algorithm.
    pub digests: Vec<Digest>,
    /// Its length. Unit: bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// Where it came from.
    pub source: Source,
    /// Digest of the package's dependency list, if it has one.
    pub dependencies: Option<Blake3>,
}

impl FileFacts {
    /// The facts of the file `file` of the package `purl`, without dependencies.
    pub(crate) fn new(
        purl: &Purl,
        file: String,
        digests: Digests,
        media_type: &str,
        source: &str,
    ) -> Self {
        Self {
            purl: purl.clone(),
            file,
            blake3: digests.blake3,
            sha256: digests.sha256,
            digests: digests.others,
            size: digests.size,
            media_type: media_type.to_owned(),
            source: Source::fetched(source),
            dependencies: None,
        }
    }

    /// The log entry that `builder` submits at `time`.
    pub fn into_entry(self, builder: NodeId, time: WallTime) -> AddArtifact {
        AddArtifact {
            purl: self.purl.to_string(),
            file: self.file,
            blake3: self.blake3,
            sha256: self.sha256,
            digests: self.digests,
            size: self.size,
            media_type: self.media_type,
            source: self.source,
            dependencies: self.dependencies,
            builder,
            publication: None,
            time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_flag_ends_a_wait_at_once() {
        let cancel = Cancel::new();
        assert_eq!(cancel.sleep(Duration::from_millis(1)), Ok(()));
        cancel.clone().cancel();
        assert_eq!(cancel.sleep(Duration::MAX), Err(PipelineError::Cancelled));
    }
}
