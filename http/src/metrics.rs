//! Metrics in the text form of Prometheus.

use std::fmt::Write as _;

use kogge::Status;

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Counter,
    Gauge,
}

/// The numbers in `status` as text.
pub(crate) fn render(status: &Status) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in numbers(status) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    }
    text
}

fn numbers(status: &Status) -> Vec<(&'static str, Kind, &'static str, u64)> {
    use Kind::{Counter, Gauge};
    let (log, store, transfer) = (&status.log, &status.store, &status.transfer);
    let count = |it: usize| u64::try_from(it).unwrap_or(u64::MAX);
    let live = u64::from(log.state == crate::source::LIVE);
    let mut all = vec![
        (
            "kogge_ready",
            Gauge,
            "Whether the node answers queries.",
            status.ready.into(),
        ),
        (
            "kogge_start_time_seconds",
            Gauge,
            "When the node started.",
            status.started.as_secs(),
        ),
        (
            "kogge_log_live",
            Gauge,
            "Whether the node has reached the head of the log.",
            live,
        ),
        (
            "kogge_log_height_blocks",
            Gauge,
            "Number of the last block.",
            log.height,
        ),
        (
            "kogge_log_target_blocks",
            Gauge,
            "Highest block that peers claim.",
            log.target,
        ),
        (
            "kogge_log_size_entries",
            Gauge,
            "Leaves in the log.",
            log.size,
        ),
        (
            "kogge_log_time_seconds",
            Gauge,
            "Time of the last block.",
            log.time.as_secs(),
        ),
        ("kogge_peers", Gauge, "Admitted peers.", count(status.peers)),
        (
            "kogge_members",
            Gauge,
            "Authorized nodes.",
            count(status.network.members.len()),
        ),
        (
            "kogge_builds_open",
            Gauge,
            "Builds that are not finished.",
            count(status.builds_open),
        ),
        (
            "kogge_store_artifacts",
            Gauge,
            "Whole artifacts that are stored.",
            store.artifacts,
        ),
        (
            "kogge_store_bytes",
            Gauge,
            "Bytes of stored artifacts.",
            store.bytes,
        ),
        (
            "kogge_store_quota_bytes",
            Gauge,
            "The owner's limit.",
            store.quota,
        ),
        (
            "kogge_store_pinned_bytes",
            Gauge,
            "Bytes that are never evicted.",
            store.pinned,
        ),
        (
            "kogge_exchange_received_bytes_total",
            Counter,
            "Verified payload from peers.",
            transfer.received,
        ),
        (
            "kogge_exchange_sent_bytes_total",
            Counter,
            "Payload to peers.",
            transfer.sent,
        ),
        (
            "kogge_upstream_received_bytes_total",
            Counter,
            "Payload from upstreams.",
            transfer.upstream,
        ),
        (
            "kogge_exchange_bad_proofs_total",
            Counter,
            "Groups that were not what was asked for.",
            transfer.bad_proofs,
        ),
        (
            "kogge_exchange_spurious_total",
            Counter,
            "Frames that nobody asked for.",
            transfer.spurious,
        ),
    ];
    if let Some(checkpoint) = &log.checkpoint {
        all.extend([
            (
                "kogge_checkpoint_size_entries",
                Gauge,
                "Leaves that the newest checkpoint covers.",
                checkpoint.size,
            ),
            (
                "kogge_checkpoint_time_seconds",
                Gauge,
                "Time of its newest cosignature.",
                checkpoint.time.as_secs(),
            ),
            (
                "kogge_checkpoint_signers",
                Gauge,
                "Authorized nodes that cosigned it.",
                count(checkpoint.signers),
            ),
        ]);
    }
    if let Some(consensus) = &status.consensus {
        all.push((
            "kogge_consensus_connected_members",
            Gauge,
            "Authorized nodes that are connected, this one included.",
            count(consensus.connected),
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let hex = "00".repeat(32);
        let text = format!(
            r#"{{"version": "0", "node": "{hex}", "peer_id": "", "ready": true, "started": 1999,
                "network": {{"name": "n", "origin": "o", "chain": "{hex}", "members": [],
                            "quorum": 1, "faults_max": 0, "me": null}},
                "log": {{"height": 7, "block": "{hex}", "size": 40, "root": "{hex}", "time": 5000,
                        "state": "live", "target": 7, "checkpoint": null}},
                "consensus": null, "listen": [], "peers": 3,
                "store": {{"artifacts": 1, "bytes": 2, "quota": 3, "pinned": 4}},
                "transfer": {{"received": 5, "sent": 6, "upstream": 7, "bad_proofs": 8,
                             "spurious": 9}},
                "builds_open": 0}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn every_number_has_help_and_type() {
        let text = render(&status());
        assert!(text.starts_with(
            "# HELP kogge_ready Whether the node answers queries.\n# TYPE kogge_ready gauge\n\
             kogge_ready 1\n"
        ));
        for line in [
            "kogge_start_time_seconds 1",
            "kogge_log_live 1",
            "# TYPE kogge_exchange_sent_bytes_total counter",
            "kogge_exchange_sent_bytes_total 6",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}");
        }
        assert!(!text.contains("kogge_checkpoint"));
    }

    #[test]
    fn names_are_unique_and_counters_say_total() {
        let numbers = numbers(&status());
        for (at, (name, kind, ..)) in numbers.iter().enumerate() {
            assert!(!numbers.iter().take(at).any(|it| it.0 == *name), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
        }
    }
}
