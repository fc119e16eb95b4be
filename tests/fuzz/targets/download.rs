//! The download machine against sources that do anything, with a model that watches every step.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use kogge_node::base::Time;
use kogge_node::proto::exchange::arrival::Fault;
use kogge_node::proto::exchange::download::{BUFFERED_BYTES_MAX, Config, Download, Effect, Input};
use kogge_node::proto::exchange::group::GROUP_BYTES;
use kogge_node::proto::exchange::message::GROUPS_MAX;
use kogge_node::proto::exchange::presence::Presence;
use kogge_node::proto::schedule::Ranges;
use kogge_node::proto::schedule::scheduler::REQUESTS_MAX;

use crate::targets::Choices;
use crate::targets::clock::Clocked;

/// Steps that an honest source may take to finish what the others left.
const STEPS_MAX: usize = 20_000;

/// The honest source of the end.
const ALICE: u8 = 99;

struct Model {
    now: Time,
    count: u64,
    machine: Download<u8>,
    /// What each source that is connected claims.
    sources: BTreeMap<u8, Ranges>,
    banned: BTreeSet<u8>,
    open: BTreeMap<u64, (u8, Range<u64>)>,
    ids: u64,
    arrived: Ranges,
    durable: Ranges,
    is_over: bool,
    is_done: bool,
}

/// Input: configuration and size, then steps until the bytes end; then an honest source comes, and
/// the download must end well unless it had ended before.
///
/// Planted: a machine that does not hear that a source is gone.
pub(crate) fn download(bytes: &[u8], is_planted: bool) -> bool {
    let mut choices = Choices(bytes);
    let config = Config {
        sources_max: 1 + usize::try_from(choices.below(4)).unwrap_or(0),
        window_bytes: choices.bool().then(|| choices.number()),
        rate_max: choices.bool().then(|| choices.number()),
        ..Config::default()
    };
    let count = 1 + choices.below(200) * (1 + choices.below(9));
    let size = count * GROUP_BYTES as u64 - choices.below(256);
    let mut durable = Ranges::new();
    for _ in 0..choices.below(3) {
        durable.insert(range(&mut choices, count));
    }
    let mut out = Vec::new();
    let machine = Download::new(Time::ZERO, config, size, &durable, &mut out);
    let mut model = Model {
        now: Time::ZERO,
        count,
        machine,
        sources: BTreeMap::new(),
        banned: BTreeSet::new(),
        open: BTreeMap::new(),
        ids: 0,
        arrived: durable.clone(),
        durable,
        is_over: false,
        is_done: false,
    };
    model.watch(out);
    while !choices.is_empty() {
        model.step(&mut choices, is_planted);
    }
    if !model.is_over {
        model.finish();
        assert!(model.is_done, "an honest source is not enough");
    }
    true
}

/// A range with numbers below `count`, perhaps an empty one.
fn range(choices: &mut Choices<'_>, count: u64) -> Range<u64> {
    let start = choices.number() % count;
    start..(start + choices.number() % 80).min(count)
}

impl Clocked for Model {
    fn now(&mut self) -> &mut Time {
        &mut self.now
    }

    fn next_deadline(&self) -> Option<Time> {
        self.machine.next_deadline()
    }

    fn expire(&mut self) {
        let mut out = Vec::new();
        self.machine.expire(self.now, &mut out);
        self.watch(out);
    }
}

impl Model {
    fn step(&mut self, choices: &mut Choices<'_>, is_planted: bool) {
        let source = u8::try_from(choices.below(6)).unwrap_or(0);
        let open: Vec<u64> = self.open.keys().copied().collect();
        let at = usize::try_from(choices.below(open.len().max(1) as u64)).unwrap_or(0);
        let id = open
            .get(at)
            .copied()
            .unwrap_or(choices.number() % (self.ids + 2));
        let input = match choices.below(10) {
            0 => {
                let (has, is_guess) = match choices.below(5) {
                    0 => (Presence::None, false),
                    1 => {
                        let some = [range(choices, self.count), 0..1].into_iter().collect();
                        (Presence::Some(some), false)
                    }
                    2 => (Presence::Whole, true),
                    _ => (Presence::Whole, false),
                };
                if !self.banned.contains(&source) {
                    self.sources.insert(source, has.groups(self.count));
                }
                match is_guess {
                    true => Input::SourceGuessed { source },
                    false => Input::SourceAdded { source, has },
                }
            }
            1 => {
                self.sources.remove(&source);
                self.open.retain(|_, it| it.0 != source);
                if is_planted {
                    return;
                }
                Input::SourceGone { source }
            }
            2 => self.ended(id, |id| Input::Ended { id }),
            3 => self.ended(id, |id| Input::NotFound { id }),
            4 => {
                let retry_after = Duration::from_millis(choices.number() >> 20);
                self.ended(id, |id| Input::Busy { id, retry_after })
            }
            5 if self.banned.len() < 60 => {
                let fault = Fault::Unrequested { id: 7 };
                self.sources.remove(&source);
                self.open.retain(|_, it| it.0 != source);
                self.banned.insert(source);
                Input::Refused { source, fault }
            }
            6 => Input::Want {
                offset: choices.number(),
            },
            7 => return self.wait(Duration::from_millis(choices.number() >> 48)),
            8 => {
                let run = self.arrived.iter().next().unwrap_or(0..0);
                self.durable.insert(run.clone());
                Input::Durable { groups: run }
            }
            _ => self.arrive(id, 1 + choices.below(64)),
        };
        self.handle(input);
    }

