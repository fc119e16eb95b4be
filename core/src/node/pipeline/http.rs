//! An HTTP client for upstreams: careful with credentials, patient with failures, never endless.
//!
//! ```text
//! send ── attempt ── exchange, exchange, …     redirects, at most REDIRECTS_MAX
//!   │        └ again after 429, 5xx, a broken connection (see `retry`)
//!   └ once more with new credentials after 401
//! ```
//!
//! * Plain `http` only on this machine and for hosts that the owner listed; never after `https`.
//! * An upstream elsewhere cannot redirect to this machine; see `reach` for peers' upstreams.
//! * Credentials go to the host they are for, and do not follow redirects to another.
//! * No compression: the bytes on the wire are the bytes that are hashed.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ureq::http::{HeaderMap, Response, header};
use ureq::{Agent, Body, Timeout};
use url::Url;

use crate::base::Time;
use crate::node::pipeline::address::{
    authority, is_loopback, may_be_public, parse_upstream, redact, without_credentials,
};
use crate::node::pipeline::agent::{HttpConfig, agent};
use crate::node::pipeline::error::PipelineError;
use crate::node::pipeline::job::Cancel;
use crate::node::pipeline::reach::NotPublic;
use crate::node::pipeline::retry::{Retry, Setback, retry_after};
use crate::node::pipeline::transfer::Pace;

/// Most redirects of one attempt; the next one is an error.
const REDIRECTS_MAX: usize = 5;

/// Unit of reading. Unit: bytes.
pub(crate) const CHUNK_BYTES: usize = 64 * 1_024;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// The client. Keeps connections open between requests; may be shared by threads.
pub struct Client {
    direct: Agent,
    proxied: Vec<(String, Agent)>,
    config: HttpConfig,
    pub(crate) clock: Clock,
    seed: AtomicU64,
}

/// One request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What is asked for, in words for messages.
    pub what: &'a str,
    /// Where it is.
    pub url: &'a str,
    /// Media types that are understood; anything if `None`.
    pub accept: Option<&'a str>,
    /// Answers a 401.
    pub credentials: Option<&'a dyn Credentials>,
}

/// Knows how to answer the question "who are you?".
pub trait Credentials {
    /// The value of `Authorization`, if one is known already.
    fn authorization(&self) -> Option<String>;

    /// Gets a new one for `challenge`, the value of `WWW-Authenticate`. Answers whether there is
    /// one now; asked at most once for each request.
    ///
    /// # Errors
    ///
    /// [`PipelineError`] if getting one failed.
    fn renew(&self, challenge: &str, cancel: &Cancel) -> Result<bool, PipelineError>;
}

/// Asks for the rest of a body.
pub(crate) struct Resume {
    /// Where the rest starts. Unit: bytes.
    pub(crate) offset: u64,
    /// Says which version of the body is meant, if the digest does not.
    pub(crate) validator: Option<String>,
}

/// A successful answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    url: Url,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why an attempt failed.
enum Failure {
    Final(PipelineError),
    Again(Setback),
}

impl Client {
    /// A client. `clock` measures transfers; `seed` spreads retries.
    ///
    /// The certificates that are trusted are the machine's; `SSL_CERT_FILE` and `SSL_CERT_DIR`
    /// replace them, as for other programs.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Setup`] if a proxy is not usable.
    pub fn new(config: HttpConfig, clock: Clock, seed: u64) -> Result<Self, PipelineError> {
        let proxied = config.proxies.parse()?.into_iter();
        let proxied = proxied.map(|(text, proxy)| (text, agent(&config, Some(proxy))));
        Ok(Self {
            direct: agent(&config, None),
            proxied: proxied.collect(),
            config,
            clock,
            seed: AtomicU64::new(seed),
        })
    }

    /// Ends what is under way, and fails what comes: a pipeline that waits for a silent upstream would
    /// hold up the node's end for a whole time-out. To find a host and to connect go on for
    /// [`HttpConfig::connect_timeout`] (10 s) each; to wait for the next attempt, until cancelled.
    pub fn close(&self) {
        let proxied = self.proxied.iter().map(|(_, it)| it);
        for agent in std::iter::once(&self.direct).chain(proxied) {
            agent.clone().shutdown();
        }
    }

    /// Asks for the header alone.
    ///
    /// # Errors
    ///
    /// [`PipelineError`], after the retries that [`HttpConfig::patience`] allows.
    pub fn head(&self, request: &Request<'_>, cancel: &Cancel) -> Result<HeaderMap, PipelineError> {
        let mut retry = self.retry();
        let answer = self.send("HEAD", request, None, &mut retry, cancel)?;
        Ok(answer.headers)
    }

