//! Numbers for monitoring, by name and unit: one list for every host and front end.
//!
//! Names follow the conventions of Prometheus: `kogge_`, the thing, its unit, and `_total` for what
//! only grows. A name, once released, keeps its meaning.

use crate::node::handle::Inner;
use crate::node::status::{LogStatus, PeerStatus, Status};

/// What a number counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Things; the name says which.
    Count,
    /// Bytes; the name has `_bytes`.
    Bytes,
    /// Seconds; the name has `_seconds`. Times count from 1970-01-01 UTC.
    Seconds,
    /// 1 for yes, 0 for no.
    Truth,
}

impl Unit {
    /// The unit as one lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
            Self::Truth => "truth",
        }
    }
}

/// How a number moves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Up and down.
    Gauge,
    /// Only up, from 0 at the start of the node; the name ends in `_total`.
    Counter,
}

impl Kind {
    /// The kind as Prometheus calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
        }
    }
}

/// A number with what one must know to read it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Metric {
    /// Unique in the list.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// How it moves.
    pub kind: Kind,
    /// One English sentence.
    pub help: &'static str,
    /// How it stands.
    pub value: u64,
}

/// All numbers of `node`, in an order that does not change. Those of what a node does not have (a
/// checkpoint, a part in agreement) are left out.
pub(crate) fn metrics(node: &Inner) -> Vec<Metric> {
    let status = crate::node::view::status(node);
    let mut list = List::default();
    itself(&mut list, &status);
    peers(&mut list, node);
    log(&mut list, &status.log);
    builds(&mut list, node);
    queues(&mut list, node);
    store(&mut list, node);
    exchange(&mut list, node);
    list.0
}

#[derive(Default)]
struct List(Vec<Metric>);

impl List {
    fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(name, Kind::Gauge, unit_of(name), help, value);
    }

    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(name, Kind::Counter, unit_of(name), help, value);
    }

    fn truth(&mut self, name: &'static str, help: &'static str, value: bool) {
        self.add(name, Kind::Gauge, Unit::Truth, help, value.into());
    }

    fn add(&mut self, name: &'static str, kind: Kind, unit: Unit, help: &'static str, value: u64) {
        self.0.push(Metric {
            name,
            unit,
            kind,
            help,
            value,
        });
    }
}

/// The unit that a name ends in.
fn unit_of(name: &str) -> Unit {
    let stem = name.strip_suffix("_total").unwrap_or(name);
    match stem.rsplit('_').next() {
        Some("bytes") => Unit::Bytes,
        Some("seconds") => Unit::Seconds,
        _ => Unit::Count,
    }
}

fn itself(list: &mut List, status: &Status) {
    let members = count(status.network.members.len());
    list.truth(
        "kogge_ready",
        "Whether the node answers queries.",
        status.ready,
    );
    let started = status.started.as_secs();
    list.gauge(
        "kogge_start_time_seconds",
        "When the node started.",
        started,
    );
    list.gauge("kogge_members", "Authorized nodes.", members);
    if let Some(consensus) = &status.consensus {
        let name = "kogge_consensus_connected_members";
        let help = "Authorized nodes that are connected, this one included.";
        list.gauge(name, help, count(consensus.connected));
    }
}

fn peers(list: &mut List, node: &Inner) {
    let (peers, tally) = (node.shared.peers(), &node.hub.peers.tally);
    let is = |name: &str| {
        let named = |it: &&PeerStatus| it.state == name;
        count(peers.iter().filter(named).count())
    };
    let connections = count(node.hub.net.status().connections);
    for (name, help, value) in [
        (
            "kogge_connections",
            "Connections, those without a handshake included.",
            connections,
        ),
        ("kogge_peers", "Admitted peers.", is("admitted")),
        (
            "kogge_connecting_peers",
            "Peers whose handshake is under way.",
            is("connecting"),
        ),
        (
            "kogge_refused_peers",
            "Peers that were refused, or refused this node, lately.",
            is("refused"),
        ),
        (
            "kogge_banned_peers",
            "Peers that were banned lately.",
            is("banned"),
        ),
    ] {
        list.gauge(name, help, value);
    }
    for (name, help, counter) in [
        (
            "kogge_handshakes_total",
            "Handshakes that ended with an admitted peer.",
            &tally.admitted,
        ),
        (
            "kogge_refusals_total",
            "Peers refused by either side, at the handshake or later.",
            &tally.refused,
        ),
        (
            "kogge_bans_total",
            "Bans for provable faults.",
            &tally.banned,
        ),
    ] {
        list.counter(name, help, counter.count());
    }
}

