//! `GET /v1/batches/ID/report`: how fast a batch is, what it took, and what was slow or failed.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use lapidary_schemas::{Batch, JobResult, Progress};
use lapidary_transport::Results as _;
use schemars::JsonSchema;
use serde::Serialize;

use super::access::MayRead;
use super::batch_object::{BatchUsage, Standing, Status, has_ended};
use super::body::Id;
use super::error::ApiError;
use super::limits::{REPORT_PAGES_MAX, RESULTS_MAX, SLOWEST_MAX};
use super::{Shared, found, ids};

/// How a batch has been so far.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct BatchReport {
    object: &'static str,
    batch_id: String,
    model: String,
    status: Status,
    total: u64,
    finished: u64,
    usage: BatchUsage,
    elapsed_seconds: f64,
    requests_per_second: Option<f64>,
    output_tokens_per_second: Option<f64>,
    /// At the rate so far.
    remaining_seconds: Option<f64>,
    /// The results that what follows is of.
    results_examined: u64,
    /// How many, by the code of their failure.
    failures: BTreeMap<&'static str, u64>,
    cache: CacheReport,
    image_tokens: u64,
    /// The slowest first.
    slowest: Vec<SlowRequest>,
}

/// How much was there already.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct CacheReport {
    /// Requests of which some was.
    hits: u64,
    input_tokens: u64,
    /// Input tokens whose keys and values were.
    cached_tokens: u64,
}

/// A request that took long.
#[derive(Debug, Serialize, JsonSchema)]
struct SlowRequest {
    id: String,
    custom_id: Option<String>,
    /// Of work on it.
    seconds: f64,
    /// Before a worker had it.
    queue_seconds: f64,
    input_tokens: u32,
    output_tokens: u32,
    attempt: u32,
}

/// Reports on a batch, also while it runs.
pub(super) async fn show(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Id(id): Id,
) -> Result<Json<BatchReport>, ApiError> {
    let (batch, _, counts) = found::named_batch(&gateway, &tenant, &id).await?;
    let mut seen = Seen::default();
    let mut cursor = String::new();
    for _ in 0..REPORT_PAGES_MAX {
        let tail = gateway.stores.results.tail(batch.id, &cursor, RESULTS_MAX);
        let page = tail.await?;
        if page.results.is_empty() {
            break;
        }
        page.results.iter().for_each(|result| seen.look(result));
        cursor = page.cursor;
    }
    Ok(Json(report(&batch, &counts, seen, Utc::now())))
}

/// What the results that were looked at say together.
#[derive(Debug, Default)]
struct Seen {
    results: u64,
    prompt_tokens: u64,
    image_tokens: u64,
    cached_tokens: u64,
    cache_hits: u64,
    failures: BTreeMap<&'static str, u64>,
    /// The slowest ones, slowest first, by milliseconds of work.
    slowest: Vec<(u64, SlowRequest)>,
}

impl Seen {
    fn look(&mut self, result: &JobResult) {
        self.results += 1;
        self.prompt_tokens += u64::from(result.usage.prompt_tokens);
        self.image_tokens += u64::from(result.usage.image_tokens);
        self.cached_tokens += u64::from(result.usage.cached_tokens);
        self.cache_hits += u64::from(result.usage.cached_tokens > 0);
        if let Some(failure) = &result.failure {
            *self.failures.entry(failure.code.as_str()).or_default() += 1;
        }
        if result.status != lapidary_schemas::Status::Succeeded {
            return;
        }
        let worked = (result.timings.total - result.timings.queue).max(0.0);
        let Ok(worked) = std::time::Duration::try_from_secs_f64(worked) else {
            return;
        };
        let millis = u64::try_from(worked.as_millis()).unwrap_or(u64::MAX);
        let is_slow = |(slow, _): &(u64, SlowRequest)| *slow < millis;
        if self.slowest.len() < SLOWEST_MAX || self.slowest.last().is_some_and(is_slow) {
            self.slowest
                .push((millis, slow(result, worked.as_secs_f64())));
            self.slowest.sort_by_key(|(millis, _)| Reverse(*millis));
            self.slowest.truncate(SLOWEST_MAX);
        }
    }
}

fn slow(result: &JobResult, seconds: f64) -> SlowRequest {
    SlowRequest {
        id: format!("batch_req_{}", result.job_id),
        custom_id: result.custom_id.clone(),
        seconds,
        queue_seconds: result.timings.queue,
        input_tokens: result.usage.prompt_tokens,
        output_tokens: result.usage.completion_tokens,
        attempt: result.attempt,
    }
}

