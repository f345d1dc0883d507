//! The media store that a URL chose.

use chrono::{DateTime, Utc};
use lapidary_schemas::{BatchId, MediaRef};

use super::object_store::ObjectMedia;
use super::{Collected, Media, MediaError};

/// The media store that a URL chose.
#[derive(Debug, Clone)]
pub enum AnyMedia {
    /// A folder, its own or beside the embedded file.
    Objects(ObjectMedia),
}

impl Media for AnyMedia {
    async fn put(&self, tenant: &str, bytes: Vec<u8>) -> Result<MediaRef, MediaError> {
        let Self::Objects(media) = self;
        media.put(tenant, bytes).await
    }

    async fn get(&self, tenant: &str, media: &MediaRef) -> Result<Vec<u8>, MediaError> {
        let Self::Objects(store) = self;
        store.get(tenant, media).await
    }

    async fn pin(
        &self,
        tenant: &str,
        batch: BatchId,
        media: &[MediaRef],
    ) -> Result<(), MediaError> {
        let Self::Objects(store) = self;
        store.pin(tenant, batch, media).await
    }

    async fn unpin(&self, batch: BatchId) -> Result<(), MediaError> {
        let Self::Objects(store) = self;
        store.unpin(batch).await
    }

    async fn pinned(&self, after: Option<BatchId>, max: usize) -> Result<Vec<BatchId>, MediaError> {
        let Self::Objects(store) = self;
        store.pinned(after, max).await
    }

    async fn collect(&self, now: DateTime<Utc>) -> Result<Collected, MediaError> {
        let Self::Objects(store) = self;
        store.collect(now).await
    }
}
