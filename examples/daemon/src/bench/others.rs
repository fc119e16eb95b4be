//! Other programs that move files between peers, measured if they are installed.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::bench::figure::{Figure, Goal, millis};
use crate::bench::run::Bench;
use crate::failure::{During, Failure};

/// How long a daemon of another program may take to start.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Kills the program when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `sendme`: iroh-blobs over QUIC, from one process to another.
pub(super) fn sendme(bench: &Bench, file: &Path, rate: fn(f64) -> f64) -> Figure {
    measure(bench, "sendme", file, rate, sendme_millis)
}

/// `ipfs`: kubo's bitswap, from one daemon to another.
pub(super) fn kubo(bench: &Bench, file: &Path, rate: fn(f64) -> f64) -> Figure {
    measure(bench, "ipfs", file, rate, kubo_millis)
}

fn measure(
    bench: &Bench,
    program: &'static str,
    file: &Path,
    rate: fn(f64) -> f64,
    fetch: fn(&Bench, &Path, &Path) -> Result<f64, Failure>,
) -> Figure {
    let what = format!("  the same with {program}");
    let Some(path) = find(program) else {
        return Figure::missing("gib", what, "not installed".to_owned());
    };
    match fetch(bench, &path, file) {
        Ok(millis) => Figure::new("gib", what, rate(millis), "GB/s", 1, Goal::None),
        Err(failure) => Figure::missing("gib", what, failure.message),
    }
}

/// The first program of this name in `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut files = env::split_paths(&path).map(|it| it.join(program));
    files.find(|it| it.is_file())
}

fn sendme_millis(bench: &Bench, program: &Path, file: &Path) -> Result<f64, Failure> {
    let (send, receive) = (bench.folder.join("send"), bench.folder.join("receive"));
    for folder in [&send, &receive] {
        fs::create_dir_all(folder).during("cannot make a folder")?;
    }
    let sender = Command::new(program)
        .args(["send", "--ticket-type", "addresses", "--relay", "disabled"])
        .arg(file)
        .current_dir(&send)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .during("cannot start sendme")?;
    let mut sender = Running(sender);
    let ticket = word_after(&mut sender, "sendme receive ")?;
    let began = bench.clock.now();
    let received = Command::new(program)
        .args(["receive", &ticket, "--relay", "disabled"])
        .current_dir(&receive)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .during("cannot start sendme")?;
    let taken = millis(bench.clock.now().since(began));
    drop(sender);
    let name = file.file_name().unwrap_or_default();
    let is_there = receive.join(name).is_file();
    for folder in [send, receive] {
        fs::remove_dir_all(folder).during("cannot clean up")?;
    }
    match received.success() && is_there {
        true => Ok(taken),
        false => Err(Failure::new("bench", "sendme failed")),
    }
}

fn kubo_millis(bench: &Bench, program: &Path, file: &Path) -> Result<f64, Failure> {
    let repositories = [bench.folder.join("kubo-a"), bench.folder.join("kubo-b")];
    let ipfs = |at: usize, args: &[&str]| -> Result<String, Failure> {
        let run = Command::new(program)
            .args(args)
            .env("IPFS_PATH", repositories.get(at).unwrap_or(&bench.folder))
            .output()
            .during("cannot start ipfs")?;
        if !run.status.success() {
            let text = String::from_utf8_lossy(&run.stderr);
            return Err(Failure::new("bench", format!("ipfs: {}", text.trim())));
        }
        Ok(String::from_utf8_lossy(&run.stdout).trim().to_owned())
    };
    let mut daemons = Vec::new();
    for at in [0, 1] {
        // The profile `test`: loopback only, random ports, no bootstrap peers.
        ipfs(at, &["init", "--profile=test"])?;
        let log = File::create(bench.folder.join("kubo.log")).during("cannot write")?;
        let daemon = Command::new(program)
            .arg("daemon")
            .env("IPFS_PATH", repositories.get(at).unwrap_or(&bench.folder))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .during("cannot start ipfs")?;
        let mut daemon = Running(daemon);
        word_after(&mut daemon, "Daemon is ")?;
        daemons.push(daemon);
    }
    let path = file.to_string_lossy();
    let id = ipfs(0, &["add", "--quieter", "--cid-version=1", &path])?;
    let addresses = ipfs(0, &["id", "--format=<addrs>"])?;
    let address = addresses.lines().find(|it| it.contains("/tcp/"));
    let address = address.ok_or_else(|| Failure::new("bench", "ipfs does not listen"))?;
    ipfs(1, &["swarm", "connect", address])?;
    let began = bench.clock.now();
    ipfs(1, &["pin", "add", &id])?;
    let taken = millis(bench.clock.now().since(began));
    drop(daemons);
    for folder in &repositories {
        fs::remove_dir_all(folder).during("cannot clean up")?;
    }
    Ok(taken)
}

/// The word after `mark` on standard output, which is read to its end from then on.
fn word_after(running: &mut Running, mark: &'static str) -> Result<String, Failure> {
    let silent = || Failure::new("bench", "the program says nothing");
    let output = running.0.stdout.take().ok_or_else(silent)?;
    let (found, word) = std::sync::mpsc::sync_channel(1);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once(mark) {
                let word = rest.split_whitespace().next().unwrap_or_default();
                let _ = found.try_send(word.to_owned());
            }
        }
    });
    word.recv_timeout(READY_TIMEOUT).map_err(|_| silent())
}
