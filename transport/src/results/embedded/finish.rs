//! The step that gives a job its one result and moves its batch's counters.

use chrono::Utc;
use lapidary_schemas::limits::{RESULT_BYTES_MAX, RETENTION_DEFAULT_S};
use lapidary_schemas::result::{Timings, Usage};
use lapidary_schemas::{BatchId, Failure, FailureCode, JobId, JobResult, Status};
use rusqlite::{Connection, params};

use super::batches::{complete_if_done, number, row, state_name};
use super::jobs::{JobRow, stored_result};
use super::{decode, encode, letters};
use crate::embedded::{StoreError, now_ms};
use crate::results::{Finished, Put};

pub(super) fn put_once(db: &Connection, finished: &Finished) -> Result<Put, StoreError> {
    let result = &finished.result;
    let known = JobRow::find(db, result.job_id)?;
    if let Some(n) = known.as_ref().and_then(|job| job.result) {
        let first = decode("result", &stored_result(db, n)?)?;
        return Ok(Put::Already(Some(Box::new(first))));
    }
    let job = match known {
        Some(job) => job,
        None => JobRow::insert(
            db,
            result.job_id,
            result.batch_id,
            result.item,
            result.custom_id.as_deref(),
        )?,
    };
    if let Some(letter) = &finished.dead_letter {
        letters::store(db, letter)?;
    }
    finish(db, &job, result)?;
    Ok(Put::Stored)
}

/// Stores the result of an unfinished job. Its batch's counters move in this very step.
pub(super) fn finish(db: &Connection, job: &JobRow, result: &JobResult) -> Result<(), StoreError> {
    let body = encode("result", result)?;
    if body.len() > RESULT_BYTES_MAX {
        return Err(StoreError::Conflict(format!(
            "result of job {} is {} bytes, the limit is {RESULT_BYTES_MAX}",
            job.id,
            body.len()
        )));
    }
    let retention_ms = i64::try_from(RETENTION_DEFAULT_S)
        .unwrap_or(i64::MAX)
        .saturating_mul(1000);
    let forget_ms = job
        .batch
        .is_none()
        .then(|| now_ms().saturating_add(retention_ms));
    db.prepare_cached("INSERT INTO result (job, batch, body, forget_ms) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![job.id.0.as_bytes(), job.batch, body, forget_ms])?;
    let n = db.last_insert_rowid();
    db.prepare_cached("UPDATE job SET result = ?2, running = 0, worker = NULL WHERE id = ?1")?
        .execute(params![job.id.0.as_bytes(), n])?;
    db.prepare_cached("DELETE FROM partial WHERE job = ?1")?
        .execute([job.id.0.as_bytes()])?;
    db.prepare_cached("DELETE FROM registered WHERE job = ?1")?
        .execute([job.id.0.as_bytes()])?;
    match job.batch {
        Some(n) => count(db, n, job.running, result),
        None => Ok(()),
    }
}

fn count(db: &Connection, n: i64, was_running: bool, result: &JobResult) -> Result<(), StoreError> {
    let batch = row(db, n)?;
    if batch.cut_short() && !was_running {
        // It was counted when the batch was cut short; its own result says more.
        let name = state_name(batch.state);
        db.prepare_cached(&format!(
            "UPDATE batch SET {name} = {name} - 1 WHERE n = ?1"
        ))?
        .execute([n])?;
    }
    move_counters(db, n, result, 1)?;
    complete_if_done(db, n)
}

/// Adds a result to its batch's counters (`sign` 1) or takes it out (-1).
pub(super) fn move_counters(
    db: &Connection,
    n: i64,
    result: &JobResult,
    sign: i64,
) -> Result<(), StoreError> {
    let name = result.status.as_str();
    db.prepare_cached(&format!(
        "UPDATE batch SET {name} = {name} + ?2, prompt_tokens = prompt_tokens + ?3,
                completion_tokens = completion_tokens + ?4 WHERE n = ?1"
    ))?
    .execute([
        n,
        sign,
        sign * i64::from(result.usage.prompt_tokens),
        sign * i64::from(result.usage.completion_tokens),
    ])?;
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
