//! `kogge doctor`: looks for what may keep the node from working.

use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;

use kogge::Status;
use kogge::node::pipeline::{MavenPlaces, Registries, RegistryFiles, default_repositories};
use kogge::node::{keys, start};
use kogge::proto::package::docker::DEFAULT_REGISTRY;
use serde_json::{Value, json};

use crate::Session;
use crate::failure::Failure;
use crate::output::{Color, Output};
use crate::text::{bytes, clean};

/// Free disk space below which the owner is warned. Unit: bytes.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// A clock before this is wrong: this program is younger. 2026-01-01. Unit: milliseconds.
const NOW_MIN: u64 = 1_767_225_600_000;

/// How much later than this clock a block may be. Unit: milliseconds.
const DRIFT_MAX: u64 = 60_000;

/// The result of a check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// A check with what it found and what to do.
struct Check {
    name: &'static str,
    verdict: Verdict,
    text: String,
}

impl Check {
    fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            text: text.into(),
        }
    }

    fn warn(name: &'static str, text: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Warn,
            text: text.into(),
        }
    }

    fn fail(name: &'static str, text: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Fail,
            text: text.into(),
        }
    }
}

/// Looks. The exit code is 1 if something failed.
///
/// # Errors
///
/// [`Failure`] if the result cannot be shown.
pub(crate) async fn run(session: &Session) -> Result<ExitCode, Failure> {
    let place = &session.place;
    let mut checks = vec![config_file(session), folder(&place.data_dir)];
    checks.extend(key(&place.data_dir));
    checks.extend(disk(&place.data_dir));
    let asked: Result<Status, Failure> = match session.daemon() {
        Ok(client) => client.get("/status").await,
        Err(failure) => Err(failure),
    };
    match &asked {
        Ok(status) => checks.extend(running(status)),
        Err(failure) if failure.code == "no-daemon" => {
            checks.push(Check::warn("daemon", failure.message.clone()));
            checks.push(network(&place.data_dir));
            checks.extend(ports(session));
        }
        Err(failure) => checks.push(Check::fail("daemon", failure.message.clone())),
    }
    checks.push(clock(session.now(), asked.ok().as_ref()));
    checks.extend(upstreams(session));
    let is_good = checks.iter().all(|it| it.verdict != Verdict::Fail);
    let told: Vec<Value> = checks.iter().map(|it| json!({
        "check": it.name, "verdict": format!("{:?}", it.verdict).to_lowercase(), "message": it.text,
    })).collect();
    session.output.show(
        &json!({"good": is_good, "checks": told}),
        render(session.output, &checks),
    )?;
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn render(output: Output, checks: &[Check]) -> String {
    let line = |it: &Check| {
        let mark = match it.verdict {
            Verdict::Ok => output.paint(Color::Green, "ok  "),
            Verdict::Warn => output.paint(Color::Yellow, "warn"),
            Verdict::Fail => output.paint(Color::Red, "fail"),
        };
        format!("{mark}  {:<11}  {}\n", it.name, clean(&it.text))
    };
    checks.iter().map(line).collect()
}

fn config_file(session: &Session) -> Check {
    match &session.place.file {
        Some(path) => Check::ok("config", format!("{} is good", path.display())),
        None => Check::ok("config", "no file, so the defaults hold"),
    }
}

fn folder(path: &Path) -> Check {
    let (name, shown) = ("data", path.display());
    let meta = match path.metadata() {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => {
            return Check::fail(
                name,
                format!("{shown} is not a folder; choose another --data-dir"),
            );
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Check::warn(
                name,
                format!("{shown} is not there yet; `kogge up` makes it"),
            );
        }
        Err(error) => return Check::fail(name, format!("{shown}: {error}")),
    };
    let probe = path.join(format!(".doctor-{}", std::process::id()));
    if let Err(error) = std::fs::write(&probe, "") {
        return Check::fail(
            name,
            format!("{shown} cannot be written: {error}; see its owner and rights"),
        );
    }
    let _ = std::fs::remove_file(probe);
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o022 != 0 {
        return Check::warn(
            name,
            format!("others can write to {shown}; run `chmod go-w` on it"),
        );
    }
    let _ = meta;
    Check::ok(name, format!("{shown} can be written"))
}

fn key(folder: &Path) -> Option<Check> {
    if !folder.join(keys::KEY_FILE).exists() {
        return None;
    }
    Some(match keys::load_or_create(folder) {
        Ok(_) => Check::ok(
            "keys",
            "readable by the owner only; back up node.key, it is the node",
        ),
        Err(error) => Check::fail("keys", error.to_string()),
    })
}

fn disk(folder: &Path) -> Option<Check> {
    let existing = folder.ancestors().find(|it| it.exists())?;
    let stat = rustix::fs::statvfs(existing).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let text = format!("{} are free", bytes(free));
    Some(match free < FREE_BYTES_MIN {
        true => Check::warn(
            "disk",
            format!("{text}; set `limits.disk_mb`, or make room"),
        ),
        false => Check::ok("disk", text),
    })
}

fn network(folder: &Path) -> Check {
    match start::load_genesis(folder) {
        Ok(Some(genesis)) => Check::ok("network", format!("member of {}", genesis.name)),
        Ok(None) => Check::warn(
            "network",
            "none joined; `kogge up` makes a solo one, `kogge network join` joins one",
        ),
        Err(error) => Check::fail("network", error.to_string()),
    }
}

/// Whether the ports that the daemon would take are free.
fn ports(session: &Session) -> Vec<Check> {
    let place = &session.place;
    let mut checks = Vec::new();
    for address in &place.config.listen {
        let part = |at| address.split('/').nth(at).unwrap_or_default();
        if let (Ok(host), Ok(port)) = (part(2).parse::<std::net::IpAddr>(), part(4).parse()) {
            checks.push(port_check("peers", (host, port).into(), "listen"));
        }
    }
    checks.extend(
        place
            .http
            .address
            .map(|it| port_check("http", it, "http.address")),
    );
    checks
}

fn port_check(name: &'static str, address: std::net::SocketAddr, setting: &str) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) if address.is_ipv6() && error.kind() != std::io::ErrorKind::AddrInUse => {
            Check::warn(
                name,
                format!("{address}: {error}; without IPv6 that is fine"),
            )
        }
        Err(error) => Check::fail(name, format!("{address}: {error}; set another `{setting}`")),
    }
}

