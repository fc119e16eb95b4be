//! Metrics in the text form of Prometheus.

use std::fmt::Write as _;

use kogge::{Metric, MetricKind};

/// All metrics as text. Those of one name stand together, in the order in which the names come.
pub(crate) fn render(metrics: &[Metric]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for metric in metrics {
        if !names.contains(&metric.name) {
            names.push(metric.name);
        }
    }
    let mut text = String::new();
    for name in names {
        let mut same = metrics.iter().filter(|it| it.name == name).peekable();
        if let Some(first) = same.peek() {
            let help = first.help.replace('\\', r"\\").replace('\n', r"\n");
            let kind = match first.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
        for metric in same {
            let _ = writeln!(text, "{name}{} {}", labels(metric), value(metric.value));
        }
    }
    text
}

fn labels(metric: &Metric) -> String {
    if metric.labels.is_empty() {
        return String::new();
    }
    let all = metric.labels.iter().map(|(name, value)| {
        let escaped = value
            .replace('\\', r"\\")
            .replace('"', "\\\"")
            .replace('\n', r"\n");
        format!("{name}=\"{escaped}\"")
    });
    format!("{{{}}}", all.collect::<Vec<_>>().join(","))
}

fn value(value: f64) -> String {
    if value.is_infinite() {
        let sign = if value < 0.0 { "-" } else { "+" };
        return format!("{sign}Inf");
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &'static str, label: Option<&str>, value: f64) -> Metric {
        Metric {
            name,
            help: "Some bytes.",
            kind: MetricKind::Counter,
            labels: label.iter().map(|it| ("peer", it.to_string())).collect(),
            value,
        }
    }

    #[test]
    fn metrics_of_one_name_stand_together() {
        let metrics = [
            metric("a_total", Some("x"), 3.0),
            metric("b_total", None, 0.5),
            metric("a_total", Some("y\"\\\n"), 1e15),
        ];
        let expected = "# HELP a_total Some bytes.\n# TYPE a_total counter\n\
                        a_total{peer=\"x\"} 3\na_total{peer=\"y\\\"\\\\\\n\"} 1000000000000000\n\
                        # HELP b_total Some bytes.\n# TYPE b_total counter\nb_total 0.5\n";
        assert_eq!(render(&metrics), expected);
    }

    #[test]
    fn odd_values_have_a_form() {
        for (number, expected) in [
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (0.0, "0"),
        ] {
            assert_eq!(value(number), expected);
        }
    }
}
