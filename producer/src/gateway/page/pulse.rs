//! What goes on at the place: looked at by one for all who watch, so that watching costs the stores the
//! same however many do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use lapidary_schemas::{Batch, BatchId, Class, Progress, WorkerInfo};
use lapidary_transport::queue::QueueError;
use lapidary_transport::results::{DeadLetter, ResultsError};
use lapidary_transport::{Lane, Queue as _, Results as _};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::super::batch_object::Standing;
use super::super::limits::{
    OVERVIEW_BATCHES_MAX, OVERVIEW_ENDED_FOR, OVERVIEW_ENDED_MAX, OVERVIEW_EVERY,
    OVERVIEW_EVERY_UNWATCHED, OVERVIEW_MODELS_MAX, OVERVIEW_TIME_MAX, OVERVIEW_TIMES_MAX,
    RATE_OVER,
};
use super::history::{Flow, History};
use crate::catalogue::{self, BatchRecord};
use crate::stores::Stores;

/// Why there is nothing new to be seen.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Results(#[from] ResultsError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("the stores did not answer within {OVERVIEW_TIME_MAX:?}")]
    TooSlow,
}

/// Jobs that wait on a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Depth {
    pub(crate) model: String,
    pub(crate) class: Class,
    pub(crate) waiting: u64,
}

/// A batch as it was seen last.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) batch: Batch,
    pub(super) record: BatchRecord,
    pub(crate) counts: Progress,
    /// When it last moved.
    pub(super) moved_at: DateTime<Utc>,
    /// How many were finished when, of late; the oldest first.
    marks: VecDeque<(DateTime<Utc>, u64)>,
}

impl Seen {
    /// Nothing was seen of it before; what was finished of an older one is no news.
    fn first(batch: Batch, record: BatchRecord, counts: &Progress, since: DateTime<Utc>) -> Self {
        let is_new = batch.created_at >= since;
        let mut known = counts.clone();
        if is_new {
            (known.succeeded, known.failed, known.filtered) = (0, 0, 0);
            (known.cancelled, known.expired, known.completion_tokens) = (0, 0, 0);
        }
        let moved_at = batch.created_at.max(since);
        Self {
            marks: VecDeque::from([(moved_at, known.finished())]),
            batch,
            record,
            counts: known,
            moved_at,
        }
    }

    /// What came since it was seen last.
    fn update(&mut self, counts: Progress, at: DateTime<Utc>) -> Flow {
        let (before, now) = (&self.counts, &counts);
        // What was cancelled was not worked on. Counters also move back, when an item is brought back.
        let failed = |counts: &Progress| counts.filtered + counts.failed + counts.expired;
        let flow = Flow {
            succeeded: now.succeeded.saturating_sub(before.succeeded),
            failed: failed(now).saturating_sub(failed(before)),
            tokens: now
                .completion_tokens
                .saturating_sub(before.completion_tokens),
            seconds: Vec::new(),
        };
        if now.finished() != before.finished() {
            self.moved_at = at;
        }
        if let [(_, still)] = self.marks.make_contiguous()
            && *still == now.finished()
        {
            // The time until it begins is not that of its work.
            self.marks.clear();
        }
        self.marks.push_back((at, now.finished()));
        // The one just before the time that counts stays, so that all of it is covered.
        while self
            .marks
            .get(1)
            .is_some_and(|(then, _)| at - *then >= RATE_OVER)
        {
            self.marks.pop_front();
        }
        self.counts = counts;
        flow
    }

    pub(crate) fn ended_at(&self) -> Option<DateTime<Utc>> {
        Standing::of(&self.counts).ended_at
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended_at().is_some()
    }

    /// Requests that end a second, of late; unknown where it is too new to say, or over.
    pub(crate) fn per_second(&self) -> Option<f64> {
        let ((then, before), (now, after)) = (self.marks.front()?, self.marks.back()?);
        let passed = (*now - *then).as_seconds_f64();
        if passed < 1.0 || self.has_ended() || self.counts.paused {
            return None;
        }
        let done = u32::try_from(after.saturating_sub(*before)).unwrap_or(u32::MAX);
        Some(f64::from(done) / passed)
    }

    /// Seconds until it is through, if it goes on like this.
    pub(crate) fn seconds_left(&self) -> Option<f64> {
        let rate = self.per_second().filter(|rate| *rate > 0.0)?;
        let left = self.counts.total.saturating_sub(self.counts.finished());
        Some(f64::from(u32::try_from(left).unwrap_or(u32::MAX)) / rate)
    }
}

/// One look at the place.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) at: DateTime<Utc>,
    /// Why the rest is of an earlier one.
    pub(super) away: Option<String>,
    pub(crate) workers: Vec<WorkerInfo>,
    pub(crate) queues: Vec<Depth>,
    /// Unfinished batches and those that have just ended, the newest first.
    pub(crate) batches: Vec<Seen>,
    /// The newest dead letter.
    pub(super) dead: Option<DeadLetter>,
    pub(super) history: History,
}

