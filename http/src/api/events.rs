//! What happens in the node, as Server-Sent Events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_channel::Receiver;
use bytes::Bytes;
use futures_lite::{StreamExt, future, stream};
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use kogge::Event;

use crate::app::App;
use crate::body::Body;
use crate::problem::Problem;
use crate::reply;
use crate::signal::Watch;

/// Streams open at once; further ones are refused.
const STREAMS_MAX: usize = 64;

/// How often a silent stream says that it is alive: proxies and we find dead connections that way.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Counts open streams.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<AtomicUsize>);

impl Streams {
    fn enter(&self) -> Option<Seat> {
        let seat = Seat(self.clone());
        (self.0.fetch_add(1, Ordering::SeqCst) < STREAMS_MAX).then_some(seat)
    }
}

struct Seat(Streams);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Feed {
    events: Receiver<Event>,
    closing: Watch,
    _seat: Seat,
}

enum Next {
    Event(Event),
    Silence,
    End,
}

/// An endless response; it ends when the node or the front end does.
pub(crate) fn stream(app: &App) -> Result<Response<Body>, Problem> {
    let full = || Problem::unavailable(format!("{STREAMS_MAX} streams of events are open already"));
    let feed = Feed {
        _seat: app.streams.enter().ok_or_else(full)?,
        events: app.source.node.events(),
        closing: app.closing.clone(),
    };
    let hello = stream::once(Bytes::from_static(b": connected\n\n"));
    let rest = stream::unfold(feed, |mut feed| async move {
        let text = match feed.next().await {
            Next::Event(event) => line(&event),
            Next::Silence => Bytes::from_static(b":\n\n"),
            Next::End => return None,
        };
        Some((text, feed))
    });
    let mut response = Response::new(Body::Feed(hello.chain(rest).boxed()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, reply::FRESH);
    Ok(response)
}

impl Feed {
    async fn next(&mut self) -> Next {
        let Self {
            events, closing, ..
        } = self;
        let event = async { events.recv().await.map_or(Next::End, Next::Event) };
        let silence = async {
            async_io::Timer::after(KEEP_ALIVE).await;
            Next::Silence
        };
        let end = async {
            closing.raised().await;
            Next::End
        };
        future::or(end, future::or(event, silence)).await
    }
}

/// An event as JSON: one line, as the form demands.
fn line(event: &Event) -> Bytes {
    let json = serde_json::to_string(event).unwrap_or_default();
    format!("data: {json}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(line(&Event::Live), "data: {\"event\":\"live\"}\n\n");
        let event = Event::Listening {
            address: "a\nb".into(),
        };
        let expected = "data: {\"event\":\"listening\",\"address\":\"a\\nb\"}\n\n";
        assert_eq!(line(&event), expected);
    }

    #[test]
    fn seats_are_limited_and_come_free() {
        let streams = Streams::default();
        let seats: Vec<_> = (0..STREAMS_MAX).map(|_| streams.enter()).collect();
        assert!(seats.iter().all(Option::is_some));
        assert!(streams.enter().is_none());
        drop(seats);
        assert!(streams.enter().is_some());
    }
}
