//! The commands.

mod authorize;
mod build;
mod config;
mod demo;
mod doctor;
mod fetch;
mod log;
mod network;
mod peers;
mod status;
mod up;
mod verify;
mod view;
mod waybill;
mod why;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Session;
use crate::failure::Failure;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the node in the foreground until Ctrl-C
    Up(Box<up::Args>),
    /// Show how the node stands
    Status,
    /// Show peers, and nodes that were turned away lately
    Peers,
    /// Get an artifact or a whole package, verified against the log
    Fetch(fetch::Args),
    /// Show why the node trusts something: entry, attestations, and where the bytes came from
    Why(why::Args),
    /// Read the log
    #[command(subcommand)]
    Log(log::Command),
    /// Check a file against a waybill, offline
    Verify(verify::Args),
    /// Get the proof that an artifact is in the log, for offline use
    Waybill(waybill::Args),
    /// Ask the authorized nodes to add a package
    #[command(subcommand)]
    Build(build::Command),
    /// Admit and dismiss authorized nodes
    #[command(subcommand)]
    Authorize(authorize::Command),
    /// Make, show and join networks
    #[command(subcommand)]
    Network(network::Command),
    /// Show and check the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Look for what may keep the node from working, and say what to do
    Doctor,
    /// Measure what the network can do on this machine
    Bench(crate::bench::Args),
    /// Run a network of six nodes on this machine and send real artifacts through it
    Demo(demo::Args),
}

/// Does it.
///
/// # Errors
///
/// [`Failure`] as it is told to the user.
pub(crate) async fn run(session: &Session, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Up(args) => up::run(session, *args).await,
        Command::Status => status::run(session).await.map(done),
        Command::Peers => peers::run(session).await.map(done),
        Command::Fetch(args) => fetch::run(session, args).await.map(done),
        Command::Why(args) => why::run(session, args).await.map(done),
        Command::Log(command) => log::run(session, command).await.map(done),
        Command::Verify(args) => verify::run(session, &args),
        Command::Waybill(args) => waybill::run(session, args).await.map(done),
        Command::Build(command) => build::run(session, command).await,
        Command::Authorize(command) => authorize::run(session, command).await.map(done),
        Command::Network(command) => network::run(session, command).await.map(done),
        Command::Config(command) => config::run(session, &command).map(done),
        Command::Doctor => doctor::run(session).await,
        Command::Bench(args) => Ok(crate::bench::run(&args, session.output.json())),
        Command::Demo(args) => demo::run(session, args).await,
    }
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}
