//! Request bodies: small JSON documents.

use std::time::Duration;

use futures_lite::future;
use http_body_util::{BodyExt, Limited};
use hyper::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

use crate::api::Call;
use crate::problem::{Fault, Problem};
use crate::server::Client;

/// Longest body. Unit: bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// How long a client may take to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the body of a call as JSON.
///
/// # Errors
///
/// [`Problem`] if it is too long, too slow, or not what is expected.
pub(crate) async fn json<T: DeserializeOwned>(call: Call<'_>) -> Result<T, Problem> {
    // A form of a web page cannot have this type, and a script needs a permission that is never
    // given.
    if call.client == Client::Anybody && !is_json(&call) {
        let message = "want the header `Content-Type: application/json`";
        return Err(Problem::new(Fault::Malformed, message));
    }
    let reading = async {
        let read = Limited::new(call.body, BODY_BYTES_MAX).collect().await;
        read.map(|it| it.to_bytes()).map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                let message = format!("a body has at most {BODY_BYTES_MAX} bytes");
                Problem::new(Fault::TooLarge, message)
            } else {
                Problem::new(Fault::Malformed, format!("the body ended early: {error}"))
            }
        })
    };
    let late = async {
        async_io::Timer::after(BODY_TIMEOUT).await;
        Err(Problem::new(Fault::Slow, "the body did not come in time"))
    };
    let bytes = future::or(reading, late).await?;
    serde_json::from_slice(&bytes).map_err(|it| {
        Problem::new(
            Fault::Malformed,
            format!("the body is not understood: {it}"),
        )
    })
}

fn is_json(call: &Call<'_>) -> bool {
    let stated = call.head.headers.get(CONTENT_TYPE);
    let stated = stated.and_then(|it| it.to_str().ok()).unwrap_or_default();
    let essence = stated.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}
