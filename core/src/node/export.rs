//! Getting a stored artifact out: to a path, or as an open file.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, RenameFlags, ioctl_ficlone, renameat_with};

use crate::base::hex;
use crate::node::artifact::{Artifact, Content};
use crate::store::Blob;

/// Bytes that are read and written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Bytes that are copied between two looks at whether the copy is still wanted.
const COPY_BYTES: u64 = 16 << 20;

/// How [`Artifact::save`] may put a file in its place. The default copies, and replaces nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SaveOptions {
    /// Replace what is there; otherwise that is an error of kind `AlreadyExists`.
    pub replace: bool,
    /// Share the bytes with the store where the file system can do that (copy on write).
    pub reflink: bool,
    /// Be another name of the store's own file where that is on the same file system. Who writes
    /// to such a file damages the store.
    pub hard_link: bool,
}

/// How a file was put in its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Placement {
    /// It has its own bytes.
    Copied,
    /// It shares the bytes until either is written to.
    Reflinked,
    /// It is another name of the store's file.
    Linked,
}

impl Artifact {
    /// Bytes that are here and verified, of [`Artifact::size`].
    pub fn progress(&self) -> u64 {
        match &self.source {
            Content::Stored(_) => self.size(),
            Content::Arriving(arrival) if matches!(arrival.end(), Some(Ok(()))) => self.size(),
            Content::Arriving(arrival) => arrival.bytes(),
        }
    }

    /// Bytes that were here, verified, when it was opened; the others of [`Artifact::progress`] came
    /// from peers since.
    pub fn had(&self) -> u64 {
        self.had
    }

    /// Waits until the whole artifact is stored, and makes it the file `path`. The file appears
    /// whole or not at all, and not after this future was dropped.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] naming the path, or why the artifact does not come.
    pub async fn save(&self, path: &Path, options: SaveOptions) -> io::Result<Placement> {
        let blob = self.blob().await?;
        let (path, shown) = (path.to_owned(), path.display().to_string());
        let wish = Wish::default();
        let _asking = Asking(wish.clone());
        let place = move || place(&blob, &path, options, &wish);
        let placed = self.node.0.pool.run(place).await;
        placed
            .map_err(io::Error::other)?
            .map_err(|it| io::Error::new(it.kind(), Named(shown, it)))
    }

    /// The store's own file of the artifact, opened for reading only, once it is whole; `None` if
    /// it is too small to have one (its bytes are in the database).
    ///
    /// # Errors
    ///
    /// An [`io::Error`] that says why the artifact does not come.
    pub async fn file(&self) -> io::Result<Option<File>> {
        let blob = self.blob().await?;
        let open = move || blob.path().map(File::open).transpose();
        self.node.0.pool.run(open).await.map_err(io::Error::other)?
    }

    /// Writes the bytes of `range` to `sink` as they come, on a thread for blocking calls, and
    /// gives the sink back. What lies behind the end is left out.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] of the sink, or that says why the artifact does not come.
    pub async fn copy_to<W: Write + Send + 'static>(
        &self,
        range: Range<u64>,
        mut sink: W,
    ) -> io::Result<W> {
        let (mut at, end) = (range.start, range.end.min(self.size()));
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let bytes = self.read(at, left.min(CHUNK_BYTES)).await?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += bytes.len() as u64;
            let write = move || sink.write_all(&bytes).map(|()| sink);
            let written = self.node.0.pool.run(write).await;
            sink = written.map_err(io::Error::other)??;
        }
        Ok(sink)
    }

    /// The stored artifact, once it is whole.
    async fn blob(&self) -> io::Result<Arc<Blob>> {
        if let Content::Stored(blob) = &self.source {
            return Ok(blob.clone());
        }
        self.complete().await.map_err(io::Error::other)?;
        let (store, root) = (self.node.0.store.clone(), self.entry.blake3);
        let open = move || store.blobs().open(&root);
        let blob = self.node.0.pool.run(open).await.map_err(io::Error::other)?;
        let blob = blob.map_err(io::Error::other)?;
        let blob = blob.ok_or_else(|| io::Error::other("the artifact was evicted meanwhile"))?;
        Ok(Arc::new(blob))
    }
}

