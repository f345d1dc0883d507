//! Jobs of a batch that the queue has lost: published again from the manifest, or given up when
//! workers died on them until their attempts were used up.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use lapidary_schemas::limits::CALL_ITEMS_MAX;
use lapidary_schemas::{Batch, BatchState, Failure, FailureCode, Job, JobId, Status};

use super::items::unworked_job;
use super::{StepError, Steward, TickReport, is_due};
use crate::media::Media;
use crate::queue::{Lane, Queue};
use crate::results::{DeadLetter, FeedPosition, Finished, JobState, Results};

/// Shards searched in one sweep of a batch.
const SHARDS_MAX: u32 = 8;
/// How many times longer a batch may stand still while others keep its lane busy.
const BUSY_FACTOR: u32 = 10;

/// The workers that live by their ids, and what each has under way, if it says so.
type Alive = HashMap<String, Option<HashSet<JobId>>>;

/// What a search of one batch goes by.
struct Search<'a> {
    batch: &'a Batch,
    alive: Alive,
    /// Jobs that their workers did not have at the last search either.
    missed: HashSet<JobId>,
    now: DateTime<Utc>,
}

impl<Q: Queue, R: Results, M: Media> Steward<Q, R, M> {
    /// Looks for lost jobs in batches that have not moved for long.
    pub(super) async fn sweep_batches(
        &mut self,
        positions: &[FeedPosition],
        now: DateTime<Utc>,
        report: &mut TickReport,
    ) {
        for position in positions {
            let id = position.batch.id;
            if let Err(error) = self.sweep_batch(position, now, report).await {
                if let Some(watch) = self.watches.get_mut(&id) {
                    watch.rest(&error, now);
                }
                report.failed("search for lost jobs", Some(id), &error);
                if error.is_queue_away() {
                    return;
                }
            }
        }
    }

    async fn sweep_batch(
        &mut self,
        position: &FeedPosition,
        now: DateTime<Utc>,
        report: &mut TickReport,
    ) -> Result<(), StepError> {
        let batch = &position.batch;
        let Some(watch) = self.watches.get(&batch.id) else {
            return Ok(());
        };
        let patience = watch.patience(self.options.lost_after);
        let (moved_at, under_way) = (watch.moved_at, watch.search_next);
        if position.outstanding == 0 && position.shard.is_none() {
            return self.end_abandoned(batch, moved_at, now).await;
        }
        if position.outstanding == 0 || position.paused {
            return Ok(());
        }
        if !watch.was_resumed() {
            if !is_due(Some(moved_at), patience, now) {
                return Ok(());
            }
            let lane = Lane::Jobs {
                model: batch.model.clone(),
                class: batch.class,
            };
            let busy = self.queue.depth(&lane).await? > 0;
            if busy && !is_due(Some(moved_at), patience * BUSY_FACTOR, now) {
                return Ok(());
            }
        }
        let last = match under_way {
            Some(index) => index,
            None => self.last_fed_shard(position).await?,
        };
        let alive = self.results.workers().await?;
        let told = |jobs: Vec<JobId>| jobs.into_iter().collect::<HashSet<JobId>>();
        let alive = alive.into_iter();
        let alive = alive.map(|worker| (worker.id, worker.jobs.map(told)));
        let alive = alive.collect();
        let watch = self.watches.get(&batch.id);
        let missed = watch.map(|watch| watch.missed.clone());
        let search = Search {
            batch,
            alive,
            missed: missed.unwrap_or_default(),
            now,
        };
        let mut missing = HashSet::new();
        let first = (last + 1).saturating_sub(SHARDS_MAX);
        for index in (first..=last).rev() {
            missing.extend(self.search_shard(&search, index, report).await?);
        }
        if let Some(watch) = self.watches.get_mut(&batch.id) {
            watch.missing.extend(&missing);
            match first.checked_sub(1) {
                Some(next) => watch.search_next = Some(next),
                None => watch.searched(patience, now),
            }
        }
        Ok(())
    }

    /// Cancels a batch that whoever was submitting it has left behind: nobody was told its id.
    async fn end_abandoned(
        &self,
        batch: &Batch,
        moved_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), StepError> {
        if !is_due(Some(moved_at), self.options.abandoned_after, now)
            || self.results.progress(batch.id).await?.state != BatchState::Open
        {
            return Ok(());
        }
        tracing::warn!(batch = %batch.id, "steward: a batch was never submitted whole; it is cancelled");
        self.results.cancel_batch(batch.id).await?;
        Ok(())
    }

