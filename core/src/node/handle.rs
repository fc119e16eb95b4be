//! The public handle of a running node.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future;

use crate::base::{Algorithm, Blake3, Digest, NodeId, Sha256, WallTime};
use crate::net::ListenFault;
use crate::node::clock::Clock;
use crate::node::config::Config;
use crate::node::event::Event;
use crate::node::executor::{Pool, Tasks, Threads, with_timeout};
use crate::node::log::Log;
use crate::node::metrics::Metric;
use crate::node::origin::OriginRecord;
use crate::node::run::Command;
use crate::node::share::Hub;
use crate::node::share::keep::ORIGINS;
use crate::node::shared::Shared;
use crate::node::status::{PeerStatus, Status};
use crate::proto::build::{BuildId, BuildSpec, BuildStatus, Refusal};
use crate::proto::chain::Genesis;
use crate::proto::log::entry::Entry;
use crate::proto::pool::{Change, Marks};
use crate::store::{BlobInfo, Store, StoreError};

/// Why a request to the node was not answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeError {
    /// The build was not taken.
    #[error(transparent)]
    Build(#[from] Refusal),
    /// The entries were not taken.
    #[error("the entries were not taken: {0}")]
    Offer(String),
    /// The change was not taken.
    #[error("the change was not taken: {0}")]
    Change(String),
    /// Too much of this is going on.
    #[error("{0}; try again later")]
    Busy(&'static str),
    /// The node stopped by itself.
    #[error("the node stopped: {0}")]
    Failed(String),
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Closed,
    /// Nothing came of it in time.
    #[error("not within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The store failed.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// It is not stored here.
    #[error("{0} is not stored here")]
    NotStored(Blake3),
}

/// A running node; cheap to clone. Futures of all methods run on any executor.
#[derive(Clone)]
pub struct Node(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) id: NodeId,
    pub(crate) config: Arc<Config>,
    pub(crate) genesis: Arc<Genesis>,
    pub(crate) store: Arc<Store>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) pool: Pool,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
    pub(crate) started: WallTime,
    pub(crate) commands: Sender<Command>,
    /// Taken at shutdown.
    pub(crate) threads: Mutex<Option<Threads>>,
}

impl Node {
    /// This node.
    pub fn id(&self) -> NodeId {
        self.0.id
    }

    /// The network.
    pub fn genesis(&self) -> &Genesis {
        &self.0.genesis
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Where everything durable lives.
    pub fn data_dir(&self) -> &Path {
        &self.0.config.data_dir
    }

    /// Runs `task` on the node's executor.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(task);
    }

    /// The node's clock.
    pub fn wall(&self) -> WallTime {
        self.0.clock.wall()
    }

    /// Queries, proofs and checkpoints.
    pub fn log(&self) -> Log {
        let (store, shared) = (self.0.store.clone(), self.0.shared.clone());
        Log {
            store,
            shared,
            genesis: self.0.genesis.clone(),
        }
    }

    /// How the node stands.
    pub fn status(&self) -> Status {
        crate::node::view::status(&self.0)
    }

    /// Numbers for monitoring, by name and unit: what the front end shows at `/metrics`. Cheap
    /// enough to be asked every second.
    pub fn metrics(&self) -> Vec<Metric> {
        crate::node::metrics::metrics(&self.0)
    }

    /// Peers, and nodes that were turned away lately.
    pub fn peers(&self) -> Vec<PeerStatus> {
        crate::node::view::peers(&self.0)
    }

    /// Events from now on. A reader that is too slow loses the oldest; of more than 1,024 readers the
    /// last get none: their channel is closed.
    pub fn events(&self) -> Receiver<Event> {
        self.0.shared.subscribe()
    }

    /// Waits until the node has reached the head of the log, by its own evidence, and everything up to
    /// there can be read: until then it may not know what the network knows.
    ///
    /// # Errors
    ///
    /// [`NodeError::Closed`] or [`NodeError::Failed`] if the node has stopped; [`NodeError::Store`] if
    /// its index has.
    pub async fn live(&self) -> Result<(), NodeError> {
        let mut goal = None;
        let head = |_: &Shared| {
            let log = self.status().log;
            log.reaches(&mut goal).then_some(log.size)
        };
        let size = self.0.shared.wait_for(head).await;
        let size = size.ok_or_else(|| self.gone())?;
        let covers = async { Ok(self.0.store.index().covers(size).await?) };
        let gone = async {
            let _ = self.0.shared.wait_for(|_| None::<()>).await;
            Err(self.gone())
        };
        future::or(covers, gone).await
    }

