//! Artifacts as responses: whole, in part, or only their headers.

use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED,
    RANGE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use kogge::WallTime;

use crate::body::Body;
use crate::problem::Problem;
use crate::range::{self, Wanted};
use crate::source::{Found, Source};

/// Index of the entry that a response follows from.
pub(crate) const LOG_INDEX: HeaderName = HeaderName::from_static("kogge-log-index");

/// Media type of bytes about which nothing is said.
pub(crate) const OCTETS: &str = "application/octet-stream";

/// Which response a request gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Plan {
    pub(crate) status: StatusCode,
    /// The bytes that are sent: first one and number.
    pub(crate) sent: Option<(u64, u64)>,
    /// What `Content-Length` says, if the response has one.
    len: Option<u64>,
}

/// The response with the artifact `found`, as this media type. Headers in `extra` come on top.
///
/// # Errors
///
/// [`Problem`] if the bytes cannot be had at the moment. HEAD and 304 need none.
pub(crate) async fn deliver(
    source: &Source,
    request: &Parts,
    found: &Found,
    media_type: &str,
    extra: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let entry = &found.entry;
    let etag = format!("\"sha256:{}\"", entry.sha256);
    let plan = plan(&request.method, &request.headers, &etag, entry.size);
    let body = match plan.sent {
        Some((start, len)) => Body::Stream(source.open(found, start, len).await?),
        None => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = plan.status;
    let headers = response.headers_mut();
    let octets = HeaderValue::from_static(OCTETS);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_str(media_type).unwrap_or(octets),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A page inside an artifact must not act in the name of this origin.
    let policy = HeaderValue::from_static("default-src 'none'; sandbox");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(LAST_MODIFIED, http_date(entry.time));
    headers.insert(LOG_INDEX, HeaderValue::from(found.index));
    insert(headers, ETAG, &etag);
    if let Some(len) = plan.len {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    }
    match (plan.status, plan.sent) {
        (StatusCode::PARTIAL_CONTENT, Some((start, len))) => {
            let last = start + len - 1;
            let range = format!("bytes {start}-{last}/{}", entry.size);
            insert(headers, CONTENT_RANGE, &range);
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
            insert(headers, CONTENT_RANGE, &format!("bytes */{}", entry.size));
        }
        _ => {}
    }
    headers.extend(extra);
    Ok(response)
}

/// Inserts a header unless the value cannot be one.
pub(crate) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Which response a request gets for an artifact of `size` bytes.
pub(crate) fn plan(method: &Method, headers: &HeaderMap, etag: &str, size: u64) -> Plan {
    let text = |name| headers.get(name).and_then(|it| it.to_str().ok());
    let whole = Plan {
        status: StatusCode::OK,
        sent: Some((0, size)),
        len: Some(size),
    };
    if text(IF_NONE_MATCH).is_some_and(|it| matches(it, etag)) {
        return Plan {
            status: StatusCode::NOT_MODIFIED,
            sent: None,
            len: None,
        };
    }
    // RFC 9110, 14.2: ranges are for GET only.
    if method == Method::HEAD {
        return Plan {
            sent: None,
            ..whole
        };
    }
    // RFC 9110, 13.1.5: another validator, or a date, means the whole.
    if text(IF_RANGE).is_some_and(|it| it.trim() != etag) {
        return whole;
    }
    match text(RANGE).map_or(Wanted::Whole, |it| range::parse(it, size)) {
        Wanted::Whole => whole,
        Wanted::Part { start, len } => Plan {
            status: StatusCode::PARTIAL_CONTENT,
            sent: Some((start, len)),
            len: Some(len),
        },
        Wanted::Beyond => Plan {
            status: StatusCode::RANGE_NOT_SATISFIABLE,
            sent: None,
            len: Some(0),
        },
    }
}

/// Whether `If-None-Match` names this validator; comparison is weak (RFC 9110, 13.1.2).
fn matches(header: &str, etag: &str) -> bool {
    let mut all = header.split(',').map(str::trim);
    all.any(|it| it == "*" || it.trim_start_matches("W/") == etag)
}

fn http_date(time: WallTime) -> HeaderValue {
    // Later years have no form in HTTP.
    let secs = time.as_secs().min(253_402_300_799);
    let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs);
    HeaderValue::from_str(&httpdate::fmt_http_date(date))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"sha256:ab\"";

    fn of(method: Method, given: &[(HeaderName, &str)]) -> (u16, Option<(u64, u64)>, Option<u64>) {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            insert(&mut headers, name.clone(), value);
        }
        let plan = plan(&method, &headers, TAG, 10);
        (plan.status.as_u16(), plan.sent, plan.len)
    }

    #[test]
    fn conditions_and_ranges_decide_what_is_sent() {
        let range = (RANGE, "bytes=2-");
        for (given, expected) in [
            (vec![], (200, Some((0, 10)), Some(10))),
            (vec![range.clone()], (206, Some((2, 8)), Some(8))),
            (vec![(RANGE, "bytes=10-")], (416, None, Some(0))),
            (
                vec![(RANGE, "bytes=0-1,3-4")],
                (200, Some((0, 10)), Some(10)),
            ),
            (
                vec![range.clone(), (IF_RANGE, TAG)],
                (206, Some((2, 8)), Some(8)),
            ),
            (
                vec![range.clone(), (IF_RANGE, "\"sha256:cd\"")],
                (200, Some((0, 10)), Some(10)),
            ),
            (
                vec![range.clone(), (IF_RANGE, "Tue, 01 Sep 2026 00:00:00 GMT")],
                (200, Some((0, 10)), Some(10)),
            ),
            (vec![(IF_NONE_MATCH, TAG)], (304, None, None)),
            (
                vec![(IF_NONE_MATCH, "\"x\", W/\"sha256:ab\"")],
                (304, None, None),
            ),
            (vec![(IF_NONE_MATCH, "*"), range.clone()], (304, None, None)),
            (
                vec![(IF_NONE_MATCH, "\"x\"")],
                (200, Some((0, 10)), Some(10)),
            ),
        ] {
            assert_eq!(of(Method::GET, &given), expected, "{given:?}");
        }
    }

    #[test]
    fn head_sends_nothing_but_the_length() {
        let range = [(RANGE, "bytes=2-")];
        for given in [&[][..], &range] {
            assert_eq!(of(Method::HEAD, given), (200, None, Some(10)));
        }
    }

    #[test]
    fn times_have_the_form_of_http() {
        for (millis, expected) in [
            (951_782_400_999, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(http_date(WallTime::from_millis(millis)), expected);
        }
    }
}
