//! What a received message was worth.

/// Tells gossip whether to pass a message on, and whose fault it is if not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Judgement<E> {
    /// News: pass it on.
    Accept,
    /// Known, late, or beyond a limit: do not pass it on, do not blame the peer.
    Ignore,
    /// Forged: do not pass it on, blame the peer.
    Reject(E),
}
