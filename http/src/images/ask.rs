//! What an image client asks for.
//!
//! ```text
//! /v2/                                            is this a registry?
//! /v2/<name>/manifests/<tag or digest>
//! /v2/<name>/blobs/<digest>
//! /v2/<name>/tags/list
//! /v2/<name>/referrers/<digest>
//! ```
//!
//! A name has slashes, so paths are read from the right. Its registry is the label in `?ns=` (OCI
//! distribution-spec, "Registry Proxying"), else the first part of the name if that looks like a
//! host (`quay.example/ns/name`: for clients that cannot mirror other registries), else the default
//! registry.

use kogge::Digest;
use kogge::base::Algorithm;
use kogge::proto::package::docker::{DEFAULT_REGISTRY, ImageName, Pointer, ReferenceError};

use crate::problem::{Fault, Problem};

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ask {
    /// Whether this is a registry.
    Version,
    /// The manifest that a tag points to.
    Tag(ImageName, String),
    /// A manifest by its digest.
    Manifest(ImageName, Digest),
    /// A blob by its digest.
    Blob(Digest),
    /// The tags of a repository; the name as the client wrote it.
    Tags(ImageName, String),
    /// The manifests that refer to a digest; the name also as the client wrote it.
    Referrers(ImageName, String, Digest),
}

/// Reads the words after `/v2`. `namespace` is the parameter `ns`.
///
/// # Errors
///
/// [`Problem`] with the fault that image clients expect for a malformed name, tag or digest.
pub(crate) fn parse(words: &[String], namespace: Option<&str>) -> Result<Ask, Problem> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // Some clients end every path with a slash.
    let words = match words.as_slice() {
        [rest @ .., ""] => rest,
        all => all,
    };
    Ok(match words {
        [] => Ask::Version,
        [name @ .., "tags", "list"] if !name.is_empty() => {
            Ask::Tags(image_name(name, namespace)?, name.join("/"))
        }
        [name @ .., "manifests", it] if !name.is_empty() => {
            let name = image_name(name, namespace)?;
            if it.contains(':') {
                Ask::Manifest(name, digest(it)?)
            } else {
                Ask::Tag(name, tag(it)?)
            }
        }
        [name @ .., "blobs", it] if !name.is_empty() => {
            image_name(name, namespace)?;
            Ask::Blob(digest(it)?)
        }
        [name @ .., "referrers", it] if !name.is_empty() => {
            let written = name.join("/");
            Ask::Referrers(image_name(name, namespace)?, written, digest(it)?)
        }
        _ => {
            let message = "no such path; this registry knows manifests, blobs, tags, referrers";
            return Err(Problem::new(Fault::NotFound, message));
        }
    })
}

fn image_name(words: &[&str], namespace: Option<&str>) -> Result<ImageName, Problem> {
    let (registry, words) = match (namespace, words) {
        (Some(namespace), words) => (namespace, words),
        (None, [first, rest @ ..]) if is_host(first) && !rest.is_empty() => (*first, rest),
        (None, words) => (DEFAULT_REGISTRY, words),
    };
    ImageName::new(registry, &words.join("/"))
        .map_err(|it| Problem::new(Fault::Name, it.to_string()))
}

/// Whether the first part of a name is a registry, as all clients judge it.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

fn tag(text: &str) -> Result<String, Problem> {
    // Image clients expect an unknown manifest, not a malformed request: no tag can have this name.
    let unknown = |it: ReferenceError| Problem::new(Fault::NoManifest, it.to_string());
    match text.parse().map_err(unknown)? {
        Pointer::Tag(tag) => Ok(tag),
        Pointer::Digest(_) => Err(Problem::new(Fault::NoManifest, "a tag has no colon")),
    }
}

fn digest(text: &str) -> Result<Digest, Problem> {
    text.parse()
        .ok()
        .filter(|it: &Digest| matches!(it.algorithm(), Algorithm::Sha256 | Algorithm::Sha512))
        .ok_or_else(|| {
            let message = "want `sha256:` or `sha512:` and lower-case hex of its full length";
            Problem::new(Fault::Digest, message)
        })
}

#[cfg(test)]
mod tests {
    use kogge::Sha256;

