//! Whose turn it is: jobs run beside each other, but one that was under way when a worker was lost runs
//! alone. If it was the cause it takes no other job along a second time, and is known by that.

use std::sync::Arc;

use lapidary_schemas::Job;
use lapidary_transport::Settle;
use lapidary_transport::results::Begin;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::line::Line;
use crate::store::Refused;

/// Workers that may be lost on a job: the first beside others, the second while it ran alone.
const LOST_MAX: u32 = 2;

/// Who runs now. Turns are given in the order of asking.
#[derive(Debug, Default)]
pub(crate) struct Turns(Arc<RwLock<()>>);

/// A turn; over when this is dropped.
#[derive(Debug)]
pub(crate) enum Held {
    /// Beside others.
    Beside { _turn: OwnedRwLockReadGuard<()> },
    /// Alone.
    Alone { _turn: OwnedRwLockWriteGuard<()> },
}

/// An attempt that was begun, after how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tries {
    /// Which attempt, from 1.
    pub(crate) attempt: u32,
    /// Workers that were lost on it before.
    pub(crate) lost: u32,
}

/// What came of waiting for a turn.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It may run.
    Mine {
        /// As long as this is kept.
        held: Held,
        /// Which attempt it is.
        tries: Tries,
    },
    /// It needs none: its loan ends so.
    Over(Settle),
}

impl Tries {
    /// Why the job gets no more attempts, if workers were lost on it too often.
    pub(crate) fn given_up(self, attempts_max: u32) -> Option<String> {
        let Self { attempt, lost } = self;
        if lost >= LOST_MAX {
            Some(format!(
                "{lost} workers were lost on it, the last one while it ran alone"
            ))
        } else if attempt > attempts_max {
            let attempts = attempt - 1;
            Some(format!(
                "workers were lost on it, and its {attempts} attempts are used up"
            ))
        } else {
            None
        }
    }
}

impl Line {
    /// Waits until a job may run, and begins it. What waits is not begun: if the worker is lost
    /// meanwhile, that was another job's doing.
    pub(crate) async fn turn(&self, job: &Job) -> Result<Turn, Refused> {
        let stopping = &self.stop.working;
        let beside = self.turns.0.clone().read_owned();
        let Some(turn) = stopping.run_until_cancelled(beside).await else {
            return Ok(Turn::Over(Settle::Interrupted));
        };
        if self.broke_down().await {
            return Ok(Turn::Over(Settle::Interrupted));
        }
        let answer = self.store.begin(job.clone()).await?;
        if !matches!(answer, Begin::Suspect { .. }) {
            return Ok(turn_of(&answer, Held::Beside { _turn: turn }));
        }
        self.store.interrupt(job.id).await;
        drop(turn);
        tracing::warn!(job_id = %job.id, "a worker was lost while it ran this job: it will run alone");
        let alone = self.turns.0.clone().write_owned();
        let Some(turn) = stopping.run_until_cancelled(alone).await else {
            return Ok(Turn::Over(Settle::Interrupted));
        };
        if self.broke_down().await {
            return Ok(Turn::Over(Settle::Interrupted));
        }
        let answer = self.store.begin(job.clone()).await?;
        Ok(turn_of(&answer, Held::Alone { _turn: turn }))
    }

    /// Whether the engine has broken down. A job that were begun after that would be blamed for it; one
    /// that were handed back while jobs are still taken would come back here.
    async fn broke_down(&self) -> bool {
        let failed = self.engine_failed();
        if failed {
            self.stop.fetching.cancelled().await;
        }
        failed
    }
}

fn turn_of(answer: &Begin, held: Held) -> Turn {
    let (attempt, lost) = match answer {
        Begin::Attempt(attempt) => (*attempt, 0),
        Begin::Suspect { attempt, lost } => (*attempt, *lost),
        Begin::Finished | Begin::Cancelled | Begin::Paused => {
            return Turn::Over(Settle::Done);
        }
    };
    let tries = Tries { attempt, lost };
    Turn::Mine { held, tries }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_workers_are_lost_on_a_job_at_most() {
        let given_up = |attempt, lost| Tries { attempt, lost }.given_up(3);
        assert_eq!(given_up(3, 0), None);
        assert_eq!(given_up(3, 1), None);
        assert!(given_up(3, 2).is_some_and(|why| why.contains("while it ran alone")));
        assert!(given_up(4, 1).is_some_and(|why| why.contains("3 attempts are used up")));
    }
}
