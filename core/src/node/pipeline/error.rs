//! Why a package could not be fetched.

use std::io;
use std::time::Duration;

/// Why a pipeline gave up. Each variant has one stable [code](PipelineError::code).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PipelineError {
    /// The upstream says that it does not have it.
    #[error("{what} does not exist upstream: {url}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// Where, without credentials and query.
        url: String,
    },
    /// The upstream wants to know who asks.
    #[error(
        "{url} is not public ({status}): only what anybody may fetch can enter the log; \
         check the name, private repositories also answer so for names that do not exist"
    )]
    Unauthorized {
        /// Where, without credentials and query.
        url: String,
        /// The HTTP status, 401 or 403.
        status: u16,
    },
    /// The upstream answers too many requests already.
    #[error("{url} is rate limited; try again in {} s", retry_after.as_secs())]
    RateLimited {
        /// Where, without credentials and query.
        url: String,
        /// When to try again, counted from now.
        retry_after: Duration,
    },
    /// The bytes are not the ones that were announced.
    #[error("{what} is not what was announced: expected {expected}, got {got}; try again later")]
    DigestMismatch {
        /// What was fetched.
        what: String,
        /// The announced digest or size.
        expected: String,
        /// That of the bytes.
        got: String,
    },
    /// More bytes, or more files, than allowed.
    #[error("{what} is too large: at most {max} are allowed")]
    TooLarge {
        /// What was fetched.
        what: String,
        /// The limit; unit: bytes, or files of an image.
        max: u64,
    },
    /// Well understood, but not done.
    #[error("{0}")]
    Unsupported(String),
    /// The upstream's answer makes no sense.
    #[error("{what} is not readable: {problem}")]
    Malformed {
        /// What was fetched.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// The upstream was not reached, or failed, as often as it was tried.
    #[error("{method} {url} failed: {problem}; check the network and the upstream, then try again")]
    Network {
        /// The HTTP method.
        method: &'static str,
        /// Where, without credentials and query.
        url: String,
        /// What happened last.
        problem: String,
    },
    /// The caller changed its mind.
    #[error("cancelled")]
    Cancelled,
    /// This machine could not store the bytes.
    #[error("could not store the bytes: {0}")]
    Local(String),
    /// It is not known where to fetch from, or the configuration cannot be used.
    #[error("{0}")]
    Setup(String),
}

impl PipelineError {
    /// A stable name for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not-found",
            Self::Unauthorized { .. } => "unauthorized",
            Self::RateLimited { .. } => "rate-limited",
            Self::DigestMismatch { .. } => "digest-mismatch",
            Self::TooLarge { .. } => "too-large",
            Self::Unsupported(_) => "unsupported",
            Self::Malformed { .. } => "malformed",
            Self::Network { .. } => "network",
            Self::Cancelled => "cancelled",
            Self::Local(_) => "local",
            Self::Setup(_) => "setup",
        }
    }

    /// Whether the same request may well succeed later without anybody changing anything.
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::DigestMismatch { .. } | Self::Network { .. } => true,
            Self::NotFound { .. }
            | Self::Unauthorized { .. }
            | Self::TooLarge { .. }
            | Self::Unsupported(_)
            | Self::Malformed { .. }
            | Self::Cancelled
            | Self::Local(_)
            | Self::Setup(_) => false,
        }
    }
}

/// A failure of a [`Deposit`](crate::node::pipeline::Deposit), which is on this machine.
impl From<io::Error> for PipelineError {
    fn from(error: io::Error) -> Self {
        Self::Local(error.to_string())
    }
}
