//! `docs/METRICS.md`, made of the table.

use std::fmt::Write as _;

use super::{ALL, Kind, Label, Source, Values};

/// The text of `docs/METRICS.md`.
pub fn metrics_markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nGenerated from `schemas/src/metrics.rs` by `cargo run -p lapidary-schemas \
         --example generate`; a test compares the two.\nIds of jobs and tenants are never labels.\n",
    );
    for (source, title) in [
        (Source::Process, "Every program"),
        (Source::Worker, "Worker"),
        (Source::Gateway, "Gateway"),
        (Source::Steward, "Steward"),
    ] {
        let _ = write!(
            text,
            "\n## {title}\n\n| Name | Kind | Unit | Labels | Meaning |\n"
        );
        text.push_str("|---|---|---|---|---|\n");
        for metric in ALL.iter().filter(|metric| metric.source == source) {
            let labels: Vec<String> = metric
                .labels
                .iter()
                .map(|label| format!("`{}`", label.name))
                .collect();
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                metric.name,
                kind_name(metric.kind),
                metric.unit,
                labels.join(", "),
                metric.help
            );
        }
    }
    text.push_str("\n## Labels\n\n| Label | Used by | Values |\n|---|---|---|\n");
    for metric in ALL {
        for label in metric.labels {
            let _ = writeln!(
                text,
                "| `{}` | `{}` | {} |",
                label.name,
                metric.name,
                values(label)
            );
        }
    }
    text.push_str("\n## Buckets\n\n| Name | Upper bounds |\n|---|---|\n");
    for metric in ALL {
        if let Kind::Histogram(buckets) = metric.kind {
            let bounds: Vec<String> = buckets.iter().map(f64::to_string).collect();
            let _ = writeln!(text, "| `{}` | {} |", metric.name, bounds.join(" "));
        }
    }
    text
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    }
}

fn values(label: &Label) -> String {
    match label.values {
        Values::Listed(values) => {
            let quoted: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            quoted.join(" ")
        }
        Values::Configured(which) => which.to_owned(),
    }
}