    /// Gets a body of at most `bytes_max` bytes into memory.
    ///
    /// # Errors
    ///
    /// [`PipelineError`], after the retries that [`HttpConfig::patience`] allows.
    pub fn get(
        &self,
        request: &Request<'_>,
        bytes_max: usize,
        cancel: &Cancel,
    ) -> Result<(HeaderMap, Vec<u8>), PipelineError> {
        let mut retry = self.retry();
        loop {
            let answer = self.send("GET", request, None, &mut retry, cancel)?;
            let mut bytes = Vec::new();
            let limit = (bytes_max as u64).saturating_add(1);
            let mut pace = Pace::new(&self.clock, 0);
            let mut reader = answer.body.into_reader().take(limit);
            let mut chunk = vec![0; CHUNK_BYTES];
            let cut = loop {
                cancel.check()?;
                match reader.read(&mut chunk) {
                    Ok(0) => break None,
                    Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                    Err(error) => break Some(describe(error.into())),
                }
                if let Err(problem) = pace.check(bytes.len() as u64) {
                    break Some(problem);
                }
            };
            if bytes_max < bytes.len() {
                let (what, max) = (request.what.to_owned(), bytes_max as u64);
                return Err(PipelineError::TooLarge { what, max });
            }
            let Some(problem) = cut else {
                return Ok((answer.headers, bytes));
            };
            retry.pause(
                Setback::broken(problem),
                "GET",
                &redact(request.url),
                cancel,
            )?;
        }
    }

    pub(crate) fn retry(&self) -> Retry {
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        Retry::new(self.config.patience, seed)
    }

    /// Sends a request until it is answered with 2xx, or with 416 if it was for a rest.
    pub(crate) fn send(
        &self,
        method: &'static str,
        request: &Request<'_>,
        resume: Option<&Resume>,
        retry: &mut Retry,
        cancel: &Cancel,
    ) -> Result<Answer, PipelineError> {
        let first = parse_upstream(request.url)?;
        let mut is_renewed = false;
        loop {
            cancel.check()?;
            let setback = match self.attempt(method, &first, request, resume) {
                Ok(answer) if answer.status == 401 && !is_renewed => {
                    is_renewed = true;
                    if renew(&answer, &first, request, cancel)? {
                        continue;
                    }
                    return Err(refusal(&answer, request));
                }
                Ok(answer) => match judge(&answer, resume.is_some()) {
                    Verdict::Success => return Ok(answer),
                    Verdict::Refused => return Err(refusal(&answer, request)),
                    Verdict::Again(setback) => setback,
                },
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again(setback)) => setback,
            };
            retry.pause(setback, method, &redact(request.url), cancel)?;
        }
    }

    /// Sends a request once and follows redirects.
    fn attempt(
        &self,
        method: &'static str,
        first: &Url,
        request: &Request<'_>,
        resume: Option<&Resume>,
    ) -> Result<Answer, Failure> {
        let mut url = first.clone();
        let mut authorization = request.credentials.and_then(Credentials::authorization);
        for _ in 0..=REDIRECTS_MAX {
            self.check_target(first, &url).map_err(Failure::Final)?;
            let authorization_here = authorization.as_deref();
            let response = self.exchange(method, &url, request, authorization_here, resume)?;
            let (parts, body) = response.into_parts();
            let answer = Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
                url: url.clone(),
            };
            let is_redirect = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
            let Some(location) = answer.header("location").filter(|_| is_redirect) else {
                return Ok(answer);
            };
            let next = url.join(location).map_err(|_| {
                Failure::Again(Setback::broken("it redirects to something that is no URL"))
            })?;
            // The next host must not learn what is meant for this one.
            if next.origin() != url.origin() {
                authorization = None;
            }
            url = without_credentials(next);
        }
        let problem = format!("more than {REDIRECTS_MAX} redirects");
        Err(Failure::Final(network(method, first.as_str(), problem)))
    }

    fn exchange(
        &self,
        method: &'static str,
        url: &Url,
        request: &Request<'_>,
        authorization: Option<&str>,
        resume: Option<&Resume>,
    ) -> Result<Response<Body>, Failure> {
        let mut builder = ureq::http::Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(header::ACCEPT, request.accept.unwrap_or("*/*"));
        if let Some(authorization) = authorization {
            builder = builder.header(header::AUTHORIZATION, authorization);
        }
        if let Some(resume) = resume {
            builder = builder.header(header::RANGE, format!("bytes={}-", resume.offset));
            if let Some(validator) = &resume.validator {
                builder = builder.header(header::IF_RANGE, validator);
            }
        }
        let failed = |problem| Failure::Final(network(method, url.as_str(), problem));
        let outgoing = builder.body(()).map_err(|it| failed(it.to_string()))?;
        let proxy = self.config.proxies.proxy_of(url);
        let agent = self
            .proxied
            .iter()
            .find_map(|(text, agent)| (Some(text.as_str()) == proxy).then_some(agent))
            .unwrap_or(&self.direct);
        agent.run(outgoing).map_err(|error| match error {
            ureq::Error::Other(it) if it.is::<NotPublic>() => {
                Failure::Final(PipelineError::Setup(it.to_string()))
            }
            error if is_hopeless(&error) => failed(describe(error)),
            error => Failure::Again(Setback::broken(describe(error))),
        })
    }

    /// Whether `url` may be asked, given that the caller asked for `first`.
    pub(crate) fn check_target(&self, first: &Url, url: &Url) -> Result<(), PipelineError> {
        let is_local = is_loopback(url);
        if is_local && !is_loopback(first) {
            let text = format!(
                "{} redirects to this machine, which is refused",
                redact(first.as_str())
            );
            return Err(PipelineError::Unsupported(text));
        }
        let authority = authority(url);
        if self.config.public_only && !may_be_public(url) {
            return Err(PipelineError::Setup(NotPublic(authority).to_string()));
        }
        match url.scheme() {
            "https" => Ok(()),
            "http" if first.scheme() == "https" => Err(PipelineError::Unsupported(format!(
                "{} redirects from https to http, which is refused",
                redact(first.as_str())
            ))),
            "http" if is_local || self.config.insecure.contains(&authority) => Ok(()),
            "http" => Err(PipelineError::Setup(format!(
                "{} has no TLS; use https, or list `{authority}` as insecure",
                redact(url.as_str())
            ))),
            other => Err(PipelineError::Unsupported(format!(
                "{} has the scheme `{other}`; want https",
                redact(url.as_str())
            ))),
        }
    }
}

