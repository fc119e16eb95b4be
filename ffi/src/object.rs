//! Everything that has a handle.

use std::sync::Arc;

use crate::config::Draft;
use crate::events::{Read, Reader};
use crate::failure::Failure;
use crate::host::Host;
use crate::log::Cursor;
use crate::op::Op;
use crate::queue::Queue;
use crate::rows::Rows;
use crate::stream::Stream;

/// An object behind a handle.
pub(crate) enum Object {
    Error(Arc<Failure>),
    Buffer(Arc<Vec<u8>>),
    Config(Arc<Draft>),
    Node(Arc<Host>),
    Op(Arc<Op>),
    Queue(Arc<Queue>),
    Stream(Arc<Stream>),
    Cursor(Arc<Cursor>),
    Rows(Arc<Rows>),
    Events(Arc<Reader>),
    Event(Arc<Read>),
}

/// A type that objects have.
pub(crate) trait Kind: Sized {
    /// With its article, for messages.
    const NAME: &'static str;

    fn of(object: &Object) -> Option<Self>;
}

macro_rules! kinds {
    ($($variant:ident $type:ty, $name:literal;)*) => { $(
        impl Kind for Arc<$type> {
            const NAME: &'static str = $name;

            fn of(object: &Object) -> Option<Self> {
                match object {
                    Object::$variant(it) => Some(it.clone()),
                    _ => None,
                }
            }
        }
    )* };
}

kinds! {
    Error Failure, "an error";
    Buffer Vec<u8>, "a buffer";
    Config Draft, "a configuration";
    Node Host, "a node";
    Op Op, "an operation";
    Queue Queue, "a queue";
    Stream Stream, "a stream";
    Cursor Cursor, "a cursor";
    Rows Rows, "rows";
    Events Reader, "a subscription";
    Event Read, "an event";
}
