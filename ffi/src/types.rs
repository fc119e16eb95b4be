//! The C types: views, opaque handles, callbacks, and the structs that cross.
//!
//! A handle is a number in a pointer's clothes (see `handle.rs`): the types behind the pointers have
//! no size, and nothing is ever read through them.

#![expect(non_camel_case_types, reason = "the names of C types")]

use std::ffi::{c_char, c_void};

use safer_ffi::prelude::derive_ReprC;

use crate::status::kogge_status;

/// Borrowed UTF-8 text, not terminated. As a parameter it is valid until the call returns, in a
/// callback until the callback returns, from a getter as long as the object it was asked of.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kogge_str {
    /// The first byte. If `len` is 0 it may be NULL, and from the library it is.
    pub ptr: *const c_char,
    /// Length. Unit: bytes.
    pub len: usize,
}

/// Borrowed bytes, valid as `kogge_str` is.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kogge_bytes {
    /// The first byte. If `len` is 0 it may be NULL, and from the library it is.
    pub ptr: *const u8,
    /// Length. Unit: bytes.
    pub len: usize,
}

impl kogge_str {
    /// Nothing is NULL: some runtimes refuse pointers to nowhere.
    pub(crate) const fn of(text: &str) -> Self {
        let ptr = match text.is_empty() {
            true => std::ptr::null(),
            false => text.as_ptr().cast(),
        };
        Self {
            ptr,
            len: text.len(),
        }
    }
}

impl kogge_bytes {
    /// Nothing is NULL, as for texts.
    pub(crate) const fn of(bytes: &[u8]) -> Self {
        let ptr = match bytes.is_empty() {
            true => std::ptr::null(),
            false => bytes.as_ptr(),
        };
        Self {
            ptr,
            len: bytes.len(),
        }
    }
}

/// What failed: a code, a message, causes.
#[derive_ReprC]
#[repr(opaque)]
pub struct kogge_error {
    _private: [u8; 0],
}

/// Bytes that do not change, shared without copying.
#[derive_ReprC]
#[repr(opaque)]
pub struct kogge_buffer {
    _private: [u8; 0],
}

/// How a node is to be opened. One thread at a time.
#[derive_ReprC]
#[repr(opaque)]
pub struct kogge_config {
    _private: [u8; 0],
}

/// A running node.
#[derive_ReprC]
#[repr(opaque)]
pub struct kogge_node {
    _private: [u8; 0],
}

/// Something that was started and has an end.
#[derive_ReprC]
#[repr(opaque)]
pub struct kogge_op {
    _private: [u8; 0],
}

/// Where ends of operations are collected, with a descriptor to poll.
#[derive_ReprC]
#[repr(opaque)]
pub struct kogge_queue {
    _private: [u8; 0],
}

/// An artifact that is read while it arrives.
#[derive_ReprC]
#[repr(opaque)]
pub struct kogge_stream {
    _private: [u8; 0],
}

/// A query of the log, page by page.
#[derive_ReprC]
#[repr(opaque)]
pub struct kogge_cursor {
    _private: [u8; 0],
}

/// Entries of the log.
#[derive_ReprC]
#[repr(opaque)]
pub struct kogge_rows {
    _private: [u8; 0],
}

/// A subscription to what happens in a node.
#[derive_ReprC]
#[repr(opaque)]
pub struct kogge_events {
    _private: [u8; 0],
}

/// Something that happened.
#[derive_ReprC]
#[repr(opaque)]
pub struct kogge_event {
    _private: [u8; 0],
}

/// Learns the end of an operation. Runs on the node's callback thread, exactly once; `op` is the
/// operation, which still belongs to who started it.
pub type kogge_done_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, op: *mut kogge_op, status: kogge_status)>;

/// Releases `user_data`, exactly once, after its last use: on the node's callback thread, or, where no
/// node is left that uses it, on the thread that calls `kogge_config_free`, `kogge_config_set_log` or
/// `kogge_fetch`.
pub type kogge_drop_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Takes a line of the log. Runs on the node's callback thread. Levels: 1 error, 2 warning, 3 info,
/// 4 debug, 5 trace.
pub type kogge_log_fn = Option<
    unsafe extern "C" fn(user_data: *mut c_void, level: i32, target: kogge_str, line: kogge_str),
>;

/// Takes bytes of an artifact that begin at `offset`, in order. Runs on the node's callback thread.
/// Returns 0 to go on; any other number ends the fetch with `KOGGE_STATUS_HOST` and becomes the
/// error's OS code.
pub type kogge_write_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, offset: u64, bytes: kogge_bytes) -> i32>;

/// How the end of an operation is told. All fields but `struct_size` may be zero: then
/// `kogge_op_wait` and `kogge_op_get_status` tell.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kogge_completion {
    /// `sizeof(kogge_completion)`.
    pub struct_size: usize,
    /// Called at the end, or NULL.
    pub done_fn: kogge_done_fn,
    /// Handed to `done_fn` and `drop_fn`.
    pub user_data: *mut c_void,
    /// Releases `user_data`, or NULL.
    pub drop_fn: kogge_drop_fn,
    /// The queue that gets an item at the end, or NULL.
    pub queue: *mut kogge_queue,
    /// Given back by the queue.
    pub tag: u64,
    /// NULL, or: the call that starts the operation does at once, on its own thread, what needs no
    /// waiting, such as reading a small artifact that is stored, and says here whether that was all.
    /// 1: the operation has ended, and nothing above is used. 0: it goes on, and its end will be told.
    /// 0 may be written if the start fails. Nothing is written after an end was told.
    pub ended_out: *mut u8,
}

