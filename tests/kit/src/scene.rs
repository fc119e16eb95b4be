//! A running network with a few artifacts in its log, described in one file: what the tests of the C
//! library and of every language that binds to it have in common.
//!
//! `scene.json` has, with paths that are absolute:
//!
//! ```text
//! genesis, policy   files: whom to believe
//! peers             addresses of nodes to connect to
//! program, data     the `kogge` program, and the data directory of a running node to ask with it
//! repository        URL of the Maven repository that the packages came from
//! artifacts[]       name, what (group:artifact:version), purl, file, blake3, sha256, size, index,
//!                   path (the same bytes), waybill (a file)
//! absent            a name that the log lacks
//! ```

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::network::{LIMIT, Network, repository};
use crate::proxy::Server;
use crate::run::{run, wait_until};

/// Names and lengths of the jars. The first is small enough to be in the database.
const JARS: [(&str, usize); 4] = [
    ("tiny", 10_000),
    ("small", 100_001),
    ("medium", 5_000_000),
    ("large", 64 << 20),
];

/// The same for benchmarks; [`BENCH_PACKAGES`] without a name follow, so that the log has a
/// thousand entries.
const BENCH_JARS: [(&str, usize); 2] = [("tiny", 10_000), ("large", 1 << 30)];

const BENCH_PACKAGES: usize = 330;

/// The network, until it is dropped.
pub struct Scene {
    /// The description.
    pub path: PathBuf,
    /// What it says.
    pub value: Value,
    /// The processes.
    pub network: Network,
    /// The upstream.
    pub upstream: Server,
}

/// Bytes that compress badly and differ with `seed` (xorshift).
fn noise(seed: usize, len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (seed as u64 + 1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

impl Scene {
    /// Starts one authorized and one regular node, adds the packages, and writes `scene.json` into
    /// `folder`, which is empty.
    pub fn start(folder: &Path) -> Self {
        Self::with(folder, &JARS, 0)
    }

    /// The same with less and larger artifacts and a longer log, for benchmarks.
    pub fn start_for_benchmarks(folder: &Path) -> Self {
        Self::with(folder, &BENCH_JARS, BENCH_PACKAGES)
    }

    fn with(folder: &Path, jars: &[(&str, usize)], others: usize) -> Self {
        let versions = jars.len() + others;
        let upstream = repository(&folder.join("repository"), versions, |version| {
            noise(version, jars.get(version - 1).map_or(100, |it| it.1))
        });
        let url = format!("http://127.0.0.1:{}", upstream.port);
        let network = Network::start(1, 1, "http://127.0.0.1:9", &url, false);
        let node = network.regular(0);
        for version in 1..=versions {
            let what = format!("org.example:lib:{version}");
            node.json(&["build", "maven", &what, "--repository", &url]);
        }
        let artifacts: Vec<Value> = (1..)
            .zip(jars)
            .map(|(version, (name, _))| artifact(folder, &network, version, name))
            .collect();
        let genesis = node.data.with_file_name("genesis.json");
        let policy = folder.join("policy");
        std::fs::write(&policy, node.get("/policy")).unwrap();
        let peers: Vec<Value> = network
            .nodes
            .iter()
            .filter_map(|it| it.status()?["listen"].as_array()?.first().cloned())
            .collect();
        let value = json!({
            "genesis": genesis, "policy": policy, "peers": peers,
            "program": crate::network::kogge(), "data": node.data, "repository": url,
            "artifacts": artifacts, "absent": "org.example:absent:1",
        });
        let path = folder.join("scene.json");
        std::fs::write(&path, serde_json::to_vec_pretty(&value).unwrap()).unwrap();
        Self {
            path,
            value,
            network,
            upstream,
        }
    }
}

fn artifact(folder: &Path, network: &Network, version: usize, name: &str) -> Value {
    let node = network.regular(0);
    let (what, file) = (
        format!("org.example:lib:{version}"),
        format!("lib-{version}.jar"),
    );
    let path = folder.join(format!("repository/org/example/lib/{version}/{file}"));
    let why = node.json(&["why", &what]);
    let files = why["files"].as_array().unwrap();
    let found = files.iter().find(|it| it["file"] == file.as_str()).unwrap();
    let waybill = folder.join(format!("{file}.waybill"));
    wait_until("a cosigned checkpoint", LIMIT, || {
        let mut command = node.command(&["waybill", &what, "--file", &file, "-o"]);
        run(command.arg(&waybill)).is_ok()
    })
    .unwrap();
    json!({
        "name": name, "what": what, "purl": why["package"],
        "file": file, "blake3": found["blake3"], "sha256": found["sha256"], "size": found["size"],
        "index": found["index"], "path": path, "waybill": waybill,
    })
}
