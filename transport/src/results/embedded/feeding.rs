//! Where the feeder stands in a batch's manifest.

use std::collections::BTreeSet;

use lapidary_schemas::BatchId;
use rusqlite::{Connection, OptionalExtension, params};

use super::batches::{known_shard, opened, record, running};
use super::elections::is_current;
use crate::embedded::StoreError;
use crate::results::{FeedPosition, Lease};

/// Shard and item that are fed next, and the items fed so far.
fn fed(db: &Connection, n: i64) -> Result<(u32, u32, i64), StoreError> {
    let fed = db
        .prepare_cached("SELECT fed_shard, fed_offset, fed FROM batch WHERE n = ?1")?
        .query_row([n], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(fed)
}

pub(super) fn position(db: &Connection, id: BatchId) -> Result<FeedPosition, StoreError> {
    let row = opened(db, id)?;
    let batch = record(db, id)?.ok_or(StoreError::NoSuchBatch(id))?;
    let (index, offset, fed) = fed(db, row.n)?;
    let (shard, outstanding) = if row.cut_short() {
        (None, running(db, row.n)?)
    } else {
        (known_shard(db, row.n, index)?, fed - row.finished)
    };
    let outstanding = u64::try_from(outstanding).unwrap_or(0);
    Ok(FeedPosition {
        batch,
        shard,
        offset,
        outstanding,
        paused: row.paused,
    })
}

pub(super) fn mark(
    db: &Connection,
    lease: &Lease,
    position: &FeedPosition,
    items: u32,
) -> Result<(), StoreError> {
    let id = position.batch.id;
    if !is_current(db, lease)? {
        return Err(StoreError::Conflict(format!(
            "lease `{}` of `{}` has ended",
            lease.name, lease.holder
        )));
    }
    let Some(shard) = &position.shard else {
        return Err(StoreError::Conflict(format!(
            "batch {id} has no more items to feed"
        )));
    };
    let batch = opened(db, id)?;
    let (index, offset, _) = fed(db, batch.n)?;
    if (index, offset) != (shard.index, position.offset) {
        return Err(StoreError::Conflict(format!(
            "batch {id} is fed up to shard {index}, item {offset}, not shard {}, item {}",
            shard.index, position.offset
        )));
    }
    let size = known_shard(db, batch.n, index)?.map_or(0, |shard| shard.items);
    let behind = offset.saturating_add(items);
    if behind > size {
        return Err(StoreError::Conflict(format!(
            "batch {id} has {size} items in shard {index}, not {behind}"
        )));
    }
    let (index, offset) = if behind == size {
        (index + 1, 0)
    } else {
        (index, behind)
    };
    db.prepare_cached(
        "UPDATE batch SET fed_shard = ?2, fed_offset = ?3, fed = fed + ?4 WHERE n = ?1",
    )?
    .execute(params![batch.n, index, offset, items])?;
    Ok(())
}

pub(super) fn unfinished(db: &Connection, id: BatchId, shard: u32) -> Result<Vec<u32>, StoreError> {
    let batch = opened(db, id)?;
    let found: Option<(i64, u32)> = db
        .prepare_cached("SELECT first, items FROM shard WHERE batch = ?1 AND nth = ?2")?
        .query_row(params![batch.n, shard], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((first, items)) = found else {
        return Ok(Vec::new());
    };
    let (index, offset, _) = fed(db, batch.n)?;
    let fed = match shard.cmp(&index) {
        std::cmp::Ordering::Less => items,
        std::cmp::Ordering::Equal => offset,
        std::cmp::Ordering::Greater => 0,
    };
    let finished: BTreeSet<i64> = db
        .prepare_cached(
            "SELECT item FROM job
             WHERE batch = ?1 AND item >= ?2 AND item < ?3
               AND result IS NOT NULL AND replaced IS NULL",
        )?
        .query_map([batch.n, first, first + i64::from(fed)], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok((0..fed)
        .filter(|offset| !finished.contains(&(first + i64::from(*offset))))
        .collect())
}
