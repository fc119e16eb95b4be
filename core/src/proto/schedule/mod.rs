//! Which source is asked for which range: for groups of an artifact and for heights of blocks.

pub mod ranges;

pub use ranges::Ranges;
