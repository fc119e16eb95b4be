//! Lists of referrers: the manifests of a repository whose `subject` is a given one, such as
//! signatures, SBOMs and attestations (OCI distribution-spec 1.1, "Listing Referrers").
//!
//! The log names manifests but does not tell what they refer to; they say so themselves. They are
//! small, so a list is made by reading those of the repository that the log has, in the order of
//! their digests: from the store or, on a node that does not have them, from peers. A manifest never
//! changes, so what it refers to is found out once. A page ends after [`READS_MAX`] manifests were
//! read, and its `Link` leads on; what does not come in time is left out, and the header
//! `Kogge-Left-Out` counts it. If nothing else is on the page, that is no answer, and the client is
//! told to ask again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future;
use hyper::Response;
use hyper::header::{HeaderName, HeaderValue, LINK};
use kogge::proto::package::ImageName;
use kogge::proto::package::docker::parse_digest;
use kogge::proto::package::oci::{DOCUMENT_BYTES_MAX, Document, OCI_INDEX};
use kogge::{Digest, Sha256};
use serde_json::{Value, json};

use crate::body::{Body, CHUNK_BYTES};
use crate::deliver::insert;
use crate::params::Params;
use crate::problem::Problem;
use crate::reply;
use crate::source::{Found, Source};

const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
const LEFT_OUT: HeaderName = HeaderName::from_static("kogge-left-out");

/// Most manifests that are read for a page.
const READS_MAX: usize = 256;

/// Most manifests of a repository that are looked at for a page, read or known.
const VERSIONS_MAX: usize = 10_000;

/// Manifests of a page that are read at the same time, each in memory for a moment.
const READERS: usize = 8;

/// How long a page waits for manifests; those that have not come are left out.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest annotations of a manifest, as JSON, that a list repeats; longer ones are left out. Times
/// [`READS_MAX`] it is what clients accept as one document. Unit: bytes.
const ANNOTATIONS_BYTES_MAX: usize = DOCUMENT_BYTES_MAX / READS_MAX;

/// Manifests whose subject is remembered, some 100 bytes each; the oldest is forgotten.
const SUBJECTS_MAX: usize = 65_536;

/// What manifests refer to, as far as this front end has read them.
#[derive(Default)]
pub(crate) struct Subjects(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    subjects: BTreeMap<Sha256, Option<Sha256>>,
    order: VecDeque<Sha256>,
}

/// Where a page begins and ends.
struct Stretch {
    /// Manifests to read: they refer to the subject, or may do so.
    candidates: Vec<Found>,
    /// The last manifest that was looked at, if others follow.
    next: Option<String>,
}

/// A manifest that was read.
struct Read {
    digest: Sha256,
    subject: Option<Sha256>,
    artifact_type: Option<String>,
    descriptor: Value,
}

/// What of a list was asked for.
pub(crate) struct Asked<'a> {
    /// The repository.
    pub(crate) name: &'a ImageName,
    /// Its name as the client wrote it.
    pub(crate) written: &'a str,
    /// What the listed manifests refer to.
    pub(crate) digest: &'a Digest,
}

/// The manifests of a repository that refer to a digest, as an index; an empty one if there are
/// none. Never 404, which would send clients to a scheme of tags.
///
/// # Errors
///
/// [`Problem`] if there are none as far as this node has the log and it is behind, or as far as
/// manifests could be read.
pub(crate) async fn list(
    source: &Source,
    subjects: &Subjects,
    params: &Params,
    asked: Asked<'_>,
) -> Result<Response<Body>, Problem> {
    // Manifests name what they refer to by sha256; nothing in the log refers to anything else.
    let subject = <[u8; 32]>::try_from(asked.digest.bytes()).ok().map(Sha256);
    let filter = params.get("artifactType");
    let mut page = BTreeMap::new();
    let (mut next, mut left_out) = (None, 0);
    if let Some(subject) = subject {
        let after = params.get("last").unwrap_or_default();
        let stretch = stretch(source, subjects, asked.name, &subject, after).await?;
        next = stretch.next;
        left_out = stretch.candidates.len();
        let results = read_all(source, stretch.candidates);
        let mut late = async_io::Timer::after(READ_TIMEOUT);
        while let Some(read) = next_read(&results, &mut late).await {
            let Some(read) = read else { continue };
            left_out -= 1;
            subjects.memory().keep(read.digest, read.subject);
            let is_wanted = filter.is_none_or(|it| read.artifact_type.as_deref() == Some(it));
            if read.subject == Some(subject) && is_wanted {
                page.insert(read.digest, read.descriptor);
            }
        }
    }
    if page.is_empty() && left_out != 0 {
        let name = asked.name;
        let message = format!("{left_out} manifests of {name} cannot be had at the moment");
        return Err(Problem::unavailable(message));
    }
    if page.is_empty() && next.is_none() {
        source.check_live(&format!("{}@{}", asked.name, asked.digest))?;
    }
    let manifests: Vec<Value> = page.into_values().collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let mut response = reply::bytes(OCI_INDEX, index.to_string());
    let headers = response.headers_mut();
    if filter.is_some() {
        headers.insert(FILTERS, HeaderValue::from_static("artifactType"));
    }
    if left_out != 0 {
        headers.insert(LEFT_OUT, HeaderValue::from(left_out));
    }
    if let Some(last) = next {
        insert(headers, LINK, &link(&asked, &last, params));
    }
    Ok(response)
}

