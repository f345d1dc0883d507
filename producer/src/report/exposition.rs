//! What a program exports, read again from the text format of Prometheus.

use super::ratio;

/// One line: a series and its value.
#[derive(Debug, Clone, PartialEq)]
struct Series {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// All lines of an exposition.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    series: Vec<Series>,
}

impl Exposition {
    /// Reads one; a line that cannot be read is passed over, as Prometheus' format may grow.
    pub(crate) fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self {
            series: lines.filter_map(Series::read).collect(),
        }
    }

    /// The sum over all series of this name; 0, not −0, if there is none.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.of(name).fold(0.0, |sum, series| sum + series.value)
    }

    /// The values of a metric with the value that a label has there.
    pub(super) fn by<'a>(
        &'a self,
        name: &'a str,
        label: &'a str,
    ) -> impl Iterator<Item = (&'a str, f64)> {
        self.of(name)
            .map(move |series| (series.label(label).unwrap_or_default(), series.value))
    }

    /// A quantile of a histogram, by linear interpolation within its bucket, as Prometheus takes it.
    pub(super) fn quantile(&self, name: &str, quantile: f64) -> Option<f64> {
        let bucket = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (bound, count) in self.by(&bucket, "le") {
            let bound = bound.parse().unwrap_or(f64::INFINITY);
            match buckets
                .iter_mut()
                .find(|(known, _)| known.total_cmp(&bound).is_eq())
            {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted = buckets.last()?.1 * quantile;
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= wanted && count > below {
                if bound.is_infinite() {
                    return Some(low);
                }
                let part = ratio(wanted - below, count - below)?;
                return Some(low + (bound - low) * part);
            }
            (low, below) = (bound, count);
        }
        None
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(move |series| series.name == name)
    }
}

impl Series {
    fn read(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let value = value.parse().ok()?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (series, ""),
        };
        // Values of our labels have neither quotes nor commas in them.
        let pairs = labels.split(',').filter_map(|pair| {
            let (label, value) = pair.split_once('=')?;
            Some((label.to_owned(), value.trim_matches('"').to_owned()))
        });
        Some(Self {
            name: name.to_owned(),
            labels: pairs.collect(),
            value,
        })
    }

    fn label(&self, name: &str) -> Option<&str> {
        let label = self.labels.iter().find(|(label, _)| label == name);
        label.map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP t_seconds Time.
# TYPE t_seconds histogram
t_seconds_bucket{origin=\"job\",le=\"1\"} 2
t_seconds_bucket{origin=\"job\",le=\"2\"} 10
t_seconds_bucket{origin=\"job\",le=\"+Inf\"} 10
t_seconds_bucket{origin=\"probe\",le=\"1\"} 8
t_seconds_bucket{origin=\"probe\",le=\"2\"} 10
t_seconds_bucket{origin=\"probe\",le=\"+Inf\"} 10
t_seconds_sum{origin=\"job\"} 12.5
up 1
broken
";

    #[test]
    fn series_are_read_and_added_up() {
        let exposition = Exposition::read(TEXT);
        let sums = ["up", "t_seconds_sum", "away"].map(|name| exposition.sum(name).to_string());
        assert_eq!(sums, ["1", "12.5", "0"]);
        let by: Vec<_> = exposition.by("t_seconds_sum", "origin").collect();
        assert_eq!(by, [("job", 12.5)]);
    }

    #[test]
    fn quantiles_are_those_of_all_series_together() {
        let exposition = Exposition::read(TEXT);
        assert_eq!(exposition.quantile("t_seconds", 0.5), Some(1.0));
        assert_eq!(exposition.quantile("t_seconds", 0.75), Some(1.5));
        assert_eq!(exposition.quantile("away", 0.5), None);
        let beyond = "t_seconds_bucket{le=\"1\"} 0\nt_seconds_bucket{le=\"+Inf\"} 4\n";
        assert_eq!(
            Exposition::read(beyond).quantile("t_seconds", 0.95),
            Some(1.0)
        );
        let none = "t_seconds_bucket{le=\"1\"} 0\nt_seconds_bucket{le=\"+Inf\"} 0\n";
        assert_eq!(Exposition::read(none).quantile("t_seconds", 0.95), None);
    }
}
