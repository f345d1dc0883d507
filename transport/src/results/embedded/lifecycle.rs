//! The steps of a job's life, apart from its end.

use lapidary_schemas::{BatchState, Job, JobId, JobResult, Status};
use rusqlite::{Connection, OptionalExtension, params};

use super::batches::{complete_if_done, row as batch_row, set_state, state_name};
use super::finish::{Ending, Tally, finish, unworked};
use super::jobs::{JobName, JobRow, partial, stored_result};
use super::{decode, encode};
use crate::embedded::{StoreError, now_ms};
use crate::results::Begin;

/// Records a job whole. What is known already stays as it is.
pub(super) fn register(db: &Connection, job: &Job) -> Result<(), StoreError> {
    if JobRow::of(db, &job.into())?.result.is_some() {
        return Ok(());
    }
    db.prepare_cached("INSERT OR IGNORE INTO registered (job, at_ms, record) VALUES (?1, ?2, ?3)")?
        .execute(params![job.id.0.as_bytes(), now_ms(), encode("job", job)?])?;
    Ok(())
}

pub(super) fn begin(
    db: &Connection,
    job: &JobName,
    worker: &str,
    tally: &mut Tally,
) -> Result<Begin, StoreError> {
    let row = JobRow::of(db, job)?;
    if row.result.is_some() {
        return Ok(Begin::Finished);
    }
    let batch = row.batch.map(|n| batch_row(db, n)).transpose()?;
    let stopped = match batch.as_ref().map(|batch| batch.state) {
        Some(BatchState::Expired) => Some(Status::Expired),
        Some(BatchState::Cancelled) => Some(Status::Cancelled),
        _ => row.cancel.then_some(Status::Cancelled),
    };
    if let Some(status) = stopped {
        let result = unworked(job.id, job.batch, &row, status);
        finish(db, &row, &Ending::alive(&result)?, tally)?;
        return Ok(Begin::Cancelled);
    }
    // Who had it before may have been lost on it: by that a job is suspected.
    let was_lost = row.running && !row.ended && row.worker.as_deref() != Some(worker);
    let lost = row.lost.saturating_add(u32::from(was_lost));
    if batch.is_some_and(|batch| batch.paused) {
        // Who had it before has lost it: its attempt stays counted.
        db.prepare_cached(
            "UPDATE job SET running = 0, worker = NULL, lost = ?2, ended = 0 WHERE id = ?1",
        )?
        .execute(params![job.id.0.as_bytes(), lost])?;
        return Ok(Begin::Paused);
    }
    let attempt = row.attempts.saturating_add(1);
    db.prepare_cached(
        "UPDATE job SET running = 1, attempts = ?2, worker = ?3, lost = ?4, ended = 0 WHERE id = ?1",
    )?
    .execute(params![job.id.0.as_bytes(), attempt, worker, lost])?;
    db.prepare_cached("DELETE FROM partial WHERE job = ?1")?
        .execute([job.id.0.as_bytes()])?;
    Ok(match lost {
        0 => Begin::Attempt(attempt),
        lost => Begin::Suspect { attempt, lost },
    })
}

/// Notes that an attempt is over, if it is this worker's.
pub(super) fn end_attempt(db: &Connection, id: JobId, worker: &str) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE job SET ended = 1 WHERE id = ?1 AND running = 1 AND worker = ?2")?
        .execute(params![id.0.as_bytes(), worker])?;
    Ok(())
}

/// Hands a job back uncounted, if this worker runs it.
pub(super) fn interrupt(db: &Connection, id: JobId, worker: &str) -> Result<(), StoreError> {
    let Some(job) = JobRow::find(db, id)? else {
        return Ok(());
    };
    if !job.running || job.worker.as_deref() != Some(worker) {
        return Ok(());
    }
    db.prepare_cached(
        "UPDATE job SET running = 0, worker = NULL, attempts = attempts - 1 WHERE id = ?1",
    )?
    .execute([id.0.as_bytes()])?;
    db.prepare_cached("DELETE FROM partial WHERE job = ?1")?
        .execute([id.0.as_bytes()])?;
    let Some(n) = job.batch else { return Ok(()) };
    let batch = batch_row(db, n)?;
    if batch.cut_short() {
        // Nobody runs it any more, so it counts as the rest of its batch did.
        let name = state_name(batch.state);
        db.prepare_cached(&format!(
            "UPDATE batch SET {name} = {name} + 1 WHERE n = ?1"
        ))?
        .execute([n])?;
        complete_if_done(db, n)?;
    }
    Ok(())
}

