//! Runs pipelines and other blocking errands of the loop on the worker pool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_channel::Sender;

use crate::base::{NodeId, PublicKey, WallTime};
use crate::node::attested::Attested;
use crate::node::clock::Clock;
use crate::node::config::Config;
use crate::node::deposit::BlobDeposit;
use crate::node::executor::Pool;
use crate::node::flow::Input;
use crate::node::pending::Unsaved;
use crate::node::pipeline::address::redact;
use crate::node::pipeline::{
    Cancel, FileFacts, Job, Outcome, Package, Pipeline, PipelineError, Progress, Spec, Step,
};
use crate::node::run::{INTERNAL_MAX, Internal};
use crate::node::share::Peers;
use crate::node::share::keep::News;
use crate::node::tools::{Toolbox, Tools};
use crate::proto::build::{self, BuildId, BuildSpec, Built, Failure, FailureCode, Reference};
use crate::proto::log::entry::BindTag;
use crate::proto::package::{ImageReference, Platform, Pointer};
use crate::store::Store;

/// Bytes between two reports of progress.
const PROGRESS_BYTES: u64 = 4 << 20;

/// Runs what blocks for long.
pub(crate) struct Builder {
    config: Arc<Config>,
    pool: Pool,
    store: Arc<Store>,
    peers: Arc<Peers>,
    clock: Clock,
    reply: Sender<Internal>,
    news: Sender<News>,
    toolbox: Arc<Toolbox>,
    running: BTreeMap<(BuildId, u64), Cancel>,
    unsaved: Arc<Unsaved>,
    attested: Arc<Attested>,
}

/// What a [`Builder`] works with.
pub(crate) struct Parts {
    pub(crate) config: Arc<Config>,
    pub(crate) pool: Pool,
    pub(crate) store: Arc<Store>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) clock: Clock,
    /// To the loop.
    pub(crate) reply: Sender<Internal>,
    /// To the keeper of origins and provider records.
    pub(crate) news: Sender<News>,
    pub(crate) attested: Arc<Attested>,
}

impl Builder {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            config,
            pool,
            store,
            peers,
            clock,
            reply,
            news,
            attested,
        } = parts;
        let (toolbox, unsaved) = (Arc::default(), Arc::default());
        let running = BTreeMap::new();
        Self {
            config,
            pool,
            store,
            peers,
            clock,
            reply,
            news,
            toolbox,
            running,
            unsaved,
            attested,
        }
    }

    /// Runs a pipeline.
    pub(crate) async fn run(&mut self, id: BuildId, run: u64, spec: BuildSpec) {
        let cancel = Cancel::new();
        self.running.insert((id, run), cancel.clone());
        let (reply, tools) = (self.reply.clone(), self.tools());
        let (store, attested) = (self.store.clone(), self.attested.clone());
        let deposit = BlobDeposit {
            store: store.clone(),
            peers: self.peers.clone(),
            clock: self.clock,
            news: self.news.clone(),
            build: id,
            attested: attested.clone(),
        };
        let progress = Reporter {
            id,
            reply: reply.clone(),
            done: AtomicU64::new(0),
        };
        let run_pipeline = move || {
            let job = Job {
                deposit: &deposit,
                progress: &progress,
                cancel: &cancel,
            };
            let outcome =
                tools().and_then(|tools| tools.upstream.run(&pipeline_spec(&spec)?, &job));
            let result = outcome.map_err(|it| failure(&it)).and_then(built);
            // Before anybody hears that this node has the bytes.
            let result = result.and_then(|it| match attested.keep(store.meta(), id) {
                Ok(()) => Ok(it),
                Err(error) => Err(Failure::new(FailureCode::Internal, &error.to_string())),
            });
            let _ = reply.send_blocking(Internal::Input(Input::BuildDone { id, run, result }));
        };
        self.pool.detach(run_pipeline).await;
    }

    /// A pipeline has ended.
    pub(crate) fn done(&mut self, id: BuildId, run: u64) {
        self.running.remove(&(id, run));
    }

    /// Whether this node is authorized from now on.
    pub(crate) fn authorize(&self, is_authorized: bool) {
        self.attested.authorize(is_authorized);
    }

    /// Once a build is over, the log says whether its bytes must stay.
    pub(crate) async fn over(&self, id: BuildId) {
        if !self.attested.over(&id) {
            return;
        }
        let (store, attested) = (self.store.clone(), self.attested.clone());
        let settle = move || {
            if let Err(error) = attested.settle(&store, &id) {
                tracing::warn!(%error, "what this node attested is not pinned yet");
            }
        };
        self.pool.detach(settle).await;
    }

    /// Stops a pipeline; its result is ignored by the machine.
    pub(crate) fn cancel(&mut self, id: BuildId, run: u64) {
        if let Some(cancel) = self.running.remove(&(id, run)) {
            cancel.cancel();
        }
    }

    /// Stops every pipeline and every fetch of a bootstrap document, also one that waits for an
    /// upstream, but not one that is connecting: that takes [`HttpConfig::connect_timeout`] at most.
    ///
    /// [`HttpConfig::connect_timeout`]: crate::node::pipeline::HttpConfig::connect_timeout
    pub(crate) fn close(&mut self) {
        std::mem::take(&mut self.running)
            .into_values()
            .for_each(|it| it.cancel());
        self.toolbox.close();
    }

    /// Fetches a bootstrap document.
    pub(crate) async fn fetch_bootstrap(&self, url: String) {
        let (reply, tools, toolbox) = (self.reply.clone(), self.tools(), self.toolbox.clone());
        let fetch = move || {
            let seeds = tools().and_then(|tools| toolbox.bootstrap(&tools, &url));
            if let Err(error) = &seeds {
                tracing::warn!(url = redact(&url), %error, "no bootstrap document");
            }
            let input = Input::Bootstrap {
                url,
                seeds: seeds.ok(),
            };
            let _ = reply.send_blocking(Internal::Input(input));
        };
        self.pool.detach(fetch).await;
    }

    /// Saves unfinished builds; of several lists that wait only the newest is written.
    pub(crate) async fn save(&self, pending: Vec<build::Pending>) {
        if self.unsaved.put(pending) {
            let (store, unsaved) = (self.store.clone(), self.unsaved.clone());
            let write = move || {
                if let Err(error) = unsaved.write(&store) {
                    tracing::warn!(%error, "unfinished builds were not saved");
                }
            };
            self.pool.detach(write).await;
        }
    }

    /// Saves unfinished builds, and tells the loop when they are durable, or why they are not.
    pub(crate) async fn save_and_tell(&self, pending: Vec<build::Pending>) {
        self.unsaved.put(pending);
        let (store, unsaved) = (self.store.clone(), self.unsaved.clone());
        let reply = self.reply.clone();
        let write = move || {
            let saved = unsaved.write(&store);
            let _ = reply.send_blocking(Internal::BuildsSaved(saved));
        };
        self.pool.detach(write).await;
    }

    fn tools(&self) -> impl FnOnce() -> Result<Arc<Tools>, PipelineError> + Send + use<> {
        let (config, clock, toolbox) = (self.config.clone(), self.clock, self.toolbox.clone());
        move || toolbox.open(|| Tools::new(&config, clock))
    }
}

