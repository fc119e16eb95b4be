//! Where results, notes and failures go: results to standard output, everything else to standard
//! error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::Failure;
use crate::text::clean;

/// How to talk to the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    is_json: bool,
    is_quiet: bool,
    has_color: bool,
    is_live: bool,
}

/// A colour of a terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Color {
    /// Titles.
    Bold,
    /// Good.
    Green,
    /// To be looked at.
    Yellow,
    /// Bad.
    Red,
}

impl Output {
    /// Whether results are JSON.
    pub(crate) const fn json(&self) -> bool {
        self.is_json
    }

    /// Looks at the terminal and at `NO_COLOR`.
    pub(crate) fn new(is_json: bool, is_quiet: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|it| it == "dumb");
        Self {
            is_json,
            is_quiet,
            has_color: io::stdout().is_terminal() && !no_color && !is_dumb && !is_json,
            is_live: io::stderr().is_terminal() && !is_dumb && !is_quiet,
        }
    }

    /// Whether standard error is a terminal on which bars may move.
    pub(crate) fn is_live(&self) -> bool {
        self.is_live
    }

    /// `text` in a colour, if standard output has colours.
    pub(crate) fn paint(&self, color: Color, text: &str) -> String {
        let code = match color {
            Color::Bold => 1,
            Color::Green => 32,
            Color::Yellow => 33,
            Color::Red => 31,
        };
        match self.has_color {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }

    /// Shows a result: as one JSON document, or as the text for people. Texts of peers in it must
    /// be clean already; tables and fields see to that.
    ///
    /// # Errors
    ///
    /// [`Failure`] if standard output cannot be written; a reader that left is none.
    pub(crate) fn show(
        &self,
        value: &impl Serialize,
        text: impl AsRef<str>,
    ) -> Result<(), Failure> {
        let written = if self.is_json {
            let json = serde_json::to_string_pretty(value);
            write(&format!(
                "{}\n",
                json.map_err(|it| Failure::new("io", it.to_string()))?
            ))
        } else {
            write(text.as_ref())
        };
        written.map_err(|it| Failure::new("io", format!("cannot write the result: {it}")))
    }

    /// Tells people something beside the result.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.is_quiet {
            let _ = writeln!(io::stderr(), "{}", clean(text.as_ref()));
        }
    }

    /// Tells why the command failed: to people, and with `--json` also to the program.
    pub(crate) fn fail(&self, failure: &Failure) {
        if self.is_json {
            let _ = write(&format!("{:#}\n", failure.json()));
        }
        let _ = writeln!(io::stderr(), "kogge: {}", clean(&failure.message));
    }
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no failure.
fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
