//! Where results rest, and every state a job or batch goes through.
//!
//! Each change of state is one atomic step of the store, and the counters that report it change in
//! the same step. A terminal state never changes.

mod allowance;
mod any;
mod embedded;
mod notices;

pub mod redis;

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lapidary_schemas::batch::Shard;
use lapidary_schemas::limits::RECORD_BYTES_MAX;
use lapidary_schemas::{Batch, BatchId, Job, JobId, JobResult, Progress, WorkerInfo};
use serde::{Deserialize, Serialize};

pub use allowance::{Allowance, Taken};
pub use any::AnyResults;
pub use embedded::EmbeddedResults;
pub use notices::Notices;

/// Bytes of results in one page.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Shortest time results are kept: longer than any redelivery of their jobs.
const RETENTION_MIN_S: u64 = 24 * 3_600;
/// How long a batch's record outlives its results, so that whoever unpins its media finds it.
const RECORD_KEPT_S: u64 = 3 * 3_600;

/// Seconds the results of a batch are kept, counted from its completion.
pub(crate) fn kept_s(batch: &Batch) -> u64 {
    batch.retention_s.max(RETENTION_MIN_S)
}

/// Why the results store did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The store cannot be reached or answers nothing: try again later.
    #[error("results store at {url} is unreachable: {message}")]
    Unreachable {
        /// Where it should be, without credentials.
        url: String,
        /// What happened.
        message: String,
    },
    /// No such batch.
    #[error("there is no batch {batch_id}")]
    NoSuchBatch {
        /// The batch asked for.
        batch_id: BatchId,
    },
    /// The call contradicts what the store holds (a shard out of order, a sealed batch, an old
    /// lease); nothing was changed.
    #[error("{message}")]
    Conflict {
        /// What contradicts what.
        message: String,
    },
    /// The storage has no room.
    #[error("no room to store results: {message}")]
    StorageFull {
        /// What the storage said.
        message: String,
    },
    /// Set up in a way that cannot work (not durable, evicting, another version's file).
    #[error("results store cannot be used: {message}")]
    Unusable {
        /// What is wrong and what to do.
        message: String,
    },
}

/// Answer to [`Results::begin`].
#[derive(Debug, Clone, PartialEq)]
pub enum Begin {
    /// Go ahead: this is attempt n, from 1.
    Attempt(u32),
    /// As `Attempt`, but workers were lost while they ran it: it may have been their end.
    Suspect {
        /// Which attempt, from 1.
        attempt: u32,
        /// Attempts that neither ended nor were undone before another worker began the next.
        lost: u32,
    },
    /// It has its result already; only settle it.
    Finished,
    /// Its batch is paused: whoever has it lets go of it, for it is published again once the batch goes
    /// on. It is not begun.
    Paused,
    /// It, or its batch, was cancelled or its batch expired; its result, which says so, is stored in
    /// this very step.
    Cancelled,
}

/// Answer to [`Results::put_once`].
#[derive(Debug, Clone, PartialEq)]
pub enum Put {
    /// This result is the job's result now.
    Stored,
    /// The job had a result before; here it is, unchanged, unless it has moved to the media store.
    Already(Option<Box<JobResult>>),
}

/// A job's result together with its dead letter, if it died; stored in one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The result.
    pub result: JobResult,
    /// What is kept for the operator.
    pub dead_letter: Option<DeadLetter>,
}

/// A job that will never come back by itself, kept for inspection and replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The job.
    pub job_id: JobId,
    /// The whole job; absent if its message could not be read.
    pub job: Option<Job>,
    /// The message as text (lossy), where it could not be read; at most 4 KiB of it.
    pub body: Option<String>,
    /// Why it died, for the operator.
    pub reason: String,
    /// Attempts it had.
    pub attempts: u32,
    /// When it died.
    pub at: DateTime<Utc>,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq)]
pub enum JobState {
    /// Known, not begun (or handed back).
    Waiting {
        /// Attempts it had so far.
        attempts: u32,
    },
    /// A worker has begun it.
    Running {
        /// The worker.
        worker: String,
        /// Which attempt.
        attempt: u32,
        /// Text generated so far, if the worker streams it.
        partial: String,
    },
    /// It has its result.
    Finished(Box<JobResult>),
}

