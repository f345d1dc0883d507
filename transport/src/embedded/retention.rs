//! Forgetting what has been kept long enough, a little at a time.

use rusqlite::{Connection, OptionalExtension, params};

use super::error::StoreError;
use super::now_ms;

/// Rows removed in one transaction, so that nobody waits long for it.
const ROWS_MAX: i64 = 500;

/// Removes results whose retention has ended, of at most one batch, and records and parts of allowances
/// whose time is over.
pub(super) fn forget(db: &Connection) -> Result<(), StoreError> {
    let now = now_ms();
    let singles: Vec<(i64, [u8; 16])> = db
        .prepare_cached("SELECT n, job FROM result WHERE forget_ms <= ?1 LIMIT ?2")?
        .query_map([now, ROWS_MAX], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    forget_results(db, &singles)?;
    db.prepare_cached(
        "DELETE FROM record WHERE (collection, name) IN
           (SELECT collection, name FROM record WHERE expires_ms <= ?1 LIMIT ?2)",
    )?
    .execute([now, ROWS_MAX])?;
    db.prepare_cached(
        "DELETE FROM spent WHERE (allowance, slot) IN
           (SELECT allowance, slot FROM spent WHERE expires_ms <= ?1 LIMIT ?2)",
    )?
    .execute([now, ROWS_MAX])?;
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

#[cfg(test)]
mod tests {
    use lapidary_schemas::Class;
    use tempfile::TempDir;

    use super::*;
    use crate::conformance::samples::{batch, done, item, job, shard};
    use crate::embedded::EmbeddedFile;
    use crate::results::{EmbeddedResults, Results};

    #[tokio::test]
    async fn what_was_kept_long_enough_is_forgotten_and_nothing_else() {
        let folder = TempDir::new().unwrap();
        let file = EmbeddedFile::open(&folder.path().join("jobs.db"))
            .await
            .unwrap();
        let results = EmbeddedResults::new(&file);
        let (old, young) = (batch(), batch());
        for batch in [&old, &young] {
            results.open_batch(batch).await.unwrap();
            results.append_shard(batch.id, &shard(0, 2)).await.unwrap();
            results.seal_batch(batch.id).await.unwrap();
            let finished = [done(&item(batch, 0)), done(&item(batch, 1))];
            results.put_once(&finished).await.unwrap();
        }
        let (gone, kept) = (job("m", Class::Interactive), job("m", Class::Interactive));
        results.put_once(&[done(&gone), done(&kept)]).await.unwrap();
        let (batch_id, job_id) = (old.id, gone.id);
        file.write(move |db| {
            let id = batch_id.0.as_bytes();
            db.execute("UPDATE batch SET forget_ms = 1 WHERE id = ?1", params![id])?;
            let id = job_id.0.as_bytes();
            db.execute(
                "UPDATE result SET forget_ms = 1 WHERE job = ?1",
                params![id],
            )?;
            // Its results first, then the batch itself.
            forget(db)?;
            forget(db)
        })
        .await
        .unwrap();
        assert_eq!(results.batch(old.id).await.unwrap(), None);
        let states = results.get(&[gone.id, kept.id]).await.unwrap();
        assert!(states[0].is_none() && states[1].is_some(), "{states:?}");
        assert_eq!(
            results.tail(young.id, "", 10).await.unwrap().results.len(),
            2
        );
        let rows: i64 = file
            .read(|db| Ok(db.query_row("SELECT count(*) FROM job", [], |row| row.get(0))?))
            .await
            .unwrap();
        assert_eq!(rows, 3, "two items and a single job");
    }
}
