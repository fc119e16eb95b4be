//! The program as users run it: one node on free ports, and every wrong turn.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "these are tests; their helpers fail them"
)]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use kogge::{Genesis, WallTime};
use serde_json::Value;

const FREE_PORTS: [&str; 4] = ["--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0"];

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kogge"));
    command
        .env_remove("RUST_LOG")
        .arg("--data-dir")
        .arg(folder)
        .args(args);
    command
}

fn run(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

fn code_and_error(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = run(folder, args);
    let error = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), error)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|it| panic!("{it}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// A daemon; killed when dropped.
struct Daemon(Child);

impl Daemon {
    /// Starts a daemon and returns what it says when it is up.
    fn start(folder: &Path) -> (Self, Value) {
        let mut command = command(folder, &["--json", "up"]);
        let command = command.args(FREE_PORTS);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut daemon = Self(child.unwrap());
        let mut text = String::new();
        let mut lines = BufReader::new(daemon.0.stdout.as_mut().unwrap()).lines();
        // The document ends with a brace that is not indented.
        for line in lines.by_ref() {
            let line = line.unwrap();
            text += &line;
            if line == "}" {
                break;
            }
        }
        (daemon, serde_json::from_str(&text).unwrap())
    }

    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_solo_node_answers_everything_and_stops_cleanly_at_ctrl_c() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (mut daemon, up) = Daemon::start(folder);
    assert_eq!(up["ready"], true);
    assert_eq!(up["network"]["members"].as_array().unwrap().len(), 1);

    let status = run(folder, &["status", "--json"]);
    assert_eq!(json(&status)["node"], up["node"]);
    assert!(
        String::from_utf8(run(folder, &["status"]).stdout)
            .unwrap()
            .contains("solo")
    );
    for args in [
        &["peers"][..],
        &["log", "list"],
        &["log", "find", "--kind", "add-artifact"],
        &["build", "status"],
        &["authorize", "list"],
        &["authorize", "card", "--name", "solo"],
        &["network", "show"],
        &["config", "show"],
        &["doctor"],
    ] {
        let plain = run(folder, args);
        let error = String::from_utf8_lossy(&plain.stderr).into_owned();
        assert!(
            plain.status.success() && !plain.stdout.is_empty(),
            "{args:?}: {error}"
        );
        json(&run(folder, &[args, &["--json", "--quiet"]].concat()));
    }
    for (args, part) in [
        (&["why", "pkg:maven/g/a@1"][..], "not in the log"),
        (&["fetch", "g:a:1"], "not in the log"),
        (&["waybill", "999999"], "999999"),
        (&["log", "show", "999999"], "999999"),
        (&["log", "find", "--kind", "nothing"], "`kind`"),
        (&["build", "maven", "g:a"], "g:a"),
        (&["build", "status", "ff"], "knows no build"),
        (&["authorize", "remove", "nobody"], "no authorized node"),
    ] {
        let (code, error) = code_and_error(folder, args);
        assert_eq!(code, Some(1), "{args:?}");
        assert!(error.contains(part), "{args:?}: {error}");
    }
    let refused = run(folder, &["why", "g:a:1", "--json"]);
    assert_eq!(
        json(&refused)["error"]["code"].as_str().map(str::is_empty),
        Some(false)
    );

    let second = ["up", "--listen", "/ip4/127.0.0.1/tcp/0", "--http", "off"];
    let (code, error) = code_and_error(folder, &second);
    assert_eq!(code, Some(1));
    assert!(error.contains("in use by process"), "{error}");

    daemon.signal("INT");
    assert_eq!(daemon.0.wait().unwrap().code(), Some(0));
    assert!(!folder.join("control.sock").exists());
    let (code, error) = code_and_error(folder, &["status"]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("no daemon at") && error.contains("`kogge up`"),
        "{error}"
    );
}

#[test]
fn a_node_keeps_its_identity_and_stops_at_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = None;
    for _ in 0..2 {
        let (mut daemon, up) = Daemon::start(folder.path());
        daemon.signal("TERM");
        let mut rest = Vec::new();
        daemon
            .0
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut rest)
            .unwrap();
        assert_eq!(daemon.0.wait().unwrap().code(), Some(0));
        let now = (up["node"].clone(), up["network"]["chain"].clone());
        assert_eq!(*before.get_or_insert_with(|| now.clone()), now);
    }
}

