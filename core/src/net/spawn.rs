//! The executor that a host hands in, and a count of the tasks that run on it.

use std::convert::Infallible;
use std::sync::Arc;

use async_channel::{Receiver, Sender};
use futures::future::BoxFuture;

/// An executor: somewhere to run a task until it ends.
///
/// All tasks of one connection are spawned one by one; an executor with a thread per core should
/// keep each of them on its thread, because moving a connection's work costs more than the work.
pub trait Spawn: Send + Sync {
    /// Runs `task` to its end in the background.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

impl<F: Fn(BoxFuture<'static, ()>) + Send + Sync> Spawn for F {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self(task);
    }
}

/// Spawns tasks and tells when the last of them has ended.
#[derive(Clone)]
pub(crate) struct Tasks {
    executor: Arc<dyn Spawn>,
    /// Every task holds a clone: the channel closes when all of them are gone.
    running: Sender<Infallible>,
}

impl Tasks {
    /// A spawner on `executor`, and what resolves once it and all its tasks are gone.
    pub(crate) fn new(executor: Arc<dyn Spawn>) -> (Self, Ended) {
        let (running, ended) = async_channel::bounded(1);
        (Self { executor, running }, Ended(ended))
    }

    /// Runs `task` in the background.
    pub(crate) fn spawn(&self, task: BoxFuture<'static, ()>) {
        let running = self.running.clone();
        self.executor.spawn(Box::pin(async move {
            task.await;
            drop(running);
        }));
    }
}

/// Resolves when all tasks of a [`Tasks`] have ended.
#[derive(Clone)]
pub(crate) struct Ended(Receiver<Infallible>);

impl Ended {
    /// Waits for the end. Dropping the future is safe.
    pub(crate) async fn wait(&self) {
        // Nothing is ever sent: an error means that every sender is gone.
        while self.0.recv().await.is_ok() {}
    }
}
