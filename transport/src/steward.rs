//! The steward: does what is nobody's job otherwise. It *feeds* (keeps a bounded window of every
//! batch on the queue, fair between tenants; nothing else publishes bulk work) and it *sweeps*
//! (ends what no worker will finish, publishes again what was lost, takes in what the broker gave
//! up on, collects media).
//!
//! Any process may run one; an election in the results store lets one work at a time, and every
//! step is safe to repeat, so that a steward may die anywhere.
//!
//! A job travels inline up to [`QUEUE_MESSAGE_BYTES_MAX`]. Long text and media are in the media
//! store already, as the `media:` references of its parts. An item that is larger all the same
//! gets its result here, a `VALIDATION_ERROR` that names its size and the limit.
//!
//! [`QUEUE_MESSAGE_BYTES_MAX`]: lapidary_schemas::limits::QUEUE_MESSAGE_BYTES_MAX

mod counted;
mod dropped;
mod feed;
mod items;
mod lost;
mod sweep;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use lapidary_schemas::limits::{FEED_WINDOW, FEED_WINDOW_PER_SLOT, HOT_RESULTS};
use lapidary_schemas::{BatchId, JobId};
use tokio_util::sync::CancellationToken;

use crate::media::{Media, MediaError};
use crate::queue::{Queue, QueueError};
use crate::results::{FeedPosition, Lease, Results, ResultsError};
use crate::traces::Traces;

use dropped::Intake;
use items::ShardCache;
use watch::Watch;

/// What the election is about.
const LEASE_NAME: &str = "steward";
/// Unfinished batches looked after at once, the oldest first.
const BATCHES_MAX: usize = 1_000;
/// How far a clock and the time that passes may be apart after a tick; more, and the clock was set.
const CLOCK_ERROR_MAX: Duration = Duration::from_secs(5);

/// How a steward works.
#[derive(Debug, Clone, PartialEq)]
pub struct StewardOptions {
    /// Unique name of this process in the election.
    pub holder: String,
    /// Jobs that a tenant may have on the queue or running, for one model and class. A batch never
    /// has more either, and the tenant's batches share it. Where workers have many slots, it
    /// is [`FEED_WINDOW_PER_SLOT`] for each.
    pub window: usize,
    /// How long an election is won for; it is renewed after a third of it.
    pub lease_ttl: Duration,
    /// Pause after a tick when nothing waits to be fed.
    pub tick_idle: Duration,
    /// Pause after a tick while something waits to be fed.
    pub tick_busy: Duration,
    /// Pause between two sweeps.
    pub sweep_every: Duration,
    /// How long nothing may change, with an empty queue, until jobs count as lost by it. Ten times
    /// as long when others keep the queue busy.
    pub lost_after: Duration,
    /// How long a batch may stand still that nobody has said to be whole, until whoever was submitting it
    /// counts as gone.
    pub abandoned_after: Duration,
    /// Pause between two collections of media.
    pub collect_every: Duration,
    /// Results of a batch that stay in a store whose room is memory; older ones move to the media store.
    pub hot_results: usize,
}

impl StewardOptions {
    /// The usual options for the process `holder`.
    pub fn new(holder: impl Into<String>) -> Self {
        Self {
            holder: holder.into(),
            window: FEED_WINDOW,
            lease_ttl: Duration::from_secs(15),
            tick_idle: Duration::from_millis(200),
            tick_busy: Duration::from_millis(50),
            sweep_every: Duration::from_secs(2),
            lost_after: Duration::from_secs(30),
            abandoned_after: Duration::from_hours(24),
            collect_every: Duration::from_hours(1),
            hot_results: HOT_RESULTS,
        }
    }
}

/// What one tick did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TickReport {
    /// Whether this process was the steward.
    pub leader: bool,
    /// Unfinished batches looked after.
    pub open_batches: u64,
    /// Items handed to the queue.
    pub fed: u64,
    /// Items fed and not finished, after feeding.
    pub outstanding: u64,
    /// Whether items wait to be fed.
    pub hungry: bool,
    /// Items that cannot become a job (too large, unreadable); they got their result.
    pub refused: u64,
    /// Batches ended because their deadline had passed.
    pub expired_batches: u64,
    /// Single jobs ended because their deadline had passed.
    pub expired_jobs: u64,
    /// Jobs published again.
    pub republished: u64,
    /// Jobs ended because workers died on them until their attempts were used up.
    pub worker_lost: u64,
    /// Messages taken in that the broker gave up on, since the tick before.
    pub dropped: u64,
    /// Results that moved to the media store.
    pub packed: u64,
    /// Batches whose media is pinned no longer.
    pub unpinned: u64,
    /// Media objects removed.
    pub collected: u64,
    /// Steps that failed at the queue; they are tried again.
    pub queue_errors: u64,
    /// Steps that failed at the results store; they are tried again.
    pub results_errors: u64,
    /// Steps that failed at the media store; they are tried again.
    pub media_errors: u64,
    /// How long it took.
    pub took: Duration,
}

