//! Containers with a maximum and an explicit answer at the limit.

use std::collections::VecDeque;

/// A first-in, first-out queue that refuses more than its maximum.
#[derive(Clone, Debug)]
pub struct BoundedQueue<T> {
    items: VecDeque<T>,
    items_max: usize,
}

impl<T> BoundedQueue<T> {
    /// An empty queue for at most `items_max` items.
    pub const fn new(items_max: usize) -> Self {
        Self {
            items: VecDeque::new(),
            items_max,
        }
    }

    /// Appends `item`.
    ///
    /// # Errors
    ///
    /// Gives `item` back if the queue is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.items.len() >= self.items_max {
            return Err(item);
        }
        self.items.push_back(item);
        Ok(())
    }

    /// Appends `item`; at the limit the oldest item makes room and is returned.
    pub fn push_dropping_oldest(&mut self, item: T) -> Option<T> {
        let dropped = if self.items.len() >= self.items_max {
            self.items.pop_front()
        } else {
            None
        };
        self.items.push_back(item);
        dropped
    }

    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The items, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_gives_the_item_back() {
        let mut queue = BoundedQueue::new(1);
        assert_eq!(queue.push('a'), Ok(()));
        assert_eq!(queue.push('b'), Err('b'));
        assert_eq!(queue.push_dropping_oldest('c'), Some('a'));
        assert_eq!((queue.pop(), queue.pop()), (Some('c'), None));
    }
}
