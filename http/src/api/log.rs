//! The log for programs: rows, proofs, waybills.

use hyper::Response;
use kogge::{Digest, NodeError, Query};
use serde_json::{Value, json};

use crate::body::Body;
use crate::json;
use crate::params::Params;
use crate::problem::{Fault, Problem};
use crate::reply;
use crate::source::Source;

/// A page of rows; parameters are the filters of a query.
pub(crate) fn find(source: &Source, params: &Params) -> Result<Response<Body>, Problem> {
    let malformed = |it: String| Problem::new(Fault::Malformed, it);
    let query = Query::from_pairs(params.iter()).map_err(|it| malformed(it.to_string()))?;
    let page = source.log().find(&query);
    let page = page.map_err(|it| malformed(it.to_string()))?;
    Ok(reply::json(&json!({
        "rows": page.rows.iter().map(json::row).collect::<Vec<Value>>(),
        "next": page.next.map(|it| it.to_string()),
        "size": page.as_of,
    })))
}

/// One row.
pub(crate) fn row(source: &Source, index: u64) -> Result<Response<Body>, Problem> {
    let row = source.log().entry(index);
    row.map(|it| reply::json(&json::row(&it)))
        .ok_or_else(|| beyond(source, index))
}

/// The proof that an entry is in the log.
pub(crate) fn proof(source: &Source, index: u64) -> Result<Response<Body>, Problem> {
    let proof = source.log().proof(index);
    let proof = proof.ok_or_else(|| beyond(source, index))?;
    Ok(reply::json(&json!({
        "index": proof.index,
        "size": proof.size,
        "root": proof.root,
        "path": proof.path,
    })))
}

/// The proof as a file.
pub(crate) fn waybill(source: &Source, index: u64) -> Result<Response<Body>, Problem> {
    if source.log().size() <= index {
        return Err(beyond(source, index));
    }
    let unavailable = |it: NodeError| Problem::unavailable(it.to_string());
    source
        .log()
        .waybill(index)
        .map(reply::text)
        .map_err(unavailable)
}

/// The proof for the artifact with the digest in the parameter `digest`.
pub(crate) fn waybill_of(source: &Source, params: &Params) -> Result<Response<Body>, Problem> {
    let text = params.get("digest").unwrap_or_default();
    let digest = text.parse();
    let digest: Digest = digest.map_err(|it: kogge::base::DigestError| {
        Problem::new(Fault::Digest, format!("the parameter `digest`: {it}"))
    })?;
    let found = source.by_digest(&digest);
    let unknown = || Problem::new(Fault::NotFound, format!("{digest} is not in the log"));
    waybill(source, found.ok_or_else(unknown)?.index)
}

fn beyond(source: &Source, index: u64) -> Problem {
    let size = source.log().size();
    let message = format!("there is no entry {index}: the log has {size}");
    Problem::new(Fault::NotFound, message)
}
