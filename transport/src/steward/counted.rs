//! What a steward did, as metrics.

use lapidary_schemas::Class;
use lapidary_schemas::metrics::{self, Metrics, number};

use super::TickReport;

impl TickReport {
    /// Counts what the tick did.
    pub fn count(&self, metrics: &Metrics) {
        let bulk = [Class::Bulk.as_str()];
        metrics.set(&metrics::LEASE_HELD, &[], f64::from(u8::from(self.leader)));
        metrics.set(&metrics::OPEN_BATCHES, &[], number(self.open_batches));
        metrics.set(&metrics::OUTSTANDING, &bulk, number(self.outstanding));
        metrics.add(&metrics::FED, &bulk, number(self.fed));
        if self.leader {
            metrics.observe(&metrics::TICK_DURATION, &[], self.took.as_secs_f64());
        }
        for (action, count) in [
            ("expired_batch", self.expired_batches),
            ("expired_job", self.expired_jobs),
            ("republished", self.republished),
            ("worker_lost", self.worker_lost),
            ("refused", self.refused),
            ("dropped", self.dropped),
            ("packed", self.packed),
            ("unpinned", self.unpinned),
            ("collected", self.collected),
        ] {
            metrics.add(&metrics::SWEEPS, &[action], number(count));
        }
        for (store, count) in [
            ("queue", self.queue_errors),
            ("results", self.results_errors),
            ("media", self.media_errors),
        ] {
            metrics.add(&metrics::STEWARD_ERRORS, &[store], number(count));
        }
    }
}

#[cfg(test)]
mod tests {
    use lapidary_schemas::metrics::Source;

    use super::*;
    use std::time::Duration;

    #[test]
    fn everything_a_tick_did_is_counted() {
        let metrics = Metrics::new("worker", "1", &[Source::Steward], &[]).unwrap();
        let tick = TickReport {
            leader: true,
            fed: 7,
            dropped: 2,
            media_errors: 1,
            took: Duration::from_millis(20),
            ..TickReport::default()
        };
        tick.count(&metrics);
        TickReport { dropped: 1, ..tick }.count(&metrics);
        // Others take in what was dropped, too.
        TickReport {
            leader: false,
            ..tick
        }
        .count(&metrics);
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
