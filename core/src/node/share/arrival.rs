//! An artifact on its way to the disk, readable as far as it has come.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use event_listener::Event;

use crate::base::{Blake3, Sha256};
use crate::node::share::fetch::FetchError;
use crate::proto::exchange::group::{GROUP_BYTES, Piece, byte_range};
use crate::proto::exchange::verify::Verified;
use crate::proto::schedule::Ranges;
use crate::store::{Staging, StoreError};

/// The artifact and what has come of it.
pub(crate) struct Arrival {
    root: Blake3,
    size: u64,
    sha256: Sha256,
    /// `None` once it is finished or given up.
    staging: RwLock<Option<Staging>>,
    state: Mutex<State>,
    /// Groups came, or it ended: for readers.
    changed: Event,
    /// A reader waits for another byte, or it ended: for the driver.
    wants: Event,
}

struct State {
    /// Groups that are verified and written; readable, not necessarily durable.
    have: Ranges,
    /// Those of them that would survive a crash; only these are given to peers.
    durable: Ranges,
    /// The byte that a reader waits for.
    wanted: Option<u64>,
    end: Option<Result<(), FetchError>>,
}

impl Arrival {
    /// An artifact of which `staging` may hold groups from an earlier attempt.
    pub(crate) fn new(root: Blake3, size: u64, sha256: Sha256, staging: Staging) -> Arc<Self> {
        let mut have = Ranges::new();
        staging.groups().into_iter().for_each(|it| have.insert(it));
        Arc::new(Self {
            root,
            size,
            sha256,
            staging: RwLock::new(Some(staging)),
            state: Mutex::new(State {
                durable: have.clone(),
                have,
                wanted: None,
                end: None,
            }),
            changed: Event::new(),
            wants: Event::new(),
        })
    }

