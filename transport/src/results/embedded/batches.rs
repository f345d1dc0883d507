//! Batches: opened, appended to, sealed, ended, watched.

use chrono::{DateTime, Utc};
use lapidary_schemas::batch::Shard;
use lapidary_schemas::limits::SHARD_ITEMS_MAX;
use lapidary_schemas::{Batch, BatchId, BatchState, JobId, JobResult, Progress};
use rusqlite::{Connection, OptionalExtension, params};

use super::jobs::{JobRow, stored_result};
use super::{decode, encode, limit, position};
use crate::embedded::{StoreError, now_ms};
use crate::results::{PAGE_BYTES_MAX, Page, RECORD_KEPT_S, RETENTION_MIN_S, kept_s};

/// What the steps on a batch need to know of it.
pub(super) struct BatchRow {
    pub(super) n: i64,
    pub(super) state: BatchState,
    pub(super) paused: bool,
    pub(super) total: i64,
    pub(super) finished: i64,
}

impl BatchRow {
    /// Whether it was cancelled or expired: what nobody runs is counted so already.
    pub(super) fn cut_short(&self) -> bool {
        matches!(self.state, BatchState::Cancelled | BatchState::Expired)
    }

    /// The name of its state.
    pub(super) fn state_name(&self) -> &'static str {
        state_name(self.state)
    }
}

const STATES: [BatchState; 5] = [
    BatchState::Open,
    BatchState::InProgress,
    BatchState::Completed,
    BatchState::Cancelled,
    BatchState::Expired,
];

/// The name of a state in the file, which is also the counter of the items it cuts off.
pub(super) fn state_name(state: BatchState) -> &'static str {
    match state {
        BatchState::Open => "open",
        BatchState::InProgress => "in_progress",
        BatchState::Completed => "completed",
        BatchState::Cancelled => "cancelled",
        BatchState::Expired => "expired",
    }
}

fn state_of(name: &str) -> Result<BatchState, StoreError> {
    STATES
        .into_iter()
        .find(|state| state_name(*state) == name)
        .ok_or_else(|| StoreError::Unusable(format!("`{name}` is no state of a batch")))
}

/// A batch by its number in the file.
pub(super) fn row(db: &Connection, n: i64) -> Result<BatchRow, StoreError> {
    let (state, paused, total, finished): (String, bool, i64, i64) = db
        .prepare_cached(
            "SELECT state, paused, total, succeeded + filtered + failed + cancelled + expired
             FROM batch WHERE n = ?1",
        )?
        .query_row([n], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
    Ok(BatchRow {
        n,
        state: state_of(&state)?,
        paused,
        total,
        finished,
    })
}

/// A batch's number, also of one known by its jobs only.
pub(super) fn known_number(db: &Connection, id: BatchId) -> Result<Option<i64>, StoreError> {
    let n = db
        .prepare_cached("SELECT n FROM batch WHERE id = ?1")?
        .query_row([id.0.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(n)
}

/// A batch's number; made where it is not known, as after the loss of the file.
pub(super) fn number(db: &Connection, id: BatchId) -> Result<i64, StoreError> {
    if let Some(n) = known_number(db, id)? {
        return Ok(n);
    }
    db.prepare_cached("INSERT INTO batch (id) VALUES (?1)")?
        .execute([id.0.as_bytes()])?;
    Ok(db.last_insert_rowid())
}

/// A batch that somebody opened.
pub(super) fn opened(db: &Connection, id: BatchId) -> Result<BatchRow, StoreError> {
    let n = db
        .prepare_cached("SELECT n FROM batch WHERE id = ?1 AND record IS NOT NULL")?
        .query_row([id.0.as_bytes()], |row| row.get(0))
        .optional()?;
    row(db, n.ok_or(StoreError::NoSuchBatch(id))?)
}

pub(super) fn open(db: &Connection, batch: &Batch) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO batch (id, record) VALUES (?1, ?2)
         ON CONFLICT (id) DO UPDATE SET record = coalesce(record, excluded.record)",
    )?
    .execute(params![batch.id.0.as_bytes(), encode("batch", batch)?])?;
    Ok(())
}

pub(super) fn append(db: &Connection, id: BatchId, shard: &Shard) -> Result<(), StoreError> {
    let batch = opened(db, id)?;
    if let Some(known) = known_shard(db, batch.n, shard.index)? {
        return if known == *shard {
            Ok(())
        } else {
            conflict(format!(
                "batch {id} has another shard {} already",
                shard.index
            ))
        };
    }
    if batch.state != BatchState::Open {
        let state = state_name(batch.state);
        return conflict(format!("batch {id} is {state} and takes no more shards"));
    }
    let shards: u32 = db
        .prepare_cached("SELECT count(*) FROM shard WHERE batch = ?1")?
        .query_row([batch.n], |row| row.get(0))?;
    if shard.index != shards {
        let index = shard.index;
        return conflict(format!(
            "batch {id} has {shards} shards, so shard {index} is not its next"
        ));
    }
    check_size(db, id, batch.n, shard)?;
    db.prepare_cached(
        "INSERT INTO shard (batch, nth, items, first, lines) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        batch.n,
        shard.index,
        shard.items,
        batch.total,
        encode("media reference", &shard.lines)?
    ])?;
    db.prepare_cached("UPDATE batch SET total = total + ?2 WHERE n = ?1")?
        .execute(params![batch.n, shard.items])?;
    Ok(())
}

