//! Catching up with the log.
