//! The transparency log: entries, queries, proofs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_channel::{Receiver, Sender};
use kogge::{Log, Node, Query, Row, What};

use crate::failure::Failure;
use crate::guard::{call, value};
use crate::handle;
use crate::host::Host;
use crate::input::{out, structure, text, text_if_any};
use crate::object::Object;
use crate::op::{Op, Outcome};
use crate::rows::{Rows, give_rows};
use crate::start::{finish, give_buffer, start};
use crate::status::kogge_status;
use crate::thread;
use crate::types::{
    kogge_buffer, kogge_completion, kogge_cursor, kogge_error, kogge_name, kogge_node, kogge_op,
    kogge_rows, kogge_str,
};

/// A query of a node.
pub(crate) struct Cursor {
    host: Arc<Host>,
    search: Search,
}

/// A query, and where it stands.
struct Search {
    state: Mutex<Asking>,
    /// Holds one turn: who searches takes it out.
    turn: (Sender<()>, Receiver<()>),
}

struct Asking {
    query: Query,
    is_over: bool,
}

impl Search {
    fn new(query: Query) -> Self {
        let turn = async_channel::bounded(1);
        let _ = turn.0.try_send(());
        let state = Mutex::new(Asking {
            query,
            is_over: false,
        });
        Self { state, turn }
    }