/// All shards but the last have one size, so that an item's shard can be computed.
fn check_size(db: &Connection, id: BatchId, n: i64, shard: &Shard) -> Result<(), StoreError> {
    let items = shard.items;
    if items == 0 || usize::try_from(items).is_ok_and(|items| items > SHARD_ITEMS_MAX) {
        return conflict(format!(
            "a shard of {items} items, the limit is 1 to {SHARD_ITEMS_MAX}"
        ));
    }
    let (Some(first), Some(last)): (Option<u32>, Option<u32>) = (
        shard_items(db, n, 0)?,
        shard
            .index
            .checked_sub(1)
            .map_or(Ok(None), |last| shard_items(db, n, last))?,
    ) else {
        return Ok(());
    };
    if last < first {
        return conflict(format!("batch {id} has its last, shorter shard already"));
    }
    if items > first {
        return conflict(format!(
            "batch {id} has shards of {first} items, not {items}"
        ));
    }
    Ok(())
}

fn shard_items(db: &Connection, n: i64, index: u32) -> Result<Option<u32>, StoreError> {
    let items = db
        .prepare_cached("SELECT items FROM shard WHERE batch = ?1 AND nth = ?2")?
        .query_row(params![n, index], |row| row.get(0))
        .optional()?;
    Ok(items)
}

/// One shard of a batch by its number.
pub(super) fn known_shard(
    db: &Connection,
    n: i64,
    index: u32,
) -> Result<Option<Shard>, StoreError> {
    let found: Option<(u32, String)> = db
        .prepare_cached("SELECT items, lines FROM shard WHERE batch = ?1 AND nth = ?2")?
        .query_row(params![n, index], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((items, lines)) = found else {
        return Ok(None);
    };
    Ok(Some(Shard {
        index,
        items,
        lines: decode("media reference", &lines)?,
    }))
}

pub(super) fn shard(db: &Connection, id: BatchId, index: u32) -> Result<Option<Shard>, StoreError> {
    known_shard(db, opened(db, id)?.n, index)
}

pub(super) fn seal(db: &Connection, id: BatchId) -> Result<(), StoreError> {
    let batch = opened(db, id)?;
    if batch.state == BatchState::Open {
        set_state(db, batch.n, BatchState::InProgress)?;
        complete_if_done(db, batch.n)?;
    }
    Ok(())
}

/// Sets a batch's state.
pub(super) fn set_state(db: &Connection, n: i64, state: BatchState) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE batch SET state = ?2 WHERE n = ?1")?
        .execute(params![n, state_name(state)])?;
    Ok(())
}