pub(super) fn append_tokens(
    db: &Connection,
    id: JobId,
    offset: usize,
    text: &str,
) -> Result<(), StoreError> {
    if !JobRow::find(db, id)?.is_some_and(|job| job.running) {
        return Ok(());
    }
    let before = partial(db, id)?.unwrap_or_default();
    if offset > before.len() {
        let length = before.len();
        return Err(StoreError::Conflict(format!(
            "text of job {id} has {length} bytes, not {offset}"
        )));
    }
    // A repeated piece may go further than the text did; what it repeats stays.
    let after = match text.get(before.len() - offset..) {
        _ if offset == 0 => text.to_owned(),
        Some(more) if !more.is_empty() => before + more,
        _ => return Ok(()),
    };
    db.prepare_cached("INSERT OR REPLACE INTO partial (job, text) VALUES (?1, ?2)")?
        .execute(params![id.0.as_bytes(), after])?;
    Ok(())
}

/// Cancels a job; answers whether it was unfinished.
pub(super) fn cancel(db: &Connection, id: JobId, tally: &mut Tally) -> Result<bool, StoreError> {
    let Some(job) = JobRow::find(db, id)? else {
        return Ok(false);
    };
    if job.result.is_some() {
        return Ok(false);
    }
    if job.running {
        db.prepare_cached("UPDATE job SET cancel = 1 WHERE id = ?1")?
            .execute([id.0.as_bytes()])?;
        return Ok(true);
    }
    let batch = match job.batch {
        Some(n) => Some(batch_id(db, n)?),
        None => None,
    };
    let result = unworked(id, batch, &job, Status::Cancelled);
    finish(db, &job, &Ending::alive(&result)?, tally)?;
    Ok(true)
}

fn batch_id(db: &Connection, n: i64) -> Result<lapidary_schemas::BatchId, StoreError> {
    let id = db
        .prepare_cached("SELECT id FROM batch WHERE n = ?1")?
        .query_row([n], |row| row.get(0))
        .optional()?;
    let bytes = id.ok_or_else(|| StoreError::Unusable(format!("batch row {n} is missing")))?;
    Ok(lapidary_schemas::BatchId(uuid::Uuid::from_bytes(bytes)))
}

/// Puts a job in the place of the finished one it names.
pub(super) fn replace(db: &Connection, job: &Job) -> Result<(), StoreError> {
    let conflict = |message: String| Err(StoreError::Conflict(message));
    let Some(old_id) = job.replaces else {
        return conflict(format!("job {} replaces no job", job.id));
    };
    let old = JobRow::find(db, old_id)?;
    let Some((old, n)) = old.and_then(|old| old.result.map(|n| (old, n))) else {
        return conflict(format!(
            "job {old_id} is not finished, so nothing can replace it"
        ));
    };
    match old.replaced {
        Some(by) if by == *job.id.0.as_bytes() => return Ok(()),
        Some(by) => {
            let by = JobId(uuid::Uuid::from_bytes(by));
            return conflict(format!("job {old_id} is already replaced by {by}"));
        }
        None => {}
    }
    if let Some(batch) = old.batch {
        reopen(
            db,
            batch,
            old_id,
            &decode("result", &stored_result(db, n)?)?,
        )?;
    }
    db.prepare_cached("UPDATE job SET replaced = ?2 WHERE id = ?1")?
        .execute(params![old_id.0.as_bytes(), job.id.0.as_bytes()])?;
    register(db, job)
}

fn reopen(db: &Connection, n: i64, old: JobId, result: &JobResult) -> Result<(), StoreError> {
    let batch = batch_row(db, n)?;
    if batch.cut_short() {
        let state = state_name(batch.state);
        return Err(StoreError::Conflict(format!(
            "job {old} belongs to a batch that is {state}"
        )));
    }
    let mut tally = Tally::default();
    tally.take_out(n, result);
    tally.write(db)?;
    if batch.state == BatchState::Completed {
        set_state(db, n, BatchState::InProgress)?;
    }
    db.prepare_cached("UPDATE batch SET finished_ms = NULL, forget_ms = NULL WHERE n = ?1")?
        .execute([n])?;
    Ok(())
}
