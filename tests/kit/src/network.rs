//! A network of real `kogge up` processes on loopback, for tests: a step that fails ends the test.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a failed step fails the test"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::proxy::Server;
use crate::run::{Child, run, wait_until};

/// How long a node may take to start, and a network to agree.
pub const LIMIT: Duration = Duration::from_secs(90);

/// The program, built once. `KOGGE_BUILT` says that it is current, as it is when cargo tests the
/// whole workspace: building it alone has other features, hence other dependencies.
pub fn kogge() -> PathBuf {
    static BUILT: std::sync::Once = std::sync::Once::new();
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    BUILT.call_once(|| {
        if std::env::var_os("KOGGE_BUILT").is_some() {
            return;
        }
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        run(cargo
            .args(["build", "--quiet", "-p", "kogge-daemon"])
            .current_dir(root))
        .unwrap();
    });
    let program = std::env::current_exe().unwrap();
    let profile = program.ancestors().find(|it| it.join("kogge").is_file());
    profile.unwrap().join("kogge")
}

/// Cargo's target folder: this program is `TARGET/debug/deps/NAME` or `TARGET/debug/NAME`.
pub fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let is_profile = |it: &&Path| it.join("deps").is_dir();
    let profile = program.ancestors().find(is_profile).unwrap();
    profile.parent().unwrap().to_owned()
}

/// Where fixtures that take long to make are kept between runs.
pub fn cache() -> PathBuf {
    let cache = target().join("fixtures");
    std::fs::create_dir_all(&cache).unwrap();
    cache
}

/// A Maven repository in `root` with the packages `org.example:lib:1` to `:COUNT`.
pub fn repository(root: &Path, count: usize, jar: impl Fn(usize) -> Vec<u8>) -> Server {
    for version in 1..=count {
        let folder = root.join(format!("org/example/lib/{version}"));
        std::fs::create_dir_all(&folder).unwrap();
        let pom = format!(
            "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>\
             <artifactId>lib</artifactId><version>{version}</version></project>"
        );
        std::fs::write(folder.join(format!("lib-{version}.pom")), pom).unwrap();
        std::fs::write(folder.join(format!("lib-{version}.jar")), jar(version)).unwrap();
    }
    Server::files(root.to_owned()).unwrap()
}

/// One node of the network.
pub struct Node {
    /// `node-1` is authorized, `regular-1` is not.
    pub name: String,
    /// Its data directory.
    pub data: PathBuf,
    /// Port of its front end.
    pub http: u16,
    process: Option<Child>,
}

impl Node {
    /// Starts the process and waits until it is ready.
    pub fn start(&mut self) {
        // Nobody may depend on the front end of an authorized node.
        let front: &[&str] = if self.is_authorized() {
            &["--http", "off"]
        } else {
            &[]
        };
        let mut up = self.command(&["up"]);
        up.args(front);
        up.env("RUST_LOG", "info");
        let mut process = Child::start(&mut up, &self.output()).unwrap();
        wait_until(&format!("{} ready", self.name), LIMIT, || {
            self.status().is_some() || process.has_ended()
        })
        .unwrap_or_else(|error| panic!("{error}:\n{}", self.log()));
        assert!(!process.has_ended(), "{} ended:\n{}", self.name, self.log());
        self.process = Some(process);
    }

    /// Whether it takes part in consensus.
    fn is_authorized(&self) -> bool {
        self.name.starts_with("node-")
    }

    /// Ends the process as `kill -9` does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// A command of the program for this node.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(kogge());
        command.arg("--data-dir").arg(&self.data).args(args);
        command
    }

    /// The JSON that a command prints.
    pub fn json(&self, args: &[&str]) -> Value {
        let text = run(self.command(&["--json"]).args(args)).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}\n{text}"))
    }

    /// `status --json`, if the node answers.
    pub fn status(&self) -> Option<Value> {
        let text = run(&mut self.command(&["--json", "status"])).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Height, size and root of its log.
    pub fn head(&self) -> (u64, u64, String) {
        let status = self.status().unwrap_or_default();
        let log = &status["log"];
        let number = |key: &str| log[key].as_u64().unwrap_or(0);
        (
            number("height"),
            number("size"),
            log["root"].as_str().unwrap_or_default().to_owned(),
        )
    }

    /// What it printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.output()).unwrap_or_default()
    }

    /// The file with what it printed, beside its data.
    fn output(&self) -> PathBuf {
        self.data.with_extension("out")
    }

    /// A document of its front end.
    pub fn get(&self, path: &str) -> Vec<u8> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.registry());
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let head = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        assert_eq!(answer.get(8..12), Some(&b" 200"[..]), "{path}");
        answer.split_off(head + 4)
    }

    /// `host:port` of its registry.
    pub fn registry(&self) -> String {
        format!("127.0.0.1:{}", self.http)
    }
}

