//! What the daemon's JSON interface answers, as far as it is shown.

use kogge::Digest;
use serde::Deserialize;

/// What is known about a package.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Why {
    pub(crate) package: String,
    pub(crate) tag: Option<Tag>,
    pub(crate) attested_by: Vec<Attestor>,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) files: Vec<File>,
}

/// What a tag pointed to.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Tag {
    pub(crate) registry: String,
    pub(crate) repository: String,
    pub(crate) tag: String,
    pub(crate) digest: String,
    pub(crate) index: u64,
    pub(crate) time: u64,
}

/// An authorized node that got the same.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Attestor {
    pub(crate) name: Option<String>,
    pub(crate) node: String,
    pub(crate) time: u64,
}

/// A cosigned head.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) size: u64,
    pub(crate) signers: u64,
    pub(crate) time: u64,
}

/// A file of a package.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct File {
    pub(crate) file: String,
    pub(crate) blake3: String,
    pub(crate) sha256: String,
    pub(crate) size: u64,
    pub(crate) index: u64,
    pub(crate) stored: bool,
    pub(crate) origin: Option<Origin>,
}

/// Where stored bytes came from.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Origin {
    pub(crate) millis: u64,
    pub(crate) sources: Vec<Part>,
}

/// Bytes from one source.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Part {
    pub(crate) source: String,
    pub(crate) bytes: u64,
}

/// A row of the log. Entries of each kind have other fields, so they stay JSON.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) index: u64,
    pub(crate) height: u64,
    pub(crate) time: u64,
    pub(crate) kind: String,
    pub(crate) removed: Option<u64>,
    pub(crate) entry: serde_json::Value,
}

/// A page of rows.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    pub(crate) next: Option<String>,
    pub(crate) size: u64,
}

/// How a build stands.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Build {
    pub(crate) id: String,
    pub(crate) spec: String,
    pub(crate) state: String,
    #[serde(rename = "final")]
    pub(crate) is_final: bool,
    pub(crate) index: Option<u64>,
    pub(crate) agreeing: Option<u64>,
    pub(crate) quorum: u64,
    pub(crate) reason: Option<Reason>,
    pub(crate) message: String,
    pub(crate) nodes: Vec<BuildNode>,
}

/// Why a build failed.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Reason {
    pub(crate) message: String,
    pub(crate) differences: Vec<Difference>,
}

/// Something that nodes did not agree on.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Difference {
    pub(crate) what: String,
    pub(crate) values: Vec<Values>,
}

/// Nodes that got the same.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Values {
    pub(crate) value: String,
    pub(crate) nodes: Vec<String>,
}

/// What one node says about a build.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BuildNode {
    pub(crate) name: String,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) details: serde_json::Value,
}

impl BuildNode {
    /// Bytes that have come, and bytes that are expected.
    pub(crate) fn progress(&self) -> Option<(u64, u64)> {
        let number = |name| self.details.get(name).and_then(serde_json::Value::as_u64);
        Some((number("done")?, number("total")?))
    }
}

impl File {
    /// The name of the file without folders.
    pub(crate) fn base_name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or(&self.file)
    }

    /// Whether `digest` is one of those that the answer carries.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        let hex = digest.hex();
        hex == self.blake3 || hex == self.sha256
    }
}

/// Names of nodes, joined; a node without a name by the beginning of its id.
pub(crate) fn names(nodes: &[Attestor]) -> String {
    let name = |it: &Attestor| {
        it.name
            .clone()
            .unwrap_or_else(|| crate::text::short(&it.node))
    };
    nodes.iter().map(name).collect::<Vec<_>>().join(", ")
}
