//! The timeouts of a height.

use std::collections::BTreeMap;
use std::time::Duration;

use arc_malachitebft_core_types::{Timeout, TimeoutKind};

use crate::base::Time;
use crate::proto::chain::genesis::Params;
use crate::proto::consensus::convert::round;

/// No step waits longer, whatever the round.
pub const STEP_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// How long each step waits. Every round adds half of the first round's wait, so that the members
/// find each other in a slow network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    propose: Duration,
    vote: Duration,
}

impl Waits {
    pub(crate) fn new(params: &Params) -> Self {
        Self {
            propose: Duration::from_millis(params.propose_timeout_ms),
            vote: Duration::from_millis(params.vote_timeout_ms),
        }
    }

    fn of(&self, timeout: Timeout) -> Duration {
        let grown = |first: Duration| {
            let added = (first / 2).saturating_mul(round(timeout.round));
            first.saturating_add(added).min(STEP_TIMEOUT_MAX)
        };
        match timeout.kind {
            TimeoutKind::Propose => grown(self.propose),
            TimeoutKind::Prevote | TimeoutKind::Precommit => grown(self.vote),
            // Rebroadcasts do not grow: they end a healed partition.
            TimeoutKind::Rebroadcast => self.vote,
            TimeoutKind::FinalizeHeight(wait) => wait,
        }
    }
}

/// The pending timeouts. There are never more than a few: one of each kind and round.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<(Time, u64), Timeout>,
    /// Tells timeouts of one instant apart, in the order of their scheduling.
    sequence: u64,
}

impl Timers {
    /// Schedules `timeout`, instead of the same one that is pending.
    pub(crate) fn schedule(&mut self, now: Time, waits: &Waits, timeout: Timeout) {
        self.cancel(timeout);
        self.sequence += 1;
        let due = now + waits.of(timeout);
        self.due.insert((due, self.sequence), timeout);
    }

    pub(crate) fn cancel(&mut self, timeout: Timeout) {
        self.due.retain(|_, it| *it != timeout);
    }

    pub(crate) fn clear(&mut self) {
        self.due.clear();
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.due.keys().next().map(|(due, _)| *due)
    }

    /// Takes the first timeout that is due.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Timeout> {
        let first = self.due.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arc_malachitebft_core_types::Round;

    const fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn steps_wait_longer_in_later_rounds_up_to_the_limit() {
        let waits = Waits::new(&Params::default());
        for (timeout, millis) in [
            (Timeout::propose(Round::new(0)), 1_000),
            (Timeout::propose(Round::new(3)), 2_500),
            (Timeout::prevote(Round::new(2)), 1_000),
            (Timeout::precommit(Round::new(1)), 750),
            (Timeout::rebroadcast(Round::new(9)), 500),
            (Timeout::propose(Round::new(u32::MAX)), 60_000),
        ] {
            assert_eq!(
                waits.of(timeout),
                Duration::from_millis(millis),
                "{timeout}"
            );
        }
    }

    #[test]
    fn a_timeout_fires_once_when_due_unless_cancelled_or_moved() {
        let waits = Waits::new(&Params::default());
        let (propose, vote) = (
            Timeout::propose(Round::new(0)),
            Timeout::prevote(Round::new(0)),
        );
        let mut timers = Timers::default();
        timers.schedule(at(0), &waits, propose);
        timers.schedule(at(0), &waits, vote);
        timers.schedule(at(100), &waits, propose);
        assert_eq!(timers.next(), Some(at(500)));
        assert_eq!(timers.pop(at(499)), None);
        assert_eq!(timers.pop(at(500)), Some(vote));
        assert_eq!(timers.pop(at(1_099)), None);
        timers.cancel(propose);
        assert_eq!((timers.pop(at(9_999)), timers.next()), (None, None));
    }
}
