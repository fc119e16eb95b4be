//! Running a plan to its end: faults, then healing, then everybody must agree.

use std::time::Duration;

use crate::kogge::base::Time;
use crate::kogge::proto::sync::State;
use crate::pipeline;
use crate::plan::{Plan, Reform, name};
use crate::world::World;

/// After healing everybody has the same log, with all that was asked for, within this time.
const LOG_LIMIT: Duration = Duration::from_secs(60);

/// After long faults nodes wait longer between dials: a minute and a quarter.
const BACKOFF_MAX: Duration = Duration::from_secs(75);

/// After that everybody has a checkpoint of it within this time: the longest pause between two
/// questions for signatures, and some more if the first who are asked do not have them either.
pub(crate) const CHECKPOINT_LIMIT: Duration = Duration::from_secs(8);

/// Plans that are tried to shrink one failure.
const SHRINK_PLANS_MAX: usize = 100;

/// Delays that are tried with each of them.
const DELAYS: u64 = 8;

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) failure: Option<String>,
    /// The digest of all that happened.
    pub(crate) trace: u64,
    pub(crate) events: u64,
    pub(crate) blocks: usize,
    /// Virtual time.
    pub(crate) lasted: Duration,
    /// From healing to equal logs.
    pub(crate) settled: Duration,
}

/// Runs a plan.
pub(crate) fn run(plan: &Plan, is_shown: bool) -> Outcome {
    let mut world = World::new(plan.clone());
    world.trace.is_shown = is_shown;
    world.start_all();
    world.run_for(Duration::from_millis(plan.faulty_for));
    world.heal();
    ask_again(&mut world);
    let is_short = plan.faulty_for < Plan::quiet(0, 1, 0).faulty_for * 2;
    let limit = if is_short {
        LOG_LIMIT
    } else {
        LOG_LIMIT + BACKOFF_MAX
    };
    let settled = world.run_until(limit, |it| unsettled(it).is_none());
    match settled {
        Some(_) => {
            let done = world.run_until(CHECKPOINT_LIMIT, |it| uncovered(it).is_none());
            if done.is_none()
                && let Some(reason) = uncovered(&world)
            {
                world.fail(usize::MAX, &format!("no checkpoint in time: {reason}"));
            }
        }
        None => {
            if let Some(reason) = unsettled(&world) {
                world.fail(usize::MAX, &format!("no agreement in time: {reason}"));
            }
        }
    }
    Outcome {
        failure: world.failure.take(),
        trace: world.trace.finish(),
        events: world.events,
        blocks: world.oracle.blocks.len(),
        lasted: world.now.since(Time::ZERO),
        settled: settled.unwrap_or_default(),
    }
}

/// What was asked of a node that died since is asked again: it may never have been told to others.
fn ask_again(world: &mut World) {
    world.run_for(Duration::from_secs(1));
    for at in 0..world.plan.asks.len() {
        let node = world.plan.asks[at].node;
        if world.taken.get(&at) != Some(&world.nodes[node].run) {
            world.ask(at);
        }
    }
    if world.plan.reform.is_some() {
        for node in 0..world.plan.members {
            world.mark_reform(node);
        }
    }
}

/// Why the nodes do not have the same log yet.
pub(crate) fn unsettled(world: &World) -> Option<String> {
    let height = world.oracle.blocks.len() as u64;
    for (node, it) in world.nodes.iter().enumerate().filter(|it| !it.1.is_hostile) {
        let who = name(node);
        let Some(engine) = &it.engine else {
            return Some(format!("{who} does not run"));
        };
        if it.height() != height {
            return Some(format!("{who} is at height {} of {height}", it.height()));
        }
        let progress = engine
            .snapshot(crate::wire::local(it.booted, world.now))
            .progress;
        if progress.state != State::Live && 1 < world.nodes.len() {
            return Some(format!("{who} is not live: {progress:?}"));
        }
        if let Some((_, reform)) = world.plan.reform {
            let (changed, is_wanted) = match reform {
                Reform::Admit(it) => (it, true),
                Reform::Dismiss(it) => (it, false),
            };
            let members = engine.chain().members();
            if members.by_node(&world.nodes[changed].id()).is_some() != is_wanted {
                return Some(format!("{who} has not seen {reform:?}"));
            }
        }
        for ask in &world.plan.asks {
            let purl = pipeline::purl(ask.number, ask.is_image);
            if !it.vault.disk().has_package(&purl) {
                let spec = pipeline::spec(ask.number, ask.is_image);
                let status = engine.builds_machine().status(&spec.id());
                let status = status.map(|it| (it.state, it.nodes));
                return Some(format!("{who} does not have {purl}: {status:?}"));
            }
        }
    }
    None
}

/// Why not everybody has a checkpoint of the newest head.
pub(crate) fn uncovered(world: &World) -> Option<String> {
    let newest = world.oracle.blocks.last()?.size;
    let honest = world.nodes.iter().enumerate().filter(|it| !it.1.is_hostile);
    for (node, it) in honest {
        let size = it.vault.disk().checkpoint.as_ref().map_or(0, |it| it.0);
        if size != newest {
            let who = name(node);
            return Some(format!(
                "{who} has one of size {size}, the log has {newest}"
            ));
        }
    }
    None
}

/// The smallest plan found that still fails: without faults and asks that do not matter, and with
/// shorter faults.
pub(crate) fn shrink(plan: &Plan) -> Plan {
    let mut best = plan.clone();
    let mut runs = 0;
    loop {
        let mut is_smaller = false;
        for smaller in smaller(&best) {
            runs += 1;
            if SHRINK_PLANS_MAX < runs {
                return best;
            }
            if let Some(failing) = failing(smaller) {
                best = failing;
                is_smaller = true;
                break;
            }
        }
        if !is_smaller {
            return best;
        }
    }
}

/// The plan, if it fails, perhaps with other delays: a fault less shifts all later ones.
fn failing(plan: Plan) -> Option<Plan> {
    let delays = (0..DELAYS).map(|it| plan.seed.wrapping_add(it << 32));
    let mut plans = delays.map(|seed| Plan {
        seed,
        ..plan.clone()
    });
    plans.find(|it| run(it, false).failure.is_some())
}

fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let half = plan.faults.len() / 2;
    if 1 < half {
        for keep in [0..half, half..plan.faults.len()] {
            let faults = plan.faults[keep].to_vec();
            plans.push(Plan {
                faults,
                ..plan.clone()
            });
        }
    }
    for at in 0..plan.faults.len() {
        let mut less = plan.clone();
        less.faults.remove(at);
        plans.push(less);
    }
    for less in [
        Plan {
            reform: None,
            ..plan.clone()
        },
        Plan {
            hostile: 0,
            ..plan.clone()
        },
    ] {
        if (less.reform, less.hostile) != (plan.reform, plan.hostile) {
            plans.push(less);
        }
    }
    for at in 0..plan.asks.len() {
        let mut less = plan.clone();
        less.asks.remove(at);
        plans.push(less);
    }
    for at in 0..plan.faults.len() {
        if 400 < plan.faults[at].lasts {
            let mut less = plan.clone();
            less.faults[at].lasts /= 2;
            plans.push(less);
        }
    }
    plans
}
