//! Time that no clock moves: milliseconds since this machine started, the same for all its processes.

use rusqlite::{Connection, OptionalExtension};
use rustix::time::{ClockId, clock_gettime};

use super::error::StoreError;

/// Where the kernel says which start this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Milliseconds since this machine started, those that it slept included.
pub(crate) fn steady_ms() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}

/// Ends what counts from an earlier start of the machine: sessions, announcements, elections and delays.
pub(super) fn begin(db: &Connection) -> Result<(), StoreError> {
    let boot = std::fs::read_to_string(BOOT_ID);
    let boot = boot.map_err(|error| {
        StoreError::Unusable(format!(
            "{BOOT_ID} does not tell when this machine started: {error}"
        ))
    })?;
    let known: Option<String> = db
        .prepare("SELECT id FROM boot")?
        .query_row([], |row| row.get(0))
        .optional()?;
    if known.as_deref() == Some(boot.trim()) {
        return Ok(());
    }
    db.execute_batch(
        "INSERT INTO ready (lane, message)
         SELECT message.lane, message.id FROM loan JOIN message ON message.id = loan.message;
         DELETE FROM loan;
         DELETE FROM session;
         UPDATE delayed SET due_ms = 0;
         DELETE FROM worker;
         UPDATE lease SET expires_ms = 0;
         DELETE FROM boot;",
    )?;
    db.execute("INSERT INTO boot (id) VALUES (?1)", [boot.trim()])?;
    Ok(())
}
