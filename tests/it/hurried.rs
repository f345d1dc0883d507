//! The shipped rules and configuration of Prometheus in a hurry: all durations divided by one factor.

use std::path::Path;

use lapidary_schemas::metrics::thresholds::{
    DRAIN_TIME_MAX, JOB_TIME_MAX, Threshold, thresholds_yaml,
};

use crate::boards::below_root;

/// What durations are divided by.
const FACTOR: u32 = 60;

/// Divides the durations that stand behind a mark.
fn scaled_behind(text: &str, mark: &str) -> String {
    let mut parts = text.split(mark);
    let mut scaled = parts.next().unwrap().to_owned();
    for part in parts {
        scaled.push_str(mark);
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let unit = match part[digits..].chars().next() {
            Some('s') => 1_000,
            Some('m') => 60_000,
            _ => 0,
        };
        match part[..digits].parse::<u64>() {
            Ok(number) if unit > 0 => {
                let milliseconds = number * unit / u64::from(FACTOR);
                scaled.extend([&format!("{milliseconds}ms"), &part[digits + 1..]]);
            }
            _ => scaled.push_str(part),
        }
    }
    scaled
}

fn scaled(text: &str) -> String {
    let marks = ["[", "for: ", "interval: ", "timeout: "];
    let scale = |text: String, mark: &&str| scaled_behind(&text, mark);
    marks.iter().fold(text.to_owned(), scale)
}

/// The limits, some of them others.
pub(crate) fn limits(others: &[(Threshold, f64)]) -> String {
    let write = |text: String, (limit, other): &(Threshold, f64)| {
        let expression = |value| format!("record: {}\n        expr: {value}\n", limit.name);
        let (old, new) = (expression(limit.value), expression(*other));
        assert!(text.contains(&old), "{old} is not in {text}");
        text.replace(&old, &new)
    };
    others.iter().fold(thresholds_yaml(), write)
}

/// Limits of time are durations of a rule like any other.
pub(crate) fn scaled_limits() -> Vec<(Threshold, f64)> {
    let scaled = |limit: Threshold| (limit, limit.value / f64::from(FACTOR));
    vec![scaled(JOB_TIME_MAX), scaled(DRAIN_TIME_MAX)]
}

/// Writes rules with these limits.
pub(crate) fn write_rules(folder: &Path, limits: &str) {
    std::fs::write(folder.join("thresholds.yml"), limits).unwrap();
    for file in ["recording.yml", "alerts.yml"] {
        let shipped = below_root("dashboards/prometheus/rules").join(file);
        let text = scaled(&std::fs::read_to_string(shipped).unwrap());
        std::fs::write(folder.join(file), text).unwrap();
    }
}

/// The shipped configuration but for who is scraped and told.
pub(crate) fn config(alertmanager: u16, worker: u16, gateway: u16) -> String {
    let shipped =
        std::fs::read_to_string(below_root("dashboards/prometheus/prometheus.yml")).unwrap();
    let (head, _) = shipped.split_once("alerting:").unwrap();
    let target = |port| format!("static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]");
    format!(
        "{}\nalerting:\n  alertmanagers:\n    - {}\nscrape_configs:\n  \
         - job_name: lapidary-worker\n    {}\n  - job_name: lapidary-gateway\n    {}\n",
        scaled(head),
        target(alertmanager),
        target(worker),
        target(gateway)
    )
}
