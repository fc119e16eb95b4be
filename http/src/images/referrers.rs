//! Lists of referrers: the manifests of a repository whose `subject` is a given one, such as
//! signatures, SBOMs and attestations (OCI distribution-spec 1.1, "Listing Referrers").
//!
//! The log names manifests but does not tell what they refer to; they say so themselves. They are
//! small, so a list is made by reading those of the repository that the log has, in the order of
//! their digests: from the store or, on a node that does not have them, from peers. A manifest never
//! changes, so each is read once, and what it says of itself is remembered (`subjects`). A page ends
//! after [`MANIFESTS_MAX`] manifests, and its `Link` leads on; what does not come in time, or did not
//! come a moment ago, is left out, and the header `Kogge-Left-Out` counts it. If nothing else is on
//! the page, that is no answer, and the client is told to ask again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future;
use hyper::Response;
use hyper::header::{HeaderName, HeaderValue, LINK};
use kogge::proto::package::ImageName;
use kogge::proto::package::docker::parse_digest;
use kogge::proto::package::oci::OCI_INDEX;
use kogge::{Digest, Sha256};

use crate::body::Body;
use crate::deliver::insert;
use crate::images::subjects::{Known, READERS, Read, Referrer, Subjects};
use crate::params::Params;
use crate::problem::Problem;
use crate::reply;
use crate::source::{Found, Source};

const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
const LEFT_OUT: HeaderName = HeaderName::from_static("kogge-left-out");

/// Most manifests on a page, or looked at for it because they may belong there.
pub(crate) const MANIFESTS_MAX: usize = 256;

/// Most manifests of a repository that are looked at for a page, whatever they refer to.
const VERSIONS_MAX: usize = 10_000;

/// Manifests that are looked up before others have a turn: some milliseconds.
const STEP_MAX: usize = 100;

/// How long a page waits for manifests; those that have not come are left out.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Where a page begins and ends.
struct Stretch {
    /// Those that are known to refer to the subject.
    known: Vec<(Sha256, Arc<Referrer>)>,
    /// Those that may do so.
    unread: Vec<Found>,
    /// How many may do so but could not be read a moment ago.
    failed: usize,
    /// The last manifest that was looked at, if others follow.
    next: Option<String>,
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
    let is_wanted = |it: &Referrer| filter.is_none_or(|ty| it.artifact_type.as_deref() == Some(ty));
    let mut page = BTreeMap::new();
    let (mut next, mut left_out) = (None, 0);
    if let Some(subject) = subject {
        let after = params.get("last").unwrap_or_default();
        let stretch = stretch(source, subjects, asked.name, &subject, after).await?;
        next = stretch.next;
        left_out = stretch.failed + stretch.unread.len();
        page.extend(stretch.known.into_iter().filter(|it| is_wanted(&it.1)));
        let results = read_all(source, subjects, stretch.unread);
        let mut late = async_io::Timer::after(READ_TIMEOUT);
        while let Some(read) = next_read(&results, &mut late).await {
            let Some((digest, referrer)) = read else {
                continue;
            };
            left_out -= 1;
            if let Some(it) = referrer.filter(|it| it.subject == subject && is_wanted(it)) {
                page.insert(digest, it);
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
    let manifests: Vec<&str> = page.values().map(|it| &it.descriptor[..]).collect();
    let mut response = reply::bytes(OCI_INDEX, index(&manifests));
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

/// An index of descriptors, which are JSON already.
fn index(manifests: &[&str]) -> String {
    let manifests = manifests.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{manifests}]}}"#)
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
    let (mut last, mut looked_at) = (after.to_owned(), 0);
    let mut stretch = Stretch {
        known: Vec::new(),
        unread: Vec::new(),
        failed: 0,
        next: None,
    };
    loop {
        let log = source.log();
        let versions = log.some_versions(&package, &last, STEP_MAX)?;
        if versions.is_empty() {
            return Ok(stretch);
        }
        for version in versions {
            if MANIFESTS_MAX <= stretch.len() || VERSIONS_MAX <= looked_at {
                stretch.next = Some(last);
                return Ok(stretch);
            }
            looked_at += 1;
            if let Ok(digest) = parse_digest(&version) {
                match subjects.look(&digest, source.node.wall()) {
                    Known::Referrer(it) if it.subject == *subject => {
                        if document(source, name, &digest)?.is_some() {
                            stretch.known.push((digest, it));
                        }
                    }
                    Known::Referrer(_) | Known::Nothing => (),
                    Known::Failed => stretch.failed += 1,
                    Known::Unread => stretch.unread.extend(document(source, name, &digest)?),
                }
            }
            last = version;
        }
        future::yield_now().await;
    }
}

impl Stretch {
    fn len(&self) -> usize {
        self.known.len() + self.unread.len() + self.failed
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
fn read_all(source: &Source, subjects: &Subjects, unread: Vec<Found>) -> Receiver<Option<Read>> {
    let (results, received) = async_channel::bounded(READERS);
    let readers = READERS.min(unread.len());
    let queue = Arc::new(Mutex::new(VecDeque::from(unread)));
    for _ in 0..readers {
        let (source, subjects) = (source.clone(), subjects.clone());
        let (queue, results) = (queue.clone(), results.clone());
        let node = source.node.clone();
        node.spawn(async move { reader(&source, &subjects, &queue, &results).await });
    }
    received
}

async fn reader(
    source: &Source,
    subjects: &Subjects,
    queue: &Mutex<VecDeque<Found>>,
    results: &Sender<Option<Read>>,
) {
    let next = || {
        queue
            .lock()
            .unwrap_or_else(|it| it.into_inner())
            .pop_front()
    };
    while let Some(found) = next() {
        let reading = async { Some(subjects.read(source, &found).await) };
        // Nobody waits for the page any more.
        let over = async {
            results.closed().await;
            None
        };
        let Some(read) = future::or(reading, over).await else {
            return;
        };
        if results.send(read).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_index_holds_what_its_descriptors_say() {
        for descriptors in [
            vec![],
            vec![json!({"a": "\""})],
            vec![json!({}), json!({"b": 1})],
        ] {
            let texts: Vec<String> = descriptors.iter().map(Value::to_string).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let expected =
                json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors});
            let index: Value = serde_json::from_str(&index(&texts)).unwrap();
            assert_eq!(index, expected);
        }
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
