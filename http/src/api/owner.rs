//! What only the owner may do.

use hyper::{Response, StatusCode};
use kogge::proto::chain::member::Card;
use kogge::{Blake3, MarkRequest, NodeError, NodeId};
use serde::Deserialize;
use serde_json::json;

use crate::api::{Call, body};
use crate::app::App;
use crate::body::Body;
use crate::problem::{Fault, Problem};
use crate::reply;
use crate::source::Source;

/// A mark as JSON: `{"mark": "remove-node", "node": "…", "reason": "…"}`.
#[derive(Deserialize)]
#[serde(tag = "mark", rename_all = "kebab-case", deny_unknown_fields)]
enum Mark {
    /// Admit a candidate.
    AddNode { card: Box<Card> },
    /// Dismiss an authorized node.
    RemoveNode { node: NodeId, reason: String },
    /// Withdraw an artifact.
    RemoveArtifact { index: u64, reason: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    blake3: Blake3,
    pinned: bool,
}

/// Marks in the name of the node's admin.
pub(crate) async fn mark(source: &Source, call: Call<'_>) -> Result<Response<Body>, Problem> {
    let mark = match body::json(call).await? {
        Mark::AddNode { card } => MarkRequest::Add { card: *card },
        Mark::RemoveNode { node, reason } => MarkRequest::Remove { node, reason },
        Mark::RemoveArtifact { index, reason } => MarkRequest::RemoveArtifact { index, reason },
    };
    let status = source.node.mark(mark).await;
    Ok(reply::json(&status.map_err(refused)?))
}

/// Keeps an artifact from eviction, or stops doing so.
pub(crate) async fn pin(source: &Source, call: Call<'_>) -> Result<Response<Body>, Problem> {
    let Pin { blake3, pinned } = body::json(call).await?;
    source.node.pin(&blake3, pinned).await.map_err(refused)?;
    Ok(reply::json(&json!({"blake3": blake3, "pinned": pinned})))
}

/// Tells whoever runs the node to end it; see [`crate::Http::asked_to_stop`].
pub(crate) fn shutdown(app: &App) -> Response<Body> {
    app.stop.raise();
    let mut response = reply::json(&json!({"stopping": true}));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

fn refused(error: NodeError) -> Problem {
    Problem::new(Fault::Malformed, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_exactly_what_it_is() {
        let node = "04".repeat(32);
        for (text, good) in [
            (
                format!(r#"{{"mark":"remove-node","node":"{node}","reason":"lost"}}"#),
                true,
            ),
            (
                r#"{"mark":"remove-artifact","index":7,"reason":"bad"}"#.into(),
                true,
            ),
            (r#"{"mark":"remove-artifact","index":7}"#.into(), false),
            (
                r#"{"mark":"remove-artifact","index":7,"reason":"","force":true}"#.into(),
                false,
            ),
            (r#"{"mark":"add-node","card":{}}"#.into(), false),
            (r#"{"index":7,"reason":"bad"}"#.into(), false),
        ] {
            assert_eq!(serde_json::from_str::<Mark>(&text).is_ok(), good, "{text}");
        }
    }
}
