//! Results on Redis: one script a change of state.
//!
//! A single server or a primary with replicas. Everything of a batch lives in one hash slot.

mod allowances;
mod archive;
mod batches;
mod codec;
mod jobs;
mod keys;
mod letters;
mod records;
mod scripts;
mod store;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use lapidary_schemas::batch::Shard;
use lapidary_schemas::{Batch, BatchId, Job, JobId, JobResult, Progress, WorkerInfo};

use self::archive::Archive;
use self::keys::{Home, NOTICES, location};
use self::scripts::Scripts;
use self::store::Store;
use super::{
    Allowance, Begin, DeadLetter, FeedPosition, Finished, JobState, Lease, Notices, Page, Put,
    Record, Results, ResultsError, Taken,
};
use crate::media::AnyMedia;

/// Jobs whose batch this process remembers.
const REMEMBERED_MAX: usize = 50_000;
/// Seconds a job's batch can be found by its id alone, counted from its last step.
const LOCATION_S: u64 = 60 * 24 * 3600;

/// Results on a Redis server.
#[derive(Debug)]
pub struct RedisResults {
    store: Store,
    scripts: Scripts,
    remembered: Mutex<HashMap<JobId, Home>>,
    /// Where older results of a batch go.
    archive: Option<Archive>,
}

impl RedisResults {
    /// Connects to `redis://[user:password@]host[:port][/database]`, by TLS to `rediss://…`.
    ///
    /// Refuses a server that does not sync every write to its append-only file, or that evicts keys,
    /// unless `lossy_allowed`: what it confirmed could be gone after a restart.
    pub async fn open(url: &str, lossy_allowed: bool) -> Result<Self, ResultsError> {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        if !matches!(scheme, "redis" | "rediss") {
            let message = format!(
                "`{scheme}` is not supported by this build: use `redis` or `rediss` and the address \
                 of the primary server"
            );
            return Err(ResultsError::Unusable { message });
        }
        let store = Store::open(url, lossy_allowed).await?;
        Ok(Self {
            store,
            scripts: Scripts::new(),
            remembered: Mutex::default(),
            archive: None,
        })
    }

    /// Keeps and reads older results of batches there.
    #[must_use]
    pub fn with_archive(self, media: AnyMedia) -> Self {
        let archive = Some(Archive::new(media));
        Self { archive, ..self }
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<JobId, Home>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, jobs: impl Iterator<Item = (JobId, Home)>) {
        let mut remembered = self.remembered();
        if remembered.len() > REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.extend(jobs);
    }

    /// Writes down which batch each job belongs to, so that it is found by its id alone.
    async fn locate(
        &self,
        jobs: impl Iterator<Item = (JobId, Home)> + Clone,
    ) -> Result<(), ResultsError> {
        let mut pipe = redis::pipe();
        let mut any = false;
        for (id, home) in jobs.clone() {
            if let Home::Batch(batch) = home {
                let (key, batch) = (location(id), batch.to_string());
                pipe.cmd("SET")
                    .arg(key)
                    .arg(batch)
                    .arg("EX")
                    .arg(LOCATION_S)
                    .ignore();
                any = true;
            }
        }
        self.remember(jobs);
        if any {
            self.store.query_pipe(&pipe).await
        } else {
            Ok(())
        }
    }

    /// Where jobs live, from their ids alone.
    async fn homes(&self, jobs: &[JobId]) -> Result<Vec<Home>, ResultsError> {
        let mut homes: Vec<Option<Home>> = {
            let remembered = self.remembered();
            jobs.iter().map(|id| remembered.get(id).copied()).collect()
        };
        let asked: Vec<usize> = (0..jobs.len())
            .filter(|index| homes[*index].is_none())
            .collect();
        if !asked.is_empty() {
            let mut pipe = redis::pipe();
            for index in &asked {
                pipe.get(location(jobs[*index]));
            }
            let found: Vec<Option<String>> = self.store.query_pipe(&pipe).await?;
            for (index, batch) in asked.into_iter().zip(found) {
                let batch = batch.and_then(|batch| batch.parse().ok()).map(Home::Batch);
                homes[index] = batch;
            }
        }
        let known = |(id, home): (&JobId, Option<Home>)| home.unwrap_or(Home::Single(*id));
        Ok(jobs.iter().zip(homes).map(known).collect())
    }

    async fn home(&self, job: JobId) -> Result<Home, ResultsError> {
        Ok(self
            .homes(&[job])
            .await?
            .into_iter()
            .next()
            .unwrap_or(Home::Single(job)))
    }
}

impl Results for RedisResults {
    async fn open_batch(&self, batch: &Batch) -> Result<(), ResultsError> {
        self.open_batch_(batch).await
    }

    async fn append_shard(&self, batch: BatchId, shard: &Shard) -> Result<(), ResultsError> {
        self.append_shard_(batch, shard).await
    }

    async fn seal_batch(&self, batch: BatchId) -> Result<(), ResultsError> {
        self.seal_batch_(batch).await
    }

    async fn batch(&self, batch: BatchId) -> Result<Option<Batch>, ResultsError> {
        self.batch_(batch).await
    }

    async fn shard(&self, batch: BatchId, index: u32) -> Result<Option<Shard>, ResultsError> {
        self.shard_(batch, index).await
    }

    async fn open_batches(&self, max: usize) -> Result<Vec<BatchId>, ResultsError> {
        self.open_batches_(max).await
    }

    async fn progress(&self, batch: BatchId) -> Result<Progress, ResultsError> {
        self.progress_(batch).await
    }

    async fn tail(&self, batch: BatchId, cursor: &str, max: usize) -> Result<Page, ResultsError> {
        self.tail_(batch, cursor, max).await
    }

