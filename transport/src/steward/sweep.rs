//! Sweeping what is no batch's: single jobs that nobody begins, and media that nobody needs.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use lapidary_schemas::limits::{CALL_ITEMS_MAX, RETENTION_DEFAULT_S};
use lapidary_schemas::{BatchId, Failure, FailureCode, Job, Status};

use super::items::unworked_job;
use super::{StepError, Steward, TickReport, delta, is_due};
use crate::media::Media;
use crate::queue::{Lane, Queue};
use crate::results::{FeedPosition, Finished, Results, kept_s};

/// Pinned batches looked at in one collection.
const PINNED_MAX: usize = 1_000;

impl<Q: Queue, R: Results, M: Media> Steward<Q, R, M> {
    /// Ends single jobs past their deadline and publishes again those the queue has lost.
    pub(super) async fn sweep_single_jobs(&mut self, now: DateTime<Utc>, report: &mut TickReport) {
        if let Err(error) = self.try_sweep_single_jobs(now, report).await {
            report.failed("sweep of single jobs", None, &error);
        }
    }

    async fn try_sweep_single_jobs(
        &mut self,
        now: DateTime<Utc>,
        report: &mut TickReport,
    ) -> Result<(), StepError> {
        let lost_after = self.options.lost_after;
        self.republished
            .retain(|_, at| !is_due(Some(*at), lost_after, now));
        let before = now - delta(lost_after);
        let stale = self.results.stale(before, CALL_ITEMS_MAX).await?;
        let (late, waiting): (Vec<Job>, Vec<Job>) = stale
            .into_iter()
            .partition(|job| job.deadline.is_some_and(|deadline| deadline <= now));
        if !late.is_empty() {
            let expired: Vec<Finished> = late.iter().map(|job| expired(job, now)).collect();
            self.results.put_once(&expired).await?;
            report.expired_jobs += expired.len() as u64;
        }
        let idle = self.idle_lanes(&waiting).await?;
        let lost: Vec<Job> = waiting
            .into_iter()
            .filter(|job| idle.contains(&lane_of(job)) && !self.republished.contains_key(&job.id))
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        self.queue.publish(&lost).await?;
        report.republished += lost.len() as u64;
        self.republished
            .extend(lost.iter().map(|job| (job.id, now)));
        Ok(())
    }

    /// Lanes of these jobs on which nothing waits: what should wait there is lost.
    async fn idle_lanes(&self, jobs: &[Job]) -> Result<HashSet<Lane>, StepError> {
        let mut depths: HashMap<Lane, u64> = HashMap::new();
        for lane in jobs.iter().map(lane_of) {
            if let Entry::Vacant(unknown) = depths.entry(lane) {
                let depth = self.queue.depth(unknown.key()).await?;
                unknown.insert(depth);
            }
        }
        Ok(depths
            .into_iter()
            .filter_map(|(lane, depth)| (depth == 0).then_some(lane))
            .collect())
    }

    /// Moves older results of unfinished batches to the media store.
    pub(super) async fn pack_batches(
        &mut self,
        positions: &[FeedPosition],
        report: &mut TickReport,
    ) {
        for position in positions {
            let id = position.batch.id;
            match self.results.pack(id, self.options.hot_results).await {
                Ok(packed) => report.packed += packed,
                Err(error) => report.failed("moving of results", Some(id), &error.into()),
            }
        }
    }

    /// Unpins the media of batches that are not needed any more, and removes what nobody pins.
    pub(super) async fn collect_media(&mut self, now: DateTime<Utc>, report: &mut TickReport) {
        if let Err(error) = self.unpin_ended(now, report).await {
            report.failed("unpinning", None, &error);
        }
        match self.media.collect(now).await {
            Ok(removed) => report.collected += removed.objects,
            Err(error) => report.failed("collection of media", None, &error.into()),
        }
    }

    async fn unpin_ended(
        &mut self,
        now: DateTime<Utc>,
        report: &mut TickReport,
    ) -> Result<(), StepError> {
        let batches = self.media.pinned(self.pinned_after, PINNED_MAX).await?;
        self.pinned_after = batches
            .last()
            .copied()
            .filter(|_| batches.len() == PINNED_MAX);
        for id in batches {
            if self.is_needed(id, now).await? {
                continue;
            }
            self.media.unpin(id).await?;
            report.unpinned += 1;
        }
        Ok(())
    }

    /// Whether a batch may still be fed or replayed. One that the results store does not know was
    /// forgotten, or the store was wiped: its media is kept as long as results usually are.
    async fn is_needed(&self, id: BatchId, now: DateTime<Utc>) -> Result<bool, StepError> {
        let Some(batch) = self.results.batch(id).await? else {
            let made_at = id.0.get_timestamp().map_or(0, |at| at.to_unix().0);
            let now = u64::try_from(now.timestamp()).unwrap_or(0);
            return Ok(made_at.saturating_add(RETENTION_DEFAULT_S) > now);
        };
        let Some(finished_at) = self.results.progress(id).await?.finished_at else {
            return Ok(true);
        };
        // One that ended just now, behind this moment of the tick, has all of its time before it.
        let kept = delta(std::time::Duration::from_secs(kept_s(&batch)));
        Ok(now - finished_at < kept)
    }
}

fn lane_of(job: &Job) -> Lane {
    Lane::Jobs {
        model: job.model.clone(),
        class: job.class,
    }
}

fn expired(job: &Job, now: DateTime<Utc>) -> Finished {
    let deadline = job
        .deadline
        .map(|deadline| deadline.to_rfc3339())
        .unwrap_or_default();
    let message = format!("deadline {deadline} passed before a worker began it");
    let failure = Failure::new(FailureCode::DeadlineExceeded, message);
    Finished {
        result: unworked_job(job, Status::Expired, failure, now),
        dead_letter: None,
    }
}
