//! What manifests refer to: each is read once, and what it says of itself is remembered.
//!
//! One request may ask for hundreds of manifests, and anybody may send requests: only a few are read
//! at the same time, for all requests together; they are parsed on the worker pool; and what could
//! not be had is not tried again for a minute.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future;
use kogge::proto::package::oci::{DOCUMENT_BYTES_MAX, Document};
use kogge::{Sha256, WallTime};
use serde_json::json;

use crate::images::referrers::MANIFESTS_MAX;
use crate::source::{Found, Source};

/// Manifests that are read at the same time, each in memory for a moment; others wait.
pub(crate) const READERS: usize = 8;

/// How long one manifest may take; then it counts as one that cannot be had.
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a manifest that could not be had is not tried again.
const FAILED_TIME: Duration = Duration::from_secs(60);

/// Most manifests that could not be had; all are forgotten at the limit.
const FAILED_MAX: usize = 4_096;

/// Longest annotations of a manifest, as JSON, that a list repeats; longer ones are left out. Times
/// [`MANIFESTS_MAX`] it is what clients accept as one document. Unit: bytes.
const ANNOTATIONS_BYTES_MAX: usize = DOCUMENT_BYTES_MAX / MANIFESTS_MAX;

/// Memory for manifests that were read; the oldest is forgotten. Unit: bytes.
const MEMORY_BYTES_MAX: usize = 16 << 20;

/// What a manifest takes beside its descriptor. Unit: bytes.
const ENTRY_BYTES: usize = 128;

/// What manifests refer to, as far as this front end has read them. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Subjects(Arc<Inner>);

#[derive(Default)]
struct Inner {
    memory: Mutex<Memory>,
    slots: Slots,
}

#[derive(Default)]
struct Memory {
    read: BTreeMap<Sha256, Option<Arc<Referrer>>>,
    order: VecDeque<Sha256>,
    bytes: usize,
    /// Those that could not be had, and until when that counts.
    failed: BTreeMap<Sha256, WallTime>,
}

/// A manifest that refers to something.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Referrer {
    /// What it refers to.
    pub(crate) subject: Sha256,
    /// What it is.
    pub(crate) artifact_type: Option<String>,
    /// How a list names it, as JSON.
    pub(crate) descriptor: String,
}

/// A manifest that was read; `None` if it refers to nothing.
pub(crate) type Read = (Sha256, Option<Arc<Referrer>>);

/// What is known of a manifest.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Known {
    /// It refers to something.
    Referrer(Arc<Referrer>),
    /// It refers to nothing.
    Nothing,
    /// It could not be had a moment ago.
    Failed,
    /// It was never read, or forgotten.
    Unread,
}

/// As many places as readers.
struct Slots(Sender<()>, Receiver<()>);

/// A place; free again when it is dropped.
struct Slot<'a>(&'a Slots);

impl Default for Slots {
    fn default() -> Self {
        let (take, free) = async_channel::bounded(READERS);
        Self(take, free)
    }
}

impl Slots {
    async fn take(&self) -> Slot<'_> {
        let _ = self.0.send(()).await;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let _ = self.0.1.try_recv();
    }
}

impl Subjects {
    /// What is known of a manifest.
    pub(crate) fn look(&self, manifest: &Sha256, now: WallTime) -> Known {
        self.memory().look(manifest, now)
    }

    /// Reads a manifest and remembers what it refers to; `None` if it cannot be had. Dropping the
    /// future stops it.
    pub(crate) async fn read(&self, source: &Source, found: &Found) -> Option<Read> {
        let slot = self.0.slots.take().await;
        // Another list may have waited for the same.
        let digest = found.entry.sha256;
        match self.look(&digest, source.node.wall()) {
            Known::Referrer(it) => return Some((digest, Some(it))),
            Known::Nothing => return Some((digest, None)),
            Known::Failed => return None,
            Known::Unread => (),
        }
        let late = async {
            async_io::Timer::after(MANIFEST_TIMEOUT).await;
            None
        };
        let referrer = future::or(read(source, found), late).await;
        drop(slot);
        let mut memory = self.memory();
        match &referrer {
            Some(it) => memory.keep(digest, it.clone()),
            None => memory.fail(digest, source.node.wall()),
        }
        referrer.map(|it| (digest, it))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.memory.lock().unwrap_or_else(|it| it.into_inner())
    }
}

