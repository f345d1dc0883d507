//! Results that have left the server: parts of a batch in the media store.
//!
//! What readers of a batch have behind them takes memory that others need. The oldest results of a
//! batch move, a part at a time, into one object of JSON lines. A script then forgets them and notes
//! where they went, in one step, so that a reader finds each result in one place or the other. Of a
//! result that moved the server keeps one bit, which says that its item is finished.

use std::sync::{Arc, Mutex, PoisonError};

use lapidary_schemas::{BatchId, JobId, JobResult, MediaRef};
use serde::{Deserialize, Serialize};

use super::RedisResults;
use super::codec::{read, write};
use super::keys::{Home, location};
use crate::media::{AnyMedia, Media as _, MediaError};
use crate::results::{PAGE_BYTES_MAX, Page, ResultsError};

/// Results in one part.
const PART_ITEMS_MAX: usize = 5_000;
/// Parts moved in one call.
const PARTS_AT_ONCE: usize = 8;
/// Results read from the server at once: the largest ones still fit into memory.
const READ_AT_ONCE: usize = 64;
/// Parts kept at hand by a process: readers go through a part in many pages.
const PARTS_KEPT: usize = 4;

/// Where the results of one part are, as the server keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    tenant: String,
    lines: MediaRef,
    /// Positions of its first and last result in the order of completion.
    first: String,
    last: String,
}

/// Values of fields, where they are.
type Found = Vec<Option<String>>;

/// A line of a part.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    /// Its position in the order of completion.
    cursor: String,
    result: JobResult,
}

/// The media store, and the parts that were read last.
#[derive(Debug)]
pub(super) struct Archive {
    media: AnyMedia,
    /// The one used last comes last.
    kept: Mutex<Vec<(MediaRef, Arc<Vec<Row>>)>>,
}

