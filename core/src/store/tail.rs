//! The newest leaves, indexed in memory until the index environment has them, so that queries see
//! a block as soon as it is appended.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::Event;

use crate::proto::log::entry::Entry;
use crate::proto::log::index;

/// Most leaves in memory. Beyond, queries end at an older size until the index has caught up.
pub(crate) const TAIL_LEAVES_MAX: u64 = 32_768;

/// The keys of one block.
pub(crate) struct Rows {
    from: u64,
    to: u64,
    keys: Vec<Vec<u8>>,
}

/// The tail: the leaves `from .. to`, which the index does not have.
pub(crate) struct Tail {
    state: Mutex<State>,
    /// Signalled when the log has grown or the follower is to stop.
    grown: Condvar,
    /// Signalled when the index has grown.
    indexed: Condvar,
    /// Notified when queries see more, or may never do.
    seen: Event,
}

#[derive(Default)]
pub(crate) struct State {
    from: u64,
    to: u64,
    keys: BTreeSet<Vec<u8>>,
    /// Leaves in the log, as far as the follower was told.
    log_size: u64,
    is_closed: bool,
}

impl Tail {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            grown: Condvar::new(),
            indexed: Condvar::new(),
            seen: Event::new(),
        }
    }

    /// Computes the keys of a block, on the caller's thread.
    pub(crate) fn prepare(&self, from: u64, leaves: &[Vec<u8>]) -> Rows {
        let keys = leaves
            .iter()
            .zip(from..)
            .flat_map(|(leaf, at)| leaf_keys(at, leaf))
            .collect();
        Rows {
            from,
            to: from.saturating_add(leaves.len() as u64),
            keys,
        }
    }

    /// Adds a block that is durable now, and wakes the follower.
    pub(crate) fn push(&self, rows: Rows) {
        let mut state = self.lock();
        state.log_size = state.log_size.max(rows.to);
        // The follower may be faster, and may have stopped inside of the block.
        let is_next = rows.from <= state.to && state.to < rows.to;
        if is_next && rows.to - state.from <= TAIL_LEAVES_MAX {
            let from = state.from;
            let is_new = |it: &Vec<u8>| index::index_of(it).is_some_and(|at| from <= at);
            state.keys.extend(rows.keys.into_iter().filter(is_new));
            state.to = rows.to;
        }
        drop(state);
        self.grown.notify_all();
        self.seen.notify(usize::MAX);
    }

    /// Forgets the leaves before `size`, which the index has now.
    pub(crate) fn trim(&self, size: u64) {
        let mut state = self.lock();
        state.from = state.from.max(size);
        state.to = state.to.max(size);
        if state.from == state.to {
            state.keys.clear();
        } else {
            let from = state.from;
            state
                .keys
                .retain(|it| index::index_of(it).is_some_and(|at| from <= at));
        }
        drop(state);
        self.indexed.notify_all();
        self.seen.notify(usize::MAX);
    }

    /// Queries may see no more than they do.
    pub(crate) fn stop(&self) {
        self.seen.notify(usize::MAX);
    }

    /// Waits until `look` has an answer; it is asked whenever queries see more.
    pub(crate) async fn wait_for<T>(&self, look: impl Fn(&State) -> Option<T>) -> T {
        loop {
            let seen = self.seen.listen();
            if let Some(found) = look(&self.lock()) {
                return found;
            }
            seen.await;
        }
    }

    /// Waits until the index has the whole log; false if `timeout` is over before.
    pub(crate) fn wait_indexed(&self, timeout: Duration) -> bool {
        let (state, _) = self
            .indexed
            .wait_timeout_while(self.lock(), timeout, |it| it.from < it.log_size)
            .unwrap_or_else(PoisonError::into_inner);
        state.log_size <= state.from
    }

    /// Starts over: the index has `indexed` of the log's `log_size` leaves.
    pub(crate) fn reset(&self, indexed: u64, log_size: u64) {
        *self.lock() = State {
            from: indexed,
            to: indexed,
            log_size,
            ..State::default()
        };
    }

    /// Ends [`Tail::wait`].
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.grown.notify_all();
    }

    /// Waits until the log has more than `indexed` leaves, then a little longer for a batch of
    /// `batch` to gather. False if the tail was closed.
    pub(crate) fn wait(&self, indexed: u64, batch: u64, gather: Duration) -> bool {
        let state = self
            .grown
            .wait_while(self.lock(), |it| !it.is_closed && it.log_size <= indexed)
            .unwrap_or_else(PoisonError::into_inner);
        let (state, _) = self
            .grown
            .wait_timeout_while(state, gather, |it| {
                !it.is_closed && it.log_size - indexed < batch
            })
            .unwrap_or_else(PoisonError::into_inner);
        !state.is_closed
    }

    /// Waits for `pause`, or until the tail is closed; false if it was.
    pub(crate) fn pause(&self, pause: Duration) -> bool {
        let (state, _) = self
            .grown
            .wait_timeout_while(self.lock(), pause, |it| !it.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        !state.is_closed
    }

    /// The state, for a reader: a read transaction of the index begun while it is held, and the
    /// keys taken from it, miss nothing together.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Leaves that the index has.
    pub(crate) fn indexed(&self) -> u64 {
        self.from
    }

    /// Leaves that queries see.
    pub(crate) fn size(&self) -> u64 {
        self.to
    }

    /// Leaves in the log.
    pub(crate) fn log_size(&self) -> u64 {
        self.log_size
    }

    /// The keys from `low` on, to and without `high`.
    pub(crate) fn range(&self, low: &[u8], high: &[u8]) -> Vec<Vec<u8>> {
        if high <= low {
            return Vec::new();
        }
        let bounds = (Bound::Included(low), Bound::Excluded(high));
        self.keys.range::<[u8], _>(bounds).cloned().collect()
    }
}