    /// Why the node cannot listen for peers, oldest first.
    pub fn listen_problems(&self) -> Vec<ListenFault> {
        self.0.shared.problems()
    }

    /// Whether a pull of something the log lacks asks for its build.
    pub fn reads_through(&self) -> bool {
        use crate::node::config::ReadThrough;
        match self.0.config.read_through {
            ReadThrough::On => true,
            ReadThrough::Off => false,
            ReadThrough::Auto => self.log().members().len() == 1,
        }
    }

    /// Asks the authorized nodes to add a package.
    ///
    /// # Errors
    ///
    /// [`NodeError::Build`] if it cannot be asked for now.
    pub async fn request_build(&self, spec: BuildSpec) -> Result<BuildStatus, NodeError> {
        Ok(self.ask(|reply| Command::Build(spec, reply)).await??)
    }

    /// How a build stands; `None` if this node has not seen it.
    ///
    /// # Errors
    ///
    /// [`NodeError::Closed`] or [`NodeError::Failed`] if the node has stopped.
    pub async fn build(&self, id: BuildId) -> Result<Option<BuildStatus>, NodeError> {
        self.ask(|reply| Command::BuildStatus(id, reply)).await
    }

    /// All builds this node knows of.
    ///
    /// # Errors
    ///
    /// [`NodeError::Closed`] or [`NodeError::Failed`] if the node has stopped.
    pub async fn builds(&self) -> Result<Vec<BuildStatus>, NodeError> {
        self.ask(Command::Builds).await
    }

    /// Waits until a build is committed or has failed.
    ///
    /// # Errors
    ///
    /// [`NodeError::Timeout`] if it is still open after `limit`.
    pub async fn wait_build(&self, id: BuildId, limit: Duration) -> Result<BuildStatus, NodeError> {
        let events = self.events();
        let wait = async {
            loop {
                if let Some(status) = self.build(id).await?.filter(|it| it.state.is_final()) {
                    return Ok(status);
                }
                loop {
                    match events.recv().await {
                        Ok(Event::Build { id: changed }) if changed == id => break,
                        Ok(_) => (),
                        Err(_) if self.0.shared.is_closed() => return Err(self.gone()),
                        Err(_) => return Err(NodeError::Busy("too many readers of events")),
                    }
                }
            }
        };
        with_timeout(limit, wait)
            .await
            .unwrap_or(Err(NodeError::Timeout(limit)))
    }

    /// Offers entries with the attestations of authorized nodes for the next block, such as those
    /// that another program collected. They enter the log once a quorum has attested them.
    ///
    /// # Errors
    ///
    /// [`NodeError::Offer`] if they are not a well-formed group, known, or there is no room.
    pub async fn offer(&self, group: Vec<Entry>) -> Result<(), NodeError> {
        self.ask(|reply| Command::Offer(group, reply))
            .await?
            .map_err(NodeError::Offer)
    }

    /// The owner of this authorized node consents to a change.
    ///
    /// # Errors
    ///
    /// [`NodeError::Change`] if this node is not authorized, or consented already.
    pub async fn consent(&self, change: Change) -> Result<(), NodeError> {
        self.ask(|reply| Command::Mark(change, reply))
            .await?
            .map_err(NodeError::Change)
    }

    /// The changes that wait for consent.
    ///
    /// # Errors
    ///
    /// [`NodeError::Closed`] or [`NodeError::Failed`] if the node has stopped.
    pub async fn changes(&self) -> Result<Vec<Marks>, NodeError> {
        self.ask(Command::Changes).await
    }

    /// Whether an artifact is stored here, whole.
    pub fn stores(&self, blake3: &Blake3) -> bool {
        self.0.store.blobs().contains(blake3).unwrap_or(false)
    }

