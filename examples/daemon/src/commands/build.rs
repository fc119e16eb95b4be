//! `kogge build`: asks the authorized nodes to add a package, and waits for the outcome.

use std::process::ExitCode;
use std::time::Duration;

use kogge::BuildSpec;
use kogge::proto::build::{Docker, Maven, Reference};
use kogge::proto::package::{Coordinates, ImageReference, Pointer};
use serde_json::{Value, json};

use crate::Session;
use crate::client::Client;
use crate::commands::view::Build;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::text::{Table, bytes, clean, short};

/// Time between two looks at a build.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// The registry that a spec leaves out.
const DEFAULT_REGISTRY: &str = kogge::proto::package::docker::DEFAULT_REGISTRY;

/// What to add.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Add an image from its registry
    Docker {
        /// The image, such as library/alpine:3.20 or registry.test:5000/team/app@sha256:…
        image: String,
        /// Label of the registry, if the image does not name it
        #[arg(long)]
        registry: Option<String>,
        /// Only this platform, such as linux/amd64; repeat for more [default: all]
        #[arg(long, value_name = "OS/ARCH")]
        platform: Vec<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Add a Maven version with all its files
    Maven {
        /// group:artifact:version
        coordinates: String,
        /// URL of the repository [default: those that the nodes' own Maven uses]
        #[arg(long)]
        repository: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Show how builds stand
    Status {
        /// The build, by its id or the beginning of it [default: all]
        id: Option<String>,
        /// Wait until it is committed or has failed
        #[arg(long, requires = "id")]
        wait: bool,
    },
}

/// Whether to wait.
#[derive(clap::Args, Debug)]
pub(crate) struct Wait {
    /// Do not wait for the outcome
    #[arg(long)]
    no_wait: bool,
}

/// Asks for a build, or shows some. The exit code says whether it failed.
///
/// # Errors
///
/// [`Failure`] if it cannot be asked for.
pub(crate) async fn run(session: &Session, command: Command) -> Result<ExitCode, Failure> {
    let client = session.daemon()?;
    let (spec, wait) = match command {
        Command::Docker {
            image,
            registry,
            platform,
            wait,
        } => (docker(&image, registry.as_deref(), platform)?, wait),
        Command::Maven {
            coordinates,
            repository,
            wait,
        } => (maven(&coordinates, repository.as_deref())?, wait),
        Command::Status { id: None, .. } => return list(session, &client).await,
        Command::Status { id: Some(id), wait } => {
            let (value, build) = find(&client, &id).await?;
            return match wait && !build.is_final {
                true => finish(session, &client, &build.id).await,
                false => show(session, &value, &build),
            };
        }
    };
    let value = request(&client, &spec).await?;
    let build = parse(&value)?;
    match wait.no_wait || build.is_final {
        true => show(session, &value, &build),
        false => finish(session, &client, &build.id).await,
    }
}

/// The spec of an image as users write it.
fn docker(
    image: &str,
    registry: Option<&str>,
    platforms: Vec<String>,
) -> Result<BuildSpec, Failure> {
    let full = match registry {
        Some(registry) => format!("{registry}/{image}"),
        None => image.to_owned(),
    };
    let parsed: ImageReference =
        full.parse()
            .map_err(|it: kogge::proto::package::docker::ReferenceError| {
                Failure::input(it.to_string())
            })?;
    let label = parsed.name.registry();
    let label = (label != DEFAULT_REGISTRY).then_some(label);
    let reference = match parsed.pointer {
        Pointer::Tag(tag) => Reference::Tag(tag),
        Pointer::Digest(digest) => Reference::Digest(digest),
    };
    Ok(Docker::new(label, parsed.name.repository(), reference, platforms)?.into())
}

fn maven(text: &str, repository: Option<&str>) -> Result<BuildSpec, Failure> {
    let it: Coordinates = text
        .parse()
        .map_err(|it: kogge::proto::package::maven::MavenError| Failure::input(it.to_string()))?;
    Ok(Maven::new(repository, it.group(), it.artifact(), it.version())?.into())
}

/// Asks for a build.
///
/// # Errors
///
/// [`Failure`] if the node does not take it.
pub(crate) async fn request(client: &Client, spec: &BuildSpec) -> Result<Value, Failure> {
    client
        .post("/api/builds", &json!({"spec": spec.to_string()}))
        .await
}

/// Reads the answer about a build.
///
/// # Errors
///
/// [`Failure`] if it is of another version.
pub(crate) fn parse(value: &Value) -> Result<Build, Failure> {
    serde_json::from_value(value.clone()).map_err(|it| Failure::new("version", it.to_string()))
}

/// The build whose id begins with `prefix`.
async fn find(client: &Client, prefix: &str) -> Result<(Value, Build), Failure> {
    let all: Vec<Value> = client.get("/api/builds").await?;
    let mut found = None;
    for value in all {
        let build = parse(&value)?;
        if build.id.starts_with(prefix) && found.replace((value, build)).is_some() {
            return Err(Failure::input(format!(
                "several builds begin with {prefix}; give more digits"
            )));
        }
    }
    let hint = "see `kogge build status`";
    found.ok_or_else(|| {
        Failure::new(
            "not-found",
            format!("this node knows no build {prefix}; {hint}"),
        )
    })
}

/// Waits for the outcome and shows it.
async fn finish(session: &Session, client: &Client, id: &str) -> Result<ExitCode, Failure> {
    let path = format!("/api/builds/{id}");
    let mut progress: Option<Progress> = None;
    loop {
        let value: Value = client.get(&path).await?;
        let build = parse(&value)?;
        if build.is_final {
            drop(progress);
            return show(session, &value, &build);
        }
        let progress =
            progress.get_or_insert_with(|| Progress::waiting(session.output, &build.spec));
        progress.message(&summary(&build, session.output.is_live()));
        async_io::Timer::after(POLL_INTERVAL).await;
    }
}

/// One line about a build under way; bytes only where lines can change in place.
fn summary(build: &Build, with_bytes: bool) -> String {
    let mut text = match build.agreeing {
        Some(agreeing) => format!(
            "{}, {agreeing} of {} needed agree",
            build.state, build.quorum
        ),
        None => build.state.clone(),
    };
    let parts = build.nodes.iter().filter_map(|it| it.progress());
    let (done, total) = parts.fold((0, 0), |(done, total), it| (done + it.0, total + it.1));
    if with_bytes && 0 < total {
        text += &format!(", {} of {}", bytes(done), bytes(total));
    }
    text
}

fn show(session: &Session, value: &Value, build: &Build) -> Result<ExitCode, Failure> {
    session.output.show(value, render(build))?;
    Ok(if build.state == "failed" {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn render(build: &Build) -> String {
    let mut text = match (&build.index, &build.reason) {
        (Some(index), _) => format!("{} is in the log, entry {index}\n", clean(&build.spec)),
        (None, Some(reason)) => format!(
            "{} failed: {}\n",
            clean(&build.spec),
            clean(&reason.message)
        ),
        (None, None) => format!("{}: {}\n", clean(&build.spec), clean(&build.message)),
    };
    let differences = build
        .reason
        .as_ref()
        .map(|it| it.differences.as_slice())
        .unwrap_or_default();
    if !differences.is_empty() {
        let mut table = Table::new(&["what differs", "got", "by"]);
        for difference in differences {
            for (at, values) in difference.values.iter().enumerate() {
                let what = if at == 0 {
                    difference.what.clone()
                } else {
                    String::new()
                };
                table.row([what, values.value.clone(), values.nodes.join(", ")]);
            }
        }
        text += &table.render();
    }
    if build.index.is_none() {
        let mut table = Table::new(&["node", "says"]);
        for node in &build.nodes {
            let says = node.message.strip_prefix(&format!("{}: ", node.name));
            table.row([node.name.clone(), says.unwrap_or(&node.message).to_owned()]);
        }
        text += &table.render();
        text += &format!("build {}\n", short(&build.id));
    }
    text
}

async fn list(session: &Session, client: &Client) -> Result<ExitCode, Failure> {
    let all: Vec<Value> = client.get("/api/builds").await?;
    let mut table = Table::new(&["build", "what", "state"]);
    for value in &all {
        let build = parse(value)?;
        table.row([short(&build.id), build.spec, build.message]);
    }
    let text = match table.is_empty() {
        true => {
            "no builds; ask for one with `kogge build docker` or `kogge build maven`\n".to_owned()
        }
        false => table.render(),
    };
    session.output.show(&all, text)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_specs_as_users_mean_them() {
        for (image, registry, expected) in [
            ("demo:1.0", None, "docker library/demo:1.0"),
            ("library/demo", None, "docker library/demo:latest"),
            (
                "r.test:5000/team/app:2",
                None,
                "docker r.test:5000/team/app:2",
            ),
            ("team/app:2", Some("r.test"), "docker r.test/team/app:2"),
        ] {
            let spec = docker(image, registry, Vec::new()).unwrap();
            assert_eq!(spec.to_string(), expected, "{image}");
        }
        let platforms = vec!["linux/arm64".into(), "linux/amd64".into()];
        let spec = docker("demo:1.0", None, platforms).unwrap();
        assert_eq!(
            spec.to_string(),
            "docker library/demo:1.0 linux/amd64,linux/arm64"
        );
        assert_eq!(maven("g:a:1", None).unwrap().to_string(), "maven g:a:1");
        for bad in ["Demo", "", "a b"] {
            assert!(docker(bad, None, Vec::new()).is_err(), "{bad}");
        }
        assert!(maven("g:a", None).is_err());
    }

    #[test]
    fn a_failure_shows_who_got_what() {
        let value = json!({
            "id": "01".repeat(32), "spec": "maven g:a:1", "state": "failed", "final": true,
            "index": null, "agreeing": null, "quorum": 2, "message": "failed",
            "reason": {"kind": "digests-differ", "message": "the nodes got different results",
                "differences": [{"what": "a-1.jar", "values": [
                    {"value": "aa", "nodes": ["alice"]}, {"value": "absent", "nodes": ["bob"]}]}]},
            "nodes": [{"name": "alice", "message": "alice: attested 07", "outcome": "attested"}],
        });
        let expected = "maven g:a:1 failed: the nodes got different results\n\
                        what differs  got     by\n\
                        a-1.jar       aa      alice\n\
                        \u{20}             absent  bob\n\
                        node   says\n\
                        alice  attested 07\n\
                        build 010101010101\n";
        assert_eq!(render(&parse(&value).unwrap()), expected);
    }
}
