//! The intake of what the broker gave up on: every job in it gets its result and its dead letter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use lapidary_schemas::{Failure, FailureCode, Job, Status};
use tokio_util::sync::CancellationToken;

use super::StepError;
use super::items::{unworked, unworked_job};
use crate::queue::{Delivery, Lane, Queue, Settle, Undecodable};
use crate::results::{DeadLetter, Finished, Results};

/// Deliveries taken at once.
const TAKEN_MAX: usize = 100;
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// Characters of an unreadable message that its dead letter keeps.
const BODY_CHARS_MAX: usize = 1_024;

/// Takes in what was dropped. Every process may do it at once: each delivery is lent to one.
#[derive(Debug)]
pub(super) struct Intake<Q, R> {
    queue: Arc<Q>,
    results: Arc<R>,
    taken: AtomicU64,
}

impl<Q: Queue, R: Results> Intake<Q, R> {
    pub(super) fn new(queue: &Arc<Q>, results: &Arc<R>) -> Self {
        Self {
            queue: Arc::clone(queue),
            results: Arc::clone(results),
            taken: AtomicU64::new(0),
        }
    }

    /// Messages taken in since this was last asked.
    pub(super) fn taken_since(&self) -> u64 {
        self.taken.swap(0, Ordering::Relaxed)
    }

    /// Works until `stop`.
    pub(super) async fn run(&self, stop: &CancellationToken) {
        loop {
            let taken = stop.run_until_cancelled(self.take(Utc::now)).await;
            let Some(taken) = taken else { return };
            if let Err(error) = taken {
                tracing::warn!(%error, "steward: dropped messages were not taken in");
                if stop
                    .run_until_cancelled(tokio::time::sleep(PAUSE))
                    .await
                    .is_none()
                {
                    return;
                }
            }
        }
    }

    /// Waits for dropped messages, gives each its result, and settles it. Result first: a crash
    /// between the two brings the message back, and the second result changes nothing.
    async fn take(&self, now: impl Fn() -> DateTime<Utc>) -> Result<(), StepError> {
        let deliveries = self.queue.receive(&Lane::Dropped, TAKEN_MAX).await?;
        let now = now();
        let (mut finished, mut settled) = (Vec::new(), Vec::new());
        for Delivery { body, receipt } in deliveries {
            match body {
                Ok(job) => {
                    finished.push(given_up(job, now));
                    settled.push((receipt, Settle::Done));
                }
                Err(unreadable) => {
                    finished.extend(unreadable_result(&unreadable, now));
                    settled.push((
                        receipt,
                        Settle::Dead {
                            reason: unreadable.message,
                        },
                    ));
                }
            }
        }
        if !finished.is_empty() {
            self.results.put_once(&finished).await?;
        }
        let taken = settled.len() as u64;
        for outcome in self.queue.settle(settled).await {
            outcome?;
        }
        self.taken.fetch_add(taken, Ordering::Relaxed);
        Ok(())
    }
}

fn given_up(job: Job, now: DateTime<Utc>) -> Finished {
    let reason = "the broker gave up on it after too many deliveries".to_owned();
    let failure = Failure::new(FailureCode::WorkerLost, reason.clone());
    let result = unworked_job(&job, Status::Failed, failure, now);
    let (job_id, attempts) = (job.id, 0);
    let dead_letter = DeadLetter {
        job_id,
        job: Some(job),
        body: None,
        reason,
        attempts,
        at: now,
    };
    Finished {
        result,
        dead_letter: Some(dead_letter),
    }
}

/// The result of a message that is no job; none if it does not say whose it is.
fn unreadable_result(unreadable: &Undecodable, now: DateTime<Utc>) -> Option<Finished> {
    let Some(job_id) = unreadable.job_id else {
        let bytes = unreadable.body.len();
        tracing::error!(
            bytes,
            "steward: a message that is no job and names none was dropped"
        );
        return None;
    };
    let failure = Failure::new(FailureCode::ValidationError, unreadable.message.clone());
    let body = String::from_utf8_lossy(&unreadable.body)
        .chars()
        .take(BODY_CHARS_MAX)
        .collect();
    let dead_letter = DeadLetter {
        job_id,
        job: None,
        body: Some(body),
        reason: unreadable.message.clone(),
        attempts: 0,
        at: now,
    };
    let result = unworked(job_id, Status::Failed, failure, now);
    Some(Finished {
        result,
        dead_letter: Some(dead_letter),
    })
}
