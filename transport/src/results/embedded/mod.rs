//! The results store in the embedded file.
//!
//! Every change of state is one operation of the file's writer, so it is atomic and its counters
//! move in the same transaction. A batch's results are read in the order of `result.n`, which grows
//! with the order of the commits because only one transaction writes at a time: a reader by cursor
//! sees no hole.

mod allowances;
mod batches;
mod elections;
mod feeding;
mod finish;
mod jobs;
mod letters;
mod lifecycle;
mod records;

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lapidary_schemas::batch::Shard;
use lapidary_schemas::{Batch, BatchId, BatchState, Job, JobId, JobResult, Progress, WorkerInfo};
use rusqlite::Connection;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::finish::{Ending, Tally};
use self::jobs::JobName;
use super::{
    Allowance, Begin, DeadLetter, FeedPosition, Finished, JobState, Lease, Notices, Page, Put,
    Record, Results, ResultsError, Taken, check_record,
};
use crate::embedded::{EmbeddedFile, StoreError};

/// The results store in the embedded file.
#[derive(Debug, Clone)]
pub struct EmbeddedResults {
    file: EmbeddedFile,
}

impl EmbeddedResults {
    /// The results store of an open file.
    pub fn new(file: &EmbeddedFile) -> Self {
        Self { file: file.clone() }
    }

    /// Opens or makes the file at `path` and its results store.
    pub async fn open_path(path: &Path) -> Result<Self, ResultsError> {
        let url = format!("file:{}", path.display());
        let file = EmbeddedFile::open(path)
            .await
            .map_err(|error| error.into_results(&url))?;
        Ok(Self { file })
    }

    /// Behaves from now on as if the process had been killed.
    #[cfg(any(test, feature = "conformance"))]
    pub fn abandon(&self) {
        self.file.abandon();
    }

    async fn write<T, F>(&self, work: F) -> Result<T, ResultsError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.file
            .write(work)
            .await
            .map_err(|error| error.into_results(self.file.url()))
    }

    /// The same for work that moves counters of batches.
    async fn write_counted<T, F>(&self, work: F) -> Result<T, ResultsError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Tally) -> Result<T, StoreError> + Send + 'static,
    {
        self.write(move |db| {
            let mut tally = Tally::default();
            let answer = work(db, &mut tally)?;
            tally.write(db)?;
            Ok(answer)
        })
        .await
    }

    async fn read<T, F>(&self, work: F) -> Result<T, ResultsError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.file
            .read(work)
            .await
            .map_err(|error| error.into_results(self.file.url()))
    }
}

impl Results for EmbeddedResults {
    async fn open_batch(&self, batch: &Batch) -> Result<(), ResultsError> {
        let batch = batch.clone();
        self.write(move |db| batches::open(db, &batch)).await
    }

    async fn append_shard(&self, batch: BatchId, shard: &Shard) -> Result<(), ResultsError> {
        let shard = shard.clone();
        self.write(move |db| batches::append(db, batch, &shard))
            .await
    }

    async fn shard(&self, batch: BatchId, index: u32) -> Result<Option<Shard>, ResultsError> {
        self.read(move |db| batches::shard(db, batch, index)).await
    }

    async fn seal_batch(&self, batch: BatchId) -> Result<(), ResultsError> {
        self.write(move |db| batches::seal(db, batch)).await
    }

    async fn batch(&self, batch: BatchId) -> Result<Option<Batch>, ResultsError> {
        self.read(move |db| batches::record(db, batch)).await
    }

    async fn open_batches(&self, max: usize) -> Result<Vec<BatchId>, ResultsError> {
        self.read(move |db| batches::unfinished(db, max)).await
    }

    async fn progress(&self, batch: BatchId) -> Result<Progress, ResultsError> {
        self.read(move |db| batches::progress(db, batch)).await
    }

    async fn tail(&self, batch: BatchId, cursor: &str, max: usize) -> Result<Page, ResultsError> {
        let cursor = cursor.to_owned();
        self.read(move |db| batches::tail(db, batch, &cursor, max))
            .await
    }

    async fn results_of(
        &self,
        batch: BatchId,
        items: &[(u64, JobId)],
    ) -> Result<Vec<Option<JobResult>>, ResultsError> {
        let jobs: Vec<JobId> = items.iter().map(|(_, job)| *job).collect();
        self.read(move |db| batches::results_of(db, batch, &jobs))
            .await
    }

    async fn pack(&self, _batch: BatchId, _hot: usize) -> Result<u64, ResultsError> {
        // They are in a file already.
        Ok(0)
    }

