//! Jobs of a batch that the queue has lost: published again from the manifest, or given up when
//! workers died on them until their attempts were used up.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use lapidary_schemas::limits::CALL_ITEMS_MAX;
use lapidary_schemas::{Batch, Failure, FailureCode, Job, Status};

use super::items::unworked_job;
use super::{StepError, Steward, TickReport, is_due};
use crate::media::Media;
use crate::queue::{Lane, Queue};
use crate::results::{DeadLetter, FeedPosition, Finished, JobState, Results};

/// Shards searched in one sweep of a batch.
const SHARDS_MAX: u32 = 8;
/// How many times longer a batch may stand still while others keep its lane busy.
const BUSY_FACTOR: u32 = 10;

/// What a search of one batch goes by.
struct Search<'a> {
    batch: &'a Batch,
    /// Ids of the workers that live.
    alive: HashSet<String>,
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
        let alive = alive.into_iter().map(|worker| worker.id).collect();
        let search = Search { batch, alive, now };
        let first = (last + 1).saturating_sub(SHARDS_MAX);
        for index in (first..=last).rev() {
            self.search_shard(&search, index, report).await?;
        }
        if let Some(watch) = self.watches.get_mut(&batch.id) {
            match first.checked_sub(1) {
                Some(next) => watch.search_next = Some(next),
                None => watch.searched(now),
            }
        }
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

    async fn search_shard(
        &mut self,
        search: &Search<'_>,
        index: u32,
        report: &mut TickReport,
    ) -> Result<(), StepError> {
        let (batch, now) = (search.batch, search.now);
        let unfinished = self.results.unfinished(batch.id, index).await?;
        if unfinished.is_empty() {
            return Ok(());
        }
        let Some(shard) = self.results.shard(batch.id, index).await? else {
            return Ok(());
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
                match fate(&job, state.as_ref(), &search.alive) {
                    Fate::Leave => {}
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
        Ok(())
    }
}

/// What becomes of a job that may be lost.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Leave,
    PublishAgain,
    GiveUp { attempts: u32 },
}

/// Publishing a job twice is harmless, so only what a living worker runs is left alone.
fn fate(job: &Job, state: Option<&JobState>, alive: &HashSet<String>) -> Fate {
    let attempts = match state {
        Some(JobState::Finished(_)) => return Fate::Leave,
        Some(JobState::Running { worker, .. }) if alive.contains(worker) => return Fate::Leave,
        Some(JobState::Running { attempt, .. }) => *attempt,
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
