//! What the front end asks of its node, in the terms of registries.

use std::time::Duration;

use futures_lite::future;
use kogge::proto::build::{BuildId, Reason, Refusal, State};
use kogge::proto::package::ImageName;
use kogge::{
    AddArtifact, Artifact, BuildSpec, BuildStatus, Digest, Log, Node, NodeError, Sha256, Status,
    WallTime,
};
use percent_encoding::percent_decode_str;

use crate::body::Reader;
use crate::problem::{Fault, Problem, RETRY_AFTER_MIN};

/// How long a pull waits for a build that it asked for. The build goes on afterwards.
const BUILD_TIMEOUT: Duration = Duration::from_secs(300);

/// When to ask again for what is still being built.
const BUILD_RETRY: Duration = Duration::from_secs(30);

/// How long a response waits for its first bytes. The node gives up a fetch without progress
/// earlier; this is for one that crawls.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(120);

/// Most versions of a package that are listed.
const VERSIONS_MAX: usize = 5_000;

/// The value of `LogStatus::state` of a node that has reached the head of the log.
const LIVE: &str = "live";

/// The node behind the front end.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) node: Node,
}

/// An artifact in the log.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Index of its entry.
    pub(crate) index: u64,
    /// What the log says.
    pub(crate) entry: AddArtifact,
}

/// A tag in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// Index of the newest binding.
    pub(crate) index: u64,
    /// When it was submitted.
    pub(crate) time: WallTime,
    /// What the tag points to.
    pub(crate) digest: Sha256,
}

impl Found {
    fn new((index, entry): (u64, AddArtifact)) -> Self {
        Self { index, entry }
    }

    /// The name by which the node stores it.
    pub(crate) fn digest(&self) -> Digest {
        self.entry.blake3.into()
    }
}

impl Source {
    /// The log.
    pub(crate) fn log(&self) -> Log {
        self.node.log()
    }

    /// The artifact with this digest, of any package, unless it was withdrawn.
    pub(crate) fn by_digest(&self, digest: &Digest) -> Result<Option<Found>, Problem> {
        Ok(self.log().by_digest(digest)?.map(Found::new))
    }

    /// All files of a package version; none if it is not in the log.
    pub(crate) fn files(&self, purl: &str) -> Result<Vec<Found>, Problem> {
        let rows = self.log().package(purl)?;
        Ok(rows.into_iter().map(Found::new).collect())
    }

    /// One file of a package version.
    pub(crate) fn file(&self, purl: &str, file: &str) -> Result<Option<Found>, Problem> {
        Ok(self.log().file(purl, file)?.map(Found::new))
    }

    /// The newest binding of a tag.
    pub(crate) fn tag(&self, name: &ImageName, tag: &str) -> Result<Option<Bound>, Problem> {
        let newest = self.log().tag(name.registry(), name.repository(), tag)?;
        Ok(newest.map(|(index, it)| Bound {
            index,
            time: it.time,
            digest: it.digest,
        }))
    }

    /// The versions of a package, such as `maven/g/a`, as people write them; at most
    /// [`VERSIONS_MAX`].
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>, Problem> {
        let mut versions: Vec<String> = Vec::new();
        while versions.len() < VERSIONS_MAX {
            let after = versions.last().map_or("", String::as_str);
            let more = self.log().versions(package, after)?;
            if more.is_empty() {
                break;
            }
            versions.extend(more);
        }
        let decoded = |it: &String| percent_decode_str(it).decode_utf8_lossy().into_owned();
        Ok(versions.iter().map(decoded).collect())
    }

    /// Opens an artifact and reads its first bytes from `start` on, from peers if need be.
    ///
    /// # Errors
    ///
    /// [`Problem`] telling why there are none; it may work later.
    pub(crate) async fn open(
        &self,
        found: &Found,
        start: u64,
        len: u64,
    ) -> Result<Reader, Problem> {
        let opening = async {
            let artifact = self.artifact(found).await?;
            Reader::open(artifact, start, len)
                .await
                .map_err(|it| no_bytes(found, &it.to_string()))
        };
        let late = async {
            async_io::Timer::after(FIRST_BYTES_TIMEOUT).await;
            Err(no_bytes(found, "no source sent its first bytes in time"))
        };
        future::or(opening, late).await
    }

    /// Opens an artifact.
    ///
    /// # Errors
    ///
    /// [`Problem`] telling why it cannot be had.
    pub(crate) async fn artifact(&self, found: &Found) -> Result<Artifact, Problem> {
        Ok(self.node.open(&found.digest()).await?)
    }

