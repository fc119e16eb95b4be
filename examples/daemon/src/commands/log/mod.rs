//! `kogge log`: reads the log.

mod export;
mod find;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::Session;
use crate::commands::view::Row;
use crate::failure::Failure;
use crate::files;
use crate::text::{Fields, ago, clean};

/// What to read.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Show the newest entries
    List {
        /// Most entries
        #[arg(long, short = 'n', default_value_t = 20)]
        limit: u64,
        /// Show also seals and attestations
        #[arg(long)]
        all: bool,
    },
    /// Show one entry
    Show {
        /// Its index
        index: u64,
    },
    /// Find entries; all filters that are given must hold
    Find(Box<find::Args>),
    /// Prove that an entry is in the log
    Prove {
        /// Its index
        index: u64,
        /// Write a waybill for offline use instead of showing the proof
        #[arg(long, value_name = "FILE")]
        waybill: Option<PathBuf>,
    },
    /// Write the whole log as lines of JSON, or as a folder of tiles (c2sp.org/tlog-tiles)
    Export(export::Args),
}

/// Reads.
///
/// # Errors
///
/// [`Failure`] if there is no daemon, or the log has no such thing.
pub(crate) async fn run(session: &Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::List { limit, all } => find::list(session, limit, all).await,
        Command::Show { index } => show(session, index).await,
        Command::Find(args) => find::run(session, *args).await,
        Command::Prove {
            index,
            waybill: None,
        } => prove(session, index).await,
        Command::Prove {
            index,
            waybill: Some(path),
        } => {
            let text = session
                .daemon()?
                .text(&format!("/api/log/{index}/waybill"))
                .await?;
            files::write(&path, text.as_bytes())?;
            let told = format!("wrote {}\n", path.display());
            session
                .output
                .show(&json!({"index": index, "path": path}), told)
        }
        Command::Export(args) => export::run(session, args).await,
    }
}

async fn show(session: &Session, index: u64) -> Result<(), Failure> {
    let value: Value = session.daemon()?.get(&format!("/api/log/{index}")).await?;
    let row: Row = serde_json::from_value(value.clone())
        .map_err(|it| Failure::new("version", it.to_string()))?;
    let mut fields = Fields::default();
    let when = ago(row.time, session.now());
    fields.add(
        "entry",
        format!(
            "{}, {}, in block {}, {when}",
            row.index, row.kind, row.height
        ),
    );
    if let Some(by) = row.removed {
        fields.add("", format!("withdrawn by entry {by}"));
    }
    let json = serde_json::to_string_pretty(&row.entry).unwrap_or_default();
    let lines: Vec<String> = json.lines().map(clean).collect();
    session
        .output
        .show(&value, format!("{}{}\n", fields.render(), lines.join("\n")))
}

async fn prove(session: &Session, index: u64) -> Result<(), Failure> {
    let proof: Value = session
        .daemon()?
        .get(&format!("/api/log/{index}/proof"))
        .await?;
    let text = |name: &str| {
        proof[name]
            .as_str()
            .map_or_else(|| proof[name].to_string(), str::to_owned)
    };
    let mut fields = Fields::default();
    fields.add("entry", text("index"));
    fields.add("log size", text("size"));
    fields.add("root", text("root"));
    for (at, hash) in proof["path"].as_array().into_iter().flatten().enumerate() {
        fields.add(
            if at == 0 { "path" } else { "" },
            hash.as_str().unwrap_or_default(),
        );
    }
    session.output.show(&proof, fields.render())
}
