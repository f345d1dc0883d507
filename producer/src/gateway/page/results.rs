//! Results as they are kept, the newest first, each with the pictures that it is about; and the bytes of
//! those pictures.

use std::borrow::Cow;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{
    CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use futures::stream;
use image::ImageFormat;
use lapidary_schemas::limits::MEDIA_BYTES_MAX;
use lapidary_schemas::request::Content;
use lapidary_schemas::{Batch, BatchId, JobResult, MediaRef, Part, Request};
use lapidary_transport::media::MediaError;
use lapidary_transport::results::{JobState, ResultsError};
use lapidary_transport::{Media as _, Results as _};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::access::MayRead;
use super::super::body::{Id, Limit, Query, number, room};
use super::super::describe::{Operation, Output, bytes};
use super::super::error::ApiError;
use super::super::ids;
use super::super::limits::{LATEST_DEFAULT, LATEST_MAX, PIECE_BYTES};
use super::super::media::UNTYPED;
use super::super::{Gateway, Shared};
use super::dead::text;
use crate::catalogue::{self, JobRecord};

/// Which results are wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedLatest {
    /// How many at most.
    #[serde(default)]
    limit: Limit<LATEST_DEFAULT, LATEST_MAX>,
    /// The cursor of an earlier page.
    #[serde(default)]
    after: String,
}

/// Where a result is looked for, if it is not found by its job alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedResult {
    /// Its batch.
    batch_id: Option<String>,
    /// Its position in the batch.
    #[serde(default, deserialize_with = "number")]
    #[schemars(with = "Option<u64>")]
    item: Option<u64>,
}

/// A page of results, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LatestPage {
    object: &'static str,
    data: Vec<ResultObject>,
    /// Where the next page begins.
    after: String,
    /// There may be older ones.
    has_more: bool,
}

/// A result as it is kept, with ids and moments as everywhere here, and the addresses of the pictures
/// that were asked about.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct ResultObject(Value);

impl JsonSchema for ResultObject {
    fn schema_name() -> Cow<'static, str> {
        "ResultObject".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = JobResult::json_schema(generator);
        let changed = json!({
            "id": {"type": "string"},
            "object": {"const": "result"},
            "batch_id": {"type": ["string", "null"]},
            "finished_at": {"type": "integer"},
            "pictures": {"type": "array", "items": {"type": "string"}},
            "request": {"description": "Where one result is shown."},
            "request_text": {"type": ["string", "null"]},
        });
        if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            fields.remove(JOB_ID);
            fields.extend(changed.as_object().cloned().unwrap_or_default());
        }
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| name != JOB_ID);
            required.extend([json!("id"), json!("object")]);
        }
        schema
    }
}

/// The field that is called `id` here.
const JOB_ID: &str = "job_id";

/// Results of a batch from the newest back, also while it runs.
pub(super) async fn latest(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Id(id): Id,
    Query(wanted): Query<WantedLatest>,
) -> Result<Json<LatestPage>, ApiError> {
    let (limit, after) = (wanted.limit.0, wanted.after);
    let stores = &gateway.stores;
    let batch = stores.results.batch(ids::batch(&id)?).await?;
    let batch = batch.filter(|batch| batch.tenant == tenant);
    let batch = batch.ok_or_else(|| ApiError::unknown("batch", &id))?;
    let read = match stores.results.latest(batch.id, &after, limit).await {
        Err(ResultsError::Conflict { message }) => {
            return Err(ApiError::parameter("after", message));
        }
        read => read?,
    };
    let manifests = &gateway.page.manifests;
    let requests = manifests.requests(stores, &batch, &read.results).await?;
    let lines = read.results.iter().zip(&requests);
    let data: Vec<_> = lines
        .map(|(result, request)| object(result, request.as_ref()))
        .collect();
    Ok(Json(LatestPage {
        object: "list",
        has_more: !data.is_empty(),
        data,
        after: read.cursor,
    }))
}

/// One result with its request. An older one of a large batch is found by its batch and its item only.
pub(super) async fn show(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Id(id): Id,
    Query(wanted): Query<WantedResult>,
) -> Result<Json<ResultObject>, ApiError> {
    let batch = wanted.batch_id.as_deref().map(ids::batch).transpose()?;
    let place = batch.zip(wanted.item);
    let found = find(&gateway, &tenant, &id, place).await?;
    let (result, batch) = found.ok_or_else(|| ApiError::unknown("result of", &id))?;
    let request = match batch {
        None => None,
        Some(batch) => {
            let manifests = &gateway.page.manifests;
            let one = std::slice::from_ref(&result);
            manifests
                .requests(&gateway.stores, &batch, one)
                .await?
                .pop()
                .flatten()
        }
    };
    let mut shown = object(&result, request.as_ref());
    shown.0["request"] = json!(request);
    shown.0["request_text"] = json!(request.as_ref().map(text).transpose()?);
    Ok(Json(shown))
}

