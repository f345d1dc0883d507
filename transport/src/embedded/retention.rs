//! Forgetting what has been kept long enough, a little at a time.

use rusqlite::{Connection, OptionalExtension, params};

use super::error::StoreError;
use super::now_ms;

/// Rows removed in one transaction, so that nobody waits long for it.
const ROWS_MAX: i64 = 500;

/// Removes results whose retention has ended, of at most one batch.
pub(super) fn forget(db: &Connection) -> Result<(), StoreError> {
    let now = now_ms();
    let singles: Vec<(i64, [u8; 16])> = db
        .prepare_cached("SELECT n, job FROM result WHERE forget_ms <= ?1 LIMIT ?2")?
        .query_map([now, ROWS_MAX], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    forget_results(db, &singles)?;
    let batch: Option<i64> = db
        .prepare_cached("SELECT n FROM batch WHERE forget_ms <= ?1 LIMIT 1")?
        .query_row([now], |row| row.get(0))
        .optional()?;
    match batch {
        Some(batch) => forget_batch(db, batch),
        None => Ok(()),
    }
}

fn forget_batch(db: &Connection, batch: i64) -> Result<(), StoreError> {
    let results: Vec<(i64, [u8; 16])> = db
        .prepare_cached("SELECT n, job FROM result WHERE batch = ?1 LIMIT ?2")?
        .query_map([batch, ROWS_MAX], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    if !results.is_empty() {
        return forget_results(db, &results);
    }
    db.prepare_cached("DELETE FROM job WHERE batch = ?1")?
        .execute([batch])?;
    db.prepare_cached("DELETE FROM shard WHERE batch = ?1")?
        .execute([batch])?;
    db.prepare_cached("DELETE FROM batch WHERE n = ?1")?
        .execute([batch])?;
    Ok(())
}

fn forget_results(db: &Connection, results: &[(i64, [u8; 16])]) -> Result<(), StoreError> {
    let mut result = db.prepare_cached("DELETE FROM result WHERE n = ?1")?;
    let mut job = db.prepare_cached("DELETE FROM job WHERE id = ?1")?;
    for (n, id) in results {
        result.execute([n])?;
        job.execute(params![id])?;
    }
    Ok(())
}
