//! Simple responses.

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use serde::Serialize;

use crate::body::Body;

/// For what never changes.
pub(crate) const FOREVER: HeaderValue =
    HeaderValue::from_static("public, max-age=31536000, immutable");

/// For what may change at any time.
pub(crate) const FRESH: HeaderValue = HeaderValue::from_static("no-cache");

/// `bytes` of this media type.
pub(crate) fn bytes(media_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::Whole(bytes.into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, FRESH);
    response
}

/// Plain text.
pub(crate) fn text(text: impl Into<Bytes>) -> Response<Body> {
    bytes("text/plain; charset=utf-8", text)
}

/// A value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Response<Body> {
    // Serialization fails only for maps with keys that are not texts, which no value here has.
    let text = serde_json::to_vec(value).unwrap_or_default();
    bytes("application/json", text)
}

/// `response`, to be kept for ever by clients.
pub(crate) fn forever(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, FOREVER);
    response
}
