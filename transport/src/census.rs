//! What there is at a place, looked at again and again: workers, jobs that wait, batches' items that
//! have no result yet. Every process that exports metrics looks for itself, so that the figures are
//! there as long as one of them lives.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use lapidary_schemas::metrics::{self, Metrics, number};
use lapidary_schemas::{BatchId, Class};
use tokio_util::sync::CancellationToken;

use crate::queue::{Lane, Queue, QueueError};
use crate::results::{Results, ResultsError};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(5);
/// Unfinished batches that are looked at, the oldest first.
const BATCHES_MAX: usize = 100;
/// Models that are remembered once they were seen, so that their figures go back to 0.
const MODELS_MAX: usize = 64;

/// What there is of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    workers: u64,
    unfinished: u64,
}

/// What was seen.
#[derive(Debug, Default)]
struct Census {
    models: BTreeMap<String, Counts>,
    /// The models of unfinished batches.
    batches: HashMap<BatchId, String>,
}

/// Keeps the figures until `stop`.
pub async fn keep(
    queue: &impl Queue,
    results: &impl Results,
    metrics: &Metrics,
    stop: &CancellationToken,
) {
    let mut census = Census::default();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let looking = async {
        loop {
            ticks.tick().await;
            if let Err(error) = census.look(results).await {
                tracing::debug!(%error, "census: the results store was not seen");
                metrics.add(&metrics::CENSUS_ERRORS, &["results"], 1.0);
                continue;
            }
            census.record(metrics);
            if let Err(error) = census.measure(queue, metrics).await {
                tracing::debug!(%error, "census: the queue was not seen");
                metrics.add(&metrics::CENSUS_ERRORS, &["queue"], 1.0);
            }
        }
    };
    stop.run_until_cancelled(looking).await;
}

impl Census {
    /// Counts workers and items without a result.
    async fn look(&mut self, results: &impl Results) -> Result<(), ResultsError> {
        let workers = results.workers().await?;
        let open = results.open_batches(BATCHES_MAX).await?;
        self.batches.retain(|id, _| open.contains(id));
        let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
        for worker in &workers {
            counts.entry(&worker.model.name).or_default().workers += 1;
        }
        let mut unfinished = Vec::with_capacity(open.len());
        for id in open {
            if let Entry::Vacant(new) = self.batches.entry(id) {
                let Some(batch) = results.batch(id).await? else {
                    continue;
                };
                new.insert(batch.model);
            }
            let progress = results.progress(id).await?;
            // Nobody waits for what is paused.
            if !progress.paused {
                unfinished.push((id, progress.total.saturating_sub(progress.finished())));
            }
        }
        for (id, items) in unfinished {
            if let Some(model) = self.batches.get(&id) {
                counts.entry(model).or_default().unfinished += items;
            }
        }
        let counts = counts.into_iter();
        let counts: Vec<_> = counts.map(|(name, of)| (name.to_owned(), of)).collect();
        self.take(counts);
        Ok(())
    }

    /// Takes new counts; models that are there no more have none.
    fn take(&mut self, counts: Vec<(String, Counts)>) {
        self.models
            .values_mut()
            .for_each(|of| *of = Counts::default());
        for (name, of) in counts {
            if self.models.len() < MODELS_MAX || self.models.contains_key(&name) {
                self.models.insert(name, of);
            }
        }
    }

    fn record(&self, metrics: &Metrics) {
        for (name, of) in &self.models {
            metrics.set(&metrics::LIVE_WORKERS, &[name], number(of.workers));
            metrics.set(&metrics::UNFINISHED_ITEMS, &[name], number(of.unfinished));
        }
    }

    /// Measures the queue of every model.
    async fn measure(&self, queue: &impl Queue, metrics: &Metrics) -> Result<(), QueueError> {
        for model in self.models.keys() {
            for class in Class::ALL {
                let lane = Lane::Jobs {
                    model: model.clone(),
                    class,
                };
                let waiting = queue.depth(&lane).await?;
                let labels = [model.as_str(), class.as_str()];
                metrics.set(&metrics::QUEUE_DEPTH, &labels, number(waiting));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(workers: u64) -> Counts {
        Counts {
            workers,
            unfinished: 0,
        }
    }

    #[test]
    fn a_model_that_is_gone_has_nothing_and_is_remembered() {
        let mut census = Census::default();
        census.take(vec![("a".to_owned(), counts(2))]);
        census.take(vec![("b".to_owned(), counts(1))]);
        let seen: Vec<_> = census
            .models
            .iter()
            .map(|(name, of)| (&**name, *of))
            .collect();
        assert_eq!(seen, [("a", counts(0)), ("b", counts(1))]);
    }

    #[test]
    fn models_are_remembered_up_to_a_limit() {
        let mut census = Census::default();
        let names = (0..2 * MODELS_MAX).map(|number| (number.to_string(), counts(1)));
        census.take(names.collect());
        assert_eq!(census.models.len(), MODELS_MAX);
    }
}
