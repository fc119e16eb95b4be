//! What only the owner may do.

use hyper::{Response, StatusCode};
use kogge::proto::chain::member::Card;
use kogge::proto::pool::Change;
use kogge::{Blake3, NodeId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Call, body};
use crate::app::App;
use crate::body::Body;
use crate::problem::{Fault, Problem};
use crate::reply;
use crate::source::Source;
use kogge::json;

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

/// Consents to a change in the name of the node's owner; answers with all that wait.
pub(crate) async fn mark(source: &Source, call: Call<'_>) -> Result<Response<Body>, Problem> {
    let change = match body::json(call).await? {
        Mark::AddNode { card } => Change::AddNode(card),
        Mark::RemoveNode { node, reason } => Change::RemoveNode { node, reason },
        Mark::RemoveArtifact { index, reason } => Change::RemoveArtifact { index, reason },
    };
    source.node.consent(change).await?;
    changes(source).await
}

/// The changes that wait for consent.
pub(crate) async fn changes(source: &Source) -> Result<Response<Body>, Problem> {
    let changes = source.node.changes().await?;
    let members = source.log().members();
    let told: Vec<Value> = changes
        .iter()
        .map(|it| json::change(it, &members))
        .collect();
    Ok(reply::json(&told))
}

/// Keeps an artifact from eviction, or stops doing so.
pub(crate) async fn pin(source: &Source, call: Call<'_>) -> Result<Response<Body>, Problem> {
    let Pin { blake3, pinned } = body::json(call).await?;
    if !source.node.stores(&blake3) {
        let message = format!("{blake3} is not stored here; fetch it first");
        return Err(Problem::new(Fault::NotFound, message));
    }
    source.node.pin(blake3, pinned).await?;
    Ok(reply::json(&json!({"blake3": blake3, "pinned": pinned})))
}

/// Tells whoever runs the node to end it; see [`crate::Http::asked_to_stop`].
pub(crate) fn shutdown(app: &App) -> Response<Body> {
    app.stop.raise();
    let mut response = reply::json(&json!({"stopping": true}));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
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
