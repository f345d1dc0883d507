//! `lapidary report`: how an installation has been.

use std::io::Write as _;

use crate::cli::ReportArgs;
use crate::exit::{Exit, Stop};
use crate::report::{self, AskError};

/// Prints the report; see `lapidary report --help`.
pub(super) async fn run(args: ReportArgs) -> Result<Exit, Stop> {
    let report = match &args.worker {
        Some(worker) => report::of_worker(worker).await?,
        None => report::of_prometheus(&args.prometheus, args.window).await?,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        let json = serde_json::to_string_pretty(&report);
        writeln!(out, "{}", json.map_err(std::io::Error::other)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.alerts.is_empty() {
        Exit::Well
    } else {
        Exit::Failed
    })
}

impl From<AskError> for Stop {
    fn from(error: AskError) -> Self {
        let exit = match error {
            AskError::Address { .. } => Exit::Usage,
            AskError::Away { .. } | AskError::Answer { .. } => Exit::Unavailable,
        };
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self::new(exit, message)
    }
}
