//! The step that gives a job its one result and moves its batch's counters.

use std::collections::BTreeMap;

use chrono::Utc;
use lapidary_schemas::limits::{RESULT_BYTES_MAX, RETENTION_DEFAULT_S};
use lapidary_schemas::result::{Timings, Usage};
use lapidary_schemas::{BatchId, Failure, FailureCode, JobId, JobResult, Status};
use rusqlite::{Connection, params};

use super::batches::{complete_if_done, number, row};
use super::jobs::{JobName, JobRow, stored_result};
use super::{decode, encode, letters};
use crate::embedded::{StoreError, now_ms};
use crate::results::{DeadLetter, Finished, Put};

/// What is written of a finished job; made before the file's writer is asked, who serves everybody.
pub(super) struct Ending {
    name: JobName,
    counts: Counts,
    body: String,
    dead_letter: Option<DeadLetter>,
}

impl Ending {
    pub(super) fn of(finished: &Finished) -> Result<Self, StoreError> {
        Ok(Self {
            dead_letter: finished.dead_letter.clone(),
            ..Self::alive(&finished.result)?
        })
    }

    /// That of a job that left no dead letter.
    pub(super) fn alive(result: &JobResult) -> Result<Self, StoreError> {
        let body = encode("result", result)?;
        if body.len() > RESULT_BYTES_MAX {
            return Err(StoreError::Conflict(format!(
                "result of job {} is {} bytes, the limit is {RESULT_BYTES_MAX}",
                result.job_id,
                body.len()
            )));
        }
        Ok(Self {
            name: JobName {
                id: result.job_id,
                batch: result.batch_id,
                item: result.item,
                custom_id: result.custom_id.clone(),
            },
            counts: Counts::of(result),
            body,
            dead_letter: None,
        })
    }
}

/// By how much the counters of a batch move.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// Jobs, by the place of their status in [`STATUSES`].
    jobs: [i64; STATUSES.len()],
    prompt_tokens: i64,
    completion_tokens: i64,
    /// Jobs that nobody ran: they are counted already if their batch was cut short.
    idle: i64,
}

/// The statuses that a batch counts, in the order of its columns.
const STATUSES: [Status; 5] = [
    Status::Succeeded,
    Status::Filtered,
    Status::Failed,
    Status::Cancelled,
    Status::Expired,
];

impl Counts {
    fn of(result: &JobResult) -> Self {
        Self {
            jobs: STATUSES.map(|status| i64::from(status == result.status)),
            prompt_tokens: i64::from(result.usage.prompt_tokens),
            completion_tokens: i64::from(result.usage.completion_tokens),
            idle: 0,
        }
    }

    /// Adds `sign` times another's.
    fn add(&mut self, other: &Self, sign: i64) {
        for (jobs, more) in self.jobs.iter_mut().zip(other.jobs) {
            *jobs += sign * more;
        }
        self.prompt_tokens += sign * other.prompt_tokens;
        self.completion_tokens += sign * other.completion_tokens;
        self.idle += sign * other.idle;
    }
}

/// What becomes of counters in one operation: each batch's are written once, however many of its jobs
/// the operation is about.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<i64, Counts>);

impl Tally {
    /// Takes a result out of its batch's counters.
    pub(super) fn take_out(&mut self, n: i64, result: &JobResult) {
        self.0.entry(n).or_default().add(&Counts::of(result), -1);
    }

    /// Moves the counters, and ends the batches all of whose jobs are done.
    pub(super) fn write(self, db: &Connection) -> Result<(), StoreError> {
        for (n, mut counts) in self.0 {
            let batch = row(db, n)?;
            if batch.cut_short() {
                let name = batch.state_name();
                let cut = STATUSES.iter().zip(&mut counts.jobs);
                for (_, jobs) in cut.filter(|(status, _)| status.as_str() == name) {
                    // The results of these say more than that they were cut off.
                    *jobs -= counts.idle;
                }
            }
            let [succeeded, filtered, failed, cancelled, expired] = counts.jobs;
            db.prepare_cached(
                "UPDATE batch SET succeeded = succeeded + ?2, filtered = filtered + ?3,
                        failed = failed + ?4, cancelled = cancelled + ?5, expired = expired + ?6,
                        prompt_tokens = prompt_tokens + ?7,
                        completion_tokens = completion_tokens + ?8 WHERE n = ?1",
            )?
            .execute([
                n,
                succeeded,
                filtered,
                failed,
                cancelled,
                expired,
                counts.prompt_tokens,
                counts.completion_tokens,
            ])?;
            complete_if_done(db, n)?;
        }
        Ok(())
    }
}

