//! Entries of the log as C reads them.

use std::sync::Arc;

use kogge::{Entry, Row, json};

use crate::failure::Failure;
use crate::guard::{call, value};
use crate::handle;
use crate::input::out;
use crate::object::Object;
use crate::start::give_buffer;
use crate::status::kogge_status;
use crate::types::{kogge_buffer, kogge_entry, kogge_error, kogge_rows, kogge_str};

/// Entries.
pub(crate) struct Rows(pub(crate) Vec<Row>);

/// # Safety
///
/// `target` is writable.
pub(crate) unsafe fn give_rows(
    target: *mut *mut kogge_rows,
    rows: Option<Arc<Rows>>,
) -> Result<(), Failure> {
    let Some(rows) = rows else {
        return Err(Failure::new(kogge_status::End, "no entry follows"));
    };
    let handle = handle::put(Object::Rows(rows))?;
    // SAFETY: as the caller promises.
    unsafe { target.write(handle.cast()) };
    Ok(())
}

/// How many entries there are; 0 if `rows` is none.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_rows_get_len(rows: *const kogge_rows) -> usize {
    value(0, || {
        handle::get::<Arc<Rows>>(rows.cast()).map_or(0, |it| it.0.len())
    })
}

/// Entry number `at`, from 0. Its texts are valid until the rows are freed.
///
/// # Safety
///
/// `entry_out` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_rows_get_entry(
    rows: *const kogge_rows,
    at: usize,
    entry_out: *mut kogge_entry,
) -> kogge_status {
    let body = || {
        let rows = handle::get::<Arc<Rows>>(rows.cast())?;
        let target = out("entry_out", entry_out)?;
        let row = rows
            .0
            .get(at)
            .ok_or_else(|| Failure::argument("no such row"))?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { target.write(entry(row)) };
        Ok(())
    };
    // SAFETY: no error object is wanted.
    unsafe { call(std::ptr::null_mut(), body) }
}

fn entry(row: &Row) -> kogge_entry {
    let artifact = match &row.entry {
        Entry::AddArtifact(it) => Some(it),
        _ => None,
    };
    let part = |text: Option<&str>| kogge_str::of(text.unwrap_or_default());
    kogge_entry {
        index: row.index,
        height: row.height,
        time_ms: row.time.as_millis(),
        removed: row.removed.unwrap_or(u64::MAX),
        size: artifact.map_or(0, |it| it.size),
        kind: kogge_str::of(row.entry.kind_name()),
        purl: part(artifact.map(|it| &*it.purl)),
        file: part(artifact.map(|it| &*it.file)),
        media_type: part(artifact.map(|it| &*it.media_type)),
        blake3: artifact.map_or([0; 32], |it| it.blake3.0),
        sha256: artifact.map_or([0; 32], |it| it.sha256.0),
    }
}

/// All of entry number `at` as JSON, in the shape of `kogge log show --json`. Free the buffer with
/// `kogge_buffer_free`.
///
/// # Safety
///
/// `json_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_rows_take_json(
    rows: *const kogge_rows,
    at: usize,
    json_out: *mut *mut kogge_buffer,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let rows = handle::get::<Arc<Rows>>(rows.cast())?;
        let target = out("json_out", json_out)?;
        let row = rows
            .0
            .get(at)
            .ok_or_else(|| Failure::argument("no such row"))?;
        let json = json::row(row).to_string().into_bytes();
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_buffer(target, Arc::new(json)) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Frees rows. Does nothing with NULL and stale handles.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_rows_free(rows: *mut kogge_rows) {
    value((), || drop(handle::take::<Arc<Rows>>(rows.cast())));
}
