//! What an operation must not outlive: a callback that runs for it, a write to a descriptor of the
//! host.

use std::convert::Infallible;

use async_channel::{Receiver, Sender};

/// Held by what must be over first.
#[derive(Clone)]
pub(crate) struct Tether {
    _held: Sender<Infallible>,
}

/// Learns when the last copy of a [`Tether`] is gone.
pub(crate) struct Released(Receiver<Infallible>);

pub(crate) fn tether() -> (Tether, Released) {
    let (held, released) = async_channel::bounded(1);
    (Tether { _held: held }, Released(released))
}

impl Released {
    /// Waits until every copy is gone.
    pub(crate) async fn wait(&self) {
        // Nothing is ever sent.
        let _ = self.0.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn it_is_released_when_the_last_copy_is_gone() {
        let (first, released) = tether();
        let second = first.clone();
        drop(first);
        assert_eq!(block_on(poll_once(released.wait())), None);
        drop(second);
        assert_eq!(block_on(poll_once(released.wait())), Some(()));
    }
}