/// Where the feeder stands in a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedPosition {
    /// The batch.
    pub batch: Batch,
    /// The shard of the next item to feed; `None` if every known item is fed.
    pub shard: Option<Shard>,
    /// The next item's position in that shard.
    pub offset: u32,
    /// Items fed and not finished.
    pub outstanding: u64,
    /// Nothing is fed until it is resumed.
    pub paused: bool,
}

/// One page of a batch's results in order of completion.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The results.
    pub results: Vec<JobResult>,
    /// Where the next page begins; give it back as it is.
    pub cursor: String,
}

/// An election won: proof for the steps that only the winner may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What was won.
    pub name: String,
    /// Who won it.
    pub holder: String,
    /// Grows with every election; a step that shows an older one is refused.
    pub token: u64,
}

/// A small document that producers keep beside batches and jobs, for themselves and each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name in its collection.
    pub name: String,
    /// What it says; at most [`RECORD_BYTES_MAX`].
    pub body: String,
}

/// Where results rest.
pub trait Results: Send + Sync {
    // Batches.

    /// Records an open batch; doing it again is the same.
    fn open_batch(&self, batch: &Batch) -> impl Future<Output = Result<(), ResultsError>> + Send;

    /// Appends the next shard of a batch's manifest, whose lines are in the media store already.
    /// Appending the same shard again is the same.
    fn append_shard(
        &self,
        batch: BatchId,
        shard: &Shard,
    ) -> impl Future<Output = Result<(), ResultsError>> + Send;

    /// One shard of a batch's manifest; `None` if it was not appended.
    fn shard(
        &self,
        batch: BatchId,
        index: u32,
    ) -> impl Future<Output = Result<Option<Shard>, ResultsError>> + Send;

    /// No more shards will come. A batch all of whose items are finished is completed at once.
    fn seal_batch(&self, batch: BatchId) -> impl Future<Output = Result<(), ResultsError>> + Send;

    /// The record of a batch.
    fn batch(
        &self,
        batch: BatchId,
    ) -> impl Future<Output = Result<Option<Batch>, ResultsError>> + Send;

    /// Batches that are open or in progress, oldest first, at most `max`.
    fn open_batches(
        &self,
        max: usize,
    ) -> impl Future<Output = Result<Vec<BatchId>, ResultsError>> + Send;

    /// How far a batch is.
    fn progress(
        &self,
        batch: BatchId,
    ) -> impl Future<Output = Result<Progress, ResultsError>> + Send;

    /// Results of a batch from `cursor` on (`""`: from the start), at most `max`, in order of
    /// completion. Items cancelled or expired before they were fed have no row here; they are
    /// counted in [`Progress`]; a result that was replaced has none any more.
    fn tail(
        &self,
        batch: BatchId,
        cursor: &str,
        max: usize,
    ) -> impl Future<Output = Result<Page, ResultsError>> + Send;

    /// Results of a batch's items, named by their positions and the jobs of its manifest; where one was
    /// replaced, it is the result of the last that took its place. Answers in order, `None` for items
    /// without a result. A page: there may be fewer answers than items, but one at least.
    fn results_of(
        &self,
        batch: BatchId,
        items: &[(u64, JobId)],
    ) -> impl Future<Output = Result<Vec<Option<JobResult>>, ResultsError>> + Send;

    /// Results of a batch from the newest back, from `cursor` on (`""`: from the newest), at most
    /// `max`; fewer where there are no older ones, or where they are large.
    fn latest(
        &self,
        batch: BatchId,
        cursor: &str,
        max: usize,
    ) -> impl Future<Output = Result<Page, ResultsError>> + Send;

    /// Moves the oldest results of a batch to the media store while many more than `hot` take memory;
    /// answers how many moved. `tail`, `latest` and `results_of` read on as if nothing had happened,
    /// [`Results::get`] knows the jobs of results that moved no longer. A store whose results rest on a disk has
    /// nothing to move.
    fn pack(
        &self,
        batch: BatchId,
        hot: usize,
    ) -> impl Future<Output = Result<u64, ResultsError>> + Send;