    async fn results_of(
        &self,
        batch: BatchId,
        items: &[(u64, JobId)],
    ) -> Result<Vec<Option<JobResult>>, ResultsError> {
        self.results_of_(batch, items).await
    }

    async fn pack(&self, batch: BatchId, hot: usize) -> Result<u64, ResultsError> {
        self.pack_(batch, hot).await
    }

    async fn latest(&self, batch: BatchId, cursor: &str, max: usize) -> Result<Page, ResultsError> {
        self.latest_(batch, cursor, max).await
    }

    async fn changed(
        &self,
        batch: BatchId,
        cursor: &str,
        timeout: Duration,
    ) -> Result<(), ResultsError> {
        self.changed_(batch, cursor, timeout).await
    }

    async fn cancel_batch(&self, batch: BatchId) -> Result<bool, ResultsError> {
        self.end_batch(batch, "cancelled").await
    }

    async fn pause_batch(&self, batch: BatchId, paused: bool) -> Result<bool, ResultsError> {
        self.pause_batch_(batch, paused).await
    }

    async fn expire_batch(&self, batch: BatchId) -> Result<bool, ResultsError> {
        self.end_batch(batch, "expired").await
    }

    async fn feed_position(&self, batch: BatchId) -> Result<FeedPosition, ResultsError> {
        self.feed_position_(batch).await
    }

    async fn mark_fed(
        &self,
        lease: &Lease,
        position: &FeedPosition,
        items: u32,
    ) -> Result<(), ResultsError> {
        self.mark_fed_(lease, position, items).await
    }

    async fn unfinished(&self, batch: BatchId, shard: u32) -> Result<Vec<u32>, ResultsError> {
        self.unfinished_(batch, shard).await
    }

    async fn register(&self, jobs: &[Job]) -> Result<(), ResultsError> {
        self.register_(jobs).await
    }

    async fn stale(&self, before: DateTime<Utc>, max: usize) -> Result<Vec<Job>, ResultsError> {
        self.stale_(before, max).await
    }

    async fn begin(&self, jobs: &[Job], worker: &str) -> Result<Vec<Begin>, ResultsError> {
        self.begin_(jobs, worker).await
    }

    async fn end_attempt(&self, jobs: &[JobId], worker: &str) -> Result<(), ResultsError> {
        self.of_worker(&self.scripts.end_attempt, jobs, worker)
            .await
    }

    async fn interrupt(&self, jobs: &[JobId], worker: &str) -> Result<(), ResultsError> {
        self.of_worker(&self.scripts.interrupt, jobs, worker).await
    }

    async fn put_once(&self, finished: &[Finished]) -> Result<Vec<Put>, ResultsError> {
        self.put_once_(finished).await
    }

    async fn append_tokens(
        &self,
        job: JobId,
        offset: usize,
        text: &str,
    ) -> Result<(), ResultsError> {
        self.append_tokens_(job, offset, text).await
    }

    async fn get(&self, jobs: &[JobId]) -> Result<Vec<Option<JobState>>, ResultsError> {
        self.get_(jobs).await
    }

    async fn notices(&self) -> Result<Notices, ResultsError> {
        self.store.notices(NOTICES).await.map(Notices::of_hints)
    }

    async fn cancel_jobs(&self, jobs: &[JobId]) -> Result<Vec<bool>, ResultsError> {
        self.cancel_jobs_(jobs).await
    }

    async fn cancelled(&self, jobs: &[JobId]) -> Result<Vec<bool>, ResultsError> {
        self.cancelled_(jobs).await
    }

    async fn replace(&self, job: &Job) -> Result<(), ResultsError> {
        self.replace_(job).await
    }

    async fn dead_letters(
        &self,
        cursor: &str,
        max: usize,
    ) -> Result<(Vec<DeadLetter>, String), ResultsError> {
        self.dead_letters_(cursor, max).await
    }

    async fn dead_letter(&self, job: JobId) -> Result<Option<DeadLetter>, ResultsError> {
        self.dead_letter_(job).await
    }

    async fn take_dead_letter(&self, job: JobId) -> Result<Option<DeadLetter>, ResultsError> {
        self.take_dead_letter_(job).await
    }

    async fn put_record(
        &self,
        collection: &str,
        record: &Record,
        ttl: Option<Duration>,
    ) -> Result<(), ResultsError> {
        self.put_record_(collection, record, ttl).await
    }

    async fn add_record(
        &self,
        collection: &str,
        record: &Record,
        ttl: Option<Duration>,
    ) -> Result<Option<String>, ResultsError> {
        self.add_record_(collection, record, ttl).await
    }

    async fn record(&self, collection: &str, name: &str) -> Result<Option<String>, ResultsError> {
        self.record_(collection, name).await
    }

    async fn records(
        &self,
        collection: &str,
        before: &str,
        max: usize,
    ) -> Result<Vec<Record>, ResultsError> {
        self.records_(collection, before, max).await
    }

    async fn remove_record(&self, collection: &str, name: &str) -> Result<bool, ResultsError> {
        self.remove_record_(collection, name).await
    }

    async fn take(&self, allowance: &Allowance, cost: u64) -> Result<Taken, ResultsError> {
        self.take_(allowance, cost).await
    }

    async fn announce(&self, worker: &WorkerInfo, ttl: Duration) -> Result<(), ResultsError> {
        self.announce_(worker, ttl).await
    }

    async fn retire(&self, worker: &str) -> Result<(), ResultsError> {
        self.retire_(worker).await
    }

    async fn workers(&self) -> Result<Vec<WorkerInfo>, ResultsError> {
        self.workers_().await
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, ResultsError> {
        self.lease_(name, holder, ttl).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), ResultsError> {
        self.release_(lease).await
    }
}
