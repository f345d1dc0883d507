//! Where manifests and large media rest: content-addressed bytes, a tenant apart from another.

mod any;

pub mod object_store;

use std::future::Future;

use chrono::TimeDelta;
use lapidary_schemas::{BatchId, MediaRef};

pub use any::AnyMedia;

/// How long what nobody pins is kept, counted from when it was stored last.
pub const UNPINNED_KEPT: TimeDelta = TimeDelta::hours(24);

/// Why the media store did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The store cannot be reached: try again later.
    #[error("media store is unreachable: {message}")]
    Unreachable {
        /// What happened.
        message: String,
    },
    /// No such bytes for this tenant.
    #[error("media {sha256} is not in the store")]
    Missing {
        /// The content's name.
        sha256: String,
    },
    /// What is stored is not what its name says.
    #[error("media {sha256} is damaged: its content has another hash")]
    Damaged {
        /// The content's name.
        sha256: String,
    },
    /// Over the limit.
    #[error("media of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The storage has no room.
    #[error("no room to store media: {message}")]
    StorageFull {
        /// What the storage said.
        message: String,
    },
    /// Set up in a way that cannot work.
    #[error("media store cannot be used: {message}")]
    Unusable {
        /// What is wrong and what to do.
        message: String,
    },
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Objects removed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Content-addressed bytes.
pub trait Media: Send + Sync {
    /// Stores bytes durably and names them; storing them again renews their age.
    fn put(
        &self,
        tenant: &str,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<MediaRef, MediaError>> + Send;

    /// The bytes, verified against their name. A tenant sees only what it stored.
    fn get(
        &self,
        tenant: &str,
        media: &MediaRef,
    ) -> impl Future<Output = Result<Vec<u8>, MediaError>> + Send;

    /// Keeps these until the batch is unpinned. Adds to what the batch pins already.
    fn pin(
        &self,
        tenant: &str,
        batch: BatchId,
        media: &[MediaRef],
    ) -> impl Future<Output = Result<(), MediaError>> + Send;

    /// Ends a batch's pins.
    fn unpin(&self, batch: BatchId) -> impl Future<Output = Result<(), MediaError>> + Send;

    /// Batches that pin something, in the order of their ids, behind `after` if given, at most
    /// `max`.
    fn pinned(
        &self,
        after: Option<BatchId>,
        max: usize,
    ) -> impl Future<Output = Result<Vec<BatchId>, MediaError>> + Send;

    /// Removes what no batch pins and what was last stored longer than [`UNPINNED_KEPT`] before `now`.
    fn collect(
        &self,
        now: chrono::DateTime<chrono::Utc>,
    ) -> impl Future<Output = Result<Collected, MediaError>> + Send;
}
