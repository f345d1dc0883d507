//! `POST /v1/batches/ID/retry`: items that have no answer are asked again, by the code of their failure.
//!
//! Each gets a new job in the place of the old one, from the batch's manifest. What was replaced is no
//! result of the batch any more, so asking twice asks once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use futures::stream::{self, StreamExt as _};
use lapidary_schemas::batch::ManifestItem;
use lapidary_schemas::job::ENVELOPE_VERSION;
use lapidary_schemas::{Batch, BatchState, FailureCode, Job, JobId, JobResult, Progress};
use lapidary_transport::results::ResultsError;
use lapidary_transport::{Queue as _, Results as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::MaySubmit;
use super::body::{Id, JsonBody};
use super::error::{ApiError, Code};
use super::limits::{
    REPLACING_AT_ONCE, RESULTS_MAX, RETRY_ITEMS_MAX, RETRY_PAGES_MAX, RETRY_WAITING_MAX,
};
use super::once::{Key, Made};
use super::{Shared, found, ids, manifest};
use crate::stores::Stores;

/// Which items.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRetry {
    /// Codes of their failures.
    #[schemars(length(min = 1))]
    codes: Vec<FailureCode>,
    /// Where an earlier call ended.
    #[serde(default)]
    after: String,
}

/// What was asked again.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct RetryObject {
    object: Cow<'static, str>,
    batch_id: String,
    /// How many items.
    retried: usize,
    /// Where to go on.
    after: String,
    /// There may be more.
    has_more: bool,
}

/// Asks items again.
pub(super) async fn create(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    key: Key,
    Id(id): Id,
    body: JsonBody<NewRetry>,
) -> Result<Json<RetryObject>, ApiError> {
    let wanted = body.read()?;
    let bound = key.bind(&tenant, &format!("batches/{id}/retry"), &body.bytes);
    drop(body);
    if wanted.codes.is_empty() {
        let message = "`codes` is empty: name the codes of the failures that are tried again";
        return Err(ApiError::parameter("codes", message));
    }
    let making = make(Arc::clone(&gateway), tenant, id, wanted);
    let answer = match gateway.once(bound, making).await? {
        Made::Now(answer) => answer,
        Made::Before(answer) => {
            serde_json::from_str(&answer).map_err(|error| ApiError::fault(&error))?
        }
    };
    Ok(Json(answer))
}

async fn make(
    gateway: Shared,
    tenant: String,
    id: String,
    wanted: NewRetry,
) -> Result<(String, RetryObject), ApiError> {
    let now = Utc::now();
    let (batch, _, counts) = found::named_batch(&gateway, &tenant, &id).await?;
    refuse_if_over(&batch, &counts, now)?;
    gateway
        .refuse_if_full(&batch.model, batch.class, RETRY_WAITING_MAX)
        .await?;
    // Its end is to be told again.
    gateway.notice(&tenant, batch.id).await?;
    let mut retry = Retry {
        stores: &gateway.stores,
        batch: &batch,
        codes: wanted.codes,
        now,
    };
    let (mut cursor, mut retried, mut has_more) = (wanted.after, 0, true);
    for _ in 0..RETRY_PAGES_MAX {
        let room = RETRY_ITEMS_MAX - retried;
        if room == 0 {
            break;
        }
        // No page has more than what may still be retried, so that all of it can be.
        let tail = gateway
            .stores
            .results
            .tail(batch.id, &cursor, room.min(RESULTS_MAX));
        let page = tail.await.map_err(|error| match error {
            ResultsError::Conflict { message } => ApiError::parameter("after", message),
            other => other.into(),
        })?;
        if page.results.is_empty() {
            has_more = false;
            break;
        }
        retried += retry.page(&page.results).await?;
        cursor = page.cursor;
    }
    let answer = RetryObject {
        object: "batch.retry".into(),
        batch_id: ids::of_batch(batch.id),
        retried,
        after: cursor,
        has_more,
    };
    let written = serde_json::to_string(&answer).map_err(|error| ApiError::fault(&error))?;
    Ok((written, answer))
}

