//! The log of the daemon on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// What is logged unless `RUST_LOG` says otherwise. A node without peers is no news to its owner,
/// nor is what hostile peers send: `kogge peers` tells of those.
const FILTER_DEFAULT: &str =
    "warn,kogge=info,kogge_http=info,libp2p_kad=error,libp2p_gossipsub=error";

/// The form of lines.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(crate) enum LogForm {
    /// For people.
    #[default]
    Text,
    /// One JSON document a line.
    Json,
}

/// Starts to write the log.
///
/// # Errors
///
/// [`Failure`] if `RUST_LOG` is malformed.
pub(crate) fn start(form: LogForm) -> Result<(), Failure> {
    let given = std::env::var("RUST_LOG").ok().filter(|it| !it.is_empty());
    let text = given.as_deref().unwrap_or(FILTER_DEFAULT);
    let filter = EnvFilter::try_new(text)
        .map_err(|it| Failure::input(format!("RUST_LOG: `{text}` is not a filter: {it}")))?;
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && !no_color)
        .with_writer(std::io::stderr);
    match form {
        LogForm::Text => builder.with_target(false).init(),
        LogForm::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
