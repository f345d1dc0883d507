//! Batches: opened, appended to, fed, ended, watched.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lapidary_schemas::batch::Shard;
use lapidary_schemas::{Batch, BatchId, BatchState, JobId, JobResult, Progress};
use redis::Script;

use super::RedisResults;
use super::archive::Direction;
use super::codec::{read, write};
use super::keys::{Home, OPEN, lease};
use crate::results::{
    FeedPosition, Lease, PAGE_BYTES_MAX, Page, RECORD_KEPT_S, ResultsError, kept_s,
};

/// Batches looked at in one step when listing the open ones.
const LOOK: isize = 256;

fn missing(batch_id: BatchId) -> ResultsError {
    ResultsError::NoSuchBatch { batch_id }
}

/// What a script answered: done, a contradiction, or no such batch.
fn said(batch_id: BatchId, answer: Option<&str>) -> Result<(), ResultsError> {
    match answer {
        None => Err(missing(batch_id)),
        Some("OK") => Ok(()),
        Some(why) => Err(ResultsError::Conflict {
            message: format!("batch {batch_id} {why}"),
        }),
    }
}

fn state(text: &str) -> Result<BatchState, ResultsError> {
    read("batch state", &format!("\"{text}\""))
}

/// A position in a stream: milliseconds and a number.
fn check_cursor(cursor: &str) -> Result<(), ResultsError> {
    let is_number = |text: &str| text.parse::<u64>().is_ok();
    match cursor.split_once('-') {
        Some((millis, number)) if is_number(millis) && is_number(number) => Ok(()),
        _ => Err(ResultsError::Conflict {
            message: format!("`{cursor}` is no cursor of this store"),
        }),
    }
}

impl RedisResults {
    pub(super) async fn open_batch_(&self, batch: &Batch) -> Result<(), ResultsError> {
        let mut index = redis::cmd("ZADD");
        index
            .arg(OPEN)
            .arg("NX")
            .arg(batch.created_at.timestamp_millis());
        index.arg(batch.id.to_string());
        self.store.query::<()>(&index).await?;
        let retention = kept_s(batch).saturating_add(RECORD_KEPT_S).to_string();
        let args = [write("batch", batch)?, retention];
        let keys = Home::Batch(batch.id).keys();
        self.store.run(&self.scripts.open_batch, &keys, &args).await
    }

    pub(super) async fn append_shard_(
        &self,
        batch: BatchId,
        shard: &Shard,
    ) -> Result<(), ResultsError> {
        let args = [
            shard.index.to_string(),
            shard.items.to_string(),
            write("shard", shard)?,
        ];
        let keys = Home::Batch(batch).keys();
        let answer: Option<String> = self
            .store
            .run(&self.scripts.append_shard, &keys, &args)
            .await?;
        said(batch, answer.as_deref())
    }

    pub(super) async fn seal_batch_(&self, batch: BatchId) -> Result<(), ResultsError> {
        let (keys, args) = (Home::Batch(batch).keys(), [now()]);
        let known: Option<u32> = self
            .store
            .run(&self.scripts.seal_batch, &keys, &args)
            .await?;
        known.map(|_| ()).ok_or_else(|| missing(batch))
    }

    /// Ends a batch as `cancelled` or `expired`.
    pub(super) async fn end_batch(&self, batch: BatchId, how: &str) -> Result<bool, ResultsError> {
        let (keys, args) = (Home::Batch(batch).keys(), [now(), how.to_owned()]);
        let ended: Option<bool> = self
            .store
            .run(&self.scripts.end_batch, &keys, &args)
            .await?;
        ended.ok_or_else(|| missing(batch))
    }

    pub(super) async fn pause_batch_(
        &self,
        batch: BatchId,
        paused: bool,
    ) -> Result<bool, ResultsError> {
        let (keys, args) = (Home::Batch(batch).keys(), [u8::from(paused).to_string()]);
        let done: Option<bool> = self.store.run(&self.scripts.pause, &keys, &args).await?;
        done.ok_or_else(|| missing(batch))
    }

    pub(super) async fn field<T: redis::FromRedisValue>(
        &self,
        batch: BatchId,
        field: &str,
    ) -> Result<T, ResultsError> {
        let mut get = redis::cmd("HGET");
        get.arg(&Home::Batch(batch).keys()[0]).arg(field);
        self.store.query(&get).await
    }

    pub(super) async fn batch_(&self, batch: BatchId) -> Result<Option<Batch>, ResultsError> {
        let text: Option<String> = self.field(batch, "batch").await?;
        text.map(|text| read("batch", &text)).transpose()
    }