/// The looks, as they come.
#[derive(Debug)]
pub(super) struct Pulse {
    looks: watch::Sender<Option<Arc<Look>>>,
    wanted: Notify,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            looks: watch::Sender::new(None),
            wanted: Notify::new(),
        }
    }
}

impl Pulse {
    /// Every look from now on.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Arc<Look>>> {
        let looks = self.looks.subscribe();
        self.wanted.notify_one();
        looks
    }

    /// Looks until `stop`, less often while nobody watches.
    pub(super) async fn run(&self, stores: &Stores, stop: &CancellationToken) {
        let looking = async {
            let mut watcher = Watcher::new(Utc::now());
            loop {
                let look = watcher.look(stores, Utc::now()).await;
                self.looks.send_replace(Some(Arc::new(look)));
                tokio::time::sleep(OVERVIEW_EVERY).await;
                if self.looks.receiver_count() == 0 {
                    let rest = OVERVIEW_EVERY_UNWATCHED.saturating_sub(OVERVIEW_EVERY);
                    // Either way it is time for the next one.
                    let _ = tokio::time::timeout(rest, self.wanted.notified()).await;
                }
            }
        };
        stop.run_until_cancelled(looking).await;
    }
}

/// What is known from one look to the next.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// Unfinished batches, and those that have just ended.
    known: BTreeMap<BatchId, Seen>,
    last: Look,
}

impl Watcher {
    /// Nothing has been seen before `now`.
    pub(crate) fn new(now: DateTime<Utc>) -> Self {
        let last = Look {
            at: now,
            away: None,
            workers: Vec::new(),
            queues: Vec::new(),
            batches: Vec::new(),
            dead: None,
            history: History::default(),
        };
        Self {
            known: BTreeMap::new(),
            last,
        }
    }

    /// Looks at everything; where that fails, the last look and why.
    pub(crate) async fn look(&mut self, stores: &Stores, at: DateTime<Utc>) -> Look {
        self.last.history.look(at);
        let looked = tokio::time::timeout(OVERVIEW_TIME_MAX, self.try_look(stores, at)).await;
        let away = match looked {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(LookError::TooSlow),
        };
        if let Some(error) = &away
            && self.last.away.is_none()
        {
            tracing::warn!(%error, "the place cannot be looked at");
        }
        self.last.away = away.map(|error| error.to_string());
        let batches = self.known.values().rev().cloned();
        self.last.batches = batches.collect();
        self.last.at = at;
        self.last.clone()
    }

    async fn try_look(&mut self, stores: &Stores, at: DateTime<Utc>) -> Result<(), LookError> {
        let results = &stores.results;
        let workers = results.workers().await?;
        let mut ids: BTreeSet<BatchId> = results
            .open_batches(OVERVIEW_BATCHES_MAX)
            .await?
            .into_iter()
            .collect();
        let unended = self.known.iter().filter(|(_, seen)| !seen.has_ended());
        ids.extend(unended.map(|(id, _)| *id));
        for id in ids {
            self.look_at(stores, id, at).await?;
        }
        self.forget_ended(at);
        let (letters, _) = results.dead_letters("", 1).await?;
        let models = self.known.values().map(|seen| seen.batch.model.clone());
        let models = models.chain(workers.iter().map(|worker| worker.model.name.clone()));
        let models: BTreeSet<String> = models.collect();
        self.last.queues = depths(stores, models).await?;
        self.last.workers = workers;
        self.last.dead = letters.into_iter().next();
        Ok(())
    }

    /// How far a batch is, and what came since.
    async fn look_at(
        &mut self,
        stores: &Stores,
        id: BatchId,
        at: DateTime<Utc>,
    ) -> Result<(), LookError> {
        let results = &stores.results;
        let counts = match results.progress(id).await {
            Err(ResultsError::NoSuchBatch { .. }) => {
                self.known.remove(&id);
                return Ok(());
            }
            counts => counts?,
        };
        let state_before = self.known.get(&id).map(|seen| seen.counts.state);
        if state_before != Some(counts.state) {
            let Some(batch) = results.batch(id).await? else {
                return Ok(());
            };
            let record = catalogue::find(results, &batch.tenant, id.0).await?;
            let record: BatchRecord = record.unwrap_or_default();
            let since = self.last.at;
            let seen = self
                .known
                .entry(id)
                .or_insert_with(|| Seen::first(batch, BatchRecord::default(), &counts, since));
            seen.record = record;
        }
        let Some(seen) = self.known.get_mut(&id) else {
            return Ok(());
        };
        let mut flow = seen.update(counts, at);
        if flow == Flow::default() {
            return Ok(());
        }
        let tenant = seen.batch.tenant.clone();
        let latest = results.latest(id, "", OVERVIEW_TIMES_MAX).await?;
        // What two looks are apart, and a little: clocks differ.
        let since = self.last.at - TimeDelta::milliseconds(100);
        let fresh = latest.results.iter().filter(|one| one.finished_at > since);
        let worked = fresh.map(|one| (one.timings.total - one.timings.queue).max(0.0));
        flow.seconds = worked.filter(|seconds| *seconds > 0.0).collect();
        self.last.history.add(&tenant, at, &flow);
        Ok(())
    }

