//! Many jobs through real programs while they and their servers are harmed, and what came of it.

mod faults;
mod stage;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lapidary_schemas::{BatchId, BatchState, Class};
use lapidary_transport::{AnyResults, Lane, Queue as _, Results as _};
use serde_json::{Value, json};

use crate::invariants::{self, Findings};
use faults::schedule;
use stage::{Holdings, Stage};

pub use faults::Fault;

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Batches that may be unfinished when the next one is submitted.
const UNFINISHED_MAX: usize = 8;
/// After this long without a result, what lasts is ended.
const STALL: Duration = Duration::from_secs(5);
/// After this long without a result, what has none counts as lost.
const PATIENCE: Duration = Duration::from_mins(3);
/// What a program may hold more at the end than after its first jobs.
const MEMORY_GROWTH_MIB_MAX: u64 = 64;
const FILES_GROWTH_MAX: u64 = 16;
/// Connections that a program may have more at the end: one to publish, and one to wait for changes.
const CONNECTIONS_GROWTH_MAX: u64 = 2;
/// Longest time until programs hold nothing for jobs that have ended.
const SETTLED_MAX: Duration = Duration::from_mins(1);
/// Jobs after which it is measured what programs hold.
const WARM_UP: usize = 200;

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Options {
    /// On `RabbitMQ` and Redis; otherwise on the embedded file.
    pub on_servers: bool,
    /// The model that workers serve: `instant` or `demonstration`.
    pub model: String,
    /// Jobs, those of the warm-up included.
    pub jobs: usize,
    /// Faults.
    pub faults: usize,
    /// What the faults are drawn from.
    pub seed: u64,
    /// Workers at once.
    pub workers: usize,
    /// After this long no more faults and jobs come.
    pub within: Duration,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// Jobs, results, and what does not hold.
    pub findings: Findings,
    /// Faults that happened, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Mebibytes that a program holds beyond what it may.
    pub leaked_memory_mib: u64,
    /// Files that a program holds beyond what it may.
    pub leaked_files: u64,
    /// Connections that the servers have beyond those after the first jobs.
    pub leaked_connections: u64,
    /// Blocks of key-value cache that nobody uses and nobody gave back.
    pub leaked_blocks: u64,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Faults of all kinds.
    pub fn faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Whether nothing was lost, duplicated or leaked.
    pub fn holds(&self) -> bool {
        let leaks = [
            self.leaked_memory_mib,
            self.leaked_files,
            self.leaked_connections,
            self.leaked_blocks,
        ];
        self.findings.hold() && leaks.iter().sum::<u64>() == 0
    }

    /// All of it.
    pub fn json(&self, options: &Options) -> Value {
        json!({
            "transport": if options.on_servers { "amqp" } else { "file" },
            "model": options.model,
            "seed": options.seed,
            "jobs": self.findings.jobs,
            "results": self.findings.results,
            "faults": self.faults(),
            "faults_by_kind": self.faults,
            "lost": self.findings.lost,
            "duplicated": self.findings.duplicated,
            "wrong": self.findings.wrong,
            "leaked": {
                "memory_mib": self.leaked_memory_mib,
                "files": self.leaked_files,
                "connections": self.leaked_connections,
                "kv_blocks": self.leaked_blocks,
            },
            "seconds": self.took.as_secs_f64(),
        })
    }
}

/// How far the batches of a run are.
struct Watched {
    results: AnyResults,
    unfinished: Vec<BatchId>,
    finished: u64,
    moved: Instant,
}

impl Watched {
    /// Looks at those that are unfinished. What cannot be asked is asked again.
    async fn look(&mut self) -> u64 {
        let (mut seen, mut left) = (0, Vec::new());
        for id in &self.unfinished {
            match self.results.progress(*id).await {
                Ok(progress) if progress.state == BatchState::Completed => {
                    self.finished += progress.total;
                }
                Ok(progress) => {
                    seen += progress.finished();
                    left.push(*id);
                }
                Err(_) => left.push(*id),
            }
        }
        self.unfinished = left;
        self.finished + seen
    }

    /// Waits for a result, at most so long; whether one came.
    async fn moves(&mut self, within: Duration) -> bool {
        let (before, since) = (self.look().await, Instant::now());
        while since.elapsed() < within {
            tokio::time::sleep(LOOK).await;
            if self.look().await > before {
                return true;
            }
        }
        false
    }

