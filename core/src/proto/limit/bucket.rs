//! A token bucket that is exact: no fraction of a byte is lost, however often it is asked.

use std::time::Duration;

use crate::base::Time;

/// How fast bytes may flow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Rate {
    /// As fast as they come.
    #[default]
    Unlimited,
    /// At most this many bytes per second. With 0 nothing may flow.
    BytesPerSecond(u64),
}

/// Earns bytes at a [`Rate`] and lets them be taken.
///
/// In any span of time at most `rate × span + burst` bytes plus one item are taken. An item that is
/// larger than the burst is let through when the bucket is full, and leaves a debt that is earned
/// back before the next one; so no item is too large for a slow link, and the rate holds.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    /// What can be taken; negative in debt. Unit: 10^-9 bytes, so that a nanosecond at one byte
    /// per second counts.
    credit: i128,
    refilled_at: Time,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Time) -> Self {
        Self {
            rate,
            credit: burst(rate),
            refilled_at: now,
        }
    }

    /// The rate.
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Changes the rate. What was earned is kept, up to the burst of the new rate.
    pub fn set_rate(&mut self, rate: Rate, now: Time) {
        self.refill(now);
        self.credit = match self.rate {
            Rate::Unlimited => burst(rate),
            Rate::BytesPerSecond(_) => self.credit.min(burst(rate)),
        };
        self.rate = rate;
    }

    /// Takes `bytes` if the bucket allows them now.
    pub fn try_take(&mut self, bytes: u64, now: Time) -> bool {
        let is_free = self.next_at(bytes, now) == Some(now);
        if is_free {
            self.take(bytes, now);
        }
        is_free
    }

    /// Takes `bytes` in any case, if need be into debt: for bytes that have flowed already, or that
    /// another bucket allowed.
    pub fn take(&mut self, bytes: u64, now: Time) {
        self.refill(now);
        if self.rate != Rate::Unlimited {
            self.credit -= i128::from(bytes) * NANO;
        }
    }

    /// When `bytes` can be taken if nobody else takes any; `now` if they can be taken at once,
    /// `None` if never, because the rate is 0.
    pub fn next_at(&mut self, bytes: u64, now: Time) -> Option<Time> {
        self.refill(now);
        let rate = match self.rate {
            Rate::Unlimited => return Some(now),
            Rate::BytesPerSecond(0) => return (bytes == 0).then_some(now),
            Rate::BytesPerSecond(rate) => i128::from(rate),
        };
        let missing = (i128::from(bytes) * NANO).min(burst(self.rate)) - self.credit;
        if missing <= 0 {
            return Some(now);
        }
        let nanos = missing.saturating_add(rate - 1) / rate;
        Some(now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Whether the bucket is as full as a fresh one: forgetting it changes nothing.
    pub fn is_full(&mut self, now: Time) -> bool {
        self.refill(now);
        self.credit >= burst(self.rate)
    }

    fn refill(&mut self, now: Time) {
        let elapsed = i128::try_from(now.since(self.refilled_at).as_nanos()).unwrap_or(0);
        if let Rate::BytesPerSecond(rate) = self.rate {
            let earned = self.credit + elapsed * i128::from(rate);
            self.credit = earned.min(burst(self.rate));
        }
        self.refilled_at = self.refilled_at.max(now);
    }
}

/// What a full bucket holds: the bytes of [`BURST_DIVISOR`]th of a second, at least one byte.
fn burst(rate: Rate) -> i128 {
    match rate {
        Rate::Unlimited | Rate::BytesPerSecond(0) => 0,
        Rate::BytesPerSecond(rate) => (i128::from(rate) * NANO / BURST_DIVISOR).max(NANO),
    }
}

/// A burst is worth 250 ms.
const BURST_DIVISOR: i128 = 4;

/// Units of credit in a byte.
const NANO: i128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// Takes items of `bytes` as soon as allowed, for `secs` seconds; gives their sum.
    fn pump(bucket: &mut Bucket, bytes: u64, secs: u64) -> u64 {
        let (mut now, mut sum) = (Time::ZERO, 0);
        while let Some(next) = bucket
            .next_at(bytes, now)
            .filter(|it| *it <= millis(secs * 1_000))
        {
            now = next;
            assert!(bucket.try_take(bytes, now));
            sum += bytes;
        }
        sum
    }

    #[test]
    fn the_rate_holds_within_a_tenth_over_seconds() {
        for (rate, item) in [
            (1_000_000, 65_536),
            (20_000, 1),
            (10_000, 65_536),
            (100_000_000, 262_144),
            (3, 1),
        ] {
            let mut bucket = Bucket::new(Rate::BytesPerSecond(rate), Time::ZERO);
            bucket.take(rate / 4, Time::ZERO);
            let secs = 20.max(20 * item / rate);
            let (sum, ideal) = (pump(&mut bucket, item, secs), rate * secs);
            assert!(
                ideal * 9 <= sum * 10 && sum * 10 <= ideal * 11,
                "{sum} of {ideal}"
            );
        }
    }

    #[test]
    fn nothing_flows_at_rate_zero_and_everything_without_a_limit() {
        let mut shut = Bucket::new(Rate::BytesPerSecond(0), Time::ZERO);
        assert_eq!(shut.next_at(1, millis(9_000)), None);
        assert!(!shut.try_take(1, millis(9_000)));

        let mut open = Bucket::new(Rate::Unlimited, Time::ZERO);
        assert!((0..9).all(|_| open.try_take(u64::MAX, Time::ZERO)));
    }

    #[test]
    fn an_item_larger_than_the_burst_passes_and_is_paid_for_afterwards() {
        let mut bucket = Bucket::new(Rate::BytesPerSecond(1_000), Time::ZERO);
        assert!(bucket.try_take(5_000, Time::ZERO));
        // 250 bytes were there; 4,750 are owed, and the next item wants one byte more.
        assert_eq!(bucket.next_at(1, Time::ZERO), Some(millis(4_751)));
        assert!(!bucket.try_take(1, millis(4_750)));
        assert!(bucket.try_take(1, millis(4_751)));
    }

    #[test]
    fn a_new_rate_takes_effect_at_once() {
        let mut bucket = Bucket::new(Rate::Unlimited, Time::ZERO);
        bucket.set_rate(Rate::BytesPerSecond(1_000), millis(1));
        assert!(bucket.try_take(250, millis(1)));
        assert!(!bucket.try_take(1, millis(1)));
        bucket.set_rate(Rate::BytesPerSecond(0), millis(2));
        assert_eq!(bucket.next_at(1, millis(2)), None);
        bucket.set_rate(Rate::BytesPerSecond(1_000), millis(3));
        assert_eq!(bucket.next_at(1, millis(3)), Some(millis(4)));
    }

    #[test]
    fn time_that_goes_backwards_earns_nothing() {
        let mut bucket = Bucket::new(Rate::BytesPerSecond(1_000), millis(1_000));
        bucket.take(250, millis(1_000));
        assert_eq!(bucket.next_at(1, millis(0)), Some(millis(1)));
        assert!(!bucket.try_take(1, millis(1_000)));
    }

    proptest! {
        #[test]
        fn asking_often_earns_as_much_as_asking_once(
            rate in 1_u64..5_000_000_000,
            asked in prop::collection::vec(0_u64..50_000_000, 1..50),
        ) {
            let drained = || {
                let mut bucket = Bucket::new(Rate::BytesPerSecond(rate), Time::ZERO);
                bucket.take(rate, Time::ZERO);
                bucket
            };
            let (mut often, mut once, mut now) = (drained(), drained(), 0);
            for step in asked {
                now += step;
                often.next_at(1, Time::from_nanos(now));
            }
            once.next_at(1, Time::from_nanos(now));
            prop_assert_eq!(often.credit, once.credit);
        }

        #[test]
        fn next_at_is_exact(rate in 1_u64..1_000_000_000, bytes in 1_u64..1_000_000) {
            let mut bucket = Bucket::new(Rate::BytesPerSecond(rate), Time::ZERO);
            bucket.take(rate, Time::ZERO);
            let at = bucket.next_at(bytes, Time::ZERO).unwrap();
            let before = Time::from_nanos(at.as_nanos() - 1);
            prop_assert!(!bucket.clone().try_take(bytes, before));
            prop_assert!(bucket.try_take(bytes, at));
        }
    }
}
