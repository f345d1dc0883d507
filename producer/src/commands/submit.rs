//! `lapidary submit`: a file of requests becomes a batch.

use std::io::Write as _;
use std::path::Path;

use chrono::{TimeDelta, Utc};
use lapidary_schemas::limits::BATCH_ITEMS_MAX;
use lapidary_transport::failpoint;
use tokio::io::{AsyncBufRead, BufReader};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::telling::Telling;
use crate::catalogue::BatchRecord;
use crate::cli::Submit;
use crate::config::Config;
use crate::exit::{Exit, Stop};
use crate::progress::say;
use crate::submission::{self, Ceiling, MISTAKES_MAX, MODEL_MISMATCH, Mistake, Submission, Terms};

/// Submits a file; see `lapidary submit --help`.
pub(super) async fn run(args: Submit, stop: CancellationToken) -> Result<Exit, Stop> {
    if let Some(point) = args.unsafe_failpoints {
        failpoint::arm(point);
    }
    let mut lines = open(&args.file).await?;
    let config = Config::resolve(&args.place)?;
    let telling = Telling::of_command(&args.traces, &TaskTracker::new())?;
    let stores = config.open().await?;
    let deadline = args
        .deadline
        .and_then(|seconds| TimeDelta::try_seconds(i64::try_from(seconds).ok()?));
    let mut batch = submission::bulk(&config.tenant, Utc::now(), deadline);
    batch.model = args.model.clone().unwrap_or_default();
    let place = telling.traces.submission(batch.id.0, None);
    batch.traceparent = place.map(|place| place.to_string());
    let terms = Terms {
        ceiling: Ceiling::NONE,
        items_max: BATCH_ITEMS_MAX,
        check_only: false,
    };
    let mut submission = Submission::new(stores, batch, terms);
    let read = stop.run_until_cancelled(submission.read(&mut lines)).await;
    let Some(read) = read else {
        submission.abandon().await?;
        say("interrupted; nothing was submitted");
        return Ok(Exit::Interrupted);
    };
    read?;
    let mistakes = submission.mistakes();
    if !mistakes.is_empty() {
        submission.abandon().await?;
        return Err(refusal(&args.file, &mistakes));
    }
    let batch = submission.commit(&BatchRecord::default()).await?;
    writeln!(std::io::stdout(), "{}", batch.id)?;
    telling.traces.batch_submitted(&batch, None);
    telling.end().await;
    Ok(Exit::Well)
}

async fn open(file: &Path) -> Result<Box<dyn AsyncBufRead + Unpin + Send>, Stop> {
    let path = if file == Path::new("-") {
        Path::new("/dev/stdin")
    } else {
        file
    };
    let opened = tokio::fs::File::open(path).await;
    let opened =
        opened.map_err(|error| Stop::usage(format!("cannot read {}: {error}", file.display())))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// Why nothing is submitted.
fn refusal(file: &Path, mistakes: &[Mistake]) -> Stop {
    let name = if file == Path::new("-") {
        "standard input".into()
    } else {
        file.display().to_string()
    };
    let more = if mistakes.len() >= MISTAKES_MAX {
        "\n  (reading stopped here)"
    } else {
        ""
    };
    let list: Vec<String> = mistakes
        .iter()
        .map(|mistake| format!("  {}", mistake.message))
        .collect();
    let stop = Stop::usage(format!(
        "{name} has mistakes, nothing was submitted:\n{}{more}",
        list.join("\n")
    ));
    if mistakes
        .iter()
        .any(|mistake| mistake.code == MODEL_MISMATCH)
    {
        return stop.hint("--model NAME names one model for all lines");
    }
    stop
}