fn report(batch: &Batch, counts: &Progress, seen: Seen, now: DateTime<Utc>) -> BatchReport {
    let until = counts
        .finished_at
        .filter(|_| has_ended(counts))
        .unwrap_or(now);
    let elapsed = (until - batch.created_at).to_std().unwrap_or_default();
    let rate = |count: u64| {
        let seconds = elapsed.as_secs_f64();
        (seconds > 0.0).then(|| as_f64(count) / seconds)
    };
    let requests = rate(counts.finished());
    let left = counts.total.saturating_sub(counts.finished());
    let left = if has_ended(counts) {
        Some(0.0)
    } else {
        requests
            .filter(|rate| *rate > 0.0)
            .map(|rate| as_f64(left) / rate)
    };
    BatchReport {
        object: "batch.report",
        batch_id: ids::of_batch(batch.id),
        model: batch.model.clone(),
        status: Standing::of(counts).status,
        total: counts.total,
        finished: counts.finished(),
        usage: counts.into(),
        elapsed_seconds: elapsed.as_secs_f64(),
        requests_per_second: requests,
        output_tokens_per_second: rate(counts.completion_tokens),
        remaining_seconds: left,
        results_examined: seen.results,
        failures: seen.failures,
        cache: CacheReport {
            hits: seen.cache_hits,
            input_tokens: seen.prompt_tokens,
            cached_tokens: seen.cached_tokens,
        },
        image_tokens: seen.image_tokens,
        slowest: seen.slowest.into_iter().map(|(_, slow)| slow).collect(),
    }
}

/// Exact for any number of requests and tokens that there can be.
fn as_f64(count: u64) -> f64 {
    std::time::Duration::from_secs(count).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use lapidary_schemas::result::{Timings, Usage};
    use lapidary_schemas::{BatchState, Failure, FailureCode, JobId, Status};
    use serde_json::{Value, json};

    use super::*;

    fn result(number: u32, failure: Option<FailureCode>) -> JobResult {
        JobResult {
            job_id: JobId::new(Utc::now()),
            batch_id: None,
            item: None,
            custom_id: Some(number.to_string()),
            status: failure.map_or(Status::Succeeded, |_| Status::Failed),
            text: None,
            tool_calls: Vec::new(),
            finish_reason: None,
            usage: Usage {
                prompt_tokens: 10,
                image_tokens: 0,
                cached_tokens: if number.is_multiple_of(2) { 4 } else { 0 },
                completion_tokens: 1,
            },
            timings: Timings {
                queue: 100.0,
                total: 100.0 + f64::from(number),
                ..Timings::default()
            },
            tokens_per_second: None,
            filter: Vec::new(),
            failure: failure.map(|code| Failure::new(code, "")),
            logprobs: Vec::new(),
            attempt: 1,
            worker: None,
            model: None,
            seed: None,
            finished_at: Utc::now(),
        }
    }

    #[test]
    fn a_report_says_how_fast_it_is_and_what_was_slow() {
        let mut seen = Seen::default();
        for number in [3, 1, 12, 7, 8, 2, 11, 4, 6, 10, 9, 5] {
            seen.look(&result(number, None));
        }
        seen.look(&result(99, Some(FailureCode::GenerationError)));
        let now = Utc::now();
        let mut batch = crate::submission::bulk("t", now - TimeDelta::seconds(10), None);
        batch.model = "m".to_owned();
        let mut counts = Progress {
            state: BatchState::InProgress,
            paused: false,
            total: 33,
            fed: 33,
            succeeded: 12,
            filtered: 0,
            failed: 1,
            cancelled: 0,
            expired: 0,
            prompt_tokens: 130,
            completion_tokens: 20,
            finished_at: None,
        };
        let told = json!(report(&batch, &counts, seen, now));
        let about = |told: &Value, field: &str, is: f64| {
            let value = told[field].as_f64().unwrap();
            assert!((value - is).abs() < 0.01, "{field} is {value}, not {is}");
        };
        about(&told, "requests_per_second", 1.3);
        about(&told, "output_tokens_per_second", 2.0);
        about(&told, "remaining_seconds", 20.0 / 1.3);
        assert_eq!(told["failures"], json!({"GENERATION_ERROR": 1}));
        let cache = json!({"hits": 6, "input_tokens": 130, "cached_tokens": 24});
        assert_eq!(
            (&told["cache"], &told["results_examined"]),
            (&cache, &json!(13))
        );
        let slowest = told["slowest"].as_array().unwrap();
        let names: Vec<_> = slowest.iter().map(|one| &one["custom_id"]).collect();
        assert_eq!(names, ["12", "11", "10", "9", "8", "7", "6", "5", "4", "3"]);
        about(&slowest[0], "seconds", 12.0);

        // Time ends with the batch.
        counts.state = BatchState::Completed;
        counts.total = 13;
        counts.finished_at = Some(now - TimeDelta::seconds(5));
        let told = json!(report(&batch, &counts, Seen::default(), now));
        about(&told, "elapsed_seconds", 5.0);
        about(&told, "remaining_seconds", 0.0);
    }
}
