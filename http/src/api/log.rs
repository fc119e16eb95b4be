//! The log for programs: rows, proofs, waybills.

use hyper::Response;
use kogge::{Digest, Query};
use serde_json::{Value, json};

use crate::body::Body;
use crate::params::Params;
use crate::problem::{Fault, Problem};
use crate::reply;
use crate::source::Source;
use kogge::json;

/// A page of rows; parameters are the filters of a query.
pub(crate) fn find(source: &Source, params: &Params) -> Result<Response<Body>, Problem> {
    let malformed = |it: String| Problem::new(Fault::Malformed, it);
    let query = Query::from_pairs(params.iter()).map_err(|it| malformed(it.to_string()))?;
    let page = source.log().find(&query)?;
    Ok(reply::json(&json!({
        "rows": page.rows.iter().map(json::row).collect::<Vec<Value>>(),
        "next": page.next.map(|it| it.to_string()),
        "size": page.as_of,
    })))
}

/// One row.
pub(crate) fn row(source: &Source, index: u64) -> Result<Response<Body>, Problem> {
    Ok(reply::json(&json::row(&source.log().entry(index)?)))
}

/// The proof that an entry is in the log.
pub(crate) fn proof(source: &Source, index: u64) -> Result<Response<Body>, Problem> {
    Ok(reply::json(&source.log().proof(index)?))
}

/// The proof as a file.
pub(crate) fn waybill(source: &Source, index: u64) -> Result<Response<Body>, Problem> {
    Ok(reply::text(source.log().waybill(index)?))
}

/// The proof for the artifact with the digest in the parameter `digest`.
pub(crate) fn waybill_of(source: &Source, params: &Params) -> Result<Response<Body>, Problem> {
    let text = params.get("digest").unwrap_or_default();
    let digest = text.parse();
    let digest: Digest = digest.map_err(|it: kogge::base::DigestError| {
        Problem::new(Fault::Digest, format!("the parameter `digest`: {it}"))
    })?;
    let found = source.by_digest(&digest)?;
    let unknown = || Problem::new(Fault::NotFound, format!("{digest} is not in the log"));
    waybill(source, found.ok_or_else(unknown)?.index)
}
