//! What a batch asks for, read back from its manifest.

use lapidary_schemas::batch::{ManifestItem, Shard};
use lapidary_transport::Media as _;

use super::error::ApiError;
use crate::config::Stores;

/// The items of a shard.
pub(super) async fn items(
    stores: &Stores,
    tenant: &str,
    shard: &Shard,
) -> Result<Vec<ManifestItem>, ApiError> {
    let lines = stores.media.get(tenant, &shard.lines).await?;
    let items = serde_json::Deserializer::from_slice(&lines).into_iter();
    items
        .collect::<Result<_, _>>()
        .map_err(|error| ApiError::fault(&error))
}
