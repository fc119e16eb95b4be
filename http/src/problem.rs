//! Errors as responses: one place for status, code and text of each, in the form that the clients
//! of each surface read.

use std::time::Duration;

use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use kogge::proto::build::Refusal;
use kogge::store::StoreError;
use kogge::{FetchError, LogError, NodeError};
use serde_json::json;

use crate::body::Body;
use crate::reply;

/// When a client may ask again after [`Problem::unavailable`].
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(10);

/// The shortest delay that the header can say.
pub(crate) const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// What went wrong, in the terms of the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// The request makes no sense.
    Malformed,
    /// An image name breaks the grammar.
    Name,
    /// A digest is malformed, or of an algorithm that the log does not hold.
    Digest,
    /// A repository of images is unknown.
    NoRepository,
    /// A manifest is unknown.
    NoManifest,
    /// A blob is unknown.
    NoBlob,
    /// Anything else is unknown.
    NotFound,
    /// The surface does not do that.
    Method(&'static str),
    /// The owner's token is needed.
    Unauthorized,
    /// The caller may not do that whatever it sends.
    Forbidden,
    /// The path is too long.
    PathTooLong,
    /// The body is too long.
    TooLarge,
    /// The request took too long.
    Slow,
    /// It may work later.
    Unavailable(Duration),
    /// The node is at fault.
    Internal,
}

/// An error that is a response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Problem {
    fault: Fault,
    message: String,
}

/// Who reads the response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Surface {
    /// Image clients: `{"errors":[{"code","message","detail"}]}`.
    Images,
    /// Programs: `{"error":{"code","message"}}`.
    Api,
    /// People and clients that look at the status only: text.
    Plain,
}

impl Fault {
    /// Status, code for programs, code for image clients.
    ///
    /// Source: OCI distribution-spec 1.1, "Error Codes"; it has no code for a registry that waits
    /// or fails, and allows others of the same form.
    fn codes(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "NAME_INVALID"),
            Self::Name => (StatusCode::BAD_REQUEST, "malformed", "NAME_INVALID"),
            Self::Digest => (StatusCode::BAD_REQUEST, "malformed", "DIGEST_INVALID"),
            Self::NoRepository => (StatusCode::NOT_FOUND, "not-found", "NAME_UNKNOWN"),
            Self::NoManifest => (StatusCode::NOT_FOUND, "not-found", "MANIFEST_UNKNOWN"),
            Self::NoBlob => (StatusCode::NOT_FOUND, "not-found", "BLOB_UNKNOWN"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "UNSUPPORTED"),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "method", "UNSUPPORTED"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "UNAUTHORIZED"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "DENIED"),
            Self::PathTooLong => (StatusCode::URI_TOO_LONG, "malformed", "NAME_INVALID"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "SIZE_INVALID"),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "too-slow", "UNAVAILABLE"),
            Self::Unavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "UNAVAILABLE",
            ),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "UNKNOWN"),
        }
    }
}

impl Problem {
    /// A problem with a text for people.
    pub(crate) fn new(fault: Fault, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { fault, message }
    }

    /// It may work in a while.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Fault::Unavailable(RETRY_AFTER_DEFAULT), message)
    }

    /// The same problem in the terms of another fault, if nothing was found at all: a path says
    /// what kind of thing it was.
    pub(crate) fn or_missing(mut self, fault: Fault) -> Self {
        if self.fault == Fault::NotFound {
            self.fault = fault;
        }
        self
    }

    /// What went wrong.
    #[cfg(test)]
    pub(crate) const fn fault(&self) -> Fault {
        self.fault
    }

    /// The response for clients of `surface`.
    pub(crate) fn reply(&self, surface: Surface) -> Response<Body> {
        let (status, api_code, image_code) = self.fault.codes();
        let message = &self.message;
        let mut response = match surface {
            Surface::Images => reply::json(&json!({
                "errors": [{"code": image_code, "message": message, "detail": null}]
            })),
            Surface::Api => reply::json(&json!({
                "error": {"code": api_code, "message": message}
            })),
            Surface::Plain => reply::text(format!("{message}\n")),
        };
        *response.status_mut() = status;
        let headers = response.headers_mut();
        match self.fault {
            Fault::Unavailable(delay) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_secs()));
            }
            Fault::Method(allowed) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            _ => {}
        }
        response
    }
}

impl From<FetchError> for Problem {
    fn from(error: FetchError) -> Self {
        let message = error.to_string();
        match error {
            FetchError::Unknown(_) => Self::new(Fault::NotFound, message),
            FetchError::Store(_) | FetchError::Full(_) => Self::new(Fault::Internal, message),
            FetchError::NoSource(_)
            | FetchError::Stalled { .. }
            | FetchError::Hostile(_)
            | FetchError::Busy
            | FetchError::Closed => Self::unavailable(message),
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        let message = error.to_string();
        match error {
            LogError::Query(_) | LogError::Store(StoreError::TooBroad(_)) => {
                Self::new(Fault::Malformed, message)
            }
            LogError::NoEntry(_) => Self::new(Fault::NotFound, message),
            LogError::NotCosigned(_)
            | LogError::Store(
                StoreError::Behind { .. } | StoreError::Busy(_) | StoreError::Closed,
            ) => Self::unavailable(message),
            LogError::Store(_)
            | LogError::Members(_)
            | LogError::Waybill(_)
            | LogError::Proof(_) => Self::new(Fault::Internal, message),
        }
    }
}

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Self {
        let message = error.to_string();
        match error {
            NodeError::Change(_) | NodeError::Offer(_) => Self::new(Fault::Malformed, message),
            NodeError::Build(Refusal::TooSoon(delay)) => {
                Self::new(Fault::Unavailable(delay.max(RETRY_AFTER_MIN)), message)
            }
            NodeError::Build(Refusal::Busy)
            | NodeError::Failed(_)
            | NodeError::Closed
            | NodeError::Timeout(_) => Self::unavailable(message),
            NodeError::Store(_) => Self::new(Fault::Internal, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fault: Fault, surface: Surface) -> (u16, String) {
        let response = Problem::new(fault, "why").reply(surface);
        let Body::Whole(body) = response.body() else {
            panic!("a problem does not stream");
        };
        let text = String::from_utf8(body.to_vec()).unwrap();
        (response.status().as_u16(), text)
    }

    #[test]
    fn each_surface_reads_its_own_form() {
        for (fault, surface, status, text) in [
            (
                Fault::NoManifest,
                Surface::Images,
                404,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","detail":null,"message":"why"}]}"#,
            ),
            (
                Fault::NoManifest,
                Surface::Api,
                404,
                r#"{"error":{"code":"not-found","message":"why"}}"#,
            ),
            (Fault::NotFound, Surface::Plain, 404, "why\n"),
        ] {
            assert_eq!(told(fault, surface), (status, text.to_owned()));
        }
    }

    #[test]
    fn some_problems_say_what_would_work() {
        let busy = Problem::unavailable("busy").reply(Surface::Plain);
        assert_eq!(busy.headers()[RETRY_AFTER], "10");
        let push = Problem::new(Fault::Method("GET, HEAD"), "no").reply(Surface::Images);
        assert_eq!(push.headers()[ALLOW], "GET, HEAD");
    }
}
