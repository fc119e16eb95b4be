//! Room for what was received and nobody has taken yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::task::AtomicWaker;

/// A number of bytes, and of messages, that may wait.
#[derive(Debug)]
pub(crate) struct Room {
    bytes_max: usize,
    messages_max: usize,
    bytes: AtomicUsize,
    messages: AtomicUsize,
    /// Wakes the one task that takes room.
    freed: Arc<AtomicWaker>,
}

impl Room {
    /// Room for `bytes_max` bytes; nobody is woken.
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Self::with(bytes_max, usize::MAX, Arc::default())
    }

    /// Room for `messages_max` messages of `bytes_max` bytes together.
    pub(crate) fn with(
        bytes_max: usize,
        messages_max: usize,
        freed: Arc<AtomicWaker>,
    ) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            messages_max,
            bytes: AtomicUsize::new(0),
            messages: AtomicUsize::new(0),
            freed,
        })
    }

    /// Takes room for a message of `bytes` bytes. An empty room takes a message of any length.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        // Only one task takes, so what is read here can only shrink.
        let messages = self.messages.load(Ordering::Acquire);
        let held = self.bytes.load(Ordering::Acquire);
        if messages >= self.messages_max || (messages > 0 && held + bytes > self.bytes_max) {
            return None;
        }
        self.messages.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Some(Permit {
            room: self.clone(),
            bytes,
        })
    }
}

/// Room that a message takes until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.room.messages.fetch_sub(1, Ordering::AcqRel);
        self.room.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.room.freed.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_limited_by_bytes_and_messages_and_comes_back() {
        let room = Room::with(10, 3, Arc::default());
        let first = room.take(10);
        assert!(first.is_some() && room.take(1).is_none());
        drop(first);
        let all = [room.take(1), room.take(1), room.take(1)];
        assert!(all.iter().all(Option::is_some) && room.take(0).is_none());
        drop(all);
        assert!(room.take(99).is_some(), "an empty room takes anything");
    }
}
