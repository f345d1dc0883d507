//! What a tenant has, by its id, and lists of it. What is another one's is not found.

use lapidary_schemas::{Batch, BatchId, Progress};
use lapidary_transport::Results as _;
use lapidary_transport::results::ResultsError;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Gateway;
use super::error::ApiError;
use super::ids::{self, FileId};
use crate::catalogue::{self, BatchRecord, FileRecord};

/// A batch: itself, what else is known of it, and how far it is.
pub(super) type FoundBatch = (Batch, BatchRecord, Progress);

/// An uploaded file of the tenant.
pub(super) async fn file(
    gateway: &Gateway,
    tenant: &str,
    id: Uuid,
) -> Result<FileRecord, ApiError> {
    let found = catalogue::find(&gateway.stores.results, tenant, id).await?;
    found.ok_or_else(|| ApiError::unknown("file", &FileId::Input(id).to_string()))
}

/// A batch of the tenant, if it has this one.
pub(super) async fn batch(
    gateway: &Gateway,
    tenant: &str,
    id: BatchId,
) -> Result<Option<FoundBatch>, ApiError> {
    let results = &gateway.stores.results;
    let Some(batch) = results.batch(id).await? else {
        return Ok(None);
    };
    if batch.tenant != tenant {
        return Ok(None);
    }
    let record = catalogue::find(results, tenant, id.0)
        .await?
        .unwrap_or_default();
    match results.progress(id).await {
        Ok(counts) => Ok(Some((batch, record, counts))),
        // Forgotten in this very moment.
        Err(ResultsError::NoSuchBatch { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The batch that a client names.
pub(super) async fn named_batch(
    gateway: &Gateway,
    tenant: &str,
    written: &str,
) -> Result<FoundBatch, ApiError> {
    let found = batch(gateway, tenant, ids::batch(written)?).await?;
    found.ok_or_else(|| ApiError::unknown("batch", written))
}

/// A page of a list of objects, of which one more than `limit` may have been asked for.
pub(super) fn page<T: Serialize>(objects: &[T], limit: usize) -> Value {
    let shown: Vec<Value> = objects.iter().take(limit).map(|one| json!(one)).collect();
    let id = |one: Option<&Value>| one.and_then(|one| one.get("id").cloned());
    json!({
        "object": "list",
        "first_id": id(shown.first()),
        "last_id": id(shown.last()),
        "has_more": objects.len() > limit,
        "data": shown,
    })
}
