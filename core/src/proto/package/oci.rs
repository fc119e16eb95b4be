//! The documents of container images: indexes, manifests, configurations.
//!
//! ```text
//! index ─┬─ manifest (linux/amd64) ─┬─ config
//!        │                          └─ layer, layer, …
//!        └─ manifest (linux/arm64) ── …
//! ```
//!
//! Source: OCI image-spec 1.1 and Docker's image manifest version 2, schema 2. The bytes of a
//! document are never changed, since they must hash to its digest; this module only reads them.
//! The file set of an image follows from its manifest alone: see [`Document::children`].

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::base::Sha256;
use crate::proto::package::docker;
use crate::proto::package::platform::Platform;

/// Longest manifest or index; what the distribution-spec asks registries to accept. Unit: bytes.
pub const DOCUMENT_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// Longest image configuration. Unit: bytes.
pub const CONFIG_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// Most manifests in an index, and most layers in a manifest.
pub const DESCRIPTORS_MAX: usize = 1_024;

/// Longest media type, as RFC 6838 limits it. Unit: bytes.
pub const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// Largest size that a descriptor may state: one tebibyte. Unit: bytes.
pub const BLOB_BYTES_MAX: u64 = 1 << 40;

/// An OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// A Docker image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Every media type a registry may answer with for a manifest, most wanted first.
pub const DOCUMENT_TYPES: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// Layers that their owner forbids to pass on (base layers of Windows).
const FOREIGN_LAYERS: [&str; 4] = [
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
];

/// Why bytes are not a document of an image.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DocumentError {
    /// Longer than a document may be. Unit: bytes.
    #[error("the image document has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Not JSON of the expected shape.
    #[error("the image document is malformed: {0}")]
    Malformed(String),
    /// It could be read as two different documents, or contradicts itself.
    #[error("the image document is ambiguous: {0}")]
    Ambiguous(&'static str),
    /// A kind of document this program does not read.
    #[error("the image document is of unsupported type `{0}`")]
    Unsupported(String),
    /// More children than allowed.
    #[error("the image document lists {0} children, at most {DESCRIPTORS_MAX} are allowed")]
    TooMany(usize),
}

/// What a document says about one of its children.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Descriptor {
    /// The child's media type.
    pub media_type: String,
    /// The child's digest.
    pub digest: Sha256,
    /// The child's length. Unit: bytes.
    pub size: u64,
    /// What it runs on, if it is a manifest in an index.
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// Whether the child is a layer that must not be passed on.
    pub fn is_foreign(&self) -> bool {
        FOREIGN_LAYERS.contains(&self.media_type.as_str())
    }

    /// Whether the child is an index or a manifest.
    pub fn is_document(&self) -> bool {
        DOCUMENT_TYPES.contains(&self.media_type.as_str())
    }
}

/// An index or a manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    /// The media type it must be served with.
    pub media_type: String,
    /// Its children.
    pub content: Content,
    /// The document it refers to (signatures and other attachments do).
    pub subject: Option<Descriptor>,
    /// What it says about itself to people and tools.
    pub annotations: BTreeMap<String, String>,
    artifact_type: Option<String>,
}

/// The children of a document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// An index of manifests, usually one for each platform.
    Index(Vec<Descriptor>),
    /// A manifest.
    Image {
        /// The configuration.
        config: Descriptor,
        /// The layers, lowest first.
        layers: Vec<Descriptor>,
    },
}