    /// Waits until more results than `before` are there and few batches are unfinished. Ends what lasts
    /// where nothing moves; `false` if nothing moves for too long.
    async fn until(&mut self, stage: &mut Stage, before: u64, unfinished_max: usize) -> bool {
        let mut last = self.look().await;
        self.moved = Instant::now();
        loop {
            if last > before && self.unfinished.len() <= unfinished_max {
                return true;
            }
            tokio::time::sleep(LOOK).await;
            let now = self.look().await;
            if now > last {
                (last, self.moved) = (now, Instant::now());
            } else if self.moved.elapsed() > PATIENCE {
                return false;
            } else if self.moved.elapsed() > STALL {
                stage.heal();
            }
        }
    }
}

/// Runs it.
///
/// # Errors
/// If the place cannot be used at all.
pub async fn run(options: &Options) -> Result<Report, String> {
    let started = Instant::now();
    let mut stage = Stage::start(options.on_servers, &options.model, options.workers).await;
    let warm_up = WARM_UP.min(options.jobs);
    let mut batches = vec![tokio::task::block_in_place(|| stage.submit(0, warm_up))?];
    let mut watched = Watched {
        results: stage.open().await?.results,
        unfinished: batches.clone(),
        finished: 0,
        moved: started,
    };
    if !watched.until(&mut stage, 0, 0).await {
        return Err("the first jobs got no results".to_owned());
    }
    let warm = tokio::task::block_in_place(|| stage.holdings());
    let plan = schedule(
        options.seed,
        options.faults,
        options.on_servers,
        options.workers,
    );
    let mut report = Report::default();
    let (mut left, mut stuck) = (options.jobs - warm_up, false);
    for (number, planned) in plan.into_iter().enumerate() {
        if stuck || started.elapsed() > options.within {
            break;
        }
        let count = left / (options.faults - number);
        left -= count;
        let before = watched.look().await;
        if count > 0 {
            let batch = tokio::task::block_in_place(|| stage.submit(number + 1, count))?;
            batches.push(batch);
            watched.unfinished.push(batch);
            // The harm comes while its jobs run.
            stuck = !watched.until(&mut stage, before, UNFINISHED_MAX).await;
        }
        tokio::task::block_in_place(|| stage.strike(planned));
        *report.faults.entry(planned.fault.as_str()).or_default() += 1;
        // What lasts does so until the next fault, as long as others go on.
        if stage.is_harmed() && !watched.moves(STALL).await {
            stage.heal();
        }
    }
    stage.heal();
    // What is missing after this is lost, and counted as that.
    let _ = watched.until(&mut stage, 0, 0).await;
    drained(&stage, &options.model).await?;
    leaks(&stage, warm, &mut report).await?;
    tokio::task::block_in_place(|| stage.end());
    report.findings = invariants::check(&stage.open().await?, &batches).await?;
    report.findings.wrong.extend(stage.messages());
    report.took = started.elapsed();
    Ok(report)
}

/// Waits until nothing is on the queue or in a worker's hands: what was published twice is taken from it
/// after the last result, and what a broken connection held comes back first.
async fn drained(stage: &Stage, model: &str) -> Result<(), String> {
    let (place, since) = (stage.open().await?, Instant::now());
    while since.elapsed() < PATIENCE {
        let mut waiting = 0;
        for class in Class::ALL {
            let model = model.to_owned();
            let depth = place.queue.depth(&Lane::Jobs { model, class }).await;
            waiting += depth.map_err(|error| error.to_string())?;
        }
        if waiting == 0 && tokio::task::block_in_place(|| stage.messages()).is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// What programs hold now beyond what they held after their first jobs.
async fn leaks(
    stage: &Stage,
    (warm, connections): (BTreeMap<&'static str, Holdings>, u64),
    report: &mut Report,
) -> Result<(), String> {
    let since = Instant::now();
    // The last to start has to load its model, and gauges are read a few times a second.
    while stage.blocks() != Ok(0) && since.elapsed() < SETTLED_MAX {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    report.leaked_blocks = stage.blocks()?;
    let (now, connections_now) = tokio::task::block_in_place(|| stage.holdings());
    for (kind, held) in now {
        let before = warm.get(kind).copied().unwrap_or_default();
        let over = |now: u64, before: u64, growth: u64| now.saturating_sub(before + growth);
        report.leaked_memory_mib += over(held.memory_mib, before.memory_mib, MEMORY_GROWTH_MIB_MAX);
        report.leaked_files += over(held.files, before.files, FILES_GROWTH_MAX);
    }
    let programs = stage.workers.len() as u64 + 1;
    let allowed = connections + programs * CONNECTIONS_GROWTH_MAX;
    report.leaked_connections = connections_now.saturating_sub(allowed);
    Ok(())
}
