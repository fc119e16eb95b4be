//! What the system knows about a process.

use std::fs;

use crate::failure::{During, Failure};

/// Ticks of the counters of CPU time. Unit: 1/s. The kernel shows the same to every program
/// (`USER_HZ`), whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// The most memory a process has had. Unit: MB.
///
/// # Errors
///
/// [`Failure`] if the process is gone.
pub(super) fn peak_memory(pid: u32) -> Result<f64, Failure> {
    memory(pid, "VmHWM:")
}

/// The memory a process has now. Unit: MB.
///
/// # Errors
///
/// [`Failure`] if the process is gone.
pub(super) fn present_memory(pid: u32) -> Result<f64, Failure> {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, field: &str) -> Result<f64, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).during("no memory figures")?;
    let line = text.lines().find(|it| it.starts_with(field));
    let kilobytes = line.and_then(|it| it.split_whitespace().nth(1)?.parse::<f64>().ok());
    let kilobytes = kilobytes.ok_or_else(|| Failure::new("bench", "no memory figures"))?;
    Ok(kilobytes * 1_024.0 / 1e6)
}

/// CPU time of a process so far. Unit: seconds.
///
/// # Errors
///
/// [`Failure`] if the process is gone.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).during("no CPU figures")?;
    // proc(5): the name in brackets may hold blanks; `utime` and `stime` are fields 14 and 15.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|it| it.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_time() {
        let pid = std::process::id();
        assert!(1.0 < present_memory(pid).unwrap());
        assert!(present_memory(pid).unwrap() <= peak_memory(pid).unwrap());
        assert!(0.0 <= cpu_seconds(pid).unwrap());
        assert!(cpu_seconds(u32::MAX).is_err());
    }
}
