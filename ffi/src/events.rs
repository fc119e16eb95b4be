//! Events of a node: numbered, remembered for a while, read by any number of readers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_channel::Receiver;
use event_listener::Event;
use kogge::Node;
use kogge::node::clock::Clock;
use serde_json::Value;

use crate::failure::Failure;
use crate::guard::{call, value};
use crate::handle;
use crate::host::Host;
use crate::input::{out, structure, text};
use crate::object::Object;
use crate::queue::{Item, Queue};
use crate::status::kogge_status;
use crate::thread;
use crate::types::{
    kogge_error, kogge_event, kogge_event_filter, kogge_event_view, kogge_events, kogge_node,
    kogge_queue, kogge_str,
};

/// Events that a node remembers; the oldest is forgotten, and counted as lost for readers that are
/// so far behind.
const EVENTS_MAX: usize = 1_024;

/// Most readers of a node; more are refused.
const READERS_MAX: usize = 1_024;

/// An event.
pub(crate) struct Told {
    number: u64,
    time_ms: u64,
    kind: String,
    json: String,
}

/// An event as one reader got it.
pub(crate) struct Read {
    told: Arc<Told>,
    lost: u64,
}

/// The events of a node.
#[derive(Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
    changed: Event,
}

#[derive(Default)]
struct State {
    events: VecDeque<Arc<Told>>,
    /// Number of the latest event.
    latest: u64,
    readers: Vec<Weak<Reader>>,
    is_closed: bool,
}

/// A subscription.
pub(crate) struct Reader {
    hub: Arc<Hub>,
    kinds: Vec<String>,
    state: Mutex<Position>,
}

#[derive(Default)]
struct Position {
    /// Number of the last event that was looked at.
    after: u64,
    /// Events since then that this reader wanted and did not look at in time.
    lost: u64,
    is_freed: bool,
    attached: Option<(Arc<Queue>, u64)>,
    /// Whether the queue holds an item that was not followed by an empty answer.
    is_told: bool,
}

impl Hub {
    /// Begins to listen to a node.
    pub(crate) fn of(node: &Node) -> Arc<Self> {
        let this = Arc::new(Self::default());
        // Holds nothing of the node, which would keep its files open.
        node.spawn(this.clone().follow(node.events(), Clock::start()));
        this
    }

    /// Tells what comes, until the node stops, be it by itself: then it closes the channel. This waits
    /// for nobody, so that it is never so far behind that the node drops an event.
    async fn follow(self: Arc<Self>, events: Receiver<kogge::Event>, clock: Clock) {
        while let Ok(event) = events.recv().await {
            let json = serde_json::to_value(&event).unwrap_or_default();
            self.push(clock.wall().as_millis(), &json);
        }
        self.close();
    }

    fn push(&self, time_ms: u64, json: &Value) {
        let kind = json["event"].as_str().unwrap_or_default().to_owned();
        let readers = {
            let mut state = self.state();
            state.latest += 1;
            let told = Told {
                number: state.latest,
                time_ms,
                kind: kind.clone(),
                json: json.to_string(),
            };
            state.events.push_back(Arc::new(told));
            state.readers.retain(|it| it.strong_count() != 0);
            if EVENTS_MAX < state.events.len()
                && let Some(forgotten) = state.events.pop_front()
            {
                let readers = state.readers.iter().filter_map(Weak::upgrade);
                readers.for_each(|it| it.lose(&forgotten));
            }
            state.readers.clone()
        };
        for reader in readers.iter().filter_map(Weak::upgrade) {
            if reader.wants(&kind) {
                reader.tell();
            }
        }
        self.changed.notify(usize::MAX);
    }

    /// No more will come.
    pub(crate) fn close(&self) {
        let readers = {
            let mut state = self.state();
            state.is_closed = true;
            std::mem::take(&mut state.readers)
        };
        readers
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|it| it.tell());
        self.changed.notify(usize::MAX);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|it| it == kind)
    }

    /// An event is no longer remembered.
    fn lose(&self, forgotten: &Told) {
        let mut position = self.position();
        if position.after < forgotten.number {
            position.after = forgotten.number;
            position.lost += u64::from(self.wants(&forgotten.kind));
        }
    }

    /// Nobody reads it any more: calls that wait return.
    fn free(&self) {
        let mut position = self.position();
        (position.is_freed, position.attached) = (true, None);
        drop(position);
        self.hub.changed.notify(usize::MAX);
    }

    /// Puts an item into the attached queue, unless one is there.
    fn tell(&self) {
        let mut position = self.position();
        if let (Some((queue, tag)), false) = (&position.attached, position.is_told) {
            queue.push(Item::Events { tag: *tag });
            position.is_told = true;
        }
    }

    /// The next event that this reader wants; `Ok(None)` if there is none yet.
    ///
    /// # Errors
    ///
    /// `End` if none will come; `Closed` if the subscription was freed.
    fn next(&self) -> Result<Option<Read>, Failure> {
        let state = self.hub.state();
        let mut position = self.position();
        if position.is_freed {
            let message = "the subscription was freed";
            return Err(Failure::new(kogge_status::Closed, message));
        }
        let wanted = |it: &&Arc<Told>| position.after < it.number && self.wants(&it.kind);
        let Some(told) = state.events.iter().find(wanted).cloned() else {
            (position.is_told, position.after) = (false, state.latest);
            if state.is_closed {
                let message = "the node has stopped; no event follows";
                return Err(Failure::new(kogge_status::End, message));
            }
            return Ok(None);
        };
        position.after = told.number;
        let lost = std::mem::take(&mut position.lost);
        Ok(Some(Read { told, lost }))
    }

    fn position(&self) -> MutexGuard<'_, Position> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Subscribes to what happens in a node. Kinds are `listening`, `peer-admitted`, `peer-lost`,
