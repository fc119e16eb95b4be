//! Why a node serves what it serves: entry, attestations, checkpoint, and where the bytes came from.

use hyper::Response;
use kogge::proto::log::entry::Attest;
use kogge::proto::package::{ImageReference, Pointer};
use kogge::{Status, What};
use serde_json::{Value, json};

use crate::body::Body;
use crate::params::Params;
use crate::problem::{Fault, Problem};
use crate::reply;
use crate::source::{Bound, Found, Source};

/// What is known about the package in the parameter `what`.
pub(crate) fn why(source: &Source, params: &Params) -> Result<Response<Body>, Problem> {
    let text = params.get("what").unwrap_or_default();
    let what: What = text
        .parse()
        .map_err(|it: kogge::proto::package::WhatError| {
            Problem::new(Fault::Malformed, format!("the parameter `what`: {it}"))
        })?;
    let bound = match &what {
        What::Image(image) => match &image.pointer {
            Pointer::Tag(tag) => source.tag(&image.name, tag)?,
            Pointer::Digest(_) => None,
        },
        _ => None,
    };
    let Some(purl) = source.log().purl_of(&what)? else {
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
