//! Completion queues: ends of operations, collected for a thread of the host.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::failure::Failure;
use crate::status::kogge_status;
use crate::thread::{self, Deadline};

/// Most items that wait in a queue or will come for operations that run; beyond that operations
/// are refused with `KOGGE_STATUS_BUSY`.
const ITEMS_MAX: usize = 1 << 20;

/// What an item tells of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Item {
    /// An operation, by its handle, ended.
    Op {
        tag: u64,
        op: usize,
        status: kogge_status,
    },
    /// A subscription has events.
    Events { tag: u64 },
}

/// A queue of items with a descriptor that is readable while there are some.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    /// Items to come for operations that run.
    reserved: usize,
    /// Calls of `next` that are to return without an item.
    wakes: usize,
    is_closed: bool,
    /// Both ends of a pipe with one byte in it while there is something to take.
    signal: Option<(OwnedFd, OwnedFd)>,
    is_signalled: bool,
}

/// What a call of `next` got.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Next {
    Items(Vec<Item>),
    Woken,
    TimedOut,
    Closed,
}

/// Room in a queue for the item of an operation; given back if it is dropped.
pub(crate) struct Place {
    queue: Arc<Queue>,
    tag: u64,
}

impl Place {
    /// Keeps room for an operation that is about to start.
    ///
    /// # Errors
    ///
    /// `Busy` if there is none.
    pub(crate) fn reserve(queue: Arc<Queue>, tag: u64) -> Result<Self, Failure> {
        let mut state = queue.state();
        if ITEMS_MAX <= state.items.len() + state.reserved {
            let message = "the queue is full; take items out of it";
            return Err(Failure::new(kogge_status::Busy, message));
        }
        state.reserved += 1;
        drop(state);
        Ok(Self { queue, tag })
    }

    /// Puts the item there.
    pub(crate) fn take(self, op: usize, status: kogge_status) {
        let tag = self.tag;
        self.queue.push(Item::Op { tag, op, status });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.state().reserved -= 1;
    }
}

impl Queue {
    pub(crate) fn push(&self, item: Item) {
        let mut state = self.state();
        state.items.push_back(item);
        state.signal();
        drop(state);
        self.ready.notify_one();
    }

    /// Waits for items, and takes at most `max` of them.
    pub(crate) fn next(&self, max: usize, deadline: Deadline) -> Next {
        let mut state = self.state();
        loop {
            if !state.items.is_empty() {
                let count = max.min(state.items.len());
                let items = state.items.drain(..count).collect();
                state.signal();
                if !state.items.is_empty() {
                    self.ready.notify_one();
                }
                return Next::Items(items);
            }
            if state.is_closed {
                return Next::Closed;
            }
            if state.wakes != 0 {
                state.wakes -= 1;
                state.signal();
                return Next::Woken;
            }
            let Some(woken) = thread::wait_on(&self.ready, state, deadline) else {
                return Next::TimedOut;
            };
            state = woken;
        }
    }

    /// Lets one call of [`Queue::next`] return without an item.
    pub(crate) fn wake(&self) {
        let mut state = self.state();
        state.wakes += 1;
        state.signal();
        drop(state);
        self.ready.notify_one();
    }

    /// Lets all calls of [`Queue::next`] return, now and later.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.signal();
        drop(state);
        self.ready.notify_all();
    }

    /// A descriptor that is readable while [`Queue::next`] would not wait. It is closed with the
    /// queue.
    pub(crate) fn descriptor(&self) -> Result<i32, Failure> {
        let mut state = self.state();
        if state.signal.is_none() {
            let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
            state.signal = Some(pipe.map_err(std::io::Error::from)?);
            state.signal();
        }
        let signal = state.signal.as_ref();
        Ok(signal.map_or(-1, |it| it.0.as_raw_fd()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Makes the descriptor readable, or not, as the queue stands now.
    fn signal(&mut self) {
        let wanted = !self.items.is_empty() || self.wakes != 0 || self.is_closed;
        let Some((read, write)) = self.signal.as_ref().filter(|_| wanted != self.is_signalled)
        else {
            return;
        };
        // One byte always fits, and is there to be read: neither can fail or wait.
        let done = if wanted {
            rustix::io::write(write, &[1]).is_ok()
        } else {
            rustix::io::read(read, &mut [0_u8; 1]).is_ok()
        };
        if done {
            self.is_signalled = wanted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(queue: &Queue) -> bool {
        let mut poll = libc::pollfd {
            fd: queue.descriptor().unwrap(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid `pollfd`.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    fn item(tag: u64) -> Item {
        Item::Events { tag }
    }

    #[test]
    fn the_descriptor_is_readable_while_there_is_something_to_take() {
        let queue = Queue::default();
        assert!(!is_readable(&queue));
        queue.push(item(1));
        queue.push(item(2));
        assert!(is_readable(&queue));
        assert_eq!(queue.next(1, None), Next::Items(vec![item(1)]));
        assert!(is_readable(&queue));
        assert_eq!(queue.next(9, None), Next::Items(vec![item(2)]));
        assert!(!is_readable(&queue));
        queue.wake();
        assert!(is_readable(&queue));
        assert_eq!(queue.next(1, None), Next::Woken);
        assert!(!is_readable(&queue));
        assert_eq!(queue.next(1, thread::deadline(0)), Next::TimedOut);
        queue.close();
        assert!(is_readable(&queue));
        assert_eq!(queue.next(1, None), Next::Closed);
    }

    #[test]
    fn a_descriptor_that_is_asked_for_late_knows_what_is_there() {
        let queue = Queue::default();
        queue.push(item(1));
        assert!(is_readable(&queue));
    }

    #[test]
    fn who_waits_is_woken_by_an_item_and_by_the_end() {
        let queue = std::sync::Arc::new(Queue::default());
        for (expected, act) in [
            (
                Next::Items(vec![item(7)]),
                (|it| it.push(item(7))) as fn(&Queue),
            ),
            (Next::Closed, Queue::close),
        ] {
            let other = queue.clone();
            let waiting = std::thread::spawn(move || other.next(1, None));
            act(&queue);
            assert_eq!(waiting.join().unwrap(), expected);
        }
    }
}