#[test]
fn busy_ports_are_told_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let http = format!("127.0.0.1:{port}");
    let args = ["up", "--listen", "/ip4/127.0.0.1/tcp/0", "--http", &http];
    let (code, error) = code_and_error(folder.path(), &args);
    assert_eq!(code, Some(1));
    assert!(
        error.contains(&http) && error.contains("`http.address`"),
        "{error}"
    );

    let peers = format!("/ip4/127.0.0.1/tcp/{port}");
    let args = ["up", "--listen", &peers, "--http", "off"];
    let (code, error) = code_and_error(folder.path(), &args);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("cannot listen for peers") && error.contains("set another `listen`"),
        "{error}"
    );
}

#[test]
fn wrong_configurations_are_told_with_line_or_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kogge.toml");
    for (text, part) in [
        ("thread = 1", "line 1"),
        ("threads = 0", "`threads`"),
        ("[http]\naddress = 'x'", "`http.address`"),
    ] {
        std::fs::write(&path, text).unwrap();
        for args in [&["up"][..], &["config", "check"], &["status"]] {
            let (code, error) = code_and_error(folder.path(), args);
            assert_eq!(code, Some(1), "{args:?}");
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }
    let long = folder.path().join("d".repeat(120));
    let (code, error) = code_and_error(&long, &["status"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("Unix sockets allow 107"), "{error}");
    assert_eq!(
        code_and_error(folder.path(), &["no-such-command"]).0,
        Some(2)
    );
}

#[test]
fn a_network_is_made_from_cards_and_joined_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    for name in ["alice", "bob"] {
        let card = run(&path(name), &["network", "card", "--name", name, "--quiet"]);
        std::fs::write(path(&format!("{name}.json")), card.stdout).unwrap();
    }
    let (alice, bob, out) = (text("alice.json"), text("bob.json"), text("genesis.json"));
    let args = [
        "network", "init", "--name", "test", "--member", &alice, "--member", &bob, "-o", &out,
    ];
    assert!(run(&path("alice"), &args).status.success());
    let genesis: Genesis = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(genesis.check(), Ok(()));
    assert!(genesis.time > WallTime::from_millis(0));

    for _ in 0..2 {
        assert!(
            run(&path("bob"), &["network", "join", &out])
                .status
                .success()
        );
    }
    let shown = json(&run(&path("bob"), &["network", "show", "--json"]));
    assert_eq!(shown["chain"], genesis.chain().to_string());
    let (code, error) = code_and_error(&path("eve"), &["network", "join", &out, "--chain", "00"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("nothing was joined"), "{error}");

    let args = [
        "network",
        "init",
        "--name",
        "other",
        "--member",
        &alice,
        "-o",
        &text("other.json"),
    ];
    assert!(run(&path("alice"), &args).status.success());
    let (code, error) = code_and_error(&path("bob"), &["network", "join", &text("other.json")]);
    assert_eq!(code, Some(1));
    assert!(error.contains("belongs to the network test"), "{error}");
    let (code, error) = code_and_error(
        &path("eve"),
        &["network", "init", "--name", "Bad Name", "--member", &alice],
    );
    assert_eq!(code, Some(1));
    assert!(error.contains("Bad Name"), "{error}");
}

#[test]
fn what_is_no_waybill_does_not_verify() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.jar");
    std::fs::write(&file, "bytes").unwrap();
    let file = file.to_str().unwrap();
    let args = ["verify", file, "--waybill", file, "--policy", file];
    let (code, error) = code_and_error(folder.path(), &args);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("is not verified: this is not a waybill"),
        "{error}"
    );
    // Nobody to believe is a mistake of the caller, not a verdict.
    assert_eq!(
        code_and_error(folder.path(), &["verify", file, "--waybill", file]).0,
        Some(2)
    );
}
