//! Answers to owners who asked for a package: they promise that it will be remembered, so they wait
//! until it is durable.
//!
//! The loop goes on meanwhile. One save runs at a time; all who ask while it runs share the next
//! one, so that a hundred requests at once cost two commits and no vote waits for them.

use async_channel::Sender;

use crate::node::handle::NodeError;
use crate::proto::build::{BuildStatus, Refusal};
use crate::store::StoreError;

/// Most answers that wait; at the limit the loop takes no commands until a save has ended.
pub(crate) const ANSWERS_MAX: usize = 256;

/// Why a package that was asked for may be forgotten, or was not taken at all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum NotTaken {
    /// It cannot be asked for now.
    Refused(Refusal),
    /// There is no room to remember it. The build goes on, but does not survive a restart.
    NoRoom(StoreError),
}

impl From<NotTaken> for NodeError {
    fn from(why: NotTaken) -> Self {
        match why {
            NotTaken::Refused(it) => Self::Build(it),
            NotTaken::NoRoom(it) => Self::Store(it),
        }
    }
}

/// Where the answer to a request goes.
pub(crate) type Reply = Sender<Result<BuildStatus, NotTaken>>;

/// Answers that wait for a save.
#[derive(Default)]
pub(crate) struct Answers {
    /// Those that the running save answers; none if no save is running.
    saving: Vec<(Reply, BuildStatus)>,
    /// Those that came later.
    waiting: Vec<(Reply, BuildStatus)>,
}

impl Answers {
    /// Answers when `status` is durable.
    pub(crate) fn wait(&mut self, reply: Reply, status: BuildStatus) {
        self.waiting.push((reply, status));
    }

    /// Whether no more should come for now.
    pub(crate) fn is_full(&self) -> bool {
        ANSWERS_MAX <= self.saving.len() + self.waiting.len()
    }

    /// Whether it is time to save: somebody waits, and no save is running. It counts as running
    /// until [`Answers::saved`].
    pub(crate) fn begin(&mut self) -> bool {
        if !self.saving.is_empty() {
            return false;
        }
        self.saving = std::mem::take(&mut self.waiting);
        !self.saving.is_empty()
    }

