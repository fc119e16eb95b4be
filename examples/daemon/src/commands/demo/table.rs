//! What the demo shows in the end.

use serde_json::{Value, json};

use crate::output::{Color, Output};
use crate::text::{Table, bytes, clean, count, rate, span};

/// One package.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// What users call it.
    pub(crate) what: String,
    /// Names of the nodes that got the same.
    pub(crate) attested_by: String,
    /// Index of its first entry.
    pub(crate) index: Option<u64>,
    /// Files.
    pub(crate) files: u64,
    /// Their length. Unit: bytes.
    pub(crate) bytes: u64,
    /// Bytes by the node they came from.
    pub(crate) sources: Vec<(String, u64)>,
    /// How long it took. Unit: milliseconds.
    pub(crate) millis: u64,
    /// Why it did not come as logged; `None` if it did.
    pub(crate) problem: Option<String>,
}

impl Row {
    /// A row of something that came as logged.
    pub(crate) fn new(what: &str, millis: u64) -> Self {
        Self {
            what: what.to_owned(),
            millis,
            ..Self::default()
        }
    }

    /// A row of something that did not.
    pub(crate) fn failed(what: &str, problem: String) -> Self {
        Self {
            what: what.to_owned(),
            problem: Some(problem),
            ..Self::default()
        }
    }

    /// The row as JSON.
    pub(crate) fn json(&self) -> Value {
        let source = |(name, bytes): &(String, u64)| json!({"node": name, "bytes": bytes});
        json!({
            "what": self.what, "attested_by": self.attested_by, "index": self.index,
            "files": self.files, "bytes": self.bytes, "millis": self.millis,
            "sources": self.sources.iter().map(source).collect::<Vec<_>>(),
            "verified": self.problem.is_none(), "problem": self.problem,
        })
    }
}

/// The table, and a summary.
pub(crate) fn render(output: Output, rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "package",
        "attested by",
        "entry",
        "files",
        "size",
        "came from",
        "time",
        "sha256 as logged",
    ]);
    for it in rows {
        let verdict = it.problem.as_ref().map_or("yes", |_| "NO");
        table.row([
            it.what.clone(),
            it.attested_by.clone(),
            it.index.map_or_else(|| "-".into(), |it| it.to_string()),
            it.files.to_string(),
            bytes(it.bytes),
            shares(&it.sources),
            span(it.millis),
            verdict.into(),
        ]);
    }
    let mut lines = table.render();
    if let Some((head, rest)) = lines.split_once('\n') {
        lines = format!("{}\n{rest}", output.paint(Color::Bold, head));
    }
    for it in rows {
        if let Some(problem) = &it.problem {
            let told = format!("{}: {}", clean(&it.what), clean(problem));
            lines += &format!("{}\n", output.paint(Color::Red, &told));
        }
    }
    let good = rows.iter().filter(|it| it.problem.is_none()).count();
    let (size, millis) = rows
        .iter()
        .fold((0, 0), |sum, it| (sum.0 + it.bytes, sum.1 + it.millis));
    let verdict = format!("{good} of {} came as logged", rows.len());
    let color = if good == rows.len() {
        Color::Green
    } else {
        Color::Red
    };
    let files: u64 = rows.iter().map(|it| it.files).sum();
    lines
        + &format!(
            "{}: {}, {} in {}, {}\n",
            output.paint(color, &verdict),
            count(files, "file"),
            bytes(size),
            span(millis),
            rate(size, millis),
        )
}

/// Sources with their shares, largest first.
fn shares(sources: &[(String, u64)]) -> String {
    let total: u64 = sources.iter().map(|it| it.1).sum();
    let mut sorted: Vec<&(String, u64)> = sources.iter().collect();
    sorted.sort_by_key(|it| std::cmp::Reverse(it.1));
    let share =
        |it: &&(String, u64)| format!("{} {}%", it.0, it.1.saturating_mul(100) / total.max(1));
    match sorted.as_slice() {
        [] => "-".to_owned(),
        [one] => one.0.clone(),
        some => some.iter().map(share).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages_largest_first() {
        for (sources, expected) in [
            (vec![], "-"),
            (vec![("node-1".to_owned(), 7)], "node-1"),
            (
                vec![("node-1".to_owned(), 1), ("node-2".to_owned(), 3)],
                "node-2 75% node-1 25%",
            ),
        ] {
            assert_eq!(shares(&sources), expected);
        }
    }

    #[test]
    fn what_did_not_come_as_logged_is_told() {
        let rows = [Row::new("a", 5), Row::failed("b", "other bytes".into())];
        let text = render(Output::new(true, false), &rows);
        assert!(
            text.contains("1 of 2 came as logged") && text.contains("b: other bytes"),
            "{text}"
        );
        assert_eq!(rows[1].json()["verified"], false);
    }
}