    pub(super) async fn shard_(
        &self,
        batch: BatchId,
        index: u32,
    ) -> Result<Option<Shard>, ResultsError> {
        let text: Option<String> = self.field(batch, &format!("shard:{index}")).await?;
        if text.is_none() && self.batch_(batch).await?.is_none() {
            return Err(missing(batch));
        }
        text.map(|text| read("shard", &text)).transpose()
    }

    pub(super) async fn open_batches_(&self, max: usize) -> Result<Vec<BatchId>, ResultsError> {
        let mut open = Vec::new();
        let mut start = 0;
        while open.len() < max {
            let mut range = redis::cmd("ZRANGE");
            range.arg(OPEN).arg(start).arg(start + LOOK - 1);
            let ids: Vec<String> = self.store.query(&range).await?;
            if ids.is_empty() {
                break;
            }
            start += LOOK;
            let mut pipe = redis::pipe();
            for id in ids.iter().filter_map(|id| id.parse().ok()) {
                pipe.hget(&Home::Batch(id).keys()[0], "state");
            }
            let states: Vec<Option<String>> = self.store.query_pipe(&pipe).await?;
            let mut gone = redis::cmd("ZREM");
            gone.arg(OPEN);
            let mut removed = 0;
            for (id, state) in ids.iter().zip(states) {
                match (id.parse(), state.as_deref()) {
                    (Ok(batch), Some("open" | "in_progress")) => open.push(batch),
                    // One that is being opened right now has no record yet.
                    (Ok(_), None) => {}
                    _ => {
                        gone.arg(id);
                        removed += 1;
                    }
                }
            }
            if removed > 0 {
                self.store.query::<()>(&gone).await?;
                start -= removed;
            }
        }
        open.truncate(max);
        Ok(open)
    }

