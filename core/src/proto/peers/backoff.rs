//! Waiting longer after each failure.

use std::time::Duration;

use crate::base::{Rng, Time};

/// Wait after the first failure.
const DELAY_MIN: Duration = Duration::from_secs(1);

/// Longest wait, before jitter.
pub const DELAY_MAX: Duration = Duration::from_secs(60);

/// Failures in a row, and when the next try is due.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Backoff {
    failures: u32,
    not_before: Time,
}

impl Backoff {
    /// When the next try is due; [`Time::ZERO`] if nothing speaks against trying.
    pub const fn not_before(&self) -> Time {
        self.not_before
    }

    /// Notes a failure: 1 s doubling to `delay_max`, each within a quarter more or less, so that
    /// nodes that failed together do not try again together.
    pub fn failed(&mut self, now: Time, delay_max: Duration, rng: &mut Rng) {
        let doubled = DELAY_MIN.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        let nanos = u64::try_from(doubled.min(delay_max).as_nanos()).unwrap_or(u64::MAX);
        let jittered = nanos - nanos / 4 + rng.below(nanos / 2);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + Duration::from_nanos(jittered);
    }

    /// Notes lasting success.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Waits at least until `until`.
    pub fn pause(&mut self, until: Time) {
        self.not_before = self.not_before.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_minute_within_a_quarter() {
        let mut rng = Rng::new(1);
        let mut backoff = Backoff::default();
        for seconds in [1_u64, 2, 4, 8, 16, 32, 60, 60, 60] {
            backoff.failed(Time::ZERO, DELAY_MAX, &mut rng);
            let wait = backoff.not_before().since(Time::ZERO).as_millis();
            let around = u128::from(seconds * 750)..=u128::from(seconds * 1_250);
            assert!(around.contains(&wait), "{seconds} s: {wait} ms");
        }
        backoff.succeeded();
        backoff.failed(Time::ZERO, DELAY_MAX, &mut rng);
        assert!(backoff.not_before() <= Time::ZERO + Duration::from_millis(1_250));
    }
}
