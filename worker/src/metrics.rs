//! The metrics of the table in the contracts, registered whole, at 0 from the start.

use std::collections::HashMap;

use lapidary_schemas::metrics::{self, Kind, Label, Metric, Values};
use prometheus::core::Collector;
use prometheus::{
    CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, Opts, Registry, TextEncoder,
};

/// A count as the value of a metric.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub(crate) fn number(count: u64) -> f64 {
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
    /// Registers the table. Every series whose labels are known exists at once, so that the first
    /// failure is an increase and not a beginning; `model` is the value of the label `model`.
    pub fn new(model: &str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let mut families = HashMap::new();
        for metric in metrics::ALL {
            let family = Family::new(metric)?;
            for labels in combinations(metric.labels, model) {
                family.touch(&labels);
            }
            registry.register(family.collector())?;
            families.insert(metric.name, family);
        }
        Ok(Self { registry, families })
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
    pub fn exposition(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

impl Family {
    fn new(metric: &Metric) -> Result<Self, prometheus::Error> {
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
fn combinations<'a>(labels: &[Label], model: &'a str) -> Vec<Vec<&'a str>> {
    let mut all = vec![Vec::new()];
    for label in labels {
        let values: Vec<&'a str> = match label.values {
            Values::Listed(values) => values.to_vec(),
            Values::Configured(_) if label.name == "model" => vec![model],
            Values::Configured(_) => Vec::new(),
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
    use super::*;

    #[test]
    fn every_family_is_there_from_the_start() {
        let metrics = Metrics::new("m").unwrap();
        let text = metrics.exposition().unwrap();
        for metric in metrics::ALL {
            let configured = metric.labels.iter().any(|label| {
                matches!(label.values, Values::Configured(_)) && label.name != "model"
            });
            let there = text.contains(&format!("# TYPE {} ", metric.name));
            assert_eq!(there, !configured, "{}", metric.name);
        }
        assert!(text.contains("lapidary_settles_total{class=\"bulk\",settle=\"dead\"} 0"));
    }

    #[test]
    fn counters_gauges_and_histograms_take_what_they_are_given() {
        let metrics = Metrics::new("m").unwrap();
        metrics.add(&metrics::REDELIVERIES, &["bulk"], 2.0);
        metrics.set(&metrics::UP, &[], 1.0);
        metrics.shift(&metrics::JOBS_RUNNING, &["bulk"], 1.0);
        metrics.observe(&metrics::QUEUE_WAIT, &["interactive"], 0.2);
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
