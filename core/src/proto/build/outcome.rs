//! What an authorized node says about a build: how far it is, what it got, why it got nothing.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::base::digest::bytes_newtype;
use crate::base::{Sha256, Subject};
use crate::proto::build::message::MessageError;
use crate::proto::log::entry::{AddArtifact, FILE_BYTES_MAX};

/// Most files that a report lists; the others are left out, which only makes the explanation of a
/// disagreement poorer.
pub const FILES_MAX: usize = 256;

/// Most bytes of file names that a report lists. Unit: bytes.
pub const FILES_BYTES_MAX: usize = 32 * 1_024;

/// Longest explanation of a failure; longer ones are cut. Unit: bytes.
pub const FAILURE_BYTES_MAX: usize = 512;

bytes_newtype!(
    /// The first bytes of a SHA-256, enough to tell two results apart for people.
    ShortDigest,
    8
);

/// What an authorized node says about a build.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub enum Outcome {
    /// It waits for a free pipeline.
    #[n(0)]
    Queued,
    /// The pipeline runs.
    #[n(1)]
    Started,
    /// The pipeline has moved bytes. Units: bytes; `total` is 0 if unknown.
    #[n(2)]
    Progress {
        /// Moved so far.
        #[n(0)]
        done: u64,
        /// To move.
        #[n(1)]
        total: u64,
    },
    /// It has a result and attests it.
    #[n(3)]
    Attested(#[n(0)] Attested),
    /// All that was asked for was in the log before.
    #[n(4)]
    Present {
        /// Index of a leaf of it.
        #[n(0)]
        index: u64,
    },
    /// It has no result.
    #[n(5)]
    Failed(#[n(0)] Failure),
}

impl Outcome {
    /// Whether nothing follows after it in the same attempt.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Queued | Self::Started | Self::Progress { .. } => false,
            Self::Attested(_) | Self::Present { .. } | Self::Failed(_) => true,
        }
    }

    /// Which of two reports of one attempt says more; equal ranks keep the first.
    pub(crate) const fn rank(&self) -> u8 {
        match self {
            Self::Queued => 0,
            Self::Started => 1,
            Self::Progress { .. } => 2,
            Self::Failed(_) => 3,
            Self::Attested(_) | Self::Present { .. } => 4,
        }
    }

    pub(crate) fn check(&self) -> Result<(), MessageError> {
        let is_clean = |it: &str| !it.chars().any(char::is_control);
        match self {
            Self::Queued | Self::Started | Self::Present { .. } => Ok(()),
            Self::Progress { done, total } if *total != 0 && total < done => {
                Err(MessageError::Field("progress is beyond its end"))
            }
            Self::Progress { .. } => Ok(()),
            Self::Failed(it) if FAILURE_BYTES_MAX < it.text.len() || !is_clean(&it.text) => {
                Err(MessageError::Field("failure text is too long or not clean"))
            }
            Self::Failed(_) => Ok(()),
            Self::Attested(it) => {
                let named = |it: &FileDigest| {
                    !it.file.is_empty() && it.file.len() <= FILE_BYTES_MAX && is_clean(&it.file)
                };
                let sorted = it.files.windows(2).all(|it| it[0].file < it[1].file);
                if FILES_MAX < it.files.len() || !sorted || !it.files.iter().all(named) {
                    return Err(MessageError::Field("files are malformed or too many"));
                }
                Ok(())
            }
        }
    }
}

/// A result, short enough to be compared by everybody.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Attested {
    /// The facts of the package version.
    #[n(0)]
    pub subject: Subject,
    /// What the tag pointed to, if the spec has a tag.
    #[n(1)]
    pub tag: Option<Sha256>,
    /// Files by name, for telling people what differs; see [`FILES_MAX`].
    #[n(2)]
    pub files: Vec<FileDigest>,
}

/// A file of a result.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct FileDigest {
    /// Name of the file inside the package.
    #[n(0)]
    pub file: String,
    /// Start of its SHA-256.
    #[n(1)]
    pub sha256: ShortDigest,
}

impl FileDigest {
    /// As many of `files`, which are sorted by name, as a report lists.
    pub fn list<'a>(files: impl IntoIterator<Item = &'a AddArtifact>) -> Vec<Self> {
        let mut bytes_left = FILES_BYTES_MAX;
        files
            .into_iter()
            .take(FILES_MAX)
            .map_while(|it| {
                bytes_left = bytes_left.checked_sub(it.file.len())?;
                let [a, b, c, d, e, f, g, h, ..] = it.sha256.0;
                Some(Self {
                    file: it.file.clone(),
                    sha256: ShortDigest([a, b, c, d, e, f, g, h]),
                })
            })
            .collect()
    }
}

/// Why a pipeline has no result. The numbers are part of the message format.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Encode, Decode)]
#[cbor(index_only)]
pub enum FailureCode {
    /// The upstream says that there is no such thing.
    #[n(0)]
    NotFound,
    /// The upstream could not be reached, or broke off.
    #[n(1)]
    Unreachable,
    /// What came does not fit the digest the upstream gave.
    #[n(2)]
    Corrupt,
    /// The owner of the node does not allow this upstream, kind or size.
    #[n(3)]
    Refused,
    /// The build itself failed.
    #[n(4)]
    Broken,
    /// The node was at fault: disk, memory, shutdown.
    #[n(5)]
    Internal,
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found upstream",
            Self::Unreachable => "upstream unreachable",
            Self::Corrupt => "upstream sent other bytes than it announced",
            Self::Refused => "refused by the node's owner",
            Self::Broken => "the build failed",
            Self::Internal => "the node failed",
        })
    }
}

/// Why a pipeline has no result. Made by [`Failure::new`].
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Failure {
    /// The kind.
    #[n(0)]
    pub code: FailureCode,
    /// For people; at most [`FAILURE_BYTES_MAX`], without control characters.
    #[n(1)]
    pub text: String,
}

impl Failure {
    /// A failure; `text` is cut at the limit and cleaned.
    pub fn new(code: FailureCode, text: &str) -> Self {
        let mut clean = String::new();
        for it in text.chars() {
            if FAILURE_BYTES_MAX < clean.len() + it.len_utf8() {
                break;
            }
            clean.push(if it.is_control() { ' ' } else { it });
        }
        Self { code, text: clean }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.as_str() {
            "" => write!(f, "{}", self.code),
            text => write!(f, "{} ({text})", self.code),
        }
    }
}