/// `committed`, `live`, `build`, `fault` and `stopped`; more may come. The JSON of events has the shapes
/// that the front end's `/api/events` has. Free the subscription with `kogge_events_free`.
///
/// # Safety
///
/// `filter` is NULL (all events from now on) or as its type says; `events_out` and `error` are
/// writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_events_open(
    node: *mut kogge_node,
    filter: *const kogge_event_filter,
    events_out: *mut *mut kogge_events,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let target = out("events_out", events_out)?;
        host.check_open()?;
        let (mut kinds, mut after) = (Vec::new(), 0);
        if !filter.is_null() {
            // SAFETY: as the caller promises.
            let (filter, names) = unsafe {
                let filter = structure("filter", filter)?;
                (filter, text("kinds", filter.kinds)?)
            };
            let names = names.split(',').map(str::trim).filter(|it| !it.is_empty());
            (kinds, after) = (names.map(str::to_owned).collect(), filter.after);
        }
        let mut state = host.hub.state();
        state.readers.retain(|it| it.strong_count() != 0);
        if READERS_MAX <= state.readers.len() {
            let message = format!("{READERS_MAX} subscriptions are open; free some");
            return Err(Failure::new(kogge_status::Busy, message));
        }
        let oldest = state
            .events
            .front()
            .map_or(state.latest + 1, |it| it.number);
        let after = match after {
            0 => state.latest,
            u64::MAX => oldest - 1,
            number => number.min(state.latest),
        };
        let reader = Arc::new(Reader {
            hub: host.hub.clone(),
            kinds,
            state: Mutex::new(Position {
                after,
                // A reader that comes back later than what is remembered: how many of them it
                // would have wanted is not known.
                lost: (oldest - 1).saturating_sub(after),
                ..Position::default()
            }),
        });
        let handle = handle::put(Object::Events(reader.clone()))?;
        state.readers.push(Arc::downgrade(&reader));
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { target.write(handle.cast()) };
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Waits for the next event, at most `timeout_ms` (0 does not wait). `KOGGE_STATUS_AGAIN` with a
/// timeout of 0, `KOGGE_STATUS_TIMED_OUT` with another, if there is none; `KOGGE_STATUS_END` when the
/// node was closed or has stopped by itself, and all were read. One that stops by itself tells why in
/// its last event, of kind `stopped` with a `reason`. Free the event with `kogge_event_free`.
///
/// # Safety
///
/// `event_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_events_next(
    events: *mut kogge_events,
    timeout_ms: u64,
    event_out: *mut *mut kogge_event,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let reader = handle::get::<Arc<Reader>>(events.cast())?;
        let target = out("event_out", event_out)?;
        let deadline = thread::deadline(timeout_ms);
        let next = async {
            loop {
                let changed = reader.hub.changed.listen();
                if let Some(read) = reader.next()? {
                    return Ok(read);
                }
                changed.await;
            }
        };
        let none = tracing::Dispatch::none();
        let read = thread::block_on(&none, deadline, next).unwrap_or_else(|| {
            let status = match timeout_ms {
                0 => kogge_status::Again,
                _ => kogge_status::TimedOut,
            };
            Err(Failure::new(status, "no event yet"))
        })?;
        let handle = handle::put(Object::Event(Arc::new(read)))?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { target.write(handle.cast()) };
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Lets a queue tell when there are events to read: an item of kind `KOGGE_COMPLETED_EVENTS` with
/// `tag`. Then call `kogge_events_next` with a timeout of 0 until it has none; only after that
/// comes another item.
///
/// # Safety
///
/// `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_events_attach(
    events: *mut kogge_events,
    queue: *mut kogge_queue,
    tag: u64,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let reader = handle::get::<Arc<Reader>>(events.cast())?;
        let queue = handle::get::<Arc<Queue>>(queue.cast())?;
        {
            let mut position = reader.position();
            (position.attached, position.is_told) = (Some((queue, tag)), false);
        }
        // There may be events already: an item that leads to none does no harm.
        reader.tell();
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Frees a subscription; calls of `kogge_events_next` return with `KOGGE_STATUS_CLOSED`. An item that
/// lies in an attached queue stays there. Does nothing with NULL and stale handles.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_events_free(events: *mut kogge_events) {
    value((), || {
        if let Some(Object::Events(reader)) = handle::take::<Arc<Reader>>(events.cast()) {
            reader.free();
        }
    });
}

