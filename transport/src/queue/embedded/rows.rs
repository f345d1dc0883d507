//! The queue's rows, one statement a step.

use lapidary_schemas::{Class, JobId};
use rusqlite::{Connection, OptionalExtension, params};

use crate::embedded::{StoreError, millis, steady_ms};
use crate::queue::{Loan, QueueError, Receipt, Settle};

/// The claim on a message: of this session's loan with this number and of no later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoanId {
    pub(super) message: i64,
    pub(super) session: i64,
    pub(super) number: i64,
}

/// A message lent in this step.
pub(super) struct LentMessage {
    pub(super) loan: LoanId,
    pub(super) job: [u8; 16],
    pub(super) body: Vec<u8>,
}

pub(super) fn known_lane(
    db: &Connection,
    model: &str,
    class: Class,
) -> Result<Option<i64>, StoreError> {
    let lane = db
        .prepare_cached("SELECT id FROM lane WHERE model = ?1 AND class = ?2")?
        .query_row(params![model, class.as_str()], |row| row.get(0))
        .optional()?;
    Ok(lane)
}

pub(super) fn lane_id(db: &Connection, model: &str, class: Class) -> Result<i64, StoreError> {
    if let Some(lane) = known_lane(db, model, class)? {
        return Ok(lane);
    }
    let lane = db
        .prepare_cached("INSERT INTO lane (model, class) VALUES (?1, ?2) RETURNING id")?
        .query_row(params![model, class.as_str()], |row| row.get(0))?;
    Ok(lane)
}

pub(super) fn enqueue(
    db: &Connection,
    lane: i64,
    job: JobId,
    body: &[u8],
) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO message (lane, job, body) VALUES (?1, ?2, ?3)")?
        .execute(params![lane, job.0.as_bytes(), body])?;
    let message = db.last_insert_rowid();
    make_ready(db, lane, message)
}

fn make_ready(db: &Connection, lane: i64, message: i64) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO ready (lane, message) VALUES (?1, ?2)")?
        .execute([lane, message])?;
    Ok(())
}

/// Makes ready what has become due.
pub(super) fn promote(db: &Connection, lane: i64) -> Result<(), StoreError> {
    let now = steady_ms();
    let due = db
        .prepare_cached(
            "INSERT INTO ready (lane, message)
             SELECT lane, message FROM delayed WHERE lane = ?1 AND due_ms <= ?2",
        )?
        .execute([lane, now])?;
    if due > 0 {
        db.prepare_cached("DELETE FROM delayed WHERE lane = ?1 AND due_ms <= ?2")?
            .execute([lane, now])?;
    }
    Ok(())
}

/// Lends up to `max` ready messages, numbered from `first.number` on.
pub(super) fn take_ready(
    db: &Connection,
    lane: i64,
    max: i64,
    first: LoanId,
) -> Result<Vec<LentMessage>, StoreError> {
    let numbers: Vec<i64> = db
        .prepare_cached("SELECT message FROM ready WHERE lane = ?1 ORDER BY message LIMIT ?2")?
        .query_map([lane, max], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut unready = db.prepare_cached("DELETE FROM ready WHERE lane = ?1 AND message = ?2")?;
    let mut lend =
        db.prepare_cached("INSERT INTO loan (message, session, number) VALUES (?1, ?2, ?3)")?;
    let mut content = db.prepare_cached("SELECT job, body FROM message WHERE id = ?1")?;
    let mut messages = Vec::with_capacity(numbers.len());
    for (number, message) in (first.number..).zip(numbers) {
        unready.execute([lane, message])?;
        lend.execute([message, first.session, number])?;
        let (job, body) = content.query_row([message], |row| Ok((row.get(0)?, row.get(1)?)))?;
        messages.push(LentMessage {
            loan: LoanId {
                message,
                number,
                ..first
            },
            job,
            body,
        });
    }
    Ok(messages)
}

/// Ends a loan; answers the lane of its message, or `None` if the loan had ended before.
fn end_loan(db: &Connection, loan: LoanId) -> Result<Option<i64>, StoreError> {
    let ended = db
        .prepare_cached("DELETE FROM loan WHERE message = ?1 AND session = ?2 AND number = ?3")?
        .execute([loan.message, loan.session, loan.number])?;
    if ended == 0 {
        return Ok(None);
    }
    let lane = db
        .prepare_cached("SELECT lane FROM message WHERE id = ?1")?
        .query_row([loan.message], |row| row.get(0))?;
    Ok(Some(lane))
}

pub(super) fn hand_back(db: &Connection, loan: LoanId) -> Result<(), StoreError> {
    match end_loan(db, loan)? {
        Some(lane) => make_ready(db, lane, loan.message),
        None => Ok(()),
    }
}

pub(super) fn settle_one(
    db: &Connection,
    receipt: &Receipt,
    settle: &Settle,
) -> Result<Result<(), QueueError>, StoreError> {
    let Loan::Embedded(loan) = receipt.loan else {
        return Ok(Err(QueueError::Unusable {
            message: "the receipt is another queue's".to_owned(),
        }));
    };
    let Some(lane) = end_loan(db, loan)? else {
        return Ok(Err(QueueError::LoanEnded));
    };
    match settle {
        Settle::Done => remove(db, loan.message)?,
        Settle::Dead { reason } => {
            tracing::info!(message = loan.message, reason, "a job is dead");
            remove(db, loan.message)?;
        }
        Settle::Interrupted => make_ready(db, lane, loan.message)?,
        Settle::Retry { after } => {
            // One more millisecond: the clock's own fraction must not make it early.
            let due_ms = steady_ms().saturating_add(millis(*after)).saturating_add(1);
            db.prepare_cached("INSERT INTO delayed (lane, due_ms, message) VALUES (?1, ?2, ?3)")?
                .execute([lane, due_ms, loan.message])?;
        }
    }
    Ok(Ok(()))
}

fn remove(db: &Connection, message: i64) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM message WHERE id = ?1")?
        .execute([message])?;
    Ok(())
}
