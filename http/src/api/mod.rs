//! The JSON interface for the command line, dashboards and hosts.

pub(crate) mod ask;
mod body;
mod builds;
mod events;
mod log;
mod owner;
mod why;

pub(crate) use events::Streams;

use hyper::Response;
use hyper::body::Incoming;
use hyper::http::request::Parts;

use crate::api::ask::Ask;
use crate::app::App;
use crate::body::Body;
use crate::deliver;
use crate::params::Params;
use crate::problem::{Fault, Problem};
use crate::reply;
use crate::server::Client;

/// A request for the interface.
pub(crate) struct Call<'a> {
    pub(crate) client: Client,
    pub(crate) head: &'a Parts,
    pub(crate) params: &'a Params,
    pub(crate) body: Incoming,
}

/// Answers one request.
///
/// # Errors
///
/// [`Problem`] as it is told to the caller.
pub(crate) async fn serve(app: &App, ask: &Ask, call: Call<'_>) -> Result<Response<Body>, Problem> {
    let source = &app.source;
    match ask {
        Ask::Peers => Ok(reply::json(&source.node.peers())),
        Ask::Log => log::find(source, call.params),
        Ask::Row(index) => log::row(source, *index),
        Ask::Proof(index) => log::proof(source, *index),
        Ask::Waybill(index) => log::waybill(source, *index),
        Ask::WaybillOf => log::waybill_of(source, call.params),
        Ask::Artifact(digest) => {
            let found = source.by_digest(digest)?;
            let unknown = || Problem::new(Fault::NotFound, format!("{digest} is not in the log"));
            let found = found.ok_or_else(unknown)?;
            let media_type = &found.entry.media_type;
            deliver::deliver(
                source,
                call.head,
                &found,
                media_type,
                [].into_iter().collect(),
            )
            .await
        }
        Ask::Why => why::why(source, call.params),
        Ask::Builds if call.is_post() => builds::request(source, call).await,
        Ask::Builds => builds::list(source).await,
        Ask::Build(id) => builds::status(source, *id, call.params).await,
        Ask::Marks if call.is_post() => owner::mark(source, call).await,
        Ask::Marks => owner::changes(source).await,
        Ask::Pins => owner::pin(source, call).await,
        Ask::Shutdown => Ok(owner::shutdown(app)),
        Ask::Events => events::stream(app),
    }
}

impl Call<'_> {
    fn is_post(&self) -> bool {
        self.head.method == hyper::Method::POST
    }
}
