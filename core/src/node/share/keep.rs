//! What follows from an artifact being stored, or not any more: a note of its origin, and a record
//! in the DHT that this node holds its package.
//!
//! The DHT knows packages, not files: a thousandth of the records, and whoever holds a part says
//! which when asked. Neither note is worth waiting for: if too much happens at once, some are left
//! out until the next start, which goes through everything that is stored.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};

use crate::base::Blake3;
use crate::net::{CommandError, NetHandle};
use crate::node::executor::Pool;
use crate::node::origin::OriginRecord;
use crate::store::{Meta, Store, StoreError};

/// News that wait for the keeper; further ones are lost until the next start.
pub(crate) const NEWS_MAX: usize = 4_096;

/// Stored artifacts whose package is not in the log yet; further ones are told at the next start.
const UNLOGGED_MAX: usize = 4_096;

/// How long the keeper waits when the network has too many commands.
const BUSY_RETRY: Duration = Duration::from_millis(200);

/// How long a pool thread waits at a time for an index that is being rebuilt.
const INDEX_INTERVAL: Duration = Duration::from_secs(1);

/// Name space of the origins in the store.
pub(crate) const ORIGINS: &str = "origin";

/// What happened to an artifact.
pub(crate) enum News {
    /// It is stored.
    Stored(Blake3),
    /// It is not stored any more.
    Removed(Blake3),
    /// The log has grown.
    Committed,
}

/// Notes where the bytes of an artifact came from. Call it before the artifact is published: the
/// note is then durable no later, often by the same commit, and whoever sees the artifact sees it.
pub(crate) fn note(meta: &Meta, root: &Blake3, origin: &OriginRecord) {
    let record = serde_json::to_vec(origin).unwrap_or_default();
    let root = *root;
    meta.put_later(ORIGINS, &root.0, &record, move |noted| {
        if let Err(error) = noted {
            tracing::warn!(%root, %error, "the origin of an artifact was not noted");
        }
    });
}

/// The key under which the DHT knows the holders of a package.
pub(crate) fn provider_key(purl: &str) -> [u8; 32] {
    Blake3::of(purl.as_bytes()).0
}

/// Sees to it that every removal becomes news.
pub(crate) fn watch(store: &Store, news: Sender<News>) {
    store.blobs().on_removed(move |digests| {
        for digest in digests {
            let _ = news.try_send(News::Removed(*digest));
        }
    });
}

/// Takes news until nobody can send any.
pub(crate) struct Keeper {
    pub(crate) store: Arc<Store>,
    pub(crate) pool: Pool,
    pub(crate) net: NetHandle,
    /// Whether others are told what is here.
    pub(crate) shares: bool,
    pub(crate) news: Receiver<News>,
}

/// What the DHT is to be told.
enum Telling {
    Provide([u8; 32]),
    Stop([u8; 32]),
}

impl Keeper {
    pub(crate) async fn run(self) {
        self.boot().await;
        let mut unlogged = BTreeSet::new();
        while let Ok(news) = self.news.recv().await {
            let store = self.store.clone();
            let take = move || {
                let tellings = take(&store, news, &mut unlogged);
                (tellings, unlogged)
            };
            let Ok((tellings, rest)) = self.pool.run(take).await else {
                return;
            };
            unlogged = rest;
            match tellings {
                Ok(tellings) => self.tell(tellings).await,
                Err(error) => tracing::warn!(%error, "the origin of an artifact was not noted"),
            }
        }
    }

    /// Tells what is stored, and forgets the origins of what is not.
    async fn boot(&self) {
        loop {
            let store = self.store.clone();
            let wait = move || store.index().wait(INDEX_INTERVAL);
            match self.pool.run(wait).await {
                Ok(true) => break,
                Ok(false) => (),
                Err(_) => return,
            }
        }
        let mut after = Some(None);
        while let Some(from) = after.filter(|_| self.shares) {
            let store = self.store.clone();
            let step = self.pool.run(move || stored(&store, from.as_ref())).await;
            let Ok(Ok((last, tellings))) = step else {
                break;
            };
            self.tell(tellings).await;
            after = last.map(Some);
        }
        let mut after = Some(None);
        while let Some(from) = after.take() {
            let store = self.store.clone();
            let step = move || sweep(&store, from.as_deref());
            if let Ok(Ok(last)) = self.pool.run(step).await {
                after = last.map(Some);
            }
        }
    }

    async fn tell(&self, tellings: Vec<Telling>) {
        for telling in tellings.into_iter().filter(|_| self.shares) {
            loop {
                let told = match &telling {
                    Telling::Provide(key) => self.net.provide(key),
                    Telling::Stop(key) => self.net.stop_providing(key),
                };
                match told {
                    Err(CommandError::Busy) => {
                        async_io::Timer::after(BUSY_RETRY).await;
                    }
                    Ok(()) | Err(CommandError::Closed | CommandError::TooLong { .. }) => break,
                }
            }
        }
    }
}

