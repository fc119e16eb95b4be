//! Opening and closing nodes, and asking how they stand.

use std::sync::Arc;

use kogge::{BuildId, Metric, Node, json};
use serde_json::{Value, json};

use crate::config::Draft;
use crate::failure::Failure;
use crate::guard::call;
use crate::handle;
use crate::host::Host;
use crate::input::{out, text};
use crate::object::Object;
use crate::op::{Notice, Op, Outcome};
use crate::start::{Completion, buffer, finish, give_buffer, read, start};
use crate::status::kogge_status;
use crate::thread;
use crate::types::{
    kogge_buffer, kogge_completion, kogge_config, kogge_error, kogge_node, kogge_op, kogge_str,
};

/// Opens a node and waits until it answers, at most `timeout_ms`. Its data directory must not be in
/// use by another (`KOGGE_STATUS_BUSY`). Close it with `kogge_node_close`. If the time is up before, what
/// was begun goes on to its end and is closed again, and the directory stays in use until then; who
/// has to know when uses `kogge_node_open_start`.
///
/// # Safety
///
/// `node_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_node_open(
    config: *const kogge_config,
    timeout_ms: u64,
    node_out: *mut *mut kogge_node,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let draft = handle::get::<Arc<Draft>>(config.cast())?;
        let target = out("node_out", node_out)?;
        let op = Arc::new(Op::default());
        Host::open(&op, draft.settings()?, Notice::default())?;
        if !op.wait(thread::deadline(timeout_ms)) {
            op.cancel();
            return Err(Failure::timed_out());
        }
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_node(&op, target) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Starts to open a node. Until `kogge_node_open_finish` gives it, cancelling or freeing the operation
/// closes it again. One that was cancelled ends when its data directory is free again, and one that
/// failed after the last line of its log; of one that is freed nobody hears any more. Cancelling after
/// the end does nothing: finish it, and close the node.
///
/// # Safety
///
/// `completion` is NULL or as its type says; `op_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_node_open_start(
    config: *const kogge_config,
    completion: *const kogge_completion,
    op_out: *mut *mut kogge_op,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let draft = handle::get::<Arc<Draft>>(config.cast())?;
        let target = out("op_out", op_out)?;
        let settings = draft.settings()?;
        // SAFETY: as the caller promises.
        let told = unsafe { told(completion)? };
        let (op, handle) = told.op;
        Host::open(&op, settings, told.notice).inspect_err(|_| {
            drop(handle::take::<Arc<Op>>(handle));
        })?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { target.write(handle.cast()) };
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// An operation that does not run in a node, and whom to tell of its end.
struct Told {
    op: (Arc<Op>, *mut std::ffi::c_void),
    notice: Notice,
}

/// # Safety
///
/// `completion` is NULL or as its type says.
unsafe fn told(completion: *const kogge_completion) -> Result<Told, Failure> {
    // SAFETY: as the caller promises.
    let Completion { notice, answer } = unsafe { read(completion)? };
    // SAFETY: the call that got the completion has not returned.
    unsafe { answer.say(false) };
    let op = Arc::new(Op::default());
    let handle = handle::put(Object::Op(op.clone()))?;
    op.set_handle(handle);
    Ok(Told {
        op: (op, handle),
        notice,
    })
}

/// Takes the node of an operation that `kogge_node_open_start` began.
///
/// # Safety
///
/// `node_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_node_open_finish(
    op: *mut kogge_op,
    node_out: *mut *mut kogge_node,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let target = out("node_out", node_out)?;
        let op = handle::get::<Arc<Op>>(op.cast())?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_node(&op, target) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// # Safety
///
/// `target` is writable.
unsafe fn give_node(op: &Op, target: *mut *mut kogge_node) -> Result<(), Failure> {
    let host = op.finish(|it| match it {
        Outcome::Node(host) => Ok(host),
        other => Err(other),
    })?;
    let handle = handle::put(Object::Node(host))?;
    // SAFETY: as the caller promises.
    unsafe { target.write(handle.cast()) };
    Ok(())
}

