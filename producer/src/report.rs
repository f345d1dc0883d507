//! How an installation has been: jobs, response time, tokens a second, memory, and what is wrong now;
//! from a Prometheus, or straight from one worker.

mod ask;
mod exposition;
mod prometheus;
mod worker;

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde::Serialize;

pub(crate) use ask::AskError;

/// Bytes of a megabyte, as memory is counted.
const MEGABYTE: f64 = 1_048_576.0;

/// Jobs whose result was stored, by status.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Jobs {
    pub(crate) succeeded: f64,
    pub(crate) filtered: f64,
    pub(crate) failed: f64,
    pub(crate) cancelled: f64,
    pub(crate) expired: f64,
}

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Alert {
    pub(crate) name: String,
    pub(crate) severity: String,
    pub(crate) summary: String,
}

/// How it has been. What there is no figure of is left out: a mean of nothing is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Who was asked.
    pub(crate) source: String,
    /// Seconds that it is about; from a worker: since its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) window_s: Option<u64>,
    pub(crate) jobs: Jobs,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) success_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_time_mean_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_time_p95_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_second: Option<f64>,
    pub(crate) tokens_generated: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_mb: Option<f64>,
    pub(crate) alerts: Vec<Alert>,
}

impl Jobs {
    /// Counts jobs of a status.
    fn add(&mut self, status: &str, count: f64) {
        match status {
            "succeeded" => self.succeeded += count,
            "filtered" => self.filtered += count,
            "failed" => self.failed += count,
            "cancelled" => self.cancelled += count,
            "expired" => self.expired += count,
            _ => {}
        }
    }

    /// Share of those with an answer; filtered and cancelled ones are no failures.
    fn success_rate(&self) -> Option<f64> {
        ratio(self.succeeded, self.succeeded + self.failed + self.expired)
    }
}

/// A quotient, if there is one.
fn ratio(part: f64, whole: f64) -> Option<f64> {
    let ratio = part / whole;
    ratio.is_finite().then_some(ratio)
}

/// Asks a Prometheus about the time until now.
pub(crate) async fn of_prometheus(address: &str, window: Duration) -> Result<Report, AskError> {
    prometheus::report(address, window).await
}

/// Asks a worker about the time since its start.
pub(crate) async fn of_worker(address: &str) -> Result<Report, AskError> {
    worker::report(address).await
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Jobs {
            succeeded,
            filtered,
            failed,
            cancelled,
            expired,
        } = &self.jobs;
        match self.window_s {
            Some(seconds) => writeln!(f, "the last {seconds} s, from {}", self.source)?,
            None => writeln!(f, "since its start, from {}", self.source)?,
        }
        writeln!(
            f,
            "jobs               {succeeded:.0} succeeded, {filtered:.0} filtered, {failed:.0} failed, \
             {cancelled:.0} cancelled, {expired:.0} expired"
        )?;
        let percent = self.success_rate.map(|rate| rate * 100.0);
        for (name, figure, digits, unit) in [
            ("success rate", percent, 2, " %"),
            (
                "response time",
                self.response_time_mean_s,
                2,
                " s on average",
            ),
            ("", self.response_time_p95_s, 2, " s at the 95th percentile"),
            (
                "tokens a second",
                self.tokens_per_second,
                1,
                " of a busy worker",
            ),
            ("tokens generated", Some(self.tokens_generated), 0, ""),
            ("memory", self.memory_mb, 0, " MB of the largest worker"),
        ] {
            match figure {
                Some(figure) => writeln!(f, "{name:<18} {figure:.digits$}{unit}")?,
                None if name.is_empty() => {}
                None => writeln!(f, "{name:<18} none")?,
            }
        }
        if self.alerts.is_empty() {
            return writeln!(f, "no alerts");
        }
        for Alert {
            name,
            severity,
            summary,
        } in &self.alerts
        {
            writeln!(f, "alert              {severity}: {name}: {summary}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_leaves_out_what_was_filtered_or_cancelled() {
        let mut jobs = Jobs::default();
        assert_eq!(jobs.success_rate(), None);
        for (status, count) in [
            ("succeeded", 3.0),
            ("expired", 1.0),
            ("filtered", 9.0),
            ("cancelled", 9.0),
        ] {
            jobs.add(status, count);
        }
        assert_eq!(jobs.success_rate(), Some(0.75));
    }

    #[test]
    fn a_report_says_what_there_is() {
        let report = Report {
            source: "http://prometheus:9090".to_owned(),
            window_s: Some(3_600),
            jobs: Jobs {
                succeeded: 19.0,
                failed: 1.0,
                ..Jobs::default()
            },
            success_rate: Some(0.95),
            response_time_mean_s: Some(1.234),
            response_time_p95_s: Some(2.5),
            tokens_generated: 4_321.0,
            alerts: vec![Alert {
                name: "LapidaryWorkerGone".to_owned(),
                severity: "critical".to_owned(),
                summary: "Worker a cannot be scraped.".to_owned(),
            }],
            ..Report::default()
        };
        let expected = "\
the last 3600 s, from http://prometheus:9090
jobs               19 succeeded, 0 filtered, 1 failed, 0 cancelled, 0 expired
success rate       95.00 %
response time      1.23 s on average
                   2.50 s at the 95th percentile
tokens a second    none
tokens generated   4321
memory             none
alert              critical: LapidaryWorkerGone: Worker a cannot be scraped.
";
        assert_eq!(report.to_string(), expected);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["jobs"]["succeeded"], 19.0);
        assert_eq!(json.get("memory_mb"), None);
    }
}
