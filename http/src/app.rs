//! From a request to its response: check who asks, find out for what, answer.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};

use crate::api::{self, Call};
use crate::body::Body;
use crate::guard::{Effect, Guard};
use crate::images;
use crate::logs;
use crate::maven::{self, Checksums};
use crate::params::Params;
use crate::problem::{Fault, Problem};
use crate::route::{self, Route};
use crate::server::{Answer, Client};
use crate::signal::{Signal, Watch};
use crate::source::Source;

/// Everything that responses are made of.
pub(crate) struct App {
    pub(crate) source: Source,
    pub(crate) guard: Guard,
    pub(crate) checksums: Checksums,
    pub(crate) subjects: images::Subjects,
    pub(crate) streams: api::Streams,
    /// Raised when the front end closes.
    pub(crate) closing: Watch,
    /// Raised when the owner asks the node to end.
    pub(crate) stop: Signal,
}

impl Answer for App {
    async fn answer(self: Arc<Self>, client: Client, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let answered = self.dispatch(client, &head, body).await;
        let response = answered.unwrap_or_else(|it| it.reply(route::surface(head.uri.path())));
        tracing::debug!(
            method = %head.method,
            path = head.uri.path(),
            status = response.status().as_u16(),
            "answered"
        );
        response
    }
}

impl App {
    async fn dispatch(
        &self,
        client: Client,
        head: &Parts,
        body: Incoming,
    ) -> Result<Response<Body>, Problem> {
        let params = Params::parse(head.uri.query());
        let params = params.as_ref().map_err(Problem::clone)?;
        let route = Route::parse(head.uri.path(), params);
        // Who may not ask at all does not learn what there is.
        self.guard
            .check(client, head, effect(&head.method, &route))?;
        let route = route?;
        let methods = route.methods();
        if !methods.split(", ").any(|it| it == head.method.as_str()) {
            let message = format!("{} is not supported here, only {methods}", head.method);
            return Err(Problem::new(Fault::Method(methods), message));
        }
        match route {
            Route::Images(ask) => {
                Ok(images::serve(&self.source, &self.subjects, head, params, ask).await)
            }
            Route::Maven(path) => maven::serve(&self.source, &self.checksums, head, &path).await,
            Route::Log(page) => logs::serve(&self.source, &page),
            Route::Api(ask) => {
                let call = Call {
                    client,
                    head,
                    params,
                    body,
                };
                api::serve(self, &ask, call).await
            }
        }
    }
}

fn effect(method: &Method, route: &Result<Route, Problem>) -> Effect {
    match route {
        Ok(Route::Api(_)) if method == Method::POST => Effect::Changes,
        Ok(route) => route.effect(),
        Err(_) => Effect::Reads,
    }
}
