//! Configuration: raw text becomes a validated [`Config`] once; unknown keys are errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::node::admit::{Admit, RawNetwork};
use crate::node::executor::POOL_THREADS_MAX;
use crate::node::place::line_of;

pub use crate::node::place::locate;

/// Longest configuration file. Unit: bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Default address for peers: every interface, any free port is a poor default for firewalls, so
/// the port is fixed.
pub const LISTEN_DEFAULT: [&str; 2] = ["/ip4/0.0.0.0/tcp/7878", "/ip6/::/tcp/7878"];

/// Disk space for artifacts unless configured. Unit: bytes.
pub const QUOTA_DEFAULT: u64 = 10 << 30;

/// Most builds at once. Each holds a thread of the pool while it runs; the other half is for the
/// log, without which no vote leaves.
pub const BUILDS_MAX: usize = POOL_THREADS_MAX / 2;

/// Why a configuration is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path}: {problem}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// The file is not TOML, has an unknown key, or a value of the wrong type; names the line.
    #[error("the configuration {path}, {problem}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        problem: String,
    },
    /// A value is out of range.
    #[error("the setting `{key}`: {problem}")]
    Value {
        /// Dotted name of the key.
        key: &'static str,
        /// What is wrong and what is wanted.
        problem: String,
    },
}

impl ConfigError {
    /// The same error with the file and line of the setting, if `text` of the file `path` has it.
    #[must_use]
    pub fn in_file(self, text: &str, path: &Path) -> Self {
        let Self::Value { key, problem } = &self else {
            return self;
        };
        let Some(line) = line_of(text, key) else {
            return self;
        };
        Self::Syntax {
            path: path.to_owned(),
            problem: format!("line {line}, `{key}`: {problem}"),
        }
    }
}

/// Whether a pull of something the log lacks asks for its build.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadThrough {
    /// On in a network of one authorized node, off elsewhere.
    #[default]
    Auto,
    /// Always ask.
    On,
    /// Never ask: answer that the log lacks it.
    Off,
}

/// A validated configuration of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// Executor threads; the first serves the network.
    pub threads: usize,
    /// Addresses to listen on for peers (multiaddrs). Empty: do not listen.
    pub listen: Vec<String>,
    /// Peers to keep connections to (multiaddrs that end in `/p2p/<peer id>` or not).
    pub peers: Vec<String>,
    /// Who is admitted.
    pub admit: Admit,
    /// Status documents that list peers (`http://host/status`).
    pub bootstrap_urls: Vec<String>,
    /// See [`Limits`].
    pub limits: Limits,
    /// Image upstreams: registry label, such as `quay.example`, to base URL.
    pub registries: BTreeMap<String, String>,
    /// Maven upstreams, asked in order. Empty: what the user's own Maven uses.
    pub repositories: Vec<String>,
    /// Whether a pull of something the log lacks asks for its build.
    pub read_through: ReadThrough,
    /// Ports of this node's own front end: upstreams there are passed over, because a node that
    /// asks itself never ends.
    pub own_ports: Vec<u16>,
    /// Whether upstreams are reached as the process's environment says: proxies, and the Maven
    /// that `HOME`, `MAVEN_HOME`, `M2_HOME` and `PATH` name. Nothing else reads the environment.
    pub environment: bool,
}

