//! Sessions: what stands in for a connection. A loan lasts as long as the session it was lent to.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, params};

use super::error::StoreError;
use super::{millis, steady_ms};

/// The sessions of this process.
pub(super) struct Sessions {
    /// How long a session outlives its last renewal.
    ttl: Duration,
    open: Mutex<BTreeSet<i64>>,
}

impl Sessions {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            open: Mutex::default(),
        }
    }

    /// Five renewals a lifetime, so that four may be late.
    pub(super) fn renew_every(&self) -> Duration {
        self.ttl / 5
    }

    fn list(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session and answers its number, which is never used again.
    pub(super) fn begin(&self, db: &Connection) -> Result<i64, StoreError> {
        let id = db
            .prepare_cached("INSERT INTO session (expires_ms) VALUES (?1) RETURNING id")?
            .query_row([steady_ms() + millis(self.ttl)], |row| row.get(0))?;
        self.list().insert(id);
        Ok(id)
    }

    /// Ends a session; its loans come back.
    pub(super) fn end(&self, db: &Connection, id: i64) -> Result<(), StoreError> {
        self.list().remove(&id);
        give_back(db, id)
    }

    /// Lets every session run out, as a killed process does.
    #[cfg(any(test, feature = "conformance"))]
    pub(super) fn forget(&self) {
        self.list().clear();
    }

    /// Renews this process's sessions and ends those of processes that are gone.
    pub(super) fn renew(&self, db: &Connection) -> Result<(), StoreError> {
        let now = steady_ms();
        // An upsert: after a long suspension others may have ended ours. Its loans are lost, as
        // every receipt will say, but it can lend again.
        let mut renew = db.prepare_cached(
            "INSERT INTO session (id, expires_ms) VALUES (?1, ?2)
             ON CONFLICT (id) DO UPDATE SET expires_ms = excluded.expires_ms",
        )?;
        for id in self.list().iter() {
            renew.execute(params![id, now + millis(self.ttl)])?;
        }
        let gone: Vec<i64> = db
            .prepare_cached("SELECT id FROM session WHERE expires_ms <= ?1")?
            .query_map([now], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for id in gone {
            tracing::info!(
                session = id,
                "a queue session ended without goodbye; its jobs are back"
            );
            give_back(db, id)?;
        }
        Ok(())
    }
}

fn give_back(db: &Connection, session: i64) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO ready (lane, message)
         SELECT message.lane, message.id FROM loan JOIN message ON message.id = loan.message
         WHERE loan.session = ?1",
    )?
    .execute([session])?;
    db.prepare_cached("DELETE FROM loan WHERE session = ?1")?
        .execute([session])?;
    db.prepare_cached("DELETE FROM session WHERE id = ?1")?
        .execute([session])?;
    Ok(())
}
