//! `kogge demo`: a network of six nodes on this machine, and real artifacts on their way through it.

mod kit;
mod nodes;
mod packages;
mod pull;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use async_signal::{Signal, Signals};
use futures_lite::{StreamExt, future};
use kogge::proto::package::docker::DEFAULT_REGISTRY;
use kogge::{Params, WallTime};
use serde_json::{Value, json};

use crate::Session;
use crate::commands::demo::kit::{Fixture, Kit};
use crate::commands::demo::nodes::Nodes;
use crate::commands::network::local;
use crate::failure::{During, Failure};

/// Authorized nodes: the fewest of which one may fail.
const AUTHORIZED: usize = 4;

/// Regular nodes: one asks for packages, another gets them.
const REGULAR: usize = 2;

/// The file by which a folder is known to be of an earlier demo, which may be removed.
const MARKER: &str = "kogge-demo";

/// How to show it.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Program with the upstreams: prints their addresses as JSON, ends with its standard input
    #[arg(long, value_name = "PROGRAM")]
    kit: PathBuf,
    /// Stop the network after the table
    #[arg(long)]
    exit: bool,
    /// Folder for everything; that of an earlier demo is emptied [default: target/demo beside the
    /// kit, else a temporary one]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Folder in which the kit keeps what it made [default: target/fixtures beside the kit]
    #[arg(long)]
    cache: Option<PathBuf>,
}

/// Shows it.
///
/// # Errors
///
/// [`Failure`] with the reason and where the logs are.
pub(crate) async fn run(session: &Session, args: Args) -> Result<ExitCode, Failure> {
    let mut signals =
        Signals::new([Signal::Int, Signal::Term]).during("cannot listen to signals")?;
    let target = target_of(&args.kit);
    let dir = match (&args.dir, &target) {
        (Some(dir), _) => dir.clone(),
        (None, Some(target)) => target.join("demo"),
        (None, None) => std::env::temp_dir().join(format!("kogge-demo-{}", std::process::id())),
    };
    let dir = std::path::absolute(&dir).during(format!("the folder {}", dir.display()))?;
    prepare(&dir)?;
    let cache = args
        .cache
        .clone()
        .or_else(|| Some(target?.join("fixtures")));
    let cache = cache.unwrap_or_else(|| dir.join("fixtures"));

    let interrupted = async {
        signals.next().await;
        Err(Failure::new("interrupted", "stopped before the end"))
    };
    let shown = future::or(show(session, &args, &dir, &cache), interrupted).await;
    let (kit, nodes, good) = shown.map_err(|failure| Failure {
        message: format!("{}; the logs are in {}", failure.message, dir.display()),
        ..failure
    })?;
    if !args.exit {
        invite(session, &nodes, &dir);
        signals.next().await;
    }
    session.output.note("stopping the network");
    nodes.stop().await;
    kit.stop();
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Everything up to the table. The network keeps running as long as the result lives.
async fn show(
    session: &Session,
    args: &Args,
    dir: &Path,
    cache: &Path,
) -> Result<(Kit, Nodes, bool), Failure> {
    let (kit, fixture) = Kit::start(session, &args.kit, cache, dir).await?;
    let nodes = start(session, dir, &fixture).await?;
    let asked = packages::add(session, &nodes, &fixture).await?;
    let rows = pull::everything(session, &nodes, &asked, dir).await?;
    let good = !rows.is_empty() && rows.iter().all(|it| it.problem.is_none());
    let value = json!({
        "good": good, "dir": dir,
        "nodes": nodes.all().iter().map(|it| it.json()).collect::<Vec<Value>>(),
        "rows": rows.iter().map(table::Row::json).collect::<Vec<Value>>(),
    });
    session
        .output
        .show(&value, table::render(session.output, &rows))?;
    Ok((kit, nodes, good))
}

async fn start(session: &Session, dir: &Path, fixture: &Fixture) -> Result<Nodes, Failure> {
    let plan = local::Plan {
        name: "demo".into(),
        authorized: AUTHORIZED,
        regular: REGULAR,
        registries: BTreeMap::from([(DEFAULT_REGISTRY.to_owned(), fixture.registry.clone())]),
        repositories: vec![fixture.repository.clone()],
        params: Params {
            block_interval_min_ms: 250,
            ..Params::default()
        },
    };
    let now: WallTime = session.clock.wall();
    let (_, made) = local::make(dir, &plan, now)?;
    Nodes::start(session, made).await
}

/// Makes an empty folder; removes only what an earlier demo left.
fn prepare(dir: &Path) -> Result<(), Failure> {
    let what = || format!("cannot prepare {}", dir.display());
    if dir.exists() && !dir.join(MARKER).exists() {
        let is_empty = dir.read_dir().during(what())?.next().is_none();
        if !is_empty {
            let message = format!(
                "{} is not of an earlier demo; choose another --dir",
                dir.display()
            );
            return Err(Failure::input(message));
        }
    }
    for entry in dir.read_dir().into_iter().flatten().flatten() {
        let path = entry.path();
        let removed = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        removed.during(what())?;
    }
    std::fs::create_dir_all(dir).during(what())?;
    std::fs::write(dir.join(MARKER), "made by `kogge demo`\n").during(what())
}

/// Cargo's target folder, if the kit stands in one: `target/release/kit`.
fn target_of(kit: &Path) -> Option<PathBuf> {
    let kit = std::path::absolute(kit).ok()?;
    let target = kit.parent()?.parent()?;
    (target.file_name()? == "target").then(|| target.to_owned())
}

fn invite(session: &Session, nodes: &Nodes, dir: &Path) {
    let first = nodes.reader();
    let url = format!("http://127.0.0.1:{}", first.http_port);
    let folder = first.folder.display();
    let lines = [
        format!("The network runs until Ctrl-C. {} answers at:", first.name),
        format!(
            "  images  docker pull 127.0.0.1:{}/library/demo:1.0",
            first.http_port
        ),
        format!("  maven   {url}/maven2/"),
        format!("  status  {url}/status"),
        format!("  log     {url}/checkpoint"),
        format!("  kogge --data-dir {folder} status"),
        format!("  kogge --data-dir {folder} why demo:1.0"),
        format!("Logs and data are in {}.", dir.display()),
    ];
    lines.iter().for_each(|it| session.output.note(it));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_a_demo_are_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("demo");
        prepare(&dir).unwrap();
        std::fs::create_dir(dir.join("node-1")).unwrap();
        prepare(&dir).unwrap();
        assert!(!dir.join("node-1").exists());
        std::fs::write(folder.path().join("precious"), "").unwrap();
        let message = prepare(folder.path()).unwrap_err().message;
        assert!(message.contains("--dir"), "{message}");
        assert!(folder.path().join("precious").exists());
    }

    #[test]
    fn the_target_folder_is_found_from_the_kit() {
        let found = target_of(Path::new("/x/target/release/kit"));
        assert_eq!(found, Some("/x/target".into()));
        assert_eq!(target_of(Path::new("/usr/bin/kit")), None);
    }
}
