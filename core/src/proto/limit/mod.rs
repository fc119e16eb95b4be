//! Byte-rate limits.
