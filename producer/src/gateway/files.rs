//! `/v1/files`: uploaded files of requests, and the files that batches' results are read as.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use futures::stream::TryStreamExt as _;
use lapidary_schemas::{Batch, BatchId};
use lapidary_transport::Media as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::access::{MayRead, MaySubmit};
use super::batch_object::Standing;
use super::body::{Id, Limit, Query};
use super::describe::{Operation, Output, bytes};
use super::error::ApiError;
use super::found::{Deleted, List, Object};
use super::ids::{self, FileId};
use super::limits::{LIST_ITEMS_DEFAULT, LIST_ITEMS_MAX};
use super::output::{self, Part};
use super::{Gateway, Shared, found, pieces};
use crate::catalogue::{self, FileRecord};

/// What files are uploaded for.
pub(super) const PURPOSE: &str = "batch";
/// What they are.
const KIND: &str = "application/jsonl";

/// A file as clients see it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FileObject {
    id: String,
    object: &'static str,
    bytes: u64,
    created_at: i64,
    expires_at: Option<i64>,
    filename: String,
    purpose: &'static str,
    status: &'static str,
}

impl Object for FileObject {
    fn id(&self) -> &str {
        &self.id
    }
}

impl FileObject {
    /// An uploaded file: it was checked before anybody hears of it.
    pub(super) fn input(id: Uuid, record: &FileRecord) -> Self {
        Self {
            id: FileId::Input(id).to_string(),
            object: "file",
            bytes: record.bytes,
            created_at: record.created_at.timestamp(),
            expires_at: Some(record.expires_at.timestamp()),
            filename: record.filename.clone(),
            purpose: PURPOSE,
            status: "processed",
        }
    }

    fn output(id: FileId, bytes: u64, made_at: DateTime<Utc>, batch: &Batch) -> Self {
        let kept = i64::try_from(batch.retention_s).unwrap_or(i64::MAX);
        Self {
            id: id.to_string(),
            object: "file",
            bytes,
            created_at: made_at.timestamp(),
            expires_at: Some(made_at.timestamp().saturating_add(kept)),
            filename: format!("{id}.jsonl"),
            purpose: "batch_output",
            status: "processed",
        }
    }
}

/// Which of the uploaded files are wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedFiles {
    /// How many at most.
    #[serde(default)]
    limit: Limit<LIST_ITEMS_DEFAULT, LIST_ITEMS_MAX>,
    /// The id behind which the list goes on.
    after: Option<String>,
    /// What they are for; all are for the same.
    purpose: Option<String>,
    /// In which order.
    #[serde(default)]
    #[expect(dead_code, reason = "there is one order, and another one is refused")]
    order: FileOrder,
}

/// Orders of files.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum FileOrder {
    /// The newest first.
    #[default]
    Desc,
}

/// The uploaded files, the newest first.
pub(super) async fn list(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Query(wanted): Query<WantedFiles>,
) -> Result<Json<List<FileObject>>, ApiError> {
    let limit = wanted.limit.0;
    let after = wanted.after.map(|id| ids::file(&id)).transpose()?;
    if wanted.purpose.is_some_and(|purpose| purpose != PURPOSE) {
        return Ok(Json(List::of(Vec::new(), limit)));
    }
    let before = match after {
        Some(FileId::Input(id)) => Some(id),
        Some(other) => return Err(ApiError::unknown("file", &other.to_string())),
        None => None,
    };
    let results = &gateway.stores.results;
    let found = catalogue::list::<FileRecord>(results, &tenant, before, limit + 1).await?;
    let files = found
        .iter()
        .map(|(id, record)| FileObject::input(*id, record))
        .collect();
    Ok(Json(List::of(files, limit)))
}

/// One file.
pub(super) async fn show(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Id(id): Id,
) -> Result<Json<FileObject>, ApiError> {
    shown(&gateway, &tenant, &id).await.map(Json)
}

/// The file that a client names.
pub(super) async fn shown(
    gateway: &Gateway,
    tenant: &str,
    id: &str,
) -> Result<FileObject, ApiError> {
    let (file, batch, part) = match ids::file(id)? {
        FileId::Input(id) => {
            let record = found::file(gateway, tenant, id).await?;
            return Ok(FileObject::input(id, &record));
        }
        file @ FileId::Output(batch) => (file, batch, Part::Answers),
        file @ FileId::Errors(batch) => (file, batch, Part::Failures),
    };
    let (batch, made_at) = ended(gateway, tenant, file, batch).await?;
    let lines = output::lines(&gateway.stores, &batch, part);
    let bytes = lines.try_fold(0, |sum, lines| async move { Ok(sum + lines.len() as u64) });
    let bytes = bytes.await?;
    Ok(FileObject::output(file, bytes, made_at, &batch))
}

/// The bytes of a file.
#[derive(Debug)]
pub(super) struct Bytes(Response);

impl IntoResponse for Bytes {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Output for Bytes {
    fn describe(operation: &mut Operation<'_>) {
        operation.answers("200", vec![(KIND, bytes())]);
    }
}

/// The bytes of a file.
pub(super) async fn content(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Id(id): Id,
) -> Result<Bytes, ApiError> {
    let kind = [(header::CONTENT_TYPE, KIND)];
    let (file, batch, part) = match ids::file(&id)? {
        FileId::Input(id) => {
            let record = found::file(&gateway, &tenant, id).await?;
            let bytes = pieces::read(&gateway.stores.media, &tenant, &record.pieces).await?;
            let length = [(header::CONTENT_LENGTH, record.bytes)];
            let answer = (kind, length, Body::from_stream(bytes));
            return Ok(Bytes(answer.into_response()));
        }
        file @ FileId::Output(batch) => (file, batch, Part::Answers),
        file @ FileId::Errors(batch) => (file, batch, Part::Failures),
    };
    let (batch, _) = ended(&gateway, &tenant, file, batch).await?;
    let lines = output::lines(&gateway.stores, &batch, part);
    Ok(Bytes((kind, Body::from_stream(lines)).into_response()))
}

/// The batch that a file of results is of, and its end. There is no such file before that, nor
/// where nothing would be in it.
async fn ended(
    gateway: &Gateway,
    tenant: &str,
    file: FileId,
    batch: BatchId,
) -> Result<(Batch, DateTime<Utc>), ApiError> {
    let unknown = || ApiError::unknown("file", &file.to_string());
    let known = found::batch(gateway, tenant, batch).await?;
    let (batch, _, counts) = known.ok_or_else(unknown)?;
    let standing = Standing::of(&counts);
    let is_there = match file {
        FileId::Output(_) => standing.has_answers,
        FileId::Errors(_) => standing.has_failures,
        FileId::Input(_) => false,
    };
    let made_at = standing.ended_at.filter(|_| is_there);
    Ok((batch, made_at.ok_or_else(unknown)?))
}

/// Deletes an uploaded file; batches that were made of it go on.
pub(super) async fn delete(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    Id(id): Id,
) -> Result<Json<Deleted>, ApiError> {
    let file = match ids::file(&id)? {
        FileId::Input(file) => file,
        FileId::Output(_) | FileId::Errors(_) => {
            let message = "results go with their batch, they are not deleted by themselves";
            return Err(ApiError::invalid(message));
        }
    };
    let stores = &gateway.stores;
    if !catalogue::forget::<FileRecord>(&stores.results, &tenant, file).await? {
        return Err(ApiError::unknown("file", &id));
    }
    // Whatever is left if this fails goes when files go.
    stores.media.unpin(BatchId(file)).await?;
    Ok(Json(Deleted {
        id,
        object: "file",
        deleted: true,
    }))
}