    /// Forgets those that ended long ago, and the oldest where there are many.
    fn forget_ended(&mut self, at: DateTime<Utc>) {
        let mut left = OVERVIEW_ENDED_MAX;
        let mut old = Vec::new();
        for (id, seen) in self.known.iter().rev() {
            let Some(ended_at) = seen.ended_at() else {
                continue;
            };
            if left == 0 || at - ended_at > OVERVIEW_ENDED_FOR {
                old.push(*id);
            }
            left = left.saturating_sub(1);
        }
        for id in old {
            self.known.remove(&id);
        }
    }
}

async fn depths(stores: &Stores, models: BTreeSet<String>) -> Result<Vec<Depth>, QueueError> {
    let mut depths = Vec::new();
    for model in models.into_iter().take(OVERVIEW_MODELS_MAX) {
        for class in Class::ALL {
            let lane = Lane::Jobs {
                model: model.clone(),
                class,
            };
            let waiting = stores.queue.depth(&lane).await?;
            depths.push(Depth {
                model: model.clone(),
                class,
                waiting,
            });
        }
    }
    Ok(depths)
}

#[cfg(test)]
pub(super) mod tests {
    use lapidary_schemas::BatchState;

    use super::*;
    use crate::submission;

    pub(in super::super) fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    pub(in super::super) fn counts(total: u64, succeeded: u64, failed: u64) -> Progress {
        let is_through = succeeded + failed == total;
        Progress {
            state: if is_through {
                BatchState::Completed
            } else {
                BatchState::InProgress
            },
            paused: false,
            total,
            fed: total,
            succeeded,
            filtered: 0,
            failed,
            cancelled: 0,
            expired: 0,
            prompt_tokens: 0,
            completion_tokens: 10 * succeeded,
            finished_at: is_through.then(|| at(100)),
        }
    }

    /// A batch of the tenant `a` that was made and first seen at 0.
    pub(in super::super) fn seen(counts: &Progress) -> Seen {
        let mut batch = submission::bulk("a", at(0), None);
        batch.model = "m".to_owned();
        Seen::first(batch, BatchRecord::default(), counts, at(0))
    }

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let mut seen = seen(&counts(1_000, 0, 0));
        assert_eq!(seen.per_second(), None);
        for second in 1..=120 {
            let done = if second <= 60 { 0 } else { (second - 60) * 2 };
            seen.update(counts(1_000, done, 0), at(second.try_into().unwrap()));
        }
        assert_eq!(seen.per_second(), Some(2.0));
        assert_eq!(seen.seconds_left(), Some(440.0));
        seen.update(counts(1_000, 1_000, 0), at(121));
        assert_eq!((seen.per_second(), seen.seconds_left()), (None, None));
    }

    #[test]
    fn what_is_cancelled_did_not_come() {
        let mut seen = seen(&counts(10, 0, 0));
        let cancelled = Progress {
            cancelled: 9,
            ..counts(10, 1, 0)
        };
        let flow = seen.update(cancelled, at(1));
        assert_eq!((flow.succeeded, flow.failed), (1, 0));
    }

    #[test]
    fn what_came_is_told_once_and_nothing_where_items_are_brought_back() {
        let mut seen = seen(&counts(10, 4, 1));
        let flow = seen.update(counts(10, 4, 1), at(1));
        assert_eq!((flow.succeeded, flow.failed, flow.tokens), (4, 1, 40));
        assert_eq!(seen.update(counts(10, 4, 1), at(2)), Flow::default());
        assert_eq!(seen.moved_at, at(1));
        assert_eq!(seen.update(counts(10, 4, 0), at(3)), Flow::default());
        let flow = seen.update(counts(10, 5, 0), at(4));
        assert_eq!((flow.succeeded, flow.failed), (1, 0));
    }

    #[test]
    fn what_has_ended_is_forgotten_after_a_while() {
        let mut watcher = Watcher::new(at(0));
        for number in 0..50 {
            let mut one = seen(&counts(1, 0, 0));
            one.update(counts(1, u64::from(number != 0), 0), at(1));
            watcher.known.insert(BatchId::new(at(number)), one);
        }
        watcher.forget_ended(at(101));
        assert_eq!(watcher.known.len(), OVERVIEW_ENDED_MAX + 1);
        watcher.forget_ended(at(101) + OVERVIEW_ENDED_FOR);
        let left: Vec<_> = watcher.known.values().map(Seen::has_ended).collect();
        assert_eq!(left, [false]);
    }

    #[test]
    fn what_an_older_batch_had_is_no_news() {
        let batch = submission::bulk("a", at(-100), None);
        let mut seen = Seen::first(batch, BatchRecord::default(), &counts(10, 4, 0), at(0));
        let flow = seen.update(counts(10, 5, 0), at(1));
        assert_eq!((flow.succeeded, flow.tokens), (1, 10));
    }
}
