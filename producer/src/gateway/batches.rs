//! `/v1/batches`: made of uploaded files, looked at, cancelled, and their results as they come.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{TimeDelta, Utc};
use lapidary_schemas::batch_line::BATCH_URL;
use lapidary_schemas::{Batch, BatchId, BatchState, TraceContext};
use lapidary_transport::Results as _;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_util::io::StreamReader;
use uuid::Uuid;

use super::access::{MayRead, MaySubmit};
use super::batch_object::BatchObject;
use super::body::{Id, JsonBody, Paging, Query};
use super::error::{ApiError, Code};
use super::found::{self, List, named_batch};
use super::ids::{self, FileId};
use super::limits::{ENDPOINTS_MAX, FILE_ITEMS_MAX, WINDOW_H};
use super::once::{Key, Made};
use super::traced::Traced;
use super::{Gateway, Shared, pieces};
use crate::catalogue::{self, BatchRecord, FileRecord};
use crate::submission::{self, Submission, SubmitError, Terms};

/// What a batch is made of.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBatch {
    /// An uploaded file.
    input_file_id: String,
    /// Where its requests would be sent one by one.
    #[schemars(extend("const" = BATCH_URL))]
    endpoint: String,
    /// Hours after which what is not done expires, as `24h`.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,2}h$"))]
    completion_window: String,
    /// Ids of the webhooks that are told of its end; all of the tenant's where it is absent.
    #[serde(default)]
    #[schemars(length(max = ENDPOINTS_MAX))]
    webhooks: Option<Vec<String>>,
    /// The submitter's own notes.
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

/// Makes a batch of an uploaded file, whose lines are checked again: models come and go.
pub(super) async fn create(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    key: Key,
    Traced(submitter): Traced,
    body: JsonBody<NewBatch>,
) -> Result<Json<BatchObject>, ApiError> {
    let wanted = body.read()?;
    let bound = key.bind(&tenant, "batches", &body.bytes);
    drop(body);
    if wanted.endpoint != BATCH_URL {
        let message = format!(
            "`endpoint` is `{}`, only `{BATCH_URL}` is served",
            wanted.endpoint
        );
        return Err(ApiError::parameter("endpoint", message));
    }
    let window = window(&wanted.completion_window)?;
    let FileId::Input(file) = ids::file(&wanted.input_file_id)? else {
        return Err(ApiError::unknown("uploaded file", &wanted.input_file_id));
    };
    let mut batch = submission::bulk(&tenant, Utc::now(), Some(window));
    batch.metadata = wanted.metadata.unwrap_or_default();
    let place = gateway.traces.submission(batch.id.0, submitter);
    batch.traceparent = place.map(|place| place.to_string());
    let webhooks = wanted.webhooks.as_deref();
    let webhooks = gateway.named_webhooks(&tenant, webhooks).await?;
    let record = BatchRecord {
        input_file: Some(file),
        completion_window: Some(wanted.completion_window),
        cancelling_at: None,
        webhooks,
    };
    let making = make(Arc::clone(&gateway), batch, (file, record), submitter);
    match gateway.once(bound, making).await? {
        Made::Now(object) => Ok(Json(object)),
        Made::Before(id) => {
            let (batch, record, counts) = named_batch(&gateway, &tenant, &id).await?;
            Ok(Json(BatchObject::new(batch, &record, &counts)))
        }
    }
}

/// Makes the batch of its file; answers its id and how it stands.
async fn make(
    gateway: Shared,
    batch: Batch,
    (file, record): (Uuid, BatchRecord),
    submitter: Option<TraceContext>,
) -> Result<(String, BatchObject), ApiError> {
    let input = found::file(&gateway, &batch.tenant, file).await?;
    let _turn = gateway.turn().await?;
    gateway.notice(&batch.tenant, batch.id).await?;
    let batch = submit(&gateway, batch, &input, &record).await?;
    gateway.traces.batch_submitted(&batch, submitter);
    let counts = gateway.stores.results.progress(batch.id).await?;
    let id = ids::of_batch(batch.id);
    Ok((id, BatchObject::new(batch, &record, &counts)))
}

/// The time a batch is given: hours, as `24h`.
fn window(written: &str) -> Result<TimeDelta, ApiError> {
    let hours = written
        .strip_suffix('h')
        .and_then(|hours| hours.parse().ok());
    let hours = hours.filter(|hours| WINDOW_H.contains(hours));
    hours
        .map(|hours| TimeDelta::hours(i64::from(hours)))
        .ok_or_else(|| {
            let (min, max) = (WINDOW_H.start(), WINDOW_H.end());
            let message =
                format!("`completion_window` is `{written}`, it must be from `{min}h` to `{max}h`");
            ApiError::parameter("completion_window", message)
        })
}