    async fn latest(&self, batch: BatchId, cursor: &str, max: usize) -> Result<Page, ResultsError> {
        let cursor = cursor.to_owned();
        self.read(move |db| batches::latest(db, batch, &cursor, max))
            .await
    }

    async fn changed(
        &self,
        batch: BatchId,
        cursor: &str,
        timeout: Duration,
    ) -> Result<(), ResultsError> {
        let mut commits = self.file.commits();
        let changing = async {
            let mut before = None;
            loop {
                commits.mark_unchanged();
                let cursor = cursor.to_owned();
                let (state, more) = self
                    .read(move |db| batches::standing(db, batch, &cursor))
                    .await?;
                if more || before.is_some_and(|before| before != state) {
                    return Ok(());
                }
                before = Some(state);
                let _ended = commits.changed().await;
            }
        };
        tokio::time::timeout(timeout, changing)
            .await
            .unwrap_or(Ok(()))
    }

    async fn cancel_batch(&self, batch: BatchId) -> Result<bool, ResultsError> {
        self.write(move |db| batches::end(db, batch, BatchState::Cancelled))
            .await
    }

    async fn pause_batch(&self, batch: BatchId, paused: bool) -> Result<bool, ResultsError> {
        self.write(move |db| batches::pause(db, batch, paused))
            .await
    }

    async fn expire_batch(&self, batch: BatchId) -> Result<bool, ResultsError> {
        self.write(move |db| batches::end(db, batch, BatchState::Expired))
            .await
    }

    async fn feed_position(&self, batch: BatchId) -> Result<FeedPosition, ResultsError> {
        self.read(move |db| feeding::position(db, batch)).await
    }

    async fn mark_fed(
        &self,
        lease: &Lease,
        position: &FeedPosition,
        items: u32,
    ) -> Result<(), ResultsError> {
        let (lease, position) = (lease.clone(), position.clone());
        self.write(move |db| feeding::mark(db, &lease, &position, items))
            .await
    }

    async fn unfinished(&self, batch: BatchId, shard: u32) -> Result<Vec<u32>, ResultsError> {
        self.read(move |db| feeding::unfinished(db, batch, shard))
            .await
    }

    async fn register(&self, jobs: &[Job]) -> Result<(), ResultsError> {
        let jobs = jobs.to_vec();
        self.write(move |db| jobs.iter().try_for_each(|job| lifecycle::register(db, job)))
            .await
    }

    async fn stale(&self, before: DateTime<Utc>, max: usize) -> Result<Vec<Job>, ResultsError> {
        self.read(move |db| jobs::stale(db, before, max)).await
    }

    async fn begin(&self, jobs: &[Job], worker: &str) -> Result<Vec<Begin>, ResultsError> {
        let names: Vec<JobName> = jobs.iter().map(JobName::from).collect();
        let worker = worker.to_owned();
        self.write_counted(move |db, tally| {
            let jobs = names.iter();
            jobs.map(|job| lifecycle::begin(db, job, &worker, tally))
                .collect()
        })
        .await
    }

    async fn end_attempt(&self, jobs: &[JobId], worker: &str) -> Result<(), ResultsError> {
        let (jobs, worker) = (jobs.to_vec(), worker.to_owned());
        self.write(move |db| {
            jobs.iter()
                .try_for_each(|job| lifecycle::end_attempt(db, *job, &worker))
        })
        .await
    }

    async fn interrupt(&self, jobs: &[JobId], worker: &str) -> Result<(), ResultsError> {
        let (jobs, worker) = (jobs.to_vec(), worker.to_owned());
        self.write(move |db| {
            jobs.iter()
                .try_for_each(|job| lifecycle::interrupt(db, *job, &worker))
        })
        .await
    }

    async fn put_once(&self, finished: &[Finished]) -> Result<Vec<Put>, ResultsError> {
        let endings: Result<Vec<Ending>, _> = finished.iter().map(Ending::of).collect();
        let endings = endings.map_err(|error| error.into_results(self.file.url()))?;
        self.write_counted(move |db, tally| {
            let endings = endings.iter();
            endings
                .map(|ending| finish::put_once(db, ending, tally))
                .collect()
        })
        .await
    }

    async fn append_tokens(
        &self,
        job: JobId,
        offset: usize,
        text: &str,
    ) -> Result<(), ResultsError> {
        let text = text.to_owned();
        self.write(move |db| lifecycle::append_tokens(db, job, offset, &text))
            .await
    }

    async fn get(&self, jobs: &[JobId]) -> Result<Vec<Option<JobState>>, ResultsError> {
        let jobs = jobs.to_vec();
        self.read(move |db| jobs.iter().map(|job| jobs::state(db, *job)).collect())
            .await
    }

