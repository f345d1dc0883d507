//! Feeding: a bounded window of every tenant's batches on the queue.
//!
//! The queue is first in, first out, so equal windows are equal shares: each tenant's next job
//! joins the line when one of its own has left it. Within a tenant its batches take turns.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use lapidary_schemas::limits::CALL_ITEMS_MAX;
use lapidary_schemas::{Job, TraceContext};

use super::items::is_gone;
use super::{StepError, Steward, TickReport};
use crate::failpoint::{self, Failpoint};
use crate::media::Media;
use crate::queue::Queue;
use crate::results::{FeedPosition, Lease, Results, ResultsError};

/// Items fed in one tick, so that a tick stays far shorter than the election's time.
const TICK_ITEMS_MAX: usize = 4 * CALL_ITEMS_MAX;
/// Items of one turn where many tenants take turns.
const TURN_ITEMS_MIN: usize = 50;

/// A tenant's part of a lane: how many more jobs it may have there, and what waits.
#[derive(Debug, Default)]
struct Share {
    outstanding: usize,
    waiting: VecDeque<FeedPosition>,
}

/// What every turn of a tick shares.
struct Round<'a> {
    lease: &'a Lease,
    now: DateTime<Utc>,
    report: &'a mut TickReport,
    /// Nothing more can be fed: the queue is away, or the election was lost.
    over: bool,
}

impl<Q: Queue, R: Results, M: Media> Steward<Q, R, M> {
    /// Fills the windows, tenant by tenant, a turn at a time.
    pub(super) async fn feed(
        &mut self,
        lease: &Lease,
        positions: Vec<FeedPosition>,
        now: DateTime<Utc>,
        report: &mut TickReport,
    ) {
        let positions: Vec<_> = positions.into_iter().filter(|one| !one.paused).collect();
        report.outstanding = positions.iter().map(|position| position.outstanding).sum();
        report.hungry = positions.iter().any(|position| position.shard.is_some());
        let mut shares = shares(positions);
        if shares.is_empty() {
            return;
        }
        self.turn = (self.turn + 1) % shares.len();
        shares.rotate_left(self.turn);
        let turn_items = (CALL_ITEMS_MAX / shares.len()).max(TURN_ITEMS_MIN);
        let mut round = Round {
            lease,
            now,
            report,
            over: false,
        };
        let mut budget = TICK_ITEMS_MAX;
        while budget > 0 && !shares.is_empty() {
            let mut next_round = Vec::with_capacity(shares.len());
            for mut share in shares {
                let Some(position) = share.waiting.pop_front() else {
                    continue;
                };
                let items = self.room(&share, &position).min(turn_items).min(budget);
                if items > 0 {
                    let fed = self.turn_of(&mut round, position, items).await;
                    if round.over {
                        return;
                    }
                    if let Some((position, fed)) = fed {
                        budget -= fed.min(budget);
                        share.outstanding += fed;
                        share.waiting.push_back(position);
                    }
                }
                next_round.push(share);
            }
            shares = next_round;
        }
    }

    /// Items that may be fed now. Small gaps are left until they are worth a step of the stores.
    fn room(&self, tenant: &Share, position: &FeedPosition) -> usize {
        let Some(shard) = &position.shard else {
            return 0;
        };
        let left = shard.items.saturating_sub(position.offset) as usize;
        let window = self.window(&position.batch.model);
        let room = window.saturating_sub(tenant.outstanding);
        let worthwhile = (window / 4).max(1).min(left);
        if room < worthwhile { 0 } else { room.min(left) }
    }

    /// One turn of a batch: its position behind the turn, and how many items were fed; `None` if
    /// it failed and rests.
    async fn turn_of(
        &mut self,
        round: &mut Round<'_>,
        mut position: FeedPosition,
        items: usize,
    ) -> Option<(FeedPosition, usize)> {
        let id = position.batch.id;
        match self.feed_items(round, &mut position, items).await {
            Ok(fed) => {
                if let Some(watch) = self.watches.get_mut(&id) {
                    watch.recovered();
                }
                round.report.fed += fed as u64;
                round.report.outstanding += fed as u64;
                Some((position, fed))
            }
            Err(error) => {
                if is_gone(&error) {
                    tracing::error!(batch = %id, %error, "steward: a manifest is lost");
                }
                if let StepError::Results(ResultsError::Conflict { .. }) = error {
                    // Another process may have won the election.
                    self.held = None;
                    round.over = true;
                }
                round.over |= error.is_queue_away();
                if let Some(watch) = self.watches.get_mut(&id) {
                    watch.rest(&error, round.now);
                }
                round.report.failed("feeding", Some(id), &error);
                None
            }
        }
    }

    /// An item's job with a trace of its own, the same one however often it is published.
    pub(super) fn traced_item(&self, job: Job) -> Job {
        let context = self.traces.submission(job.id.0, None);
        Job {
            traceparent: context.map(|context| context.to_string()),
            ..job
        }
    }

    /// Publishes the next items and moves the position behind them. A crash between the two feeds
    /// them again, under the same job ids.
    async fn feed_items(
        &mut self,
        round: &mut Round<'_>,
        position: &mut FeedPosition,
        items: usize,
    ) -> Result<usize, StepError> {
        let Some(shard) = position.shard.clone() else {
            return Ok(0);
        };
        let batch = &position.batch;
        let lines = self
            .shards
            .lines(&*self.results, &*self.media, batch, &shard)
            .await?;
        let items = u32::try_from(items.min(CALL_ITEMS_MAX)).unwrap_or(u32::MAX);
        let (mut jobs, mut refused) = (Vec::new(), Vec::new());
        for offset in position.offset..position.offset + items {
            match lines.job(batch, offset, round.now) {
                Ok(job) => jobs.push(self.traced_item(job)),
                Err(finished) => refused.push(*finished),
            }
        }
        if !jobs.is_empty() {
            failpoint::reached(Failpoint::Feeding);
            self.queue.publish(&jobs).await?;
            failpoint::reached(Failpoint::Fed);
            let link = batch.traceparent.as_deref().and_then(TraceContext::parse);
            for job in &jobs {
                self.traces.submitted(job, None, link);
            }
        }
        if !refused.is_empty() {
            self.results.put_once(&refused).await?;
            round.report.refused += refused.len() as u64;
        }
        self.results.mark_fed(round.lease, position, items).await?;
        position.offset += items;
        position.outstanding += u64::from(items);
        if position.offset >= shard.items {
            *position = self.results.feed_position(batch.id).await?;
        }
        Ok(items as usize)
    }
}

/// Positions by lane and tenant. What has nothing to feed only counts against its tenant's window.
fn shares(positions: Vec<FeedPosition>) -> Vec<Share> {
    let mut shares: BTreeMap<_, Share> = BTreeMap::new();
    for position in positions {
        let batch = &position.batch;
        let key = (batch.model.clone(), batch.class, batch.tenant.clone());
        let share = shares.entry(key).or_default();
        share.outstanding += usize::try_from(position.outstanding).unwrap_or(usize::MAX);
        if position.shard.is_some() {
            share.waiting.push_back(position);
        }
    }
    shares
        .into_values()
        .filter(|share| !share.waiting.is_empty())
        .collect()
}
