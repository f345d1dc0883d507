//! `/v1/dead-letters`: jobs that will not come back by themselves, looked at, mended and brought back.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::Utc;
use lapidary_schemas::validate::validate_job;
use lapidary_schemas::{Class, Job, Request};
use lapidary_transport::Results as _;
use lapidary_transport::results::{DeadLetter, ResultsError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::access::MayOperate;
use super::super::body::{Id, JsonBody, Limit, Query};
use super::super::error::{ApiError, Code};
use super::super::found::Deleted;
use super::super::ids;
use super::super::limits::LETTERS_MAX;
use super::super::{Gateway, Shared};
use crate::dead::{self, ReplayError};
use crate::submission::{INLINE_REQUEST_BYTES_MAX, Keeper, served};

/// Everything of a letter but the request.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DeadLetterSummary {
    id: String,
    object: &'static str,
    /// Why it died.
    reason: String,
    attempts: u32,
    died_at: i64,
    /// What follows is unknown where its message could not be read.
    tenant: Option<String>,
    model: Option<String>,
    class: Option<Class>,
    custom_id: Option<String>,
    batch_id: Option<String>,
}

/// A letter with its request.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DeadLetterObject {
    #[serde(flatten)]
    summary: DeadLetterSummary,
    request: Option<Request>,
    /// The same, for readers whose numbers do not hold a seed.
    request_text: Option<String>,
    /// The message where it could not be read.
    body: Option<String>,
}

/// A page of letters, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DeadLetters {
    object: &'static str,
    data: Vec<DeadLetterSummary>,
    /// Where the next page begins.
    after: String,
    /// There may be older ones.
    has_more: bool,
}

/// A job that was brought back.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Replayed {
    id: String,
    object: &'static str,
    status: &'static str,
    /// The job that had died.
    replaces: String,
    batch_id: Option<String>,
}

/// Everything of a letter but the request.
pub(super) fn summary(letter: &DeadLetter) -> DeadLetterSummary {
    let job = letter.job.as_ref();
    DeadLetterSummary {
        id: ids::of_job(letter.job_id),
        object: "dead_letter",
        reason: letter.reason.clone(),
        attempts: letter.attempts,
        died_at: letter.at.timestamp(),
        tenant: job.map(|job| job.tenant.clone()),
        model: job.map(|job| job.model.clone()),
        class: job.map(|job| job.class),
        custom_id: job.and_then(|job| job.custom_id.clone()),
        batch_id: job.and_then(|job| job.batch_id).map(ids::of_batch),
    }
}

/// Which letters are wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedLetters {
    /// How many at most.
    #[serde(default)]
    limit: Limit<LETTERS_MAX, LETTERS_MAX>,
    /// The cursor of an earlier page.
    #[serde(default)]
    after: String,
}

/// The newest first, from a cursor on.
pub(super) async fn list(
    State(gateway): State<Shared>,
    _: MayOperate,
    Query(wanted): Query<WantedLetters>,
) -> Result<Json<DeadLetters>, ApiError> {
    let (limit, after) = (wanted.limit.0, wanted.after);
    let (letters, cursor) = match gateway.stores.results.dead_letters(&after, limit).await {
        Err(ResultsError::Conflict { message }) => {
            return Err(ApiError::parameter("after", message));
        }
        read => read?,
    };
    Ok(Json(DeadLetters {
        object: "list",
        data: letters.iter().map(summary).collect(),
        after: cursor,
        has_more: letters.len() == limit,
    }))
}

/// A request as it can be read and changed: in JavaScript's numbers a seed would lose its last digits.
pub(super) fn text(request: &Request) -> Result<String, ApiError> {
    serde_json::to_string_pretty(request).map_err(|error| ApiError::fault(&error))
}

/// One, with its request, or with what its message was where that could not be read.
pub(super) async fn show(
    State(gateway): State<Shared>,
    _: MayOperate,
    Id(id): Id,
) -> Result<Json<DeadLetterObject>, ApiError> {
    let letter = dead::letter(&gateway.stores, ids::job(&id)?).await?;
    let summary = summary(&letter);
    let request = letter.job.map(|job| job.request);
    Ok(Json(DeadLetterObject {
        summary,
        request_text: request.as_ref().map(text).transpose()?,
        request,
        body: letter.body,
    }))
}

/// Forgets one: its job keeps its result, and cannot be brought back any more.
pub(super) async fn forget(
    State(gateway): State<Shared>,
    _: MayOperate,
    Id(id): Id,
) -> Result<Json<Deleted>, ApiError> {
    let dead_id = ids::job(&id)?;
    let taken = gateway.stores.results.take_dead_letter(dead_id).await?;
    taken.ok_or(ReplayError::Unknown(dead_id))?;
    tracing::info!(dead = %dead_id, "a dead letter was forgotten");
    Ok(Json(Deleted {
        id,
        object: "dead_letter",
        deleted: true,
    }))
}

/// How a job is to come back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewReplay {
    /// In the place of the request that failed.
    #[serde(default)]
    request: Option<Request>,
}

/// Brings one back, under a new id.
pub(super) async fn replay(
    State(gateway): State<Shared>,
    _: MayOperate,
    Id(id): Id,
    body: JsonBody<NewReplay>,
) -> Result<Json<Replayed>, ApiError> {
    let wanted = body.read()?;
    let is_heavy = body.bytes.len() > INLINE_REQUEST_BYTES_MAX;
    drop(body);
    let dead_id = ids::job(&id)?;
    let mended = match wanted.request {
        None => None,
        Some(request) => {
            let letter = dead::letter(&gateway.stores, dead_id).await?;
            let job = Job {
                request,
                ..dead::job_of(letter)?
            };
            Some(mended(&gateway, job, is_heavy).await?)
        }
    };
    let job = dead::replay(&gateway.stores, dead_id, mended, Utc::now()).await?;
    tracing::info!(dead = %dead_id, job = %job.id, "a dead job was brought back");
    Ok(Json(Replayed {
        id: ids::of_job(job.id),
        object: "job",
        status: "queued",
        replaces: id,
        batch_id: job.batch_id.map(ids::of_batch),
    }))
}

/// The request of a job that could have been made of it.
async fn mended(gateway: &Gateway, mut job: Job, is_heavy: bool) -> Result<Request, ApiError> {
    let workers = gateway.stores.results.workers().await?;
    let policy = served(&workers, &job.model).ok_or_else(|| {
        let message = format!("no worker serves the model `{}`", job.model);
        ApiError::new(StatusCode::NOT_FOUND, Code::ModelNotFound, message)
    })?;
    let policy = gateway.ceiling.lower(policy);
    if is_heavy {
        let keeper = Keeper::new(Some(&gateway.stores.media), &job.tenant);
        job.request = keeper.lighten(job.request, &policy).await??;
    }
    validate_job(&job, &policy)?;
    Ok(job.request)
}