/// Completes a batch all of whose items are known and finished; dates the end of one that was cut
/// short and whose last running item has ended.
pub(super) fn complete_if_done(db: &Connection, n: i64) -> Result<(), StoreError> {
    let batch = row(db, n)?;
    if batch.finished != batch.total || batch.state == BatchState::Open {
        return Ok(());
    }
    if batch.state == BatchState::InProgress {
        set_state(db, n, BatchState::Completed)?;
    }
    let record: Option<String> = db
        .prepare_cached("SELECT record FROM batch WHERE n = ?1")?
        .query_row([n], |row| row.get(0))?;
    let kept_s = match record {
        Some(record) => kept_s(&decode("batch", &record)?),
        None => RETENTION_MIN_S,
    };
    let now = now_ms();
    let forget = now.saturating_add(
        i64::try_from(kept_s.saturating_add(RECORD_KEPT_S))
            .unwrap_or(i64::MAX)
            .saturating_mul(1000),
    );
    db.prepare_cached("UPDATE batch SET finished_ms = ?2, forget_ms = ?3 WHERE n = ?1")?
        .execute([n, now, forget])?;
    Ok(())
}

/// Cancels or expires a batch: what nobody runs counts so at once.
pub(super) fn end(db: &Connection, id: BatchId, how: BatchState) -> Result<bool, StoreError> {
    let batch = opened(db, id)?;
    if !matches!(batch.state, BatchState::Open | BatchState::InProgress) {
        return Ok(false);
    }
    let rest = batch.total - batch.finished - running(db, batch.n)?;
    let name = state_name(how);
    db.prepare_cached(&format!(
        "UPDATE batch SET state = ?2, {name} = {name} + ?3 WHERE n = ?1"
    ))?
    .execute(params![batch.n, name, rest])?;
    complete_if_done(db, batch.n)?;
    Ok(true)
}

/// Pauses or resumes a batch.
pub(super) fn pause(db: &Connection, id: BatchId, paused: bool) -> Result<bool, StoreError> {
    let batch = opened(db, id)?;
    if !matches!(batch.state, BatchState::Open | BatchState::InProgress) {
        return Ok(false);
    }
    db.prepare_cached("UPDATE batch SET paused = ?2 WHERE n = ?1")?
        .execute(params![batch.n, paused])?;
    Ok(true)
}

/// Items of a batch that somebody runs.
pub(super) fn running(db: &Connection, n: i64) -> Result<i64, StoreError> {
    let running = db
        .prepare_cached(
            "SELECT count(*) FROM job WHERE batch = ?1 AND result IS NULL AND running = 1",
        )?
        .query_row([n], |row| row.get(0))?;
    Ok(running)
}

pub(super) fn record(db: &Connection, id: BatchId) -> Result<Option<Batch>, StoreError> {
    let record: Option<Option<String>> = db
        .prepare_cached("SELECT record FROM batch WHERE id = ?1")?
        .query_row([id.0.as_bytes()], |row| row.get(0))
        .optional()?;
    record
        .flatten()
        .map(|record| decode("batch", &record))
        .transpose()
}

pub(super) fn unfinished(db: &Connection, max: usize) -> Result<Vec<BatchId>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT id FROM batch WHERE state IN ('open', 'in_progress') AND record IS NOT NULL
         ORDER BY n LIMIT ?1",
    )?;
    let ids = query
        .query_map([limit(max)], |row| {
            Ok(BatchId(uuid::Uuid::from_bytes(row.get(0)?)))
        })?
        .collect::<Result<_, _>>()?;
    Ok(ids)
}

pub(super) fn progress(db: &Connection, id: BatchId) -> Result<Progress, StoreError> {
    type Row = (String, Option<i64>, bool, [u64; 9]);
    let found: Option<Row> = db
        .prepare_cached(
            "SELECT state, finished_ms, paused, total, fed, succeeded, filtered, failed, cancelled, expired,
                    prompt_tokens, completion_tokens
             FROM batch WHERE id = ?1 AND record IS NOT NULL",
        )?
        .query_row([id.0.as_bytes()], |row| {
            let mut counts = [0; 9];
            for (index, count) in counts.iter_mut().enumerate() {
                *count = u64::try_from(row.get::<_, i64>(index + 3)?).unwrap_or(0);
            }
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, counts))
        })
        .optional()?;
    let (state, finished_ms, paused, counts) = found.ok_or(StoreError::NoSuchBatch(id))?;
    let [
        total,
        fed,
        succeeded,
        filtered,
        failed,
        cancelled,
        expired,
        read,
        written,
    ] = counts;
    let state = state_of(&state)?;
    Ok(Progress {
        state,
        paused: paused && matches!(state, BatchState::Open | BatchState::InProgress),
        total,
        fed,
        succeeded,
        filtered,
        failed,
        cancelled,
        expired,
        prompt_tokens: read,
        completion_tokens: written,
        finished_at: finished_ms.and_then(DateTime::<Utc>::from_timestamp_millis),
    })
}