impl Document {
    /// Reads an index or a manifest. `served_type` is the media type it came with; it counts only
    /// if the document does not state its own.
    ///
    /// # Errors
    ///
    /// [`DocumentError`]. A document with both manifests and layers is refused: clients would
    /// disagree about what it is (CVE-2021-41190).
    pub fn parse(bytes: &[u8], served_type: Option<&str>) -> Result<Self, DocumentError> {
        let raw: RawDocument = parse_json(bytes, DOCUMENT_BYTES_MAX)?;
        if raw.schema_version != 2 || raw.fs_layers.is_some() {
            return Err(DocumentError::Unsupported("image manifest schema 1".into()));
        }
        let stated = raw.media_type.as_deref().or(served_type.map(essence));
        let content = match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, None) => Content::Index(descriptors(manifests)?),
            (None, Some(config), Some(layers)) => Content::Image {
                config: config.check()?,
                layers: descriptors(layers)?,
            },
            (None, None, None) => {
                return Err(DocumentError::Unsupported(shorten(stated.unwrap_or("?"))));
            }
            _ => return Err(DocumentError::Ambiguous("it is neither index nor manifest")),
        };
        let fitting = match &content {
            Content::Index(_) => [OCI_INDEX, DOCKER_LIST],
            Content::Image { .. } => [OCI_MANIFEST, DOCKER_MANIFEST],
        };
        let media_type = match stated {
            Some(stated) if fitting.contains(&stated) => stated.to_owned(),
            Some(stated) if DOCUMENT_TYPES.contains(&stated) => {
                return Err(DocumentError::Ambiguous("its media type contradicts it"));
            }
            // The field is optional in OCI documents, and a server may know only "JSON".
            _ if raw.media_type.is_none() => fitting[0].to_owned(),
            stated => return Err(DocumentError::Unsupported(shorten(stated.unwrap_or("?")))),
        };
        Ok(Self {
            media_type,
            content,
            subject: raw.subject.map(RawDescriptor::check).transpose()?,
            annotations: raw.annotations.unwrap_or_default(),
            artifact_type: raw.artifact_type,
        })
    }

    /// The type of the artifact in a list of referrers: its own, else that of its configuration. An
    /// empty one is none (OCI distribution-spec 1.1, "Listing Referrers").
    pub fn artifact_type(&self) -> Option<&str> {
        let stated = self.artifact_type.as_deref().filter(|it| !it.is_empty());
        match (stated, &self.content) {
            (Some(stated), _) => Some(stated),
            (None, Content::Image { config, .. }) => Some(&config.media_type),
            (None, Content::Index(_)) => None,
        }
    }

    /// The children in order: manifests of an index; configuration and layers of a manifest.
    pub fn children(&self) -> impl Iterator<Item = &Descriptor> {
        let (first, rest) = match &self.content {
            Content::Index(manifests) => (None, manifests),
            Content::Image { config, layers } => (Some(config), layers),
        };
        first.into_iter().chain(rest)
    }
}

/// What the image with this configuration runs on.
///
/// # Errors
///
/// [`DocumentError`] if `bytes` are not a configuration.
pub fn config_platform(bytes: &[u8]) -> Result<Platform, DocumentError> {
    parse_json(bytes, CONFIG_BYTES_MAX)
}

