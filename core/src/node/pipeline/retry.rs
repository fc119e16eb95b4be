//! How often a request is repeated, and how long to wait between attempts.

use std::time::Duration;

use ureq::http::HeaderMap;

use crate::base::Rng;
use crate::node::pipeline::error::PipelineError;
use crate::node::pipeline::job::Cancel;

/// When to try again if an upstream says "too many requests" without saying for how long.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(60);

/// Longest `Retry-After` that is passed on; a longer one counts as this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The patience of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// Attempts of one request, the first included. A transfer that moves on gets new ones.
    pub attempts_max: u32,
    /// The wait after the first attempt; doubles with each further one. The real wait is between
    /// half and one and a half times as long, so that nodes do not return all at once.
    pub backoff: Duration,
    /// All waits of one request together. An upstream that asks for more gets an error at once.
    pub wait_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            backoff: Duration::from_millis(500),
            wait_max: Duration::from_secs(60),
        }
    }
}

/// Counts the attempts of one request.
#[derive(Debug)]
pub(crate) struct Retry {
    patience: Patience,
    rng: Rng,
    attempts: u32,
    waited: Duration,
}

/// Why an attempt failed that may be repeated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Setback {
    /// What happened.
    pub(crate) problem: String,
    /// How long the upstream asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// Whether it says that there are too many requests.
    pub(crate) is_limit: bool,
}

impl Setback {
    /// A failure of the connection.
    pub(crate) fn broken(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            retry_after: None,
            is_limit: false,
        }
    }
}

impl Retry {
    pub(crate) fn new(patience: Patience, seed: u64) -> Self {
        Self {
            patience,
            rng: Rng::new(seed),
            attempts: 0,
            waited: Duration::ZERO,
        }
    }

    /// The transfer moved on: what follows is a new problem.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
        self.waited = Duration::ZERO;
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    ///
    /// What the caller is told if there is no next attempt, or [`PipelineError::Cancelled`].
    pub(crate) fn pause(
        &mut self,
        setback: Setback,
        method: &'static str,
        url: &str,
        cancel: &Cancel,
    ) -> Result<(), PipelineError> {
        self.attempts = self.attempts.saturating_add(1);
        let wait = setback.retry_after.unwrap_or_else(|| self.backoff());
        let left = self.patience.wait_max.saturating_sub(self.waited);
        if self.patience.attempts_max <= self.attempts || left < wait {
            let url = url.to_owned();
            return Err(if setback.is_limit {
                let asked = setback.retry_after.unwrap_or(RETRY_AFTER_DEFAULT);
                let retry_after = asked.min(RETRY_AFTER_MAX);
                PipelineError::RateLimited { url, retry_after }
            } else {
                let problem = setback.problem;
                PipelineError::Network {
                    method,
                    url,
                    problem,
                }
            });
        }
        self.waited = self.waited.saturating_add(wait);
        cancel.sleep(wait)
    }

    fn backoff(&mut self) -> Duration {
        let doublings = self.attempts.saturating_sub(1).min(16);
        let base = self.patience.backoff.saturating_mul(1 << doublings);
        let millis = u64::try_from(base.as_millis()).unwrap_or(u64::MAX);
        let spread = self.rng.below(millis.saturating_add(1));
        Duration::from_millis((millis / 2).saturating_add(spread))
    }
}

/// How long an answer asks to wait: `Retry-After` in seconds or as a date (RFC 9110, 10.2.3). A
/// date is compared with the answer's own `Date`, so that a wrong clock here does not matter.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let asked = text("retry-after")?.trim();
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(asked).ok()?;
    let now = httpdate::parse_http_date(text("date")?).ok()?;
    Some(until.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        attempts_max: 3,
        backoff: Duration::ZERO,
        wait_max: Duration::from_millis(10),
    };

    #[test]
    fn patience_ends() {
        let cancel = Cancel::new();
        let mut retry = Retry::new(PATIENCE, 1);
        let mut pause = |setback| retry.pause(setback, "GET", "http://x/", &cancel);
        assert_eq!(pause(Setback::broken("a")), Ok(()));
        assert_eq!(pause(Setback::broken("b")), Ok(()));
        let network = PipelineError::Network {
            method: "GET",
            url: "http://x/".into(),
            problem: "c".into(),
        };
        assert_eq!(pause(Setback::broken("c")), Err(network));
    }

    #[test]
    fn a_long_wait_is_left_to_the_caller() {
        for (retry_after, expected) in [
            (Duration::from_secs(100), Duration::from_secs(100)),
            (Duration::MAX, RETRY_AFTER_MAX),
        ] {
            let setback = Setback {
                problem: "429".into(),
                retry_after: Some(retry_after),
                is_limit: true,
            };
            let limited = PipelineError::RateLimited {
                url: "u".into(),
                retry_after: expected,
            };
            let mut retry = Retry::new(PATIENCE, 1);
            assert_eq!(
                retry.pause(setback, "GET", "u", &Cancel::new()),
                Err(limited)
            );
        }
    }

    #[test]
    fn waits_grow_and_differ() {
        let patience = Patience {
            backoff: Duration::from_millis(100),
            ..PATIENCE
        };
        let mut retry = Retry::new(patience, 7);
        for (attempts, low, high) in [(1, 50, 150), (2, 100, 300), (3, 200, 600)] {
            retry.attempts = attempts;
            let wait = retry.backoff().as_millis();
            assert!((low..=high).contains(&wait), "{attempts}: {wait}");
        }
        retry.attempts = u32::MAX;
        retry.patience.backoff = Duration::MAX;
        let _ = retry.backoff();
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        for (asked, date, expected) in [
            ("7", None, Some(7)),
            (
                "Wed, 21 Oct 2026 07:28:30 GMT",
                Some("Wed, 21 Oct 2026 07:28:00 GMT"),
                Some(30),
            ),
            (
                "Wed, 21 Oct 2026 07:28:30 GMT",
                Some("Wed, 21 Oct 2026 07:30:00 GMT"),
                Some(0),
            ),
            ("Wed, 21 Oct 2026 07:28:30 GMT", None, None),
            ("soon", None, None),
            ("-1", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", asked.parse().unwrap());
            if let Some(date) = date {
                headers.insert("date", date.parse().unwrap());
            }
            assert_eq!(
                retry_after(&headers),
                expected.map(Duration::from_secs),
                "{asked}"
            );
        }
    }
}
