//! The first exchange on every connection.
