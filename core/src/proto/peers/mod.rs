//! Whom we know, what we think of them, and whom to dial when.
//!
//! One address [`Book`], one score and ban list for all protocols ([`Scores`]), and the [`Dialer`],
//! which keeps the wanted connections up.

pub mod address;
pub mod backoff;
pub mod book;
pub mod dial;
pub mod event;
pub mod fetch;
pub mod score;

#[cfg(test)]
mod tests;

pub use address::{ADDRESS_BYTES_MAX, is_address, is_public, is_public_ip};
pub use book::{BOOK_BYTES_MAX, Book, Source};
pub use dial::{Config, Dialer};
pub use event::{Effect, Input, Seed};
pub use score::{Ban, Scores};
