//! The queue in the embedded file.
//!
//! A message is a row of `message` and, by its state, of one of three narrow tables: `ready` in order
//! of publication, `delayed` by the moment it is due, `loan` by the session it is lent to. Settling
//! removes it. A message that comes back keeps its number and so its place at the head.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use lapidary_schemas::limits::{CALL_ITEMS_MAX, QUEUE_MESSAGE_BYTES_MAX};
use lapidary_schemas::{Class, Job, JobId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Delivery, Lane, Loan, Queue, QueueError, Receipt, Settle, Undecodable};
use crate::embedded::{EmbeddedFile, Errands, StoreError, millis, now_ms};

/// Longest wait for a delayed message without looking at the clock again, which may be set.
const CLOCK_LOOK_EVERY: Duration = Duration::from_secs(1);

/// The claim on a message: of this session's loan with this number and of no later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoanId {
    message: i64,
    session: i64,
    number: i64,
}

/// The queue in the embedded file. Dropping it ends its session: what it was lent comes back.
#[derive(Debug)]
pub struct EmbeddedQueue {
    file: EmbeddedFile,
    session: i64,
    loans: AtomicI64,
}

/// What a lane holds that could be lent.
enum Supply {
    Ready,
    DueIn(Duration),
    None,
}

impl EmbeddedQueue {
    /// The queue of an open file.
    pub async fn open(file: &EmbeddedFile) -> Result<Self, QueueError> {
        let session = file
            .begin_session()
            .await
            .map_err(|error| error.into_queue(file.url()))?;
        Ok(Self {
            file: file.clone(),
            session,
            loans: AtomicI64::new(0),
        })
    }

    /// Opens or makes the file at `path` and its queue.
    pub async fn open_path(path: &Path) -> Result<Self, QueueError> {
        let url = format!("file:{}", path.display());
        let file = EmbeddedFile::open(path)
            .await
            .map_err(|error| error.into_queue(&url))?;
        Self::open(&file).await
    }

    /// Puts bytes that are no job on a lane, as a faulty program would.
    #[cfg(any(test, feature = "conformance"))]
    pub async fn inject(&self, lane: &Lane, job: JobId, body: Vec<u8>) -> Result<(), QueueError> {
        let Lane::Jobs { model, class } = lane.clone() else {
            return Ok(());
        };
        self.write(move |db| {
            let lane = lane_id(db, &model, class)?;
            enqueue(db, lane, job, &body)
        })
        .await
    }

    /// Behaves from now on as if the process had been killed.
    #[cfg(any(test, feature = "conformance"))]
    pub fn abandon(&self) {
        self.file.abandon();
    }

    async fn write<T, F>(&self, work: F) -> Result<T, QueueError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.file
            .write(work)
            .await
            .map_err(|error| error.into_queue(self.file.url()))
    }

    async fn read<T, F>(&self, work: F) -> Result<T, QueueError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.file
            .read(work)
            .await
            .map_err(|error| error.into_queue(self.file.url()))
    }

    async fn lend(&self, model: &str, class: Class, max: usize) -> Result<Lent, QueueError> {
        let model = model.to_owned();
        let session = self.session;
        let max = i64::try_from(max.min(CALL_ITEMS_MAX)).unwrap_or(i64::MAX);
        let first = self.loans.fetch_add(max, Ordering::Relaxed);
        let errands = self.file.errands();
        self.write(move |db| {
            let Some(lane) = known_lane(db, &model, class)? else {
                return Ok(Lent {
                    messages: Vec::new(),
                    errands,
                });
            };
            promote(db, lane)?;
            let messages = take_ready(
                db,
                lane,
                max,
                LoanId {
                    message: 0,
                    session,
                    number: first,
                },
            )?;
            Ok(Lent { messages, errands })
        })
        .await
    }

    async fn supply(&self, model: &str, class: Class) -> Result<Supply, QueueError> {
        let model = model.to_owned();
        self.read(move |db| {
            let Some(lane) = known_lane(db, &model, class)? else {
                return Ok(Supply::None);
            };
            let ready = db
                .prepare_cached("SELECT 1 FROM ready WHERE lane = ?1 LIMIT 1")?
                .exists([lane])?;
            if ready {
                return Ok(Supply::Ready);
            }
            let due_ms: Option<i64> = db
                .prepare_cached("SELECT min(due_ms) FROM delayed WHERE lane = ?1")?
                .query_row([lane], |row| row.get(0))?;
            Ok(match due_ms.map(|due_ms| due_ms.saturating_sub(now_ms())) {
                None => Supply::None,
                Some(left) => u64::try_from(left)
                    .ok()
                    .filter(|left| *left > 0)
                    .map_or(Supply::Ready, |left| {
                        Supply::DueIn(Duration::from_millis(left))
                    }),
            })
        })
        .await
    }
}

impl Drop for EmbeddedQueue {
    fn drop(&mut self) {
        self.file.end_session(self.session);
    }
}

impl Queue for EmbeddedQueue {
    async fn publish(&self, jobs: &[Job]) -> Result<(), QueueError> {
        let messages = jobs.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        if messages.is_empty() {
            return Ok(());
        }
        self.write(move |db| {
            for Message {
                model,
                class,
                job,
                body,
            } in &messages
            {
                let lane = lane_id(db, model, *class)?;
                enqueue(db, lane, *job, body)?;
            }
            Ok(())
        })
        .await
    }