    /// A request ends; the rest of its groups is asked for anew.
    fn ended(&mut self, id: u64, input: impl FnOnce(u64) -> Input<u8>) -> Input<u8> {
        self.open.remove(&id);
        input(id)
    }

    /// The next groups of a request come.
    fn arrive(&mut self, id: u64, groups: u64) -> Input<u8> {
        let Some((_, due)) = self.open.get_mut(&id) else {
            return Input::Ended { id };
        };
        let groups = due.start..due.end.min(due.start + groups);
        due.start = groups.end;
        if due.start == due.end {
            self.open.remove(&id);
        }
        self.arrived.insert(groups.clone());
        Input::Arrived { id, groups }
    }

    fn handle(&mut self, input: Input<u8>) {
        let (what, mut out) = (format!("{input:?}"), Vec::new());
        self.machine.handle(self.now, input, &mut out);
        assert!(
            out.is_empty() || !self.is_over,
            "after the end, {what} gave {out:?}"
        );
        self.watch(out);
    }

    fn watch(&mut self, out: Vec<Effect<u8>>) {
        for effect in out {
            assert!(!self.is_over, "{effect:?} after the end");
            match effect {
                Effect::Request { source, id, groups } => self.requested(source, id, groups),
                Effect::CancelRequest { source, id } => {
                    let open = self.open.remove(&id);
                    assert!(
                        open.is_none_or(|it| it.0 == source),
                        "{id} is not {source}'s"
                    );
                }
                Effect::Ban { source, .. } => assert!(self.banned.contains(&source)),
                Effect::Avoid { .. } | Effect::NeedSources => {}
                Effect::Done => {
                    assert_eq!(self.durable.len(), self.count, "done too early");
                    (self.is_over, self.is_done) = (true, true);
                }
                Effect::Failed(_) => self.is_over = true,
            }
        }
        assert_eq!(self.machine.is_over(), self.is_over);
        let deadline = self.machine.next_deadline();
        assert_eq!(
            deadline.is_none(),
            self.is_over,
            "a download without an end"
        );
    }

    fn requested(&mut self, source: u8, id: u64, groups: Range<u64>) {
        assert_eq!(id, self.ids, "ids are not used twice");
        self.ids += 1;
        assert!(
            groups.start < groups.end && groups.end <= self.count,
            "{groups:?}"
        );
        assert!(groups.end - groups.start <= GROUPS_MAX, "{groups:?}");
        let Some(has) = self.sources.get(&source) else {
            panic!("{source} is asked, who is gone");
        };
        let claimed = has.intersect(&Ranges::from(groups.clone()));
        assert_eq!(
            claimed.len(),
            groups.end - groups.start,
            "{source} has not {groups:?}"
        );
        let here = self.arrived.intersect(&Ranges::from(groups.clone()));
        assert!(here.is_empty(), "{groups:?} came already");
        self.open.insert(id, (source, groups));
        let theirs = self.open.values().filter(|it| it.0 == source).count();
        assert!(theirs <= REQUESTS_MAX, "{theirs} requests to {source}");
        let asked: u64 = self.open.values().map(|(_, it)| it.end - it.start).sum();
        let waiting = self.arrived.len() - self.durable.len();
        let bytes = (asked + waiting) * GROUP_BYTES as u64;
        let most = BUFFERED_BYTES_MAX + GROUPS_MAX * GROUP_BYTES as u64;
        assert!(bytes <= 2 * most, "{bytes} bytes wait"); // The tail may be asked for twice.
    }

    /// An honest source comes and delivers all it is asked for; the disk keeps up.
    fn finish(&mut self) {
        self.handle(Input::Want { offset: 0 });
        for source in 0..6 {
            self.sources.remove(&source);
            self.open.retain(|_, it| it.0 != source);
            self.handle(Input::SourceGone { source });
        }
        self.sources.insert(ALICE, Ranges::from(0..self.count));
        self.handle(Input::SourceAdded {
            source: ALICE,
            has: Presence::Whole,
        });
        for _ in 0..STEPS_MAX {
            if self.is_over {
                return;
            }
            let read = self.durable.first_missing(0) * GROUP_BYTES as u64;
            self.handle(Input::Want { offset: read });
            let Some(id) = self.open.keys().next().copied() else {
                for run in self.arrived.iter().collect::<Vec<_>>() {
                    self.durable.insert(run.clone());
                    self.handle(Input::Durable { groups: run });
                }
                if self.open.is_empty() {
                    self.wait(Duration::from_millis(100));
                }
                continue;
            };
            let input = self.arrive(id, GROUPS_MAX);
            self.handle(input);
        }
        panic!("no end in sight: {:?} of {}", self.durable, self.count);
    }
}
