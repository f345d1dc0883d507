//! How an installation is observed.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;

use super::PlaceArgs;

/// Shortest time that a report can be about: figures are taken every few seconds.
const WINDOW_MIN: Duration = Duration::from_secs(1);
/// Pauses between two looks: the stores are asked in each.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_mins(10);

/// Whom traces are told to.
#[derive(Debug, Clone, Default, Args)]
pub struct TraceArgs {
    /// Tell the traces of jobs to the collector at this base address, which takes OTLP over HTTP, such
    /// as `http://127.0.0.1:4318`. By default nobody is told
    #[arg(long, value_name = "URL", env = "LAPIDARY_OTLP")]
    pub otlp: Option<String>,
    /// The share of jobs whose traces are told, from 0 to 1, where the client does not decide it
    #[arg(
        long,
        value_name = "SHARE",
        env = "LAPIDARY_TRACE_SHARE",
        default_value = "1",
        value_parser = lapidary_transport::traces::parse_share
    )]
    pub trace_share: f64,
}

/// `report`.
#[derive(Debug, Args)]
#[command(after_help = "The exit code is 1 while an alert fires.")]
pub struct ReportArgs {
    /// The Prometheus that scrapes workers and gateways, with the rules of dashboards/
    #[arg(
        long,
        value_name = "URL",
        env = "LAPIDARY_PROMETHEUS",
        default_value = "http://127.0.0.1:9090"
    )]
    pub prometheus: String,
    /// Ask a worker's operations endpoint (`http://HOST:PORT`) instead, about the time since its start
    #[arg(long, value_name = "URL", conflicts_with = "window")]
    pub worker: Option<String>,
    /// The time that the report is about, such as 15m, 1h or 7d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = window)]
    pub window: Duration,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A time of whole seconds.
fn window(written: &str) -> Result<Duration, String> {
    let window = humantime::parse_duration(written).map_err(|error| error.to_string())?;
    if window < WINDOW_MIN {
        return Err(format!("it must be {} s at least", WINDOW_MIN.as_secs()));
    }
    Ok(window)
}

/// `top`.
#[derive(Debug, Args)]
#[command(after_help = "Keys: q ends, arrows move.")]
pub struct TopArgs {
    /// Look again after so long
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Print one frame, after two looks, and end; also where there is no terminal
    #[arg(long)]
    pub once: bool,
    /// Show the alerts that fire in this Prometheus, too
    #[arg(long, value_name = "URL", env = "LAPIDARY_PROMETHEUS")]
    pub prometheus: Option<String>,
    /// Where jobs wait and results rest.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// A pause between two looks.
fn interval(written: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(written).map_err(|error| error.to_string())?;
    if INTERVALS.contains(&interval) {
        return Ok(interval);
    }
    let [least, most] =
        [INTERVALS.start(), INTERVALS.end()].map(|end| humantime::format_duration(*end));
    Err(format!("it must be from {least} to {most}"))
}