fn log(list: &mut List, log: &LogStatus) {
    list.truth(
        "kogge_log_live",
        "Whether the node has the whole log.",
        log.state == "live",
    );
    for (name, help, value) in [
        (
            "kogge_log_height_blocks",
            "Number of the last block.",
            log.height,
        ),
        (
            "kogge_log_target_blocks",
            "Highest block that peers claim.",
            log.target,
        ),
        ("kogge_log_size_entries", "Leaves in the log.", log.size),
        (
            "kogge_log_time_seconds",
            "Time of the last block.",
            log.time.as_secs(),
        ),
    ] {
        list.gauge(name, help, value);
    }
    let Some(checkpoint) = &log.checkpoint else {
        return;
    };
    for (name, help, value) in [
        (
            "kogge_checkpoint_size_entries",
            "Leaves that the newest checkpoint covers.",
            checkpoint.size,
        ),
        (
            "kogge_checkpoint_time_seconds",
            "Time of its newest cosignature.",
            checkpoint.time.as_secs(),
        ),
        (
            "kogge_checkpoint_signers",
            "Authorized nodes that cosigned it.",
            count(checkpoint.signers),
        ),
    ] {
        list.gauge(name, help, value);
    }
}

fn builds(list: &mut List, node: &Inner) {
    let census = node.shared.known().map(|it| it.builds).unwrap_or_default();
    for (name, help, value) in [
        (
            "kogge_builds_open",
            "Builds that are not finished.",
            census.open(),
        ),
        (
            "kogge_builds_requested",
            "Builds that no authorized node has answered.",
            census.requested,
        ),
        (
            "kogge_builds_running",
            "Builds that authorized nodes work on.",
            census.running,
        ),
        (
            "kogge_builds_agreed",
            "Builds that wait for a block.",
            census.agreed,
        ),
    ] {
        list.gauge(name, help, count(value));
    }
    let help = "Builds seen to enter the log.";
    list.counter("kogge_builds_committed_total", help, census.committed);
    let help = "Attempts to build that came to nothing.";
    list.counter("kogge_builds_failed_total", help, census.failed);
}

fn queues(list: &mut List, node: &Inner) {
    let waiting = node.shared.known().map(|it| it.snapshot.waiting);
    let (groups, bytes) = waiting.unwrap_or_default();
    for (name, help, value) in [
        (
            "kogge_pool_groups",
            "Groups of entries that wait for attestations or a block.",
            groups,
        ),
        ("kogge_pool_bytes", "Their bytes.", bytes),
        (
            "kogge_commands_waiting",
            "Requests of the host that wait for the node's loop.",
            node.commands.len(),
        ),
        (
            "kogge_calls_waiting",
            "Blocking calls that wait for a thread.",
            node.pool.waiting(),
        ),
    ] {
        list.gauge(name, help, count(value));
    }
    let dropped = node.hub.peers.tally.messages_dropped.count();
    let help = "Messages that a slow or absent peer did not get.";
    list.counter("kogge_messages_dropped_total", help, dropped);
    let help = "Events that slow readers did not get.";
    list.counter("kogge_events_dropped_total", help, node.shared.lost());
}

fn store(list: &mut List, node: &Inner) {
    let stat = node.store.blobs().stat();
    for (name, help, value) in [
        (
            "kogge_store_artifacts",
            "Whole artifacts that are stored.",
            stat.count,
        ),
        (
            "kogge_store_bytes",
            "Bytes of stored artifacts.",
            stat.bytes,
        ),
        (
            "kogge_store_quota_bytes",
            "The owner's limit.",
            node.config.limits.disk,
        ),
        (
            "kogge_store_pinned_bytes",
            "Bytes that are never evicted.",
            stat.pinned_bytes,
        ),
        (
            "kogge_store_staging_bytes",
            "Bytes reserved for artifacts that are on their way.",
            stat.staging_bytes,
        ),
    ] {
        list.gauge(name, help, value);
    }
    let read = node.hub.peers.tally.read.count();
    let help = "What was read of artifacts that are stored, other than by peers.";
    list.counter("kogge_store_read_bytes_total", help, read);
}

fn exchange(list: &mut List, node: &Inner) {
    let tally = &node.hub.peers.tally;
    let help = "Downloads that run.";
    list.gauge("kogge_fetches_open", help, count(node.hub.downloads()));
    for (name, help, counter) in [
        (
            "kogge_fetches_total",
            "Downloads that brought the whole artifact.",
            &tally.fetched,
        ),
        (
            "kogge_fetches_failed_total",
            "Downloads that failed.",
            &tally.fetches_failed,
        ),
        (
            "kogge_exchange_received_bytes_total",
            "Verified payload from peers.",
            &tally.received,
        ),
        (
            "kogge_exchange_sent_bytes_total",
            "Payload to peers.",
            &tally.sent,
        ),
        (
            "kogge_upstream_received_bytes_total",
            "Payload from upstreams.",
            &tally.upstream,
        ),
        (
            "kogge_exchange_verified_groups_total",
            "Groups of 64 KiB from peers that were verified and written.",
            &tally.groups,
        ),
        (
            "kogge_exchange_bad_proofs_total",
            "Groups that were not what was asked for.",
            &tally.bad_proofs,
        ),
        (
            "kogge_exchange_spurious_total",
            "Frames that nobody asked for.",
            &tally.spurious,
        ),
    ] {
        list.counter(name, help, counter.count());
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
