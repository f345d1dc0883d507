//! `/v1/jobs`: single requests that are asked about later.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use lapidary_schemas::batch_line::{ChatCompletion, OutputError, OutputLine};
use lapidary_schemas::limits::RETENTION_DEFAULT_S;
use lapidary_schemas::{JobId, Status};
use lapidary_transport::Results as _;
use lapidary_transport::results::JobState;
use schemars::JsonSchema;
use serde::Serialize;

use super::access::{MayRead, MaySubmit};
use super::body::{Id, JsonBody};
use super::describe::{JSON, Operation, Output};
use super::error::ApiError;
use super::ids;
use super::limits::JOB_TIME_MAX;
use super::once::{Key, Made};
use super::single::{Asked, AskedBody};
use super::traced::Traced;
use super::{Gateway, Shared};
use crate::catalogue::{self, JobRecord};

/// How a job stands.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum JobStatus {
    Queued,
    InProgress,
    #[serde(untagged)]
    Ended(Status),
}

/// A job as clients see it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct JobObject {
    id: String,
    object: &'static str,
    model: String,
    created_at: i64,
    status: JobStatus,
    /// The text so far, while it runs.
    partial: Option<String>,
    /// The answer.
    response: Option<ChatCompletion>,
    /// Why there is none.
    error: Option<OutputError>,
    finished_at: Option<i64>,
}

/// A job that was taken.
#[derive(Debug)]
pub(super) struct Accepted(JobObject);

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self.0)).into_response()
    }
}

impl Output for Accepted {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.schema::<JobObject>();
        operation.answers("202", vec![(JSON, schema)]);
    }
}

/// Takes a request; its answer is at the address that the job's id makes.
pub(super) async fn create(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    key: Key,
    traced: Traced,
    body: JsonBody<AskedBody>,
) -> Result<Accepted, ApiError> {
    let asked = Asked::read(&body, traced)?;
    let bound = key.bind(&tenant, "jobs", &body.bytes);
    drop(body);
    if asked.stream {
        let message = "`stream` is true, jobs are not streamed";
        return Err(ApiError::parameter("stream", message));
    }
    let making = make(Arc::clone(&gateway), tenant.clone(), asked);
    let object = match gateway.once(bound, making).await? {
        Made::Now(object) => object,
        Made::Before(id) => known(&gateway, &tenant, &id).await?,
    };
    Ok(Accepted(object))
}

/// Puts a job on its way; answers its id and how it stands.
async fn make(
    gateway: Shared,
    tenant: String,
    asked: Asked,
) -> Result<(String, JobObject), ApiError> {
    let now = Utc::now();
    let job = gateway.submit(&tenant, asked, now, JOB_TIME_MAX).await?;
    let record = JobRecord {
        model: job.model,
        created_at: now,
    };
    let kept = JOB_TIME_MAX.to_std().unwrap_or_default()
        + std::time::Duration::from_secs(RETENTION_DEFAULT_S);
    let results = &gateway.stores.results;
    catalogue::keep(results, &tenant, job.id.0, &record, kept).await?;
    let object = object(job.id, &record, &JobState::Waiting { attempts: 0 });
    Ok((ids::of_job(job.id), object))
}

/// One job of the tenant.
async fn known(gateway: &Gateway, tenant: &str, written: &str) -> Result<JobObject, ApiError> {
    let id = ids::job(written)?;
    let results = &gateway.stores.results;
    let record = catalogue::find::<JobRecord>(results, tenant, id.0).await?;
    let unknown = || ApiError::unknown("job", written);
    let record = record.ok_or_else(unknown)?;
    let state = results.get(&[id]).await?.into_iter().next().flatten();
    Ok(object(id, &record, &state.ok_or_else(unknown)?))
}

/// How a job stands, with its answer once that is there.
pub(super) async fn show(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Id(id): Id,
) -> Result<Json<JobObject>, ApiError> {
    known(&gateway, &tenant, &id).await.map(Json)
}

/// Cancels a job; a finished one stays as it is.
pub(super) async fn cancel(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    Id(id): Id,
) -> Result<Json<JobObject>, ApiError> {
    known(&gateway, &tenant, &id).await?;
    gateway
        .stores
        .results
        .cancel_jobs(&[ids::job(&id)?])
        .await?;
    known(&gateway, &tenant, &id).await.map(Json)
}

fn object(id: JobId, record: &JobRecord, state: &JobState) -> JobObject {
    let mut object = JobObject {
        id: ids::of_job(id),
        object: "job",
        model: record.model.clone(),
        created_at: record.created_at.timestamp(),
        status: JobStatus::Queued,
        partial: None,
        response: None,
        error: None,
        finished_at: None,
    };
    match state {
        JobState::Waiting { .. } => {}
        JobState::Running { partial, .. } => {
            object.status = JobStatus::InProgress;
            object.partial = Some(partial.clone());
        }
        JobState::Finished(result) => {
            let line = OutputLine::from(&**result);
            object.status = JobStatus::Ended(result.status);
            object.response = line.response.map(|response| response.body);
            object.error = line.error;
            object.finished_at = Some(result.finished_at.timestamp());
        }
    }
    object
}
