//! What was measured, what it must reach, and the table of both.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// What a figure must reach.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Goal {
    /// Less than this.
    Below(f64),
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Nothing: it stands beside the others for comparison.
    None,
}

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    /// The item.
    pub(super) name: &'static str,
    /// What was measured.
    pub(super) what: String,
    /// The figure; `None` if it could not be measured here.
    pub(super) value: Option<f64>,
    /// Its unit.
    pub(super) unit: &'static str,
    /// Samples of which it is the median or percentile.
    pub(super) samples: usize,
    /// What it must reach.
    pub(super) goal: Goal,
    /// Whether it does.
    pub(super) ok: Option<bool>,
    /// What else there is to know.
    pub(super) note: String,
}

impl Figure {
    /// A figure with its goal.
    pub(super) fn new(
        name: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        samples: usize,
        goal: Goal,
    ) -> Self {
        let ok = match goal {
            Goal::Below(limit) => Some(value < limit),
            Goal::AtMost(limit) => Some(value <= limit),
            Goal::AtLeast(limit) => Some(limit <= value),
            Goal::None => None,
        };
        Self {
            name,
            what: what.into(),
            value: Some(value),
            unit,
            samples,
            goal,
            ok,
            note: String::new(),
        }
    }

    /// Something that is not there to be measured.
    pub(super) fn missing(name: &'static str, what: impl Into<String>, note: String) -> Self {
        Self {
            name,
            what: what.into(),
            value: None,
            unit: "",
            samples: 0,
            goal: Goal::None,
            ok: None,
            note,
        }
    }

    /// An item that failed: it does not reach its goals.
    pub(super) fn failed(name: &'static str, note: String) -> Self {
        Self {
            ok: Some(false),
            ..Self::missing(name, "the measurement", note)
        }
    }

    /// Adds what else there is to know.
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn figure(&self) -> String {
        match (self.value, self.samples) {
            (None, _) => "-".to_owned(),
            (Some(value), 0 | 1) => format!("{} {}", number(value), self.unit),
            (Some(value), samples) => {
                format!("{} {} (n={samples})", number(value), self.unit)
            }
        }
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::Below(limit) => format!("< {} {}", number(limit), self.unit),
            Goal::AtMost(limit) => format!("<= {} {}", number(limit), self.unit),
            Goal::AtLeast(limit) => format!(">= {} {}", number(limit), self.unit),
            Goal::None => String::new(),
        }
    }
}

/// The table for people.
pub(super) fn table(figures: &[Figure]) -> String {
    let mut rows = vec![["name", "what", "figure", "must reach", "", "note"].map(str::to_owned)];
    for it in figures {
        let result = match it.ok {
            Some(true) => "ok",
            Some(false) => "MISS",
            None => "",
        };
        rows.push([
            it.name.to_owned(),
            it.what.clone(),
            it.figure(),
            it.goal(),
            result.to_owned(),
            it.note.clone(),
        ]);
    }
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ");
        }
        line.push_str(row.last().map_or("", String::as_str));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Three digits that matter; whole numbers from 100 on.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The sample below which `percent` of all lie; 0 if there is none.
pub(super) fn percentile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or(0.0)
}

/// The middle sample.
pub(super) fn median(samples: &[f64]) -> f64 {
    percentile(samples, 50)
}

/// Milliseconds of a time span.
pub(super) fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        for (percent, expected) in [(0, 0.0), (50, 50.0), (99, 99.0), (100, 100.0)] {
            assert!((percentile(&samples, percent) - expected).abs() < f64::EPSILON);
        }
        assert!(percentile(&[], 50).abs() < f64::EPSILON);
    }

    #[test]
    fn goals_are_judged_at_their_limits() {
        for (goal, expected) in [
            (Goal::Below(1.0), Some(false)),
            (Goal::AtMost(1.0), Some(true)),
            (Goal::AtLeast(1.0), Some(true)),
            (Goal::None, None),
        ] {
            assert_eq!(
                Figure::new("x", "", 1.0, "s", 1, goal).ok,
                expected,
                "{goal:?}"
            );
        }
    }
}
