//! A report made of what a Prometheus keeps.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ask::{AskError, ask};
use super::{Alert, Jobs, MEGABYTE, Quality, Report, ratio};

/// Alerts of Lapidary begin with it.
const ALERT_PREFIX: &str = "Lapidary";

#[derive(Debug, Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Debug, Deserialize)]
struct Found {
    result: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
struct Sample {
    metric: Labels,
    /// The time, and the value as text.
    value: (f64, String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Labels {
    status: String,
    flaw: String,
    outcome: String,
    alertname: String,
    severity: String,
}

#[derive(Debug, Deserialize)]
struct Alerts {
    alerts: Vec<Told>,
}

#[derive(Debug, Deserialize)]
struct Told {
    labels: Labels,
    #[serde(default)]
    annotations: Annotations,
    state: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    summary: String,
}

/// A Prometheus that is asked.
#[derive(Debug)]
struct Prometheus<'a> {
    address: &'a str,
}

impl Prometheus<'_> {
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<T, AskError> {
        let answer = ask(self.address, path, parameters).await?;
        let answer: Answer<T> =
            serde_json::from_slice(&answer).map_err(|error| AskError::Answer {
                address: self.address.to_owned(),
                message: error.to_string(),
            })?;
        Ok(answer.data)
    }

    async fn samples(&self, expression: &str) -> Result<Vec<Sample>, AskError> {
        let found: Found = self.get("api/v1/query", &[("query", expression)]).await?;
        Ok(found.result)
    }

    /// The one number that an expression is, if it is one.
    async fn number(&self, expression: &str) -> Result<Option<f64>, AskError> {
        let samples = self.samples(expression).await?;
        Ok(samples.first().and_then(Sample::number))
    }
}

impl Sample {
    fn number(&self) -> Option<f64> {
        let number: f64 = self.value.1.parse().ok()?;
        number.is_finite().then_some(number)
    }

    /// The number, where none is none.
    fn count(&self) -> f64 {
        self.number().unwrap_or_default()
    }
}

/// Asks about the time until now.
pub(super) async fn report(address: &str, window: Duration) -> Result<Report, AskError> {
    let prometheus = Prometheus { address };
    let seconds = window.as_secs();
    let since = |metric: &str| format!("sum(increase({metric}[{seconds}s]))");
    let by = async |label: &str, metric: &str| {
        let counts = format!("sum by ({label}) (increase({metric}[{seconds}s]))");
        prometheus.samples(&counts).await
    };
    let mut jobs = Jobs::default();
    for sample in by("status", "lapidary_jobs_total").await? {
        jobs.add(&sample.metric.status, sample.count());
    }
    let flaws = by("flaw", "lapidary_poor_answers_total").await?;
    let seconds_made = by("outcome", "lapidary_second_answers_total").await?;
    let response = "lapidary_response_time_seconds";
    let p95 =
        format!("histogram_quantile(0.95, sum by (le) (increase({response}_bucket[{seconds}s])))");
    let total = async |metric: &str| {
        let total = prometheus.number(&since(metric)).await?;
        Ok::<f64, AskError>(total.unwrap_or_default())
    };
    let answered = total(&format!("{response}_count")).await?;
    let took = total(&format!("{response}_sum")).await?;
    let decoded = total("lapidary_engine_decode_tokens_total").await?;
    let busy = total("lapidary_engine_busy_seconds_total").await?;
    let with_answer = total("lapidary_answer_length_tokens_count").await?;
    let largest = format!("max(max_over_time(lapidary_resident_memory_bytes[{seconds}s]))");
    let memory = prometheus.number(&largest).await?;
    Ok(Report {
        source: address.to_owned(),
        window_s: Some(seconds),
        success_rate: jobs.success_rate(),
        jobs,
        response_time_mean_s: ratio(took, answered),
        response_time_p95_s: prometheus.number(&p95).await?,
        tokens_per_second: ratio(decoded, busy),
        tokens_generated: total("lapidary_generated_tokens_total").await?,
        quality: Quality::of(
            with_answer,
            flaws.iter().map(|one| (&*one.metric.flaw, one.count())),
            seconds_made
                .iter()
                .map(|one| (&*one.metric.outcome, one.count())),
        ),
        memory_mb: memory.map(|bytes| bytes / MEGABYTE),
        alerts: alerts(address).await?,
    })
}

/// The alerts that fire now.
pub(super) async fn alerts(address: &str) -> Result<Vec<Alert>, AskError> {
    let told: Alerts = Prometheus { address }.get("api/v1/alerts", &[]).await?;
    Ok(firing(told))
}

/// Those that fire, of Lapidary alone.
fn firing(told: Alerts) -> Vec<Alert> {
    let ours =
        |told: &Told| told.state == "firing" && told.labels.alertname.starts_with(ALERT_PREFIX);
    let alerts = told.alerts.into_iter().filter(ours).map(|told| Alert {
        name: told.labels.alertname,
        severity: told.labels.severity,
        summary: told.annotations.summary,
    });
    let mut alerts: Vec<Alert> = alerts.collect();
    alerts.sort_by(|a, b| (&a.severity, &a.name).cmp(&(&b.severity, &b.name)));
    alerts
}