/// Items of a batch whose time is over are not asked again: nobody would begin them.
fn refuse_if_over(batch: &Batch, counts: &Progress, now: DateTime<Utc>) -> Result<(), ApiError> {
    let why = match counts.state {
        BatchState::Open => "is still being recorded",
        BatchState::Cancelled => "was cancelled",
        BatchState::Expired => "has expired",
        BatchState::InProgress | BatchState::Completed => {
            if batch.deadline.is_none_or(|deadline| now < deadline) {
                return Ok(());
            }
            "is past its completion window"
        }
    };
    let id = ids::of_batch(batch.id);
    Err(ApiError::new(
        StatusCode::CONFLICT,
        Code::BatchEnded,
        format!("batch `{id}` {why}, its requests cannot be retried"),
    ))
}

/// What items are asked again, and of which batch.
struct Retry<'a> {
    stores: &'a Stores,
    batch: &'a Batch,
    codes: Vec<FailureCode>,
    now: DateTime<Utc>,
}

impl Retry<'_> {
    /// Asks the items again whose results are these, as far as they have one of the codes; answers how
    /// many that are.
    async fn page(&mut self, results: &[JobResult]) -> Result<usize, ApiError> {
        let failed = results.iter().filter(|result| {
            let failure = result.failure.as_ref();
            failure.is_some_and(|failure| self.codes.contains(&failure.code))
        });
        let jobs = self.jobs(failed).await?;
        let replacing = jobs.into_iter().map(|job| self.replace(job));
        let replaced: Vec<_> = stream::iter(replacing)
            .buffer_unordered(REPLACING_AT_ONCE)
            .collect()
            .await;
        let (mut jobs, mut fault) = (Vec::new(), None);
        for one in replaced {
            match one {
                Ok(job) => jobs.extend(job),
                Err(error) => fault = Some(error),
            }
        }
        // What is in its place now is put on its way, also if others are not.
        self.stores.queue.publish(&jobs).await?;
        fault.map_or(Ok(jobs.len()), |error| Err(error.into()))
    }

    /// Puts a job in the place of the one it replaces, whose dead letter is of no use then. None: it is
    /// in another one's place by now, or its batch has ended.
    async fn replace(&self, job: Job) -> Result<Option<Job>, ResultsError> {
        let results = &self.stores.results;
        match results.replace(&job).await {
            Ok(()) => {}
            Err(ResultsError::Conflict { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        if let Some(old) = job.replaces {
            results.take_dead_letter(old).await?;
        }
        Ok(Some(job))
    }

    /// New jobs for the items of these results.
    async fn jobs(&self, failed: impl Iterator<Item = &JobResult>) -> Result<Vec<Job>, ApiError> {
        let results = &self.stores.results;
        let Some(first) = results.shard(self.batch.id, 0).await? else {
            return Ok(Vec::new());
        };
        // All shards but the last have the size of the first.
        let size = u64::from(first.items.max(1));
        let mut by_shard: BTreeMap<u64, Vec<(u64, JobId)>> = BTreeMap::new();
        for (item, old) in failed.filter_map(|one| Some((one.item?, one.job_id))) {
            by_shard.entry(item / size).or_default().push((item, old));
        }
        let mut jobs = Vec::new();
        for (index, wanted) in by_shard {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let Some(shard) = results.shard(self.batch.id, index).await? else {
                continue;
            };
            let items = manifest::items(self.stores, &self.batch.tenant, &shard).await?;
            for (item, old) in wanted {
                let asked = usize::try_from(item % size).ok();
                if let Some(asked) = asked.and_then(|offset| items.get(offset)) {
                    jobs.push(self.job(asked, item, old));
                }
            }
        }
        Ok(jobs)
    }

    fn job(&self, asked: &ManifestItem, item: u64, old: JobId) -> Job {
        let batch = self.batch;
        Job {
            version: ENVELOPE_VERSION,
            id: JobId::new(self.now),
            replaces: Some(old),
            batch_id: Some(batch.id),
            item: Some(item),
            custom_id: Some(asked.custom_id.clone()),
            tenant: batch.tenant.clone(),
            model: batch.model.clone(),
            class: batch.class,
            work: asked.work,
            attempts_max: batch.attempts_max,
            created_at: self.now,
            deadline: batch.deadline,
            traceparent: None,
            request: asked.request.clone(),
        }
    }
}
