//! What went through lately, in stretches of equal length.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::super::limits::{STRETCH_S, STRETCHES_MAX};

/// What went through in a stretch.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Flow {
    /// Requests that got an answer.
    pub(super) succeeded: u64,
    /// Requests that ended without one, the cancelled ones not counted.
    pub(super) failed: u64,
    /// Tokens written.
    pub(super) tokens: u64,
    /// Seconds that some of them were worked on.
    pub(super) seconds: Vec<f64>,
}

impl Flow {
    fn add(&mut self, more: &Self) {
        self.succeeded += more.succeeded;
        self.failed += more.failed;
        self.tokens += more.tokens;
        self.seconds.extend(&more.seconds);
    }

    /// The seconds that so many in a hundred of them took at most.
    fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.checked_sub(1)?).copied()
    }
}

/// The last stretches, each by tenant; only those in which something went through.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    since: Option<u64>,
    stretches: VecDeque<(u64, BTreeMap<String, Flow>)>,
}

/// The stretches as columns.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "History")]
pub(super) struct Columns {
    /// Seconds of a stretch.
    stretch_s: u64,
    begins_at: u64,
    succeeded: Vec<u64>,
    failed: Vec<u64>,
    output_tokens: Vec<u64>,
    seconds_median: Vec<Option<f64>>,
    seconds_p95: Vec<Option<f64>>,
}

/// The number of the stretch of a moment.
fn number(at: DateTime<Utc>) -> u64 {
    u64::try_from(at.timestamp()).unwrap_or(0) / STRETCH_S
}

impl History {
    /// Somebody looks at `at`; what is too old goes.
    pub(super) fn look(&mut self, at: DateTime<Utc>) {
        let now = number(at);
        self.since.get_or_insert(now);
        let oldest = now.saturating_sub(STRETCHES_MAX as u64);
        while self.stretches.front().is_some_and(|(at, _)| *at < oldest) {
            self.stretches.pop_front();
        }
    }

    /// This went through just before `at`.
    pub(super) fn add(&mut self, tenant: &str, at: DateTime<Utc>, flow: &Flow) {
        let now = number(at);
        if self.stretches.back().is_none_or(|(last, _)| *last < now) {
            self.stretches.push_back((now, BTreeMap::new()));
        }
        if let Some((_, tenants)) = self.stretches.back_mut() {
            tenants.entry(tenant.to_owned()).or_default().add(flow);
        }
    }

    /// The stretches that are over at `at`, of one tenant or of all, as columns.
    pub(super) fn columns(&self, tenant: Option<&str>, at: DateTime<Utc>) -> Columns {
        let end = number(at);
        let since = self.since.unwrap_or(end);
        let begin = since.max(end.saturating_sub(STRETCHES_MAX as u64));
        let flows: Vec<Flow> = (begin..end)
            .map(|number| self.flow(tenant, number))
            .collect();
        let column = |value: fn(&Flow) -> u64| flows.iter().map(value).collect::<Vec<_>>();
        let percentile = |percent| {
            let seconds = flows.iter().map(|flow| flow.percentile(percent));
            seconds.collect::<Vec<_>>()
        };
        Columns {
            stretch_s: STRETCH_S,
            begins_at: begin * STRETCH_S,
            succeeded: column(|flow| flow.succeeded),
            failed: column(|flow| flow.failed),
            output_tokens: column(|flow| flow.tokens),
            seconds_median: percentile(50),
            seconds_p95: percentile(95),
        }
    }

    fn flow(&self, tenant: Option<&str>, number: u64) -> Flow {
        let mut sum = Flow::default();
        let Ok(at) = self.stretches.binary_search_by_key(&number, |(at, _)| *at) else {
            return sum;
        };
        for (of, flow) in &self.stretches[at].1 {
            if tenant.is_none_or(|tenant| tenant == of) {
                sum.add(flow);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn flow(succeeded: u64, seconds: &[f64]) -> Flow {
        Flow {
            succeeded,
            seconds: seconds.to_vec(),
            ..Flow::default()
        }
    }

    #[test]
    fn stretches_are_told_once_they_are_over_and_by_tenant() {
        let mut history = History::default();
        history.look(at(0));
        history.add("a", at(1), &flow(2, &[1.0, 3.0, 2.0]));
        history.add("b", at(4), &flow(1, &[]));
        history.add("a", at(11), &flow(4, &[]));
        let all = json!(history.columns(None, at(15)));
        assert_eq!(all["succeeded"], json!([3, 0, 4]));
        assert_eq!(all["seconds_median"], json!([2.0, null, null]));
        assert_eq!(all["seconds_p95"], json!([3.0, null, null]));
        assert_eq!(all["begins_at"], 1_800_000_000);
        let of_b = json!(history.columns(Some("b"), at(14)));
        assert_eq!(of_b["succeeded"], json!([1, 0]));
    }

    #[test]
    fn what_is_old_goes() {
        let mut history = History::default();
        let minutes = i64::try_from(STRETCH_S * STRETCHES_MAX as u64).unwrap();
        for second in 0..3 * minutes {
            history.look(at(second));
            history.add("a", at(second), &flow(1, &[]));
        }
        assert!(history.stretches.len() <= STRETCHES_MAX + 1);
        let columns = history.columns(None, at(3 * minutes));
        assert_eq!(columns.succeeded.len(), STRETCHES_MAX);
    }
}
