//! The command line of the bench: which items, where, and how the result is shown.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kogge::node::clock::Clock;

use crate::bench::figure::{Figure, table};
use crate::bench::{agree, child, idle, ledger, transfer};
use crate::failure::{During, Failure};

/// What to measure.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Only these items: layer, gib, commit, entries, catchup, query, waybill, idle, ready
    names: Vec<String>,
    /// Fewer and smaller samples: about a minute in all
    #[arg(long)]
    quick: bool,
    /// Watch the idle node for five minutes
    #[arg(long, conflicts_with = "quick")]
    long: bool,
    /// Where the nodes keep their data meanwhile [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Be a node that standard input commands
    #[arg(long, hide = true)]
    child: bool,
}

/// How thorough to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Length {
    /// A first impression.
    Quick,
    /// The figures that count.
    Usual,
    /// As before, with a long look at the idle node.
    Long,
}

/// What an item works with.
pub(super) struct Bench {
    /// An empty folder of its own.
    pub(super) folder: PathBuf,
    /// How thorough to be.
    pub(super) length: Length,
    /// The clock.
    pub(super) clock: Clock,
}

impl Bench {
    /// `usual`, or `quick` for a first impression.
    pub(super) fn pick<T>(&self, usual: T, quick: T) -> T {
        match self.length {
            Length::Quick => quick,
            Length::Usual | Length::Long => usual,
        }
    }
}

type Item = fn(&Bench) -> Result<Vec<Figure>, Failure>;

/// All items, in the order in which they run: those that need the disk's cache last.
const ITEMS: [(&str, Item); 9] = [
    ("layer", transfer::layer),
    ("gib", transfer::gib),
    ("commit", agree::commit),
    ("entries", agree::entries),
    ("waybill", agree::waybill),
    ("catchup", ledger::catchup),
    ("query", ledger::query),
    ("ready", ledger::ready),
    ("idle", idle::idle),
];

/// Measures and prints, as JSON if so wished; succeeds if every figure reaches its goal.
pub(crate) fn run(args: &Args, is_json: bool) -> ExitCode {
    if args.child {
        return child::serve();
    }
    match measure(args, is_json) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "kogge: {}", failure.message);
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args, is_json: bool) -> Result<bool, Failure> {
    let is_item = |name: &String| ITEMS.iter().any(|it| it.0 == name);
    if let Some(name) = args.names.iter().find(|it| !is_item(it)) {
        return Err(Failure::input(format!("there is no item `{name}`")));
    }
    let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let folder = base.join(format!("kogge-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).during("cannot make a folder")?;
    // The folder is removed however the measurements end.
    let figures = all(args, &folder);
    let removed = fs::remove_dir_all(&folder);
    let figures = figures?;
    removed.during("cannot remove the bench's folder")?;
    let text = match is_json {
        true => serde_json::to_string_pretty(&figures).during("cannot write the result")? + "\n",
        false => table(&figures),
    };
    let written = io::stdout().write_all(text.as_bytes());
    written.during("cannot write the result")?;
    Ok(figures.iter().all(|it| it.ok != Some(false)))
}

fn all(args: &Args, folder: &Path) -> Result<Vec<Figure>, Failure> {
    let length = match (args.quick, args.long) {
        (true, _) => Length::Quick,
        (false, true) => Length::Long,
        (false, false) => Length::Usual,
    };
    let mut figures = Vec::new();
    for (name, item) in ITEMS {
        if !args.names.is_empty() && !args.names.iter().any(|it| it == name) {
            continue;
        }
        let _ = writeln!(io::stderr(), "kogge bench: {name} …");
        let bench = Bench {
            folder: folder.join(name),
            length,
            clock: Clock::start(),
        };
        fs::create_dir_all(&bench.folder).during("cannot make a folder")?;
        match item(&bench) {
            Ok(found) => figures.extend(found),
            Err(failure) => figures.push(Figure::failed(name, failure.message)),
        }
        fs::remove_dir_all(&bench.folder).during("cannot remove a folder")?;
    }
    Ok(figures)
}
