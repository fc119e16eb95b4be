//! Progress: a bar on a terminal, a line now and then elsewhere, nothing if told to be quiet.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kogge::base::Time;
use kogge::node::clock::Clock;

use crate::output::Output;
use crate::text::{bytes, clean, rate};

/// Time between two lines where bars do not move.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two frames of a spinner.
const TICK: Duration = Duration::from_millis(120);

/// Bytes or steps on their way.
pub(crate) struct Progress {
    output: Output,
    clock: Clock,
    bar: Option<ProgressBar>,
    label: String,
    is_bytes: bool,
    total: u64,
    done: u64,
    told: Option<Time>,
    message: String,
}

impl Progress {
    /// Progress in bytes with rate and remaining time.
    pub(crate) fn bytes(output: Output, label: &str, total: u64) -> Self {
        let style = "{msg} [{bar:30}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
        Self::new(output, label, total, true, style)
    }

    /// Progress in steps.
    pub(crate) fn steps(output: Output, label: &str, total: u64) -> Self {
        Self::new(
            output,
            label,
            total,
            false,
            "{spinner} [{bar:30}] {pos}/{len} {msg}",
        )
    }

    /// Something whose length is unknown.
    pub(crate) fn waiting(output: Output, label: &str) -> Self {
        let progress = Self::new(output, label, 0, false, "{spinner} {msg} ({elapsed})");
        if let Some(bar) = &progress.bar {
            bar.enable_steady_tick(TICK);
        }
        progress
    }

    fn new(output: Output, label: &str, total: u64, is_bytes: bool, style: &str) -> Self {
        let label = clean(label);
        let bar = output.is_live().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(style);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(label.clone());
            bar
        });
        Self {
            output,
            clock: Clock::start(),
            bar,
            label,
            is_bytes,
            total,
            done: 0,
            told: None,
            message: String::new(),
        }
    }

    /// `done` of the total are done.
    pub(crate) fn set(&mut self, done: u64) {
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        let now = self.clock.now();
        let since = now.since(self.told.unwrap_or(Time::ZERO));
        if since < LINE_INTERVAL {
            return;
        }
        self.told = Some(now);
        let label = &self.label;
        if self.is_bytes {
            let rate = rate(done, self.millis());
            let (done, total) = (bytes(done), bytes(self.total));
            self.output
                .note(format!("{label}: {done} of {total}, {rate}"));
        } else if 0 < self.total {
            self.output
                .note(format!("{label}: {done} of {}", self.total));
        }
    }

    /// What happens at the moment. Where bars do not move, told when it changes.
    pub(crate) fn message(&mut self, message: &str) {
        let message = clean(message);
        if message == self.message {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}: {message}", self.label)),
            None => self.output.note(format!("{}: {message}", self.label)),
        }
        self.message = message;
    }

    /// Time since the beginning. Unit: milliseconds.
    pub(crate) fn millis(&self) -> u64 {
        self.clock.now().as_nanos() / 1_000_000
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
