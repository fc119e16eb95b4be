//! Failures as values inside the library, and as objects for C.

use std::error::Error as StdError;
use std::io;

use kogge::base::DigestError;
use kogge::node::executor::PoolError;
use kogge::node::keys::KeyError;
use kogge::proto::build::{Refusal, SpecError};
use kogge::proto::log::QueryError;
use kogge::store::StoreError;
use kogge::{ConfigError, FetchError, LogError, NodeError, StartError};

use crate::status::kogge_status;

/// Most causes that are kept below a failure; deeper ones are left out.
const CAUSES_MAX: usize = 8;

/// Why a call failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    pub(crate) status: kogge_status,
    pub(crate) message: String,
    /// `errno`, or what a callback of the host returned; 0 if there is none.
    pub(crate) os_code: i32,
    /// JSON object with what a program may want to know; `{}` if nothing.
    pub(crate) detail: String,
    /// Messages of the causes, the nearest first.
    pub(crate) causes: Vec<String>,
}

impl Failure {
    pub(crate) fn new(status: kogge_status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            os_code: 0,
            detail: "{}".into(),
            causes: Vec::new(),
        }
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(kogge_status::InvalidArgument, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(kogge_status::Closed, "the node is closed")
    }

    /// The node has stopped by itself.
    pub(crate) fn stopped(reason: &str) -> Self {
        Self::new(kogge_status::Closed, format!("the node stopped: {reason}"))
    }

    pub(crate) fn timed_out() -> Self {
        Self::new(kogge_status::TimedOut, "the time is up")
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(kogge_status::Cancelled, "the operation was cancelled")
    }

    pub(crate) fn panic() -> Self {
        let message = "a bug in the library; the node goes on, please report what led to it";
        Self::new(kogge_status::Panic, message)
    }

    pub(crate) fn with_detail(mut self, detail: &serde_json::Value) -> Self {
        self.detail = detail.to_string();
        self
    }

    /// A failure of `status` that says what `error` says, with its causes.
    pub(crate) fn of(status: kogge_status, error: &(dyn StdError + 'static)) -> Self {
        let mut this = Self::new(status, error.to_string());
        let mut cause = error.source();
        while let Some(error) = cause.filter(|_| this.causes.len() < CAUSES_MAX) {
            this.causes.push(error.to_string());
            if let Some(error) = error.downcast_ref::<io::Error>() {
                this.os_code = code_of(error).unwrap_or(this.os_code);
            }
            cause = error.source();
        }
        this
    }
}

impl From<io::Error> for Failure {
    /// A failed read or write. What the node wraps into such an error keeps its own status.
    fn from(error: io::Error) -> Self {
        let mut inner: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(error) = inner {
            if let Some(it) = error.downcast_ref::<FetchError>() {
                return it.clone().into();
            }
            if let Some(it) = error.downcast_ref::<StoreError>() {
                return it.clone().into();
            }
            if let Some(it) = error.downcast_ref::<PoolError>() {
                return (*it).into();
            }
            let boxed = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            inner = match boxed {
                Some(it) => Some(it),
                None => error.source(),
            };
        }
        let status = match error.kind() {
            io::ErrorKind::NotFound => kogge_status::NotFound,
            io::ErrorKind::AlreadyExists => kogge_status::Exists,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                kogge_status::Denied
            }
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => kogge_status::Quota,
            io::ErrorKind::InvalidInput => kogge_status::InvalidArgument,
            _ => kogge_status::Io,
        };
        let mut this = Self::of(status, &error);
        this.os_code = code_of(&error).unwrap_or(this.os_code);
        this
    }
}

/// The system's error number, also of an error that was given another kind.
fn code_of(error: &io::Error) -> Option<i32> {
    let inner = || error.get_ref()?.downcast_ref().and_then(code_of);
    error.raw_os_error().or_else(inner)
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Closed => Self::closed(),
            PoolError::Panicked => Self::panic(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let status = store_status(&error);
        let code = match &error {
            StoreError::Io { code, .. } => *code,
            _ => None,
        };
        let mut this = Self::of(status, &error);
        this.os_code = code.unwrap_or(this.os_code);
        this
    }
}

