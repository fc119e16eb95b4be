//! What the front end asks of its node, in the terms of registries.

use std::time::Duration;

use futures_lite::future;
use kogge::proto::build::{Reason, State};
use kogge::proto::package::ImageName;
use kogge::{AddArtifact, Artifact, BuildSpec, Digest, Entry, Log, Node, Row, Sha256, WallTime};
use percent_encoding::percent_decode_str;

use crate::body::Reader;
use crate::problem::{Fault, Problem};

/// How long a pull waits for a build that it asked for. The build goes on afterwards.
const BUILD_TIMEOUT: Duration = Duration::from_secs(300);

/// When to ask again for what is still being built.
const BUILD_RETRY: Duration = Duration::from_secs(30);

/// How long a response waits for its first bytes. The node gives up a fetch without progress
/// earlier; this is for one that crawls.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(120);

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
    /// When it was committed.
    pub(crate) time: WallTime,
    /// What the log says.
    pub(crate) entry: Box<AddArtifact>,
}

/// A tag in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// Index of the newest binding.
    pub(crate) index: u64,
    /// When it was committed.
    pub(crate) time: WallTime,
    /// What the tag points to.
    pub(crate) digest: Sha256,
}

impl Found {
    /// The artifact in a row, unless it was withdrawn.
    fn from_row(row: Row) -> Option<Self> {
        let (index, time) = (row.index, row.time);
        match (row.entry, row.removed) {
            (Entry::AddArtifact(entry), None) => Some(Self { index, time, entry }),
            _ => None,
        }
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
    pub(crate) fn by_digest(&self, digest: &Digest) -> Option<Found> {
        self.log().by_digest(digest).and_then(Found::from_row)
    }

    /// All files of a package version; none if it is not in the log.
    pub(crate) fn files(&self, purl: &str) -> Vec<Found> {
        let rows = self.log().package(purl);
        rows.into_iter().filter_map(Found::from_row).collect()
    }

    /// One file of a package version.
    pub(crate) fn file(&self, purl: &str, file: &str) -> Option<Found> {
        self.log().file(purl, file).and_then(Found::from_row)
    }

    /// The newest binding of a tag.
    pub(crate) fn tag(&self, name: &ImageName, tag: &str) -> Option<Bound> {
        let row = self.log().tag(name.registry(), name.repository(), tag)?;
        let (index, time) = (row.index, row.time);
        match row.entry {
            Entry::BindTag(it) => Some(Bound {
                index,
                time,
                digest: it.digest,
            }),
            _ => None,
        }
    }

    /// The versions of a package, such as `pkg:maven/g/a`, as people write them.
    pub(crate) fn versions(&self, package: &str) -> Vec<String> {
        let decoded = |it: &String| percent_decode_str(it).decode_utf8_lossy().into_owned();
        self.log().versions(package).iter().map(decoded).collect()
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
        look: impl Fn() -> Option<T> + Send,
    ) -> Result<T, Problem> {
        if let Some(found) = look() {
            return Ok(found);
        }
        self.check_live(what).await?;
        let absent =
            |hint: String| Problem::new(Fault::NotFound, format!("{what} is not in the log{hint}"));
        let Some(spec) = spec else {
            return Err(absent(String::new()));
        };
        if !self.node.read_through() {
            return Err(absent(format!("; add it with `kogge build {spec}`")));
        }
        self.build(spec).await?;
        look().ok_or_else(|| {
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
    pub(crate) async fn check_live(&self, what: &str) -> Result<(), Problem> {
        let log = self.node.status().await.log;
        if log.state == LIVE {
            return Ok(());
        }
        let (state, height, target) = (log.state, log.height, log.target.max(log.height));
        Err(Problem::unavailable(format!(
            "{what} is not in the log as far as this node has it (block {height} of {target}, \
             {state}); ask again when `kogge status` says live"
        )))
    }

    async fn build(&self, spec: BuildSpec) -> Result<(), Problem> {
        let text = spec.to_string();
        let failed = |it: String| Problem::unavailable(format!("cannot build {text}: {it}"));
        // Equal specs are one build, however many wait for it.
        let asked = self.node.request_build(spec).await;
        let asked = asked.map_err(|it| failed(it.to_string()))?;
        let status = if asked.state.is_final() {
            asked
        } else {
            let waited = self.node.wait_build(asked.id, BUILD_TIMEOUT).await;
            waited.map_err(|it| failed(it.to_string()))?
        };
        match status.state {
            State::Committed { .. } => Ok(()),
            State::Failed(Reason::NotFound(_)) => {
                let message = format!("{text}: {}", status.state);
                Err(Problem::new(Fault::NotFound, message))
            }
            State::Failed(reason) => Err(failed(reason.to_string())),
            State::Requested | State::Running | State::Attested { .. } | State::Agreed { .. } => {
                Err(Problem::new(
                    Fault::Unavailable(BUILD_RETRY),
                    format!("{text} is still being built: {}", status.state),
                ))
            }
        }
    }
}

fn no_bytes(found: &Found, reason: &str) -> Problem {
    let (file, purl) = (&found.entry.file, &found.entry.purl);
    Problem::unavailable(format!("cannot get {file} of {purl}: {reason}"))
}
