//! Nodes to test with.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_executor::Executor;
use async_io::Timer;
use futures::future::BoxFuture;
use futures_lite::future::{self, block_on};
use libp2p::Multiaddr;

use crate::base::{ChainId, NodeId, SecretKey};
use crate::net::{Config, Net, NetEvent, NetHandle, Spawn};

/// Far more than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const CHAIN: ChainId = ChainId([7; 32]);

/// An executor on two threads, which end with it.
pub(super) struct Bed {
    executor: Arc<Executor<'static>>,
    _stop: Sender<()>,
}

struct OnExecutor(Arc<Executor<'static>>);

impl Spawn for OnExecutor {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task).detach();
    }
}

impl Bed {
    pub(super) fn new() -> Self {
        let executor = Arc::new(Executor::new());
        let (stop, stopped) = async_channel::bounded(1);
        for _ in 0..2 {
            let (executor, stopped) = (executor.clone(), stopped.clone());
            std::thread::spawn(move || block_on(executor.run(stopped.recv())));
        }
        Self {
            executor,
            _stop: stop,
        }
    }

    pub(super) fn executor(&self) -> Arc<dyn Spawn> {
        Arc::new(OnExecutor(self.executor.clone()))
    }

    /// Stops running tasks; nothing is dropped until the result is.
    pub(super) fn freeze(self) -> Arc<Executor<'static>> {
        self.executor.clone()
    }

    /// Whether every task has ended.
    pub(super) fn is_idle(&self) -> bool {
        self.executor.is_empty()
    }

    /// A node that listens on a free port of loopback.
    pub(super) fn node(&self, seed: u8) -> Node {
        self.node_with(seed, |_| ())
    }

    pub(super) fn node_with(&self, seed: u8, change: impl FnOnce(&mut Config)) -> Node {
        let key = SecretKey::from_seed([seed; 32]);
        let mut config = Config::new(CHAIN, u64::from(seed));
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        change(&mut config);
        let (handle, events) = Net::start(config, &key, self.executor()).unwrap();
        Node {
            id: key.public(),
            handle,
            events,
            passed: Mutex::default(),
        }
    }
}

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) handle: NetHandle,
    pub(super) events: Receiver<NetEvent>,
    /// Events that were not what a test waited for, yet.
    passed: Mutex<VecDeque<NetEvent>>,
}

impl Node {
    /// Waits for an event that `pick` takes; others are kept for later.
    pub(super) fn expect<T>(
        &self,
        what: &str,
        mut pick: impl FnMut(NetEvent) -> Result<T, NetEvent>,
    ) -> T {
        let mut passed = self.passed.lock().unwrap();
        for _ in 0..passed.len() {
            match pick(passed.pop_front().unwrap()) {
                Ok(picked) => return picked,
                Err(other) => passed.push_back(other),
            }
        }
        loop {
            let late = async {
                Timer::after(PATIENCE).await;
                panic!("waited in vain for {what}, got {passed:?}")
            };
            let event = block_on(future::or(self.events.recv(), late)).unwrap();
            match pick(event) {
                Ok(picked) => return picked,
                Err(other) => passed.push_back(other),
            }
        }
    }

    pub(super) fn address(&self) -> Multiaddr {
        self.expect("an address", |it| match it {
            NetEvent::Listening { address } => Ok(address),
            other => Err(other),
        })
    }

    pub(super) fn connected(&self, peer: &Self) -> bool {
        let is_outbound = self.linked(peer);
        self.handle.admit(peer.id).unwrap();
        is_outbound
    }

    /// The same for a peer that is not admitted.
    pub(super) fn linked(&self, peer: &Self) -> bool {
        self.expect("a link", |it| match it {
            NetEvent::Connected {
                peer: it,
                is_outbound,
                ..
            } if it == peer.id => Ok(is_outbound),
            other => Err(other),
        })
    }

    pub(super) fn disconnected(&self, peer: &Self) -> crate::net::DownReason {
        self.expect("the end of a link", |it| match it {
            NetEvent::Disconnected { peer: it, reason } if it == peer.id => Ok(reason),
            other => Err(other),
        })
    }

    pub(super) fn frame(&self, peer: &Self) -> (crate::net::Protocol, Vec<u8>) {
        self.expect("a message", |it| match it {
            NetEvent::Frame {
                peer: it,
                protocol,
                bytes,
            } if it == peer.id => Ok((protocol, bytes.into_vec())),
            other => Err(other),
        })
    }

    /// Links `self` to `peer`, by a dial of `self`.
    pub(super) fn join(&self, peer: &Self) {
        self.handle.dial(peer.address(), Some(peer.id)).unwrap();
        assert!(self.connected(peer));
        assert!(!peer.connected(self));
    }

    /// Whether an event that was passed over fits.
    pub(super) fn has_passed(&self, fits: impl Fn(&NetEvent) -> bool) -> bool {
        self.passed.lock().unwrap().iter().any(fits)
    }
}

/// The output of `task`, which must come in time.
pub(super) fn within<T>(what: &str, task: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(PATIENCE).await;
        panic!("waited in vain for {what}")
    };
    block_on(future::or(task, late))
}