    /// Waits for what `look` finds: at once if the log has it, else after the build of `spec` if
    /// the owner allows that. Dropping the future leaves the build running.
    ///
    /// # Errors
    ///
    /// [`Fault::NotFound`] only if that is sure: the node follows the head of the log, and nobody
    /// builds or the upstream has no such thing. Otherwise it may work later.
    pub(crate) async fn obtain<T>(
        &self,
        what: &str,
        spec: Option<BuildSpec>,
        look: impl Fn() -> Result<Option<T>, Problem> + Send,
    ) -> Result<T, Problem> {
        if let Some(found) = look()? {
            return Ok(found);
        }
        self.check_live(what)?;
        let absent =
            |hint: String| Problem::new(Fault::NotFound, format!("{what} is not in the log{hint}"));
        let Some(spec) = spec else {
            return Err(absent(String::new()));
        };
        if !self.node.reads_through() {
            return Err(absent(format!("; add it with `kogge build {spec}`")));
        }
        self.build(spec).await?;
        look()?.ok_or_else(|| {
            Problem::unavailable(format!(
                "{what} was built, but the log does not show it yet"
            ))
        })
    }

    /// Whether absence means anything.
    ///
    /// # Errors
    ///
    /// [`Fault::Unavailable`] while the node is behind the log or alone.
    pub(crate) fn check_live(&self, what: &str) -> Result<(), Problem> {
        let status = self.node.status();
        if is_current(&status) {
            return Ok(());
        }
        let log = status.log;
        Err(Problem::unavailable(format!(
            "{what} is not in the log as far as this node has it (block {} of {}, {}); ask again \
             when `kogge status` says live",
            log.height, log.target, log.state
        )))
    }

    /// Waits until the log has what `spec` asks for. Equal specs are one build, however many wait.
    async fn build(&self, spec: BuildSpec) -> Result<(), Problem> {
        let (id, text) = (spec.id(), spec.to_string());
        let failed = |delay, it: String| {
            Problem::new(
                Fault::Unavailable(delay),
                format!("cannot build {text}: {it}"),
            )
        };
        let status = match self.node.request_build(spec).await {
            Ok(status) if status.state.is_final() => Some(status),
            Ok(_) => self.wait(id).await?,
            // What the last attempt said holds until the next may begin.
            Err(NodeError::Build(Refusal::TooSoon(delay))) => {
                let last = self.node.build(id).await?;
                return match last.map(|it| it.state) {
                    Some(State::Committed { .. }) => Ok(()),
                    Some(State::Failed(reason)) => Err(reasoned(&text, delay, &reason)),
                    _ => Err(failed(delay, Refusal::TooSoon(delay).to_string())),
                };
            }
            Err(error) => return Err(error.into()),
        };
        match status.map(|it| it.state) {
            Some(State::Committed { .. }) => Ok(()),
            Some(State::Failed(reason)) => Err(reasoned(&text, BUILD_RETRY, &reason)),
            Some(state) => Err(failed(BUILD_RETRY, format!("it is not finished ({state})"))),
            None => Err(failed(BUILD_RETRY, "the node forgot it".into())),
        }
    }

    /// How a build stands when it is finished, or after [`BUILD_TIMEOUT`].
    async fn wait(&self, id: BuildId) -> Result<Option<BuildStatus>, Problem> {
        match self.node.wait_build(id, BUILD_TIMEOUT).await {
            Ok(status) => Ok(Some(status)),
            Err(NodeError::Timeout(_)) => Ok(self.node.build(id).await?),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the node has the whole log: it follows the head, or it alone decides what the head is.
fn is_current(status: &Status) -> bool {
    let is_alone = status.network.members.len() == 1 && status.network.me.is_some();
    is_alone || status.log.state == LIVE
}

/// Why a build came to nothing. Only what a quorum did not find upstream is surely absent.
fn reasoned(text: &str, delay: Duration, reason: &Reason) -> Problem {
    match reason {
        Reason::NotFound(_) => Problem::new(Fault::NotFound, format!("{text}: {reason}")),
        _ => Problem::new(
            Fault::Unavailable(delay.max(RETRY_AFTER_MIN)),
            format!("cannot build {text}: {reason}"),
        ),
    }
}

fn no_bytes(found: &Found, reason: &str) -> Problem {
    let (file, purl) = (&found.entry.file, &found.entry.purl);
    Problem::unavailable(format!("cannot get {file} of {purl}: {reason}"))
}