/// The next manifest that came, `Some(None)` for one that cannot be had; `None` at the end or when
/// it is late.
async fn next_read(
    results: &Receiver<Option<Read>>,
    late: &mut async_io::Timer,
) -> Option<Option<Read>> {
    let result = async { results.recv().await.ok() };
    let late = async {
        late.await;
        None
    };
    future::or(result, late).await
}

fn link(asked: &Asked<'_>, last: &str, params: &Params) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("last", last);
    for name in ["artifactType", "ns"] {
        if let Some(value) = params.get(name) {
            query.append_pair(name, value);
        }
    }
    let (written, digest, query) = (asked.written, asked.digest, query.finish());
    format!("</v2/{written}/referrers/{digest}?{query}>; rel=\"next\"")
}

/// The manifests of a repository after `after` that refer to `subject` or were never read.
async fn stretch(
    source: &Source,
    subjects: &Subjects,
    name: &ImageName,
    subject: &Sha256,
    after: &str,
) -> Result<Stretch, Problem> {
    let package = format!("docker/{}", name.repository());
    let (mut candidates, mut last) = (Vec::new(), after.to_owned());
    let mut looked_at = 0;
    loop {
        let versions = source.log().versions(&package, &last)?;
        if versions.is_empty() {
            let next = None;
            return Ok(Stretch { candidates, next });
        }
        for version in versions {
            if READS_MAX <= candidates.len() || VERSIONS_MAX <= looked_at {
                let next = Some(last);
                return Ok(Stretch { candidates, next });
            }
            looked_at += 1;
            if let Ok(digest) = parse_digest(&version) {
                let known = subjects.memory().subjects.get(&digest).copied();
                if known.is_none_or(|it| it == Some(*subject)) {
                    candidates.extend(document(source, name, &digest)?);
                }
            }
            last = version;
        }
        // A thousand look-ups take milliseconds: let others have a turn.
        future::yield_now().await;
    }
}