/// The pipeline's words for a spec.
fn pipeline_spec(spec: &BuildSpec) -> Result<Spec, PipelineError> {
    let unsupported = |it: &dyn std::fmt::Display| PipelineError::Unsupported(it.to_string());
    match spec {
        BuildSpec::Docker(it) => {
            let pointer = match it.reference() {
                Reference::Tag(tag) => Pointer::Tag(tag.clone()),
                Reference::Digest(digest) => Pointer::Digest(*digest),
            };
            let platforms = it
                .platforms()
                .iter()
                .map(|it| it.parse::<Platform>().map_err(|it| unsupported(&it)))
                .collect::<Result<_, _>>()?;
            Ok(Spec::Image {
                reference: ImageReference {
                    name: it.name().clone(),
                    pointer,
                },
                platforms,
            })
        }
        BuildSpec::Maven(it) => Ok(Spec::Maven {
            repository: it.repository().map(str::to_owned),
            coordinates: it.coordinates().clone(),
            extras: Vec::new(),
        }),
    }
}

/// What the build machine wants of an outcome.
fn built(outcome: Outcome) -> Result<Built, Failure> {
    // Builder and time are set by the machine.
    let entry = |it: FileFacts| it.into_entry(UNSET, WallTime::default());
    let entries = |package: Package| package.files.into_iter().map(entry).collect::<Vec<_>>();
    let mut packages = outcome.packages.into_iter();
    let Some(main) = packages.next() else {
        return Err(Failure::new(
            FailureCode::Internal,
            "the pipeline yielded nothing",
        ));
    };
    let tag = outcome.tag.map(|it| BindTag {
        registry: it.registry,
        repository: it.repository,
        tag: it.tag,
        digest: it.digest,
        builder: UNSET,
        time: WallTime::default(),
    });
    Ok(Built {
        files: entries(main),
        parts: packages.map(entries).collect(),
        tag,
    })
}

/// Stands where a builder will be.
const UNSET: NodeId = PublicKey([0; 32]);

fn failure(error: &PipelineError) -> Failure {
    let code = match error {
        PipelineError::NotFound { .. } => FailureCode::NotFound,
        PipelineError::Network { .. } | PipelineError::RateLimited { .. } => {
            FailureCode::Unreachable
        }
        PipelineError::DigestMismatch { .. } | PipelineError::Malformed { .. } => {
            FailureCode::Corrupt
        }
        PipelineError::Unauthorized { .. }
        | PipelineError::TooLarge { .. }
        | PipelineError::Unsupported(_)
        | PipelineError::Setup(_) => FailureCode::Refused,
        PipelineError::Cancelled | PipelineError::Local(_) => FailureCode::Internal,
    };
    Failure::new(code, &error.to_string())
}

/// Tells the loop how many bytes a run has moved.
struct Reporter {
    id: BuildId,
    reply: Sender<Internal>,
    done: AtomicU64,
}

impl Progress for Reporter {
    fn report(&self, step: Step<'_>) {
        if let Step::Received { bytes } = step {
            let before = self.done.fetch_add(bytes, Ordering::Relaxed);
            let done = before.saturating_add(bytes);
            if before / PROGRESS_BYTES != done / PROGRESS_BYTES {
                let input = Input::BuildProgress {
                    id: self.id,
                    done,
                    total: 0,
                };
                // Progress is news, not a fact: it may be lost when the loop is busy, and must not
                // take the room of results.
                if self.reply.len() < INTERNAL_MAX / 2 {
                    let _ = self.reply.try_send(Internal::Input(input));
                }
            }
        }
    }
}
