//! A run of `caption`: documents in, questions out, answers in, rows out, each with a bound.
//!
//! One task owns all state and waits for whatever comes next. Documents are taken in only while
//! there is room, so memory does not grow with their number.

mod ask;
mod follow;
mod same;
mod ship;
mod storing;
mod tally;
mod worker;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use lapidary_schemas::result::{Timings, Usage};
use lapidary_schemas::{BatchId, BatchState, Failure, FailureCode, JobId, JobResult, Status};
use lapidary_transport::results::ResultsError;
use lapidary_transport::{Results as _, Traces};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::exit::{Exit, Stop};
use crate::plan::{Step, Work};
use crate::progress::{Progress, Reached};
use crate::rows::{LeftOut, Output, Row};
use crate::sources::{Body, Document, Seen};
use crate::stores::Stores;
use follow::News;
use same::{Meeting, Same};
use ship::{LOAD_ITEMS_MAX, Load, Sender};
use storing::{Stored, Storing};

pub use ask::Asking;
pub use tally::Tally;
pub use worker::{ModelChoice, Workers};

/// Questions without an answer, and documents that wait for another one's, over which no more
/// documents are taken in.
const QUESTIONS_MAX: usize = 2_000;
/// Bytes of text of documents under way, over which no more are taken in. Of a picture only its
/// name in the store stays.
const TEXT_BYTES_MAX: usize = 64 << 20;
/// Loads under way, over which a load waits until it is full.
const LOADS_EAGER_MAX: usize = 3;
/// Time between two looks at what need not be done at once.
const TICK: Duration = Duration::from_millis(100);
/// Ticks between two looks for a worker.
const LOOK_TICKS: u64 = 50;
/// How long a run's sign of life holds in the results store.
const ALIVE_TTL: Duration = Duration::from_secs(15);
/// Time that cancelled questions get to come back after an interruption.
const STOP_MAX: Duration = Duration::from_secs(5);
/// News of batches that wait to be taken in.
const NEWS_MAX: usize = 16;

/// What a run works with.
#[derive(Debug)]
pub struct Parts {
    /// Where jobs wait and results rest.
    pub place: Stores,
    /// How questions are asked.
    pub asking: Asking,
    /// Where rows go.
    pub output: Output,
    /// Who answers.
    pub workers: Workers,
    /// Seconds without a worker after which a run gives up.
    pub worker_wait: Duration,
    /// Where background work is kept track of.
    pub tasks: TaskTracker,
    /// The user's wish to stop.
    pub stop: CancellationToken,
    /// Where traces are told.
    pub traces: Traces,
}

/// A run under way.
#[derive(Debug)]
pub struct Run {
    parts: Parts,
    sender: Sender,
    storing: Storing,
    same: Same,
    works: HashMap<u64, (Work, usize)>,
    next_work: u64,
    questions: HashMap<JobId, Asked>,
    load: Load,
    live: HashSet<BatchId>,
    text_bytes: usize,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
    progress: Progress,
    seen: Arc<Seen>,
    tally: Tally,
    last_served: Instant,
    /// The stores could not be reached since the last time they were.
    troubled: bool,
}

/// Where an answer belongs.
#[derive(Debug, Clone, Copy)]
struct Asked {
    work: u64,
    piece: u32,
    batch: Option<BatchId>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What it has done.
    pub tally: Tally,
    /// Whether the user interrupted it.
    pub interrupted: bool,
    /// How long it took.
    pub seconds: f64,
    /// Rows written.
    pub rows: u64,
    /// Files of other kinds in the folders.
    pub others: u64,
    /// Whether another start continues it.
    pub can_be_continued: bool,
    /// Rows that had no place in another format.
    pub left_out: LeftOut,
}

impl Run {
    /// A run about to begin.
    pub fn new(parts: Parts, progress: Progress, seen: Arc<Seen>, tenant: String) -> Self {
        let sender = Sender {
            tenant,
            model: parts.asking.model.name.clone(),
            run: parts.output.run().to_owned(),
            traces: parts.traces.clone(),
        };
        Self {
            parts,
            sender,
            storing: Storing::default(),
            same: Same::default(),
            works: HashMap::new(),
            next_work: 0,
            questions: HashMap::new(),
            load: Load::default(),
            live: HashSet::new(),
            text_bytes: 0,
            news: mpsc::channel(NEWS_MAX),
            progress,
            seen,
            tally: Tally::default(),
            last_served: Instant::now(),
            troubled: false,
        }
    }

