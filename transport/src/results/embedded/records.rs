//! Records that producers keep.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::limit;
use crate::embedded::{StoreError, millis, now_ms};
use crate::results::Record;

pub(super) fn put(
    db: &Connection,
    collection: &str,
    record: &Record,
    ttl: Option<Duration>,
) -> Result<(), StoreError> {
    let expires_ms = ttl.map(|ttl| now_ms().saturating_add(millis(ttl)));
    db.prepare_cached(
        "INSERT OR REPLACE INTO record (collection, name, body, expires_ms) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![collection, record.name, record.body, expires_ms])?;
    Ok(())
}

/// Keeps a record unless there is one of its name, and answers what that one says.
pub(super) fn add(
    db: &Connection,
    collection: &str,
    record: &Record,
    ttl: Option<Duration>,
) -> Result<Option<String>, StoreError> {
    let there = get(db, collection, &record.name)?;
    if there.is_none() {
        put(db, collection, record, ttl)?;
    }
    Ok(there)
}

pub(super) fn get(
    db: &Connection,
    collection: &str,
    name: &str,
) -> Result<Option<String>, StoreError> {
    let body = db
        .prepare_cached(
            "SELECT body FROM record WHERE collection = ?1 AND name = ?2
               AND (expires_ms IS NULL OR expires_ms > ?3)",
        )?
        .query_row(params![collection, name, now_ms()], |row| row.get(0))
        .optional()?;
    Ok(body)
}

pub(super) fn list(
    db: &Connection,
    collection: &str,
    before: &str,
    max: usize,
) -> Result<Vec<Record>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT name, body FROM record WHERE collection = ?1 AND (?2 = '' OR name < ?2)
           AND (expires_ms IS NULL OR expires_ms > ?3)
         ORDER BY name DESC LIMIT ?4",
    )?;
    let records = query
        .query_map(params![collection, before, now_ms(), limit(max)], |row| {
            Ok(Record {
                name: row.get(0)?,
                body: row.get(1)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(records)
}

pub(super) fn remove(db: &Connection, collection: &str, name: &str) -> Result<bool, StoreError> {
    let there = get(db, collection, name)?.is_some();
    db.prepare_cached("DELETE FROM record WHERE collection = ?1 AND name = ?2")?
        .execute([collection, name])?;
    Ok(there)
}
