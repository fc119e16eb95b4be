//! Why a node serves what it serves: entry, attestations, checkpoint, and where the bytes came from.

use hyper::Response;
use kogge::proto::log::entry::Attest;
use kogge::proto::package::{Coordinates, ImageReference, Pointer, Purl};
use kogge::{Digest, Status};
use serde_json::{Value, json};

use crate::body::Body;
use crate::params::Params;
use crate::problem::{Fault, Problem};
use crate::reply;
use crate::source::{Bound, Found, Source};

/// Longest name that is looked up. Unit: bytes.
const WHAT_BYTES_MAX: usize = 2_048;

/// A name as people write it.
#[derive(Clone, Debug, Eq, PartialEq)]
enum What {
    Digest(Digest),
    Package(String),
    Image(ImageReference),
}

/// What is known about the package in the parameter `what`.
pub(crate) fn why(source: &Source, params: &Params) -> Result<Response<Body>, Problem> {
    let text = params.get("what").unwrap_or_default();
    let what = parse(text)?;
    let bound = match &what {
        What::Image(image) => match &image.pointer {
            Pointer::Tag(tag) => source.tag(&image.name, tag)?,
            Pointer::Digest(_) => None,
        },
        _ => None,
    };
    let Some(purl) = purl_of(source, &what, bound.as_ref())? else {
        source.check_live(text)?;
        return Err(absent(text));
    };
    let files = source.files(&purl)?;
    if files.is_empty() {
        source.check_live(&purl)?;
        return Err(absent(text));
    }
    let status = source.node.status();
    let told: Vec<Value> = files.iter().map(|it| file(source, it)).collect();
    let tag = match (&what, &bound) {
        (What::Image(image), Some(bound)) => tag(image, bound),
        _ => Value::Null,
    };
    Ok(reply::json(&json!({
        "package": purl,
        "tag": tag,
        "attested_by": attested_by(source, &purl, &status)?,
        "checkpoint": status.log.checkpoint,
        "files": told,
    })))
}

fn parse(text: &str) -> Result<What, Problem> {
    let malformed =
        |it: String| Problem::new(Fault::Malformed, format!("the parameter `what`: {it}"));
    if text.is_empty() || WHAT_BYTES_MAX < text.len() {
        return Err(malformed(
            "want an image, g:a:v, a package URL, or a digest".into(),
        ));
    }
    if let Ok(digest) = text.parse() {
        return Ok(What::Digest(digest));
    }
    if text.starts_with("pkg:") {
        let purl: Purl = text
            .parse()
            .map_err(|it: kogge::proto::package::PurlError| malformed(it.to_string()))?;
        return Ok(match ImageReference::from_purl(&purl) {
            Ok(image) => What::Image(image),
            Err(_) => What::Package(purl.as_str().to_owned()),
        });
    }
    // An image with two colons has a slash between them: `localhost:5000/x:1`.
    if !text.contains(['/', '@'])
        && let Ok(it) = text.parse::<Coordinates>()
        && let Ok(purl) = it.purl()
    {
        return Ok(What::Package(purl.as_str().to_owned()));
    }
    let image = text.parse::<ImageReference>();
    image
        .map(What::Image)
        .map_err(|it| malformed(it.to_string()))
}

/// The package's name in the log.
fn purl_of(source: &Source, what: &What, bound: Option<&Bound>) -> Result<Option<String>, Problem> {
    let image = match what {
        What::Digest(digest) => return Ok(source.by_digest(digest)?.map(|it| it.entry.purl)),
        What::Package(purl) => return Ok(Some(purl.clone())),
        What::Image(image) => image,
    };
    let digest = match image.pointer {
        Pointer::Digest(digest) => Some(digest),
        Pointer::Tag(_) => bound.map(|it| it.digest),
    };
    let purl = digest.and_then(|it| image.name.purl(&it).ok());
    Ok(purl.map(|it| it.as_str().to_owned()))
}

fn tag(image: &ImageReference, bound: &Bound) -> Value {
    json!({
        "registry": image.name.registry(),
        "repository": image.name.repository(),
        "tag": image.pointer.to_string(),
        "digest": format!("sha256:{}", bound.digest),
        "index": bound.index,
        "time": bound.time,
    })
}

/// Who got the same; a node that is no longer authorized has no name.
fn attested_by(source: &Source, purl: &str, status: &Status) -> Result<Vec<Value>, Problem> {
    let members = &status.network.members;
    let attests = source.log().attests(purl)?;
    let one = |it: &Attest| {
        let member = members.iter().find(|member| member.node == it.node);
        json!({"name": member.map(|it| &it.name), "node": it.node, "time": it.time})
    };
    Ok(attests.iter().map(one).collect())
}

fn file(source: &Source, found: &Found) -> Value {
    let entry = &found.entry;
    let origin = source.node.origin_of(&entry.blake3).map(|it| {
        let part = |(source, bytes): &(String, u64)| json!({"source": source, "bytes": bytes});
        let sources: Vec<Value> = it.sources.iter().map(part).collect();
        json!({"fetched": it.fetched, "millis": it.millis, "sources": sources})
    });
    json!({
        "file": entry.file,
        "blake3": entry.blake3,
        "sha256": entry.sha256,
        "size": entry.size,
        "index": found.index,
        "stored": source.node.stores(&entry.blake3),
        "origin": origin,
    })
}

fn absent(text: &str) -> Problem {
    let message = format!("{text} is not in the log; add it with `kogge build`");
    Problem::new(Fault::NotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_name_is_understood() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let image = |it: &str| What::Image(it.parse().unwrap());
        let package = |it: &str| What::Package(it.to_owned());
        for (text, expected) in [
            (digest.as_str(), What::Digest(digest.parse().unwrap())),
            ("alpine", image("docker.io/library/alpine:latest")),
            ("localhost:5000/x:1", image("localhost:5000/x:1")),
            ("alpine:3.20", image("alpine:3.20")),
            ("pkg:docker/alpine@3.20", image("alpine:3.20")),
            ("g.h:a:1.0", package("pkg:maven/g.h/a@1.0")),
            ("pkg:maven/g.h/a@1.0", package("pkg:maven/g.h/a@1.0")),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        let long = "a".repeat(WHAT_BYTES_MAX + 1);
        for text in ["", "Alpine", "pkg:", "a:b:c:d", "../x", &long] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