    pub(crate) fn root(&self) -> Blake3 {
        self.root
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn have(&self) -> Ranges {
        self.state().have.clone()
    }

    /// Bytes that are verified and written.
    pub(crate) fn bytes(&self) -> u64 {
        let runs = self.have();
        let runs = runs.iter().map(|it| byte_range(self.size, &it));
        runs.map(|it| it.end - it.start).sum()
    }

    /// How it ended, if it did.
    pub(crate) fn end(&self) -> Option<Result<(), FetchError>> {
        self.state().end.clone()
    }

    /// Writes verified pieces; they become readable. Returns the bytes that were not here before.
    /// Blocks on the disk.
    pub(crate) fn write(&self, pieces: Vec<Verified<Vec<u8>>>) -> Result<u64, StoreError> {
        let staging = self.staging();
        let Some(staging) = staging.as_ref() else {
            return Ok(0); // Finished meanwhile: a group that came twice.
        };
        let mut groups = Ranges::new();
        for piece in pieces {
            match piece {
                Verified::Node(node) => staging.write_outboard_at(node.offset(), node.bytes())?,
                Verified::Group(group) => {
                    staging.write_at(group.offset(), group.bytes())?;
                    groups.insert(group.index()..group.index() + 1);
                }
            }
        }
        let mut state = self.state();
        let mut fresh = 0;
        for run in groups.iter() {
            staging.mark(run.clone());
            let known = state.have.intersect(&Ranges::from(run.clone()));
            let bytes = |it: Range<u64>| {
                let bytes = byte_range(self.size, &it);
                bytes.end - bytes.start
            };
            fresh += bytes(run.clone()) - known.iter().map(bytes).sum::<u64>();
            state.have.insert(run);
        }
        drop(state);
        self.changed.notify(usize::MAX);
        Ok(fresh)
    }

    /// Makes what was written so far survive a crash, and says what that is. Blocks on the disk.
    pub(crate) fn checkpoint(&self) -> Result<Ranges, StoreError> {
        let have = self.have();
        let staging = self.staging();
        staging.as_ref().map_or(Ok(()), Staging::checkpoint)?;
        self.state().durable = have.clone();
        Ok(have)
    }

    /// The groups that would survive a crash.
    pub(crate) fn durable(&self) -> Ranges {
        self.state().durable.clone()
    }

    /// Makes the artifact visible in the store; readers go on meanwhile. Blocks on the disk.
    pub(crate) fn finish(&self) -> Result<(), StoreError> {
        let publish = |it: &Staging| it.publish(self.sha256);
        self.staging().as_ref().map_or(Ok(()), publish)?;
        let staging = self.staging.write();
        drop(staging.unwrap_or_else(PoisonError::into_inner).take());
        Ok(())
    }

    /// Whether [`Arrival::finish`] was here.
    pub(crate) fn is_finished(&self) -> bool {
        self.staging().is_none()
    }

    /// Ends the arrival for its readers. What is durable stays for a later attempt.
    pub(crate) fn close(&self, end: Result<(), FetchError>) {
        if end.is_err() {
            self.staging
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
        }
        self.state().end.get_or_insert(end);
        self.changed.notify(usize::MAX);
        self.wants.notify(usize::MAX);
    }

    /// Waits until the byte at `offset` is readable; true if the artifact is in the store instead.
    pub(crate) async fn wait_for(&self, offset: u64) -> Result<bool, FetchError> {
        loop {
            let changed = self.changed.listen();
            {
                let mut state = self.state();
                match &state.end {
                    Some(Ok(())) => return Ok(true),
                    Some(Err(error)) => return Err(error.clone()),
                    None if state.have.contains(offset / GROUP_BYTES as u64) => return Ok(false),
                    None if state.wanted != Some(offset) => {
                        state.wanted = Some(offset);
                        self.wants.notify(usize::MAX);
                    }
                    None => (),
                }
            }
            changed.await;
        }
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> Result<(), FetchError> {
        loop {
            let changed = self.changed.listen();
            if let Some(end) = self.end() {
                return end;
            }
            changed.await;
        }
    }

    /// Waits until a reader wants another byte than `known`; `None` if it ended instead.
    pub(crate) async fn wanted_other_than(&self, known: Option<u64>) -> Option<u64> {
        loop {
            let wants = self.wants.listen();
            {
                let state = self.state();
                if state.end.is_some() {
                    return None;
                }
                if state.wanted != known {
                    return state.wanted;
                }
            }
            wants.await;
        }
    }

    /// Reads bytes that have come, from `offset` on; `None` if it was finished meanwhile. Blocks on
    /// the disk.
    pub(crate) fn read_at(
        &self,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, StoreError> {
        let readable = self.readable(offset);
        let len = buffer
            .len()
            .min(usize::try_from(readable).unwrap_or(usize::MAX));
        let staging = self.staging();
        let Some(staging) = staging.as_ref() else {
            return Ok(None);
        };
        staging
            .read_at(offset, buffer.get_mut(..len).unwrap_or_default())
            .map(Some)
    }

    /// Reads a piece for a peer; `None` if the artifact was finished meanwhile. Blocks on the disk.
    pub(crate) fn read_piece(
        &self,
        piece: &Piece,
        target: &mut [u8],
    ) -> Result<Option<usize>, StoreError> {
        let staging = self.staging();
        let Some(staging) = staging.as_ref() else {
            return Ok(None);
        };
        match piece {
            Piece::Node { offset, .. } => staging.read_outboard_at(*offset, target),
            Piece::Group { offset, .. } => staging.read_at(*offset, target),
        }
        .map(Some)
    }

    /// Bytes from `offset` on that have come without a gap.
    fn readable(&self, offset: u64) -> u64 {
        let state = self.state();
        let group = offset / GROUP_BYTES as u64;
        let run = state.have.iter().find(|it| it.contains(&group));
        run.map_or(0, |it| {
            byte_range(self.size, &it).end.saturating_sub(offset)
        })
    }

    fn staging(&self) -> RwLockReadGuard<'_, Option<Staging>> {
        self.staging.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, Wake};

    use super::*;
    use crate::store::{Options, Store};

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_driver_is_woken_by_a_reader_and_by_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path(), Options::default()).unwrap();
        let (root, size) = (Blake3::of(b"abc"), 3);
        let staging = store.blobs().begin(root, size).unwrap().unwrap();
        let arrival = Arrival::new(root, size, Sha256::of(b"abc"), staging);
        let (woken, idle) = (Arc::new(Flag::default()), Arc::new(Flag::default()).into());
        let (waker, mut other) = (woken.clone().into(), Context::from_waker(&idle));
        let mut context = Context::from_waker(&waker);
        let is_woken = || woken.0.swap(false, Ordering::SeqCst);

        let mut reader = pin!(arrival.wait_for(2));
        let mut driver = pin!(arrival.wanted_other_than(None));
        assert_eq!(driver.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(reader.as_mut().poll(&mut other), Poll::Pending);
        assert!(is_woken());
        assert_eq!(driver.poll(&mut context), Poll::Ready(Some(2)));

        let mut driver = pin!(arrival.wanted_other_than(Some(2)));
        assert_eq!(driver.as_mut().poll(&mut context), Poll::Pending);
        arrival.close(Err(FetchError::Closed));
        assert!(is_woken());
        assert_eq!(driver.poll(&mut context), Poll::Ready(None));
        let closed = Poll::Ready(Err(FetchError::Closed));
        assert_eq!(reader.poll(&mut other), closed);
    }
}
