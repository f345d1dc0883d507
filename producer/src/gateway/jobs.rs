//! `/v1/jobs`: single requests that are asked about later.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use lapidary_schemas::batch_line::OutputLine;
use lapidary_schemas::limits::RETENTION_DEFAULT_S;
use lapidary_schemas::{JobId, JobResult};
use lapidary_transport::Results as _;
use lapidary_transport::results::JobState;
use serde_json::{Value, json};

use super::access::{MayRead, MaySubmit};
use super::body::{Id, JsonBody};
use super::error::ApiError;
use super::ids;
use super::limits::JOB_TIME_MAX;
use super::once::{Key, Made};
use super::single::Asked;
use super::traced::Traced;
use super::{Gateway, Shared};
use crate::catalogue::{self, JobRecord};

/// Takes a request; its answer is at the address that the job's id makes.
pub(super) async fn create(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    key: Key,
    traced: Traced,
    body: JsonBody,
) -> Result<Response, ApiError> {
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
    Ok((StatusCode::ACCEPTED, Json(object)).into_response())
}

/// Puts a job on its way; answers its id and how it stands.
async fn make(gateway: Shared, tenant: String, asked: Asked) -> Result<(String, Value), ApiError> {
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
async fn known(gateway: &Gateway, tenant: &str, written: &str) -> Result<Value, ApiError> {
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
) -> Result<Json<Value>, ApiError> {
    known(&gateway, &tenant, &id).await.map(Json)
}

/// Cancels a job; a finished one stays as it is.
pub(super) async fn cancel(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    known(&gateway, &tenant, &id).await?;
    gateway
        .stores
        .results
        .cancel_jobs(&[ids::job(&id)?])
        .await?;
    known(&gateway, &tenant, &id).await.map(Json)
}

/// A job as clients see it.
fn object(id: JobId, record: &JobRecord, state: &JobState) -> Value {
    let status = match state {
        JobState::Waiting { .. } => "queued",
        JobState::Running { .. } => "in_progress",
        JobState::Finished(result) => result.status.as_str(),
    };
    let mut object = json!({
        "id": ids::of_job(id),
        "object": "job",
        "model": record.model,
        "created_at": record.created_at.timestamp(),
        "status": status,
        "partial": null,
        "response": null,
        "error": null,
        "finished_at": null,
    });
    match state {
        JobState::Waiting { .. } => {}
        JobState::Running { partial, .. } => object["partial"] = json!(partial),
        JobState::Finished(result) => finish(&mut object, result),
    }
    object
}

fn finish(object: &mut Value, result: &JobResult) {
    let line = OutputLine::from(result);
    object["response"] = json!(line.response.map(|response| response.body));
    object["error"] = json!(line.error);
    object["finished_at"] = json!(result.finished_at.timestamp());
}