/// Authorized nodes first, then regular ones.
pub struct Network {
    /// All of them.
    pub nodes: Vec<Node>,
    /// How many of them are authorized.
    pub authorized: usize,
    _folder: tempfile::TempDir,
}

impl Network {
    /// Makes and starts a network. Only authorized nodes know the upstreams; regular nodes ask for
    /// builds of what they lack if `read_through` says so.
    pub fn start(
        authorized: usize,
        regular: usize,
        registry: &str,
        repository: &str,
        read_through: bool,
    ) -> Self {
        // A short path: the control socket's path is limited.
        let folder = tempfile::Builder::new()
            .prefix("kg")
            .tempdir_in("/tmp")
            .unwrap();
        let (dir, a, r) = (
            folder.path().join("n"),
            authorized.to_string(),
            regular.to_string(),
        );
        let mut init = Command::new(kogge());
        init.args([
            "network",
            "init",
            "--name",
            "e2e",
            "--block-interval-ms",
            "100",
        ]);
        run(init
            .args(["--local", &a, "--regular", &r, "--dir"])
            .arg(&dir))
        .unwrap();
        let mut folders: Vec<PathBuf> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|it| it.unwrap().path())
            .filter(|it| it.is_dir())
            .collect();
        folders.sort();
        let mut nodes: Vec<Node> = folders.into_iter().map(node).collect();
        nodes.sort_by_key(|it| !it.is_authorized());
        for node in &nodes {
            let extra = if node.is_authorized() {
                format!(
                    "[docker.registries]\n\"docker.io\" = \"{registry}\"\n\
                     [maven]\nrepositories = [\"{repository}\"]\n"
                )
            } else {
                String::new()
            };
            let path = node.data.join("kogge.toml");
            let text = std::fs::read_to_string(&path).unwrap();
            let head = if read_through {
                "read_through = \"on\"\n"
            } else {
                ""
            };
            std::fs::write(&path, format!("{head}{text}\n{extra}")).unwrap();
        }
        for node in &mut nodes {
            node.start();
        }
        let this = Self {
            nodes,
            authorized,
            _folder: folder,
        };
        wait_until("a full mesh", LIMIT, || {
            this.nodes.iter().take(authorized).all(|it| {
                let status = it.status().unwrap_or_default();
                status["consensus"]["connected"].as_u64() == Some(authorized as u64)
            })
        })
        .unwrap();
        this
    }

    /// A regular node.
    pub fn regular(&self, at: usize) -> &Node {
        &self.nodes[self.authorized + at]
    }

    /// Waits until all running nodes have the same log of at least `height` blocks.
    pub fn wait_same_log(&self, height: u64) {
        wait_until("the same log everywhere", LIMIT, || {
            let heads: Vec<_> = self
                .nodes
                .iter()
                .filter(|it| it.process.is_some())
                .map(Node::head)
                .collect();
            heads.windows(2).all(|it| it[0] == it[1]) && heads[0].0 >= height
        })
        .unwrap_or_else(|error| {
            let heads: BTreeMap<_, _> = self
                .nodes
                .iter()
                .map(|it| (it.name.clone(), it.head()))
                .collect();
            panic!("{error}: {heads:?}")
        });
    }
}

fn node(data: PathBuf) -> Node {
    let text = std::fs::read_to_string(data.join("kogge.toml")).unwrap();
    let address = text
        .lines()
        .find_map(|it| it.strip_prefix("address = \"127.0.0.1:"))
        .unwrap();
    let http = address.trim_end_matches('"').parse().unwrap();
    let name = data.file_name().unwrap().to_str().unwrap().to_owned();
    Node {
        name,
        data,
        http,
        process: None,
    }
}
