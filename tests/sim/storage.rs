//! What a node's shell asks of its disk, and when it is done.

use std::rc::Rc;
use std::time::Duration;

use crate::disk::{Journal, Stored};
use crate::kogge::node::flow::Input;
use crate::kogge::proto::log::Checkpoint;
use crate::plan::{Moment, Plant};
use crate::world::{Done, Event, World};

/// Longest time that a sync of the disk takes if it is not slow.
const SYNC_MAX: Duration = Duration::from_millis(8);

impl World {
    pub(crate) fn disk_delay(&mut self, node: usize) -> Duration {
        let delay = self.up_to(SYNC_MAX);
        delay * u32::try_from(self.nodes[node].disk_slowness).unwrap_or(1)
    }

    pub(crate) fn sync_journal(&mut self, node: usize) {
        let delay = self.disk_delay(node);
        let it = &mut self.nodes[node];
        let records = std::mem::take(&mut it.records);
        for record in &records {
            self.trace.add(self.now.as_nanos(), node, "journal", record);
        }
        it.vault.disk_mut().journal.records.extend(records);
        let run = it.run;
        if self.plan.plant == Some(Plant::JournalUnsynced) && it.vault.disk().reset.is_none() {
            let delay = delay + Duration::from_secs(5);
            return self.after(delay, Event::WrittenBack { node, run });
        }
        it.is_syncing = true;
        self.after(delay, Event::Synced { node, run });
    }

    pub(crate) fn synced(&mut self, node: usize, run: u32) {
        let it = &mut self.nodes[node];
        if it.run != run {
            return;
        }
        it.is_syncing = false;
        let mut disk = it.vault.disk_mut();
        if let Some(height) = disk.reset.take() {
            disk.journal = Journal {
                height,
                ..Journal::default()
            };
        }
        disk.journal.synced = disk.journal.records.len();
        drop(disk);
        self.turn(node);
    }

    pub(crate) fn append(&mut self, node: usize, stored: Stored) {
        let height = stored.height();
        self.note(node, "append", &stored.encoded.block);
        self.say(node, || format!("appends block {height}"));
        let vault = self.nodes[node].vault.clone();
        let mut disk = vault.disk_mut();
        let next = disk.blocks.len() as u64 + 1;
        disk.blocks.push(Rc::new(stored));
        if height != next {
            drop(disk);
            return self.fail(node, &format!("appended block {height} instead of {next}"));
        }
        if self.plan.plant == Some(Plant::AnnounceFirst) {
            let count = disk.blocks.len();
            disk.show(count);
            drop(disk);
            self.later(node, Input::Appended { height });
        } else {
            drop(disk);
        }
        self.store(node);
        self.reached(node, Moment::Append);
    }

    pub(crate) fn store(&mut self, node: usize) {
        let count = self.nodes[node].vault.disk().blocks.len();
        if !self.nodes[node].is_storing && self.nodes[node].vault.disk().durable < count {
            self.nodes[node].is_storing = true;
            let (delay, run) = (self.disk_delay(node), self.nodes[node].run);
            self.after(delay, Event::Stored { node, run, count });
        }
    }

    pub(crate) fn stored(&mut self, node: usize, run: u32, count: usize) {
        let it = &mut self.nodes[node];
        if it.run != run {
            return;
        }
        it.is_storing = false;
        let mut disk = it.vault.disk_mut();
        let before = disk.durable;
        disk.durable = count;
        disk.show(count);
        drop(disk);
        self.check_durable(node, before);
        self.store(node);
        if self.plan.plant != Some(Plant::AnnounceFirst) {
            for height in before + 1..=count {
                let height = height as u64;
                self.deliver(node, Input::Appended { height });
            }
        }
    }

    pub(crate) fn check_durable(&mut self, node: usize, before: usize) {
        let vault = self.nodes[node].vault.clone();
        let disk = vault.disk();
        for stored in &disk.blocks[before..disk.durable] {
            let verdict = self.oracle.durable(stored);
            self.judge(node, verdict);
        }
    }

    pub(crate) fn save_builds(&mut self, node: usize) {
        let Some(engine) = &self.nodes[node].engine else {
            return;
        };
        let builds = engine.builds_machine().pending().map(|it| it.to_bytes());
        let builds = builds.collect();
        if self.nodes[node].unsaved.replace(builds).is_none() {
            self.finish(node, Done::Builds);
        }
    }

    pub(crate) fn finish(&mut self, node: usize, done: Done) {
        let (delay, run) = (self.disk_delay(node), self.nodes[node].run);
        self.after(delay, Event::Done { node, run, done });
    }

    pub(crate) fn done(&mut self, node: usize, run: u32, done: Done) {
        if self.nodes[node].run != run {
            return;
        }
        let vault = self.nodes[node].vault.clone();
        match done {
            Done::Head(head) => {
                self.nodes[node].signing = None;
                let verdict = self.raise(node, &head);
                self.judge(node, verdict);
                self.deliver(node, Input::HeadPersisted(head));
            }
            Done::Checkpoint(size, note) => {
                let mut disk = vault.disk_mut();
                if disk.checkpoint.as_ref().is_none_or(|it| it.0 <= size) {
                    disk.checkpoint = Some((size, note));
                }
            }
            Done::Builds => {
                vault.disk_mut().builds = self.nodes[node].unsaved.take().unwrap_or_default();
            }
            Done::Input(input) => self.deliver(node, input),
        }
    }

    /// Makes a head durable as the highest signed one; it must not contradict an earlier one.
    pub(crate) fn raise(&self, node: usize, head: &Checkpoint) -> Result<(), String> {
        let mut disk = self.nodes[node].vault.disk_mut();
        let new = (head.size, head.root);
        if disk.root_at(head.size) != Some(head.root) {
            return Err(format!(
                "signs a head of size {} that is not durable",
                head.size
            ));
        }
        match disk.signed {
            Some(old) if old != new && new.0 <= old.0 => Err(format!(
                "signs a head of size {} after one of size {}",
                new.0, old.0
            )),
            _ => {
                disk.signed = Some(new);
                Ok(())
            }
        }
    }
}
