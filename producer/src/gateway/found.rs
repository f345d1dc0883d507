//! What a tenant has, by its id, and lists of it. What is another one's is not found.

use lapidary_schemas::{Batch, BatchId, Progress};
use lapidary_transport::Results as _;
use lapidary_transport::results::ResultsError;
use schemars::JsonSchema;
use serde::Serialize;
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

/// Something with an id, as clients see it.
pub(super) trait Object {
    /// The id.
    fn id(&self) -> &str;
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ListOf{T}")]
pub(super) struct List<T> {
    object: &'static str,
    data: Vec<T>,
    first_id: Option<String>,
    last_id: Option<String>,
    /// There are more behind the last one.
    has_more: bool,
}

impl<T: Object> List<T> {
    /// Of objects of which one more than `limit` may have been asked for.
    pub(super) fn of(mut objects: Vec<T>, limit: usize) -> Self {
        let has_more = objects.len() > limit;
        objects.truncate(limit);
        let id = |one: Option<&T>| one.map(|one| one.id().to_owned());
        Self {
            object: "list",
            first_id: id(objects.first()),
            last_id: id(objects.last()),
            has_more,
            data: objects,
        }
    }
}

/// Something that is no more.
#[derive(Debug, Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "they are OpenAI's")]
pub(super) struct Deleted {
    pub(super) id: String,
    pub(super) object: &'static str,
    pub(super) deleted: bool,
}