    /// Where the stored bytes came from, if that was noted.
    pub fn origin_of(&self, blake3: &Blake3) -> Option<OriginRecord> {
        let bytes = self.0.store.meta().get(ORIGINS, &blake3.0).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// What is stored here, whole, under a digest (BLAKE3 or SHA-256).
    ///
    /// # Errors
    ///
    /// [`NodeError::Store`] if the store fails.
    pub fn stored(&self, digest: &Digest) -> Result<Option<BlobInfo>, NodeError> {
        let (blobs, bytes) = (self.0.store.blobs(), digest.bytes());
        let blake3 = match (digest.algorithm(), bytes.try_into()) {
            (Algorithm::Blake3, Ok(bytes)) => Some(Blake3(bytes)),
            (Algorithm::Sha256, Ok(bytes)) => blobs.by_sha256(&Sha256(bytes))?,
            _ => None,
        };
        blake3.map_or(Ok(None), |it| Ok(blobs.info(&it)?))
    }

    /// Evicts what is used least until at most `bytes_max` bytes are stored, or all that is left
    /// is pinned or in use. Returns the bytes that became free.
    ///
    /// # Errors
    ///
    /// [`NodeError::Store`] if the disk refuses.
    pub async fn shrink(&self, bytes_max: u64) -> Result<u64, NodeError> {
        let store = self.0.store.clone();
        let shrink = move || store.blobs().shrink(bytes_max);
        let freed = self.0.pool.run(shrink).await;
        Ok(freed.map_err(|_| NodeError::Closed)??)
    }

    /// Keeps an artifact whatever the quota says, or no longer.
    ///
    /// # Errors
    ///
    /// [`NodeError::NotStored`] if it is not stored, [`NodeError::Store`] if the store fails.
    pub async fn pin(&self, blake3: Blake3, pinned: bool) -> Result<(), NodeError> {
        let store = self.0.store.clone();
        let pin = move || store.blobs().set_pinned(&blake3, pinned);
        let is_stored = self.0.pool.run(pin).await;
        match is_stored.map_err(|_| NodeError::Closed)?? {
            true => Ok(()),
            false => Err(NodeError::NotStored(blake3)),
        }
    }

    /// Finishes or rolls back what is in flight, and waits for it. Later calls fail.
    pub async fn shutdown(&self) {
        let (done, ended) = async_channel::bounded(1);
        if self.0.commands.send(Command::Stop(done)).await.is_ok() {
            let _ = ended.recv().await;
        }
        self.0
            .shared
            .wait_for(|it| it.is_closed().then_some(()))
            .await;
        let threads = self
            .0
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(threads) = threads {
            threads.stop();
        }
    }

    /// Waits until the node has stopped, by whatever cause; tells the cause if it was a failure.
    pub async fn stopped(&self) -> Option<String> {
        self.0
            .shared
            .wait_for(|it| it.is_closed().then_some(()))
            .await;
        self.failure()
    }

    /// Why the node stopped by itself, if it did.
    pub fn failure(&self) -> Option<String> {
        self.0.shared.failure()
    }

    async fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Result<T, NodeError> {
        let (reply, answer) = async_channel::bounded(1);
        self.0
            .commands
            .send(command(reply))
            .await
            .map_err(|_| self.gone())?;
        answer.recv().await.map_err(|_| self.gone())
    }

    pub(crate) fn gone(&self) -> NodeError {
        self.failure().map_or(NodeError::Closed, NodeError::Failed)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc;

    use async_io::Timer;
    use futures_lite::future::{block_on, or};

    use super::*;
    use crate::node::Network;
    use crate::node::config::Config;
    use crate::node::pending::load_builds;

    #[test]
    fn a_request_is_answered_when_a_crash_would_not_lose_it() {
        let folder = tempfile::tempdir().unwrap();
        // An upstream that never answers: the build stays unfinished.
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::new(folder.path());
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
        config.repositories = vec![format!("http://{}", upstream.local_addr().unwrap())];
        let node = block_on(Node::start(config, Network::StoredOrSolo)).unwrap();
        let store = node.0.store.clone();
        let ((busy, is_busy), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
        store.meta().put_later("test", b"k", b"", move |_| {
            busy.send(()).unwrap();
            released.recv().ok();
        });
        is_busy.recv().unwrap();

        let spec: BuildSpec = "maven g:a:1".parse().unwrap();
        let mut asked = Box::pin(node.request_build(spec.clone()));
        let early = async { Some(asked.as_mut().await) };
        // Long enough for an answer that does not wait for the disk.
        let late = async {
            Timer::after(Duration::from_millis(500)).await;
            None
        };
        assert!(block_on(or(early, late)).is_none(), "answered too early");
        assert_eq!(load_builds(&store), Ok(vec![]));
        drop(release);
        let status = block_on(asked).unwrap();
        assert_eq!(status.spec, spec);
        let kept: Vec<_> = load_builds(&store).unwrap();
        assert_eq!(
            kept.into_iter()
                .map(|it| it.request.spec)
                .collect::<Vec<_>>(),
            [spec]
        );
        block_on(node.shutdown());
    }
}
