//! Where we stand, for the status view.

use std::time::Duration;

use crate::base::{BoundedQueue, Time};

/// What the machine is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// No peer can help: none is known, none answers, or all pruned what we need next.
    Searching,
    /// Fetching the past.
    CatchingUp,
    /// Up to date as far as our peers know; new blocks arrive by themselves or are fetched singly.
    Live,
}

/// A snapshot of the synchronization.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// What the machine is doing.
    pub state: State,
    /// Height of the applied head.
    pub have: u64,
    /// The highest height that a peer claims believably; `None` while searching.
    pub target: Option<u64>,
    /// Admitted peers.
    pub peers: usize,
    /// Peers that can serve the next height or have nothing above our head.
    pub usable: usize,
    /// Requests under way.
    pub in_flight: usize,
    /// Blocks that wait for their predecessors.
    pub buffered: usize,
    /// Applied blocks per second over the last ten seconds.
    pub rate: f64,
    /// Answers that nobody had asked for, since the start.
    pub spurious: u64,
}

/// Measures how fast the head moves.
#[derive(Clone, Debug)]
pub struct Meter {
    samples: BoundedQueue<(Time, u64)>,
    last: Option<Time>,
}

/// Samples that are kept; the oldest is dropped.
const SAMPLES_MAX: usize = 20;

/// Shortest time between samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

impl Meter {
    /// A meter without samples.
    pub const fn new() -> Self {
        Self {
            samples: BoundedQueue::new(SAMPLES_MAX),
            last: None,
        }
    }

    /// Notes that the head is at `height`.
    pub fn note(&mut self, now: Time, height: u64) {
        if self.last.is_none_or(|it| it + SAMPLE_INTERVAL <= now) {
            self.samples.push_dropping_oldest((now, height));
            self.last = Some(now);
        }
    }

    /// Blocks per second up to now, when the head is at `height`.
    pub fn rate(&self, now: Time, height: u64) -> f64 {
        let window = Duration::from_secs(10);
        let recent = |it: &&(Time, u64)| now.since(it.0) <= window;
        let Some((since, from)) = self.samples.iter().find(recent) else {
            return 0.0;
        };
        let seconds = now.since(*since).max(SAMPLE_INTERVAL).as_secs_f64();
        let blocks = u32::try_from(height.saturating_sub(*from)).unwrap_or(u32::MAX);
        f64::from(blocks) / seconds
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_head_has_a_steady_rate_and_a_resting_one_none() {
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let mut meter = Meter::new();
        for second in 0..=30 {
            meter.note(at(second), second * 100);
        }
        assert!((meter.rate(at(30), 3_000) - 100.0).abs() < 1e-9);
        assert!(meter.rate(at(60), 3_000).abs() < 1e-9);
    }
}
