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

/// A package that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Added {
    /// What users call it: `library/demo:1.0`, `g:a:v`.
    pub(crate) what: String,
    /// Whether it is an image.
    pub(crate) is_image: bool,
    /// Why it is not in the log; `None` if it is.
    pub(crate) problem: Option<String>,
}

/// Asks for the images and packages of the kit, and waits until they are committed and the reading
/// node has followed.
///
/// # Errors
///
/// [`Failure`] if a node does not answer; why a build failed is told with its package.
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
    let mut wanted: Vec<Added> = images
        .chain(packages)
        .map(|(what, is_image)| Added {
            what: what.clone(),
            is_image,
            problem: None,
        })
        .collect();
    let end = nodes.millis() + BUILDS_TIMEOUT_MS;
    let mut progress = Progress::steps(session.output, "packages in the log", wanted.len() as u64);
    let (mut open, mut finished) = (BTreeMap::new(), 0);
    for at in 0..wanted.len() {
        let Some(it) = wanted.get(at) else { break };
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
        open.insert(parse(&value)?.id, at);
        finished += take_finished(nodes, &mut open, &mut wanted).await?;
        progress.set(finished);
    }
    while !open.is_empty() && nodes.millis() < end {
        async_io::Timer::after(POLL_INTERVAL).await;
        finished += take_finished(nodes, &mut open, &mut wanted).await?;
        progress.set(finished);
    }
    for at in open.into_values() {
        if let Some(it) = wanted.get_mut(at) {
            it.problem = Some(format!(
                "not in the log within {} s",
                BUILDS_TIMEOUT_MS / 1_000
            ));
        }
    }
    drop(progress);
    let good = wanted.iter().filter(|it| it.problem.is_none()).count();
    let count = wanted.len();
    session
        .output
        .note(format!("{good} of {count} packages are in the log"));
    follow(nodes).await?;
    Ok(wanted)
}

/// Takes out of `open` what is finished, and notes why it failed; returns how many these are.
async fn take_finished(
    nodes: &Nodes,
    open: &mut BTreeMap<String, usize>,
    wanted: &mut [Added],
) -> Result<u64, Failure> {
    let builds: Vec<Value> = nodes.asker().get("/api/builds").await?;
    let mut finished = 0;
    for value in &builds {
        let build = parse(value)?;
        if build.is_final
            && let Some(at) = open.remove(&build.id)
        {
            finished += 1;
            if build.state == "failed"
                && let Some(it) = wanted.get_mut(at)
            {
                it.problem = Some(build.message);
            }
        }
    }
    Ok(finished)
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