/// A result of the tenant, and the batch that it is of.
async fn find(
    gateway: &Gateway,
    tenant: &str,
    written: &str,
    place: Option<(BatchId, u64)>,
) -> Result<Option<(JobResult, Option<Batch>)>, ApiError> {
    let (job, results) = (ids::job(written)?, &gateway.stores.results);
    let state = results.get(&[job]).await?.into_iter().next().flatten();
    let result = match (state, place) {
        (Some(JobState::Finished(result)), _) => *result,
        (None, Some((batch, item))) => match results.results_of(batch, &[(item, job)]).await {
            Err(ResultsError::NoSuchBatch { .. }) => return Ok(None),
            found => match found?.into_iter().next().flatten() {
                Some(result) => result,
                None => return Ok(None),
            },
        },
        _ => return Ok(None),
    };
    let batch = match result.batch_id {
        Some(batch) => results.batch(batch).await?,
        None => None,
    };
    let is_own = match &batch {
        Some(batch) => batch.tenant == tenant,
        None => catalogue::find::<JobRecord>(results, tenant, job.0)
            .await?
            .is_some(),
    };
    Ok(is_own.then_some((result, batch)))
}

fn object(result: &JobResult, request: Option<&Request>) -> ResultObject {
    let mut object = json!(result);
    object["id"] = json!(ids::of_job(result.job_id));
    object["object"] = json!("result");
    object["batch_id"] = json!(result.batch_id.map(ids::of_batch));
    object["finished_at"] = json!(result.finished_at.timestamp());
    object["pictures"] = request.into_iter().flat_map(pictures).collect();
    if let Some(fields) = object.as_object_mut() {
        fields.remove(JOB_ID);
    }
    ResultObject(object)
}

fn pictures(request: &Request) -> impl Iterator<Item = &str> {
    let parts = request
        .messages
        .iter()
        .flat_map(|message| match &message.content {
            Content::Parts(parts) => parts.as_slice(),
            Content::Text(_) => &[],
        });
    parts.filter_map(|part| match part {
        Part::ImageUrl { image_url } => Some(image_url.url.as_str()),
        Part::Text { .. } | Part::InputAudio { .. } | Part::File { .. } => None,
    })
}

/// Media as it was sent.
#[derive(Debug)]
pub(super) struct Sent(Response);

impl IntoResponse for Sent {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Output for Sent {
    fn describe(operation: &mut Operation<'_>) {
        operation.answers("200", vec![("image/*", bytes()), (UNTYPED, bytes())]);
    }
}

/// The bytes of something that the tenant has in the media store.
pub(super) async fn media(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Id(written): Id,
) -> Result<Sent, ApiError> {
    let unknown = || ApiError::unknown("media", &written);
    let media: MediaRef = written.parse().map_err(|_| unknown())?;
    let bytes = usize::try_from(media.bytes).unwrap_or(usize::MAX);
    if bytes > MEDIA_BYTES_MAX {
        return Err(unknown());
    }
    let room = room(&gateway, bytes)?;
    let bytes = match gateway.stores.media.get(&tenant, &media).await {
        Err(MediaError::Missing { .. }) => return Err(unknown()),
        bytes => Bytes::from(bytes?),
    };
    let headers = [
        (CONTENT_TYPE, kind(&bytes).to_owned()),
        (CONTENT_LENGTH, bytes.len().to_string()),
        // It is whatever somebody sent: nothing in it is to run.
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox".to_owned(),
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (CONTENT_DISPOSITION, "attachment".to_owned()),
    ];
    // The room is given back once all of it is on its way.
    let pieces = stream::unfold((bytes, room), |(mut rest, room)| async move {
        if rest.is_empty() {
            return None;
        }
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        Some((Ok::<_, std::convert::Infallible>(piece), (rest, room)))
    });
    let answer = (headers, Body::from_stream(pieces));
    Ok(Sent(answer.into_response()))
}

/// What a picture is, by its own bytes; anything else is only bytes.
fn kind(bytes: &[u8]) -> &'static str {
    match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Png
            | ImageFormat::Jpeg
            | ImageFormat::WebP
            | ImageFormat::Gif
            | ImageFormat::Bmp
            | ImageFormat::Tiff),
        ) => format.to_mime_type(),
        Ok(_) | Err(_) => UNTYPED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pictures_are_called_so() {
        assert_eq!(kind(b"\x89PNG\r\n\x1a\n"), "image/png");
        assert_eq!(kind(b"\xff\xd8\xff\xe0"), "image/jpeg");
        for other in [
            &b"<svg onload=alert(1)>"[..],
            b"<html>",
            b"",
            b"\x00\x00\x01\x00",
        ] {
            assert_eq!(kind(other), "application/octet-stream");
        }
    }

    #[test]
    fn pictures_are_named_in_order() {
        let request = r#"{"messages": [
            {"role": "user", "content": "none"},
            {"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "data:a"}},
                {"type": "text", "text": "and"},
                {"type": "image_url", "image_url": {"url": "media:b"}}]}]}"#;
        let request: Request = serde_json::from_str(request).unwrap();
        assert_eq!(
            pictures(&request).collect::<Vec<_>>(),
            ["data:a", "media:b"]
        );
    }
}
