//! Where the bytes of a stored artifact came from.

use crate::base::{Time, WallTime};
use crate::node::clock::Clock;

/// The source of bytes that a pipeline fetched.
pub const UPSTREAM: &str = "upstream";

/// The source of bytes that were here from an attempt before a restart.
pub const EARLIER: &str = "earlier";

/// Where the bytes of a stored artifact came from.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct OriginRecord {
    /// When the last byte came.
    pub fetched: WallTime,
    /// How long it took. Unit: milliseconds.
    pub millis: u64,
    /// Bytes by source: a node's id, [`UPSTREAM`], or [`EARLIER`].
    pub sources: Vec<(String, u64)>,
}

impl OriginRecord {
    /// The record of something that began to come at `begun` and is here now.
    pub(crate) fn new(clock: &Clock, begun: Time, sources: Vec<(String, u64)>) -> Self {
        let took = clock.now().since(begun).as_millis();
        Self {
            fetched: clock.wall(),
            millis: u64::try_from(took).unwrap_or(u64::MAX),
            sources,
        }
    }
}
