//! A small HTTP client for a daemon: over the owner's socket, or over TCP on loopback.

mod connect;
mod download;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use download::Download;

use crate::failure::{During, Failure};

/// How long a daemon may take to answer. Downloads are excepted: they answer with the first bytes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a download may be silent. A daemon gives up on silent peers before that.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(120);

/// Longest document that is read. Unit: bytes.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// Where a daemon answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Address {
    /// The owner's socket.
    Socket(PathBuf),
    /// A port.
    Tcp(SocketAddr),
}

/// A client of one daemon; each request has a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: Address,
}

/// What `/api` answers if it cannot do what it was asked for.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalDetails,
}

#[derive(Deserialize)]
struct RefusalDetails {
    code: String,
    message: String,
}

impl Client {
    /// A client of the daemon at `address`; does not connect yet.
    pub(crate) fn new(address: Address) -> Self {
        Self { address }
    }

    /// Gets a document.
    ///
    /// # Errors
    ///
    /// [`Failure`] if there is no daemon, or it has no such thing.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let text = self.document(Method::GET, path, None).await?;
        self.parse(path, &text)
    }

    /// Gets a document as it is.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub(crate) async fn bytes(&self, path: &str) -> Result<Bytes, Failure> {
        self.document(Method::GET, path, None).await
    }

    /// Gets a text.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub(crate) async fn text(&self, path: &str) -> Result<String, Failure> {
        let bytes = self.bytes(path).await?;
        String::from_utf8(bytes.to_vec()).during(format!("the answer to {path} is not a text"))
    }

    /// Sends a document and gets one.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let text = self.document(Method::POST, path, Some(body)).await?;
        self.parse(path, &text)
    }

    /// Starts to get something long.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub(crate) async fn download(&self, path: &str) -> Result<Download, Failure> {
        let asking = self.ask(Method::GET, path, None);
        let response = within(SILENCE_TIMEOUT, path, asking).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(path, response).await);
        }
        Ok(Download::new(path, response))
    }

    async fn document(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, Failure> {
        let asking = async {
            let response = self.ask(method, path, body).await?;
            if !response.status().is_success() {
                return Err(self.refusal(path, response).await);
            }
            let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX);
            let whole = body.collect().await;
            Ok(whole.during(format!("the answer to {path}"))?.to_bytes())
        };
        within(ANSWER_TIMEOUT, path, asking).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let host = match &self.address {
            Address::Socket(_) => "localhost".to_owned(),
            Address::Tcp(address) => address.to_string(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host);
        let request = match body {
            None => request.body(Full::default()),
            Some(body) => request
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(body.to_string()))),
        };
        let request = request.during(format!("the request {path}"))?;
        let mut sender = connect::connect(&self.address).await?;
        let sent = sender.send_request(request).await;
        sent.during(format!("the daemon at {} broke off", self.address))
    }

    async fn refusal(&self, path: &str, response: Response<Incoming>) -> Failure {
        let status = response.status();
        let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX)
            .collect()
            .await;
        let body = body.map(|it| it.to_bytes()).unwrap_or_default();
        if let Ok(Refusal { error }) = serde_json::from_slice(&body) {
            return Failure::new(error.code, error.message);
        }
        let text = String::from_utf8_lossy(&body);
        let text = text.trim();
        let code = if status == StatusCode::NOT_FOUND {
            "not-found"
        } else {
            "refused"
        };
        Failure::new(
            code,
            format!("{} answers {path} with {status}: {text}", self.address),
        )
    }

    fn parse<T: DeserializeOwned>(&self, path: &str, text: &[u8]) -> Result<T, Failure> {
        let what = || {
            format!(
                "{} answers {path} with something unknown; is it of another version?",
                self.address
            )
        };
        serde_json::from_slice(text)
            .map_err(|it| Failure::new("version", format!("{} ({it})", what())))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// The end of `work`, or a failure after `limit`.
async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = async {
        async_io::Timer::after(limit).await;
        let message = format!("no answer to {what} within {} s", limit.as_secs());
        Err(Failure::new("timeout", message))
    };
    future::or(work, late).await
}

/// A path with parameters.
pub(crate) fn with_params<'a>(
    path: &str,
    params: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(params);
    format!("{path}?{}", query.finish())
}
