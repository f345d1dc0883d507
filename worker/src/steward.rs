//! Stands for election as the steward, and counts what it does.

use std::sync::Arc;

use lapidary_schemas::{Class, metrics};
use lapidary_transport::{Steward, StewardOptions, TickReport};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::store::Stores;

/// Feeds and sweeps whenever this process is elected, until `stop`.
pub(crate) async fn run(
    stores: Stores,
    holder: &str,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let Stores {
        queue,
        results,
        media,
    } = stores;
    let steward = Steward::new(queue, results, media, StewardOptions::new(holder));
    steward.run(stop, move |tick| record(&metrics, tick)).await;
}

fn record(metrics: &Metrics, tick: &TickReport) {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    let number = |count: u64| count as f64;
    let bulk = [Class::Bulk.as_str()];
    metrics.set(&metrics::LEASE_HELD, &[], f64::from(u8::from(tick.leader)));
    metrics.set(&metrics::OPEN_BATCHES, &[], number(tick.open_batches));
    metrics.set(&metrics::OUTSTANDING, &bulk, number(tick.outstanding));
    metrics.add(&metrics::FED, &bulk, number(tick.fed));
    for (action, count) in [
        ("expired_batch", tick.expired_batches),
        ("expired_job", tick.expired_jobs),
        ("republished", tick.republished),
        ("worker_lost", tick.worker_lost),
        ("refused", tick.refused),
        ("unpinned", tick.unpinned),
        ("collected", tick.collected),
    ] {
        metrics.add(&metrics::SWEEPS, &[action], number(count));
    }
    for (store, count) in [
        ("queue", tick.queue_errors),
        ("results", tick.results_errors),
        ("media", tick.media_errors),
    ] {
        metrics.add(&metrics::STEWARD_ERRORS, &[store], number(count));
    }
}