    /// The next entries; `None` after the last. Dropping the future loses no more than the page that
    /// is being read.
    ///
    /// # Errors
    ///
    /// `Closed` if the node is closed, or what the store says.
    async fn next(&self, node: &Node) -> Result<Option<Arc<Rows>>, Failure> {
        struct Turn<'a>(&'a Sender<()>);
        impl Drop for Turn<'_> {
            fn drop(&mut self) {
                let _ = self.0.try_send(());
            }
        }
        // Two searches at a time would find the same entries.
        let _ = self.turn.1.recv().await;
        let _turn = Turn(&self.turn.0);
        while let Some(query) = self.rest() {
            let page = node.find(query).await?;
            let mut asking = self.asking();
            match page.next {
                Some(next) => asking.query.after = Some(next),
                None => asking.is_over = true,
            }
            if !page.rows.is_empty() {
                return Ok(Some(Arc::new(Rows(page.rows))));
            }
        }
        Ok(None)
    }

    /// The query from here on; `None` after the last entry.
    fn rest(&self) -> Option<Query> {
        let asking = self.asking();
        (!asking.is_over).then(|| asking.query.clone())
    }

    /// What to pass as `after=` to go on from here; empty after the last.
    fn token(&self) -> String {
        let after = self.rest().and_then(|it| it.after);
        after.map_or_else(String::new, |it| it.to_string())
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name as `kogge_name` gives it.
pub(crate) struct Name {
    pub(crate) what: What,
    pub(crate) file: Option<String>,
}

impl Name {
    /// # Safety
    ///
    /// The texts of `name` are as their types say.
    pub(crate) unsafe fn of(name: &kogge_name) -> Result<Self, Failure> {
        // SAFETY: as the caller promises.
        let (what, file) = unsafe { (text("what", name.what)?, text_if_any("file", name.file)?) };
        let what = what.parse();
        let what = what.map_err(|it| Failure::of(kogge_status::InvalidArgument, &it))?;
        Ok(Self { what, file })
    }

    /// Entries of what is named.
    ///
    /// # Errors
    ///
    /// `NotFound` if the log has none.
    fn rows(&self, log: &Log) -> Result<Arc<Rows>, Failure> {
        let found = log.resolve(&self.what)?;
        let wanted = |it: &str| self.file.as_deref().is_none_or(|file| is_file(it, file));
        let rows = found.iter().filter(|it| wanted(&it.1.file));
        let rows: Vec<Row> = rows.map(|it| log.entry(it.0)).collect::<Result<_, _>>()?;
        if rows.is_empty() {
            return Err(absent());
        }
        Ok(Arc::new(Rows(rows)))
    }
}

/// Whether a file of a package is meant by `name`: its whole name or the part after the last slash.
pub(crate) fn is_file(file: &str, name: &str) -> bool {
    file == name || file.rsplit('/').next() == Some(name)
}

pub(crate) fn absent() -> Failure {
    let message = "the log does not have it; if the node is live, ask for its build";
    Failure::new(kogge_status::NotFound, message)
}

fn rows_of(outcome: Outcome) -> Result<Option<Arc<Rows>>, Outcome> {
    match outcome {
        Outcome::Rows(it) => Ok(it),
        other => Err(other),
    }
}

/// The entries of what `name` names: one for a digest or a file, else all files of the package
/// version. `KOGGE_STATUS_NOT_FOUND` if the log has none: see `kogge_node_live`. Free the rows with
/// `kogge_rows_free`.
///
/// # Safety
///
/// `name` is as its type says; `rows_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_resolve(
    node: *mut kogge_node,
    name: *const kogge_name,
    rows_out: *mut *mut kogge_rows,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let target = out("rows_out", rows_out)?;
        // SAFETY: as the caller promises.
        let name = unsafe { Name::of(&structure("name", name)?)? };
        let node = host.node()?;
        let rows = name.rows(&node.log())?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_rows(target, Some(rows)) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Begins a query of the log. `query` has terms `name=value`, divided by spaces, that must all hold, as
/// for `kogge log find`: package, purl, file, digest, publisher, node, source, commit, dependency,
/// subject, tag, kind, since, until; and order (`newest`, `oldest`), limit (entries at once, at most
/// 1,000), after (a token, to go on with a query of the same filters). Free the cursor with
/// `kogge_cursor_free`.
///
/// # Safety
///
/// `query` is as its type says; `cursor_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_log_query_open(
    node: *mut kogge_node,
    query: kogge_str,
    cursor_out: *mut *mut kogge_cursor,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let target = out("cursor_out", cursor_out)?;
        host.check_open()?;
        // SAFETY: as the caller promises.
        let query: Query = unsafe { text("query", query)? }.parse()?;
        let search = Search::new(query);
        let handle = handle::put(Object::Cursor(Arc::new(Cursor { host, search })))?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { target.write(handle.cast()) };
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// The next entries; `KOGGE_STATUS_END` after the last. What the log gained since the first call is not
/// seen. A query that few entries match takes long in a long log; if the time is up, a later call goes
/// on from where this one came. Calls at the same time take turns.
///
/// # Safety
///
/// `rows_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_cursor_next(
    cursor: *mut kogge_cursor,
    timeout_ms: u64,
    rows_out: *mut *mut kogge_rows,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let cursor = handle::get::<Arc<Cursor>>(cursor.cast())?;
        let target = out("rows_out", rows_out)?;
        let node = cursor.host.node()?;
        let rows = cursor
            .host
            .wait(thread::deadline(timeout_ms), cursor.search.next(&node))?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_rows(target, rows) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Starts to get the next entries.
///
/// # Safety
///
/// `completion` is NULL or as its type says; `op_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_cursor_next_start(
    cursor: *mut kogge_cursor,
    completion: *const kogge_completion,
    op_out: *mut *mut kogge_op,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let cursor = handle::get::<Arc<Cursor>>(cursor.cast())?;
        let (host, node) = (cursor.host.clone(), cursor.host.node()?);
        let work = |_: &Arc<Op>| async move { Ok(Outcome::Rows(cursor.search.next(&node).await?)) };
        // SAFETY: as the caller promises.
        unsafe { start(&host, completion, op_out, work) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Takes the entries; `KOGGE_STATUS_END` after the last.
///
/// # Safety
///
/// `rows_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_cursor_next_finish(
    op: *mut kogge_op,
    rows_out: *mut *mut kogge_rows,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let target = out("rows_out", rows_out)?;
        let rows = finish(op, rows_of)?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_rows(target, rows) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Where a later query goes on, in this process or another: the value of `after=`. Empty after the
/// last entry, and before the first was asked for.
///
/// # Safety
///
/// `token_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_cursor_take_token(
    cursor: *mut kogge_cursor,
    token_out: *mut *mut kogge_buffer,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let cursor = handle::get::<Arc<Cursor>>(cursor.cast())?;
        let target = out("token_out", token_out)?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_buffer(target, Arc::new(cursor.search.token().into_bytes())) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Frees a cursor. Does nothing with NULL and stale handles.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_cursor_free(cursor: *mut kogge_cursor) {
    value((), || drop(handle::take::<Arc<Cursor>>(cursor.cast())));
}

/// Gives what `read` finds in the log as a buffer.
///
/// # Safety
///
/// `target` and `error` are writable or NULL.
unsafe fn document(
    node: *mut kogge_node,
    target: *mut *mut kogge_buffer,
    error: *mut *mut kogge_error,
    read: impl FnOnce(&Log) -> Result<Vec<u8>, Failure>,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let target = out("the output", target)?;
        let node = host.node()?;
        let bytes = read(&node.log())?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_buffer(target, Arc::new(bytes)) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// The newest checkpoint: a signed note (C2SP) with the cosignatures of a quorum.
/// `KOGGE_STATUS_AGAIN` if there is none yet.
///
/// # Safety
///
/// `note_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_log_checkpoint(
    node: *mut kogge_node,
    note_out: *mut *mut kogge_buffer,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let read = |log: &Log| {
        let none = || Failure::new(kogge_status::Again, "no checkpoint is cosigned yet");
        Ok(log.checkpoint().ok_or_else(none)?.into_bytes())
    };
    // SAFETY: as the caller promises.
    unsafe { document(node, note_out, error, read) }
}

/// Whose signatures make a checkpoint of this network: a policy (c2sp.org/tlog-policy), for
/// `kogge_verify_*` on machines without a node.
///
/// # Safety
///
/// `policy_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_log_policy(
    node: *mut kogge_node,
    policy_out: *mut *mut kogge_buffer,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let read = |log: &Log| Ok(log.policy().into_bytes());
    // SAFETY: as the caller promises.
    unsafe { document(node, policy_out, error, read) }
}

/// That entry `index` is in the log (RFC 6962): JSON with `index`, `size`, `root` and `path`, under
/// the newest checkpoint that covers it.
///
/// # Safety
///
/// `json_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_log_prove(
    node: *mut kogge_node,
    index: u64,
    json_out: *mut *mut kogge_buffer,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let read = |log: &Log| {
        let proof = serde_json::to_vec(&log.proof(index)?);
        proof.map_err(|it| Failure::of(kogge_status::Io, &it))
    };
    // SAFETY: as the caller promises.
    unsafe { document(node, json_out, error, read) }
}

