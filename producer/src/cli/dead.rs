//! `lapidary dead`.

use std::time::Duration;

use clap::{Args, Subcommand};
use lapidary_schemas::{BatchId, JobId};

use super::PlaceArgs;

/// `dead`.
#[derive(Debug, Args)]
pub struct Dead {
    /// What to do with them.
    #[command(subcommand)]
    pub command: DeadCommand,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List them, newest first
    List {
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 100)]
        max: usize,
        /// Which of them.
        #[command(flatten)]
        filter: DeadFilter,
        /// Where jobs wait and results rest.
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Show one whole
    Show {
        /// Id of its job
        job: JobId,
        /// Where jobs wait and results rest.
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Put it on the queue again as a new job, which takes its place in its batch
    Replay {
        /// Id of its job
        job: JobId,
        /// Where jobs wait and results rest.
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Forget them: the jobs keep their results, and cannot be replayed any more
    Drop {
        /// Ids of their jobs
        #[arg(required_unless_present_any = ["batch", "model", "reason", "older_than", "all"])]
        jobs: Vec<JobId>,
        /// Every one
        #[arg(long, conflicts_with_all = ["jobs", "batch", "model", "reason", "older_than"])]
        all: bool,
        /// Which of them.
        #[command(flatten)]
        filter: DeadFilter,
        /// Where jobs wait and results rest.
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// Which dead letters; all that is given must hold.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which")]
pub struct DeadFilter {
    /// Those of this batch
    #[arg(long, value_name = "BATCH")]
    pub batch: Option<BatchId>,
    /// Those for this model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Those whose reason has this in it, such as a failure's code
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Those that died longer ago, such as 2h or 7days
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub older_than: Option<Duration>,
}
