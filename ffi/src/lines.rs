//! The log of one node, as lines for the host.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::calls::Calls;
use crate::op::Release;
use crate::types::{kogge_log_fn, kogge_str};

/// Longest line; longer ones are cut. Unit: bytes.
const LINE_BYTES_MAX: usize = 4_096;

/// Where lines go.
pub(crate) struct Sink {
    pub(crate) log_fn: kogge_log_fn,
    pub(crate) release: Release,
    /// 1 (errors) to 5 (everything); 0 is nothing.
    pub(crate) max_level: i32,
}

/// A subscriber that writes events as lines. Spans are left out: the node has none of its own.
pub(crate) struct Lines {
    sink: Mutex<Option<Arc<Sink>>>,
    max_level: i32,
    calls: Arc<Calls>,
}

impl Lines {
    pub(crate) fn new(sink: Option<Arc<Sink>>, calls: Arc<Calls>) -> Self {
        let max_level = sink.as_ref().map_or(0, |it| it.max_level);
        Self {
            sink: Mutex::new(sink),
            max_level,
            calls,
        }
    }

    /// Drops the sink after the lines that wait.
    pub(crate) fn close(&self) {
        let sink = self
            .sink
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(sink) = sink {
            self.calls.run(move || drop(sink));
        }
    }
}

/// The level's number in the interface.
const fn number(level: Level) -> i32 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = number(*metadata.level());
        // Libraries below the node say little that helps, and much of it.
        let is_ours = metadata.target().starts_with("kogge");
        metadata.is_event() && level <= self.max_level && (is_ours || level <= 2)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let sink = self
            .sink
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(sink) = sink else { return };
        let mut line = Line::default();
        event.record(&mut line);
        let metadata = event.metadata();
        let (level, target) = (number(*metadata.level()), metadata.target());
        self.calls.run_line(move |lost| {
            let Some(log_fn) = sink.log_fn else { return };
            let write = |level, target: &str, line: &str| {
                let (target, line) = (kogge_str::of(target), kogge_str::of(line));
                // SAFETY: a function of the host, called as the header says.
                unsafe { log_fn(sink.release.user_data.0, level, target, line) };
            };
            if lost != 0 {
                write(2, "kogge", &format!("{lost} lines of the log were lost"));
            }
            write(level, target, &line.text());
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// `message name=value …`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn text(mut self) -> String {
        self.message.push_str(&self.fields);
        let mut end = self.message.len().min(LINE_BYTES_MAX);
        while !self.message.is_char_boundary(end) {
            end -= 1;
        }
        self.message.truncate(end);
        self.message
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if LINE_BYTES_MAX < self.fields.len() {
            return;
        }
        // Writing to a text cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::c_void;

    use tracing::Dispatch;

    use super::*;
    use crate::op::UserData;

    unsafe extern "C" fn keep(data: *mut c_void, level: i32, _: kogge_str, line: kogge_str) {
        // SAFETY: the test hands over a live mutex, and the line is valid during the call.
        let (kept, line) = unsafe {
            let kept = &*data.cast::<Mutex<Vec<(i32, String)>>>();
            (
                kept,
                std::slice::from_raw_parts(line.ptr.cast::<u8>(), line.len),
            )
        };
        let line = String::from_utf8(line.to_vec()).unwrap();
        kept.lock().unwrap().push((level, line));
    }

    #[test]
    fn lines_up_to_the_level_come_in_order_and_none_after_the_end() {
        let kept: Mutex<Vec<(i32, String)>> = Mutex::default();
        let calls = Calls::start().unwrap();
        let sink = Sink {
            log_fn: Some(keep),
            release: Release {
                user_data: UserData((&raw const kept).cast_mut().cast()),
                drop_fn: None,
            },
            max_level: 3,
        };
        let lines = Arc::new(Lines::new(Some(Arc::new(sink)), calls.clone()));
        tracing::dispatcher::with_default(&Dispatch::new(lines.clone()), || {
            tracing::warn!(target: "kogge::x", peer = "bob", "left");
            tracing::debug!(target: "kogge::x", "unseen");
            tracing::info!(target: "libp2p", "unseen");
            tracing::info!(target: "kogge::x", count = 3, "seen");
            lines.close();
            tracing::error!(target: "kogge::x", "too late");
        });
        calls.stop();
        let expected = [(2, "left peer=\"bob\""), (3, "seen count=3")];
        assert_eq!(
            *kept.lock().unwrap(),
            expected.map(|(level, line)| (level, line.to_owned()))
        );
    }
}
