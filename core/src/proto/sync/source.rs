//! What is known about one peer as a source of blocks.

use std::time::Duration;

use crate::base::Time;

/// Requests that one peer may have in hand; a peer that let one time out gets one at a time.
pub const REQUESTS_PER_PEER_MAX: usize = 2;

/// Most heights in a request, so that several peers share the window.
const COUNT_MAX: u64 = 64;

/// How much a request may ask for: what the peer delivers in this time.
const SHARE: Duration = Duration::from_secs(2);

/// Bytes asked from a peer whose rate is unknown. Unit: bytes.
const FIRST_BYTES: u64 = 256 * 1_024;

/// Fewest and most bytes in a request. Unit: bytes.
const BYTES_MIN: u64 = 64 * 1_024;
const BYTES_MAX: u64 = 4 << 20;

/// Longest patience with one request of a peer whose rate is unknown or does not explain it.
const PATIENCE_MAX: Duration = Duration::from_secs(120);

/// Longest patience with one request of a peer that is known to be that slow.
const SLOW_PATIENCE_MAX: Duration = Duration::from_secs(600);

/// Time-outs in a row after which a peer's claim no longer counts.
const TIMEOUTS_MAX: u32 = 2;

/// How long a peer rests after so many time-outs before it is tried again.
const REST: Duration = Duration::from_secs(600);

/// Heights from here on cannot be honest: 2^48 blocks of a millisecond each take 8,900 years.
const HEIGHT_MAX: u64 = 1 << 48;

/// A provable fault of a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// A height that no chain reaches.
    #[error("claims the impossible height {0}")]
    Height(u64),
    /// A finalized height went down.
    #[error("its finalized height went down from {from} to {to}")]
    HeightDown {
        /// Before.
        from: u64,
        /// After.
        to: u64,
    },
    /// The lowest height lies above the highest.
    #[error("its base {base} lies above its tip {tip}")]
    BaseAboveTip {
        /// Lowest height.
        base: u64,
        /// Highest height.
        tip: u64,
    },
    /// Says that it has a height and that it has not.
    #[error("denies the height {0} that it claims")]
    Contradiction(u64),
    /// An answer that fits no honest server: wrong heights, too many blocks, unreadable.
    #[error("malformed answer")]
    Malformed,
    /// The caller refused a block of the peer.
    #[error("sent a block of height {0} that does not stand")]
    BadBlock(u64),
}

/// Checks a claim on its own.
pub fn check_claim(base: u64, tip: u64) -> Result<(), Fault> {
    if HEIGHT_MAX <= tip {
        return Err(Fault::Height(tip));
    }
    if tip + 1 < base {
        return Err(Fault::BaseAboveTip { base, tip });
    }
    Ok(())
}

/// One peer.
#[derive(Clone, Debug)]
pub struct Source {
    /// Lowest height that it says it has.
    pub base: u64,
    /// Highest height that it says it has.
    pub tip: u64,
    /// Requests in hand that have not timed out.
    pub in_flight: usize,
    /// Blocks delivered.
    pub served: u64,
    /// Time-outs in a row, and when the last one was.
    timeouts: u32,
    timed_out: Time,
    /// Measured rate, once an answer came. Unit: bytes per second.
    rate: Option<u64>,
}

impl Source {
    /// A peer that claims the heights `base..=tip`.
    pub const fn new(base: u64, tip: u64) -> Self {
        Self {
            base,
            tip,
            in_flight: 0,
            served: 0,
            timeouts: 0,
            timed_out: Time::ZERO,
            rate: None,
        }
    }

    /// Whether the peer says it has `height`.
    pub const fn claims(&self, height: u64) -> bool {
        self.base <= height && height <= self.tip
    }

    /// Whether its last request was answered in time.
    pub const fn is_prompt(&self) -> bool {
        self.timeouts == 0
    }

    /// Whether its claim still counts.
    pub const fn is_believable(&self) -> bool {
        self.timeouts < TIMEOUTS_MAX
    }

    /// Time-outs in a row.
    pub const fn timeouts(&self) -> u32 {
        self.timeouts
    }

    /// Whether its last time-out is long ago.
    pub fn has_rested(&self, now: Time) -> bool {
        self.timed_out + REST <= now
    }

