//! Answers to image clients.

use hyper::Response;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use kogge::proto::build::{BuildSpec, Docker, Reference};
use kogge::proto::package::ImageName;
use kogge::proto::package::docker::DEFAULT_REGISTRY;
use kogge::proto::package::oci::DOCUMENT_TYPES;
use kogge::{Digest, Sha256};
use serde_json::json;

use crate::body::Body;
use crate::deliver::{LOG_INDEX, OCTETS, deliver, insert};
use crate::images::ask::Ask;
use crate::images::referrers::{self, Asked};
use crate::images::subjects::Subjects;
use crate::images::tags;
use crate::params::Params;
use crate::problem::{Fault, Problem};
use crate::reply;
use crate::source::{Found, Source};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// Answers one request; errors too carry the headers by which clients know a registry.
pub(crate) async fn serve(
    source: &Source,
    subjects: &Subjects,
    request: &Parts,
    params: &Params,
    ask: Result<Ask, Problem>,
) -> Response<Body> {
    let answer = async {
        match ask? {
            Ask::Version => Ok(reply::json(&json!({}))),
            Ask::Tag(name, tag) => by_tag(source, request, &name, &tag).await,
            Ask::Manifest(name, digest) => manifest(source, request, &name, &digest).await,
            Ask::Blob(digest) => blob(source, request, &digest).await,
            Ask::Tags(name, written) => tags::list(source, params, &name, &written),
            Ask::Referrers(name, written, digest) => {
                let asked = Asked {
                    name: &name,
                    written: &written,
                    digest: &digest,
                };
                referrers::list(source, subjects, params, asked).await
            }
        }
    };
    let answer: Result<_, Problem> = answer.await;
    let mut response =
        answer.unwrap_or_else(|problem| problem.reply(crate::problem::Surface::Images));
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if let Some(namespace) = params.get("ns") {
        insert(headers, NAMESPACE, namespace);
    }
    response
}

/// The manifest to which the newest binding of the tag in the log points.
async fn by_tag(
    source: &Source,
    request: &Parts,
    name: &ImageName,
    tag: &str,
) -> Result<Response<Body>, Problem> {
    let what = format!("{name}:{tag}");
    let look = || {
        let Some(bound) = source.tag(name, tag)? else {
            return Ok(None);
        };
        let found = document(source, &bound.digest.into())?;
        Ok(found.map(|it| (bound, it)))
    };
    let spec = spec(name, Reference::Tag(tag.to_owned()));
    let (bound, found) = source
        .obtain(&what, spec, look)
        .await
        .map_err(|it| it.or_missing(Fault::NoManifest))?;
    let mut extra = digest_header(&bound.digest.into());
    extra.insert(LOG_INDEX, HeaderValue::from(bound.index));
    deliver(source, request, &found, &found.entry.media_type, extra).await
}

async fn manifest(
    source: &Source,
    request: &Parts,
    name: &ImageName,
    digest: &Digest,
) -> Result<Response<Body>, Problem> {
    let what = format!("{name}@{digest}");
    let sha256 = <[u8; 32]>::try_from(digest.bytes()).ok().map(Sha256);
    let spec = sha256.and_then(|it| spec(name, Reference::Digest(it)));
    let found = source
        .obtain(&what, spec, || document(source, digest))
        .await
        .map_err(|it| it.or_missing(Fault::NoManifest))?;
    let extra = digest_header(digest);
    deliver(source, request, &found, &found.entry.media_type, extra).await
}

/// Blobs enter the log with their image, so an unknown one is never built.
async fn blob(
    source: &Source,
    request: &Parts,
    digest: &Digest,
) -> Result<Response<Body>, Problem> {
    let what = format!("the blob {digest}");
    let found = source
        .obtain(&what, None, || source.by_digest(digest))
        .await
        .map_err(|it| it.or_missing(Fault::NoBlob))?;
    deliver(source, request, &found, OCTETS, digest_header(digest)).await
}

/// An artifact that is a manifest or an index.
fn document(source: &Source, digest: &Digest) -> Result<Option<Found>, Problem> {
    let is_document = |it: &Found| DOCUMENT_TYPES.contains(&it.entry.media_type.as_str());
    Ok(source.by_digest(digest)?.filter(is_document))
}

fn digest_header(digest: &Digest) -> HeaderMap {
    let mut headers = HeaderMap::new();
    insert(&mut headers, CONTENT_DIGEST, &digest.to_string());
    headers
}

/// What to ask for so that the log gets the image; `None` if that cannot be asked for.
fn spec(name: &ImageName, reference: Reference) -> Option<BuildSpec> {
    let registry = Some(name.registry()).filter(|it| *it != DEFAULT_REGISTRY);
    let docker = Docker::new(registry, name.repository(), reference, []);
    docker.ok().map(BuildSpec::Docker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_asked_for_by_its_short_name() {
        let tag = || Reference::Tag("1.0".into());
        for (registry, repository, expected) in [
            ("docker.io", "demo", Some("docker library/demo:1.0")),
            ("quay.example", "ns/x", Some("docker quay.example/ns/x:1.0")),
            ("127.0.0.1:5000", "x", Some("docker 127.0.0.1:5000/x:1.0")),
            ("[::1]:5000", "x", None),
        ] {
            let name = ImageName::new(registry, repository).unwrap();
            let text = spec(&name, tag()).map(|it| it.to_string());
            assert_eq!(text.as_deref(), expected, "{name}");
        }
    }
}