/// What the owner allows the node to use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Payload sent to peers. Unit: bytes per second; `None` is unlimited.
    pub upload: Option<u64>,
    /// Payload received from peers. Unit: bytes per second; `None` is unlimited.
    pub download: Option<u64>,
    /// Whether artifacts are given to peers at all.
    pub share: bool,
    /// Disk space for artifacts. Unit: bytes.
    pub disk: u64,
    /// Most connections in total.
    pub connections: u32,
    /// Most builds that run at once, if this node is authorized; at most [`BUILDS_MAX`].
    pub builds: usize,
    /// How long a fetch may go on without progress.
    pub fetch_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload: None,
            download: None,
            share: true,
            disk: QUOTA_DEFAULT,
            connections: 256,
            builds: 2,
            fetch_timeout: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// The defaults, with everything durable in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            threads: 2,
            listen: LISTEN_DEFAULT.map(str::to_owned).to_vec(),
            peers: Vec::new(),
            admit: Admit::default(),
            bootstrap_urls: Vec::new(),
            limits: Limits::default(),
            registries: BTreeMap::new(),
            repositories: Vec::new(),
            read_through: ReadThrough::default(),
            own_ports: Vec::new(),
            environment: true,
        }
    }

    /// Reads a TOML file over the defaults; `data_dir` holds unless the file names another.
    ///
    /// The table `http` belongs to the front end and is skipped here.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the file and line, or the key.
    pub fn from_file(path: &Path, data_dir: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        let text = read_text(path)?;
        Self::from_toml(&text, path, data_dir)
    }

    /// Reads TOML `text` that came from `path`.
    ///
    /// # Errors
    ///
    /// As [`Config::from_file`].
    pub fn from_toml(
        text: &str,
        path: &Path,
        data_dir: impl Into<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let raw: Raw = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            problem: locate(text, &error),
        })?;
        let mut config = Self::new(data_dir);
        let applied = raw.apply(&mut config, path).and_then(|()| config.check());
        applied.map_err(|it| it.in_file(text, path))?;
        Ok(config)
    }

    /// Checks ranges and addresses.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Value`] naming the first key that is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail = |key, problem: String| Err(ConfigError::Value { key, problem });
        if !(1..=64).contains(&self.threads) {
            return fail("threads", format!("{} is not in 1..=64", self.threads));
        }
        for (key, addresses) in [("listen", &self.listen), ("peers", &self.peers)] {
            for address in addresses {
                if let Err(problem) = check_address(address) {
                    let hint = "want a multiaddr such as /ip4/192.0.2.1/tcp/7878";
                    return fail(
                        key,
                        format!("`{address}` is not an address ({problem}); {hint}"),
                    );
                }
            }
        }
        let urls = self.bootstrap_urls.iter().map(|it| ("bootstrap_urls", it));
        let registries = self.registries.values().map(|it| ("docker.registries", it));
        let repositories = self
            .repositories
            .iter()
            .map(|it| ("maven.repositories", it));
        for (key, url) in urls.chain(registries).chain(repositories) {
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return fail(
                    key,
                    "what does not begin with http:// or https:// is no URL".into(),
                );
            }
        }
        self.admit.check()?;
        if self.limits.disk < 64 << 20 {
            return fail("limits.disk_mb", "below 64 there is no room to work".into());
        }
        if !(4..=65_536).contains(&self.limits.connections) {
            return fail("limits.connections", "want 4..=65536".into());
        }
        if !(1..=BUILDS_MAX).contains(&self.limits.builds) {
            return fail("limits.builds", format!("want 1..={BUILDS_MAX}"));
        }
        Ok(())
    }
}

/// Checks that this program can listen on or dial an address, as far as its form tells.
fn check_address(text: &str) -> Result<(), String> {
    use libp2p::multiaddr::Protocol;
    let address: libp2p::Multiaddr = text.parse().map_err(|it| format!("{it}"))?;
    let mut parts = address.iter();
    let is_host = matches!(
        parts.next(),
        Some(
            Protocol::Ip4(_)
                | Protocol::Ip6(_)
                | Protocol::Dns(_)
                | Protocol::Dns4(_)
                | Protocol::Dns6(_)
        )
    );
    if !is_host {
        return Err("it begins with no host".into());
    }
    let rest: Vec<_> = parts.collect();
    match rest.as_slice() {
        [Protocol::Tcp(_)] | [Protocol::Tcp(_), Protocol::P2p(_)] => Ok(()),
        _ => Err("no TCP port follows the host, or too much follows the port".into()),
    }
}

/// Reads a small text file.
///
/// # Errors
///
/// [`ConfigError::Unreadable`] naming the file.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |problem: String| ConfigError::Unreadable {
        path: path.to_owned(),
        problem,
    };
    let meta = std::fs::metadata(path).map_err(|it| unreadable(it.to_string()))?;
    if FILE_BYTES_MAX < meta.len() {
        return Err(unreadable(format!(
            "{} bytes, at most {FILE_BYTES_MAX}",
            meta.len()
        )));
    }
    std::fs::read_to_string(path).map_err(|it| unreadable(it.to_string()))
}

