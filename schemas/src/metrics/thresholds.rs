//! What an operator is told of: the limits of alerts and reports, in one place.

use std::fmt::Write as _;

/// A limit that an alert compares with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The series that holds it, in Prometheus.
    pub name: &'static str,
    /// The limit.
    pub value: f64,
    /// What is wrong beyond it.
    pub help: &'static str,
}

/// Declares the limits, each a constant, and [`THRESHOLDS`] of them.
macro_rules! thresholds {
    ($($id:ident: $name:literal, $value:expr, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Threshold = Threshold { name: $name, value: $value, help: $help };
        )*

        /// Every limit.
        pub const THRESHOLDS: &[Threshold] = &[$($id),*];
    };
}

thresholds! {
    RESPONSE_TIME_MAX: "lapidary:threshold:response_time_seconds", 10.0, "Mean response time over it: answers come too slowly.";
    MEMORY_MAX: "lapidary:threshold:memory_bytes", 8_192.0 * 1_048_576.0, "Resident memory of a worker over it (8,192 MB): it may be killed.";
    DECODE_RATE_MIN: "lapidary:threshold:decode_tokens_per_second", 5.0, "Decode rate of a busy worker under it: something slows it down.";
    SUCCESS_MIN: "lapidary:threshold:success_ratio", 0.95, "Share of jobs with an answer under it, those that were filtered or cancelled left out.";
    JOB_TIME_MAX: "lapidary:threshold:job_seconds", 1_200.0, "A job under way for longer: brokers take deliveries back after 1,800 s.";
    DRAIN_TIME_MAX: "lapidary:threshold:drain_seconds", 86_400.0, "Time that unfinished batches need at the present rate over it.";
}

/// The text of `dashboards/prometheus/rules/thresholds.yml`.
pub fn thresholds_yaml() -> String {
    let mut text = String::from(
        "# Generated from schemas/src/metrics/thresholds.rs; a test compares the two. The limits of all\n\
         # alerts, as series: dashboards draw them, and an installation that needs others changes them here.\n\
         groups:\n  - name: lapidary-thresholds\n    rules:\n",
    );
    for Threshold { name, value, help } in THRESHOLDS {
        let _ = write!(
            text,
            "      # {help}\n      - record: {name}\n        expr: {value}\n"
        );
    }
    text
}
