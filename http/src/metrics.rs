//! Metrics in the text form of Prometheus.

use std::fmt::Write as _;

use kogge::Status;

use crate::source::is_current;

/// The numbers in `status` as text.
pub(crate) fn render(status: &Status) -> String {
    let mut page = Page::default();
    node(&mut page, status);
    log(&mut page, status);
    bytes(&mut page, status);
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.write(name, "gauge", help, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.write(name, "counter", help, value);
    }

    fn write(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        // Writing to a string cannot fail.
        let _ = writeln!(
            self.0,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    }
}

fn node(page: &mut Page, status: &Status) {
    let members = count(status.network.members.len());
    let (ready, started) = (status.ready.into(), status.started.as_secs());
    page.gauge("kogge_ready", "Whether the node answers queries.", ready);
    page.gauge(
        "kogge_start_time_seconds",
        "When the node started.",
        started,
    );
    page.gauge("kogge_peers", "Admitted peers.", count(status.peers));
    page.gauge("kogge_members", "Authorized nodes.", members);
    let open = count(status.builds_open);
    page.gauge("kogge_builds_open", "Builds that are not finished.", open);
    if let Some(consensus) = &status.consensus {
        let name = "kogge_consensus_connected_members";
        let help = "Authorized nodes that are connected, this one included.";
        page.gauge(name, help, count(consensus.connected));
    }
}

fn log(page: &mut Page, status: &Status) {
    let log = &status.log;
    let live = is_current(status).into();
    page.gauge(
        "kogge_log_live",
        "Whether the node has the whole log.",
        live,
    );
    page.gauge(
        "kogge_log_height_blocks",
        "Number of the last block.",
        log.height,
    );
    page.gauge(
        "kogge_log_target_blocks",
        "Highest block that peers claim.",
        log.target,
    );
    page.gauge("kogge_log_size_entries", "Leaves in the log.", log.size);
    page.gauge(
        "kogge_log_time_seconds",
        "Time of the last block.",
        log.time.as_secs(),
    );
    if let Some(it) = &log.checkpoint {
        let (time, signers) = (it.time.as_secs(), count(it.signers));
        let help = "Leaves that the newest checkpoint covers.";
        page.gauge("kogge_checkpoint_size_entries", help, it.size);
        page.gauge(
            "kogge_checkpoint_time_seconds",
            "Time of its newest cosignature.",
            time,
        );
        page.gauge(
            "kogge_checkpoint_signers",
            "Authorized nodes that cosigned it.",
            signers,
        );
    }
}

fn bytes(page: &mut Page, status: &Status) {
    let (store, moved) = (&status.store, &status.transfer);
    page.gauge(
        "kogge_store_artifacts",
        "Whole artifacts that are stored.",
        store.artifacts,
    );
    page.gauge(
        "kogge_store_bytes",
        "Bytes of stored artifacts.",
        store.bytes,
    );
    page.gauge("kogge_store_quota_bytes", "The owner's limit.", store.quota);
    page.gauge(
        "kogge_store_pinned_bytes",
        "Bytes that are never evicted.",
        store.pinned,
    );
    for (name, help, value) in [
        (
            "kogge_exchange_received_bytes_total",
            "Verified payload from peers.",
            moved.received,
        ),
        (
            "kogge_exchange_sent_bytes_total",
            "Payload to peers.",
            moved.sent,
        ),
        (
            "kogge_upstream_received_bytes_total",
            "Payload from upstreams.",
            moved.upstream,
        ),
        (
            "kogge_exchange_bad_proofs_total",
            "Groups that were not what was asked for.",
            moved.bad_proofs,
        ),
        (
            "kogge_exchange_spurious_total",
            "Frames that nobody asked for.",
            moved.spurious,
        ),
    ] {
        page.counter(name, help, value);
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
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
        let text = render(&status());
        let mut seen = Vec::new();
        for line in text.lines().filter_map(|it| it.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(!seen.contains(&name), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            seen.push(name);
        }
    }
}