/// What an event tells. Texts are valid until the event is freed.
///
/// # Safety
///
/// `view_out` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_event_get(
    event: *const kogge_event,
    view_out: *mut kogge_event_view,
) -> kogge_status {
    let body = || {
        let read = handle::get::<Arc<Read>>(event.cast())?;
        let target = out("view_out", view_out)?;
        let view = kogge_event_view {
            number: read.told.number,
            lost: read.lost,
            time_ms: read.told.time_ms,
            kind: kogge_str::of(&read.told.kind),
            json: kogge_str::of(&read.told.json),
        };
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { target.write(view) };
        Ok(())
    };
    // SAFETY: no error object is wanted.
    unsafe { call(std::ptr::null_mut(), body) }
}

/// Frees an event. Does nothing with NULL and stale handles.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_event_free(event: *mut kogge_event) {
    value((), || drop(handle::take::<Arc<Read>>(event.cast())));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reader(hub: &Arc<Hub>, kinds: &[&str]) -> Arc<Reader> {
        let reader = Arc::new(Reader {
            hub: hub.clone(),
            kinds: kinds.iter().map(|it| (*it).to_owned()).collect(),
            state: Mutex::default(),
        });
        hub.state().readers.push(Arc::downgrade(&reader));
        reader
    }

    fn next(reader: &Reader) -> Option<(u64, u64)> {
        let read = reader.next().unwrap();
        read.map(|it| (it.told.number, it.lost))
    }

    #[test]
    fn only_events_that_a_reader_wanted_count_as_lost() {
        let hub = Arc::new(Hub::default());
        let (all, few) = (reader(&hub, &[]), reader(&hub, &["rare"]));
        hub.push(0, &json!({"event": "rare"}));
        for _ in 0..EVENTS_MAX + 9 {
            hub.push(0, &json!({"event": "often"}));
        }
        hub.push(0, &json!({"event": "rare"}));
        let last = EVENTS_MAX as u64 + 11;
        assert_eq!(next(&all), Some((12, 11)));
        assert_eq!(next(&all), Some((13, 0)));
        assert_eq!(next(&few), Some((last, 1)));
        assert_eq!(next(&few), None);
    }

    #[test]
    fn readers_hear_of_a_node_that_stops_by_itself_and_that_nothing_follows() {
        let hub = Arc::new(Hub::default());
        let (reader, queue) = (reader(&hub, &["stopped"]), Arc::new(Queue::default()));
        reader.position().attached = Some((queue.clone(), 5));
        let (node, events) = async_channel::bounded(4);
        let reason = "the disk is gone".to_owned();
        node.try_send(kogge::Event::Live).unwrap();
        node.try_send(kogge::Event::Stopped { reason }).unwrap();
        drop(node);
        futures_lite::future::block_on(hub.follow(events, Clock::start()));
        let items = vec![Item::Events { tag: 5 }];
        let told = queue.next(9, thread::deadline(0));
        assert_eq!(told, crate::queue::Next::Items(items));
        let last = reader.next().unwrap().map(|it| it.told.json.clone());
        let expected = r#"{"event":"stopped","reason":"the disk is gone"}"#;
        assert_eq!(last.as_deref(), Some(expected));
        let end = reader.next().err().map(|it| it.status);
        assert_eq!(end, Some(kogge_status::End));
    }

    #[test]
    fn a_queue_gets_one_item_until_a_reader_has_seen_the_end() {
        let hub = Arc::new(Hub::default());
        let (reader, queue) = (reader(&hub, &[]), Arc::new(Queue::default()));
        reader.position().attached = Some((queue.clone(), 5));
        let items = || match queue.next(9, thread::deadline(0)) {
            crate::queue::Next::Items(items) => items.len(),
            _ => 0,
        };
        hub.push(0, &json!({"event": "a"}));
        hub.push(0, &json!({"event": "b"}));
        assert_eq!(items(), 1);
        assert_eq!(next(&reader), Some((1, 0)));
        hub.push(0, &json!({"event": "c"}));
        assert_eq!(items(), 0);
        while next(&reader).is_some() {}
        hub.push(0, &json!({"event": "d"}));
        assert_eq!(items(), 1);
        reader.free();
        hub.push(0, &json!({"event": "e"}));
        assert_eq!(items(), 0);
        assert_eq!(
            reader.next().err().map(|it| it.status),
            Some(kogge_status::Closed)
        );
    }
}