    async fn notices(&self) -> Result<Notices, ResultsError> {
        Ok(Notices::of_commits(self.file.commits()))
    }

    async fn cancel_jobs(&self, jobs: &[JobId]) -> Result<Vec<bool>, ResultsError> {
        let jobs = jobs.to_vec();
        self.write_counted(move |db, tally| {
            let jobs = jobs.iter();
            jobs.map(|job| lifecycle::cancel(db, *job, tally)).collect()
        })
        .await
    }

    async fn cancelled(&self, jobs: &[JobId]) -> Result<Vec<bool>, ResultsError> {
        let jobs = jobs.to_vec();
        self.read(move |db| jobs.iter().map(|job| jobs::cancelled(db, *job)).collect())
            .await
    }

    async fn replace(&self, job: &Job) -> Result<(), ResultsError> {
        let job = job.clone();
        self.write(move |db| lifecycle::replace(db, &job)).await
    }

    async fn dead_letters(
        &self,
        cursor: &str,
        max: usize,
    ) -> Result<(Vec<DeadLetter>, String), ResultsError> {
        let cursor = cursor.to_owned();
        self.read(move |db| letters::list(db, &cursor, max)).await
    }

    async fn dead_letter(&self, job: JobId) -> Result<Option<DeadLetter>, ResultsError> {
        self.read(move |db| letters::get(db, job)).await
    }

    async fn take_dead_letter(&self, job: JobId) -> Result<Option<DeadLetter>, ResultsError> {
        self.write(move |db| letters::take(db, job)).await
    }

    async fn put_record(
        &self,
        collection: &str,
        record: &Record,
        ttl: Option<Duration>,
    ) -> Result<(), ResultsError> {
        check_record(collection, record)?;
        let (collection, record) = (collection.to_owned(), record.clone());
        self.write(move |db| records::put(db, &collection, &record, ttl))
            .await
    }

    async fn add_record(
        &self,
        collection: &str,
        record: &Record,
        ttl: Option<Duration>,
    ) -> Result<Option<String>, ResultsError> {
        check_record(collection, record)?;
        let (collection, record) = (collection.to_owned(), record.clone());
        self.write(move |db| records::add(db, &collection, &record, ttl))
            .await
    }

    async fn record(&self, collection: &str, name: &str) -> Result<Option<String>, ResultsError> {
        let (collection, name) = (collection.to_owned(), name.to_owned());
        self.read(move |db| records::get(db, &collection, &name))
            .await
    }

    async fn records(
        &self,
        collection: &str,
        before: &str,
        max: usize,
    ) -> Result<Vec<Record>, ResultsError> {
        let (collection, before) = (collection.to_owned(), before.to_owned());
        self.read(move |db| records::list(db, &collection, &before, max))
            .await
    }

    async fn remove_record(&self, collection: &str, name: &str) -> Result<bool, ResultsError> {
        let (collection, name) = (collection.to_owned(), name.to_owned());
        self.write(move |db| records::remove(db, &collection, &name))
            .await
    }

    async fn take(&self, allowance: &Allowance, cost: u64) -> Result<Taken, ResultsError> {
        let allowance = allowance.clone();
        self.write(move |db| allowances::take(db, &allowance, cost))
            .await
    }

    async fn announce(&self, worker: &WorkerInfo, ttl: Duration) -> Result<(), ResultsError> {
        let worker = worker.clone();
        self.write(move |db| elections::announce(db, &worker, ttl))
            .await
    }

    async fn retire(&self, worker: &str) -> Result<(), ResultsError> {
        let worker = worker.to_owned();
        self.write(move |db| elections::retire(db, &worker)).await
    }

    async fn workers(&self) -> Result<Vec<WorkerInfo>, ResultsError> {
        self.read(elections::workers).await
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, ResultsError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(move |db| elections::lease(db, &name, &holder, ttl))
            .await
    }

    async fn release(&self, lease: &Lease) -> Result<(), ResultsError> {
        let lease = lease.clone();
        self.write(move |db| elections::release(db, &lease)).await
    }
}

/// Reads a stored text.
fn decode<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::unreadable(what, &error))
}

/// Writes a text to store.
fn encode<T: Serialize>(what: &str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Conflict(format!("{what} cannot be stored: {error}")))
}

/// A bound of rows as the file's language has it.
fn limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

/// A position that a reader was given earlier; `start` for the empty one.
fn position(cursor: &str, start: i64) -> Result<i64, StoreError> {
    if cursor.is_empty() {
        return Ok(start);
    }
    cursor
        .parse()
        .map_err(|_| StoreError::Conflict(format!("`{cursor}` is no cursor of this store")))
}
