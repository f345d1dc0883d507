//! A batch's results as lines of `OpenAI`'s output and error files.

use std::io;
use std::sync::Arc;

use axum::body::Bytes;
use futures::stream::{self, Stream};
use lapidary_schemas::batch::ManifestItem;
use lapidary_schemas::batch_line::{OutputError, OutputLine};
use lapidary_schemas::{Batch, BatchState, FailureCode, Progress};
use lapidary_transport::Results as _;

use super::error::ApiError;
use super::limits::RESULTS_MAX;
use super::manifest;
use crate::stores::Stores;

/// Which of a batch's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Those with an answer.
    Answers,
    /// Those without.
    Failures,
}

/// Where the reading of an ended batch is.
#[derive(Debug)]
enum At {
    /// At its results from this cursor on.
    Results(String),
    /// At the items of this shard that have none, because the batch ended before they were begun; so
    /// many items stand before the shard.
    Rest(u32, u64),
    /// At its end.
    End,
}

/// What reads an ended batch.
#[derive(Debug)]
struct Reader {
    stores: Stores,
    batch: Arc<Batch>,
    part: Part,
    at: At,
}

/// The lines of an ended batch, a page at a time.
pub(super) fn lines(
    stores: &Stores,
    batch: &Batch,
    part: Part,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let reader = Reader {
        stores: stores.clone(),
        batch: Arc::new(batch.clone()),
        part,
        at: At::Results(String::new()),
    };
    stream::try_unfold(reader, |mut reader| async move {
        let page = reader.next().await.map_err(io::Error::other)?;
        Ok(page.map(|page| (Bytes::from(page), reader)))
    })
}

impl Reader {
    /// The next lines, if any; none: that was all.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        loop {
            let lines = match &self.at {
                At::Results(cursor) => {
                    let cursor = cursor.clone();
                    self.results(&cursor).await?
                }
                At::Rest(shard, before) => {
                    let (shard, before) = (*shard, *before);
                    self.rest(shard, before).await?
                }
                At::End => return Ok(None),
            };
            if !lines.is_empty() {
                return written(&lines).map(Some);
            }
        }
    }

    async fn results(&mut self, cursor: &str) -> Result<Vec<OutputLine>, ApiError> {
        let results = &self.stores.results;
        let page = results.tail(self.batch.id, cursor, RESULTS_MAX).await?;
        self.at = if !page.results.is_empty() {
            At::Results(page.cursor)
        } else if self.part == Part::Failures {
            At::Rest(0, 0)
        } else {
            At::End
        };
        let lines = page.results.iter().map(OutputLine::from);
        let wanted = |line: &OutputLine| line.response.is_some() == (self.part == Part::Answers);
        Ok(lines.filter(wanted).collect())
    }

    /// Items of a shard without a result: those that were never fed, and those that were and that
    /// nobody began.
    async fn rest(&mut self, index: u32, before: u64) -> Result<Vec<OutputLine>, ApiError> {
        let results = &self.stores.results;
        let counts = results.progress(self.batch.id).await?;
        let Some((code, message)) = reason(&counts) else {
            self.at = At::End;
            return Ok(Vec::new());
        };
        let Some(shard) = results.shard(self.batch.id, index).await? else {
            self.at = At::End;
            return Ok(Vec::new());
        };
        self.at = At::Rest(index + 1, before + u64::from(shard.items));
        let fed = u32::try_from(counts.fed.saturating_sub(before)).unwrap_or(u32::MAX);
        let mut open = results.unfinished(self.batch.id, index).await?;
        open.extend(fed..shard.items);
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let items = manifest::items(&self.stores, &self.batch.tenant, &shard).await?;
        let item = |position: u32| items.get(usize::try_from(position).ok()?);
        let open = open.into_iter().filter_map(item);
        Ok(open.map(|item| unbegun(item, code, message)).collect())
    }
}

/// The line of an item that has no result.
pub(super) fn unbegun(item: &ManifestItem, code: FailureCode, message: &str) -> OutputLine {
    OutputLine {
        id: format!("batch_req_{}", item.id),
        custom_id: item.custom_id.clone(),
        response: None,
        error: Some(OutputError {
            code,
            message: message.to_owned(),
        }),
    }
}

/// Why items have no result of their own.
pub(super) fn reason(counts: &Progress) -> Option<(FailureCode, &'static str)> {
    match counts.state {
        BatchState::Cancelled => Some((
            FailureCode::Cancelled,
            "the batch was cancelled before this request was begun",
        )),
        BatchState::Expired => Some((
            FailureCode::DeadlineExceeded,
            "the batch's time was over before this request was begun",
        )),
        BatchState::Open | BatchState::InProgress | BatchState::Completed => None,
    }
}

fn written(lines: &[OutputLine]) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line).map_err(|error| ApiError::fault(&error))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}