/// An item of a queue.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kogge_completed {
    /// What `kogge_completion` or `kogge_events_attach` said.
    pub tag: u64,
    /// The operation that ended; NULL for events.
    pub op: *mut kogge_op,
    /// How it ended.
    pub status: kogge_status,
    /// `KOGGE_COMPLETED_OP` or `KOGGE_COMPLETED_EVENTS`.
    pub kind: i32,
}

/// An artifact, as people name it.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kogge_name {
    /// `sizeof(kogge_name)`.
    pub struct_size: usize,
    /// A digest such as `sha256:` and lower-case hex, an image such as `alpine:3.20`,
    /// `group:artifact:version`, or a package URL.
    pub what: kogge_str,
    /// A file of the package, such as `a-1.0.jar`; may be empty if there is only one.
    pub file: kogge_str,
}

/// What to fetch, how much of it, and for how long.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kogge_fetch_request {
    /// `sizeof(kogge_fetch_request)`.
    pub struct_size: usize,
    /// The artifact; `name.struct_size` too must be set.
    pub name: kogge_name,
    /// First byte that is wanted; only for sinks that take ranges.
    pub range_offset: u64,
    /// Bytes that are wanted; 0 means all up to the end.
    pub range_len: u64,
    /// The work ends with `KOGGE_STATUS_TIMED_OUT` after this long. Unit: milliseconds; 0 means
    /// no limit but the node's own, which counts from the last progress.
    pub deadline_ms: u64,
    /// Larger artifacts end with `KOGGE_STATUS_QUOTA`. Unit: bytes; 0 means 256 MiB for
    /// `KOGGE_SINK_BUFFER` and no limit for other sinks.
    pub max_bytes: u64,
}

/// Where the bytes go.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kogge_sink {
    /// `sizeof(kogge_sink)`.
    pub struct_size: usize,
    /// One of `KOGGE_SINK_*`.
    pub kind: i32,
    /// Any of `KOGGE_PLACE_*`, for `KOGGE_SINK_PATH`.
    pub place_flags: u32,
    /// The file to make, for `KOGGE_SINK_PATH`; UTF-8, as all paths. It appears whole or not at all, and
    /// not after the end of the fetch.
    pub path: kogge_str,
    /// An open descriptor, for `KOGGE_SINK_FD`; it is duplicated and stays open. Bytes are written
    /// from its position on, none after the end of the fetch. A pipe or a socket that nobody reads
    /// holds up this fetch alone, whether it blocks or not; a terminal that is stopped the end of
    /// the fetch too.
    pub fd: i32,
    /// Must be 0.
    pub reserved: i32,
    /// Takes the bytes, for `KOGGE_SINK_WRITER`.
    pub write_fn: kogge_write_fn,
    /// Handed to `write_fn` and `drop_fn`.
    pub user_data: *mut c_void,
    /// Releases `user_data`, or NULL.
    pub drop_fn: kogge_drop_fn,
}

/// What a fetch came to.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kogge_fetch_result {
    /// Its BLAKE3 digest, by which it is stored and exchanged.
    pub blake3: [u8; 32],
    /// Its SHA-256 digest.
    pub sha256: [u8; 32],
    /// Its length. Unit: bytes.
    pub size: u64,
    /// Index of its entry in the log, which every byte was verified against.
    pub log_index: u64,
    /// Bytes that were stored here before.
    pub bytes_from_store: u64,
    /// Bytes that came from peers for this call or others at the same time.
    pub bytes_from_peers: u64,
    /// How it was placed, for `KOGGE_SINK_PATH`: 0 copied, else one of `KOGGE_PLACE_REFLINK` and
    /// `KOGGE_PLACE_HARD_LINK`.
    pub placed: u32,
    /// 0.
    pub reserved: u32,
}

/// A stored artifact.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kogge_stored {
    /// Its BLAKE3 digest.
    pub blake3: [u8; 32],
    /// Its SHA-256 digest.
    pub sha256: [u8; 32],
    /// Its length. Unit: bytes.
    pub size: u64,
    /// Whether it is exempt from eviction.
    pub is_pinned: bool,
}

/// An entry of the log. Texts are borrowed from the rows. What the entry's kind does not have is
/// empty or zero; `kogge_rows_take_json` has everything.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kogge_entry {
    /// Its index.
    pub index: u64,
    /// The block that holds it; 0 if that is not known (offline verification).
    pub height: u64,
    /// Time of that block. Unit: milliseconds since 1970.
    pub time_ms: u64,
    /// Index of the entry that withdrew it; `UINT64_MAX` if none did.
    pub removed: u64,
    /// Length of the artifact. Unit: bytes.
    pub size: u64,
    /// Its kind, such as `add-artifact`.
    pub kind: kogge_str,
    /// Package URL of the artifact.
    pub purl: kogge_str,
    /// File name of the artifact.
    pub file: kogge_str,
    /// Media type of the artifact.
    pub media_type: kogge_str,
    /// BLAKE3 digest of the artifact.
    pub blake3: [u8; 32],
    /// SHA-256 digest of the artifact.
    pub sha256: [u8; 32],
}

/// Which events.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kogge_event_filter {
    /// `sizeof(kogge_event_filter)`.
    pub struct_size: usize,
    /// Names of kinds, divided by commas, such as `committed,build`; empty means all.
    pub kinds: kogge_str,
    /// Only events with a higher number; 0 means from now on, `UINT64_MAX` all that are remembered.
    pub after: u64,
}

/// What an event tells. Texts are borrowed from the event.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kogge_event_view {
    /// Its number in this node, from 1.
    pub number: u64,
    /// Events between the one before and this one that this reader was too slow for.
    pub lost: u64,
    /// When it happened. Unit: milliseconds since 1970.
    pub time_ms: u64,
    /// Its kind, such as `committed`.
    pub kind: kogge_str,
    /// All of it as JSON with the field `event`.
    pub json: kogge_str,
}
