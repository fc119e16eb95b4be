//! What left the pool, so that late messages do not bring it back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::base::{Subject, Time, WallTime};

/// Most groups that are remembered; beyond it the oldest is forgotten.
const DONE_MAX: usize = 8_192;

/// How long they are remembered: a tag may be bound to the same digest again later.
const DONE_AGE: Duration = Duration::from_secs(600);

/// The group is in the log: no attestation is of use.
pub(crate) const FOR_EVER: WallTime = WallTime::from_millis(u64::MAX);

/// The groups that left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    /// Up to which time attestations are of no use any more.
    until: BTreeMap<Subject, WallTime>,
    order: VecDeque<(Time, Subject)>,
}

impl Done {
    /// Whether an attestation of this time came too late.
    pub(crate) fn is_late(&self, subject: &Subject, time: WallTime) -> bool {
        self.until.get(subject).is_some_and(|until| time <= *until)
    }

    /// Attestations up to `until` are of no use any more; what was said before may not shorten it.
    pub(crate) fn remember(&mut self, now: Time, subject: Subject, until: WallTime) {
        match self.until.insert(subject, until) {
            None => self.order.push_back((now, subject)),
            Some(before) => {
                self.until.insert(subject, before.max(until));
            }
        }
        while let Some((since, subject)) = self.order.front().copied()
            && (since + DONE_AGE <= now || DONE_MAX < self.order.len())
        {
            self.order.pop_front();
            self.until.remove(&subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(number: usize) -> Subject {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Subject(bytes)
    }

    #[test]
    fn an_earlier_end_does_not_shorten_a_later_one() {
        let mut done = Done::default();
        let at = WallTime::from_millis;
        done.remember(Time::ZERO, subject(0), at(7));
        done.remember(Time::ZERO, subject(0), at(3));
        assert!(done.is_late(&subject(0), at(7)));
        assert!(!done.is_late(&subject(0), at(8)));
        assert!(!done.is_late(&subject(1), at(0)));
    }

    #[test]
    fn the_oldest_is_forgotten_by_age_and_by_number() {
        let mut done = Done::default();
        for it in 0..=DONE_MAX {
            done.remember(Time::ZERO, subject(it), FOR_EVER);
        }
        let late = |done: &Done, it| done.is_late(&subject(it), WallTime::default());
        assert_eq!(
            [0, 1, DONE_MAX].map(|it| late(&done, it)),
            [false, true, true]
        );
        done.remember(Time::ZERO + DONE_AGE, subject(0), FOR_EVER);
        assert_eq!(
            [0, 1, DONE_MAX].map(|it| late(&done, it)),
            [true, false, false]
        );
        assert_eq!((done.until.len(), done.order.len()), (1, 1));
    }
}
