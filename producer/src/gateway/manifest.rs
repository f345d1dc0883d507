//! What a batch asks for, read back from its manifest.

use lapidary_schemas::batch::{ManifestItem, Shard};
use lapidary_transport::Media as _;

use super::error::ApiError;
use crate::manifest;
use crate::stores::Stores;

/// The items of a shard.
pub(super) async fn items(
    stores: &Stores,
    tenant: &str,
    shard: &Shard,
) -> Result<Vec<ManifestItem>, ApiError> {
    let lines = stores.media.get(tenant, &shard.lines).await?;
    manifest::items(&lines).map_err(|error| ApiError::fault(&error))
}
