//! Which part of the front end answers a path.

use crate::api;
use crate::guard::Effect;
use crate::images;
use crate::logs::Page;
use crate::params::Params;
use crate::path;
use crate::problem::{Fault, Problem, Surface};

/// Where a request goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    /// To the image registry; a malformed name is answered there.
    Images(Result<images::ask::Ask, Problem>),
    /// To the Maven repository, with the path relative to its root.
    Maven(String),
    /// To the log and the node's own pages.
    Log(Page),
    /// To the JSON interface.
    Api(api::ask::Ask),
}

const READING: &str = "GET, HEAD";

impl Route {
    /// Reads a path.
    ///
    /// # Errors
    ///
    /// [`Problem`] if nothing has this path.
    pub(crate) fn parse(path: &str, params: &Params) -> Result<Self, Problem> {
        let words = path::words(path)?;
        let Some((first, rest)) = words.split_first() else {
            return Err(nothing());
        };
        let page = |it| rest.is_empty().then_some(Self::Log(it)).ok_or_else(nothing);
        match first.as_str() {
            "v2" => Ok(Self::Images(images::ask::parse(rest, params.get("ns")))),
            "maven2" => Ok(Self::Maven(rest.join("/"))),
            "api" => api::ask::Ask::parse(rest).map(Self::Api),
            "tile" => Ok(Self::Log(Page::Tile(words.join("/")))),
            "checkpoint" => page(Page::Checkpoint),
            "policy" => page(Page::Policy),
            "genesis" => page(Page::Genesis),
            "status" => page(Page::Status),
            "healthz" => page(Page::Health),
            "metrics" => page(Page::Metrics),
            _ => Err(nothing()),
        }
    }

    /// The methods that it knows, as in the header `Allow`.
    pub(crate) const fn methods(&self) -> &'static str {
        match self {
            Self::Api(ask) => ask.methods(),
            Self::Images(_) | Self::Maven(_) | Self::Log(_) => READING,
        }
    }

    /// What a request with a reading method may cause.
    pub(crate) const fn effect(&self) -> Effect {
        match self {
            Self::Images(_) | Self::Maven(_) => Effect::Works,
            Self::Log(_) => Effect::Reads,
            Self::Api(ask) => ask.effect(),
        }
    }
}

/// Who reads the answers under a path, malformed ones too.
pub(crate) fn surface(path: &str) -> Surface {
    match path.trim_start_matches('/').split('/').next() {
        Some("v2") => Surface::Images,
        Some("api") => Surface::Api,
        _ => Surface::Plain,
    }
}

fn nothing() -> Problem {
    let message = "there is nothing here; see /v2/, /maven2/, /status, /checkpoint and /api/";
    Problem::new(Fault::NotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Route, Fault> {
        Route::parse(path, &Params::default()).map_err(|it| it.fault())
    }

    #[test]
    fn paths_lead_to_their_part() {
        for (path, expected) in [
            ("/v2/", Ok(Route::Images(Ok(images::ask::Ask::Version)))),
            (
                "/maven2/g/a/1/a-1.jar",
                Ok(Route::Maven("g/a/1/a-1.jar".into())),
            ),
            (
                "/maven2/g/a/1%2B2/a.jar",
                Ok(Route::Maven("g/a/1+2/a.jar".into())),
            ),
            ("/maven2", Ok(Route::Maven(String::new()))),
            (
                "/tile/0/000.p/1",
                Ok(Route::Log(Page::Tile("tile/0/000.p/1".into()))),
            ),
            ("/checkpoint", Ok(Route::Log(Page::Checkpoint))),
            ("/healthz", Ok(Route::Log(Page::Health))),
            ("/api/log", Ok(Route::Api(api::ask::Ask::Log))),
            ("/", Err(Fault::NotFound)),
            ("/checkpoint/", Err(Fault::NotFound)),
            ("/V2/", Err(Fault::NotFound)),
            ("//v2/", Err(Fault::NotFound)),
            ("/v2/../status", Err(Fault::Malformed)),
            ("/maven2/..%2f..%2fetc/passwd", Err(Fault::Malformed)),
            ("/tile/%2e%2e/x", Err(Fault::Malformed)),
        ] {
            assert_eq!(parse(path), expected, "{path}");
        }
    }

    #[test]
    fn only_registries_work_for_a_reader() {
        for (path, effect) in [
            ("/v2/x/manifests/1", Effect::Works),
            ("/maven2/x", Effect::Works),
            ("/status", Effect::Reads),
            ("/api/log", Effect::Reads),
            (
                &format!("/api/artifacts/sha256:{}", "00".repeat(32)),
                Effect::Works,
            ),
        ] {
            assert_eq!(parse(path).unwrap().effect(), effect, "{path}");
        }
    }
}
