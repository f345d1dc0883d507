//! `lapidary watch`, `results`, `cancel`, `pause` and `resume`: what can be done with a batch.

use std::io::Write as _;
use std::time::{Duration, Instant};

use lapidary_schemas::batch_line::OutputLine;
use lapidary_schemas::{BatchId, BatchState, Progress as Counts};
use lapidary_transport::Results as _;
use lapidary_transport::results::ResultsError;
use tokio_util::sync::CancellationToken;

use crate::cli::{Fetch, Format, OneBatch, Watch};
use crate::config::Config;
use crate::exit::{Exit, Stop};
use crate::progress::{Progress, Reached, say};
use crate::stores::Stores;

/// Results asked for at once.
const PAGE_ITEMS_MAX: usize = 500;
/// Longest wait for a hint that something changed.
const CHANGED_MAX: Duration = Duration::from_secs(1);

/// Shows how far a batch is until it ends.
pub(super) async fn watch(args: Watch, stop: CancellationToken) -> Result<Exit, Stop> {
    let place = Config::resolve(&args.place)?.open().await?;
    let mut progress = Progress::new(Instant::now());
    loop {
        let counts = known(&place, args.batch).await?;
        progress.show(reached(&counts), Instant::now());
        if has_ended(counts.state) {
            progress.clear();
            for line in summary(&counts) {
                say(&line);
            }
            return Ok(exit(&counts));
        }
        let changed = place.results.changed(args.batch, END, CHANGED_MAX);
        tokio::select! {
            () = stop.cancelled() => {
                progress.clear();
                say("stopped watching; the batch goes on");
                return Ok(Exit::Interrupted);
            }
            // A hint only: an error shows up again at the next look.
            _ = async { tokio::join!(changed, tokio::time::sleep(LOOK_EVERY)) } => (),
        }
    }
}

/// Prints results from a cursor on, as JSON lines.
pub(super) async fn results(args: Fetch, stop: CancellationToken) -> Result<Exit, Stop> {
    let place = Config::resolve(&args.place)?.open().await?;
    let mut cursor = args.cursor.clone();
    let counts = loop {
        // Read first: if the batch had ended by then, the last page that follows is complete.
        let counts = known(&place, args.batch).await?;
        let page = place
            .results
            .tail(args.batch, &cursor, PAGE_ITEMS_MAX)
            .await?;
        print(&page.results, args.format)?;
        let nothing = page.results.is_empty();
        cursor = page.cursor;
        if nothing && (has_ended(counts.state) || !args.follow) {
            break counts;
        }
        if nothing {
            let changed = place.results.changed(args.batch, &cursor, CHANGED_MAX);
            if stop.run_until_cancelled(changed).await.is_none() {
                break counts;
            }
        }
    };
    if stop.is_cancelled() || !has_ended(counts.state) {
        say(&format!(
            "the batch is not finished; go on with --cursor {cursor}"
        ));
    }
    Ok(if stop.is_cancelled() {
        Exit::Interrupted
    } else {
        exit(&counts)
    })
}

/// Cancels a batch.
pub(super) async fn cancel(args: OneBatch) -> Result<Exit, Stop> {
    let place = Config::resolve(&args.place)?.open().await?;
    let cancelled = place.results.cancel_batch(args.batch).await?;
    let counts = known(&place, args.batch).await?;
    say(if cancelled {
        "cancelled; finished results stay"
    } else {
        "the batch had ended already"
    });
    for line in summary(&counts) {
        say(&line);
    }
    Ok(Exit::Well)
}

/// Pauses a batch, or lets it go on.
pub(super) async fn pause(args: OneBatch, paused: bool) -> Result<Exit, Stop> {
    let place = Config::resolve(&args.place)?.open().await?;
    // Asked first, for its hint where there is no such batch.
    known(&place, args.batch).await?;
    let done = place.results.pause_batch(args.batch, paused).await?;
    let counts = known(&place, args.batch).await?;
    say(match (done, paused) {
        (true, true) => "paused; what runs goes on, nothing else is begun",
        (true, false) => "resumed",
        (false, _) => "the batch had ended already",
    });
    for line in summary(&counts) {
        say(&line);
    }
    Ok(Exit::Well)
}

/// No cursor of any batch: with it `changed` is a wait for a change of state.
const END: &str = "";
/// Shortest time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

async fn known(place: &Stores, batch: BatchId) -> Result<Counts, Stop> {
    match place.results.progress(batch).await {
        Err(error @ ResultsError::NoSuchBatch { .. }) => Err(Stop::usage(error.to_string())
            .hint("results are kept for a time after a batch has ended")),
        counts => Ok(counts?),
    }
}

fn has_ended(state: BatchState) -> bool {
    !matches!(state, BatchState::Open | BatchState::InProgress)
}

fn reached(counts: &Counts) -> Reached {
    Reached {
        done: counts.finished(),
        total: (counts.state != BatchState::Open).then_some(counts.total),
        failed: counts.failed + counts.filtered + counts.cancelled + counts.expired,
        tokens: counts.completion_tokens,
    }
}

/// By outcome: anything without an answer in an ended batch is a failure.
fn exit(counts: &Counts) -> Exit {
    if has_ended(counts.state) && counts.succeeded != counts.total {
        Exit::Failed
    } else {
        Exit::Well
    }
}

/// How a batch stands, line by line.
pub(super) fn summary(counts: &Counts) -> Vec<String> {
    let state = match counts.state {
        BatchState::Open | BatchState::InProgress if counts.paused => "paused",
        BatchState::Open => "open",
        BatchState::InProgress => "in progress",
        BatchState::Completed => "completed",
        BatchState::Cancelled => "cancelled",
        BatchState::Expired => "expired",
    };
    let mut lines = vec![format!(
        "{state}: {} of {} requests are through",
        counts.finished(),
        counts.total
    )];
    let by_status = [
        (counts.succeeded, "succeeded"),
        (counts.filtered, "filtered"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.expired, "expired"),
    ];
    for (count, status) in by_status.into_iter().filter(|(count, _)| *count > 0) {
        lines.push(format!("  {count:>6}  {status}"));
    }
    lines
}

fn print(results: &[lapidary_schemas::JobResult], format: Format) -> Result<(), Stop> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for result in results {
        match format {
            Format::Lapidary => {
                serde_json::to_writer(&mut out, result).map_err(std::io::Error::from)?;
            }
            Format::Openai => {
                serde_json::to_writer(&mut out, &OutputLine::from(result))
                    .map_err(std::io::Error::from)?;
            }
        }
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
