//! The kogge program: the daemon and the command line that talks to it.

mod bench;
mod client;
mod commands;
mod failure;
mod files;
mod output;
mod place;
mod progress;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use async_executor::Executor;
use clap::{Args, Parser};
use kogge::node::clock::Clock;

use crate::client::{Address, Client};
use crate::commands::Command;
use crate::failure::Failure;
use crate::output::Output;
use crate::place::Place;

/// Runs connections beside the command.
static EXECUTOR: Executor<'static> = Executor::new();

/// Runs `task` beside the command, until the program ends.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    EXECUTOR.spawn(task).detach();
}

/// Find, verify and share software artifacts against a transparency log.
#[derive(Debug, Parser)]
#[command(name = "kogge", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args, Debug)]
struct Global {
    /// Where the node keeps everything [default: $KOGGE_DATA_DIR, else ~/.local/share/kogge]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file [default: kogge.toml in the data directory, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the result as one JSON document
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but the result and errors
    #[arg(long, short, global = true)]
    quiet: bool,
}

/// What commands work with.
pub(crate) struct Session {
    /// The data directory and its configuration.
    pub(crate) place: Place,
    /// Where results go.
    pub(crate) output: Output,
    /// The clock.
    pub(crate) clock: Clock,
}

impl Session {
    /// A client of the daemon of this data directory.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the path of the socket is too long.
    pub(crate) fn daemon(&self) -> Result<Client, Failure> {
        Ok(Client::new(Address::Socket(self.place.socket()?)))
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.clock.wall().as_millis()
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.global.json, cli.global.quiet);
    let done = Place::find(cli.global.data_dir, cli.global.config).and_then(|place| {
        let session = Session {
            place,
            output,
            clock: Clock::start(),
        };
        async_io::block_on(EXECUTOR.run(commands::run(&session, cli.command)))
    });
    match done {
        Ok(code) => code,
        Err(failure) => {
            output.fail(&failure);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        for line in [
            "kogge --json status",
            "kogge status --json",
            "kogge log list --json --quiet --data-dir /x",
            "kogge fetch pkg:maven/g/a@1 -o x --json",
            "kogge build docker library/alpine:3.20 --platform linux/amd64 --no-wait --json",
        ] {
            let cli = Cli::try_parse_from(line.split(' '));
            assert!(cli.unwrap_or_else(|it| panic!("{line}: {it}")).global.json);
        }
    }
}
