//! Putting questions on their way: each load is a small batch of its own, sealed at once, so that
//! work starts with the first documents and follow-up questions need not wait for a full shard.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lapidary_schemas::batch::{ManifestItem, Shard};
use lapidary_schemas::limits::ATTEMPTS_DEFAULT;
use lapidary_schemas::{Batch, BatchId, Class, MediaRef};
use lapidary_transport::failpoint::{self, Failpoint};
use lapidary_transport::{Media as _, Results as _, Traces};

use crate::exit::{Exit, Stop};
use crate::manifest;
use crate::stores::Stores;

/// Items of one load.
pub(super) const LOAD_ITEMS_MAX: usize = 250;
/// Seconds the store keeps what is written down in rows.
const RETENTION_S: u64 = 24 * 3600;
/// Time between two attempts.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Names a run in the metadata of its batches.
pub(super) const RUN: &str = "run";

/// What is the same for every load of a run.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) tenant: String,
    pub(super) model: String,
    pub(super) run: String,
    pub(super) traces: Traces,
}

/// Questions that travel together.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) items: Vec<ManifestItem>,
    pub(super) media: Vec<MediaRef>,
}

impl Sender {
    /// Makes a load durable and returns its batch. Waits while the stores cannot be reached, as
    /// long as `patience` says after each failure.
    pub(super) async fn ship(
        &self,
        place: &Stores,
        load: Load,
        now: DateTime<Utc>,
        mut patience: impl FnMut(&Stop) -> bool,
    ) -> Result<BatchId, Stop> {
        let batch = self.batch(now);
        let lines = manifest::lines(&load.items)
            .map_err(|error| Stop::new(Exit::Failed, error.to_string()))?;
        loop {
            match self.store(place, &batch, &load, lines.clone()).await {
                Ok(()) => {
                    self.traces.batch_submitted(&batch, None);
                    return Ok(batch.id);
                }
                Err(stop) if stop.transient && patience(&stop) => {
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    fn batch(&self, now: DateTime<Utc>) -> Batch {
        let id = BatchId::new(now);
        let place = self.traces.submission(id.0, None);
        Batch {
            id,
            tenant: self.tenant.clone(),
            model: self.model.clone(),
            class: Class::Bulk,
            attempts_max: ATTEMPTS_DEFAULT,
            created_at: now,
            deadline: None,
            retention_s: RETENTION_S,
            metadata: [(RUN.to_owned(), self.run.clone())].into(),
            traceparent: place.map(|place| place.to_string()),
        }
    }

    /// Every step may be done again.
    async fn store(
        &self,
        place: &Stores,
        batch: &Batch,
        load: &Load,
        lines: Vec<u8>,
    ) -> Result<(), Stop> {
        let manifest = place.media.put(&self.tenant, lines).await?;
        let mut pinned = load.media.clone();
        pinned.push(manifest.clone());
        place.media.pin(&self.tenant, batch.id, &pinned).await?;
        place.results.open_batch(batch).await?;
        failpoint::reached(Failpoint::Submitting);
        let items = u32::try_from(load.items.len()).unwrap_or(u32::MAX);
        let shard = Shard {
            index: 0,
            items,
            lines: manifest,
        };
        place.results.append_shard(batch.id, &shard).await?;
        place.results.seal_batch(batch.id).await?;
        failpoint::reached(Failpoint::Submitted);
        Ok(())
    }
}