/// The file as it is written; every key is optional.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    data_dir: Option<PathBuf>,
    threads: Option<usize>,
    listen: Option<Vec<String>>,
    peers: Option<Vec<String>>,
    bootstrap_urls: Option<Vec<String>>,
    read_through: Option<ReadThrough>,
    environment: Option<bool>,
    network: Option<RawNetwork>,
    limits: Option<RawLimits>,
    docker: Option<RawDocker>,
    maven: Option<RawMaven>,
    #[serde(rename = "http")]
    _http: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    upload_kb_per_s: Option<u64>,
    download_kb_per_s: Option<u64>,
    share: Option<bool>,
    disk_mb: Option<u64>,
    connections: Option<u32>,
    builds: Option<usize>,
    fetch_timeout_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDocker {
    registries: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMaven {
    repositories: Vec<String>,
}

impl Raw {
    fn apply(self, config: &mut Config, path: &Path) -> Result<(), ConfigError> {
        if let Some(folder) = self.data_dir {
            // A relative folder is meant from where the file stands.
            config.data_dir = path.parent().unwrap_or(Path::new(".")).join(folder);
        }
        set(&mut config.threads, self.threads);
        set(&mut config.listen, self.listen);
        set(&mut config.peers, self.peers);
        if let Some(network) = self.network {
            config.admit = network.admit()?;
        }
        set(&mut config.bootstrap_urls, self.bootstrap_urls);
        set(&mut config.read_through, self.read_through);
        set(&mut config.environment, self.environment);
        set(&mut config.registries, self.docker.map(|it| it.registries));
        set(
            &mut config.repositories,
            self.maven.map(|it| it.repositories),
        );
        let Some(raw) = self.limits else {
            return Ok(());
        };
        let limits = &mut config.limits;
        limits.upload = raw
            .upload_kb_per_s
            .map(|it| it.saturating_mul(1_000))
            .or(limits.upload);
        limits.download = raw
            .download_kb_per_s
            .map(|it| it.saturating_mul(1_000))
            .or(limits.download);
        set(&mut limits.share, raw.share);
        set(
            &mut limits.disk,
            raw.disk_mb.map(|it| it.saturating_mul(1 << 20)),
        );
        set(&mut limits.connections, raw.connections);
        set(&mut limits.builds, raw.builds);
        set(
            &mut limits.fetch_timeout,
            raw.fetch_timeout_s.map(Duration::from_secs),
        );
        Ok(())
    }
}

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::from_toml(text, Path::new("/etc/kogge.toml"), "/var/lib/kogge")
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(parse(""), Ok(Config::new("/var/lib/kogge")));
    }

    #[test]
    fn values_replace_defaults() {
        let text = "threads = 4\ndata_dir = 'x'\n[limits]\nupload_kb_per_s = 5\nshare = false\n\
                    [http]\naddress = '127.0.0.1:1'\n";
        let config = parse(text).unwrap();
        assert_eq!(config.threads, 4);
        assert_eq!(config.data_dir, Path::new("/etc/x"));
        assert_eq!(
            (config.limits.upload, config.limits.share),
            (Some(5_000), false)
        );
    }

    #[test]
    fn problems_name_file_and_line_or_key() {
        for (text, part) in [
            (
                "thread = 1",
                "/etc/kogge.toml, line 1, column 1: unknown field `thread`",
            ),
            (
                "\n[limits]\nshare = 3",
                "column 9: invalid type: integer `3`, expected a boolean in `share`",
            ),
            (
                "\nthreads = 0",
                "/etc/kogge.toml, line 2, `threads`: 0 is not in 1..=64",
            ),
            (
                "peers = ['/ip4/192.0.2.1']",
                "line 1, `peers`: `/ip4/192.0.2.1` is not an address (no TCP port",
            ),
            (
                "peers = ['/unix/x']",
                "`/unix/x` is not an address (it begins with no host)",
            ),
            (
                "listen = ['nowhere']",
                "`listen`: `nowhere` is not an address",
            ),
            ("bootstrap_urls = ['ftp://x']", "`bootstrap_urls`"),
            ("[limits]\ndisk_mb = 1", "line 2, `limits.disk_mb`"),
            ("= 3", "line 1"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn messages_keep_what_values_say_to_themselves() {
        for (text, part) in [
            (
                "[maven]\nrepositories = 'https://user:hunter2@host/'",
                "line 2, column 16: invalid type: string \"…\", expected a sequence in `repositories`",
            ),
            ("peers = [\n  'https://user:hunter2@h/?a=b'\n 3]", "line 3"),
            ("listen = ['https://user:hunter2@h/?a=b", "line 1"),
            ("'https://user:hunter2@h/' = 3", "line 1"),
            ("threads = 'hunter2 says \"no\"'", "in `threads`"),
            ("docker = 'hunter2'", "expected struct"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
            let is_key = text.starts_with('\'');
            assert!(is_key || !message.contains("hunter2"), "{text}: {message}");
        }
    }
}