fn store_status(error: &StoreError) -> kogge_status {
    match error {
        StoreError::Locked { .. }
        | StoreError::Busy(_)
        | StoreError::InUse(_)
        | StoreError::Behind { .. } => kogge_status::Busy,
        StoreError::Schema { .. } => kogge_status::Unsupported,
        StoreError::Io { code, .. } if *code == Some(libc::EACCES) => kogge_status::Denied,
        StoreError::Io { .. } => kogge_status::Io,
        StoreError::DiskFull { .. } | StoreError::DatabaseFull | StoreError::Quota { .. } => {
            kogge_status::Quota
        }
        StoreError::Failed { .. } | StoreError::Corrupt { .. } => kogge_status::Corrupt,
        StoreError::Closed => kogge_status::Closed,
        StoreError::NotNext { .. }
        | StoreError::SignedHead { .. }
        | StoreError::TooLarge { .. }
        | StoreError::Incomplete { .. }
        | StoreError::TooBroad(_) => kogge_status::InvalidArgument,
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let status = match &error {
            ConfigError::Unreadable { .. } => kogge_status::Io,
            ConfigError::Syntax { .. } | ConfigError::Value { .. } => kogge_status::InvalidArgument,
        };
        Self::of(status, &error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let status = match error {
            StartError::Config(error) => return error.into(),
            StartError::Store(error) => return error.into(),
            StartError::Keys(KeyError::Exposed(_)) => kogge_status::Denied,
            StartError::Keys(KeyError::Io { .. }) | StartError::Io { .. } => kogge_status::Io,
            StartError::Keys(KeyError::Malformed(_))
            | StartError::State(_)
            | StartError::Index(_) => kogge_status::Corrupt,
            StartError::Genesis(_) | StartError::OtherNetwork(_) => kogge_status::InvalidArgument,
            StartError::NoNetwork(_) => kogge_status::NotFound,
            StartError::Pool(PoolError::Panicked) => kogge_status::Panic,
            // The system refused a thread.
            StartError::Pool(PoolError::Closed) => kogge_status::Io,
        };
        let mut this = Self::of(status, &error);
        if let StartError::Keys(KeyError::Io { error, .. }) | StartError::Io { error, .. } = &error
        {
            this.os_code = error.raw_os_error().unwrap_or(0);
            if error.kind() == io::ErrorKind::PermissionDenied {
                this.status = kogge_status::Denied;
            }
        }
        this
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let status = match &error {
            NodeError::Store(error) => return error.clone().into(),
            NodeError::NotStored(_) => kogge_status::NotFound,
            NodeError::Busy(_) => kogge_status::Busy,
            NodeError::Build(Refusal::Busy | Refusal::TooSoon(_)) => kogge_status::Busy,
            NodeError::Offer(_) | NodeError::Change(_) => kogge_status::InvalidArgument,
            NodeError::Failed(_) | NodeError::Closed => kogge_status::Closed,
            NodeError::Timeout(_) => kogge_status::TimedOut,
        };
        Self::of(status, &error)
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let status = match &error {
            FetchError::Store(error) => return error.clone().into(),
            FetchError::Unknown(_) => kogge_status::NotFound,
            FetchError::NoSource(_) | FetchError::Stalled { .. } => kogge_status::Network,
            FetchError::Hostile(_) => kogge_status::Unverified,
            FetchError::Busy => kogge_status::Busy,
            FetchError::Closed => kogge_status::Closed,
        };
        Self::of(status, &error)
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        let status = match error {
            LogError::Query(error) => return error.into(),
            LogError::Store(error) => return error.into(),
            LogError::NoEntry(_) => kogge_status::NotFound,
            LogError::NotCosigned(_) => kogge_status::Again,
            LogError::Waybill(_) => kogge_status::Quota,
            LogError::Members(_) | LogError::Proof(_) => kogge_status::Corrupt,
        };
        Self::of(status, &error)
    }
}

macro_rules! malformed {
    ($($error:ty),*) => { $(
        impl From<$error> for Failure {
            /// Something the caller wrote is malformed.
            fn from(error: $error) -> Self {
                Self::of(kogge_status::InvalidArgument, &error)
            }
        }
    )* };
}
malformed!(QueryError, SpecError, DigestError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_the_status_and_the_code_of_what_is_inside() {
        let unknown = FetchError::Unknown("x".into());
        let wrapped = io::Error::other(unknown.clone());
        assert_eq!(Failure::from(wrapped), Failure::from(unknown));
        let full = StoreError::DatabaseFull;
        let wrapped = io::Error::other(FetchError::Store(full.clone()));
        assert_eq!(Failure::from(wrapped).status, kogge_status::Quota);
        let twice = io::Error::other(io::Error::other(full));
        assert_eq!(Failure::from(twice).status, kogge_status::Quota);
        let closed = Failure::from(io::Error::other(PoolError::Closed));
        assert_eq!(closed.status, kogge_status::Closed);

        #[derive(Debug, thiserror::Error)]
        #[error("/x: {0}")]
        struct Named(#[source] io::Error);
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        let failure = Failure::from(io::Error::new(denied.kind(), Named(denied)));
        assert_eq!(
            (failure.status, failure.os_code),
            (kogge_status::Denied, libc::EACCES)
        );
        assert!(failure.message.starts_with("/x: "), "{failure:?}");
        assert_eq!(failure.causes.len(), 1);

        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(Failure::from(full).status, kogge_status::Quota);
    }
}