async fn submit(
    gateway: &Gateway,
    batch: Batch,
    input: &FileRecord,
    record: &BatchRecord,
) -> Result<Batch, ApiError> {
    let stores = &gateway.stores;
    let terms = Terms {
        ceiling: gateway.ceiling,
        items_max: FILE_ITEMS_MAX,
        check_only: false,
    };
    let bytes = pieces::read(&stores.media, &batch.tenant, &input.pieces).await?;
    let mut lines = StreamReader::new(Box::pin(bytes));
    let mut submission = Submission::new(stores.clone(), batch, terms);
    let refusal = match submission.read(&mut lines).await {
        Ok(()) => {
            let mistakes = submission.mistakes();
            if mistakes.is_empty() {
                return Ok(submission.commit(record).await?);
            }
            ApiError::mistakes(mistakes)
        }
        Err(error) => error.into(),
    };
    let abandoned: Result<(), SubmitError> = submission.abandon().await;
    if let Err(error) = abandoned {
        // It is let go of when batches are.
        tracing::warn!(%error, "what was stored of a refused batch is kept for now");
    }
    Err(refusal)
}

/// The tenant's batches, the newest first.
pub(super) async fn list(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Query(wanted): Query<Paging>,
) -> Result<Json<List<BatchObject>>, ApiError> {
    let limit = wanted.limit.0;
    let after = wanted.after.map(|id| ids::batch(&id)).transpose()?;
    let mut before = after.map(|id| id.0);
    let mut objects = Vec::new();
    while objects.len() <= limit {
        let results = &gateway.stores.results;
        let wanted = limit + 1 - objects.len();
        let records = catalogue::list::<BatchRecord>(results, &tenant, before, wanted).await?;
        let Some((last, _)) = records.last() else {
            break;
        };
        before = Some(*last);
        for (id, record) in records {
            // A record may be there before its batch, and after it.
            if let Some((batch, _, counts)) = found::batch(&gateway, &tenant, BatchId(id)).await? {
                objects.push(BatchObject::new(batch, &record, &counts));
            }
        }
    }
    Ok(Json(List::of(objects, limit)))
}

/// One batch.
pub(super) async fn show(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Id(id): Id,
) -> Result<Json<BatchObject>, ApiError> {
    let (batch, record, counts) = named_batch(&gateway, &tenant, &id).await?;
    Ok(Json(BatchObject::new(batch, &record, &counts)))
}

/// Cancels a batch; finished results stay. Doing it again is the same.
pub(super) async fn cancel(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    Id(id): Id,
) -> Result<Json<BatchObject>, ApiError> {
    let (batch, mut record, counts) = named_batch(&gateway, &tenant, &id).await?;
    let results = &gateway.stores.results;
    let cancelled = results.cancel_batch(batch.id).await?;
    let counts = if cancelled {
        record.cancelling_at = Some(Utc::now());
        // Its results are kept from now on at most as long as they would have been from its deadline.
        let kept = submission::kept(&batch, Utc::now());
        catalogue::keep(results, &tenant, batch.id.0, &record, kept).await?;
        results.progress(batch.id).await?
    } else {
        results.progress(batch.id).await.unwrap_or(counts)
    };
    if !cancelled && counts.state != BatchState::Cancelled {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            Code::BatchEnded,
            format!("batch `{id}` has ended already, it cannot be cancelled"),
        ));
    }
    Ok(Json(BatchObject::new(batch, &record, &counts)))
}

/// Pauses a batch: what runs goes on, nothing else is begun.
pub(super) async fn pause(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    Id(id): Id,
) -> Result<Json<BatchObject>, ApiError> {
    set_paused(&gateway, &tenant, &id, true).await
}

/// Lets a batch go on.
pub(super) async fn resume(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    Id(id): Id,
) -> Result<Json<BatchObject>, ApiError> {
    set_paused(&gateway, &tenant, &id, false).await
}

async fn set_paused(
    gateway: &Gateway,
    tenant: &str,
    id: &str,
    paused: bool,
) -> Result<Json<BatchObject>, ApiError> {
    let (batch, record, _) = named_batch(gateway, tenant, id).await?;
    let results = &gateway.stores.results;
    if !results.pause_batch(batch.id, paused).await? {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            Code::BatchEnded,
            format!("batch `{id}` has ended already, it is neither paused nor resumed"),
        ));
    }
    let counts = results.progress(batch.id).await?;
    Ok(Json(BatchObject::new(batch, &record, &counts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_given_whole_hours() {
        assert_eq!(window("24h").unwrap(), TimeDelta::hours(24));
        assert_eq!(window("720h").unwrap(), TimeDelta::days(30));
        for wrong in ["", "h", "24", "0h", "721h", "-1h", "1d", "1.5h"] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }
}