/// An error with the path it is about.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {1}")]
struct Named(String, #[source] io::Error);

/// Whether somebody still wants a file: work on another thread goes on when its future is dropped.
#[derive(Clone, Debug, Default)]
struct Wish(Arc<Mutex<IsGivenUp>>);

type IsGivenUp = bool;

impl Wish {
    /// While this is held, the wish cannot be given up.
    ///
    /// # Errors
    ///
    /// `Interrupted` if it was given up.
    fn hold(&self) -> io::Result<MutexGuard<'_, IsGivenUp>> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *state {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(state)
    }
}

/// Gives the wish up when it is dropped.
struct Asking(Wish);

impl Drop for Asking {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// Puts the artifact in its place by way of a file of another name beside it. Blocks.
fn place(blob: &Blob, path: &Path, options: SaveOptions, wish: &Wish) -> io::Result<Placement> {
    if !options.replace && fs::symlink_metadata(path).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let drafted = Draft::beside(blob, path, options, wish);
    let (draft, placement) = drafted.map_err(|it| match it.kind() {
        // Not to be taken for an artifact that is not found.
        io::ErrorKind::NotFound => io::Error::new(io::ErrorKind::NotADirectory, it),
        _ => it,
    })?;
    // For no longer than it takes to rename a file.
    let _held = wish.hold()?;
    if options.replace {
        // Of two names of one file this removes neither: the draft goes when it is dropped.
        fs::rename(&draft.0, path)?;
    } else {
        move_to_free(&draft.0, path)?;
    }
    Ok(placement)
}

/// Renames, unless there is something already.
fn move_to_free(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Not every file system can; a second name is refused as well if the place is taken.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => fs::hard_link(from, to),
        Err(it) => Err(it.into()),
    }
}

/// A file that this call made under a name that nobody can guess. Whatever is left under that name
/// is removed.
struct Draft(PathBuf);

impl Draft {
    fn beside(
        blob: &Blob,
        path: &Path,
        options: SaveOptions,
        wish: &Wish,
    ) -> io::Result<(Self, Placement)> {
        path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|it| io::Error::other(it.to_string()))?;
        let draft = path.with_file_name(format!(".kogge-{}", hex::encode(&seed)));
        let stored = blob.path();
        let from = stored.map(File::open).transpose()?;
        if let Some(from) = &from {
            check_len(from, blob)?;
        }
        if let Some(stored) = stored.filter(|_| options.hard_link)
            && fs::hard_link(stored, &draft).is_ok()
        {
            return Ok((Self(draft), Placement::Linked));
        }
        // What is there already is nobody's business here: neither followed nor removed.
        let mut to = File::create_new(&draft)?;
        let this = Self(draft);
        let Some(mut from) = from else {
            let mut bytes = vec![0; usize::try_from(blob.size()).unwrap_or(0)];
            blob.read_at(0, &mut bytes).map_err(io::Error::other)?;
            to.write_all(&bytes)?;
            to.sync_data()?;
            return Ok((this, Placement::Copied));
        };
        if options.reflink && ioctl_ficlone(&to, &from).is_ok() {
            return Ok((this, Placement::Reflinked));
        }
        copy(blob, &mut from, &mut to, wish)?;
        to.sync_data()?;
        Ok((this, Placement::Copied))
    }
}

/// Copies the bytes of a stored file, as long as somebody wants them.
fn copy(blob: &Blob, from: &mut File, to: &mut File, wish: &Wish) -> io::Result<()> {
    let mut done = 0;
    while done < blob.size() {
        drop(wish.hold()?);
        let step = COPY_BYTES.min(blob.size() - done);
        // Copies inside the kernel where it can.
        match io::copy(&mut Read::take(&mut *from, step), to)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => done += count,
        }
    }
    // It may have changed meanwhile.
    check_len(from, blob)
}

/// Refuses a stored file that somebody has cut or lengthened.
fn check_len(file: &File, blob: &Blob) -> io::Result<()> {
    let (len, size) = (file.metadata()?.len(), blob.size());
    if len == size {
        return Ok(());
    }
    let problem = format!("the stored file has {len} bytes, the artifact {size}");
    Err(io::Error::new(io::ErrorKind::InvalidData, problem))
}

impl Drop for Draft {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::base::{Blake3, Sha256};
    use crate::store::{Options, Store};

    fn stored(store: &Store, bytes: &[u8]) -> Blob {
        let staging = store.blobs().begin_unnamed(bytes.len() as u64).unwrap();
        staging.write_at(0, bytes).unwrap();
        let (blake3, sha256) = (Blake3::of(bytes), Sha256::of(bytes));
        staging.finish(blake3, sha256, bytes.len() as u64).unwrap();
        store.blobs().open(&blake3).unwrap().unwrap()
    }