/// A step that failed, by the store that failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Results(#[from] ResultsError),
    #[error(transparent)]
    Media(#[from] MediaError),
}

impl StepError {
    /// Whether no step that needs the queue can succeed for now. Each would wait for it in vain, and
    /// the election would run out meanwhile.
    fn is_queue_away(&self) -> bool {
        matches!(self, Self::Queue(QueueError::Unreachable { .. }))
    }
}

impl TickReport {
    /// Counts and logs a failed step.
    fn failed(&mut self, step: &str, batch: Option<BatchId>, error: &StepError) {
        match error {
            StepError::Queue(_) => self.queue_errors += 1,
            StepError::Results(_) => self.results_errors += 1,
            StepError::Media(_) => self.media_errors += 1,
        }
        let batch = batch.map(tracing::field::display);
        tracing::warn!(step, batch, %error, "steward: step failed");
    }

    /// Whether any step failed.
    pub fn any_error(&self) -> bool {
        self.queue_errors + self.results_errors + self.media_errors > 0
    }
}

/// An election won, and when it was last renewed.
#[derive(Debug)]
struct Held {
    lease: Lease,
    renewed_at: DateTime<Utc>,
}

/// Feeds and sweeps, while its process holds the election.
#[derive(Debug)]
pub struct Steward<Q, R, M> {
    queue: Arc<Q>,
    results: Arc<R>,
    media: Arc<M>,
    options: StewardOptions,
    traces: Traces,
    held: Option<Held>,
    /// What is remembered of unfinished batches.
    watches: HashMap<BatchId, Watch>,
    shards: ShardCache,
    /// Slots of the workers that serve a model, as of the last sweep.
    slots: HashMap<String, usize>,
    /// Whose turn it is first; moves on with every tick.
    turn: usize,
    swept_at: Option<DateTime<Utc>>,
    collected_at: Option<DateTime<Utc>>,
    /// Where the next look at pinned batches begins.
    pinned_after: Option<BatchId>,
    /// Single jobs published again, and when.
    republished: HashMap<JobId, DateTime<Utc>>,
}

impl<Q: Queue, R: Results, M: Media> Steward<Q, R, M> {
    /// A steward that has done nothing yet.
    pub fn new(queue: Arc<Q>, results: Arc<R>, media: Arc<M>, options: StewardOptions) -> Self {
        Self {
            queue,
            results,
            media,
            options,
            traces: Traces::off(),
            held: None,
            watches: HashMap::new(),
            shards: ShardCache::default(),
            slots: HashMap::new(),
            turn: 0,
            swept_at: None,
            collected_at: None,
            pinned_after: None,
            republished: HashMap::new(),
        }
    }

    /// Items get traces, whose beginning is told here.
    #[must_use]
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Works until `stop`, then gives the election up. `report` hears of every tick.
    pub async fn run(mut self, stop: CancellationToken, report: impl Fn(&TickReport) + Send) {
        let intake = Intake::new(&self.queue, &self.results);
        let ticks = async {
            let mut last = (Utc::now(), Instant::now());
            loop {
                let (now, started) = (Utc::now(), Instant::now());
                if was_set(now - last.0, started - last.1) {
                    // Nothing has stood still for as long as this clock says.
                    self.watches.clear();
                }
                last = (now, started);
                let mut done = self.tick(now).await;
                done.took = started.elapsed();
                done.dropped = intake.taken_since();
                report(&done);
                if stop
                    .run_until_cancelled(tokio::time::sleep(self.pause(&done)))
                    .await
                    .is_none()
                {
                    break;
                }
            }
            if let Some(held) = self.held.take()
                && let Err(error) = self.results.release(&held.lease).await
            {
                tracing::warn!(%error, "steward: the election was not given up, it ends by itself");
            }
        };
        tokio::join!(ticks, intake.run(&stop));
    }

    /// How long to wait after a tick.
    fn pause(&self, done: &TickReport) -> Duration {
        if done.any_error() {
            self.options.tick_idle.max(Duration::from_secs(1))
        } else if done.leader && done.hungry {
            self.options.tick_busy
        } else {
            self.options.tick_idle
        }
    }

