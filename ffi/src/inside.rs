//! Calls that are inside a node: closing waits for them, so that nothing of a node outlives it.

use std::ops::Deref;
use std::sync::Arc;

use crate::failure::Failure;
use crate::host::Host;

/// A call that uses a node. Closing has not ended while one lives.
pub(crate) struct Visit(Arc<Host>);

impl Visit {
    /// # Errors
    ///
    /// `Closed` if the node closes, or has stopped.
    pub(crate) fn begin(host: &Arc<Host>) -> Result<Self, Failure> {
        host.come()?;
        Ok(Self(host.clone()))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.go();
    }
}

/// Something of a node, which keeps its files open: gone before the call that uses it.
pub(crate) struct Inside<T> {
    // Dropped first.
    thing: T,
    visit: Visit,
}

impl<T> Inside<T> {
    pub(crate) fn new(thing: T, visit: Visit) -> Self {
        Self { thing, visit }
    }

    pub(crate) fn host(&self) -> &Arc<Host> {
        &self.visit.0
    }
}

impl<T> Deref for Inside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.thing
    }
}