    /// Whether it may be asked for more.
    pub const fn has_room(&self) -> bool {
        let room = if self.is_prompt() {
            REQUESTS_PER_PEER_MAX
        } else {
            1
        };
        self.in_flight < room
    }

    /// Bytes to ask for at most. Unit: bytes.
    pub fn bytes_max(&self) -> u64 {
        let share = |rate: u64| rate.saturating_mul(SHARE.as_secs());
        let wanted = self.rate.map_or(FIRST_BYTES, share);
        (wanted >> self.timeouts.min(8)).clamp(BYTES_MIN, BYTES_MAX)
    }

    /// Heights to ask for at most, if blocks are about `block_bytes` long.
    pub fn count_max(&self, block_bytes: u64) -> u64 {
        (self.bytes_max() / block_bytes.max(1)).clamp(1, COUNT_MAX)
    }

    /// How long to wait for `bytes` bytes: four times what they should take, at least `timeout`
    /// doubled with each time-out in a row.
    pub fn patience(&self, bytes: u64, timeout: Duration) -> Duration {
        let expected = self.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_millis(bytes.saturating_mul(4_000) / rate.max(1))
        });
        let doubled = timeout.saturating_mul(2_u32.saturating_pow(self.timeouts.min(8)));
        let doubled = doubled.min(PATIENCE_MAX.max(timeout));
        doubled.max(expected.min(SLOW_PATIENCE_MAX))
    }

    /// Notes that a request timed out.
    pub fn timed_out(&mut self, now: Time) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.timeouts = self.timeouts.saturating_add(1);
        self.timed_out = now;
    }

    /// Notes an answer of `blocks` blocks and `bytes` bytes to a request sent at `sent`.
    pub fn answered(&mut self, now: Time, sent: Time, blocks: u64, bytes: u64) {
        let millis = u64::try_from(now.since(sent).as_millis()).unwrap_or(u64::MAX);
        let measured = bytes.saturating_mul(1_000) / millis.max(1);
        // Half old, half new: a few answers suffice to follow a change.
        self.rate = Some(self.rate.map_or(measured, |it| it / 2 + measured / 2));
        self.served = self.served.saturating_add(blocks);
        self.timeouts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[test]
    fn impossible_claims_are_faults() {
        for (base, tip, expected) in [
            (1, 0, Ok(())),
            (1, 100, Ok(())),
            (101, 100, Ok(())),
            (
                102,
                100,
                Err(Fault::BaseAboveTip {
                    base: 102,
                    tip: 100,
                }),
            ),
            (1, (1 << 63) - 1, Err(Fault::Height((1 << 63) - 1))),
            (0, u64::MAX, Err(Fault::Height(u64::MAX))),
        ] {
            assert_eq!(check_claim(base, tip), expected);
        }
    }

    #[test]
    fn patience_grows_with_measured_slowness_and_with_each_time_out() {
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let mut bob = Source::new(1, 100);
        assert_eq!(bob.patience(4 << 20, TIMEOUT), TIMEOUT);

        bob.answered(at(4), at(0), 1, 256 * 1_024); // 64 KiB/s
        assert_eq!(bob.bytes_max(), 128 * 1_024);
        assert_eq!(bob.patience(128 * 1_024, TIMEOUT), Duration::from_secs(8));

        let mut waits = Vec::new();
        for _ in 0..6 {
            waits.push(bob.patience(0, TIMEOUT).as_secs());
            bob.timed_out(at(5));
        }
        assert_eq!(waits, vec![5, 10, 20, 40, 80, 120]);
        assert_eq!(bob.patience(4 << 20, TIMEOUT), Duration::from_secs(256));
    }

    #[test]
    fn a_request_asks_for_what_the_peer_delivers_in_two_seconds() {
        let mut bob = Source::new(1, 100);
        for (bytes, block_bytes, count) in [
            (FIRST_BYTES, 200, COUNT_MAX),
            (1_000_000, 200_000, 10),
            (10, 200_000, 1),
        ] {
            let second = Time::ZERO + Duration::from_secs(1);
            bob.rate = None;
            bob.answered(second, Time::ZERO, 1, bytes);
            assert_eq!(bob.count_max(block_bytes), count, "{bytes}");
        }
    }
}
