//! What is known about one source: what it has, how fast it is, how it behaved.

use std::time::Duration;

use crate::base::Time;
use crate::proto::schedule::ranges::Ranges;

/// The shortest and the longest wait for a request.
pub const REQUEST_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// See [`REQUEST_TIMEOUT_MIN`].
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// How long a source rests after its second time-out in a row; doubles each time.
pub const REST: Duration = Duration::from_secs(30);
/// The longest rest.
pub const REST_MAX: Duration = Duration::from_secs(600);

/// Time-outs in a row after which a source rests.
pub const MISSES_MAX: u32 = 2;

/// A source of units.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// What it claims to have.
    pub(super) has: Ranges,
    /// Time-outs since the last request that it answered.
    pub(super) misses: u32,
    /// Until when it is left alone.
    pub(super) rests_until: Option<Time>,
    rests: u32,
    /// Requests sent before this time have been counted as a miss together.
    missed_at: Option<Time>,
    /// Goodput, smoothed; none before the first answer. Unit: bytes per second.
    rate: Option<u64>,
    /// The shortest time from a request to an idle source until something came.
    rtt: Option<Duration>,
    /// Since when bytes are counted for the next sample of the rate.
    sample_since: Time,
    sample_bytes: u64,
    awaits_first: bool,
}

impl Source {
    pub(super) const fn new(has: Ranges) -> Self {
        Self {
            has,
            misses: 0,
            rests_until: None,
            rests: 0,
            missed_at: None,
            rate: None,
            rtt: None,
            sample_since: Time::ZERO,
            sample_bytes: 0,
            awaits_first: false,
        }
    }

    /// Bytes per second, if measured.
    pub(super) const fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// Bytes that keep the source busy until the next answers can be used.
    pub(super) fn depth_bytes(&self) -> u64 {
        let span = self.rtt() + REQUEST_SPAN;
        bytes_in(span, self.rate_or_guess()).min(OUTSTANDING_BYTES_MAX)
    }

    /// Bytes of a good request: large enough to be few, small enough to be given to another source
    /// soon.
    pub(super) fn request_bytes(&self) -> u64 {
        bytes_in(REQUEST_SPAN, self.rate_or_guess())
    }

    /// When `bytes` will have come, counted from now.
    pub(super) fn expected(&self, bytes: u64) -> Duration {
        self.rtt() + duration_of(bytes, self.rate_or_guess())
    }

    /// How long to wait for a request that is expected to take so long.
    pub(super) fn timeout(&self, expected: Duration) -> Duration {
        let patience = (expected * TIMEOUT_FACTOR).max(REQUEST_TIMEOUT_MIN);
        // A slow but honest source gets more time after each miss, so that it can answer at all.
        let patience = patience.saturating_mul(1 << self.misses.min(MISSES_SHIFT_MAX));
        patience.min(REQUEST_TIMEOUT_MAX)
    }

    /// Notes that a request is sent.
    pub(super) fn sent(&mut self, now: Time, is_idle: bool) {
        if is_idle {
            self.sample_since = now;
            self.sample_bytes = 0;
            self.awaits_first = true;
        }
    }

    /// Notes that bytes came.
    pub(super) fn arrived(&mut self, now: Time, bytes: u64) {
        self.sample_bytes = self.sample_bytes.saturating_add(bytes);
        if std::mem::take(&mut self.awaits_first) {
            let rtt = now.since(self.sample_since);
            self.rtt = Some(self.rtt.map_or(rtt, |it| it.min(rtt)));
        }
    }

    /// Notes that a request was answered in full, by a source that cannot be faster than
    /// `rate_max`.
    pub(super) fn completed(&mut self, now: Time, rate_max: u64) {
        self.misses = 0;
        let elapsed = now.since(self.sample_since);
        // Answers that come in one burst are one sample: each alone would have taken no time.
        if elapsed < SAMPLE_SPAN_MIN && self.rate.is_some() {
            return;
        }
        let nanos = elapsed.max(SAMPLE_SPAN_MIN).as_nanos();
        let sample = u128::from(self.sample_bytes) * 1_000_000_000 / nanos;
        let sample = u64::try_from(sample).unwrap_or(u64::MAX).clamp(1, rate_max);
        self.rate = Some(match self.rate {
            // An exponential average with weight 0.3 for the new sample.
            Some(rate) => (rate / 10 * 7).saturating_add(sample / 10 * 3).max(1),
            None => sample,
        });
        self.sample_since = now;
        self.sample_bytes = 0;
    }

