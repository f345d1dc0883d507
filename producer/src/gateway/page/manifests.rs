//! How a result leads to its request: by its position, to a line of the batch's manifest.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapidary_schemas::batch::{ManifestItem, Shard};
use lapidary_schemas::{Batch, JobResult, MediaRef, Request};
use lapidary_transport::media::MediaError;
use lapidary_transport::{Media as _, Results as _};

use super::super::error::ApiError;
use super::super::limits::MANIFESTS_BYTES_MAX;
use crate::catalogue::{self, MendedRecord};
use crate::stores::Stores;

/// Whose a shard is, and which.
type Key = (String, MediaRef);

/// Shards that were read lately.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// The one used last comes last.
    kept: Mutex<VecDeque<(Key, Arc<Vec<u8>>)>>,
    /// One is read at a time: so what is in memory is bounded, and nothing is read twice.
    reading: tokio::sync::Mutex<()>,
}

impl Manifests {
    /// The requests of results of one batch, in order; none of what is not kept any more.
    pub(super) async fn requests(
        &self,
        stores: &Stores,
        batch: &Batch,
        results: &[JobResult],
    ) -> Result<Vec<Option<Request>>, ApiError> {
        let Some(first) = stores.results.shard(batch.id, 0).await? else {
            return Ok(vec![None; results.len()]);
        };
        let mut shards: BTreeMap<u64, Option<Arc<Vec<u8>>>> = BTreeMap::new();
        let mut requests = Vec::with_capacity(results.len());
        for result in results {
            // All shards but the last have the size of the first.
            let size = u64::from(first.items.max(1));
            let Some((shard, offset)) = result.item.map(|item| (item / size, item % size)) else {
                requests.push(None);
                continue;
            };
            let lines = match shards.entry(shard) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.lines(stores, batch, shard).await?),
            };
            let item = lines.as_ref().and_then(|lines| line(lines, offset));
            requests.push(request(stores, batch, result, item).await?);
        }
        Ok(requests)
    }

    /// The lines of a shard; none where they have gone.
    async fn lines(
        &self,
        stores: &Stores,
        batch: &Batch,
        index: u64,
    ) -> Result<Option<Arc<Vec<u8>>>, ApiError> {
        let Ok(index) = u32::try_from(index) else {
            return Ok(None);
        };
        let Some(Shard { lines: media, .. }) = stores.results.shard(batch.id, index).await? else {
            return Ok(None);
        };
        let key = (batch.tenant.clone(), media);
        if let Some(lines) = self.known(&key) {
            return Ok(Some(lines));
        }
        let _turn = self.reading.lock().await;
        if let Some(lines) = self.known(&key) {
            return Ok(Some(lines));
        }
        let lines = match stores.media.get(&key.0, &key.1).await {
            Err(MediaError::Missing { .. }) => return Ok(None),
            lines => Arc::new(lines?),
        };
        self.keep(key, Arc::clone(&lines));
        Ok(Some(lines))
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<(Key, Arc<Vec<u8>>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, key: &Key) -> Option<Arc<Vec<u8>>> {
        let mut kept = self.kept();
        let at = kept.iter().position(|(known, _)| known == key)?;
        let found = kept.remove(at)?;
        let lines = Arc::clone(&found.1);
        kept.push_back(found);
        Some(lines)
    }

    fn keep(&self, key: Key, lines: Arc<Vec<u8>>) {
        let mut kept = self.kept();
        kept.push_back((key, lines));
        let mut bytes: usize = kept.iter().map(|(_, lines)| lines.len()).sum();
        while bytes > MANIFESTS_BYTES_MAX {
            bytes -= kept.pop_front().map_or(bytes, |(_, lines)| lines.len());
        }
    }
}

/// The item at an offset.
fn line(lines: &[u8], offset: u64) -> Option<ManifestItem> {
    let line = lines
        .split(|byte| *byte == b'\n')
        .nth(usize::try_from(offset).ok()?)?;
    serde_json::from_slice(line).ok()
}

/// The item's request, unless that was mended when its job was brought back.
async fn request(
    stores: &Stores,
    batch: &Batch,
    result: &JobResult,
    item: Option<ManifestItem>,
) -> Result<Option<Request>, ApiError> {
    let tenant = &batch.tenant;
    let Some(item) = item else {
        return Ok(None);
    };
    if item.id == result.job_id {
        return Ok(Some(item.request));
    }
    let mended = catalogue::find::<MendedRecord>(&stores.results, tenant, result.job_id.0).await?;
    let Some(MendedRecord { request }) = mended else {
        return Ok(Some(item.request));
    };
    match stores.media.get(tenant, &request).await {
        Err(MediaError::Missing { .. }) => Ok(None),
        bytes => {
            let request = serde_json::from_slice(&bytes?);
            request.map(Some).map_err(|error| ApiError::fault(&error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: u64) -> Key {
        let sha256 = "0".repeat(64);
        ("t".to_owned(), MediaRef { sha256, bytes })
    }

    #[test]
    fn shards_are_kept_within_bounds_the_one_used_last_the_longest() {
        let manifests = Manifests::default();
        let third = Arc::new(vec![0; MANIFESTS_BYTES_MAX / 3]);
        for number in 0..3 {
            manifests.keep(key(number), Arc::clone(&third));
        }
        assert!(manifests.known(&key(0)).is_some());
        manifests.keep(key(3), third);
        assert!(manifests.known(&key(1)).is_none());
        assert!(manifests.known(&key(0)).is_some());
        manifests.keep(key(4), Arc::new(vec![0; MANIFESTS_BYTES_MAX + 1]));
        assert!(manifests.kept().is_empty());
    }

    #[test]
    fn a_line_is_found_by_its_offset() {
        let item = |name: &str| {
            format!(
                r#"{{"id":"01980000-0000-7000-8000-000000000000","custom_id":"{name}","request":{{"messages":[]}}}}"#
            )
        };
        let lines = format!("{}\n{}\n", item("a"), item("b"));
        let name = |offset| line(lines.as_bytes(), offset).map(|item| item.custom_id);
        assert_eq!(name(0).as_deref(), Some("a"));
        assert_eq!(name(1).as_deref(), Some("b"));
        assert_eq!((name(2), name(3)), (None, None));
    }
}
