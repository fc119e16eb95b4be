//! Running programs.

use std::ffi::OsStr;
use std::fmt;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A step that did not work, with what it printed.
#[derive(Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Runs `command` to its end and returns what it printed.
///
/// # Errors
///
/// [`Failure`] with both outputs if it cannot start or its exit code is not 0.
pub fn run(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure(format!("{command:?}: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Failure(format!(
        "{command:?}: {}\n{text}{errors}",
        output.status
    )))
}

/// A command for `program` with `args`.
pub fn command(program: impl AsRef<OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Child(pub std::process::Child);

impl Child {
    /// Starts `command`; its output goes to the file `log`.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it cannot start.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self, Failure> {
        let file = std::fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .map_err(|error| Failure(format!("{command:?}: {error}")))?;
        Ok(Self(child))
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A TCP port on loopback that was free a moment ago, for programs that cannot choose one.
///
/// # Errors
///
/// [`Failure`] if the system has none.
pub fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// Waits until `ready` holds.
///
/// # Errors
///
/// [`Failure`] naming `what` when `limit` has passed.
#[expect(
    clippy::disallowed_methods,
    reason = "tests of real processes need a real clock"
)]
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> bool,
) -> Result<(), Failure> {
    let end = Instant::now() + limit;
    while !ready() {
        if end < Instant::now() {
            return Err(Failure(format!("{what}: not within {limit:?}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until something accepts connections at `port` on loopback.
///
/// # Errors
///
/// [`Failure`] after 20 seconds.
pub fn wait_for_port(port: u16) -> Result<(), Failure> {
    wait_until(&format!("port {port}"), Duration::from_secs(20), || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    })
}
