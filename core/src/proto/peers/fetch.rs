//! When to fetch which bootstrap document.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{Rng, Time};
use crate::proto::peers::backoff::{Backoff, DELAY_MAX};

/// Bootstrap documents; further ones are ignored.
const URLS_MAX: usize = 16;

/// How long a document may take; after that it counts as unreadable.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// How old a document may get while we have no connection at all.
const LONELY_REFRESH: Duration = Duration::from_secs(60);

/// How old a document may get while we have some connections, but fewer than wanted.
const REFRESH: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, Default)]
struct Document {
    backoff: Backoff,
    /// When it was last read.
    read: Option<Time>,
    /// When the fetch under way counts as failed.
    deadline: Option<Time>,
}

/// The bootstrap documents. Each is on its own: a dead one does not stop the others.
#[derive(Debug)]
pub struct Fetches {
    documents: BTreeMap<String, Document>,
}

impl Fetches {
    /// The documents at `urls`, none of them read yet.
    pub fn new(urls: impl IntoIterator<Item = String>) -> Self {
        let urls = urls.into_iter().take(URLS_MAX);
        let documents = urls.map(|it| (it, Document::default())).collect();
        Self { documents }
    }

    /// Notes that a document was read; false if nobody asked for it.
    pub fn fetched(&mut self, now: Time, url: &str) -> bool {
        let Some(document) = self.documents.get_mut(url) else {
            return false;
        };
        document.backoff.succeeded();
        document.read = Some(now);
        document.deadline.take().is_some()
    }

    /// Notes that a document could not be read.
    pub fn failed(&mut self, now: Time, url: &str, rng: &mut Rng) {
        if let Some(document) = self.documents.get_mut(url)
            && document.deadline.take().is_some()
        {
            document.backoff.failed(now, DELAY_MAX, rng);
        }
    }

    /// Gives up on the fetches that took too long.
    pub fn expire(&mut self, now: Time, rng: &mut Rng) {
        for document in self.documents.values_mut() {
            if document.deadline.is_some_and(|it| it <= now) {
                document.deadline = None;
                document.backoff.failed(now, DELAY_MAX, rng);
            }
        }
    }

    /// Starts the fetches that are due, for a node with that many connections, fewer than it wants.
    pub fn start(&mut self, now: Time, connections: usize) -> Vec<String> {
        let mut urls = Vec::new();
        for (url, document) in &mut self.documents {
            if document.deadline.is_none() && due(document, connections) <= now {
                document.deadline = Some(now + FETCH_TIMEOUT);
                urls.push(url.clone());
            }
        }
        urls
    }

    /// When to call [`Fetches::expire`] or [`Fetches::start`] next; `wanting` says whether there
    /// are fewer connections than wanted.
    pub fn next_deadline(&self, connections: usize, wanting: bool) -> Option<Time> {
        let next = |it: &Document| {
            let due = wanting.then(|| due(it, connections));
            it.deadline.or(due)
        };
        self.documents.values().filter_map(next).min()
    }
}

fn due(document: &Document, connections: usize) -> Time {
    let age_max = if connections == 0 {
        LONELY_REFRESH
    } else {
        REFRESH
    };
    let stale = document.read.map_or(Time::ZERO, |it| it + age_max);
    stale.max(document.backoff.not_before())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_dead_document_does_not_stop_the_others() {
        let mut rng = Rng::new(1);
        let mut fetches = Fetches::new(["dead".to_owned(), "live".to_owned()]);
        assert_eq!(fetches.start(at(0), 0), vec!["dead", "live"]);
        assert_eq!(fetches.start(at(0), 0), Vec::<String>::new());
        assert!(fetches.fetched(at(1), "live"));
        assert_eq!(fetches.next_deadline(0, true), Some(at(30)));
        fetches.expire(at(30), &mut rng);
        assert_eq!(fetches.start(at(32), 0), vec!["dead"]);
        fetches.failed(at(33), "dead", &mut rng);

        // With connections the good document is left alone for longer.
        assert_eq!(fetches.start(at(62), 1), vec!["dead"]);
        assert_eq!(fetches.start(at(62), 0), vec!["live"]);
    }

    #[test]
    fn a_satisfied_node_fetches_nothing() {
        let mut fetches = Fetches::new(["live".to_owned()]);
        fetches.start(at(0), 0);
        fetches.fetched(at(1), "live");
        assert_eq!(fetches.next_deadline(9, false), None);
        assert_eq!(fetches.next_deadline(1, true), Some(at(601)));
        assert!(!fetches.fetched(at(2), "live"), "nobody asked");
        assert!(!fetches.fetched(at(2), "unknown"));
    }
}
