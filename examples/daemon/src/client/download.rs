//! A long response, piece by piece.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName};

use crate::client::{SILENCE_TIMEOUT, within};
use crate::failure::{During, Failure};

/// A response under way.
pub(crate) struct Download {
    path: String,
    response: Response<Incoming>,
}

impl Download {
    pub(crate) fn new(path: &str, response: Response<Incoming>) -> Self {
        let path = path.to_owned();
        Self { path, response }
    }

    /// The media type.
    pub(crate) fn media_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE)
    }

    fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the response breaks off or is silent for too long.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let Self { path, response } = self;
        loop {
            let frame = async { Ok(response.frame().await) };
            let Some(frame) = within(SILENCE_TIMEOUT, path, frame).await? else {
                return Ok(None);
            };
            let frame = frame.during(format!("{path} broke off"))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }
}