    /// Takes all documents in and writes all rows.
    pub async fn go(mut self, mut documents: mpsc::Receiver<Document>) -> Result<Outcome, Stop> {
        self.cancel_leftovers().await?;
        let worked = self.work(&mut documents).await;
        documents.close();
        let interrupted = self.parts.stop.is_cancelled();
        if interrupted || worked.is_err() {
            self.parts.stop.cancel();
            self.call_off().await;
        }
        self.progress.clear();
        let finished = self.parts.output.finish();
        worked?;
        Ok(Outcome {
            left_out: finished?,
            interrupted,
            seconds: self.progress.seconds(Instant::now()),
            rows: self.parts.output.rows(),
            others: self.seen.others(),
            can_be_continued: self.parts.output.can_be_continued(),
            tally: self.tally,
        })
    }

    async fn work(&mut self, documents: &mut mpsc::Receiver<Document>) -> Result<(), Stop> {
        let stop = self.parts.stop.clone();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tick = 0_u64;
        let mut more = true;
        while more || !self.works.is_empty() || !self.storing.is_empty() {
            let room = self.has_room();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                news = self.news.1.recv() => {
                    if let Some(news) = news { self.take_news(news).await? }
                }
                document = documents.recv(), if more && room => match document {
                    Some(document) => self.take(document).await?,
                    None => more = false,
                },
                Some(stored) = self.storing.next(), if !self.storing.is_empty() => {
                    let Stored { name, key, pictures } = stored?;
                    self.begin(Work::pictures(name, key, pictures), 0).await?;
                }
                _ = ticks.tick() => {
                    tick += 1;
                    self.show();
                    if !self.load.items.is_empty() && self.live.len() <= LOADS_EAGER_MAX {
                        self.ship().await?;
                    }
                    if tick.is_multiple_of(LOOK_TICKS) {
                        self.look_after_workers().await?;
                    }
                }
            }
            let last = !more && self.storing.is_empty() && !self.load.items.is_empty();
            if self.load.items.len() >= LOAD_ITEMS_MAX || last {
                self.ship().await?;
            }
        }
        Ok(())
    }

    /// Whether another document may be taken in.
    fn has_room(&self) -> bool {
        self.questions.len() < QUESTIONS_MAX
            && self.same.waiting() < QUESTIONS_MAX
            && self.text_bytes < TEXT_BYTES_MAX
            && self.storing.has_room()
    }

    /// A document read, or refused.
    async fn take(&mut self, document: Document) -> Result<(), Stop> {
        let Document { place, name, body } = document;
        self.parts.output.place(&name, place)?;
        let body = match body {
            Ok(body) => body,
            Err(failure) => return self.write(&Row::refused(name, failure)),
        };
        let key = match self.parts.asking.key(&name, &body) {
            Ok(key) => key,
            Err(failure) => {
                let message = format!("{name}: {}", failure.message);
                return self.write(&Row::refused(name, Failure { message, ..failure }));
            }
        };
        if self.parts.output.is_done(&name, &key) {
            self.tally.skipped += 1;
            return Ok(());
        }
        match self.same.meet(&name, &key) {
            Meeting::First => (),
            Meeting::Waits => return Ok(()),
            Meeting::Done(row) => return self.write(&row),
        }
        match body {
            Body::Text(text) => {
                let bytes = text.len();
                let work = Work::text(name, key, text, &self.parts.asking.rules);
                self.begin(work, bytes).await
            }
            Body::Pictures(pictures) => {
                let (place, tenant) = (&self.parts.place, &self.sender.tenant);
                self.storing.add(place, tenant, (name, key), pictures);
                Ok(())
            }
        }
    }

    /// Asks what a document begins with; `bytes` is what it takes in memory.
    async fn begin(&mut self, (work, pieces): (Work, Vec<u32>), bytes: usize) -> Result<(), Stop> {
        let id = self.next_work;
        self.next_work += 1;
        self.text_bytes += bytes;
        self.works.insert(id, (work, bytes));
        self.ask(id, &pieces).await
    }

    /// Puts questions into the load.
    async fn ask(&mut self, id: u64, pieces: &[u32]) -> Result<(), Stop> {
        for piece in pieces {
            let Some((work, _)) = self.works.get(&id) else {
                return Ok(());
            };
            let Some(question) = work.question(*piece) else {
                continue;
            };
            let place = &self.parts.place;
            let made = self
                .parts
                .asking
                .item(place, work, &question, Utc::now())
                .await?;
            match made {
                Ok((item, media)) => {
                    let asked = Asked {
                        work: id,
                        piece: *piece,
                        batch: None,
                    };
                    self.questions.insert(item.id, asked);
                    self.load.items.push(item);
                    self.load.media.extend(media);
                }
                Err(failure) => {
                    let row = Row {
                        key: Some(work.key().to_owned()),
                        ..Row::refused(work.name().to_owned(), failure)
                    };
                    self.forget(id);
                    return self.finish(&row);
                }
            }
            if self.load.items.len() >= LOAD_ITEMS_MAX {
                self.ship().await?;
            }
        }
        Ok(())
    }

    /// Makes the load durable and follows it.
    async fn ship(&mut self) -> Result<(), Stop> {
        let load = std::mem::take(&mut self.load);
        let jobs: Vec<JobId> = load.items.iter().map(|item| item.id).collect();
        let mut failures = 0;
        let progress = &self.progress;
        let stop = &self.parts.stop;
        let patience = |error: &Stop| {
            failures += 1;
            if failures == 1 {
                progress.note(&format!("{error}; trying again"));
            }
            failures < follow::RETRIES_MAX && !stop.is_cancelled()
        };
        let batch = self
            .sender
            .ship(&self.parts.place, load, Utc::now(), patience)
            .await?;
        for job in &jobs {
            if let Some(asked) = self.questions.get_mut(job) {
                asked.batch = Some(batch);
            }
        }
        self.live.insert(batch);
        let place = self.parts.place.clone();
        self.parts.tasks.spawn(follow::follow(
            place,
            batch,
            jobs.len(),
            self.news.0.clone(),
        ));
        Ok(())
    }

    async fn take_news(&mut self, news: News) -> Result<(), Stop> {
        match news {
            News::Page(results) => {
                self.troubled = false;
                self.last_served = Instant::now();
                for result in results {
                    self.take_result(&result).await?;
                }
            }
            News::Ended(batch, state) => {
                self.live.remove(&batch);
                self.take_missing(batch, state).await?;
            }
            News::Retry(message) => {
                if !std::mem::replace(&mut self.troubled, true) {
                    self.progress.note(&format!("{message}; trying again"));
                }
            }
            News::Lost(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn take_result(&mut self, result: &JobResult) -> Result<(), Stop> {
        let Some(asked) = self.questions.remove(&result.job_id) else {
            return Ok(());
        };
        let Some((work, _)) = self.works.get_mut(&asked.work) else {
            return Ok(());
        };
        match work.answered(asked.piece, result, &self.parts.asking.rules) {
            Step::Wait => Ok(()),
            Step::Ask(pieces) => self.ask(asked.work, &pieces).await,
            Step::Done(row) => {
                self.forget(asked.work);
                // Called off by the user: it has no row yet, so that it is done next time.
                if row.status == Status::Cancelled && self.parts.stop.is_cancelled() {
                    return Ok(());
                }
                self.finish(&row)
            }
        }
    }

    /// Questions of an ended batch that were never begun have no result of their own.
    async fn take_missing(&mut self, batch: BatchId, state: BatchState) -> Result<(), Stop> {
        let missing: Vec<JobId> = self
            .questions
            .iter()
            .filter(|(_, asked)| asked.batch == Some(batch))
            .map(|(job, _)| *job)
            .collect();
        let (status, code, message) = match state {
            BatchState::Cancelled => (
                Status::Cancelled,
                FailureCode::Cancelled,
                "the batch was cancelled",
            ),
            BatchState::Expired => (
                Status::Expired,
                FailureCode::DeadlineExceeded,
                "the batch expired",
            ),
            _ => (
                Status::Failed,
                FailureCode::Internal,
                "the batch ended without a result for it",
            ),
        };
        for job in missing {
            let result = no_result(job, status, Failure::new(code, message));
            self.take_result(&result).await?;
        }
        Ok(())
    }

    /// Writes the row of a document that was asked about, and of those of the same content.
    fn finish(&mut self, row: &Row) -> Result<(), Stop> {
        self.write(row)?;
        for shared in self.same.finished(row) {
            self.write(&shared)?;
        }
        Ok(())
    }

    fn write(&mut self, row: &Row) -> Result<(), Stop> {
        if let Some(failure) = &row.failure {
            self.progress.note(&format!("failed: {}", failure.message));
        }
        self.parts.output.write(row)?;
        self.tally.count(row);
        Ok(())
    }

    fn forget(&mut self, id: u64) {
        if let Some((_, bytes)) = self.works.remove(&id) {
            self.text_bytes -= bytes;
        }
    }

    fn show(&mut self) {
        let reached = Reached {
            done: self.tally.done(),
            total: self.seen.total(),
            failed: self.tally.failures(),
            tokens: self.tally.completion_tokens,
        };
        self.progress.show(reached, Instant::now());
    }

    /// Without a worker nothing goes on; says so, starts one where it can, and gives up in the end.
    async fn look_after_workers(&mut self) -> Result<(), Stop> {
        if self.questions.is_empty() {
            return Ok(());
        }
        self.sign_of_life().await?;
        match self.parts.workers.look_after(&self.parts.place).await {
            Ok(true) => self.last_served = Instant::now(),
            Ok(false) if self.last_served.elapsed() > self.parts.worker_wait => {
                return Err(self.parts.workers.nobody());
            }
            Ok(false) => (),
            // Those who follow the batches say so, and for how long to wait.
            Err(stop) if stop.transient => (),
            Err(stop) => return Err(stop),
        }
        Ok(())
    }

    /// Writes to the results store: one without room answers reads as ever, and would be waited
    /// for in vain.
    async fn sign_of_life(&self) -> Result<(), Stop> {
        let run = &self.sender.run;
        let name = format!("run-{run}");
        match self.parts.place.results.lease(&name, run, ALIVE_TTL).await {
            Ok(_) | Err(ResultsError::Unreachable { .. }) => Ok(()),
            Err(error) => Err(Stop::from(error)
                .hint("with more room, the same command again does what is missing")),
        }
    }

    /// Batches of an earlier start that was killed: nobody would read their results.
    async fn cancel_leftovers(&self) -> Result<(), Stop> {
        if !self.parts.output.can_be_continued() {
            return Ok(());
        }
        let results = &self.parts.place.results;
        for batch in results
            .open_batches(lapidary_schemas::limits::CALL_ITEMS_MAX)
            .await?
        {
            let ours = results
                .batch(batch)
                .await?
                .is_some_and(|batch| batch.metadata.get(ship::RUN) == Some(&self.sender.run));
            if ours {
                results.cancel_batch(batch).await?;
            }
        }
        Ok(())
    }

    /// Cancels what is under way and writes what is finished all the same.
    async fn call_off(&mut self) {
        self.load = Load::default();
        for batch in &self.live {
            // The batch may have ended, or the store may be gone: both are what we stop for.
            let _ = self.parts.place.results.cancel_batch(*batch).await;
        }
        let deadline = tokio::time::Instant::now() + STOP_MAX;
        while !self.live.is_empty() {
            let Ok(Some(news)) = tokio::time::timeout_at(deadline, self.news.1.recv()).await else {
                return;
            };
            if self.take_news(news).await.is_err() {
                return;
            }
            // Follow-up questions are for the next start.
            self.load = Load::default();
        }
    }
}

impl Outcome {
    /// The exit code it deserves.
    pub fn exit(&self) -> Exit {
        let well = self.tally.failures() == 0 && self.left_out == LeftOut::default();
        match (self.interrupted, well) {
            (true, _) => Exit::Interrupted,
            (false, true) => Exit::Well,
            (false, false) => Exit::Failed,
        }
    }
}

/// The result of a job that nobody began.
fn no_result(job_id: JobId, status: Status, failure: Failure) -> JobResult {
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
        finished_at: Utc::now(),
    }
}
