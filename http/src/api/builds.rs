//! Builds: asking for them, and how they stand.

use std::time::Duration;

use hyper::{Response, StatusCode};
use kogge::{BuildId, BuildSpec, NodeError};
use serde::Deserialize;

use crate::api::{Call, body};
use crate::body::Body;
use crate::params::Params;
use crate::problem::{Fault, Problem};
use crate::reply;
use crate::source::Source;
use kogge::json;

/// Longest wait for a build in one request. Unit: seconds.
const WAIT_MAX: u64 = 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    spec: String,
}

/// Asks for a build.
pub(crate) async fn request(source: &Source, call: Call<'_>) -> Result<Response<Body>, Problem> {
    let wanted: Wanted = body::json(call).await?;
    let spec: BuildSpec = wanted
        .spec
        .parse()
        .map_err(|it: kogge::proto::build::SpecError| {
            Problem::new(Fault::Malformed, it.to_string())
        })?;
    let status = source.node.request_build(spec).await?;
    let mut response = reply::json(&json::build(&status));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// All builds that the node remembers.
pub(crate) async fn list(source: &Source) -> Result<Response<Body>, Problem> {
    let builds = source.node.builds().await?;
    Ok(reply::json(
        &builds.iter().map(json::build).collect::<Vec<_>>(),
    ))
}

/// One build; with `wait=seconds` as soon as it is finished.
pub(crate) async fn status(
    source: &Source,
    id: BuildId,
    params: &Params,
) -> Result<Response<Body>, Problem> {
    let wait = params.number("wait")?.unwrap_or(0).min(WAIT_MAX);
    let unknown = || Problem::new(Fault::NotFound, format!("this node knows no build {id}"));
    let status = source.node.build(id).await?.ok_or_else(unknown)?;
    if wait == 0 || status.state.is_final() {
        return Ok(reply::json(&json::build(&status)));
    }
    match source.node.wait_build(id, Duration::from_secs(wait)).await {
        Ok(status) => Ok(reply::json(&json::build(&status))),
        Err(NodeError::Timeout(_)) => {
            let status = source.node.build(id).await?.unwrap_or(status);
            Ok(reply::json(&json::build(&status)))
        }
        Err(error) => Err(error.into()),
    }
}
