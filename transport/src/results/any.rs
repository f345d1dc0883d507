//! The results store that a URL chose.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lapidary_schemas::batch::Shard;
use lapidary_schemas::{Batch, BatchId, Job, JobId, JobResult, Progress, WorkerInfo};

use super::redis::RedisResults;
use super::{
    Allowance, Begin, DeadLetter, EmbeddedResults, FeedPosition, Finished, JobState, Lease,
    Notices, Page, Put, Record, Results, ResultsError, Taken,
};
use crate::media::AnyMedia;

/// The results store that a URL chose.
#[derive(Debug)]
pub enum AnyResults {
    /// On Redis.
    Redis(Box<RedisResults>),
    /// In the embedded file.
    Embedded(EmbeddedResults),
}

impl AnyResults {
    /// Keeps older results of batches in this media store, where the results store is one whose room is
    /// memory, and reads them there.
    #[must_use]
    pub fn with_archive(self, media: &AnyMedia) -> Self {
        match self {
            Self::Redis(results) => Self::Redis(Box::new(results.with_archive(media.clone()))),
            embedded @ Self::Embedded(_) => embedded,
        }
    }
}

/// Calls a method of the one store there is.
macro_rules! chosen {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            AnyResults::Redis($store) => $call.await,
            AnyResults::Embedded($store) => $call.await,
        }
    };
}

impl Results for AnyResults {
    async fn open_batch(&self, batch: &Batch) -> Result<(), ResultsError> {
        chosen!(self, store => store.open_batch(batch))
    }

    async fn append_shard(&self, batch: BatchId, shard: &Shard) -> Result<(), ResultsError> {
        chosen!(self, store => store.append_shard(batch, shard))
    }

    async fn shard(&self, batch: BatchId, index: u32) -> Result<Option<Shard>, ResultsError> {
        chosen!(self, store => store.shard(batch, index))
    }

    async fn seal_batch(&self, batch: BatchId) -> Result<(), ResultsError> {
        chosen!(self, store => store.seal_batch(batch))
    }

    async fn batch(&self, batch: BatchId) -> Result<Option<Batch>, ResultsError> {
        chosen!(self, store => store.batch(batch))
    }

    async fn open_batches(&self, max: usize) -> Result<Vec<BatchId>, ResultsError> {
        chosen!(self, store => store.open_batches(max))
    }

    async fn progress(&self, batch: BatchId) -> Result<Progress, ResultsError> {
        chosen!(self, store => store.progress(batch))
    }

    async fn tail(&self, batch: BatchId, cursor: &str, max: usize) -> Result<Page, ResultsError> {
        chosen!(self, store => store.tail(batch, cursor, max))
    }

    async fn results_of(
        &self,
        batch: BatchId,
        items: &[(u64, JobId)],
    ) -> Result<Vec<Option<JobResult>>, ResultsError> {
        chosen!(self, store => store.results_of(batch, items))
    }

    async fn pack(&self, batch: BatchId, hot: usize) -> Result<u64, ResultsError> {
        chosen!(self, store => store.pack(batch, hot))
    }

    async fn latest(&self, batch: BatchId, cursor: &str, max: usize) -> Result<Page, ResultsError> {
        chosen!(self, store => store.latest(batch, cursor, max))
    }

    async fn changed(
        &self,
        batch: BatchId,
        cursor: &str,
        timeout: Duration,
    ) -> Result<(), ResultsError> {
        chosen!(self, store => store.changed(batch, cursor, timeout))
    }

    async fn cancel_batch(&self, batch: BatchId) -> Result<bool, ResultsError> {
        chosen!(self, store => store.cancel_batch(batch))
    }

    async fn expire_batch(&self, batch: BatchId) -> Result<bool, ResultsError> {
        chosen!(self, store => store.expire_batch(batch))
    }

    async fn pause_batch(&self, batch: BatchId, paused: bool) -> Result<bool, ResultsError> {
        chosen!(self, store => store.pause_batch(batch, paused))
    }

    async fn feed_position(&self, batch: BatchId) -> Result<FeedPosition, ResultsError> {
        chosen!(self, store => store.feed_position(batch))
    }

    async fn mark_fed(
        &self,
        lease: &Lease,
        position: &FeedPosition,
        items: u32,
    ) -> Result<(), ResultsError> {
        chosen!(self, store => store.mark_fed(lease, position, items))
    }

    async fn unfinished(&self, batch: BatchId, shard: u32) -> Result<Vec<u32>, ResultsError> {
        chosen!(self, store => store.unfinished(batch, shard))
    }

