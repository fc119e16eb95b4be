//! A node with a front end, an upstream on loopback, and a client that sends what it is told.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_lite::future::block_on;
use kogge::{Config, Network, Node, ReadThrough, Sha256};
use kogge_http::{Http, HttpConfig};
use kogge_testkit::proxy::Server;
use kogge_testkit::run::wait_until;
use serde_json::{Value, json};

/// How long a response may take before a test fails.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A solo node whose upstreams are files in a folder.
pub(crate) struct Site {
    pub(crate) node: Node,
    pub(crate) http: Http,
    pub(crate) upstream: Server,
    pub(crate) folder: tempfile::TempDir,
}

impl Site {
    /// A node that builds what is asked for, or not.
    pub(crate) fn start(read_through: ReadThrough) -> Self {
        Self::start_with(Network::StoredOrSolo, |config| {
            config.read_through = read_through
        })
    }

    /// A regular node in the network of this one, with this one as its peer, that gives up a fetch
    /// without progress after `fetch_timeout`.
    pub(crate) fn follow(&self, fetch_timeout: Duration) -> Self {
        wait_until("listening", RESPONSE_TIMEOUT, || {
            !self.node.status().listen.is_empty()
        })
        .unwrap();
        let network = Network::Genesis(Box::new(self.node.genesis().clone()));
        let follower = Self::start_with(network, |config| {
            config.peers = self.node.status().listen;
            config.limits.fetch_timeout = fetch_timeout;
        });
        wait_until("the same log", RESPONSE_TIMEOUT, || {
            let log = follower.node.status().log;
            log.state == "live" && log.size == self.node.log().size()
        })
        .unwrap();
        follower
    }

    fn start_with(network: Network, set: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("upstream");
        std::fs::create_dir(&root).unwrap();
        let upstream = Server::files(root).unwrap();
        let url = format!("http://127.0.0.1:{}", upstream.port);
        let mut config = Config::new(folder.path().join("data"));
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
        config.registries = [("docker.io".to_owned(), url.clone())].into();
        config.repositories = vec![url];
        set(&mut config);
        let node = block_on(Node::start(config, network)).unwrap();
        let config = HttpConfig {
            address: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..HttpConfig::default()
        };
        let http = Http::start(node.clone(), config).unwrap();
        wait_until("ready", RESPONSE_TIMEOUT, || node.status().ready).unwrap();
        Self {
            node,
            http,
            upstream,
            folder,
        }
    }

    /// Puts a file where the upstream serves it.
    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        let path = self.folder.path().join("upstream").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Puts an image with one layer; gives the manifest and the layer.
    pub(crate) fn put_image(&self, repository: &str, tag: &str) -> (Vec<u8>, Vec<u8>) {
        let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"}}"#;
        let layer: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        let descriptor = |kind: &str, bytes: &[u8]| {
            json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": format!("sha256:{}", Sha256::of(bytes)),
                "size": bytes.len(),
            })
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", config),
            "layers": [descriptor("layer.v1.tar", &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let base = format!("v2/{repository}");
        self.put(&format!("{base}/manifests/{tag}"), &manifest);
        let digest = Sha256::of(&manifest);
        self.put(&format!("{base}/manifests/sha256:{digest}"), &manifest);
        for blob in [&config[..], &layer] {
            let digest = Sha256::of(blob);
            self.put(&format!("{base}/blobs/sha256:{digest}"), blob);
        }
        (manifest, layer)
    }

    /// Puts an artifact that refers to the manifest `subject`; gives its manifest.
    pub(crate) fn put_artifact(
        &self,
        repository: &str,
        artifact_type: &str,
        subject: &[u8],
    ) -> Vec<u8> {
        let layer = format!("{artifact_type} of {}", Sha256::of(subject)).into_bytes();
        let descriptor = |media_type: &str, bytes: &[u8]| {
            json!({
                "mediaType": media_type,
                "digest": format!("sha256:{}", Sha256::of(bytes)),
                "size": bytes.len(),
            })
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": artifact_type,
            "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [descriptor("text/plain", &layer)],
            "subject": descriptor("application/vnd.oci.image.manifest.v1+json", subject),
            "annotations": {"example.by": "alice"},
        });
        let manifest = manifest.to_string().into_bytes();
        let base = format!("v2/{repository}");
        let digest = Sha256::of(&manifest);
        self.put(&format!("{base}/manifests/sha256:{digest}"), &manifest);
        for blob in [&b"{}"[..], &layer] {
            let digest = Sha256::of(blob);
            self.put(&format!("{base}/blobs/sha256:{digest}"), blob);
        }
        manifest
    }

    /// Puts a Maven version; gives the jar.
    pub(crate) fn put_jar(&self, group: &str, artifact: &str, version: &str) -> Vec<u8> {
        let base = format!("{}/{artifact}/{version}", group.replace('.', "/"));
        let pom = format!(
            "<project><modelVersion>4.0.0</modelVersion><groupId>{group}</groupId>\
             <artifactId>{artifact}</artifactId><version>{version}</version></project>"
        );
        let jar = format!("PK {group} {artifact} {version}").into_bytes();
        let name = format!("{base}/{artifact}-{version}");
        self.put(&format!("{name}.pom"), pom.as_bytes());
        self.put(&format!("{name}.jar"), &jar);
        jar
    }

    /// A GET over TCP.
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], b"")
    }

    /// A request over TCP.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let socket = TcpStream::connect(self.http.address().unwrap()).unwrap();
        socket.set_read_timeout(Some(RESPONSE_TIMEOUT)).unwrap();
        exchange(socket, method, path, headers, body)
    }

    /// A request over the owner's socket.
    pub(crate) fn own(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let socket = UnixStream::connect(self.http.socket().unwrap()).unwrap();
        socket.set_read_timeout(Some(RESPONSE_TIMEOUT)).unwrap();
        exchange(socket, method, path, &[], body)
    }

    /// Sends bytes as they are and gives all that comes back.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(self.http.address().unwrap()).unwrap();
        socket.set_read_timeout(Some(RESPONSE_TIMEOUT)).unwrap();
        socket.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is as good as an end.
        let _ = socket.read_to_end(&mut answer);
        answer
    }

    /// The owner's token.
    pub(crate) fn token(&self) -> String {
        let path: PathBuf = self.node.data_dir().join("token");
        std::fs::read_to_string(Path::new(&path)).unwrap()
    }

    /// Ends front end and node.
    pub(crate) fn stop(self) {
        block_on(self.http.stop());
        block_on(self.node.shutdown());
    }
}

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|it| {
            let (key, value) = it.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and code of an image client's error.
    pub(crate) fn image_error(&self) -> (u16, String) {
        let code = &self.json()["errors"][0]["code"];
        (self.status, code.as_str().unwrap().to_owned())
    }
}

fn exchange(
    mut socket: impl Read + Write,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|it| it.0.eq_ignore_ascii_case("host")) {
        head.push_str("Host: localhost\r\n");
    }
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    if !body.is_empty() {
        write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    head.push_str("\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(body).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    parse(&answer)
}

/// Splits a response; its body must have the length that it announces.
fn parse(answer: &[u8]) -> Reply {
    let end = answer
        .windows(4)
        .position(|it| it == b"\r\n\r\n")
        .expect("a response head");
    let (head, body) = answer.split_at(end + 4);
    let head = String::from_utf8(head.to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply {
        status,
        head,
        body: body.to_vec(),
    }
}