/// The waybill of entry `index` (c2sp.org/tlog-proof): proves offline that it is in the log, with
/// `kogge_verify_*` or `kogge verify`. `KOGGE_STATUS_AGAIN` if no checkpoint covers it yet.
///
/// # Safety
///
/// `waybill_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_log_waybill(
    node: *mut kogge_node,
    index: u64,
    waybill_out: *mut *mut kogge_buffer,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let read = |log: &Log| Ok(log.waybill(index)?.into_bytes());
    // SAFETY: as the caller promises.
    unsafe { document(node, waybill_out, error, read) }
}

#[cfg(test)]
mod tests {
    use futures_lite::future;

    use super::*;

    #[test]
    fn a_search_runs_on_the_pool_of_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = kogge::Config::new(folder.path());
        config.listen.clear();
        let network = kogge::Network::StoredOrSolo;
        let start = async { Ok::<_, Failure>(Node::start(config, network).await?) };
        let node = future::block_on(start).unwrap();
        let search = Search::new("limit=1".parse().unwrap());
        // Forgotten in the middle, be it that it waits for its turn or for the pool.
        drop(future::block_on(future::poll_once(search.next(&node))));
        assert!(future::block_on(search.next(&node)).unwrap().is_none());

        let search = Search::new("limit=1".parse().unwrap());
        future::block_on(node.shutdown());
        // The store is still there, the pool is not.
        let closed = future::block_on(search.next(&node)).err();
        assert_eq!(closed.map(|it| it.status), Some(kogge_status::Closed));
    }

    #[test]
    fn a_file_is_named_in_full_or_by_its_last_part() {
        for (name, expected) in [
            ("manifest/x.json", true),
            ("x.json", true),
            ("manifest", false),
            ("", false),
        ] {
            assert_eq!(is_file("manifest/x.json", name), expected, "{name}");
        }
    }
}
