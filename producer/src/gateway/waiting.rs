//! Looking at the jobs that somebody waits for: all in one question to the store, however many wait, when
//! it tells that one may have changed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lapidary_schemas::JobId;
use lapidary_schemas::limits::CALL_ITEMS_MAX;
use lapidary_transport::results::{JobState, ResultsError};
use lapidary_transport::{AnyResults, Results as _};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::limits::{LOOK_AGAIN_AFTER, LOOK_REST, NOTICE_WAIT_MAX};

/// The jobs that somebody waits for; as many as there are connections at most.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    watched: Mutex<HashMap<JobId, watch::Sender<Option<JobState>>>>,
    more: Notify,
}

impl Waiting {
    fn watched(&self) -> MutexGuard<'_, HashMap<JobId, watch::Sender<Option<JobState>>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every state that a job is seen in from now on, until nobody listens.
    pub(super) fn watch(&self, job: JobId) -> watch::Receiver<Option<JobState>> {
        let mut watched = self.watched();
        let sender = watched.entry(job).or_insert_with(|| watch::channel(None).0);
        let states = sender.subscribe();
        self.more.notify_one();
        states
    }

    /// Looks while somebody waits, whenever a job may have changed, until `end`.
    pub(super) async fn run(&self, results: &AnyResults, end: &CancellationToken) {
        let looking = async {
            loop {
                while self.jobs().is_empty() {
                    self.more.notified().await;
                }
                if let Err(error) = self.look_when_told(results).await {
                    tracing::warn!(%error, "nobody tells when jobs change that are waited for");
                    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
                }
            }
        };
        end.run_until_cancelled(looking).await;
        self.watched().clear();
    }

    /// Looks after each notice, until nobody waits, or none has come for long: then what brings them may
    /// be broken.
    async fn look_when_told(&self, results: &AnyResults) -> Result<(), ResultsError> {
        let notices = results.notices().await;
        // Listening first: what changes after the look is told.
        self.look(results, &self.jobs()).await?;
        let mut notices = notices?;
        while !self.jobs().is_empty() {
            tokio::time::sleep(LOOK_REST).await;
            tokio::select! {
                there_are = notices.changed() => if !there_are {
                    return Ok(());
                },
                // What somebody waits for from now on may be finished already.
                () = self.more.notified() => {}
                () = tokio::time::sleep(NOTICE_WAIT_MAX) => return Ok(()),
            }
            self.look(results, &self.jobs()).await?;
        }
        Ok(())
    }

    /// Those that are waited for still.
    fn jobs(&self) -> Vec<JobId> {
        let mut watched = self.watched();
        watched.retain(|_, states| !states.is_closed());
        watched.keys().copied().collect()
    }

    async fn look(&self, results: &AnyResults, jobs: &[JobId]) -> Result<(), ResultsError> {
        for some in jobs.chunks(CALL_ITEMS_MAX) {
            let states = results.get(some).await?;
            let mut watched = self.watched();
            for (job, state) in some.iter().zip(states) {
                let is_finished = matches!(state, Some(JobState::Finished(_)));
                if let Some(sender) = watched.get(job) {
                    sender.send_if_modified(|known| {
                        let is_new = *known != state;
                        *known = state;
                        is_new
                    });
                }
                if is_finished {
                    watched.remove(job);
                }
            }
        }
        Ok(())
    }
}
