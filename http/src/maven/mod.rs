//! A Maven repository of what is in the log, read-only.
//!
//! Maven remembers a 404 for a day, so it is given only when it is sure; otherwise 503. Snapshots
//! move and are not in the log.

mod checksum;
mod serve;

pub(crate) use checksum::Checksums;
pub(crate) use serve::serve;
