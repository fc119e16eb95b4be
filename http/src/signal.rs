//! Signals that are raised once and stay raised.

use async_channel::{Receiver, Sender};

/// The end that raises a signal. Dropping it raises it too.
#[derive(Debug)]
pub(crate) struct Signal(Sender<()>);

/// The end that waits for a signal.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Receiver<()>);

/// A signal that is not raised.
pub(crate) fn signal() -> (Signal, Watch) {
    // Nothing is ever sent: closing the channel is the signal.
    let (sender, receiver) = async_channel::bounded(1);
    (Signal(sender), Watch(receiver))
}

impl Signal {
    /// Raises the signal; again does nothing.
    pub(crate) fn raise(&self) {
        self.0.close();
    }
}

impl Watch {
    /// Waits until the signal is raised. Safe to drop.
    pub(crate) async fn raised(&self) {
        let _ = self.0.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future;

    use super::*;

    #[test]
    fn everybody_sees_a_raised_signal() {
        let (signal, watch) = signal();
        let other = watch.clone();
        assert_eq!(future::block_on(future::poll_once(watch.raised())), None);
        signal.raise();
        future::block_on(future::zip(watch.raised(), other.raised()));
    }
}