    /// Waits until `tail` from `cursor` would return something or the batch's state changes, at
    /// most `timeout`. A hint: it may return early.
    fn changed(
        &self,
        batch: BatchId,
        cursor: &str,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), ResultsError>> + Send;

    /// Cancels a batch: items not begun count as cancelled at once. `Ok(false)` if it had ended.
    fn cancel_batch(
        &self,
        batch: BatchId,
    ) -> impl Future<Output = Result<bool, ResultsError>> + Send;

    /// Pauses an unfinished batch, or resumes it: while it is paused none of its items is begun; those
    /// that run go on. Doing it again is the same. `Ok(false)` if it had ended.
    fn pause_batch(
        &self,
        batch: BatchId,
        paused: bool,
    ) -> impl Future<Output = Result<bool, ResultsError>> + Send;

    /// Ends a batch whose deadline has passed: items not begun count as expired at once.
    fn expire_batch(
        &self,
        batch: BatchId,
    ) -> impl Future<Output = Result<bool, ResultsError>> + Send;

    // Feeding. Only the lease's holder may.

    /// Where feeding stands.
    fn feed_position(
        &self,
        batch: BatchId,
    ) -> impl Future<Output = Result<FeedPosition, ResultsError>> + Send;

    /// Moves the position behind `items` more items of the shard, which are on the queue now.
    fn mark_fed(
        &self,
        lease: &Lease,
        position: &FeedPosition,
        items: u32,
    ) -> impl Future<Output = Result<(), ResultsError>> + Send;

    /// Which items of a shard, among those fed, have no result; their positions in the shard.
    fn unfinished(
        &self,
        batch: BatchId,
        shard: u32,
    ) -> impl Future<Output = Result<Vec<u32>, ResultsError>> + Send;

    // Jobs.

    /// Records interactive jobs before they are published, whole, so that a lost one can be
    /// published again.
    fn register(&self, jobs: &[Job]) -> impl Future<Output = Result<(), ResultsError>> + Send;

    /// Registered jobs without a result that nobody has begun and that were recorded before
    /// `before`, at most `max`.
    fn stale(
        &self,
        before: DateTime<Utc>,
        max: usize,
    ) -> impl Future<Output = Result<Vec<Job>, ResultsError>> + Send;

    /// Counts an attempt, unless the job is finished or cancelled. Answers in order. Jobs the
    /// store does not know (it was wiped) are recorded by this.
    fn begin(
        &self,
        jobs: &[Job],
        worker: &str,
    ) -> impl Future<Output = Result<Vec<Begin>, ResultsError>> + Send;

    /// Says that the attempt is over without a result, and that the worker lives: nobody was lost on
    /// the job. The attempt counts.
    fn end_attempt(
        &self,
        jobs: &[JobId],
        worker: &str,
    ) -> impl Future<Output = Result<(), ResultsError>> + Send;

    /// Undoes `begin`: the attempt does not count.
    fn interrupt(
        &self,
        jobs: &[JobId],
        worker: &str,
    ) -> impl Future<Output = Result<(), ResultsError>> + Send;

    /// Stores results, the first one a job gets; answers in order.
    fn put_once(
        &self,
        finished: &[Finished],
    ) -> impl Future<Output = Result<Vec<Put>, ResultsError>> + Send;

    /// Adds generated text of a running job at a byte offset; a repeated piece changes nothing, and
    /// offset 0 starts over. A job that does not run is left as it is.
    fn append_tokens(
        &self,
        job: JobId,
        offset: usize,
        text: &str,
    ) -> impl Future<Output = Result<(), ResultsError>> + Send;

    /// Where jobs stand; answers in order, `None` for the unknown.
    fn get(
        &self,
        jobs: &[JobId],
    ) -> impl Future<Output = Result<Vec<Option<JobState>>, ResultsError>> + Send;

    /// Notices of jobs that belong to no batch, from now on: that there is more text of one, or that it
    /// has its result.
    fn notices(&self) -> impl Future<Output = Result<Notices, ResultsError>> + Send;

