//! Stands for election as the steward, and counts what it does.

use std::sync::Arc;

use lapidary_schemas::{Class, metrics};
use lapidary_transport::{Steward, StewardOptions, TickReport};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, number};
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
    let bulk = [Class::Bulk.as_str()];
    metrics.set(&metrics::LEASE_HELD, &[], f64::from(u8::from(tick.leader)));
    metrics.set(&metrics::OPEN_BATCHES, &[], number(tick.open_batches));
    metrics.set(&metrics::OUTSTANDING, &bulk, number(tick.outstanding));
    metrics.add(&metrics::FED, &bulk, number(tick.fed));
    if tick.leader {
        metrics.observe(&metrics::TICK_DURATION, &[], tick.took.as_secs_f64());
    }
    for (action, count) in [
        ("expired_batch", tick.expired_batches),
        ("expired_job", tick.expired_jobs),
        ("republished", tick.republished),
        ("worker_lost", tick.worker_lost),
        ("refused", tick.refused),
        ("dropped", tick.dropped),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn everything_a_tick_did_is_counted() {
        let metrics = Metrics::new("m").unwrap();
        let tick = TickReport {
            leader: true,
            fed: 7,
            dropped: 2,
            media_errors: 1,
            took: Duration::from_millis(20),
            ..TickReport::default()
        };
        record(&metrics, &tick);
        record(&metrics, &TickReport { dropped: 1, ..tick });
        // Others take in what was dropped, too.
        record(
            &metrics,
            &TickReport {
                leader: false,
                ..tick
            },
        );
        let text = metrics.exposition().unwrap();
        for line in [
            "lapidary_steward_fed_total{class=\"bulk\"} 21",
            "lapidary_steward_swept_total{action=\"dropped\"} 5",
            "lapidary_steward_errors_total{store=\"media\"} 3",
            "lapidary_steward_tick_duration_seconds_count 2",
            "lapidary_steward_lease_held 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
