//! One task at a time receives, removes or publishes an artifact.
//!
//! Receiving lasts as long as a download, and a second receiver is refused. Removing and publishing
//! are short, and others wait for their end.

use std::sync::{MutexGuard, PoisonError};

use crate::base::Blake3;
use crate::store::blobs::Inner;
use crate::store::error::StoreError;
use crate::store::quota::{Claim, Ledger};

/// Who made an artifact visible.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Published {
    /// This task.
    Now,
    /// Another one, before.
    Before,
}

/// One task makes an artifact visible; ends when it is dropped.
struct Publishing<'a>(&'a Inner, Blake3);

impl<'a> Publishing<'a> {
    fn begin(inner: &'a Inner, digest: Blake3) -> Self {
        inner.wait_until_free(&digest).begin_publish(digest);
        Self(inner, digest)
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.0.ledger().end_publish(&self.1);
        self.0.freed.notify_all();
    }
}

/// An artifact that this task has claimed to remove it; free again when it is dropped, whatever
/// happened. One that stayed claimed would be neither readable nor removable until a restart, and
/// who wants to claim or to publish it would wait for ever.
pub(crate) struct Removing<'a>(&'a Inner, Blake3);

impl Removing<'_> {
    pub(crate) fn digest(&self) -> Blake3 {
        self.1
    }
}

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        self.0.unclaim(&self.1);
    }
}

impl Inner {
    /// Claims an artifact to remove it, pinned or read as it may be. Waits as [`Inner::claim`] does.
    ///
    /// # Errors
    ///
    /// As for [`Inner::claim`].
    pub(crate) fn claim_to_remove(&self, digest: Blake3) -> Result<Removing<'_>, StoreError> {
        self.claim(digest, Claim::Remove)?;
        Ok(Removing(self, digest))
    }

    /// Claims an artifact for eviction; `None` if another task has claimed it or is reading it.
    pub(crate) fn claim_to_evict(&self, digest: Blake3) -> Option<Removing<'_>> {
        let is_claimed = self.ledger().claim_unread(digest);
        is_claimed.then(|| Removing(self, digest))
    }

    /// Claims an artifact. Waits while another task removes or publishes it: for a commit and some
    /// syncs.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] if another task is receiving it.
    pub(crate) fn claim(&self, digest: Blake3, claim: Claim) -> Result<(), StoreError> {
        let mut ledger = self.wait_until_free(&digest);
        if ledger.claim(digest, claim) {
            return Ok(());
        }
        Err(StoreError::InUse(digest))
    }

    pub(crate) fn unclaim(&self, digest: &Blake3) {
        self.ledger().unclaim(digest);
        self.freed.notify_all();
    }

    /// Calls `publish` unless the artifact is stored already. Two tasks may have received the same
    /// bytes: the second one waits for the first.
    ///
    /// # Errors
    ///
    /// What `publish` says, or [`StoreError`] if the database cannot be read.
    pub(crate) fn publish_once(
        &self,
        digest: &Blake3,
        publish: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<Published, StoreError> {
        let _publishing = Publishing::begin(self, *digest);
        match self.record(digest)? {
            Some(_) => Ok(Published::Before),
            None => publish().map(|()| Published::Now),
        }
    }

    fn wait_until_free(&self, digest: &Blake3) -> MutexGuard<'_, Ledger> {
        self.freed
            .wait_while(self.ledger(), |it| it.is_soon_free(digest))
            .unwrap_or_else(PoisonError::into_inner)
    }
}
