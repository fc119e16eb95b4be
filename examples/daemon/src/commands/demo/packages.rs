//! Asking for packages, and waiting until they are in the log.

use std::collections::BTreeMap;
use std::time::Duration;

use kogge::{BuildSpec, Status};
use serde_json::Value;

use crate::Session;
use crate::commands::build::{parse, request};
use crate::commands::demo::kit::Fixture;
use crate::commands::demo::nodes::Nodes;
use crate::failure::Failure;
use crate::progress::Progress;

/// Most Maven packages that are asked for.
const PACKAGES_MAX: usize = 40;

/// How long all builds together may take.
const BUILDS_TIMEOUT_MS: u64 = 600_000;

/// How long the reading node may take to follow.
const FOLLOW_TIMEOUT_MS: u64 = 60_000;

/// Time between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// A package that is in the log.
#[derive(Clone, Debug)]
pub(crate) struct Added {
    /// What users call it: `library/demo:1.0`, `g:a:v`.
    pub(crate) what: String,
    /// Whether it is an image.
    pub(crate) is_image: bool,
}

/// Asks for the images and packages of the kit, and waits until they are committed and the reading
/// node has followed.
///
/// # Errors
///
/// [`Failure`] with the reason of the first build that failed.
pub(crate) async fn add(
    session: &Session,
    nodes: &Nodes,
    fixture: &Fixture,
) -> Result<Vec<Added>, Failure> {
    let images = fixture.images.iter().map(|it| (it, true));
    let packages = fixture
        .packages
        .iter()
        .take(PACKAGES_MAX)
        .map(|it| (it, false));
    let wanted: Vec<Added> = images
        .chain(packages)
        .map(|(what, is_image)| Added {
            what: what.clone(),
            is_image,
        })
        .collect();
    let end = nodes.millis() + BUILDS_TIMEOUT_MS;
    let mut progress = Progress::steps(session.output, "packages in the log", wanted.len() as u64);
    let mut open = BTreeMap::new();
    for it in &wanted {
        let kind = if it.is_image { "docker" } else { "maven" };
        let spec: BuildSpec = format!("{kind} {}", it.what).parse()?;
        // A node takes so many requests at once; the rest waits for its turn.
        let value = loop {
            match request(nodes.asker(), &spec).await {
                Err(failure) if failure.code == "unavailable" && nodes.millis() < end => {
                    async_io::Timer::after(POLL_INTERVAL).await;
                }
                answered => break answered?,
            }
        };
        open.insert(parse(&value)?.id, it.what.clone());
        progress.set(done(nodes, &mut open, wanted.len()).await?);
    }
    while !open.is_empty() {
        progress.set(done(nodes, &mut open, wanted.len()).await?);
        if end < nodes.millis() {
            let waiting: Vec<&str> = open.values().map(String::as_str).collect();
            let message = format!(
                "not in the log within {} s: {}",
                BUILDS_TIMEOUT_MS / 1_000,
                waiting.join(", ")
            );
            return Err(Failure::new("timeout", message));
        }
        async_io::Timer::after(POLL_INTERVAL).await;
    }
    drop(progress);
    session
        .output
        .note(format!("{} packages are in the log", wanted.len()));
    follow(nodes).await?;
    Ok(wanted)
}

/// Takes what is committed out of `open`; returns how many of `total` are.
async fn done(
    nodes: &Nodes,
    open: &mut BTreeMap<String, String>,
    total: usize,
) -> Result<u64, Failure> {
    let builds: Vec<Value> = nodes.asker().get("/api/builds").await?;
    for value in &builds {
        let build = parse(value)?;
        if build.is_final
            && let Some(what) = open.remove(&build.id)
        {
            if build.state == "failed" {
                return Err(Failure::new("build", format!("{what}: {}", build.message)));
            }
        }
    }
    Ok((total - open.len().min(total)) as u64)
}

/// Waits until the reading node has what the asking node has, under a checkpoint.
async fn follow(nodes: &Nodes) -> Result<(), Failure> {
    let wanted: Status = nodes.asker().get("/status").await?;
    let end = nodes.millis() + FOLLOW_TIMEOUT_MS;
    loop {
        let status: Status = nodes.reader_client().get("/status").await?;
        let covered = status.log.checkpoint.as_ref().map_or(0, |it| it.size);
        if wanted.log.size <= status.log.size && wanted.log.size <= covered {
            return Ok(());
        }
        if end < nodes.millis() {
            let (have, want) = (status.log.size, wanted.log.size);
            let message = format!(
                "{} has {have} of {want} leaves, {covered} under a checkpoint",
                nodes.reader().name
            );
            return Err(Failure::new("timeout", message));
        }
        async_io::Timer::after(POLL_INTERVAL).await;
    }
}
