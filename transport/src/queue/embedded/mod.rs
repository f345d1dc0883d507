//! The queue in the embedded file.
//!
//! A message is a row of `message` and, by its state, of one of three narrow tables: `ready` in order
//! of publication, `delayed` by the moment it is due, `loan` by the session it is lent to. Settling
//! removes it. A message that comes back keeps its number and so its place at the head.

#[cfg(test)]
mod model;
mod rows;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use lapidary_schemas::limits::{CALL_ITEMS_MAX, QUEUE_MESSAGE_BYTES_MAX};
use lapidary_schemas::{Class, Job, JobId};
use rusqlite::Connection;

pub(crate) use self::rows::LoanId;
use self::rows::{
    LentMessage, enqueue, hand_back, known_lane, lane_id, promote, settle_one, take_ready,
};
use super::{Delivery, Lane, Loan, Queue, QueueError, Receipt, Settle, Undecodable};
use crate::embedded::{EmbeddedFile, Errands, StoreError, steady_ms};

/// Longest wait for a delayed message without looking at the clock again, which may be set.
const CLOCK_LOOK_EVERY: Duration = Duration::from_secs(1);

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
            Ok(
                match due_ms.map(|due_ms| due_ms.saturating_sub(steady_ms())) {
                    None => Supply::None,
                    Some(left) => u64::try_from(left)
                        .ok()
                        .filter(|left| *left > 0)
                        .map_or(Supply::Ready, |left| {
                            Supply::DueIn(Duration::from_millis(left))
                        }),
                },
            )
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

/// Messages lent and not yet handed over; those left when it is dropped go back at once.
struct Lent {
    messages: Vec<LentMessage>,
    errands: Errands,
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