async fn read(source: &Source, found: &Found) -> Option<Option<Arc<Referrer>>> {
    let entry = &found.entry;
    // A longer one is no manifest, and refers to nothing.
    if (DOCUMENT_BYTES_MAX as u64) < entry.size {
        return Some(None);
    }
    let (media_type, digest, size) = (entry.media_type.clone(), entry.sha256, entry.size);
    let artifact = source.artifact(found).await.ok()?;
    let look = move |bytes: &[u8]| {
        let document = Document::parse(bytes, Some(&media_type)).ok()?;
        Referrer::of(&document, &digest, size).map(Arc::new)
    };
    artifact.look(look).await.ok()
}

impl Referrer {
    fn of(document: &Document, digest: &Sha256, size: u64) -> Option<Self> {
        let subject = document.subject.as_ref()?.digest;
        let artifact_type = document.artifact_type().map(str::to_owned);
        let mut descriptor = json!({
            "mediaType": document.media_type,
            "digest": format!("sha256:{digest}"),
            "size": size,
        });
        if let Some(artifact_type) = &artifact_type {
            descriptor["artifactType"] = artifact_type.as_str().into();
        }
        let annotations = json!(document.annotations);
        let is_short = annotations.to_string().len() <= ANNOTATIONS_BYTES_MAX;
        if !document.annotations.is_empty() && is_short {
            descriptor["annotations"] = annotations;
        }
        let descriptor = descriptor.to_string();
        Some(Self {
            subject,
            artifact_type,
            descriptor,
        })
    }

    fn bytes(&self) -> usize {
        self.descriptor.len() + self.artifact_type.as_ref().map_or(0, String::len)
    }
}

fn weight(referrer: Option<&Arc<Referrer>>) -> usize {
    ENTRY_BYTES + referrer.map_or(0, |it| it.bytes())
}

impl Memory {
    fn look(&self, manifest: &Sha256, now: WallTime) -> Known {
        match self.read.get(manifest) {
            Some(Some(it)) => return Known::Referrer(it.clone()),
            Some(None) => return Known::Nothing,
            None => (),
        }
        // Not for longer, if the clock is set back.
        let until = self.failed.get(manifest);
        match until.is_some_and(|it| now < *it && *it <= now + FAILED_TIME) {
            true => Known::Failed,
            false => Known::Unread,
        }
    }

    fn keep(&mut self, manifest: Sha256, referrer: Option<Arc<Referrer>>) {
        self.failed.remove(&manifest);
        let added = weight(referrer.as_ref());
        if self.read.insert(manifest, referrer).is_some() {
            return;
        }
        self.bytes += added;
        self.order.push_back(manifest);
        while MEMORY_BYTES_MAX < self.bytes
            && let Some(oldest) = self.order.pop_front()
            && let Some(gone) = self.read.remove(&oldest)
        {
            self.bytes -= weight(gone.as_ref());
        }
    }

    fn fail(&mut self, manifest: Sha256, now: WallTime) {
        self.failed.retain(|_, until| now < *until);
        if FAILED_MAX <= self.failed.len() {
            self.failed.clear();
        }
        self.failed.insert(manifest, now + FAILED_TIME);
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};
    use serde_json::Value;

    use super::*;

    fn signature() -> Value {
        let blob = |media_type: &str| {
            json!({
                "mediaType": media_type,
                "digest": format!("sha256:{}", Sha256::of(b"{}")),
                "size": 2,
            })
        };
        json!({
            "schemaVersion": 2,
            "config": blob("application/vnd.example.config+json"),
            "layers": [blob("application/vnd.example.signature")],
            "subject": blob("application/vnd.oci.image.manifest.v1+json"),
            "annotations": {"a": "b"},
        })
    }

