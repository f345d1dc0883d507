//! Items of a manifest, and the jobs they become.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lapidary_schemas::batch::{ManifestItem, Shard};
use lapidary_schemas::job::ENVELOPE_VERSION;
use lapidary_schemas::limits::{ENVELOPE_BYTES_MAX, QUEUE_MESSAGE_BYTES_MAX};
use lapidary_schemas::result::{Timings, Usage};
use lapidary_schemas::{Batch, BatchId, Failure, FailureCode, Job, JobId, JobResult, Status};
use sha2::{Digest, Sha256};

use super::{MediaError, StepError};
use crate::media::Media;
use crate::results::{Finished, Results, ResultsError};

/// Bytes of manifests kept at hand.
const CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The lines of one shard.
#[derive(Debug)]
pub(super) struct ShardLines {
    batch: BatchId,
    shard: Shard,
    /// Position in the batch of the shard's first item.
    first_item: u64,
    bytes: Vec<u8>,
    /// Where each line ends, its line feed not included.
    ends: Vec<usize>,
}

/// Shards used lately, so that feeding piece by piece reads each of them once.
#[derive(Debug, Default)]
pub(super) struct ShardCache {
    /// The one used last comes last.
    kept: Vec<Arc<ShardLines>>,
}

impl ShardCache {
    /// The lines of a shard, from the media store if they are not at hand.
    pub(super) async fn lines<R: Results, M: Media>(
        &mut self,
        results: &R,
        media: &M,
        batch: &Batch,
        shard: &Shard,
    ) -> Result<Arc<ShardLines>, StepError> {
        let found = self
            .kept
            .iter()
            .position(|kept| kept.batch == batch.id && kept.shard == *shard);
        if let Some(found) = found {
            let lines = self.kept.remove(found);
            self.kept.push(Arc::clone(&lines));
            return Ok(lines);
        }
        let bytes = media.get(&batch.tenant, &shard.lines).await?;
        let first_item = first_item(results, batch.id, shard.index).await?;
        let lines = Arc::new(ShardLines::new(batch.id, shard.clone(), first_item, bytes));
        self.keep(Arc::clone(&lines));
        Ok(lines)
    }

    fn keep(&mut self, lines: Arc<ShardLines>) {
        self.kept.push(lines);
        let mut total: usize = self.kept.iter().map(|kept| kept.bytes.len()).sum();
        while total > CACHE_BYTES_MAX && self.kept.len() > 1 {
            total -= self.kept.remove(0).bytes.len();
        }
    }
}

/// All shards but the last have the size of the first.
async fn first_item<R: Results>(results: &R, batch: BatchId, index: u32) -> Result<u64, StepError> {
    if index == 0 {
        return Ok(0);
    }
    let first = results
        .shard(batch, 0)
        .await?
        .ok_or_else(|| ResultsError::Conflict {
            message: format!("batch {batch} has shard {index} but no shard 0"),
        })?;
    Ok(u64::from(index) * u64::from(first.items))
}

impl ShardLines {
    fn new(batch: BatchId, shard: Shard, first_item: u64, bytes: Vec<u8>) -> Self {
        let mut ends: Vec<usize> = bytes
            .iter()
            .enumerate()
            .filter_map(|(position, byte)| (*byte == b'\n').then_some(position))
            .collect();
        if bytes.last().is_some_and(|byte| *byte != b'\n') {
            ends.push(bytes.len());
        }
        Self {
            batch,
            shard,
            first_item,
            bytes,
            ends,
        }
    }

    /// The line at an offset, without its line feed.
    fn line(&self, offset: u32) -> Option<&[u8]> {
        let offset = usize::try_from(offset).ok()?;
        let end = *self.ends.get(offset)?;
        let start = offset
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] + 1);
        self.bytes.get(start..end)
    }

    /// The job of the item at an offset, or the result of an item that cannot become one.
    pub(super) fn job(
        &self,
        batch: &Batch,
        offset: u32,
        now: DateTime<Utc>,
    ) -> Result<Job, Box<Finished>> {
        let item = self.first_item + u64::from(offset);
        let refuse = |id, custom_id, code, message: String| {
            let failure = Failure::new(code, message);
            let mut result = unworked(id, Status::Failed, failure, now);
            result.batch_id = Some(batch.id);
            result.item = Some(item);
            result.custom_id = custom_id;
            Box::new(Finished {
                result,
                dead_letter: None,
            })
        };
        let line = self.line(offset).unwrap_or_default();
        let read: ManifestItem = serde_json::from_slice(line).map_err(|error| {
            let message = format!("item {item} of the manifest cannot be read: {error}");
            refuse(
                stand_in_id(batch.id, item),
                None,
                FailureCode::Internal,
                message,
            )
        })?;
        let job = Job {
            version: ENVELOPE_VERSION,
            id: read.id,
            replaces: None,
            batch_id: Some(batch.id),
            item: Some(item),
            custom_id: Some(read.custom_id),
            tenant: batch.tenant.clone(),
            model: batch.model.clone(),
            class: batch.class,
            work: read.work,
            attempts_max: batch.attempts_max,
            created_at: batch.created_at,
            deadline: batch.deadline,
            traceparent: None,
            request: read.request,
        };
        match message_bytes(&job, line.len()) {
            bytes if bytes <= QUEUE_MESSAGE_BYTES_MAX => Ok(job),
            bytes => {
                let message = format!(
                    "job is {bytes} bytes, the limit is {QUEUE_MESSAGE_BYTES_MAX}; send long text \
                     and media as `media:` references"
                );
                Err(refuse(
                    job.id,
                    job.custom_id,
                    FailureCode::ValidationError,
                    message,
                ))
            }
        }
    }
}

/// Bytes of a job's message; an upper bound from its line where that is small enough.
fn message_bytes(job: &Job, line_bytes: usize) -> usize {
    let bound = line_bytes + ENVELOPE_BYTES_MAX;
    if bound <= QUEUE_MESSAGE_BYTES_MAX {
        return bound;
    }
    serde_json::to_vec(job).map_or(bound, |message| message.len())
}

/// The id of an item whose own cannot be read: always the same one, so that its result is stored
/// once.
fn stand_in_id(batch: BatchId, item: u64) -> JobId {
    let digest = Sha256::digest(format!("{batch} item {item}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    JobId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// The result of a job that no worker ends.
pub(super) fn unworked(
    job_id: JobId,
    status: Status,
    failure: Failure,
    now: DateTime<Utc>,
) -> JobResult {
    JobResult {
        job_id,
        batch_id: None,
        item: None,
        custom_id: None,
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
        attempt: 0,
        worker: None,
        model: None,
        seed: None,
        finished_at: now,
    }
}

/// The result of this very job, which no worker ends.
pub(super) fn unworked_job(
    job: &Job,
    status: Status,
    failure: Failure,
    now: DateTime<Utc>,
) -> JobResult {
    JobResult {
        batch_id: job.batch_id,
        item: job.item,
        custom_id: job.custom_id.clone(),
        ..unworked(job.id, status, failure, now)
    }
}

/// Whether a manifest is gone for good, as against out of reach for now.
pub(super) fn is_gone(error: &StepError) -> bool {
    matches!(
        error,
        StepError::Media(MediaError::Missing { .. } | MediaError::Damaged { .. })
    )
}
