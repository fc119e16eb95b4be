//! Whole nodes in one thread with virtual time: everything that `node/flow` decides, under faults
//! drawn from a seed.
//!
//! ```text
//! KOGGE_SIM_SEEDS=10000 cargo test -p kogge-ffi --test sim swarm   many plans
//! KOGGE_SIM_SEED=17 cargo test -p kogge-ffi --test sim one_seed -- --nocapture   one, readable
//! ```
//!
//! * [`plan`]: what happens in a run; drawn from a seed, printed, shrunk.
//! * [`world`]: the queue of events; [`wire`] and [`net`]: links; [`shell`], [`storage`] and
//!   [`disk`]: a node.
//! * [`oracle`]: what must hold after every event; [`run`]: what must hold after healing.
//! * [`swarm`], [`scenarios`], [`members`], [`covering`]: the tests.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is a test program; a failed step fails the test"
)]

use kogge_node as kogge;

mod covering;
mod disk;
mod hostile;
mod members;
mod net;
mod oracle;
mod pipeline;
mod plan;
mod run;
mod scenarios;
mod shell;
mod storage;
mod swarm;
mod wire;
mod world;
