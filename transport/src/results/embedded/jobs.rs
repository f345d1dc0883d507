//! Jobs as rows, and what may be asked about them.

use chrono::{DateTime, Utc};
use lapidary_schemas::{BatchId, Job, JobId};
use rusqlite::{Connection, OptionalExtension, params};

use super::batches::row as batch_row;
use super::finish::batch_number;
use super::{decode, limit};
use crate::embedded::StoreError;
use crate::results::JobState;

/// What a job is known by.
#[derive(Debug, Clone)]
pub(super) struct JobName {
    pub(super) id: JobId,
    pub(super) batch: Option<BatchId>,
    pub(super) item: Option<u64>,
    pub(super) custom_id: Option<String>,
}

impl From<&Job> for JobName {
    fn from(job: &Job) -> Self {
        Self {
            id: job.id,
            batch: job.batch_id,
            item: job.item,
            custom_id: job.custom_id.clone(),
        }
    }
}

/// A job that the store knows.
pub(super) struct JobRow {
    pub(super) id: JobId,
    pub(super) batch: Option<i64>,
    pub(super) item: Option<i64>,
    pub(super) custom_id: Option<String>,
    pub(super) running: bool,
    pub(super) attempts: u32,
    pub(super) worker: Option<String>,
    pub(super) cancel: bool,
    pub(super) result: Option<i64>,
    pub(super) replaced: Option<[u8; 16]>,
    /// Workers that were lost on it.
    pub(super) lost: u32,
    /// Whether the attempt that is recorded as running is over, its worker alive.
    pub(super) ended: bool,
}

impl JobRow {
    pub(super) fn find(db: &Connection, id: JobId) -> Result<Option<Self>, StoreError> {
        let found = db
            .prepare_cached(
                "SELECT batch, item, custom_id, running, attempts, worker, cancel, result, replaced,
                        lost, ended
                 FROM job WHERE id = ?1",
            )?
            .query_row([id.0.as_bytes()], |row| {
                Ok(Self {
                    id,
                    batch: row.get(0)?,
                    item: row.get(1)?,
                    custom_id: row.get(2)?,
                    running: row.get(3)?,
                    attempts: row.get(4)?,
                    worker: row.get(5)?,
                    cancel: row.get(6)?,
                    result: row.get(7)?,
                    replaced: row.get(8)?,
                    lost: row.get(9)?,
                    ended: row.get(10)?,
                })
            })
            .optional()?;
        Ok(found)
    }

    /// Records a job that the store does not know, as waiting.
    pub(super) fn insert(db: &Connection, name: &JobName) -> Result<Self, StoreError> {
        let batch = batch_number(db, name.batch)?;
        let item = name.item.and_then(|item| i64::try_from(item).ok());
        db.prepare_cached("INSERT INTO job (id, batch, item, custom_id) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![name.id.0.as_bytes(), batch, item, name.custom_id])?;
        Ok(Self {
            id: name.id,
            batch,
            item,
            custom_id: name.custom_id.clone(),
            running: false,
            attempts: 0,
            worker: None,
            cancel: false,
            result: None,
            replaced: None,
            lost: 0,
            ended: false,
        })
    }

    /// The row of a job, recorded if need be.
    pub(super) fn of(db: &Connection, name: &JobName) -> Result<Self, StoreError> {
        match Self::find(db, name.id)? {
            Some(row) => Ok(row),
            None => Self::insert(db, name),
        }
    }
}

/// The text of a result by its number.
pub(super) fn stored_result(db: &Connection, n: i64) -> Result<String, StoreError> {
    let body = db
        .prepare_cached("SELECT body FROM result WHERE n = ?1")?
        .query_row([n], |row| row.get(0))?;
    Ok(body)
}

pub(super) fn state(db: &Connection, id: JobId) -> Result<Option<JobState>, StoreError> {
    let Some(job) = JobRow::find(db, id)? else {
        return Ok(None);
    };
    if let Some(n) = job.result {
        return Ok(Some(JobState::Finished(decode(
            "result",
            &stored_result(db, n)?,
        )?)));
    }
    let Some(worker) = job.worker.filter(|_| job.running) else {
        return Ok(Some(JobState::Waiting {
            attempts: job.attempts,
        }));
    };
    let partial = partial(db, id)?.unwrap_or_default();
    Ok(Some(JobState::Running {
        worker,
        attempt: job.attempts,
        partial,
    }))
}

/// Text that a running job has generated so far.
pub(super) fn partial(db: &Connection, id: JobId) -> Result<Option<String>, StoreError> {
    let text = db
        .prepare_cached("SELECT text FROM partial WHERE job = ?1")?
        .query_row([id.0.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(text)
}

pub(super) fn cancelled(db: &Connection, id: JobId) -> Result<bool, StoreError> {
    let Some(job) = JobRow::find(db, id)? else {
        return Ok(false);
    };
    if job.result.is_some() {
        return Ok(false);
    }
    match job.batch {
        Some(n) if !job.cancel => Ok(batch_row(db, n)?.cut_short()),
        _ => Ok(job.cancel),
    }
}

pub(super) fn stale(
    db: &Connection,
    before: DateTime<Utc>,
    max: usize,
) -> Result<Vec<Job>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT registered.record FROM registered JOIN job ON job.id = registered.job
         WHERE registered.at_ms < ?1 AND job.running = 0 AND job.attempts = 0
           AND job.result IS NULL
         ORDER BY registered.at_ms LIMIT ?2",
    )?;
    let mut rows = query.query([before.timestamp_millis(), limit(max)])?;
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        jobs.push(decode(
            "job",
            row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?,
        )?);
    }
    Ok(jobs)
}
