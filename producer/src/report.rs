//! How an installation has been: jobs, response time, tokens a second, memory, and what is wrong now;
//! from a Prometheus, or straight from one worker.

pub(crate) mod ask;
mod exposition;
mod prometheus;
mod worker;

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde::Serialize;

pub(crate) use ask::AskError;
pub(crate) use exposition::Exposition;

/// Bytes of a megabyte, as memory is counted.
pub(crate) const MEGABYTE: f64 = 1_048_576.0;

/// Jobs whose result was stored, by status.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Jobs {
    pub(crate) succeeded: f64,
    pub(crate) filtered: f64,
    pub(crate) failed: f64,
    pub(crate) cancelled: f64,
    pub(crate) expired: f64,
}

/// How good answers were, as far as the content policy's detectors of quality say: shares of the jobs with an
/// answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Quality {
    /// Nothing was said.
    pub(crate) empty: f64,
    /// It went round in circles.
    #[serde(rename = "loop")]
    pub(crate) circling: f64,
    /// The model declined.
    pub(crate) refusal: f64,
    /// It was in another language than was asked for.
    pub(crate) language: f64,
    /// It broke off.
    pub(crate) unfinished: f64,
    /// Answers that were made once more because the first one was poor.
    pub(crate) second_answers: f64,
    /// The share of those that were better; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) second_answers_better: Option<f64>,
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
    /// Absent where no job had an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quality: Option<Quality>,
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

impl Quality {
    /// Of counts: jobs with an answer, poor ones by flaw, second answers by outcome.
    fn of<'a>(
        answered: f64,
        flaws: impl IntoIterator<Item = (&'a str, f64)>,
        seconds: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Option<Self> {
        let mut quality = Self::default();
        for (flaw, count) in flaws {
            let share = ratio(count, answered)?;
            match flaw {
                "empty" => quality.empty += share,
                "loop" => quality.circling += share,
                "refusal" => quality.refusal += share,
                "language" => quality.language += share,
                "unfinished" => quality.unfinished += share,
                _ => {}
            }
        }
        let mut better = 0.0;
        for (outcome, count) in seconds {
            quality.second_answers += count;
            if outcome == "better" {
                better += count;
            }
        }
        quality.second_answers_better = ratio(better, quality.second_answers);
        (answered > 0.0).then_some(quality)
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

/// What a program exports now.
pub(crate) async fn exposition(address: &str) -> Result<Exposition, AskError> {
    let text = ask::ask(address, "metrics", &[]).await?;
    Ok(Exposition::read(&String::from_utf8_lossy(&text)))
}

/// The alerts that fire, as a Prometheus says.
pub(crate) async fn alerts(address: &str) -> Result<Vec<Alert>, AskError> {
    prometheus::alerts(address).await
}

impl Display for Quality {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [empty, circling, refusal, language, unfinished] = [
            self.empty,
            self.circling,
            self.refusal,
            self.language,
            self.unfinished,
        ]
        .map(|share| share * 100.0);
        writeln!(
            f,
            "poor answers       {empty:.2} % empty, {circling:.2} % loops, {refusal:.2} % refusals, \
             {language:.2} % in another language, {unfinished:.2} % unfinished"
        )?;
        match self.second_answers_better {
            Some(better) => writeln!(
                f,
                "second answers     {:.0}, {:.2} % of them better",
                self.second_answers,
                better * 100.0
            ),
            None => Ok(()),
        }
    }
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
        if let Some(quality) = &self.quality {
            write!(f, "{quality}")?;
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
            quality: Quality::of(
                200.0,
                [("loop", 3.0), ("refusal", 1.0), ("language", 4.0)],
                [("better", 3.0), ("poor", 1.0)],
            ),
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
poor answers       0.00 % empty, 1.50 % loops, 0.50 % refusals, 2.00 % in another language, 0.00 % unfinished
second answers     4, 75.00 % of them better
alert              critical: LapidaryWorkerGone: Worker a cannot be scraped.
";
        assert_eq!(report.to_string(), expected);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["jobs"]["succeeded"], 19.0);
        assert_eq!(json.get("memory_mb"), None);
        assert_eq!(json["quality"]["loop"], 0.015);
        assert_eq!(json["quality"]["second_answers_better"], 0.75);
        assert_eq!(Quality::of(0.0, [("loop", 0.0)], []), None);
    }
}