    fn referrer(manifest: &Value) -> Option<Referrer> {
        let document = Document::parse(manifest.to_string().as_bytes(), None).unwrap();
        Referrer::of(&document, &Sha256([7; 32]), 9)
    }

    fn descriptor_of(manifest: &Value) -> Value {
        serde_json::from_str(&referrer(manifest).unwrap().descriptor).unwrap()
    }

    #[test]
    fn a_descriptor_repeats_what_the_manifest_says() {
        let mut manifest = signature();
        let mut expected = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", Sha256([7; 32])),
            "size": 9,
            "artifactType": "application/vnd.example.config+json",
            "annotations": {"a": "b"},
        });
        assert_eq!(descriptor_of(&manifest), expected);
        manifest["artifactType"] = json!("");
        assert_eq!(descriptor_of(&manifest), expected);
        manifest["artifactType"] = json!("application/vnd.example.sbom");
        expected["artifactType"] = json!("application/vnd.example.sbom");
        assert_eq!(descriptor_of(&manifest), expected);
        manifest["annotations"] = json!({"a": "b".repeat(ANNOTATIONS_BYTES_MAX)});
        expected.as_object_mut().unwrap().remove("annotations");
        assert_eq!(descriptor_of(&manifest), expected);
        manifest.as_object_mut().unwrap().remove("subject");
        assert_eq!(referrer(&manifest), None);
    }

    fn digest(at: usize) -> Sha256 {
        Sha256::of(&at.to_be_bytes())
    }

    #[test]
    fn what_is_remembered_has_a_limit_in_bytes() {
        let mut memory = Memory::default();
        let now = WallTime::default();
        let referrer = Arc::new(Referrer {
            subject: Sha256([7; 32]),
            artifact_type: None,
            descriptor: "x".repeat((64 << 10) - ENTRY_BYTES),
        });
        for at in 0..=256 {
            memory.keep(digest(at), Some(referrer.clone()));
            memory.keep(digest(at), Some(referrer.clone()));
        }
        assert_eq!((memory.read.len(), memory.bytes), (256, MEMORY_BYTES_MAX));
        assert_eq!(memory.look(&digest(0), now), Known::Unread);
        assert_eq!(memory.look(&digest(1), now), Known::Referrer(referrer));
        memory.keep(digest(257), None);
        assert_eq!(memory.look(&digest(257), now), Known::Nothing);
        assert_eq!(memory.look(&digest(1), now), Known::Unread);
        assert!(memory.bytes <= MEMORY_BYTES_MAX && memory.order.len() == memory.read.len());
    }

    #[test]
    fn what_could_not_be_had_is_not_tried_again_for_a_minute() {
        let mut memory = Memory::default();
        let at = |secs: u64| WallTime::from_millis(secs * 1_000);
        memory.fail(digest(1), at(100));
        for (now, known) in [
            (at(100), Known::Failed),
            (at(159), Known::Failed),
            (at(160), Known::Unread),
            // The clock was set back.
            (at(99), Known::Unread),
        ] {
            assert_eq!(memory.look(&digest(1), now), known, "{now}");
        }
        memory.keep(digest(1), None);
        assert_eq!(memory.look(&digest(1), at(100)), Known::Nothing);
        for it in 0..=FAILED_MAX {
            memory.fail(digest(it), at(100));
        }
        assert_eq!(memory.failed.len(), 1);
    }

    #[test]
    fn some_are_read_at_a_time_for_all_lists_together() {
        block_on(async {
            let one = Subjects::default();
            let (another, mut slots) = (one.clone(), Vec::new());
            for _ in 0..READERS {
                slots.push(one.0.slots.take().await);
            }
            let mut waits = Box::pin(another.0.slots.take());
            assert!(poll_once(waits.as_mut()).await.is_none());
            slots.pop();
            assert!(poll_once(waits.as_mut()).await.is_some());
        });
    }
}
