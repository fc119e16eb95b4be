//! The log of nodes, kept for a Java thread: no thread of the library calls Java.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jni::objects::JByteArray;
use jni::sys::{jint, jlong};
use kogge_abi::{kogge_config_set_log, kogge_str};

use crate::call::{check, handle, native, owned};
use crate::pack::Record;

/// Most lines that wait for Java; more are dropped and counted.
const LINES_MAX: usize = 1_024;

/// The level of the line that tells how many were dropped: a warning.
const LOST_LEVEL: i32 = 2;

/// The lines of the nodes that are opened with one configuration.
#[derive(Default)]
struct Lines {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<(i32, String, String)>,
    lost: u64,
    is_over: bool,
}

/// All that were not read to their end, by number: an invented number is none of them.
static ALL: Mutex<(i64, BTreeMap<jlong, Arc<Lines>>)> = Mutex::new((0, BTreeMap::new()));

fn all() -> MutexGuard<'static, (i64, BTreeMap<jlong, Arc<Lines>>)> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, level: i32, target: String, line: String) {
        let mut waiting = self.lock();
        if waiting.lines.len() < LINES_MAX {
            waiting.lines.push_back((level, target, line));
        } else {
            waiting.lost += 1;
        }
        drop(waiting);
        self.changed.notify_one();
    }

    fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_one();
    }

    /// Waits for lines and packs them: their number, then level, target and line of each. Nothing
    /// after the last.
    fn take(&self) -> Option<Vec<u8>> {
        let waits = |it: &mut Waiting| it.lines.is_empty() && !it.is_over;
        let waiting = self.changed.wait_while(self.lock(), waits);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let mut lines = std::mem::take(&mut waiting.lines);
        let lost = std::mem::take(&mut waiting.lost);
        drop(waiting);
        if lost != 0 {
            let line = format!("{lost} lines of the log were lost");
            lines.push_back((LOST_LEVEL, "kogge".to_owned(), line));
        }
        if lines.is_empty() {
            return None;
        }
        let mut record = Record::default();
        record.number(lines.len() as u64);
        for (level, target, line) in lines {
            record.number(u64::from(level.unsigned_abs()));
            record.bytes(target.as_bytes());
            record.bytes(line.as_bytes());
        }
        Some(record.finish())
    }
}

unsafe extern "C" fn keep(data: *mut c_void, level: i32, target: kogge_str, line: kogge_str) {
    // SAFETY: `data` came from `Arc::into_raw` and lives until `forget`.
    let lines = unsafe { &*data.cast_const().cast::<Lines>() };
    lines.push(level, owned(target), owned(line));
}

unsafe extern "C" fn forget(data: *mut c_void) {
    // SAFETY: called once, and last, with what `Arc::into_raw` gave.
    unsafe { Arc::from_raw(data.cast_const().cast::<Lines>()) }.end();
}

// Keeps the log of the nodes that are opened with a configuration, and gives the number to read it
// with.
native!(Java_dev_kogge_Native_configLog(_env, config: jlong, max_level: jint) -> jlong {
    let lines = Arc::new(Lines::default());
    let data = Arc::into_raw(lines.clone()).cast_mut().cast::<c_void>();
    let mut error = null_mut();
    // SAFETY: `data` is released by `forget` only; the error is writable.
    let status = unsafe {
        kogge_config_set_log(
            handle(config),
            max_level,
            Some(keep),
            data,
            Some(forget),
            &raw mut error,
        )
    };
    if let Err(error) = check(status, error) {
        // SAFETY: the library did not take it.
        drop(unsafe { Arc::from_raw(data.cast_const().cast::<Lines>()) });
        return Err(error);
    }
    let mut all = all();
    all.0 += 1;
    let number = all.0;
    all.1.insert(number, lines);
    Ok(number)
});

// Waits for lines. Null after the last line of the last node.
native!(Java_dev_kogge_Native_logNext(env, log: jlong) -> JByteArray<'l> {
    let lines = all().1.get(&log).cloned();
    let Some(packed) = lines.and_then(|it| it.take()) else {
        all().1.remove(&log);
        return Ok(JByteArray::null());
    };
    Ok(env.byte_array_from_slice(&packed)?)
});
