//! What the front end makes of a request before it asks its node, for tests of hostile inputs.

use hyper::Request;
use hyper::header::{HeaderName, HeaderValue, RANGE};
use hyper::http::request::Parts;

use crate::deliver;
use crate::guard::{Effect, Guard};
use crate::params::Params;
use crate::path;
use crate::range::{self, Wanted};
use crate::route::Route;
use crate::server::Client;
use crate::token::Token;

/// The name by which the node may be called, besides loopback ones.
pub const HOST: &str = "kogge.test";

/// What the owner has to show.
pub const TOKEN: &str = "0123456789abcdef";

/// A request without its body.
pub struct Head(Parts);

/// Which bytes of an artifact a response has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sent {
    /// The status.
    pub status: u16,
    /// The first byte and the number of bytes.
    pub bytes: Option<(u64, u64)>,
}

impl Head {
    /// A request; `None` if its parts are none of HTTP's.
    pub fn new(method: &[u8], target: &[u8], headers: &[(&[u8], &[u8])]) -> Option<Self> {
        let mut request = Request::new(());
        *request.method_mut() = hyper::Method::from_bytes(method).ok()?;
        *request.uri_mut() = hyper::Uri::try_from(target).ok()?;
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name).ok()?;
            let value = HeaderValue::from_bytes(value).ok()?;
            request.headers_mut().append(name, value);
        }
        Some(Self(request.into_parts().0))
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.0.uri.path()
    }

    /// The words of the path, if it has any meaning.
    pub fn words(&self) -> Option<Vec<String>> {
        path::words(self.path()).ok()
    }

    /// The parameters.
    pub fn params(&self) -> Option<Vec<(String, String)>> {
        let params = Params::parse(self.0.uri.query()).ok()?;
        let pairs = params.iter();
        Some(pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).collect())
    }

    /// What is asked for under `path` with the parameters of this request, in words for people.
    pub fn asks(&self, path: &str) -> String {
        match Params::parse(self.0.uri.query()) {
            Ok(params) => format!("{:?}", Route::parse(path, &params)),
            Err(problem) => format!("{problem:?}"),
        }
    }

    /// Whether a client over TCP may read, cause work, change something.
    pub fn may(&self) -> [bool; 3] {
        let guard = Guard {
            hosts: vec![HOST.to_owned()],
            address: None,
            anonymous: false,
            token: Token::of(TOKEN),
        };
        let may = |it| guard.check(Client::Anybody, &self.0, it).is_ok();
        [Effect::Reads, Effect::Works, Effect::Changes].map(may)
    }

    /// What is sent of an artifact of `size` bytes with this validator.
    pub fn sent(&self, etag: &str, size: u64) -> Sent {
        let plan = deliver::plan(&self.0.method, &self.0.headers, etag, size);
        Sent {
            status: plan.status.as_u16(),
            bytes: plan.sent,
        }
    }

    /// The range that is asked for, of an artifact of `size` bytes: first byte and number of bytes.
    pub fn range(&self, size: u64) -> Option<(u64, u64)> {
        let header = self.0.headers.get(RANGE)?.to_str().ok()?;
        match range::parse(header, size) {
            Wanted::Part { start, len } => Some((start, len)),
            Wanted::Whole | Wanted::Beyond => None,
        }
    }
}
