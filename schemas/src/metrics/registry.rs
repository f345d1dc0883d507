//! The metrics of the table, as a program exports them: its rows registered whole, at 0 from the
//! start.

use std::collections::HashMap;

/// Why metrics cannot be registered or written: the table contradicts itself.
pub use prometheus::Error as MetricsError;
use prometheus::core::Collector;
use prometheus::{
    CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, Opts, Registry, TextEncoder,
};

use super::{ALL, BUILD_INFO, Kind, Label, Metric, Source, Values};

/// The `Content-Type` of an exposition.
pub const EXPOSITION_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Values of labels that the deployment names.
pub type Known<'a> = &'a [(&'a str, &'a [&'a str])];

/// A count as the value of a metric.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub fn number(count: u64) -> f64 {
    count as f64
}

/// One family of the table.
#[derive(Debug, Clone)]
enum Family {
    Counter(CounterVec),
    Gauge(GaugeVec),
    Histogram(HistogramVec),
}

/// Every metric of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: HashMap<&'static str, Family>,
}

impl Metrics {
    /// Registers the rows that a program of these sources exports. Every series whose labels are
    /// known exists at once, so that the first failure is an increase and not a beginning.
    pub fn new(
        program: &str,
        version: &str,
        sources: &[Source],
        known: Known<'_>,
    ) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let mut families = HashMap::new();
        let rows = ALL
            .iter()
            .filter(|metric| metric.source == Source::Process || sources.contains(&metric.source));
        for metric in rows {
            let family = Family::new(metric)?;
            for labels in combinations(metric.labels, known) {
                family.touch(&labels);
            }
            registry.register(family.collector())?;
            families.insert(metric.name, family);
        }
        let metrics = Self { registry, families };
        metrics.set(&BUILD_INFO, &[program, version], 1.0);
        Ok(metrics)
    }

    /// Adds to a counter.
    pub fn add(&self, metric: &Metric, labels: &[&str], amount: f64) {
        if let Some(Family::Counter(counter)) = self.families.get(metric.name) {
            counter.with_label_values(labels).inc_by(amount);
        }
    }

    /// Sets a gauge.
    pub fn set(&self, metric: &Metric, labels: &[&str], value: f64) {
        if let Some(Family::Gauge(gauge)) = self.families.get(metric.name) {
            gauge.with_label_values(labels).set(value);
        }
    }

    /// Moves a gauge.
    pub fn shift(&self, metric: &Metric, labels: &[&str], by: f64) {
        if let Some(Family::Gauge(gauge)) = self.families.get(metric.name) {
            gauge.with_label_values(labels).add(by);
        }
    }

    /// Records an observation in a histogram.
    pub fn observe(&self, metric: &Metric, labels: &[&str], value: f64) {
        if let Some(Family::Histogram(histogram)) = self.families.get(metric.name) {
            histogram.with_label_values(labels).observe(value);
        }
    }

    /// The exposition in Prometheus' text format.
    pub fn exposition(&self) -> Result<String, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| MetricsError::Msg(error.to_string()))
    }
}

impl Family {
    fn new(metric: &Metric) -> Result<Self, MetricsError> {
        let labels: Vec<&str> = metric.labels.iter().map(|label| label.name).collect();
        let opts = Opts::new(metric.name, metric.help);
        Ok(match metric.kind {
            Kind::Counter => Self::Counter(CounterVec::new(opts, &labels)?),
            Kind::Gauge => Self::Gauge(GaugeVec::new(opts, &labels)?),
            Kind::Histogram(buckets) => {
                let opts = HistogramOpts::from(opts).buckets(buckets.to_vec());
                Self::Histogram(HistogramVec::new(opts, &labels)?)
            }
        })
    }

    fn touch(&self, labels: &[&str]) {
        match self {
            Self::Counter(counter) => drop(counter.with_label_values(labels)),
            Self::Gauge(gauge) => drop(gauge.with_label_values(labels)),
            Self::Histogram(histogram) => drop(histogram.with_label_values(labels)),
        }
    }

    fn collector(&self) -> Box<dyn Collector> {
        match self {
            Self::Counter(counter) => Box::new(counter.clone()),
            Self::Gauge(gauge) => Box::new(gauge.clone()),
            Self::Histogram(histogram) => Box::new(histogram.clone()),
        }
    }
}

/// All combinations of label values that are known from the start.
fn combinations<'a>(labels: &[Label], known: Known<'a>) -> Vec<Vec<&'a str>> {
    let mut all = vec![Vec::new()];
    for label in labels {
        let values = match label.values {
            Values::Listed(values) => values,
            Values::Configured(_) => {
                let named = known.iter().find(|(name, _)| *name == label.name);
                named.map_or(&[][..], |(_, values)| values)
            }
        };
        all = all
            .into_iter()
            .flat_map(|before: Vec<&str>| {
                values
                    .iter()
                    .map(move |value| [before.as_slice(), &[*value]].concat())
            })
            .collect();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::{JOBS_RUNNING, QUEUE_WAIT, REDELIVERIES, UP};
    use super::*;

    fn worker() -> Metrics {
        let known: Known<'_> = &[("model", &["m"]), ("detector", &["secrets"])];
        Metrics::new("worker", "1.2.3", &[Source::Worker, Source::Steward], known).unwrap()
    }

    #[test]
    fn every_series_is_there_from_the_start() {
        let text = worker().exposition().unwrap();
        for metric in ALL {
            let there = text.contains(&format!("# TYPE {} ", metric.name));
            assert_eq!(there, metric.source != Source::Gateway, "{}", metric.name);
        }
        for line in [
            "lapidary_settles_total{class=\"bulk\",settle=\"dead\"} 0",
            "lapidary_filter_errors_total{detector=\"secrets\",stage=\"input_text\"} 0",
            "lapidary_queue_depth{class=\"bulk\",model=\"m\"} 0",
            "lapidary_build_info{program=\"worker\",version=\"1.2.3\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_program_exports_its_own_rows_alone() {
        let gateway = Metrics::new("gateway", "1", &[Source::Gateway], &[]).unwrap();
        let text = gateway.exposition().unwrap();
        assert!(text.contains("lapidary_gateway_refusals_total{status=\"429\"} 0"));
        assert!(!text.contains("lapidary_jobs_total"));
        // What it does not export it takes for nothing.
        gateway.set(&UP, &[], 1.0);
        assert_eq!(gateway.exposition().unwrap(), text);
    }

    #[test]
    fn counters_gauges_and_histograms_take_what_they_are_given() {
        let metrics = worker();
        metrics.add(&REDELIVERIES, &["bulk"], 2.0);
        metrics.set(&UP, &[], 1.0);
        metrics.shift(&JOBS_RUNNING, &["bulk"], 1.0);
        metrics.observe(&QUEUE_WAIT, &["interactive"], 0.2);
        let text = metrics.exposition().unwrap();
        for line in [
            "lapidary_redeliveries_total{class=\"bulk\"} 2",
            "lapidary_worker_up 1",
            "lapidary_jobs_running{class=\"bulk\"} 1",
            "lapidary_queue_wait_seconds_count{class=\"interactive\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
