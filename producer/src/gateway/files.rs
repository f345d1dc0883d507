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
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::access::{MayRead, MaySubmit};
use super::batch_object::Standing;
use super::body::{Id, Query};
use super::error::ApiError;
use super::ids::{self, FileId};
use super::limits::{LIST_ITEMS_DEFAULT, LIST_ITEMS_MAX};
use super::output::{self, Part};
use super::{Gateway, Shared, found, pieces};
use crate::catalogue::{self, FileRecord};

/// A file as clients see it.
#[derive(Debug, Serialize)]
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
            purpose: "batch",
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

/// The uploaded files, the newest first.
pub(super) async fn list(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    mut query: Query,
) -> Result<Json<Value>, ApiError> {
    let limit = query.limit(LIST_ITEMS_DEFAULT, LIST_ITEMS_MAX)?;
    let after = query.take("after").map(|id| ids::file(&id)).transpose()?;
    let purpose = query.take("purpose");
    if let Some(order) = query.take("order").filter(|order| order != "desc") {
        let message = format!("`order` is `{order}`, only `desc` is served");
        return Err(ApiError::parameter("order", message));
    }
    query.end()?;
    if purpose.is_some_and(|purpose| purpose != "batch") {
        return Ok(Json(found::page(&[] as &[FileObject], limit)));
    }
    let before = match after {
        Some(FileId::Input(id)) => Some(id),
        Some(other) => return Err(ApiError::unknown("file", &other.to_string())),
        None => None,
    };
    let results = &gateway.stores.results;
    let found = catalogue::list::<FileRecord>(results, &tenant, before, limit + 1).await?;
    let files: Vec<_> = found
        .iter()
        .map(|(id, record)| FileObject::input(*id, record))
        .collect();
    Ok(Json(found::page(&files, limit)))
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
pub(super) async fn content(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Id(id): Id,
) -> Result<Response, ApiError> {
    let kind = [(header::CONTENT_TYPE, "application/jsonl")];
    let (file, batch, part) = match ids::file(&id)? {
        FileId::Input(id) => {
            let record = found::file(&gateway, &tenant, id).await?;
            let bytes = pieces::read(&gateway.stores.media, &tenant, &record.pieces).await?;
            let length = [(header::CONTENT_LENGTH, record.bytes)];
            return Ok((kind, length, Body::from_stream(bytes)).into_response());
        }
        file @ FileId::Output(batch) => (file, batch, Part::Answers),
        file @ FileId::Errors(batch) => (file, batch, Part::Failures),
    };
    let (batch, _) = ended(&gateway, &tenant, file, batch).await?;
    let lines = output::lines(&gateway.stores, &batch, part);
    Ok((kind, Body::from_stream(lines)).into_response())
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
) -> Result<Json<Value>, ApiError> {
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
    Ok(Json(json!({ "id": id, "object": "file", "deleted": true })))
}
