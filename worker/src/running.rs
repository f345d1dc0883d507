//! The jobs under way, and how they learn that they were cancelled.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lapidary_schemas::JobId;
use lapidary_transport::Results;
use tokio_util::sync::CancellationToken;

/// How often it is asked which jobs were cancelled. A running job must stop within two seconds.
pub(crate) const CANCEL_POLL: Duration = Duration::from_millis(500);

/// The jobs under way in this worker.
#[derive(Debug, Default)]
pub(crate) struct Running {
    jobs: Mutex<HashMap<JobId, Entry>>,
    entered: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    cancelled: CancellationToken,
    since: Instant,
}

/// One job's entry; gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    running: Arc<Running>,
    job: JobId,
    /// Cancelled when the job is.
    pub(crate) cancelled: CancellationToken,
}

impl Running {
    fn entries(&self) -> MutexGuard<'_, HashMap<JobId, Entry>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a job; `None` if it is under way already.
    pub(crate) fn enter(self: &Arc<Self>, job: JobId) -> Option<Watch> {
        let cancelled = CancellationToken::new();
        match self.entries().entry(job) {
            std::collections::hash_map::Entry::Occupied(_) => return None,
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Entry {
                cancelled: cancelled.clone(),
                since: Instant::now(),
            }),
        };
        self.entered.fetch_add(1, Ordering::Relaxed);
        Some(Watch {
            running: self.clone(),
            job,
            cancelled,
        })
    }

    /// Which ones are under way.
    pub(crate) fn jobs(&self) -> Vec<JobId> {
        self.entries().keys().copied().collect()
    }

    /// How many are under way.
    pub(crate) fn count(&self) -> usize {
        self.entries().len()
    }

    /// For how long the one has been that is under way longest; nothing if none is.
    pub(crate) fn longest(&self) -> Duration {
        let first = self.entries().values().map(|entry| entry.since).min();
        first.map_or(Duration::ZERO, |first| first.elapsed())
    }

    /// How many ever were.
    pub(crate) fn entered(&self) -> u64 {
        self.entered.load(Ordering::Relaxed)
    }

    /// Asks in one call once `every`, which jobs were cancelled, and tells them.
    pub(crate) async fn watch_cancellations(&self, results: &impl Results, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let jobs = self.jobs();
            if jobs.is_empty() {
                continue;
            }
            // While results are away, others say so; a cancellation is noticed afterwards.
            let Ok(answers) = results.cancelled(&jobs).await else {
                continue;
            };
            let running = self.entries();
            for (job, _) in jobs.iter().zip(answers).filter(|(_, cancelled)| *cancelled) {
                if let Some(entry) = running.get(job) {
                    entry.cancelled.cancel();
                }
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.running.entries().remove(&self.job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_under_way_once() {
        let running = Arc::new(Running::default());
        let job = JobId::new(chrono::Utc::now());
        let watch = running.enter(job).unwrap();
        assert!(running.enter(job).is_none());
        assert!(running.longest() > Duration::ZERO);
        assert_eq!(running.jobs(), [job]);
        drop(watch);
        assert_eq!((running.count(), running.longest()), (0, Duration::ZERO));
        assert!(running.enter(job).is_some());
    }
}