pub(super) fn tail(
    db: &Connection,
    id: BatchId,
    cursor: &str,
    max: usize,
) -> Result<Page, StoreError> {
    let from = position(cursor, 0)?;
    let query = "SELECT n, body FROM result WHERE batch = ?1 AND n > ?2 AND NOT EXISTS
                   (SELECT 1 FROM job WHERE id = result.job AND replaced IS NOT NULL)
                 ORDER BY n LIMIT ?3";
    page(db, id, (query, from, max), cursor)
}

pub(super) fn latest(
    db: &Connection,
    id: BatchId,
    cursor: &str,
    max: usize,
) -> Result<Page, StoreError> {
    let from = position(cursor, i64::MAX)?;
    let query = "SELECT n, body FROM result WHERE batch = ?1 AND n < ?2 AND NOT EXISTS
                   (SELECT 1 FROM job WHERE id = result.job AND replaced IS NOT NULL)
                 ORDER BY n DESC LIMIT ?3";
    page(db, id, (query, from, max), cursor)
}

/// What a query of a batch finds from a number on, within the limits of a page.
fn page(
    db: &Connection,
    id: BatchId,
    (query, from, max): (&str, i64, usize),
    cursor: &str,
) -> Result<Page, StoreError> {
    let batch = opened(db, id)?;
    let mut last = from;
    let mut query = db.prepare_cached(query)?;
    let mut rows = query.query(params![batch.n, from, limit(max.max(1))])?;
    let (mut results, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let body = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        bytes += body.len();
        if bytes > PAGE_BYTES_MAX && !results.is_empty() {
            break;
        }
        results.push(decode::<JobResult>("result", body)?);
        last = row.get(0)?;
    }
    let cursor = if results.is_empty() {
        cursor.to_owned()
    } else {
        last.to_string()
    };
    Ok(Page { results, cursor })
}

/// Results of items, by the jobs that the manifest names.
pub(super) fn results_of(
    db: &Connection,
    id: BatchId,
    jobs: &[JobId],
) -> Result<Vec<Option<JobResult>>, StoreError> {
    opened(db, id)?;
    let (mut results, mut bytes) = (Vec::new(), 0);
    for first in jobs {
        let mut job = JobRow::find(db, *first)?;
        while let Some(by) = job.as_ref().and_then(|job| job.replaced) {
            job = JobRow::find(db, JobId(uuid::Uuid::from_bytes(by)))?;
        }
        let body = match job.and_then(|job| job.result) {
            Some(n) => Some(stored_result(db, n)?),
            None => None,
        };
        bytes += body.as_ref().map_or(0, String::len);
        if bytes > PAGE_BYTES_MAX && !results.is_empty() {
            break;
        }
        let result = body.map(|body| decode("result", &body)).transpose()?;
        results.push(result);
    }
    Ok(results)
}

/// The state of a batch, and whether it has results behind `cursor`.
pub(super) fn standing(
    db: &Connection,
    id: BatchId,
    cursor: &str,
) -> Result<(BatchState, bool), StoreError> {
    let batch = opened(db, id)?;
    let more = db
        .prepare_cached(
            "SELECT 1 FROM result WHERE batch = ?1 AND n > ?2 AND NOT EXISTS
               (SELECT 1 FROM job WHERE id = result.job AND replaced IS NOT NULL)
             LIMIT 1",
        )?
        .exists([batch.n, position(cursor, 0)?])?;
    Ok((batch.state, more))
}

fn conflict<T>(message: String) -> Result<T, StoreError> {
    Err(StoreError::Conflict(message))
}
