//! Byte-rate limits.

pub mod bucket;
pub mod budget;

pub use bucket::{Bucket, Rate};
pub use budget::Budget;
