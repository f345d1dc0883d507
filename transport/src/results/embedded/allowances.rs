//! What was taken of allowances.

use rusqlite::{Connection, params};

use crate::embedded::{StoreError, now_ms};
use crate::results::allowance::SLOTS;
use crate::results::{Allowance, Taken};

pub(super) fn take(db: &Connection, allowance: &Allowance, cost: u64) -> Result<Taken, StoreError> {
    let now_ms = now_ms();
    let now = u64::try_from(now_ms).unwrap_or(0);
    let slot = now / allowance.slot_ms();
    let oldest = number(slot.saturating_sub(SLOTS));
    db.prepare_cached("DELETE FROM spent WHERE allowance = ?1 AND slot < ?2")?
        .execute(params![allowance.name, oldest])?;
    let spent = spent(db, &allowance.name)?;
    let total: u64 = spent.iter().map(|(_, amount)| amount).sum();
    let allowed = total.saturating_add(cost) <= allowance.limit;
    if !allowed || cost == 0 {
        return Ok(allowance.taken(cost, allowed, &spent, now));
    }
    db.prepare_cached(
        "INSERT INTO spent (allowance, slot, amount, expires_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET amount = amount + ?3",
    )?
    .execute(params![
        allowance.name,
        number(slot),
        number(cost),
        now_ms.saturating_add(number(allowance.kept_ms()))
    ])?;
    let spent = self::spent(db, &allowance.name)?;
    Ok(allowance.taken(cost, true, &spent, now))
}

/// Slots of the window, and what was taken in each.
fn spent(db: &Connection, name: &str) -> Result<Vec<(u64, u64)>, StoreError> {
    let rows: Vec<(i64, i64)> = db
        .prepare_cached("SELECT slot, amount FROM spent WHERE allowance = ?1")?
        .query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let positive = |value: i64| u64::try_from(value).unwrap_or(0);
    let spent = rows.into_iter();
    Ok(spent
        .map(|(slot, amount)| (positive(slot), positive(amount)))
        .collect())
}

/// As the file has it.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