    /// One round: election, feeding, and what is due of sweeping. Never more than a bounded piece
    /// of each; what fails is logged, counted and tried again later.
    pub async fn tick(&mut self, now: DateTime<Utc>) -> TickReport {
        let mut report = TickReport::default();
        let lease = match self.elect(now).await {
            Ok(Some(lease)) => lease,
            Ok(None) => return report,
            Err(error) => {
                report.failed("election", None, &error.into());
                return report;
            }
        };
        report.leader = true;
        let sweeps = is_due(self.swept_at, self.options.sweep_every, now);
        if sweeps && let Err(error) = self.count_slots().await {
            report.failed("list of workers", None, &error.into());
        }
        let positions = match self.positions(now, &mut report).await {
            Ok(positions) => positions,
            Err(error) => {
                report.failed("list of batches", None, &error.into());
                return report;
            }
        };
        self.feed(&lease, positions.clone(), now, &mut report).await;
        if sweeps {
            self.swept_at = Some(now);
            self.sweep_batches(&positions, now, &mut report).await;
            self.pack_batches(&positions, &mut report).await;
            self.sweep_single_jobs(now, &mut report).await;
        }
        if is_due(self.collected_at, self.options.collect_every, now) {
            self.collected_at = Some(now);
            self.collect_media(now, &mut report).await;
        }
        report
    }

    async fn count_slots(&mut self) -> Result<(), ResultsError> {
        let workers = self.results.workers().await?;
        self.slots.clear();
        for worker in workers {
            *self.slots.entry(worker.model.name).or_default() += worker.slots as usize;
        }
        Ok(())
    }

    /// Jobs that a tenant may have on the queue or running for a model, in each class.
    fn window(&self, model: &str) -> usize {
        let slots = self.slots.get(model).copied().unwrap_or(0);
        self.options
            .window
            .max(slots.saturating_mul(FEED_WINDOW_PER_SLOT))
    }

    /// The election: held, won or renewed. `None` while another process holds it.
    async fn elect(&mut self, now: DateTime<Utc>) -> Result<Option<Lease>, ResultsError> {
        if let Some(held) = &self.held
            && !is_due(Some(held.renewed_at), self.options.lease_ttl / 3, now)
        {
            return Ok(Some(held.lease.clone()));
        }
        let (holder, ttl) = (&self.options.holder, self.options.lease_ttl);
        let lease = self.results.lease(LEASE_NAME, holder, ttl).await?;
        match (&self.held, &lease) {
            (None, Some(_)) => tracing::info!(holder, "steward: this process feeds and sweeps"),
            (Some(_), None) => tracing::warn!(holder, "steward: another process took over"),
            _ => {}
        }
        if lease.is_none() {
            self.watches.clear();
            self.shards = ShardCache::default();
        }
        self.held = lease.clone().map(|lease| Held {
            lease,
            renewed_at: now,
        });
        Ok(lease)
    }

    /// Where feeding stands in every batch whose turn it is, those past their deadline ended.
    async fn positions(
        &mut self,
        now: DateTime<Utc>,
        report: &mut TickReport,
    ) -> Result<Vec<FeedPosition>, ResultsError> {
        let batches = self.results.open_batches(BATCHES_MAX).await?;
        report.open_batches = batches.len() as u64;
        let known: std::collections::HashSet<BatchId> = batches.iter().copied().collect();
        self.watches.retain(|batch, _| known.contains(batch));
        let mut positions = Vec::with_capacity(batches.len());
        for id in batches {
            let watch = self.watches.entry(id).or_insert_with(|| Watch::new(now));
            if watch.is_resting(now) {
                continue;
            }
            let position = match self.results.feed_position(id).await {
                Ok(position) => position,
                Err(error) => {
                    let error = error.into();
                    watch.rest(&error, now);
                    report.failed("position", Some(id), &error);
                    continue;
                }
            };
            if position
                .batch
                .deadline
                .is_some_and(|deadline| deadline <= now)
            {
                match self.results.expire_batch(id).await {
                    Ok(ended) => report.expired_batches += u64::from(ended),
                    Err(error) => report.failed("expiry", Some(id), &error.into()),
                }
                continue;
            }
            watch.saw(&position, now);
            positions.push(position);
        }
        Ok(positions)
    }
}

/// Whether a clock was set: it went on by `by`, in a time that took `took`.
fn was_set(by: TimeDelta, took: Duration) -> bool {
    (by - delta(took)).abs() > delta(CLOCK_ERROR_MAX)
}

/// Whether `every` has passed since `last`; also when the clock was set back before it.
fn is_due(last: Option<DateTime<Utc>>, every: Duration, now: DateTime<Utc>) -> bool {
    last.is_none_or(|last| now < last || now - last >= delta(every))
}

/// A duration for the calendar's arithmetic.
fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