    /// The save has ended.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the node must stop. Nobody is answered then: who waits learns the reason
    /// when this is dropped.
    pub(crate) fn saved(&mut self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        let refused = match result {
            Ok(()) => None,
            // Writing works again when there is room.
            Err(it @ (StoreError::DiskFull { .. } | StoreError::DatabaseFull)) => Some(it),
            Err(other) => return Err(other),
        };
        for (reply, status) in self.saving.drain(..) {
            let answer = refused
                .clone()
                .map_or(Ok(status), |it| Err(NotTaken::NoRoom(it)));
            let _ = reply.try_send(answer);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::time::Duration;

    use async_channel::{Receiver, TryRecvError};
    use async_io::Timer;
    use futures_lite::future::{block_on, or, yield_now, zip};

    use super::*;
    use crate::base::WallTime;
    use crate::node::config::Config;
    use crate::node::{Network, Node};
    use crate::proto::build::{BuildSpec, Maven, State};
    use crate::proto::chain::testing::node_keys;

    type Heard = Receiver<Result<BuildStatus, NotTaken>>;

    fn status() -> BuildStatus {
        let spec: BuildSpec = Maven::new(None, "g", "a", "1").unwrap().into();
        BuildStatus {
            id: spec.id(),
            spec,
            attempt: 1,
            requester: node_keys(1).id(),
            requested: WallTime::default(),
            state: State::Requested,
            quorum: 1,
            nodes: Vec::new(),
        }
    }

    fn ask(answers: &mut Answers) -> Heard {
        let (reply, heard) = async_channel::bounded(1);
        answers.wait(reply, status());
        heard
    }

    #[test]
    fn who_asks_while_a_save_runs_shares_the_next_one() {
        let mut answers = Answers::default();
        assert!(!answers.begin(), "nobody waits");
        let alice = ask(&mut answers);
        assert!(answers.begin());
        let later: Vec<_> = (0..9).map(|_| ask(&mut answers)).collect();
        assert!(!answers.begin(), "one at a time");
        assert_eq!(answers.saved(Ok(())), Ok(()));
        assert_eq!(alice.try_recv(), Ok(Ok(status())));
        for it in &later {
            assert_eq!(it.try_recv(), Err(TryRecvError::Empty), "not durable yet");
        }
        assert!(answers.begin());
        assert_eq!(answers.saved(Ok(())), Ok(()));
        for it in &later {
            assert_eq!(it.try_recv(), Ok(Ok(status())));
        }
        assert!(!answers.begin());
    }

    #[test]
    fn who_asks_hears_of_a_full_disk_and_the_node_goes_on() {
        let full = StoreError::DiskFull {
            dir: "/data".into(),
        };
        for error in [full, StoreError::DatabaseFull] {
            let mut answers = Answers::default();
            let alice = ask(&mut answers);
            assert!(answers.begin());
            assert_eq!(answers.saved(Err(error.clone())), Ok(()));
            assert_eq!(alice.try_recv(), Ok(Err(NotTaken::NoRoom(error.clone()))));
            let told = NodeError::from(NotTaken::NoRoom(error.clone())).to_string();
            assert_eq!(told, format!("the store: {error}"));
            let bob = ask(&mut answers);
            assert!(answers.begin());
            assert_eq!(answers.saved(Ok(())), Ok(()));
            assert_eq!(bob.try_recv(), Ok(Ok(status())));
        }
    }

    #[test]
    fn a_failure_that_stops_the_node_is_not_told_before_its_reason_is_known() {
        let mut answers = Answers::default();
        let (alice, bob) = (ask(&mut answers), ask(&mut answers));
        assert!(answers.begin());
        let failed = StoreError::Closed;
        assert_eq!(answers.saved(Err(failed.clone())), Err(failed));
        for it in [alice, bob] {
            assert_eq!(it.try_recv(), Err(TryRecvError::Empty), "still waiting");
        }
    }

    #[test]
    fn the_loop_goes_on_while_a_request_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        // An upstream that never answers: the build stays unfinished.
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::new(folder.path());
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
        config.repositories = vec![format!("http://{}", upstream.local_addr().unwrap())];
        let node = block_on(Node::start(config, Network::StoredOrSolo)).unwrap();
        let ((busy, is_busy), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
        node.0.store.meta().put_later("test", b"k", b"", move |_| {
            busy.send(()).unwrap();
            released.recv().ok();
        });
        is_busy.recv().unwrap();
        let spec = |version| BuildSpec::from(Maven::new(None, "g", "a", version).unwrap());
        let (first, second) = (spec("1"), spec("2"));
        let asked = zip(
            node.request_build(first.clone()),
            node.request_build(second.clone()),
        );
        let look = async {
            // The loop answers this, once it has taken both.
            while node.builds().await.unwrap().len() < 2 {
                yield_now().await;
            }
            drop(release);
        };
        let hung = async {
            Timer::after(Duration::from_secs(60)).await;
            panic!("the loop waits for the disk");
        };
        let ((one, two), ()) = block_on(or(zip(asked, look), hung));
        assert_eq!((one.unwrap().spec, two.unwrap().spec), (first, second));
        block_on(node.shutdown());
    }

    #[test]
    fn answers_that_wait_have_a_limit() {
        let mut answers = Answers::default();
        let mut heard = vec![ask(&mut answers)];
        assert!(answers.begin());
        while !answers.is_full() {
            heard.push(ask(&mut answers));
        }
        assert_eq!(heard.len(), ANSWERS_MAX);
        assert_eq!(answers.saved(Ok(())), Ok(()));
        assert!(!answers.is_full());
    }
}
