//! A report made of what one worker exports, which is about the time since its start.

use lapidary_schemas::metrics::thresholds::{
    DECODE_RATE_MIN, MEMORY_MAX, RESPONSE_TIME_MAX, SUCCESS_MIN,
};
use lapidary_schemas::metrics::{
    ANSWER_LENGTH, BUSY, DECODE_TOKENS, GENERATED_TOKENS, JOBS, POOR_ANSWERS, RESIDENT_MEMORY,
    RESPONSE_TIME, SECOND_ANSWERS,
};

use super::ask::AskError;
use super::exposition::Exposition;
use super::{Alert, Jobs, MEGABYTE, Quality, Report, ratio};

/// Asks a worker's operations endpoint.
pub(super) async fn report(address: &str) -> Result<Report, AskError> {
    let exposition = super::exposition(address).await?;
    if exposition.by(RESIDENT_MEMORY.name, "").next().is_none() {
        return Err(AskError::Answer {
            address: address.to_owned(),
            message: format!(
                "it exports no `{}`, so it is no worker",
                RESIDENT_MEMORY.name
            ),
        });
    }
    Ok(of(address, &exposition))
}

fn of(address: &str, exposition: &Exposition) -> Report {
    let mut jobs = Jobs::default();
    for (status, count) in exposition.by(JOBS.name, "status") {
        jobs.add(status, count);
    }
    let response = |part| exposition.sum(&format!("{}{part}", RESPONSE_TIME.name));
    let mut report = Report {
        source: address.to_owned(),
        window_s: None,
        success_rate: jobs.success_rate(),
        jobs,
        response_time_mean_s: ratio(response("_sum"), response("_count")),
        response_time_p95_s: exposition.quantile(RESPONSE_TIME.name, 0.95),
        tokens_per_second: ratio(
            exposition.sum(DECODE_TOKENS.name),
            exposition.sum(BUSY.name),
        ),
        tokens_generated: exposition.sum(GENERATED_TOKENS.name),
        quality: Quality::of(
            exposition.sum(&format!("{}_count", ANSWER_LENGTH.name)),
            exposition.by(POOR_ANSWERS.name, "flaw"),
            exposition.by(SECOND_ANSWERS.name, "outcome"),
        ),
        memory_mb: Some(exposition.sum(RESIDENT_MEMORY.name) / MEGABYTE),
        alerts: Vec::new(),
    };
    report.alerts = alerts(&report);
    report
}

/// What is beyond the limits of the alerts of the same names.
fn alerts(report: &Report) -> Vec<Alert> {
    let memory_max = MEMORY_MAX.value / MEGABYTE;
    let over = |figure: Option<f64>, limit| figure.filter(|figure| *figure > limit);
    let under = |figure: Option<f64>, limit| figure.filter(|figure| *figure < limit);
    let response = over(report.response_time_mean_s, RESPONSE_TIME_MAX.value);
    let success = under(report.success_rate, SUCCESS_MIN.value);
    let memory = over(report.memory_mb, memory_max);
    // Whoever decoded nothing is not slow.
    let rate = report.tokens_per_second.filter(|rate| *rate > 0.0);
    let rate = under(rate, DECODE_RATE_MIN.value);
    let told = [
        (
            "LapidarySuccessRateLow",
            "critical",
            success.map(|rate| format!("Only {:.1} % of jobs got an answer.", rate * 100.0)),
        ),
        (
            "LapidaryResponseTimeHigh",
            "warning",
            response.map(|time| format!("Answers took {time:.1} s on average.")),
        ),
        (
            "LapidaryMemoryHigh",
            "warning",
            memory.map(|megabytes| format!("It holds {megabytes:.0} MB of memory.")),
        ),
        (
            "LapidaryGenerationSlow",
            "warning",
            rate.map(|rate| format!("It generated {rate:.1} tokens a second.")),
        ),
    ];
    let told = told.into_iter().filter_map(|(name, severity, summary)| {
        Some(Alert {
            name: name.to_owned(),
            severity: severity.to_owned(),
            summary: summary?,
        })
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The report of a worker with these figures beside many jobs that went well.
    fn told(response_s: f64, megabytes: f64, rate: f64, failed: f64) -> Vec<String> {
        let text = format!(
            "lapidary_jobs_total{{class=\"bulk\",status=\"succeeded\",code=\"NONE\"}} {}\n\
             lapidary_jobs_total{{class=\"bulk\",status=\"failed\",code=\"INTERNAL\"}} {failed}\n\
             lapidary_response_time_seconds_sum{{origin=\"job\"}} {response_s}\n\
             lapidary_response_time_seconds_count{{origin=\"job\"}} 1\n\
             lapidary_engine_decode_tokens_total {rate}\n\
             lapidary_engine_busy_seconds_total 1\n\
             lapidary_resident_memory_bytes {}\n",
            1_000.0 - failed,
            megabytes * MEGABYTE
        );
        let report = of("http://worker", &Exposition::read(&text));
        report.alerts.into_iter().map(|alert| alert.name).collect()
    }

    #[test]
    fn alerts_begin_just_beyond_their_limits() {
        assert_eq!(told(10.0, 8_192.0, 5.0, 50.0), [""; 0]);
        let beyond = [
            "LapidarySuccessRateLow",
            "LapidaryResponseTimeHigh",
            "LapidaryMemoryHigh",
            "LapidaryGenerationSlow",
        ];
        assert_eq!(told(10.1, 8_193.0, 4.9, 51.0), beyond);
        // Nothing was generated yet.
        assert_eq!(told(1.0, 1.0, 0.0, 0.0), [""; 0]);
    }
}