/// Closes a node: cancels what runs in it, tells all ends, stops its threads. When it is closed, no
/// callback runs any more, and its data directory is free. What was got from the node stays to be
/// freed, and says `KOGGE_STATUS_CLOSED`. From a callback of the node it is
/// `KOGGE_STATUS_WOULD_DEADLOCK`.
///
/// Waits for the end at most `timeout_ms`: it does not come before callbacks and calls inside the node
/// have returned. With `KOGGE_STATUS_TIMED_OUT` closing goes on, other calls say
/// `KOGGE_STATUS_CLOSED`, and this one may be repeated, also by several threads, until it is
/// `KOGGE_STATUS_OK`; only then the handle is stale.
///
/// # Safety
///
/// `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_node_close(
    node: *mut kogge_node,
    timeout_ms: u64,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        if host.calls.is_here() {
            let message = "a callback cannot wait for the end of its own thread; use \
                           kogge_node_close_start";
            return Err(Failure::new(kogge_status::WouldDeadlock, message));
        }
        let op = Arc::new(Op::default());
        let first = host.close(None, &op, Notice::default())?;
        let (op, calls) = (first.unwrap_or(op), host.calls.clone());
        drop(host);
        let deadline = thread::deadline(timeout_ms);
        let late = || {
            let message =
                "the node is not closed yet: a callback or a call of the host has not returned";
            Failure::new(kogge_status::TimedOut, message)
        };
        if !op.wait(deadline) {
            return Err(late());
        }
        if op.status() != kogge_status::Ok {
            return op.finish(Ok).map(drop);
        }
        // Who began to close may be told by a callback, which comes after the end.
        if !calls.wait(deadline) {
            return Err(late());
        }
        drop(handle::take::<Arc<Host>>(node.cast()));
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Starts to close a node; `kogge_op_finish` takes the result. The operation cannot be cancelled. The
/// node's handle is stale when it ends. `KOGGE_STATUS_CLOSED` if the node is being closed already;
/// `kogge_node_close` waits for that.
///
/// # Safety
///
/// `completion` is NULL or as its type says; `op_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_node_close_start(
    node: *mut kogge_node,
    completion: *const kogge_completion,
    op_out: *mut *mut kogge_op,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let target = out("op_out", op_out)?;
        host.check_open()?;
        // SAFETY: as the caller promises.
        let told = unsafe { told(completion)? };
        let (op, handle) = told.op;
        let first = host.close(Some(node.cast()), &op, told.notice);
        if !matches!(first, Ok(None)) {
            drop(handle::take::<Arc<Op>>(handle));
            return first.and(Err(Failure::closed()));
        }
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { target.write(handle.cast()) };
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Writes the 32 bytes of the node's identity (an ed25519 public key).
///
/// # Safety
///
/// `id_out` is writable for 32 bytes; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_node_get_id(
    node: *const kogge_node,
    id_out: *mut u8,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let target = out("id_out", id_out)?;
        let id = host.node()?.id().0;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { target.copy_from_nonoverlapping(id.as_ptr(), id.len()) };
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Waits until the node has reached the head of the log: until then it may not know what the network
/// knows, and `KOGGE_STATUS_NOT_FOUND` means little.
///
/// # Safety
///
/// `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_node_live(
    node: *mut kogge_node,
    timeout_ms: u64,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let node = host.node()?;
        let live = async { Ok(node.live().await?) };
        host.wait(thread::deadline(timeout_ms), live)
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Starts to wait as `kogge_node_live` does; `kogge_op_finish` takes the result.
///
/// # Safety
///
/// `completion` is NULL or as its type says; `op_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_node_live_start(
    node: *mut kogge_node,
    completion: *const kogge_completion,
    op_out: *mut *mut kogge_op,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let node = host.node()?;
        let work = |_: &Arc<Op>| async move { Ok(node.live().await.map(|()| Outcome::Nothing)?) };
        // SAFETY: as the caller promises.
        unsafe { start(&host, completion, op_out, work) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// What a program can ask about a node in an open shape.
enum Topic {
    Status,
    Peers,
    Builds,
    Build(BuildId),
    Config,
    Genesis,
    Metrics,
}

impl Topic {
    fn parse(topic: &str, params: &str) -> Result<Self, Failure> {
        let params: Value = match params {
            "" => json!({}),
            text => serde_json::from_str(text)
                .map_err(|it| Failure::argument(format!("params_json: {it}")))?,
        };
        Ok(match topic {
            "status" => Self::Status,
            "peers" => Self::Peers,
            "builds" => Self::Builds,
            "build" => Self::Build(build_id(params["id"].as_str().unwrap_or_default())?),
            "config" => Self::Config,
            "genesis" => Self::Genesis,
            "metrics" => Self::Metrics,
            other => {
                let message = format!(
                    "`{other}` is no topic; known are status, peers, builds, build, config, \
                     genesis, metrics"
                );
                return Err(Failure::new(kogge_status::Unsupported, message));
            }
        })
    }
}

pub(crate) fn build_id(text: &str) -> Result<BuildId, Failure> {
    let id = BuildId::from_hex(text);
    id.ok_or_else(|| Failure::argument("want the id of a build: 64 lower-case hex digits"))
}

fn metric(it: &Metric) -> Value {
    json!({"name": it.name, "unit": it.unit.as_str(), "kind": it.kind.as_str(), "help": it.help,
        "value": it.value})
}

async fn answer(node: &Node, topic: Topic) -> Result<Arc<Vec<u8>>, Failure> {
    let value = match topic {
        Topic::Status => json!(node.status()),
        Topic::Peers => json!(node.peers()),
        Topic::Builds => node.builds().await?.iter().map(json::build).collect(),
        Topic::Build(id) => {
            let build = node.build(id).await?;
            let unknown = || {
                let message = format!("this node knows no build {id}");
                Failure::new(kogge_status::NotFound, message)
            };
            json::build(&build.ok_or_else(unknown)?)
        }
        Topic::Config => json!({"data_dir": node.data_dir(), "listen": node.config().listen,
            "peers": node.config().peers, "bootstrap_urls": node.config().bootstrap_urls}),
        Topic::Genesis => json!(node.genesis()),
        Topic::Metrics => node.metrics().iter().map(metric).collect(),
    };
    Ok(Arc::new(value.to_string().into_bytes()))
}

/// Asks about a node; the answer is JSON. Topics: `status`, `peers`, `builds`, `build` (parameter
/// `id`), `config`, `genesis`, `metrics`. Shapes are those of the front end's documents of the same
/// names. `params_json` is a JSON object or empty. Free the buffer with `kogge_buffer_free`.
///
/// # Safety
///
/// `topic` and `params_json` are as their types say; `json_out` and `error` are writable, `error`
/// may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_node_query_json(
    node: *mut kogge_node,
    topic: kogge_str,
    params_json: kogge_str,
    timeout_ms: u64,
    json_out: *mut *mut kogge_buffer,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let target = out("json_out", json_out)?;
        // SAFETY: as the caller promises.
        let topic =
            unsafe { Topic::parse(&text("topic", topic)?, &text("params_json", params_json)?)? };
        let node = host.node()?;
        let json = host.wait(thread::deadline(timeout_ms), answer(&node, topic))?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_buffer(target, json) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Starts to ask as `kogge_node_query_json` does.
///
/// # Safety
///
/// As for `kogge_node_query_json`; `completion` is NULL or as its type says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_node_query_json_start(
    node: *mut kogge_node,
    topic: kogge_str,
    params_json: kogge_str,
    completion: *const kogge_completion,
    op_out: *mut *mut kogge_op,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        // SAFETY: as the caller promises.
        let topic =
            unsafe { Topic::parse(&text("topic", topic)?, &text("params_json", params_json)?)? };
        let node = host.node()?;
        let work = |_: &Arc<Op>| async move { Ok(Outcome::Buffer(answer(&node, topic).await?)) };
        // SAFETY: as the caller promises.
        unsafe { start(&host, completion, op_out, work) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Takes the answer.
///
/// # Safety
///
/// `json_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_node_query_json_finish(
    op: *mut kogge_op,
    json_out: *mut *mut kogge_buffer,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let target = out("json_out", json_out)?;
        let json = finish(op, buffer)?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { give_buffer(target, json) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}