/// The manifest or index of a package of exactly this repository: packages of other registries
/// share its name.
fn document(source: &Source, name: &ImageName, digest: &Sha256) -> Result<Option<Found>, Problem> {
    let Ok(purl) = name.purl(digest) else {
        return Ok(None);
    };
    for folder in ["manifest", "index"] {
        let found = source.file(purl.as_str(), &format!("{folder}/{digest}.json"))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Reads manifests, some at a time; one result for each. Who drops the receiver ends it.
fn read_all(source: &Source, candidates: Vec<Found>) -> Receiver<Option<Read>> {
    let (results, received) = async_channel::bounded(READERS);
    let queue = Arc::new(Mutex::new(VecDeque::from(candidates)));
    for _ in 0..READERS {
        let reader = reader(source.clone(), queue.clone(), results.clone());
        source.node.spawn(reader);
    }
    received
}

async fn reader(source: Source, queue: Arc<Mutex<VecDeque<Found>>>, results: Sender<Option<Read>>) {
    let next = || {
        queue
            .lock()
            .unwrap_or_else(|it| it.into_inner())
            .pop_front()
    };
    while let Some(found) = next() {
        if results.send(read(&source, &found).await).await.is_err() {
            return;
        }
    }
}

async fn read(source: &Source, found: &Found) -> Option<Read> {
    let entry = &found.entry;
    let size = usize::try_from(entry.size).ok();
    let mut bytes = Vec::new();
    // A longer one is no manifest, and refers to nothing.
    if let Some(size) = size.filter(|it| *it <= DOCUMENT_BYTES_MAX) {
        let artifact = source.artifact(found).await.ok()?;
        while bytes.len() < size {
            let chunk = artifact.read(bytes.len() as u64, CHUNK_BYTES).await.ok()?;
            if chunk.is_empty() {
                return None;
            }
            bytes.extend_from_slice(&chunk);
        }
    }
    let document = Document::parse(&bytes, Some(&entry.media_type)).ok();
    let document = document.as_ref();
    let artifact_type = document.and_then(Document::artifact_type);
    Some(Read {
        digest: entry.sha256,
        subject: document
            .and_then(|it| it.subject.as_ref())
            .map(|it| it.digest),
        artifact_type: artifact_type.map(str::to_owned),
        descriptor: document.map_or(Value::Null, |it| descriptor(it, &entry.sha256, entry.size)),
    })
}

fn descriptor(document: &Document, digest: &Sha256, size: u64) -> Value {
    let mut descriptor = json!({
        "mediaType": document.media_type,
        "digest": format!("sha256:{digest}"),
        "size": size,
    });
    if let Some(artifact_type) = document.artifact_type() {
        descriptor["artifactType"] = artifact_type.into();
    }
    let annotations = json!(document.annotations);
    if !document.annotations.is_empty() && annotations.to_string().len() <= ANNOTATIONS_BYTES_MAX {
        descriptor["annotations"] = annotations;
    }
    descriptor
}

impl Subjects {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(|it| it.into_inner())
    }
}

impl Memory {
    fn keep(&mut self, manifest: Sha256, subject: Option<Sha256>) {
        if self.subjects.insert(manifest, subject).is_some() {
            return;
        }
        self.order.push_back(manifest);
        if SUBJECTS_MAX < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.subjects.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Value {
        let blob = |media_type: &str| {
            json!({
                "mediaType": media_type,
                "digest": format!("sha256:{}", Sha256::of(b"{}")),
                "size": 2,
            })
        };
        json!({
            "schemaVersion": 2,
            "config": blob("application/vnd.example.config+json"),
            "layers": [blob("application/vnd.example.signature")],
            "subject": blob("application/vnd.oci.image.manifest.v1+json"),
            "annotations": {"a": "b"},
        })
    }

    fn descriptor_of(manifest: &Value) -> Value {
        let document = Document::parse(manifest.to_string().as_bytes(), None).unwrap();
        descriptor(&document, &Sha256([7; 32]), 9)
    }

    #[test]
    fn a_descriptor_repeats_what_the_manifest_says() {
        let mut manifest = signature();
        let mut expected = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", Sha256([7; 32])),
            "size": 9,
            "artifactType": "application/vnd.example.config+json",
            "annotations": {"a": "b"},
        });
        assert_eq!(descriptor_of(&manifest), expected);
        manifest["artifactType"] = json!("");
        assert_eq!(descriptor_of(&manifest), expected);
        manifest["artifactType"] = json!("application/vnd.example.sbom");
        expected["artifactType"] = json!("application/vnd.example.sbom");
        assert_eq!(descriptor_of(&manifest), expected);
        manifest["annotations"] = json!({"a": "b".repeat(ANNOTATIONS_BYTES_MAX)});
        expected.as_object_mut().unwrap().remove("annotations");
        assert_eq!(descriptor_of(&manifest), expected);
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut memory = Memory::default();
        let digest = |at: usize| Sha256::of(&at.to_be_bytes());
        for at in 0..SUBJECTS_MAX + 2 {
            memory.keep(digest(at), None);
            memory.keep(digest(at), None);
        }
        assert_eq!(memory.subjects.len(), SUBJECTS_MAX);
        assert!(!memory.subjects.contains_key(&digest(1)));
        assert!(memory.subjects.contains_key(&digest(2)));
    }

    #[test]
    fn a_link_repeats_what_was_asked_for() {
        let name = ImageName::new("quay.example", "a/b").unwrap();
        let digest = Digest::from(Sha256([0xab; 32]));
        let asked = Asked {
            name: &name,
            written: "a/b",
            digest: &digest,
        };
        let params = Params::parse(Some("artifactType=a/b%2Bc&ns=quay.example&last=x")).unwrap();
        let expected = format!(
            "</v2/a/b/referrers/{digest}?last=sha256%3A00&artifactType=a%2Fb%2Bc&\
             ns=quay.example>; rel=\"next\""
        );
        assert_eq!(link(&asked, "sha256:00", &params), expected);
    }
}
