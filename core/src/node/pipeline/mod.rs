//! Pipelines that get the files of a package: from its upstream now, from source later.
//!
//! A pipeline is blocking code for a worker thread. It is asked with a [`Spec`], puts bytes into a
//! [`Deposit`] while it hashes them, and answers with facts that every authorized node gets alike,
//! so that they can be attested and enter the log.
//!
//! No upstream is named in this program; [`registries`] and [`settings`] read which ones the
//! machine's own Docker, containerd, Podman and Maven use.

pub mod deposit;
pub mod error;
pub mod job;

pub(crate) mod address;
pub mod agent;
pub mod http;
pub mod proxy;
mod reach;
pub mod retry;
pub mod transfer;

pub mod docker;
mod dockerd;
pub mod registries;
mod token;

pub mod install;
pub mod maven;
pub mod settings;
pub mod upstream;

#[cfg(test)]
pub(crate) mod testing;

pub use agent::HttpConfig;
pub use deposit::{Deposit, DepositWriter, Digests, Stored};
pub use docker::Images;
pub use error::PipelineError;
pub use http::Client;
pub use install::MavenPlaces;
pub use job::{
    Cancel, FileFacts, Job, Outcome, Package, Pipeline, Progress, Spec, Step, TagBinding,
};
pub use maven::{Maven, MavenRepository};
pub use proxy::Proxies;
pub use registries::{Registries, RegistryFiles};
pub use settings::default_repositories;
pub use upstream::Upstream;
