//! Status codes: what every function that can fail returns.

use safer_ffi::prelude::derive_ReprC;

use crate::types::kogge_str;

/// What a call came to. Zero is success. Numbers are never reused; unknown ones may come from a
/// newer library.
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(non_camel_case_types, reason = "the name of the C type")]
pub enum kogge_status {
    /// The call succeeded.
    Ok = 0,
    /// An argument is NULL, out of range, malformed, or not UTF-8.
    InvalidArgument = 1,
    /// A handle is stale, of another kind, or was never given out; or the process is a fork of the
    /// one that made it.
    BadHandle = 2,
    /// The caller was compiled for another major version of the interface.
    AbiMismatch = 3,
    /// The caller asks for something that this version does not know.
    Unsupported = 4,
    /// The call would wait for itself, such as closing a node from its own callback.
    WouldDeadlock = 5,
    /// Not ended yet, or nothing there yet: ask again.
    Again = 6,
    /// Nothing follows.
    End = 7,
    /// The operation was cancelled.
    Cancelled = 10,
    /// The time was up first.
    TimedOut = 11,
    /// The node is closed, is closing, or has stopped by itself.
    Closed = 12,
    /// Too much of this is going on; try again later.
    Busy = 13,
    /// The log, the store, or the node does not have it.
    NotFound = 20,
    /// It is there already.
    Exists = 21,
    /// The owner's configuration or the system does not allow it.
    Denied = 22,
    /// It does not fit: a quota, a limit of the request, or the disk.
    Quota = 23,
    /// Stored data is damaged.
    Corrupt = 30,
    /// Something is not what the log, a signature, or a digest says.
    Unverified = 31,
    /// The file system or the operating system refused; see the error's OS code.
    Io = 40,
    /// No peer or upstream that is reachable has it, or none answers.
    Network = 41,
    /// A callback of the host reported a failure.
    Host = 50,
    /// A bug in the library. The node goes on; the result of this call cannot be relied on.
    Panic = 99,
}

impl kogge_status {
    const ALL: [Self; 22] = [
        Self::Ok,
        Self::InvalidArgument,
        Self::BadHandle,
        Self::AbiMismatch,
        Self::Unsupported,
        Self::WouldDeadlock,
        Self::Again,
        Self::End,
        Self::Cancelled,
        Self::TimedOut,
        Self::Closed,
        Self::Busy,
        Self::NotFound,
        Self::Exists,
        Self::Denied,
        Self::Quota,
        Self::Corrupt,
        Self::Unverified,
        Self::Io,
        Self::Network,
        Self::Host,
        Self::Panic,
    ];

    /// The name without prefix, in lower case with hyphens.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::InvalidArgument => "invalid-argument",
            Self::BadHandle => "bad-handle",
            Self::AbiMismatch => "abi-mismatch",
            Self::Unsupported => "unsupported",
            Self::WouldDeadlock => "would-deadlock",
            Self::Again => "again",
            Self::End => "end",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed-out",
            Self::Closed => "closed",
            Self::Busy => "busy",
            Self::NotFound => "not-found",
            Self::Exists => "exists",
            Self::Denied => "denied",
            Self::Quota => "quota",
            Self::Corrupt => "corrupt",
            Self::Unverified => "unverified",
            Self::Io => "io",
            Self::Network => "network",
            Self::Host => "host",
            Self::Panic => "panic",
        }
    }

    const fn is_retryable(self) -> bool {
        match self {
            Self::Again | Self::TimedOut | Self::Busy | Self::Network => true,
            Self::Ok
            | Self::InvalidArgument
            | Self::BadHandle
            | Self::AbiMismatch
            | Self::Unsupported
            | Self::WouldDeadlock
            | Self::End
            | Self::Cancelled
            | Self::Closed
            | Self::NotFound
            | Self::Exists
            | Self::Denied
            | Self::Quota
            | Self::Corrupt
            | Self::Unverified
            | Self::Io
            | Self::Host
            | Self::Panic => false,
        }
    }

    fn of_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|it| *it as i32 == number)
    }
}

/// The name of a status, such as `not-found`; `unknown` for a number that this version does not
/// know. Static.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_status_get_name(status: i32) -> kogge_str {
    kogge_str::of(kogge_status::of_number(status).map_or("unknown", kogge_status::name))
}

/// Whether the same call may succeed later without anything being mended.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_status_is_retryable(status: i32) -> bool {
    kogge_status::of_number(status).is_some_and(kogge_status::is_retryable)
}