pub(super) fn put_once(
    db: &Connection,
    ending: &Ending,
    tally: &mut Tally,
) -> Result<Put, StoreError> {
    let known = JobRow::find(db, ending.name.id)?;
    if let Some(n) = known.as_ref().and_then(|job| job.result) {
        let first = decode("result", &stored_result(db, n)?)?;
        return Ok(Put::Already(Some(Box::new(first))));
    }
    let job = match known {
        Some(job) => job,
        None => JobRow::insert(db, &ending.name)?,
    };
    if let Some(letter) = &ending.dead_letter {
        letters::store(db, letter)?;
    }
    finish(db, &job, ending, tally)?;
    Ok(Put::Stored)
}

/// Stores the result of an unfinished job. Its batch's counters move in this very operation.
pub(super) fn finish(
    db: &Connection,
    job: &JobRow,
    ending: &Ending,
    tally: &mut Tally,
) -> Result<(), StoreError> {
    let retention_ms = i64::try_from(RETENTION_DEFAULT_S)
        .unwrap_or(i64::MAX)
        .saturating_mul(1000);
    let forget_ms = job
        .batch
        .is_none()
        .then(|| now_ms().saturating_add(retention_ms));
    db.prepare_cached("INSERT INTO result (job, batch, body, forget_ms) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            job.id.0.as_bytes(),
            job.batch,
            ending.body,
            forget_ms
        ])?;
    let n = db.last_insert_rowid();
    db.prepare_cached("UPDATE job SET result = ?2, running = 0, worker = NULL WHERE id = ?1")?
        .execute(params![job.id.0.as_bytes(), n])?;
    db.prepare_cached("DELETE FROM partial WHERE job = ?1")?
        .execute([job.id.0.as_bytes()])?;
    db.prepare_cached("DELETE FROM registered WHERE job = ?1")?
        .execute([job.id.0.as_bytes()])?;
    if let Some(n) = job.batch {
        let idle = i64::from(!job.running);
        let counts = Counts {
            idle,
            ..ending.counts
        };
        tally.0.entry(n).or_default().add(&counts, 1);
    }
    Ok(())
}

/// The result of a job that was cancelled or expired without a worker's doing.
pub(super) fn unworked(
    job: JobId,
    batch_id: Option<BatchId>,
    row: &JobRow,
    status: Status,
) -> JobResult {
    let failure = match status {
        Status::Expired => Failure::new(
            FailureCode::DeadlineExceeded,
            "the batch's deadline passed first",
        ),
        _ => Failure::new(FailureCode::Cancelled, "cancelled on request"),
    };
    JobResult {
        job_id: job,
        batch_id,
        item: row.item.and_then(|item| u64::try_from(item).ok()),
        custom_id: row.custom_id.clone(),
        status,
        text: None,
        tool_calls: Vec::new(),
        finish_reason: None,
        usage: Usage::default(),
        timings: Timings::default(),
        tokens_per_second: None,
        filter: Vec::new(),
        failure: Some(failure),
        logprobs: Vec::new(),
        attempt: row.attempts,
        worker: None,
        model: None,
        seed: None,
        finished_at: Utc::now(),
    }
}

/// The number of a job's batch, which may be unknown so far.
pub(super) fn batch_number(
    db: &Connection,
    batch: Option<BatchId>,
) -> Result<Option<i64>, StoreError> {
    batch.map(|batch| number(db, batch)).transpose()
}