    /// Cancels jobs: those not begun get their result at once, a running one when its worker
    /// notices. Finished ones stay as they are. Answers in order: whether it was still unfinished;
    /// `false` for a job that the store does not know.
    fn cancel_jobs(
        &self,
        jobs: &[JobId],
    ) -> impl Future<Output = Result<Vec<bool>, ResultsError>> + Send;

    /// Which of these running jobs shall stop: their own cancellation was asked for, or their batch
    /// was cancelled or has expired.
    fn cancelled(
        &self,
        jobs: &[JobId],
    ) -> impl Future<Output = Result<Vec<bool>, ResultsError>> + Send;

    /// Puts `job` in the place of the finished job it `replaces`: the batch item moves to it, the
    /// counters move, a finished batch is in progress again. The old result stays readable. Refused
    /// if the batch was cancelled or has expired.
    fn replace(&self, job: &Job) -> impl Future<Output = Result<(), ResultsError>> + Send;

    // Dead letters.

    /// Dead letters, newest first, at most `max`, from a cursor (`""`: the newest).
    fn dead_letters(
        &self,
        cursor: &str,
        max: usize,
    ) -> impl Future<Output = Result<(Vec<DeadLetter>, String), ResultsError>> + Send;

    /// One dead letter.
    fn dead_letter(
        &self,
        job: JobId,
    ) -> impl Future<Output = Result<Option<DeadLetter>, ResultsError>> + Send;

    /// Removes and returns a dead letter; only one caller gets it.
    fn take_dead_letter(
        &self,
        job: JobId,
    ) -> impl Future<Output = Result<Option<DeadLetter>, ResultsError>> + Send;

    // Records.

    /// Keeps a record in a collection, in the place of an earlier one of its name; for `ttl` if
    /// given, otherwise until it is removed.
    fn put_record(
        &self,
        collection: &str,
        record: &Record,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<(), ResultsError>> + Send;

    /// Keeps a record unless its collection has one of its name: what that one says is answered.
    fn add_record(
        &self,
        collection: &str,
        record: &Record,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<Option<String>, ResultsError>> + Send;

    /// What a record says.
    fn record(
        &self,
        collection: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<String>, ResultsError>> + Send;

    /// Records of a collection from the highest name down, below `before` (`""`: from the highest),
    /// at most `max`. Names are compared by their bytes.
    fn records(
        &self,
        collection: &str,
        before: &str,
        max: usize,
    ) -> impl Future<Output = Result<Vec<Record>, ResultsError>> + Send;

    /// Removes a record; whether it was there.
    fn remove_record(
        &self,
        collection: &str,
        name: &str,
    ) -> impl Future<Output = Result<bool, ResultsError>> + Send;

    // Allowances.

    /// Takes `cost` of an allowance if so much is left of it. Taking nothing shows how much is.
    fn take(
        &self,
        allowance: &Allowance,
        cost: u64,
    ) -> impl Future<Output = Result<Taken, ResultsError>> + Send;

    // Workers and elections.

    /// Says that a worker lives, for `ttl`.
    fn announce(
        &self,
        worker: &WorkerInfo,
        ttl: Duration,
    ) -> impl Future<Output = Result<(), ResultsError>> + Send;

    /// Takes a worker's announcement back.
    fn retire(&self, worker: &str) -> impl Future<Output = Result<(), ResultsError>> + Send;

    /// The workers alive.
    fn workers(&self) -> impl Future<Output = Result<Vec<WorkerInfo>, ResultsError>> + Send;

    /// Wins or renews an election for `ttl`; `None` while somebody else holds it.
    fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<Option<Lease>, ResultsError>> + Send;

    /// Gives an election up, so that the next one is won at once.
    fn release(&self, lease: &Lease) -> impl Future<Output = Result<(), ResultsError>> + Send;
}

/// Refuses a record that is too large to be kept.
fn check_record(collection: &str, record: &Record) -> Result<(), ResultsError> {
    if record.body.len() <= RECORD_BYTES_MAX {
        return Ok(());
    }
    Err(ResultsError::Conflict {
        message: format!(
            "record `{}` of `{collection}` is {} bytes, the limit is {RECORD_BYTES_MAX}",
            record.name,
            record.body.len()
        ),
    })
}
