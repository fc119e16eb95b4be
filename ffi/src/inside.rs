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

#[cfg(test)]
mod tests {
    use kogge::{Config, Network, Node};

    use super::*;
    use crate::host::Settings;
    use crate::op::{Notice, Op, Outcome};
    use crate::status::kogge_status;
    use crate::thread;

    fn open(folder: &std::path::Path) -> Arc<Host> {
        let mut config = Config::new(folder);
        config.listen.clear();
        let settings = Settings {
            config,
            network: Network::StoredOrSolo,
            sink: None,
        };
        let op = Arc::new(Op::default());
        Host::open(&op, settings, Notice::default()).unwrap();
        op.wait(None);
        let host = op.finish(|it| match it {
            Outcome::Node(host) => Ok(host),
            other => Err(other),
        });
        host.unwrap()
    }

    #[test]
    fn closing_waits_for_whatever_uses_the_node_and_then_its_directory_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let host = open(folder.path());
        let inside: Inside<Node> = host.node().unwrap();
        let op = Arc::new(Op::default());
        assert!(host.close(None, &op, Notice::default()).unwrap().is_none());
        let closed = Some(kogge_status::Closed);
        assert_eq!(host.node().err().map(|it| it.status), closed);
        // Long enough for an end that would not wait.
        assert!(!op.wait(thread::deadline(300)));
        // It works as long as it is held.
        assert_eq!(inside.data_dir(), folder.path());
        drop(inside);
        assert!(op.wait(None));
        assert_eq!(op.status(), kogge_status::Ok);
        let next = open(folder.path());
        // Who comes second waits for the same end.
        let (first, second) = (Arc::new(Op::default()), Arc::new(Op::default()));
        assert!(
            next.close(None, &first, Notice::default())
                .unwrap()
                .is_none()
        );
        let same = next.close(None, &second, Notice::default()).unwrap();
        assert!(same.is_some_and(|it| Arc::ptr_eq(&it, &first) && it.wait(None)));
        drop(open(folder.path()).node().unwrap());
    }
}