/// A position in a stream, as it is ordered.
fn place(cursor: &str) -> (u64, u64) {
    let (millis, number) = cursor.split_once('-').unwrap_or((cursor, "0"));
    (millis.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

impl Archive {
    pub(super) fn new(media: AnyMedia) -> Self {
        let kept = Mutex::default();
        Self { media, kept }
    }

    /// The rows of a part, from the media store if they are not at hand.
    async fn rows(&self, part: &Part) -> Result<Arc<Vec<Row>>, ResultsError> {
        let known = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let found = kept.iter().position(|(lines, _)| *lines == part.lines);
            found.map(|found| {
                let known = kept.remove(found);
                kept.push(known.clone());
                known.1
            })
        };
        if let Some(rows) = known {
            return Ok(rows);
        }
        let bytes = self.media.get(&part.tenant, &part.lines).await;
        let bytes = bytes.map_err(|error| fault(part, &error))?;
        let text = String::from_utf8_lossy(&bytes);
        let rows: Result<Vec<Row>, _> = text
            .lines()
            .map(|line| read("part of results", line))
            .collect();
        let rows = Arc::new(rows?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push((part.lines.clone(), Arc::clone(&rows)));
        let over = kept.len().saturating_sub(PARTS_KEPT);
        kept.drain(..over);
        Ok(rows)
    }
}

/// What an error of the media store means to a reader of results.
fn fault(part: &Part, error: &MediaError) -> ResultsError {
    let message = format!(
        "results {} to {} lie in the media store: {error}",
        part.first, part.last
    );
    match error {
        MediaError::Unreachable { .. } => ResultsError::Unreachable {
            url: "media".to_owned(),
            message,
        },
        MediaError::StorageFull { .. } => ResultsError::StorageFull { message },
        _ => ResultsError::Unusable { message },
    }
}

/// Which results a page has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Direction {
    /// Those behind the cursor, the oldest first.
    Onward,
    /// Those before the cursor, the newest first.
    Back,
}

impl RedisResults {
    fn archive(&self) -> Result<&Archive, ResultsError> {
        self.archive.as_ref().ok_or_else(|| {
            let message = "results of this batch lie in a media store: name it, too".to_owned();
            ResultsError::Unusable { message }
        })
    }

    /// A page of a part, which may be empty if all that it would show was replaced.
    pub(super) async fn part_page(
        &self,
        batch: BatchId,
        part: &str,
        (cursor, direction): (&str, Direction),
        max: usize,
    ) -> Result<Page, ResultsError> {
        let part: Part = read("part", part)?;
        let rows = self.archive()?.rows(&part).await?;
        let here = place(cursor);
        let (rows, end): (Vec<&Row>, _) = match direction {
            Direction::Onward => {
                let start = rows.partition_point(|row| place(&row.cursor) <= here);
                (rows[start..].iter().take(max).collect(), &part.last)
            }
            Direction::Back => {
                let is_before = |row: &Row| cursor.is_empty() || place(&row.cursor) < here;
                let end = rows.partition_point(is_before);
                (rows[..end].iter().rev().take(max).collect(), &part.first)
            }
        };
        let mut moved = redis::cmd("HMGET");
        moved.arg(&Home::Batch(batch).keys()[0]).arg("state");
        for row in &rows {
            moved.arg(format!("moved:{}", row.result.job_id));
        }
        let moved: Found = self.store.query(&moved).await?;
        let mut page = Page {
            results: Vec::new(),
            // With fewer than it may have, the page ends with the part.
            cursor: end.clone(),
        };
        let is_cut = rows.len() == max;
        for (row, by) in rows.iter().zip(moved.iter().skip(1)) {
            if is_cut {
                page.cursor.clone_from(&row.cursor);
            }
            if by.is_none() {
                page.results.push(row.result.clone());
            }
        }
        Ok(page)
    }

    /// The result of a job that moved into one of these parts of its batch.
    pub(super) async fn archived(
        &self,
        batch: BatchId,
        parts: &str,
        job: JobId,
    ) -> Result<Option<JobResult>, ResultsError> {
        let mut get = redis::cmd("HMGET");
        get.arg(&Home::Batch(batch).keys()[0]);
        for index in parts.split(',') {
            get.arg(format!("part:{index}"));
        }
        let parts: Found = self.store.query(&get).await?;
        for part in parts.iter().flatten() {
            let part: Part = read("part", part)?;
            let rows = self.archive()?.rows(&part).await?;
            if let Some(row) = rows.iter().find(|row| row.result.job_id == job) {
                return Ok(Some(row.result.clone()));
            }
        }
        Ok(None)
    }

    /// The result of this very job of an item, if it has moved.
    pub(super) async fn moved(
        &self,
        batch: Option<BatchId>,
        item: Option<u64>,
        job: JobId,
    ) -> Result<Option<JobResult>, ResultsError> {
        let (Some(batch), Some(item)) = (batch, item) else {
            return Ok(None);
        };
        let Some(size) = self.field::<Option<u64>>(batch, "size").await? else {
            return Ok(None);
        };
        let field = format!("in:{}", item / size.max(1));
        match self.field::<Option<String>>(batch, &field).await? {
            Some(parts) => self.archived(batch, &parts, job).await,
            None => Ok(None),
        }
    }

    /// Moves the oldest results of a batch away while more than `hot` are here; how many.
    pub(super) async fn pack_(&self, batch: BatchId, hot: usize) -> Result<u64, ResultsError> {
        let Some(archive) = &self.archive else {
            return Ok(0);
        };
        let (keys, size) = (
            Home::Batch(batch).keys(),
            (hot / 4).clamp(1, PART_ITEMS_MAX),
        );
        let mut tenant = None;
        let mut moved = 0;
        for _ in 0..PARTS_AT_ONCE {
            let length: usize = self.store.query(redis::cmd("XLEN").arg(&keys[3])).await?;
            if length < hot + size {
                break;
            }
            if tenant.is_none() {
                tenant = self.batch_(batch).await?.map(|batch| batch.tenant);
            }
            let Some(tenant) = &tenant else { break };
            let packed: Option<String> = self.field(batch, "packed").await?;
            let packed = packed.unwrap_or_default();
            let (last, rows) = self.oldest(&keys, &packed, size).await?;
            let Some(last) = last else { break };
            let part = archive.store(tenant, batch, &rows, &last).await?;
            let mut args = vec![packed, last, write("part", &part)?];
            for row in &rows {
                let item = row
                    .result
                    .item
                    .map_or("-1".to_owned(), |item| item.to_string());
                args.extend([row.result.job_id.to_string(), item]);
            }
            if !self.store.run(&self.scripts.pack, &keys, &args).await? {
                // Somebody else moves results of this batch.
                break;
            }
            self.unlocate(&rows).await?;
            moved += rows.len() as u64;
        }
        Ok(moved)
    }

    /// The oldest results that are here, at most `max` and of bounded size, and the position of the
    /// last that was looked at.
    async fn oldest(
        &self,
        keys: &[String],
        packed: &str,
        max: usize,
    ) -> Result<(Option<String>, Vec<Row>), ResultsError> {
        let (mut last, mut rows) = (None::<String>, Vec::new());
        let (mut looked, mut bytes) = (0, 0);
        while looked < max && bytes < PAGE_BYTES_MAX {
            let start = match last.as_deref().unwrap_or(packed) {
                "" => "-".to_owned(),
                behind => format!("({behind}"),
            };
            let mut range = redis::cmd("XRANGE");
            range.arg(&keys[3]).arg(start).arg("+").arg("COUNT");
            range.arg(READ_AT_ONCE.min(max - looked));
            let entries: Vec<(String, Vec<String>)> = self.store.query(&range).await?;
            let Some((end, _)) = entries.last() else {
                break;
            };
            last = Some(end.clone());
            looked += entries.len();
            let ended: Vec<(String, String)> = entries
                .into_iter()
                .filter_map(|(cursor, fields)| match fields.as_slice() {
                    [kind, id] if kind == "j" => Some((cursor, id.clone())),
                    _ => None,
                })
                .collect();
            if ended.is_empty() {
                continue;
            }
            // What was replaced stays: it is found by its name alone.
            let (mut texts, mut moved) = (redis::cmd("HMGET"), redis::cmd("HMGET"));
            texts.arg(&keys[1]);
            moved.arg(&keys[0]);
            for (_, id) in &ended {
                texts.arg(id);
                moved.arg(format!("moved:{id}"));
            }
            let mut both = redis::pipe();
            both.add_command(texts).add_command(moved);
            let (texts, moved): (Found, Found) = self.store.query_pipe(&both).await?;
            for (((cursor, _), text), moved) in ended.into_iter().zip(texts).zip(moved) {
                if let (Some(text), None) = (text, moved) {
                    bytes += text.len();
                    let result = read("result", &text)?;
                    rows.push(Row { cursor, result });
                }
            }
        }
        Ok((last, rows))
    }

    /// Forgets which batch these jobs belong to: who asks for them knows it.
    async fn unlocate(&self, rows: &[Row]) -> Result<(), ResultsError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut pipe = redis::pipe();
        for row in rows {
            let key = location(row.result.job_id);
            pipe.cmd("UNLINK").arg(key).ignore();
        }
        self.store.query_pipe(&pipe).await
    }
}

impl Archive {
    /// Stores rows as a part that lasts as long as its batch.
    async fn store(
        &self,
        tenant: &str,
        batch: BatchId,
        rows: &[Row],
        last: &str,
    ) -> Result<Part, ResultsError> {
        let mut lines = String::new();
        for row in rows {
            lines.push_str(&write("part of results", row)?);
            lines.push('\n');
        }
        let failed = |error: MediaError| ResultsError::Unreachable {
            url: "media".to_owned(),
            message: format!("results stay where they are: {error}"),
        };
        let lines = self.media.put(tenant, lines.into_bytes()).await;
        let lines = lines.map_err(failed)?;
        let pinned = self.media.pin(tenant, batch, std::slice::from_ref(&lines));
        pinned.await.map_err(failed)?;
        let first = rows.first().map_or(last, |row| &row.cursor);
        Ok(Part {
            tenant: tenant.to_owned(),
            lines,
            first: first.to_owned(),
            last: last.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ordered_by_number() {
        let ordered = ["9-0", "10-0", "10-2", "10-10", "11-1"];
        assert!(ordered.map(place).is_sorted());
    }
}
