//! `kogge bench`: what the network can do on this machine, beside what it must.
//!
//! [`mod@run`] measures one item after the other: [`transfer`] moves artifacts, [`agree`] commits
//! entries, [`ledger`] reads the log, [`idle`] waits. Nodes are children of the same program
//! ([`child`]), which [`fleet`] starts and asks; [`facts`] makes entries, [`history`] a long log.

mod agree;
mod child;
mod facts;
mod figure;
mod fleet;
mod history;
mod idle;
mod ledger;
mod orders;
mod others;
mod process;
mod relay;
mod run;
mod transfer;
mod upstream;

pub(crate) use run::{Args, run};
