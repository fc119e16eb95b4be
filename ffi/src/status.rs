//! Status codes, and the boundary that no panic crosses.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What every function returns. Zero is success; numbers are never reused.
#[repr(i32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// The call succeeded.
    Ok = 0,
    /// A pointer that must not be NULL is NULL.
    NullArgument = 1,
    /// A bug inside the library; the call had no effect that can be relied on.
    Internal = 2,
}

/// Runs `call`; a panic becomes [`Status::Internal`].
pub(crate) fn guard(call: impl FnOnce() -> Status) -> Status {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(Status::Internal)
}
