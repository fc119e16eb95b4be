//! The transparency log for everybody: C2SP tlog-tiles, checkpoint, policy; and what the node says
//! about itself.

use hyper::Response;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use kogge::proto::log::tile::{TILE_WIDTH, TilePath};

use crate::body::Body;
use crate::deliver::OCTETS;
use crate::metrics;
use crate::problem::{Fault, Problem};
use crate::reply;
use crate::source::Source;

/// A partial tile never changes, but is gone when the full one is there.
const PARTIAL: HeaderValue = HeaderValue::from_static("public, max-age=60");

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Page {
    /// The newest cosigned head.
    Checkpoint,
    /// A tile; its path as in the log, `tile/0/000`.
    Tile(String),
    /// Who has to sign checkpoints.
    Policy,
    /// What the network started from.
    Genesis,
    /// The node's status; also the bootstrap document.
    Status,
    /// Whether the node answers.
    Health,
    /// Numbers for Prometheus.
    Metrics,
}

/// Answers one request.
///
/// # Errors
///
/// [`Problem`] if there is no such tile, or no checkpoint yet.
pub(crate) fn serve(source: &Source, page: &Page) -> Result<Response<Body>, Problem> {
    Ok(match page {
        Page::Checkpoint => {
            let note = source.log().checkpoint();
            let none = || Problem::unavailable("no checkpoint is cosigned yet");
            reply::text(note.ok_or_else(none)?)
        }
        Page::Tile(path) => tile(source, path)?,
        Page::Policy => reply::text(source.log().policy()),
        Page::Genesis => reply::forever(reply::json(source.node.genesis())),
        Page::Status => reply::json(&source.node.status()),
        Page::Health => health(source),
        Page::Metrics => reply::bytes(metrics::TEXT, metrics::render(&source.node.metrics())),
    })
}

fn tile(source: &Source, path: &str) -> Result<Response<Body>, Problem> {
    let not_found = |it: String| Problem::new(Fault::NotFound, it);
    let name: TilePath = path
        .parse()
        .map_err(|it: kogge::proto::log::TileError| not_found(it.to_string()))?;
    let bytes = source
        .log()
        .tile(path)
        .ok_or_else(|| not_found(format!("the log has no `{path}` yet")))?;
    let mut response = reply::bytes(OCTETS, bytes);
    let lifetime = if name.width() == TILE_WIDTH {
        reply::FOREVER
    } else {
        PARTIAL
    };
    response.headers_mut().insert(CACHE_CONTROL, lifetime);
    Ok(response)
}

fn health(source: &Source) -> Response<Body> {
    if source.node.status().ready {
        return reply::text("ready\n");
    }
    let mut response = reply::text("not ready\n");
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}
