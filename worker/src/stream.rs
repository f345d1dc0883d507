//! An answer on its way: what a job has generated so far, readable before its result is there.

use std::time::Duration;

use lapidary_engine::{Event, GenerateError, Generation, Outcome};
use lapidary_schemas::{Class, Job, JobId};
use lapidary_transport::Results;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::filter::Stage;
use crate::line::Line;

/// How often new text is stored.
const STREAM_EVERY: Duration = Duration::from_millis(100);
/// How long storing it may hold the answer up.
const STORE_MAX: Duration = Duration::from_millis(500);

/// Waits for the answer; where somebody waits for it, its text so far is stored as it comes. Text
/// that a filter may still refuse or change is not shown.
pub(crate) async fn finish(
    line: &Line,
    job: &Job,
    generation: Generation,
) -> Result<Outcome, GenerateError> {
    match job.class {
        Class::Interactive if !line.filters.holds_back(Stage::OutputText) => {
            watched(generation, &*line.stores.results, job.id).await
        }
        _ => generation.finish().await,
    }
}

/// As [`Generation::finish`], its text stored on the way. What cannot be stored in time is tried
/// again with what came after it: the result brings the whole text in any case.
async fn watched(
    mut generation: Generation,
    results: &impl Results,
    job: JobId,
) -> Result<Outcome, GenerateError> {
    let (mut text, mut stored) = (String::new(), 0);
    let mut ticks = interval(STREAM_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = generation.next() => match event {
                Some(Event::Text(more)) => text.push_str(&more),
                Some(Event::Finished(result)) => return result,
                None => return Err(GenerateError::Stopped),
            },
            _ = ticks.tick(), if stored < text.len() => {
                let appended = results.append_tokens(job, stored, &text[stored..]);
                match timeout(STORE_MAX, appended).await {
                    Ok(Ok(())) => stored = text.len(),
                    Ok(Err(error)) => tracing::debug!(job_id = %job, %error, "text not shown yet"),
                    Err(_) => tracing::debug!(job_id = %job, "text not shown yet: no answer"),
                }
            }
        }
    }
}