    use super::*;
    use crate::path;

    fn ask(path: &str, namespace: Option<&str>) -> Result<Ask, Problem> {
        let words = path::words(path)?;
        let (first, rest) = words.split_first().unwrap();
        assert_eq!(first, "v2");
        parse(rest, namespace)
    }

    fn name(registry: &str, repository: &str) -> ImageName {
        ImageName::new(registry, repository).unwrap()
    }

    #[test]
    fn names_are_read_from_the_right() {
        let digest = Digest::from(Sha256([0xab; 32]));
        let tag =
            |registry, repository, tag: &str| Ask::Tag(name(registry, repository), tag.into());
        let hub = "docker.io";
        for (path, namespace, expected) in [
            ("/v2".to_owned(), None, Ask::Version),
            ("/v2/".into(), None, Ask::Version),
            (
                "/v2/library/demo/manifests/1.0".into(),
                None,
                tag(hub, "library/demo", "1.0"),
            ),
            (
                "/v2/demo/manifests/1.0/".into(),
                None,
                tag(hub, "library/demo", "1.0"),
            ),
            (
                "/v2/tags/list/manifests/manifests/blobs".into(),
                None,
                tag(hub, "tags/list/manifests", "blobs"),
            ),
            (
                "/v2/library/x/manifests/1".into(),
                Some("127.0.0.1:5000"),
                tag("127.0.0.1:5000", "library/x", "1"),
            ),
            (
                "/v2/127.0.0.1:5000/library/x/manifests/1".into(),
                None,
                tag("127.0.0.1:5000", "library/x", "1"),
            ),
            (
                "/v2/quay.example/ns/name/manifests/1".into(),
                None,
                tag("quay.example", "ns/name", "1"),
            ),
            (
                format!("/v2/localhost/x/manifests/{digest}"),
                None,
                Ask::Manifest(name("localhost", "x"), digest.clone()),
            ),
            (
                format!("/v2/x/blobs/{}", digest.to_string().replace(':', "%3A")),
                None,
                Ask::Blob(digest.clone()),
            ),
            (
                "/v2/a/b/tags/list".into(),
                Some("quay.example"),
                Ask::Tags(name("quay.example", "a/b"), "a/b".into()),
            ),
            (
                format!("/v2/x/referrers/{digest}/"),
                None,
                Ask::Referrers(name(hub, "library/x"), "x".into(), digest.clone()),
            ),
            // The only part of a name is never a registry.
            (
                "/v2/a.b/tags/list".into(),
                None,
                Ask::Tags(name(hub, "library/a.b"), "a.b".into()),
            ),
        ] {
            assert_eq!(ask(&path, namespace), Ok(expected), "{path}");
        }
    }

    #[test]
    fn malformed_names_have_the_code_that_clients_expect() {
        let long = "a/".repeat(200);
        for (path, namespace, fault) in [
            ("/v2/Alpine/manifests/1", None, Fault::Name),
            ("/v2//x/manifests/1", None, Fault::Name),
            ("/v2/a_/tags/list", None, Fault::Name),
            ("/v2/x/tags/list", Some("no host"), Fault::Name),
            ("/v2/x/tags/list", Some(""), Fault::Name),
            (&format!("/v2/{long}x/tags/list"), None, Fault::Name),
            ("/v2/x/manifests/.hidden", None, Fault::NoManifest),
            ("/v2/x/manifests/sha256:00", None, Fault::Digest),
            ("/v2/x/manifests/md5:00", None, Fault::Digest),
            ("/v2/x/blobs/latest", None, Fault::Digest),
            ("/v2/x/referrers/sha256:xyz", None, Fault::Digest),
            ("/v2/x/blobs/uploads/", None, Fault::Digest),
            ("/v2/_catalog", None, Fault::NotFound),
            ("/v2/manifests/1", None, Fault::NotFound),
            ("/v2/..%2f..%2fetc/manifests/1", None, Fault::Malformed),
            ("/v2/%252e%252e/manifests/1", None, Fault::Malformed),
        ] {
            let problem = ask(path, namespace).unwrap_err();
            assert_eq!(problem.fault(), fault, "{path}");
        }
    }
}
