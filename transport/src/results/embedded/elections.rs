//! Workers that live, and elections with fencing tokens.

use std::time::Duration;

use lapidary_schemas::WorkerInfo;
use rusqlite::{Connection, OptionalExtension, params};

use super::{decode, encode};
use crate::embedded::{StoreError, millis, steady_ms};
use crate::results::Lease;

pub(super) fn announce(
    db: &Connection,
    worker: &WorkerInfo,
    ttl: Duration,
) -> Result<(), StoreError> {
    let now = steady_ms();
    db.prepare_cached("DELETE FROM worker WHERE expires_ms <= ?1")?
        .execute([now])?;
    db.prepare_cached("INSERT OR REPLACE INTO worker (id, expires_ms, body) VALUES (?1, ?2, ?3)")?
        .execute(params![
            worker.id,
            now.saturating_add(millis(ttl)),
            encode("worker", worker)?
        ])?;
    Ok(())
}

pub(super) fn retire(db: &Connection, worker: &str) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM worker WHERE id = ?1")?
        .execute([worker])?;
    Ok(())
}

pub(super) fn workers(db: &Connection) -> Result<Vec<WorkerInfo>, StoreError> {
    let mut query =
        db.prepare_cached("SELECT body FROM worker WHERE expires_ms > ?1 ORDER BY id")?;
    let bodies: Vec<String> = query
        .query_map([steady_ms()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    bodies.iter().map(|body| decode("worker", body)).collect()
}

pub(super) fn lease(
    db: &Connection,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<Option<Lease>, StoreError> {
    let now = steady_ms();
    let held: Option<(String, i64, i64)> = db
        .prepare_cached("SELECT holder, token, expires_ms FROM lease WHERE name = ?1")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let token = match held {
        None => 1,
        Some((_, token, expires_ms)) if expires_ms <= now => token + 1,
        Some((by, token, _)) if by == holder => token,
        Some(_) => return Ok(None),
    };
    db.prepare_cached(
        "INSERT OR REPLACE INTO lease (name, holder, token, expires_ms) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![
        name,
        holder,
        token,
        now.saturating_add(millis(ttl))
    ])?;
    let token = u64::try_from(token).unwrap_or(0);
    Ok(Some(Lease {
        name: name.to_owned(),
        holder: holder.to_owned(),
        token,
    }))
}

/// Whether no newer election was won.
pub(super) fn is_current(db: &Connection, lease: &Lease) -> Result<bool, StoreError> {
    let token: Option<i64> = db
        .prepare_cached("SELECT token FROM lease WHERE name = ?1 AND holder = ?2")?
        .query_row([&lease.name, &lease.holder], |row| row.get(0))
        .optional()?;
    Ok(token.is_some_and(|token| u64::try_from(token) == Ok(lease.token)))
}

/// Gives an election up; the row stays, so that the next token is a higher one.
pub(super) fn release(db: &Connection, lease: &Lease) -> Result<(), StoreError> {
    if is_current(db, lease)? {
        db.prepare_cached("UPDATE lease SET expires_ms = 0 WHERE name = ?1")?
            .execute([&lease.name])?;
    }
    Ok(())
}
