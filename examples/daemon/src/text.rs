//! Numbers, times and tables as people read them.

use std::fmt::Write as _;

/// Characters of a cell; longer ones are cut.
const CELL_CHARS_MAX: usize = 100;

/// Hex digits that tell keys and digests apart on a screen.
const SHORT_CHARS: usize = 12;

/// `text` without control characters: peers choose some of the texts that are shown, and a
/// terminal obeys control characters.
pub(crate) fn clean(text: &str) -> String {
    let is_plain = |it: &char| !it.is_control() && !('\u{202a}'..='\u{202e}').contains(it);
    text.chars().filter(is_plain).collect()
}

/// A size: `999 B`, `1.5 kB`, `12.0 MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) / 100;
    let mut unit = 0;
    while 10_000 <= tenths && unit + 1 < UNITS.len() {
        tenths /= 1_000;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// A rate from bytes and milliseconds.
pub(crate) fn rate(count: u64, millis: u64) -> String {
    let per_second = u128::from(count) * 1_000 / u128::from(millis.max(1));
    format!("{}/s", bytes(u64::try_from(per_second).unwrap_or(u64::MAX)))
}

/// A time span: `850 ms`, `3.2 s`, `4 min`, `2 h`, `3 days`.
pub(crate) fn span(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..120_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        120_000..7_200_000 => format!("{} min", millis / 60_000),
        7_200_000..172_800_000 => format!("{} h", millis / 3_600_000),
        _ => format!("{} days", millis / 86_400_000),
    }
}

/// How long before `now` something happened. Units: milliseconds.
pub(crate) fn ago(then: u64, now: u64) -> String {
    match now.saturating_sub(then) {
        0..1_000 => "now".to_owned(),
        past => format!("{} ago", span(past)),
    }
}

/// The beginning of a key or digest.
pub(crate) fn short(hex: &str) -> String {
    hex.chars().take(SHORT_CHARS).collect()
}

/// A number with its noun: `1 file`, `2 files`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Rows in aligned columns. A column whose cells all look like numbers is aligned to the right.
#[derive(Debug, Default)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with column titles.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self {
            head: head.iter().map(|it| (*it).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Cells are cleaned and cut.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| {
            let cell = clean(&cell);
            if cell.chars().count() <= CELL_CHARS_MAX {
                return cell;
            }
            let cut: String = cell.chars().take(CELL_CHARS_MAX - 1).collect();
            format!("{cut}…")
        });
        self.rows.push(cells.collect());
    }

    /// Whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, titles first.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let cell = |row: &[String], at: usize| row.get(at).cloned().unwrap_or_default();
        let columns = self.head.len();
        let width = |at: usize| {
            let all = self.rows.iter().chain([&self.head]);
            all.map(|row| cell(row, at).chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let is_number = |at: usize| {
            let mut cells = self.rows.iter().map(|row| cell(row, at));
            !self.rows.is_empty()
                && cells.all(|it| {
                    it.is_empty()
                        || it == "-"
                        || it.starts_with(|c: char| c.is_ascii_digit()) && it.len() < 12
                })
        };
        let right: Vec<bool> = (0..columns).map(is_number).collect();
        for row in [&self.head].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (at, width) in widths.iter().enumerate() {
                let gap = if at == 0 { "" } else { "  " };
                let cell = cell(row, at);
                let _ = match right.get(at) {
                    Some(true) => write!(line, "{gap}{cell:>width$}"),
                    _ => write!(line, "{gap}{cell:<width$}"),
                };
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

/// Names and values in two columns.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    /// Adds a value. An empty name continues the value above.
    pub(crate) fn add(&mut self, name: &'static str, value: impl AsRef<str>) {
        self.0.push((name, clean(value.as_ref())));
    }

    /// The lines.
    pub(crate) fn render(&self) -> String {
        let width = self.0.iter().map(|it| it.0.len()).max().unwrap_or(0);
        let line = |(name, value): &(&str, String)| {
            format!("{name:<width$}  {value}").trim_end().to_owned() + "\n"
        };
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_to_five_characters_and_a_unit() {
        for (count, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_550, "1.5 kB"),
            (999_999, "999.9 kB"),
            (1_000_000, "1.0 MB"),
            (50_331_648, "50.3 MB"),
            (u64::MAX, "18446.7 PB"),
        ] {
            assert_eq!(bytes(count), expected, "{count}");
        }
        assert_eq!(rate(3_000_000, 1_500), "2.0 MB/s");
        assert_eq!(rate(5, 0), "5.0 kB/s");
    }

    #[test]
    fn spans_use_the_unit_that_people_would() {
        for (millis, expected) in [
            (0, "0 ms"),
            (1_234, "1.2 s"),
            (119_999, "119.9 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 days"),
        ] {
            assert_eq!(span(millis), expected, "{millis}");
        }
        assert_eq!(ago(5_000, 4_000), "now");
        assert_eq!(ago(1_000, 4_500), "3.5 s ago");
    }

    #[test]
    fn texts_of_peers_cannot_move_the_cursor() {
        assert_eq!(clean("a\u{1b}[2Jb\r\n\u{202e}c"), "a[2Jbc");
        let mut table = Table::new(&["name", "size"]);
        table.row(["x\u{7}".to_owned(), "10 B".to_owned()]);
        table.row(["long name".to_owned(), "9 B".to_owned()]);
        assert_eq!(
            table.render(),
            "name       size\nx          10 B\nlong name   9 B\n"
        );
    }

    #[test]
    fn fields_align_and_continue() {
        let mut fields = Fields::default();
        fields.add("node", "1");
        fields.add("network", "2");
        fields.add("", "3");
        assert_eq!(fields.render(), "node     1\nnetwork  2\n         3\n");
    }
}