    /// Notes that a request, sent at `sent`, was not answered in time. True if it is the one too
    /// many.
    pub(super) fn missed(&mut self, now: Time, sent: Time) -> bool {
        // Requests that waited in one queue fail together and count once.
        if self.missed_at.is_some_and(|it| sent < it) {
            return false;
        }
        self.missed_at = Some(now);
        self.misses += 1;
        self.rate = self.rate.map(|it| (it / 2).max(1));
        self.misses >= MISSES_MAX
    }

    /// Leaves the source alone for a while that doubles each time.
    pub(super) fn rest(&mut self, now: Time) {
        let rest = REST.saturating_mul(1 << self.rests.min(MISSES_SHIFT_MAX));
        self.rests += 1;
        self.misses = 0;
        self.rests_until = Some(now + rest.min(REST_MAX));
    }

    /// Whether the source is left alone at `now`.
    pub(super) fn is_resting(&self, now: Time) -> bool {
        self.rests_until.is_some_and(|it| now < it)
    }

    fn rate_or_guess(&self) -> u64 {
        self.rate.unwrap_or(RATE_GUESS)
    }

    fn rtt(&self) -> Duration {
        self.rtt.unwrap_or(RTT_GUESS)
    }
}

/// Bytes at `rate` in `span`.
fn bytes_in(span: Duration, rate: u64) -> u64 {
    let bytes = u128::from(rate) * span.as_nanos() / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The time for `bytes` at `rate`.
fn duration_of(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// What a request should take, and how far ahead of the answers requests are sent.
const REQUEST_SPAN: Duration = Duration::from_millis(250);

/// Bytes that may be under way from one source.
pub const OUTSTANDING_BYTES_MAX: u64 = 16 << 20;

/// A request is late after so many times its expected duration.
const TIMEOUT_FACTOR: u32 = 4;

/// Shorter spans do not measure a rate.
const SAMPLE_SPAN_MIN: Duration = Duration::from_millis(1);

/// What is assumed of a source that has not answered yet: the first request is then late after 4 s.
const RATE_GUESS: u64 = 131_072;
const RTT_GUESS: Duration = Duration::from_millis(500);

/// Doubling stops here; the maxima are reached before.
const MISSES_SHIFT_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn measured(bytes: u64, after: u64) -> Source {
        let mut source = Source::new(Ranges::new());
        source.sent(Time::ZERO, true);
        source.arrived(millis(after), bytes);
        source.completed(millis(after), u64::MAX);
        source
    }

    #[test]
    fn the_rate_follows_the_answers() {
        let mut source = measured(100_000, 100);
        assert_eq!(source.rate(), Some(1_000_000));
        source.arrived(millis(150), 100_000);
        source.completed(millis(150), u64::MAX);
        assert_eq!(source.rate(), Some(1_300_000));
        // The same instant is no new sample, but its bytes are not lost.
        source.arrived(millis(150), 100_000);
        source.completed(millis(150), u64::MAX);
        assert_eq!(source.rate(), Some(1_300_000));
        source.completed(millis(250), u64::MAX);
        assert_eq!(source.rate(), Some(1_210_000));
    }

    #[test]
    fn waits_are_bounded_and_grow_with_misses() {
        let fast = measured(1_000_000, 10);
        assert_eq!(fast.timeout(fast.expected(65_536)), REQUEST_TIMEOUT_MIN);
        let mut slow = measured(1_000, 1_000);
        assert_eq!(slow.timeout(slow.expected(65_536)), REQUEST_TIMEOUT_MAX);

        slow = Source::new(Ranges::new());
        let first = slow.timeout(slow.expected(65_536));
        assert_eq!(first, Duration::from_secs(4));
        slow.missed(millis(4_000), Time::ZERO);
        assert_eq!(slow.timeout(slow.expected(65_536)), Duration::from_secs(8));
    }

    #[test]
    fn requests_that_waited_together_count_as_one_miss() {
        let mut source = measured(1_000_000, 1_000);
        assert!(!source.missed(millis(5_000), millis(1_000)));
        assert!(!source.missed(millis(5_100), millis(1_100)));
        assert_eq!((source.misses, source.rate()), (1, Some(500_000)));
        assert!(source.missed(millis(9_000), millis(5_000)));
    }

    #[test]
    fn a_rest_doubles_up_to_its_maximum() {
        let mut source = measured(1, 1);
        let mut rests = Vec::new();
        for _ in 0..7 {
            source.rest(Time::ZERO);
            rests.push(source.rests_until.map(|it| it.since(Time::ZERO).as_secs()));
        }
        assert_eq!(rests, [30, 60, 120, 240, 480, 600, 600].map(Some));
        assert!(source.is_resting(millis(599_999)));
        assert!(!source.is_resting(millis(600_000)));
    }
}
