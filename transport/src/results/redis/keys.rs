//! What lies where.
//!
//! Everything of a batch shares one hash slot, and so does everything of a job that belongs to no
//! batch: a *home*. A script touches one home, so that counters move in the step of the state they
//! count. Lists across homes (open batches, registered jobs, dead letters) are indexes: written
//! before what they point to, and entries that point to nothing are passed over and removed.

use lapidary_schemas::{BatchId, JobId};

/// Index of unfinished batches: batch id by creation in ms.
pub(super) const OPEN: &str = "lapidary:{index}:open";
/// Index of registered jobs: `home/job` by registration in ms.
pub(super) const REGISTERED: &str = "lapidary:{index}:registered";
/// Index of dead letters: `home/job` by death in ms.
pub(super) const DEAD: &str = "lapidary:{index}:dead";
/// Announcements of workers.
pub(super) const WORKERS: &str = "lapidary:{index}:workers";
/// The channel on which jobs of no batch are told of; `common.lua` knows it, too.
pub(super) const NOTICES: &str = "lapidary:notices";
/// Version of this layout.
pub(super) const VERSION: &str = "lapidary:{index}:version";

/// Where a job's state lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Home {
    /// With its batch.
    Batch(BatchId),
    /// By itself.
    Single(JobId),
}

impl Home {
    /// Record, results, live, order, partial, done, letters, jobs: as the scripts number them.
    pub(super) fn keys(self) -> Vec<String> {
        let tag = self.to_string();
        [
            "", ":results", ":live", ":order", ":partial", ":done", ":letters", ":jobs",
        ]
        .iter()
        .map(|part| format!("lapidary:{{{tag}}}{part}"))
        .collect()
    }

    /// The stream of a home: job ids in order of completion, and changes of state.
    pub(super) fn order(self) -> String {
        format!("lapidary:{{{self}}}:order")
    }

    /// The entry of an index for one job.
    pub(super) fn entry(self, job: JobId) -> String {
        format!("{self}/{job}")
    }

    /// Home and job of an index entry.
    pub(super) fn of_entry(entry: &str) -> Option<(Self, JobId)> {
        let (home, job) = entry.split_once('/')?;
        let home = match home.strip_prefix("b:") {
            Some(batch) => Self::Batch(batch.parse().ok()?),
            None => Self::Single(home.parse().ok()?),
        };
        Some((home, job.parse().ok()?))
    }
}

impl std::fmt::Display for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Batch(id) => write!(f, "b:{id}"),
            Self::Single(id) => id.fmt(f),
        }
    }
}

/// Batch of a job that has one.
pub(super) fn location(job: JobId) -> String {
    format!("lapidary:{{{job}}}:batch")
}

/// A collection of records: their bodies by name, their names in order, and when which of them ends.
pub(super) fn collection(name: &str) -> [String; 3] {
    [
        format!("lapidary:{{records:{name}}}"),
        format!("lapidary:{{records:{name}}}:names"),
        format!("lapidary:{{records:{name}}}:ends"),
    ]
}

/// What was taken of an allowance: how much, by slot of its window.
pub(super) fn allowance(name: &str) -> String {
    format!("lapidary:{{allowance:{name}}}")
}

/// An election, and the counter of its winners.
pub(super) fn lease(name: &str) -> [String; 2] {
    [
        format!("lapidary:{{lease:{name}}}"),
        format!("lapidary:{{lease:{name}}}:token"),
    ]
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;

    #[test]
    fn an_index_entry_reads_back() {
        let (job, batch) = (JobId::new(Utc::now()), BatchId::new(Utc::now()));
        for home in [Home::Single(job), Home::Batch(batch)] {
            assert_eq!(Home::of_entry(&home.entry(job)), Some((home, job)));
        }
        assert_eq!(Home::of_entry("nonsense"), None);
    }
}
