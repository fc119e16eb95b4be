//! A request that is under way.

use std::time::Duration;

use crate::base::Time;
use crate::proto::schedule::ranges::Ranges;

/// What was asked for more recently is not asked for twice. In a local network everything comes
/// within this time, and what was measured of the sources until then says little.
pub const DOUBLE_AFTER: Duration = Duration::from_millis(100);

/// A request that is under way.
#[derive(Clone, Debug)]
pub(super) struct Flight<S> {
    pub(super) source: S,
    /// What has not come of it.
    pub(super) missing: Ranges,
    pub(super) sent: Time,
    pub(super) expected: Duration,
    pub(super) deadline: Time,
    /// Whether another source was asked for the same.
    pub(super) is_doubled: bool,
    /// Whether it takes so long already that another source may be asked, if that is faster.
    pub(super) is_ripe: bool,
    /// Whether it takes longer than twice the expected time.
    pub(super) is_overdue: bool,
}

impl<S> Flight<S> {
    /// Notes how old it is at `now`.
    pub(super) fn grow_old(&mut self, now: Time) {
        self.is_ripe |= self.ripe_at() <= now;
        self.is_overdue |= self.overdue_at() <= now;
    }

    /// When something is to be done about it.
    pub(super) fn next_deadline(&self, may_double: bool) -> Time {
        if !may_double || self.is_overdue || self.is_doubled {
            self.deadline
        } else if self.is_ripe {
            self.deadline.min(self.overdue_at())
        } else {
            self.deadline.min(self.ripe_at())
        }
    }

    fn ripe_at(&self) -> Time {
        self.sent + DOUBLE_AFTER
    }

    fn overdue_at(&self) -> Time {
        self.sent + (self.expected * 2).max(DOUBLE_AFTER)
    }
}
