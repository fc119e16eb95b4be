//! Who stands in the DHT as a holder of a package: about a hundred of them, however many there are.
//!
//! A node and a key have a *score*, the same for everybody. A server of the DHT keeps the records of
//! the lowest scores under a key ([`Ledger`]); a holder that looks, before it announces itself, at a
//! few answers of servers sees whether it would be among them ([`Seen`]). So a holder that was once
//! left out stays left out while nobody leaves, and nobody has to remember anything.
//!
//! An attacker can make up a hundred identities of low scores and fill a key with them. That costs a
//! package its holders in the DHT, which is the last place that is asked: the members that attested
//! it and the connected peers come first. Servers that lie silence a holder when three of them answer
//! it; one alone does not.

pub mod ledger;
pub mod standing;

pub use ledger::Ledger;
pub use standing::{Seen, Standing, score};