/// Blocks on the disk.
fn take(
    store: &Store,
    news: News,
    unlogged: &mut BTreeSet<Blake3>,
) -> Result<Vec<Telling>, StoreError> {
    let mut tellings = Vec::new();
    match news {
        News::Stored(root) => match purl_of(store, &root) {
            Some(purl) => tellings.push(Telling::Provide(provider_key(&purl))),
            None if unlogged.len() < UNLOGGED_MAX => drop(unlogged.insert(root)),
            None => (),
        },
        News::Removed(root) => {
            unlogged.remove(&root);
            if let Some(purl) = purl_of(store, &root)
                && !holds_any(store, &purl)
            {
                tellings.push(Telling::Stop(provider_key(&purl)));
            }
            store.meta().remove(ORIGINS, &root.0)?;
        }
        News::Committed => unlogged.retain(|root| match purl_of(store, root) {
            Some(purl) => {
                tellings.push(Telling::Provide(provider_key(&purl)));
                false
            }
            None => true,
        }),
    }
    Ok(tellings)
}

fn purl_of(store: &Store, root: &Blake3) -> Option<String> {
    let found = store.index().by_digest(&(*root).into()).ok()??;
    Some(found.artifact.purl)
}

/// Whether a file of a package is stored.
fn holds_any(store: &Store, purl: &str) -> bool {
    let files = store.index().package(purl).unwrap_or_default();
    let is_stored = |it: &Blake3| store.blobs().contains(it).unwrap_or(false);
    files.iter().any(|it| is_stored(&it.artifact.blake3))
}

/// The packages of some stored artifacts, and after which to go on. Blocks on the disk.
fn stored(
    store: &Store,
    after: Option<&Blake3>,
) -> Result<(Option<Blake3>, Vec<Telling>), StoreError> {
    let blobs = store.blobs().list(after)?;
    let keys: BTreeSet<[u8; 32]> = blobs
        .iter()
        .filter_map(|it| purl_of(store, &it.blake3))
        .map(|it| provider_key(&it))
        .collect();
    let last = blobs.last().map(|it| it.blake3);
    Ok((last, keys.into_iter().map(Telling::Provide).collect()))
}

/// Forgets the origins of artifacts that are not stored; tells after which to go on. Blocks on the
/// disk.
fn sweep(store: &Store, after: Option<&[u8]>) -> Result<Option<Vec<u8>>, StoreError> {
    let rows = store.meta().scan(ORIGINS, b"", after)?;
    for (key, _) in &rows {
        let root = <[u8; 32]>::try_from(&key[..]).map(Blake3);
        if !root.is_ok_and(|it| store.blobs().contains(&it).unwrap_or(true)) {
            store.meta().remove(ORIGINS, key)?;
        }
    }
    Ok(rows.into_iter().last().map(|it| it.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Sha256, WallTime};
    use crate::store::Options;
    use crate::store::tests::testing::{Maker, add};

    fn put(store: &Store, content: &[u8]) -> Blake3 {
        let (root, size) = (Blake3::of(content), content.len() as u64);
        let staging = store.blobs().begin(root, size).unwrap().unwrap();
        staging.write_at(0, content).unwrap();
        staging.mark(0..1);
        staging.finish(Sha256::of(content)).unwrap();
        root
    }

    #[test]
    fn the_dht_is_told_of_a_package_once_however_many_files_are_here() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), Options::default()).unwrap();
        let (first, second) = ("pkg:maven/g/a@1", "pkg:maven/g/a@2");
        let files = [(first, "a.jar"), (first, "a.pom"), (second, "a.jar")];
        Maker::default().append(&store, &files.map(|it| add(it.0, it.1)));
        for (purl, file) in files {
            put(&store, format!("{purl} {file}").as_bytes());
        }
        assert!(store.index().wait(Duration::from_secs(60)));
        let (_, tellings) = stored(&store, None).unwrap();
        let key = |it: &Telling| match it {
            Telling::Provide(key) | Telling::Stop(key) => *key,
        };
        let told: Vec<_> = tellings.iter().map(key).collect();
        let mut expected = [first, second].map(provider_key);
        expected.sort_unstable();
        assert_eq!(told, expected);
    }

    #[test]
    fn an_origin_goes_with_its_artifact() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), Options::default()).unwrap();
        let (news, heard) = async_channel::bounded(8);
        watch(&store, news);
        let origin = OriginRecord {
            fetched: WallTime::from_millis(5),
            millis: 7,
            sources: vec![("upstream".into(), 3)],
        };
        let (kept, gone) = (put(&store, b"one"), put(&store, b"two"));
        for root in [kept, gone, Blake3([9; 32])] {
            note(store.meta(), &root, &origin);
        }
        // The last one was removed while nobody listened; the second one is removed now.
        assert!(store.blobs().remove(&gone).unwrap());
        let Ok(news) = heard.try_recv() else {
            panic!("nothing was heard of the removal");
        };
        take(&store, news, &mut BTreeSet::new()).unwrap();
        let noted = || {
            let rows = store.meta().scan(ORIGINS, b"", None).unwrap();
            rows.into_iter().map(|it| it.0).collect::<Vec<_>>()
        };
        assert_eq!(noted().len(), 2);
        assert!(sweep(&store, None).unwrap().is_some());
        assert_eq!(noted(), [kept.0.to_vec()]);
    }
}
