//! The only place of this shell that reads a clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::base::WallTime;

/// Monotonic time.
#[allow(
    clippy::disallowed_methods,
    reason = "the one reader of the monotonic clock in net"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Civil time; 1970 if the system's clock lies before it.
#[allow(
    clippy::disallowed_methods,
    reason = "the one reader of the wall clock in net"
)]
pub(crate) fn wall_now() -> WallTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    WallTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
