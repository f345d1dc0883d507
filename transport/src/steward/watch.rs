//! What the steward remembers of an unfinished batch from tick to tick. Nothing of it must
//! survive: another steward learns it again.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lapidary_schemas::JobId;

use super::items::is_gone;
use super::{StepError, delta};
use crate::results::FeedPosition;

/// Longest rest after failures of a store, as a power of two of seconds: once it is there again, work
/// goes on soon.
const REST_POWER_MAX: u32 = 3;
/// The same where the batch itself is at fault.
const BROKEN_REST_POWER_MAX: u32 = 6;
/// How many times the time until jobs count as lost is doubled at most.
const DOUBLINGS_MAX: u32 = 6;

/// After this time a worker that lives has said again what it has under way.
const SAID_AGAIN: Duration = Duration::from_secs(15);

/// Shard and offset of the next item, and the items outstanding.
type Mark = (Option<u32>, u32, u64);

/// How a batch has moved, and whether it rests after failures.
#[derive(Debug)]
pub(super) struct Watch {
    mark: Option<Mark>,
    /// When it last moved, or was last helped.
    pub(super) moved_at: DateTime<Utc>,
    failures: u32,
    rests_until: Option<DateTime<Utc>>,
    /// How often its jobs were looked for since it last moved.
    searches: u32,
    /// The shard where the search for lost jobs goes on, if it is under way.
    pub(super) search_next: Option<u32>,
    /// Jobs that their workers were believed to run at the last search, and did not say to have.
    pub(super) missed: HashSet<JobId>,
    /// The same of the search that is under way.
    pub(super) missing: HashSet<JobId>,
    /// It was paused when it was last seen.
    paused: bool,
    /// It was resumed: what workers let go of meanwhile is to be found.
    resumed: bool,
}

impl Watch {
    pub(super) fn new(now: DateTime<Utc>) -> Self {
        Self {
            mark: None,
            moved_at: now,
            failures: 0,
            rests_until: None,
            searches: 0,
            search_next: None,
            missed: HashSet::new(),
            missing: HashSet::new(),
            paused: false,
            resumed: false,
        }
    }

    /// Notes where the batch stands.
    pub(super) fn saw(&mut self, position: &FeedPosition, now: DateTime<Utc>) {
        self.resumed |= self.paused && !position.paused;
        self.paused = position.paused;
        let shard = position.shard.as_ref().map(|shard| shard.index);
        let mark = (shard, position.offset, position.outstanding);
        if self.mark != Some(mark) {
            self.mark = Some(mark);
            self.moved_at = now;
            self.searches = 0;
            self.search_next = None;
            self.missed.clear();
            self.missing.clear();
        }
    }

    /// A step failed: leave the batch alone for a while, longer each time.
    pub(super) fn rest(&mut self, error: &StepError, now: DateTime<Utc>) {
        let power_max = if is_gone(error) {
            BROKEN_REST_POWER_MAX
        } else {
            REST_POWER_MAX
        };
        let rest = Duration::from_secs(1 << self.failures.min(power_max));
        self.failures += 1;
        self.rests_until = Some(now + delta(rest));
    }

    /// A step went well.
    pub(super) fn recovered(&mut self) {
        self.failures = 0;
        self.rests_until = None;
    }

    pub(super) fn is_resting(&self, now: DateTime<Utc>) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// Whether it was resumed, and not searched since.
    pub(super) fn was_resumed(&self) -> bool {
        self.resumed
    }

    /// How long it must not have moved until its jobs are looked for: longer each time.
    pub(super) fn patience(&self, lost_after: Duration) -> Duration {
        lost_after * (1 << self.searches.min(DOUBLINGS_MAX))
    }

    /// Its jobs were looked for, in all its shards. Where workers did not have what they were believed to
    /// run, it is looked again soon, when they have said again what they have.
    pub(super) fn searched(&mut self, patience: Duration, now: DateTime<Utc>) {
        self.resumed = false;
        self.search_next = None;
        self.missed = std::mem::take(&mut self.missing);
        if self.missed.is_empty() {
            self.moved_at = now;
            self.searches += 1;
        } else {
            self.moved_at = now - delta(patience.saturating_sub(SAID_AGAIN));
        }
    }
}
