//! Results in the order of the file: as far as every item before them has one.

use lapidary_schemas::batch_line::OutputLine;
use lapidary_schemas::{Batch, Progress};
use lapidary_transport::Results as _;

use super::batch_object::has_ended;
use super::error::ApiError;
use super::results::ResultsPage;
use super::{manifest, output};
use crate::stores::Stores;

/// A page of results from the item `after` on; items of an ended batch that nobody began have a line
/// that says so.
pub(super) async fn page(
    stores: &Stores,
    batch: &Batch,
    counts: &Progress,
    after: &str,
    limit: usize,
) -> Result<ResultsPage, ApiError> {
    let mut next: u64 = match after {
        "" => 0,
        after => after.parse().map_err(|_| {
            let message = format!("`{after}` is no cursor of results in input order");
            ApiError::parameter("after", message)
        })?,
    };
    let lines = lines(stores, batch, counts, next, limit).await?;
    next = next.saturating_add(lines.len() as u64);
    Ok(ResultsPage {
        object: "list",
        data: lines,
        after: next.to_string(),
        has_more: next < counts.total || !has_ended(counts),
    })
}

/// The lines from an item on, all of one shard.
async fn lines(
    stores: &Stores,
    batch: &Batch,
    counts: &Progress,
    from: u64,
    limit: usize,
) -> Result<Vec<OutputLine>, ApiError> {
    let results = &stores.results;
    let Some(first) = results.shard(batch.id, 0).await? else {
        return Ok(Vec::new());
    };
    // All shards but the last have the size of the first.
    let size = u64::from(first.items.max(1));
    let (index, offset) = (u32::try_from(from / size), usize::try_from(from % size));
    let (Ok(index), Ok(offset)) = (index, offset) else {
        return Ok(Vec::new());
    };
    let Some(shard) = results.shard(batch.id, index).await? else {
        return Ok(Vec::new());
    };
    let items = manifest::items(stores, &batch.tenant, &shard).await?;
    let asked: Vec<_> = items.iter().skip(offset).take(limit).collect();
    let named: Vec<_> = (from..)
        .zip(&asked)
        .map(|(item, one)| (item, one.id))
        .collect();
    let found = results.results_of(batch.id, &named).await?;
    let unbegun = output::reason(counts).filter(|_| has_ended(counts));
    let line = |(item, result): (&&_, Option<_>)| match (result, unbegun) {
        (Some(result), _) => Some(OutputLine::from(&result)),
        (None, Some((code, message))) => Some(output::unbegun(item, code, message)),
        (None, None) => None,
    };
    Ok(asked.iter().zip(found).map_while(line).collect())
}