/// What an answer's status means.
enum Verdict {
    Success,
    Again(Setback),
    Refused,
}

fn judge(answer: &Answer, is_rest: bool) -> Verdict {
    match answer.status {
        200..=299 => Verdict::Success,
        416 if is_rest => Verdict::Success,
        408 | 425 | 429 | 500 | 502 | 503 | 504 => {
            let retry_after = retry_after(&answer.headers);
            Verdict::Again(Setback {
                problem: format!("it answered {}", answer.status),
                retry_after,
                is_limit: answer.status == 429 || (answer.status == 503 && retry_after.is_some()),
            })
        }
        _ => Verdict::Refused,
    }
}

/// Answers a 401 if it came from the host that was asked.
fn renew(
    answer: &Answer,
    first: &Url,
    request: &Request<'_>,
    cancel: &Cancel,
) -> Result<bool, PipelineError> {
    match (request.credentials, answer.header("www-authenticate")) {
        (Some(credentials), Some(challenge)) if answer.url.origin() == first.origin() => {
            credentials.renew(challenge, cancel)
        }
        _ => Ok(false),
    }
}

/// The error for an answer that will not change.
fn refusal(answer: &Answer, request: &Request<'_>) -> PipelineError {
    let url = redact(request.url);
    let what = request.what.to_owned();
    match answer.status {
        404 | 410 => PipelineError::NotFound { what, url },
        status @ (401 | 403) => PipelineError::Unauthorized { url, status },
        status => PipelineError::Malformed {
            what,
            problem: format!("{url} answered {status}"),
        },
    }
}

fn network(method: &'static str, url: &str, problem: String) -> PipelineError {
    let url = redact(url);
    PipelineError::Network {
        method,
        url,
        problem,
    }
}

/// Whether another attempt would fail the same way.
fn is_hopeless(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::BadUri(_)
        | ureq::Error::Http(_)
        | ureq::Error::InvalidProxyUrl
        | ureq::Error::LargeResponseHeader(..)
        | ureq::Error::Tls(_)
        | ureq::Error::Pem(_)
        | ureq::Error::Rustls(_) => true,
        // rustls reports a certificate that is not trusted this way.
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// An error of the connection in words.
pub(crate) fn describe(error: ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(Timeout::Resolve) => "its name was not resolved in time".into(),
        ureq::Error::Timeout(Timeout::Connect) => "no connection in time".into(),
        ureq::Error::Timeout(Timeout::RecvResponse) => "no answer in time".into(),
        ureq::Error::Timeout(_) => "the connection stalled".into(),
        ureq::Error::HostNotFound => "its name is unknown".into(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