    pub(super) async fn progress_(&self, batch: BatchId) -> Result<Progress, ResultsError> {
        let mut get = redis::cmd("HMGET");
        get.arg(&Home::Batch(batch).keys()[0])
            .arg("state")
            .arg("finished_at")
            .arg("paused")
            .arg(&[
                "total",
                "fed",
                "succeeded",
                "filtered",
                "failed",
                "cancelled",
                "expired",
                "prompt_tokens",
                "completion_tokens",
            ]);
        let values: Vec<Option<String>> = self.store.query(&get).await?;
        let text = |i: usize| values.get(i).and_then(Option::as_deref);
        let count = |i| {
            text(i)
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let state = state(text(0).ok_or_else(|| missing(batch))?)?;
        let finished_at = text(1).and_then(|text| text.parse::<i64>().ok());
        let is_going = matches!(state, BatchState::Open | BatchState::InProgress);
        let mut progress = Progress {
            state,
            paused: is_going && text(2) == Some("1"),
            total: count(3),
            fed: count(4),
            succeeded: count(5),
            filtered: count(6),
            failed: count(7),
            cancelled: count(8),
            expired: count(9),
            prompt_tokens: count(10),
            completion_tokens: count(11),
            finished_at: None,
        };
        let all = progress.finished() == progress.total && !is_going;
        progress.finished_at = finished_at
            .filter(|_| all)
            .and_then(DateTime::<Utc>::from_timestamp_millis);
        Ok(progress)
    }

    pub(super) async fn tail_(
        &self,
        batch: BatchId,
        cursor: &str,
        max: usize,
    ) -> Result<Page, ResultsError> {
        self.page(batch, &self.scripts.tail, (cursor, Direction::Onward), max)
            .await
    }

    pub(super) async fn latest_(
        &self,
        batch: BatchId,
        cursor: &str,
        max: usize,
    ) -> Result<Page, ResultsError> {
        self.page(batch, &self.scripts.latest, (cursor, Direction::Back), max)
            .await
    }

    /// What a script reads of a batch's results from a cursor on, or from its own beginning. Where they
    /// have moved, they are read where they are; a page of which all was replaced is passed over.
    async fn page(
        &self,
        batch: BatchId,
        script: &Script,
        (cursor, direction): (&str, Direction),
        max: usize,
    ) -> Result<Page, ResultsError> {
        if !cursor.is_empty() {
            check_cursor(cursor)?;
        }
        let (keys, max) = (Home::Batch(batch).keys(), max.max(1));
        let mut cursor = cursor.to_owned();
        loop {
            let start = match (cursor.as_str(), direction) {
                ("", Direction::Onward) => "-".to_owned(),
                ("", Direction::Back) => "+".to_owned(),
                (cursor, _) => format!("({cursor}"),
            };
            let args = [start, max.to_string(), PAGE_BYTES_MAX.to_string()];
            let found: Option<Vec<String>> = self.store.run(script, &keys, &args).await?;
            let found = found.ok_or_else(|| missing(batch))?;
            if let [at, part] = found.as_slice()
                && at == "@"
            {
                let page = self
                    .part_page(batch, part, (&cursor, direction), max)
                    .await?;
                if !page.results.is_empty() {
                    return Ok(page);
                }
                cursor = page.cursor;
                continue;
            }
            let mut found = found.into_iter();
            let next = found.next().unwrap_or_default();
            let results = found
                .map(|text| read("result", &text))
                .collect::<Result<_, _>>()?;
            if !next.is_empty() {
                cursor = next;
            }
            return Ok(Page { results, cursor });
        }
    }

    pub(super) async fn results_of_(
        &self,
        batch: BatchId,
        items: &[(u64, JobId)],
    ) -> Result<Vec<Option<JobResult>>, ResultsError> {
        let mut args = vec![PAGE_BYTES_MAX.to_string()];
        for (item, job) in items {
            args.extend([item.to_string(), job.to_string()]);
        }
        let keys = Home::Batch(batch).keys();
        let found: Option<Vec<String>> = self
            .store
            .run(&self.scripts.results_of, &keys, &args)
            .await?;
        let mut results = Vec::new();
        for text in found.ok_or_else(|| missing(batch))? {
            results.push(match text.strip_prefix('@') {
                Some(moved) => {
                    let (parts, job) = moved.split_once(' ').unwrap_or_default();
                    let job = job.parse().map_err(|_| missing(batch))?;
                    self.archived(batch, parts, job).await?
                }
                None if text.is_empty() => None,
                None => Some(read("result", &text)?),
            });
        }
        Ok(results)
    }

    pub(super) async fn changed_(
        &self,
        batch: BatchId,
        cursor: &str,
        timeout: Duration,
    ) -> Result<(), ResultsError> {
        let cursor = if cursor.is_empty() { "0" } else { cursor };
        self.store
            .wait_for(&Home::Batch(batch).order(), cursor, timeout)
            .await
    }

    pub(super) async fn feed_position_(
        &self,
        batch: BatchId,
    ) -> Result<FeedPosition, ResultsError> {
        type Row = (String, String, String, u32, u64, bool);
        let keys = Home::Batch(batch).keys();
        let row: Option<Row> = self
            .store
            .run(&self.scripts.feed_position, &keys, &[])
            .await?;
        let (text, _, shard, offset, outstanding, paused) = row.ok_or_else(|| missing(batch))?;
        let shard = if shard.is_empty() {
            None
        } else {
            Some(read("shard", &shard)?)
        };
        Ok(FeedPosition {
            batch: read("batch", &text)?,
            shard,
            offset,
            outstanding,
            paused,
        })
    }

    pub(super) async fn mark_fed_(
        &self,
        held: &Lease,
        position: &FeedPosition,
        items: u32,
    ) -> Result<(), ResultsError> {
        let batch = position.batch.id;
        let Some(shard) = &position.shard else {
            let message = format!("batch {batch} has no more items to feed");
            return Err(ResultsError::Conflict { message });
        };
        let mut now = redis::cmd("HGET");
        now.arg(&lease(&held.name)[0]).arg("token");
        if self.store.query::<Option<u64>>(&now).await? != Some(held.token) {
            let message = format!("lease `{}` of `{}` has ended", held.name, held.holder);
            return Err(ResultsError::Conflict { message });
        }
        let args = [
            held.token.to_string(),
            shard.index.to_string(),
            position.offset.to_string(),
            items.to_string(),
        ];
        let keys = Home::Batch(batch).keys();
        let answer: Option<String> = self
            .store
            .run_once(&self.scripts.mark_fed, &keys, &args)
            .await?;
        said(batch, answer.as_deref())
    }

    pub(super) async fn unfinished_(
        &self,
        batch: BatchId,
        shard: u32,
    ) -> Result<Vec<u32>, ResultsError> {
        let (keys, args) = (Home::Batch(batch).keys(), [shard.to_string()]);
        let open: Option<Vec<u32>> = self
            .store
            .run(&self.scripts.unfinished, &keys, &args)
            .await?;
        open.ok_or_else(|| missing(batch))
    }
}

/// This moment, as the scripts keep it: milliseconds since 1970.
pub(super) fn now() -> String {
    Utc::now().timestamp_millis().to_string()
}