fn running(status: &Status) -> Vec<Check> {
    let ready = match status.ready {
        true => Check::ok("daemon", format!("kogge {} answers", status.version)),
        false => Check::warn("daemon", "it starts; wait, then look at its log"),
    };
    let network = &status.network;
    let alone = network.me.is_some() && network.members.len() == 1;
    let peers = match status.peers {
        0 if alone => Check::ok("peers", "none, as is normal for a solo network"),
        0 => Check::fail(
            "peers",
            "none; name some in `peers` or `bootstrap_urls`, and see `kogge peers` for who was refused",
        ),
        count => Check::ok("peers", format!("{count} connected")),
    };
    let reach = match status.listen.is_empty() {
        true => Check::warn(
            "listen",
            "the node does not listen, so peers cannot reach it; see `listen`",
        ),
        false => Check::ok("listen", status.listen.join(", ")),
    };
    let log = &status.log;
    let follows = match log.state.as_str() {
        "live" => Check::ok("log", format!("live at block {}", log.height)),
        "catching-up" => Check::warn(
            "log",
            format!("catching up, block {} of {}", log.height, log.target),
        ),
        state => Check::warn(
            "log",
            format!("{state}: no peer has told the head of the log yet"),
        ),
    };
    let waiting = status.consensus.as_ref().and_then(|it| it.waiting.as_ref());
    let agreement =
        waiting.map(|it| Check::fail("agreement", format!("{it}; start the missing ones")));
    [ready, peers, reach, follows]
        .into_iter()
        .chain(agreement)
        .collect()
}

fn clock(now: u64, status: Option<&Status>) -> Check {
    let newest = status.map_or(0, |it| it.log.time.as_millis());
    let text = format!("{}", kogge::WallTime::from_millis(now));
    if now < NOW_MIN {
        return Check::fail("clock", format!("{text} is in the past; set the clock"));
    }
    if now + DRIFT_MAX < newest {
        let hint = "set the clock, with NTP if possible";
        return Check::fail(
            "clock",
            format!("{text} is behind the newest block; {hint}"),
        );
    }
    Check::ok("clock", text)
}

/// Where packages would be fetched.
fn upstreams(session: &Session) -> Vec<Check> {
    let config = &session.place.config;
    let own: Vec<u16> = session
        .place
        .http
        .address
        .map(|it| it.port())
        .into_iter()
        .collect();
    let variable = |name: &str| std::env::var(name).ok();
    let home = variable("HOME").map(std::path::PathBuf::from);
    let files = RegistryFiles::system(home.as_deref());
    let images =
        Registries::new(&config.registries, &files, &own).and_then(|it| it.find(DEFAULT_REGISTRY));
    let images = match images {
        Ok(_) => Check::ok("images", "an upstream is configured"),
        Err(error) => Check::warn("images", error.to_string()),
    };
    let maven = if config.repositories.is_empty() {
        match default_repositories(&MavenPlaces::find(variable), &own) {
            Ok(found) => Check::ok(
                "maven",
                format!("{} from this machine's Maven", found.len()),
            ),
            Err(error) => Check::warn("maven", error.to_string()),
        }
    } else {
        Check::ok("maven", format!("{} configured", config.repositories.len()))
    };
    vec![images, maven]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_found() {
        assert_eq!(clock(NOW_MIN, None).verdict, Verdict::Ok);
        assert_eq!(clock(NOW_MIN - 1, None).verdict, Verdict::Fail);
    }

    #[test]
    fn a_busy_port_is_found_and_the_setting_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let check = port_check("http", taken.local_addr().unwrap(), "http.address");
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.text.contains("`http.address`"), "{}", check.text);
    }

    #[test]
    fn a_folder_that_is_missing_or_no_folder_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        for (path, expected) in [
            (folder.path().to_owned(), Verdict::Ok),
            (folder.path().join("none"), Verdict::Warn),
            (file, Verdict::Fail),
        ] {
            assert_eq!(super::folder(&path).verdict, expected, "{}", path.display());
        }
    }
}