    async fn register(&self, jobs: &[Job]) -> Result<(), ResultsError> {
        chosen!(self, store => store.register(jobs))
    }

    async fn stale(&self, before: DateTime<Utc>, max: usize) -> Result<Vec<Job>, ResultsError> {
        chosen!(self, store => store.stale(before, max))
    }

    async fn begin(&self, jobs: &[Job], worker: &str) -> Result<Vec<Begin>, ResultsError> {
        chosen!(self, store => store.begin(jobs, worker))
    }

    async fn end_attempt(&self, jobs: &[JobId], worker: &str) -> Result<(), ResultsError> {
        chosen!(self, store => store.end_attempt(jobs, worker))
    }

    async fn interrupt(&self, jobs: &[JobId], worker: &str) -> Result<(), ResultsError> {
        chosen!(self, store => store.interrupt(jobs, worker))
    }

    async fn put_once(&self, finished: &[Finished]) -> Result<Vec<Put>, ResultsError> {
        chosen!(self, store => store.put_once(finished))
    }

    async fn append_tokens(
        &self,
        job: JobId,
        offset: usize,
        text: &str,
    ) -> Result<(), ResultsError> {
        chosen!(self, store => store.append_tokens(job, offset, text))
    }

    async fn get(&self, jobs: &[JobId]) -> Result<Vec<Option<JobState>>, ResultsError> {
        chosen!(self, store => store.get(jobs))
    }

    async fn notices(&self) -> Result<Notices, ResultsError> {
        chosen!(self, store => store.notices())
    }

    async fn cancel_jobs(&self, jobs: &[JobId]) -> Result<Vec<bool>, ResultsError> {
        chosen!(self, store => store.cancel_jobs(jobs))
    }

    async fn cancelled(&self, jobs: &[JobId]) -> Result<Vec<bool>, ResultsError> {
        chosen!(self, store => store.cancelled(jobs))
    }

    async fn replace(&self, job: &Job) -> Result<(), ResultsError> {
        chosen!(self, store => store.replace(job))
    }

    async fn dead_letters(
        &self,
        cursor: &str,
        max: usize,
    ) -> Result<(Vec<DeadLetter>, String), ResultsError> {
        chosen!(self, store => store.dead_letters(cursor, max))
    }

    async fn dead_letter(&self, job: JobId) -> Result<Option<DeadLetter>, ResultsError> {
        chosen!(self, store => store.dead_letter(job))
    }

    async fn take_dead_letter(&self, job: JobId) -> Result<Option<DeadLetter>, ResultsError> {
        chosen!(self, store => store.take_dead_letter(job))
    }

    async fn put_record(
        &self,
        collection: &str,
        record: &Record,
        ttl: Option<Duration>,
    ) -> Result<(), ResultsError> {
        chosen!(self, store => store.put_record(collection, record, ttl))
    }

    async fn add_record(
        &self,
        collection: &str,
        record: &Record,
        ttl: Option<Duration>,
    ) -> Result<Option<String>, ResultsError> {
        chosen!(self, store => store.add_record(collection, record, ttl))
    }

    async fn record(&self, collection: &str, name: &str) -> Result<Option<String>, ResultsError> {
        chosen!(self, store => store.record(collection, name))
    }

    async fn records(
        &self,
        collection: &str,
        before: &str,
        max: usize,
    ) -> Result<Vec<Record>, ResultsError> {
        chosen!(self, store => store.records(collection, before, max))
    }

    async fn remove_record(&self, collection: &str, name: &str) -> Result<bool, ResultsError> {
        chosen!(self, store => store.remove_record(collection, name))
    }

    async fn take(&self, allowance: &Allowance, cost: u64) -> Result<Taken, ResultsError> {
        chosen!(self, store => store.take(allowance, cost))
    }

    async fn announce(&self, worker: &WorkerInfo, ttl: Duration) -> Result<(), ResultsError> {
        chosen!(self, store => store.announce(worker, ttl))
    }

    async fn retire(&self, worker: &str) -> Result<(), ResultsError> {
        chosen!(self, store => store.retire(worker))
    }

    async fn workers(&self) -> Result<Vec<WorkerInfo>, ResultsError> {
        chosen!(self, store => store.workers())
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, ResultsError> {
        chosen!(self, store => store.lease(name, holder, ttl))
    }

    async fn release(&self, lease: &Lease) -> Result<(), ResultsError> {
        chosen!(self, store => store.release(lease))
    }
}
