//! How a place does, looked at again and again: queues, workers, batches, and what deserves attention.

mod figures;
mod frame;
mod meter;
mod screen;
mod table;

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lapidary_schemas::{BatchState, Class};

use crate::gateway::{Look, Seen, Watcher, concerns};
use crate::report;
use crate::stores::Stores;
use figures::Workers;
pub(crate) use frame::{Line, frame};
use meter::Meter;
pub(crate) use screen::{Key, Screen, keys};

/// Longest time until Prometheus has answered.
const ALERTS_TIME_MAX: Duration = Duration::from_secs(5);

/// What is shown of a worker's own figures.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures {
    /// Sequences that run.
    pub(crate) running: f64,
    /// Tokens that it generates in a second, of late.
    pub(crate) tokens_per_second: Option<f64>,
    /// Mean seconds until an answer, over the last minute.
    pub(crate) response_s: Option<f64>,
    /// Share of the key-value cache in use.
    pub(crate) cache: Option<f64>,
    pub(crate) memory_mb: f64,
}

/// A worker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WorkerRow {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) slots: u32,
    pub(crate) up_s: f64,
    /// Nothing where it has no operations endpoint that answers from here.
    pub(crate) figures: Option<Figures>,
}

/// The jobs that wait for a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QueueRow {
    pub(crate) model: String,
    pub(crate) interactive: u64,
    pub(crate) bulk: u64,
}

/// A batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BatchRow {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) state: &'static str,
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) without_answer: u64,
    pub(crate) per_second: Option<f64>,
    pub(crate) left_s: Option<f64>,
}

/// All that is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    pub(crate) at: DateTime<Utc>,
    /// Worst first.
    pub(crate) attention: Vec<String>,
    pub(crate) queues: Vec<QueueRow>,
    pub(crate) workers: Vec<WorkerRow>,
    pub(crate) batches: Vec<BatchRow>,
    pub(crate) tokens_per_second: Option<f64>,
}

/// Who looks.
#[derive(Debug)]
pub(crate) struct Looker {
    stores: Stores,
    prometheus: Option<String>,
    watcher: Watcher,
    workers: Workers,
    /// Tokens of batches: how many so far, as they were seen to come.
    tokens: (u64, Meter),
    last: Vec<Seen>,
}

impl Looker {
    /// Nobody has looked so far. A Prometheus is asked which alerts fire.
    pub(crate) fn new(stores: Stores, prometheus: Option<String>) -> Self {
        Self {
            stores,
            prometheus,
            watcher: Watcher::new(Utc::now()),
            workers: Workers::default(),
            tokens: (0, Meter::over(meter::SHORT)),
            last: Vec::new(),
        }
    }

    /// Looks at everything once.
    pub(crate) async fn look(&mut self) -> View {
        let look = self.watcher.look(&self.stores, Utc::now()).await;
        let (workers, alerts) = tokio::join!(
            self.workers.look(&look.workers),
            alerts(self.prometheus.as_deref()),
        );
        let batches: Vec<&Seen> = look.batches.iter().collect();
        let concerns = concerns(&look, &batches, true);
        let mut attention = alerts;
        attention.extend(concerns.into_iter().map(|concern| concern.message));
        let of_workers: Vec<f64> = workers
            .iter()
            .filter_map(|worker| worker.figures.as_ref()?.tokens_per_second)
            .collect();
        let of_batches = self.tokens_of_batches(&look);
        View {
            at: look.at,
            attention,
            queues: queues(&look),
            batches: batches.into_iter().map(batch).collect(),
            tokens_per_second: match of_workers.len() {
                0 => of_batches,
                _ => Some(of_workers.iter().sum()),
            },
            workers,
        }
    }

    /// Tokens a second of batches, which is known even where workers show nothing.
    fn tokens_of_batches(&mut self, look: &Look) -> Option<f64> {
        let (total, meter) = &mut self.tokens;
        for seen in &look.batches {
            let before = self.last.iter().find(|last| last.batch.id == seen.batch.id);
            if let Some(before) = before {
                let (old, new) = (
                    before.counts.completion_tokens,
                    seen.counts.completion_tokens,
                );
                *total += new.saturating_sub(old);
            }
        }
        self.last.clone_from(&look.batches);
        meter.read(Instant::now(), lapidary_schemas::metrics::number(*total));
        meter.per_second()
    }
}

/// The alerts that fire, as Prometheus says if there is one.
async fn alerts(address: Option<&str>) -> Vec<String> {
    let Some(address) = address else {
        return Vec::new();
    };
    let asked = tokio::time::timeout(ALERTS_TIME_MAX, report::alerts(address));
    match asked.await {
        Ok(Ok(alerts)) => alerts
            .into_iter()
            .map(|alert| format!("{}: {}", alert.name, alert.summary))
            .collect(),
        Ok(Err(error)) => vec![error.to_string()],
        Err(_) => vec![format!("{address} does not answer")],
    }
}

fn queues(look: &Look) -> Vec<QueueRow> {
    let mut rows: Vec<QueueRow> = Vec::new();
    for depth in &look.queues {
        if rows.last().is_none_or(|row| row.model != depth.model) {
            rows.push(QueueRow {
                model: depth.model.clone(),
                interactive: 0,
                bulk: 0,
            });
        }
        if let Some(row) = rows.last_mut() {
            match depth.class {
                Class::Interactive => row.interactive += depth.waiting,
                Class::Bulk => row.bulk += depth.waiting,
            }
        }
    }
    rows
}

fn batch(seen: &Seen) -> BatchRow {
    let counts = &seen.counts;
    BatchRow {
        id: seen.batch.id.to_string(),
        model: seen.batch.model.clone(),
        state: match counts.state {
            BatchState::Open => "open",
            BatchState::InProgress => "runs",
            BatchState::Completed => "completed",
            BatchState::Cancelled => "cancelled",
            BatchState::Expired => "expired",
        },
        done: counts.finished(),
        total: counts.total,
        without_answer: counts.finished() - counts.succeeded,
        per_second: seen.per_second(),
        left_s: seen.seconds_left(),
    }
}
