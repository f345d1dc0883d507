//! Logs, to standard error.
//!
//! ERROR: data was lost or an operator must act. WARN: unexpected, recovered. INFO: starts, stops, a
//! model loaded. DEBUG: a line a job. Never content.

use std::io::IsTerminal;

use lapidary_schemas::worker::DOWNLOAD_LOG;
use tracing_subscriber::EnvFilter;

/// The AMQP client reports as errors what the transport asks on purpose (whether a queue is there)
/// and what it recovers from and reports itself. Directives that follow may turn it on again.
const BROKER_CLIENT_OFF: &str = "lapin=off";

/// Sends logs of the given directives to standard error.
pub fn start(directives: &str) -> Result<(), String> {
    // Who started this program counts on the lines of a download, whatever the level of the others.
    let filter = EnvFilter::try_new(format!(
        "{BROKER_CLIENT_OFF},{DOWNLOAD_LOG}=info,{directives}"
    ))
    .map_err(|error| format!("`--log {directives}` is not understood: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // Who read the log may be gone before this program; the report of that would be a panic.
        .log_internal_errors(false)
        .try_init()
        .map_err(|error| format!("logs are set up already: {error}"))
}