    /// The shard that the item fed last is in, or one behind it.
    async fn last_fed_shard(&self, position: &FeedPosition) -> Result<u32, StepError> {
        if let Some(shard) = &position.shard {
            return Ok(shard.index);
        }
        let id = position.batch.id;
        let Some(first) = self.results.shard(id, 0).await? else {
            return Ok(0);
        };
        let total = self.results.progress(id).await?.total;
        let last = total.saturating_sub(1) / u64::from(first.items.max(1));
        Ok(u32::try_from(last).unwrap_or(u32::MAX))
    }

    /// Looks for lost jobs in a shard; those that their workers do not have, and that are not lost until
    /// the next search finds the same.
    async fn search_shard(
        &mut self,
        search: &Search<'_>,
        index: u32,
        report: &mut TickReport,
    ) -> Result<Vec<JobId>, StepError> {
        let (batch, now) = (search.batch, search.now);
        let unfinished = self.results.unfinished(batch.id, index).await?;
        let mut missing = Vec::new();
        if unfinished.is_empty() {
            return Ok(missing);
        }
        let Some(shard) = self.results.shard(batch.id, index).await? else {
            return Ok(missing);
        };
        let lines = self
            .shards
            .lines(&*self.results, &*self.media, batch, &shard)
            .await?;
        for offsets in unfinished.chunks(CALL_ITEMS_MAX) {
            let (mut jobs, mut refused) = (Vec::new(), Vec::new());
            for offset in offsets {
                match lines.job(batch, *offset, now) {
                    Ok(job) => jobs.push(self.traced_item(job)),
                    Err(finished) => refused.push(*finished),
                }
            }
            let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
            let states = self.results.get(&ids).await?;
            let mut again = Vec::new();
            for (job, state) in jobs.into_iter().zip(states) {
                match fate(&job, state.as_ref(), search) {
                    Fate::Leave => {}
                    Fate::Doubt => missing.push(job.id),
                    Fate::PublishAgain => again.push(job),
                    Fate::GiveUp { attempts } => refused.push(worker_lost(job, attempts, now)),
                }
            }
            if !refused.is_empty() {
                self.results.put_once(&refused).await?;
                report.worker_lost += refused.len() as u64;
            }
            if !again.is_empty() {
                tracing::warn!(batch = %batch.id, jobs = again.len(), "steward: lost jobs return");
                self.queue.publish(&again).await?;
                report.republished += again.len() as u64;
            }
        }
        Ok(missing)
    }
}

/// What becomes of a job that may be lost.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Leave,
    /// Its worker does not have it now.
    Doubt,
    PublishAgain,
    GiveUp {
        attempts: u32,
    },
}

/// Publishing a job twice is harmless, so only what a living worker runs is left alone. A results store
/// that lost what was last written may believe of a worker what has long ended.
fn fate(job: &Job, state: Option<&JobState>, search: &Search<'_>) -> Fate {
    let attempts = match state {
        Some(JobState::Finished(_)) => return Fate::Leave,
        Some(JobState::Running {
            worker, attempt, ..
        }) => match search.alive.get(worker) {
            Some(None) => return Fate::Leave,
            Some(Some(jobs)) if jobs.contains(&job.id) => return Fate::Leave,
            Some(Some(_)) if !search.missed.contains(&job.id) => return Fate::Doubt,
            _ => *attempt,
        },
        Some(JobState::Waiting { attempts }) => *attempts,
        None => 0,
    };
    if attempts >= job.attempts_max {
        Fate::GiveUp { attempts }
    } else {
        Fate::PublishAgain
    }
}

fn worker_lost(job: Job, attempts: u32, now: DateTime<Utc>) -> Finished {
    let message =
        format!("workers were lost on it {attempts} times, the limit is {attempts} attempts");
    let failure = Failure::new(FailureCode::WorkerLost, message.clone());
    let mut result = unworked_job(&job, Status::Failed, failure, now);
    result.attempt = attempts;
    let dead_letter = DeadLetter {
        job_id: job.id,
        job: Some(job),
        body: None,
        reason: message,
        attempts,
        at: now,
    };
    Finished {
        result,
        dead_letter: Some(dead_letter),
    }
}