    async fn receive(&self, lane: &Lane, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let Lane::Jobs { model, class } = lane else {
            // This queue gives up on nothing, so nothing will ever come.
            return std::future::pending().await;
        };
        if max == 0 {
            return Ok(Vec::new());
        }
        let mut commits = self.file.commits();
        loop {
            commits.mark_unchanged();
            let wait_max = match self.supply(model, *class).await? {
                Supply::Ready => {
                    let lent = self.lend(model, *class, max).await?;
                    if lent.messages.is_empty() {
                        continue;
                    }
                    return Ok(lent.into_deliveries());
                }
                Supply::DueIn(left) => left.min(CLOCK_LOOK_EVERY),
                Supply::None => Duration::MAX,
            };
            // Both endings lead to another look.
            let _ended = tokio::time::timeout(wait_max, commits.changed()).await;
        }
    }

    async fn settle(&self, settled: Vec<(Receipt, Settle)>) -> Vec<Result<(), QueueError>> {
        let count = settled.len();
        let outcome = self
            .write(move |db| {
                settled
                    .into_iter()
                    .map(|(receipt, settle)| settle_one(db, &receipt, &settle))
                    .collect()
            })
            .await;
        match outcome {
            Ok(ended) => ended,
            Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
        }
    }

    async fn depth(&self, lane: &Lane) -> Result<u64, QueueError> {
        let Lane::Jobs { model, class } = lane.clone() else {
            return Ok(0);
        };
        self.read(move |db| {
            let Some(lane) = known_lane(db, &model, class)? else {
                return Ok(0);
            };
            let waiting: i64 = db
                .prepare_cached(
                    "SELECT (SELECT count(*) FROM ready WHERE lane = ?1)
                          + (SELECT count(*) FROM delayed WHERE lane = ?1)",
                )?
                .query_row([lane], |row| row.get(0))?;
            Ok(u64::try_from(waiting).unwrap_or(0))
        })
        .await
    }
}

/// A job as it goes into the file.
struct Message {
    model: String,
    class: Class,
    job: JobId,
    body: Vec<u8>,
}

fn encode(job: &Job) -> Result<Message, QueueError> {
    let body = serde_json::to_vec(job).map_err(|error| QueueError::Unusable {
        message: format!("job {}: {error}", job.id),
    })?;
    if body.len() > QUEUE_MESSAGE_BYTES_MAX {
        return Err(QueueError::TooLarge {
            job_id: job.id,
            bytes: body.len(),
            limit: QUEUE_MESSAGE_BYTES_MAX,
        });
    }
    Ok(Message {
        model: job.model.clone(),
        class: job.class,
        job: job.id,
        body,
    })
}

fn known_lane(db: &Connection, model: &str, class: Class) -> Result<Option<i64>, StoreError> {
    let lane = db
        .prepare_cached("SELECT id FROM lane WHERE model = ?1 AND class = ?2")?
        .query_row(params![model, class.as_str()], |row| row.get(0))
        .optional()?;
    Ok(lane)
}

fn lane_id(db: &Connection, model: &str, class: Class) -> Result<i64, StoreError> {
    if let Some(lane) = known_lane(db, model, class)? {
        return Ok(lane);
    }
    let lane = db
        .prepare_cached("INSERT INTO lane (model, class) VALUES (?1, ?2) RETURNING id")?
        .query_row(params![model, class.as_str()], |row| row.get(0))?;
    Ok(lane)
}

fn enqueue(db: &Connection, lane: i64, job: JobId, body: &[u8]) -> Result<(), StoreError> {
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
fn promote(db: &Connection, lane: i64) -> Result<(), StoreError> {
    let now = now_ms();
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
fn take_ready(
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
    let mut lent = Vec::with_capacity(numbers.len());
    for (number, message) in (first.number..).zip(numbers) {
        unready.execute([lane, message])?;
        lend.execute([message, first.session, number])?;
        let (job, body) = content.query_row([message], |row| Ok((row.get(0)?, row.get(1)?)))?;
        lent.push(LentMessage {
            loan: LoanId {
                message,
                number,
                ..first
            },
            job,
            body,
        });
    }
    Ok(lent)
}

/// Messages lent and not yet handed over; those left when it is dropped go back at once.
struct Lent {
    messages: Vec<LentMessage>,
    errands: Errands,
}

struct LentMessage {
    loan: LoanId,
    job: [u8; 16],
    body: Vec<u8>,
}

impl Lent {
    fn into_deliveries(mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.messages)
            .into_iter()
            .map(LentMessage::into_delivery)
            .collect()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let loans: Vec<LoanId> = self.messages.iter().map(|message| message.loan).collect();
        if !loans.is_empty() {
            self.errands.leave(move |db| {
                for loan in loans {
                    hand_back(db, loan)?;
                }
                Ok(())
            });
        }
    }
}

impl LentMessage {
    fn into_delivery(self) -> Delivery {
        let body = serde_json::from_slice(&self.body).map_err(|error| Undecodable {
            job_id: Some(JobId(uuid::Uuid::from_bytes(self.job))),
            message: format!("message is not a job: {error}"),
            body: self.body,
        });
        Delivery {
            body,
            receipt: Receipt {
                loan: Loan::Embedded(self.loan),
            },
        }
    }
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

fn hand_back(db: &Connection, loan: LoanId) -> Result<(), StoreError> {
    match end_loan(db, loan)? {
        Some(lane) => make_ready(db, lane, loan.message),
        None => Ok(()),
    }
}

fn settle_one(
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
            let due_ms = now_ms().saturating_add(millis(*after)).saturating_add(1);
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
