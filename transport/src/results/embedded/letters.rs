//! Dead letters.

use lapidary_schemas::JobId;
use rusqlite::{Connection, OptionalExtension, params};

use super::{decode, encode, limit, position};
use crate::embedded::StoreError;
use crate::results::DeadLetter;

/// Keeps a letter; one a job.
pub(super) fn store(db: &Connection, letter: &DeadLetter) -> Result<(), StoreError> {
    db.prepare_cached("INSERT OR REPLACE INTO dead_letter (job, body) VALUES (?1, ?2)")?
        .execute(params![
            letter.job_id.0.as_bytes(),
            encode("dead letter", letter)?
        ])?;
    Ok(())
}

pub(super) fn list(
    db: &Connection,
    cursor: &str,
    max: usize,
) -> Result<(Vec<DeadLetter>, String), StoreError> {
    let mut before = position(cursor, i64::MAX)?;
    let mut query =
        db.prepare_cached("SELECT n, body FROM dead_letter WHERE n < ?1 ORDER BY n DESC LIMIT ?2")?;
    let mut rows = query.query([before, limit(max)])?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        before = row.get(0)?;
        let body = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        letters.push(decode("dead letter", body)?);
    }
    let cursor = if letters.is_empty() {
        cursor.to_owned()
    } else {
        before.to_string()
    };
    Ok((letters, cursor))
}

pub(super) fn get(db: &Connection, job: JobId) -> Result<Option<DeadLetter>, StoreError> {
    let body: Option<String> = db
        .prepare_cached("SELECT body FROM dead_letter WHERE job = ?1")?
        .query_row([job.0.as_bytes()], |row| row.get(0))
        .optional()?;
    body.map(|body| decode("dead letter", &body)).transpose()
}

pub(super) fn take(db: &Connection, job: JobId) -> Result<Option<DeadLetter>, StoreError> {
    let letter = get(db, job)?;
    db.prepare_cached("DELETE FROM dead_letter WHERE job = ?1")?
        .execute([job.0.as_bytes()])?;
    Ok(letter)
}