#[derive(Deserialize)]
struct RawDocument {
    #[serde(rename = "schemaVersion")]
    schema_version: u64,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
    manifests: Option<Vec<RawDescriptor>>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
    subject: Option<RawDescriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawDescriptor {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

impl RawDescriptor {
    fn check(self) -> Result<Descriptor, DocumentError> {
        let malformed = |it: String| DocumentError::Malformed(it);
        let digest = docker::parse_digest(&self.digest).map_err(|it| malformed(it.to_string()))?;
        let is_graphic = self.media_type.bytes().all(|it| it.is_ascii_graphic());
        if MEDIA_TYPE_BYTES_MAX < self.media_type.len() || !is_graphic {
            return Err(malformed(format!("media type of {digest}")));
        }
        if BLOB_BYTES_MAX < self.size {
            return Err(malformed(format!("{digest} has {} bytes", self.size)));
        }
        Ok(Descriptor {
            media_type: self.media_type,
            digest,
            size: self.size,
            platform: self.platform,
        })
    }
}

fn descriptors(raw: Vec<RawDescriptor>) -> Result<Vec<Descriptor>, DocumentError> {
    if DESCRIPTORS_MAX < raw.len() {
        return Err(DocumentError::TooMany(raw.len()));
    }
    raw.into_iter().map(RawDescriptor::check).collect()
}

fn parse_json<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
    bytes_max: usize,
) -> Result<T, DocumentError> {
    if bytes_max < bytes.len() {
        return Err(DocumentError::TooLong {
            bytes: bytes.len(),
            bytes_max,
        });
    }
    serde_json::from_slice(bytes).map_err(|it| DocumentError::Malformed(it.to_string()))
}

/// A media type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Enough of a foreign text to recognize it in a message.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn descriptor(media_type: &str, content: &[u8]) -> serde_json::Value {
        json!({
            "mediaType": media_type,
            "digest": format!("sha256:{}", Sha256::of(content)),
            "size": content.len(),
        })
    }

    fn manifest() -> serde_json::Value {
        json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", b"{}"),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", b"layer")],
        })
    }

    fn parse(value: &serde_json::Value, served: Option<&str>) -> Result<Document, DocumentError> {
        Document::parse(value.to_string().as_bytes(), served)
    }

    #[test]
    fn a_manifest_names_its_configuration_and_layers() {
        let document = parse(&manifest(), None).unwrap();
        let child = |media_type: &str, content: &[u8]| Descriptor {
            media_type: media_type.into(),
            digest: Sha256::of(content),
            size: content.len() as u64,
            platform: None,
        };
        let expected = [
            child("application/vnd.oci.image.config.v1+json", b"{}"),
            child("application/vnd.oci.image.layer.v1.tar+gzip", b"layer"),
        ];
        assert_eq!(document.children().cloned().collect::<Vec<_>>(), expected);
        assert_eq!(document.media_type, OCI_MANIFEST);
        assert_eq!(
            document.artifact_type(),
            Some("application/vnd.oci.image.config.v1+json")
        );
    }

    #[test]
    fn an_index_names_the_manifests_of_its_platforms() {
        let mut arm = descriptor(OCI_MANIFEST, b"arm");
        arm["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
        let index = json!({"schemaVersion": 2, "manifests": [arm]});
        for (served, media_type) in [
            (None, OCI_INDEX),
            (Some("application/json"), OCI_INDEX),
            (
                Some(concat!(
                    "application/vnd.docker.distribution.manifest.list.v2+json",
                    "; charset=utf-8"
                )),
                DOCKER_LIST,
            ),
        ] {
            let document = parse(&index, served).unwrap();
            assert_eq!(document.media_type, media_type);
            let [child] = document.children().collect::<Vec<_>>()[..] else {
                panic!("one child expected");
            };
            let platform = child.platform.clone().unwrap();
            assert_eq!(platform.to_string(), "linux/arm64/v8");
            assert!(child.is_document());
        }
    }

    #[test]
    fn a_configuration_tells_its_platform() {
        let config = br#"{"os":"linux","architecture":"arm64","variant":"v8","rootfs":{}}"#;
        assert_eq!(
            config_platform(config).unwrap().to_string(),
            "linux/arm64/v8"
        );
    }

    #[test]
    fn ambiguous_and_foreign_documents_are_refused() {
        let mut both = manifest();
        both["manifests"] = json!([]);
        let mut contradicted = manifest();
        contradicted["mediaType"] = json!(OCI_INDEX);
        let mut half = manifest();
        half.as_object_mut().unwrap().remove("config");
        for value in [both, contradicted, half] {
            assert!(
                matches!(parse(&value, None), Err(DocumentError::Ambiguous(_))),
                "{value}"
            );
        }
        let schema_1 = json!({"schemaVersion": 1, "fsLayers": []});
        let artifact = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []});
        let mut unknown = manifest();
        unknown["mediaType"] = json!("text/html");
        for value in [schema_1, artifact, unknown] {
            assert!(
                matches!(parse(&value, None), Err(DocumentError::Unsupported(_))),
                "{value}"
            );
        }
    }

    #[test]
    fn hostile_documents_cost_little() {
        let mut many = manifest();
        many["layers"] = json!(vec![descriptor("a/b", b""); DESCRIPTORS_MAX + 1]);
        assert_eq!(
            parse(&many, None),
            Err(DocumentError::TooMany(DESCRIPTORS_MAX + 1))
        );
        let long = vec![b' '; DOCUMENT_BYTES_MAX + 1];
        assert!(matches!(
            Document::parse(&long, None),
            Err(DocumentError::TooLong { .. })
        ));
        let deep = "[".repeat(100_000);
        assert!(matches!(
            Document::parse(deep.as_bytes(), None),
            Err(DocumentError::Malformed(_))
        ));
        let spoil: [fn(&mut serde_json::Value); 5] = [
            |it| it["size"] = json!(-1),
            |it| it["size"] = json!(BLOB_BYTES_MAX + 1),
            |it| it["digest"] = json!("sha256:../../etc"),
            |it| it["digest"] = json!("sha512:00"),
            |it| it["mediaType"] = json!("a\r\nb"),
        ];
        for (case, spoil) in spoil.into_iter().enumerate() {
            let mut value = manifest();
            spoil(&mut value["layers"][0]);
            assert!(
                matches!(parse(&value, None), Err(DocumentError::Malformed(_))),
                "case {case}"
            );
        }
        let twice = r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#;
        assert!(Document::parse(twice.as_bytes(), None).is_err());
    }
}