/// The keys of a leaf; none if a later version wrote it.
pub(crate) fn leaf_keys(index: u64, leaf: &[u8]) -> Vec<Vec<u8>> {
    Entry::from_bytes(leaf).map_or(Vec::new(), |it| index::keys(index, &it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(from: u64, to: u64) -> Rows {
        let keys = (from..to).map(|it| it.to_be_bytes().to_vec()).collect();
        Rows { from, to, keys }
    }

    fn seen(tail: &Tail) -> (Vec<u64>, u64) {
        let state = tail.lock();
        let keys = state.range(&[], &[0xff; 9]);
        let leaves = keys.iter().filter_map(|it| index::index_of(it));
        (leaves.collect(), state.size())
    }

    #[test]
    fn the_tail_has_what_the_index_lacks_in_whatever_order_both_grow() {
        let tail = Tail::new();
        tail.push(rows(0, 2));
        tail.push(rows(2, 4));
        tail.trim(3);
        assert_eq!(seen(&tail), (vec![3], 4));
        // The follower was faster than the completion, and stopped inside of the block.
        tail.trim(6);
        tail.push(rows(4, 8));
        assert_eq!(seen(&tail), (vec![6, 7], 8));
        tail.trim(9);
        tail.push(rows(8, 9));
        assert_eq!(seen(&tail), (vec![], 9));
    }

    #[test]
    fn a_full_tail_takes_no_more_until_the_index_has_caught_up() {
        let tail = Tail::new();
        tail.push(rows(0, TAIL_LEAVES_MAX));
        tail.push(rows(TAIL_LEAVES_MAX, TAIL_LEAVES_MAX + 1));
        assert_eq!(seen(&tail).1, TAIL_LEAVES_MAX);
        tail.trim(TAIL_LEAVES_MAX + 1);
        tail.push(rows(TAIL_LEAVES_MAX + 1, TAIL_LEAVES_MAX + 2));
        assert_eq!(
            seen(&tail),
            (vec![TAIL_LEAVES_MAX + 1], TAIL_LEAVES_MAX + 2)
        );
    }
}