    #[test]
    fn a_file_is_placed_in_each_way_and_replaces_only_if_told() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&folder.path().join("store"), Options::default()).unwrap();
        let big: Vec<u8> = (0..100_000_u32).map(|it| it.to_le_bytes()[0]).collect();
        let link = SaveOptions {
            hard_link: true,
            ..SaveOptions::default()
        };
        for (bytes, linked) in [(&big[..], Placement::Linked), (b"tiny", Placement::Copied)] {
            let blob = stored(&store, bytes);
            let path = folder.path().join(format!("out-{}", bytes.len()));
            let plain = SaveOptions::default();
            assert_eq!(
                place(&blob, &path, plain, &Wish::default()).unwrap(),
                Placement::Copied
            );
            assert_eq!(fs::read(&path).unwrap(), bytes);

            let again = place(&blob, &path, plain, &Wish::default()).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
            fs::write(&path, "other").unwrap();
            let replace = SaveOptions {
                replace: true,
                reflink: true,
                ..link
            };
            assert_eq!(
                place(&blob, &path, replace, &Wish::default()).unwrap(),
                linked
            );
            assert_eq!(fs::read(&path).unwrap(), bytes);
            let names = if linked == Placement::Linked { 2 } else { 1 };
            assert_eq!(fs::metadata(&path).unwrap().nlink(), names);
            // Onto another name of the same file, too.
            assert_eq!(
                place(&blob, &path, replace, &Wish::default()).unwrap(),
                linked
            );
            assert_eq!(fs::metadata(&path).unwrap().nlink(), names);
        }
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 3, "the store and two files, no drafts");
    }

    #[test]
    fn a_link_in_the_way_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&folder.path().join("store"), Options::default()).unwrap();
        let blob = stored(&store, b"tiny");
        let (path, other) = (folder.path().join("out"), folder.path().join("other"));
        fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(place(&blob, &path, SaveOptions::default(), &Wish::default()).is_err());
        let replace = SaveOptions {
            replace: true,
            ..SaveOptions::default()
        };
        place(&blob, &path, replace, &Wish::default()).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"precious");
        assert_eq!(fs::read(&path).unwrap(), b"tiny");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn a_folder_that_is_missing_is_an_error_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&folder.path().join("store"), Options::default()).unwrap();
        let blob = stored(&store, b"tiny");
        let long = "x".repeat(300);
        for path in ["nowhere/out", "", "..", &long] {
            let path = folder.path().join(path);
            assert!(place(&blob, &path, SaveOptions::default(), &Wish::default()).is_err());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_not_wanted_any_more_does_not_appear() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&folder.path().join("store"), Options::default()).unwrap();
        let blob = stored(&store, &[7; 100_000]);
        let wish = Wish::default();
        drop(Asking(wish.clone()));
        for hard_link in [false, true] {
            let options = SaveOptions {
                hard_link,
                ..SaveOptions::default()
            };
            let refused = place(&blob, &folder.path().join("out"), options, &wish).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::Interrupted);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_stored_file_of_another_length_is_not_given_out() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&folder.path().join("store"), Options::default()).unwrap();
        let size: u64 = 100_000;
        let blob = stored(&store, &[7; 100_000]);
        let file = File::options().write(true).open(blob.path().unwrap());
        let (file, path) = (file.unwrap(), folder.path().join("out"));
        let wish = Wish::default();
        for len in [0, 1, size - 1, size + 1, 2 * size] {
            file.set_len(len).unwrap();
            for is_link in [false, true] {
                let options = SaveOptions {
                    hard_link: is_link,
                    ..SaveOptions::default()
                };
                let refused = place(&blob, &path, options, &wish).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{len}");
                assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
            }
            // As if it had changed after the first look at it.
            let mut from = File::open(blob.path().unwrap()).unwrap();
            let mut to = tempfile::tempfile().unwrap();
            assert!(copy(&blob, &mut from, &mut to, &wish).is_err());
            assert_eq!(to.metadata().unwrap().len(), len.min(size));
        }
        file.set_len(size).unwrap();
        let placed = place(&blob, &path, SaveOptions::default(), &wish);
        assert_eq!(placed.unwrap(), Placement::Copied);
    }
}
