//! The node's numbers in the text form of Prometheus.

use std::fmt::Write as _;

use kogge::Metric;

/// Content type of the page.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `metrics` as text, in their order.
pub(crate) fn render(metrics: &[Metric]) -> String {
    let mut page = String::new();
    for metric in metrics {
        let Metric {
            name, help, value, ..
        } = metric;
        let kind = metric.kind.as_str();
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use kogge::node::metrics::{Kind, Unit};

    use super::*;

    #[test]
    fn every_number_has_help_and_type() {
        let ready = Metric {
            name: "kogge_ready",
            unit: Unit::Truth,
            kind: Kind::Gauge,
            help: "Whether the node answers queries.",
            value: 1,
        };
        let sent = Metric {
            name: "kogge_exchange_sent_bytes_total",
            unit: Unit::Bytes,
            kind: Kind::Counter,
            help: "Payload to peers.",
            value: u64::MAX,
        };
        let expected = "# HELP kogge_ready Whether the node answers queries.\n\
                        # TYPE kogge_ready gauge\n\
                        kogge_ready 1\n\
                        # HELP kogge_exchange_sent_bytes_total Payload to peers.\n\
                        # TYPE kogge_exchange_sent_bytes_total counter\n\
                        kogge_exchange_sent_bytes_total 18446744073709551615\n";
        assert_eq!(render(&[ready, sent]), expected);
    }
}
