//! The C ABI of kogge: functions and types, over the public API of the node library alone.
//!
//! # Rules
//!
//! * **Names say who owns.** `…_get_…` gives a view borrowed from its first argument; `…_out`
//!   parameters of handle type and `…_take_…` give an object that the caller frees; structs are
//!   copied into the caller's memory. `…_free` accepts NULL and stale handles. Memory of the library
//!   is never given to `free()`.
//! * **Handles are numbers.** Any function may be called from any thread at any time; a stale, foreign
//!   or NULL handle is `KOGGE_STATUS_BAD_HANDLE`. Handles stay valid after their node was closed, say
//!   `KOGGE_STATUS_CLOSED` then, and are freed by who got them.
//! * **Errors are objects**: the last parameter, NULL if they are not wanted, written only on failure.
//!   Other outputs are written only on success.
//! * **Every verb that can wait is a trio**: `kogge_x(…, timeout_ms, …)` waits, and gives the work up
//!   when the time is over; `kogge_x_start` gives an operation; `kogge_x_finish` takes its result.
//! * **Exactly one completion** follows a start that succeeded, none one that failed (then `drop_fn` is
//!   not called either). The operation has ended when it is told. Cancelling is remembered.
//! * **Callbacks** run on one thread per node, one after the other, never on one that the node works
//!   on. They may call everything but `kogge_node_close`, and what would wait for the callback thread
//!   itself (`KOGGE_STATUS_WOULD_DEADLOCK`). One that does not return holds up the other callbacks, the
//!   fetch whose bytes it takes, and the end of closing, nothing else.
//! * **What is lent comes back**: a sink's `user_data` is released before a fetch that was started ends,
//!   and when a fetch that waits returns, whatever came of it.
//! * **Texts are UTF-8**, paths too.
//! * **Structs** from the caller begin with `struct_size`: missing fields count as zero, unknown ones
//!   must be zero.
//! * Nothing is global: two nodes in one process are independent. Nothing reads the environment unless
//!   the configuration says so, nothing prints, no signal is handled or changed: the library's threads
//!   block all but those that a thread brings upon itself (`SIGSEGV` and its kin) and `SIGPROF`.
//!
//! Numbers and names, once released, are for ever. `include/kogge.h` is generated from this crate.

pub mod builds;
pub mod config;
pub mod error;
pub mod events;
pub mod fetch;
pub mod keep;
pub mod log;
pub mod node;
pub mod operation;
pub mod rows;
pub mod sink;
pub mod status;
pub mod stream;
pub mod types;
pub mod verify;
pub mod version;

mod calls;
mod descriptor;
mod failure;
mod guard;
mod handle;
mod host;
mod input;
mod inside;
#[cfg(test)]
mod layout;
mod lines;
mod object;
mod op;
mod proof;
mod queue;
mod start;
mod tether;
mod thread;

pub use builds::*;
pub use config::*;
pub use error::*;
pub use events::*;
pub use fetch::*;
pub use keep::*;
pub use log::*;
pub use node::*;
pub use operation::*;
pub use rows::*;
pub use sink::*;
pub use status::*;
pub use stream::*;
pub use types::*;
pub use verify::*;
pub use version::*;
