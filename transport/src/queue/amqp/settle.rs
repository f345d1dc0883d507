//! Ending loans: what shall come back is published first and acknowledged second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures::future::join_all;
use lapidary_schemas::JobId;
use lapin::message::Delivery as Message;
use lapin::options::{BasicAckOptions, BasicNackOptions};

use super::link::Link;
use super::message::{self, Outgoing};
use super::names::{DEAD, RUNGS, Rung};
use super::publish::{Patience, publish};
use crate::queue::{Delivery, Loan, QueueError, Receipt, Settle};

/// Longest time an acknowledgement may take to be on its way. It takes microseconds, except in the
/// moment in which its connection ends: lapin 4.12 may then leave it in a channel that nobody reads
/// any more, and whoever waits for its answer would wait for ever.
const END_MAX: Duration = Duration::from_secs(2);

/// A message lent to this process.
#[derive(Debug)]
pub(crate) struct AmqpLoan {
    message: Message,
    queue: String,
    message_id: Option<JobId>,
    lent: Arc<AtomicUsize>,
}

impl AmqpLoan {
    pub(super) fn new(message: Message, queue: String, lent: Arc<AtomicUsize>) -> Self {
        let message_id = message::message_id(&message.properties);
        Self {
            message,
            queue,
            message_id,
            lent,
        }
    }

    pub(super) fn into_delivery(self) -> Delivery {
        let body = message::decode(&self.message.data, self.message_id);
        Delivery {
            body,
            receipt: Receipt {
                loan: Loan::Amqp(Box::new(self)),
            },
        }
    }

    /// What must be on the broker before this loan may end.
    fn successor(&self, settle: &Settle) -> Option<Outgoing> {
        let traceparent = message::traceparent(&self.message.properties);
        let properties = message::properties(self.message_id, traceparent.as_deref());
        let (exchange, queue, properties) = match settle {
            Settle::Done | Settle::Interrupted => return None,
            Settle::Dead { reason } => (
                "",
                DEAD.to_owned(),
                message::with_reason(properties, reason),
            ),
            Settle::Retry { after } if after.is_zero() => ("", self.queue.clone(), properties),
            Settle::Retry { after } => {
                let rung = Rung::for_delay(*after);
                let properties = if *after > RUNGS[RUNGS.len() - 1].delay {
                    let after = TimeDelta::from_std(*after).unwrap_or(TimeDelta::MAX);
                    let due = Utc::now().checked_add_signed(after);
                    message::with_due(properties, due.unwrap_or(chrono::DateTime::<Utc>::MAX_UTC))
                } else {
                    properties
                };
                (rung.name, self.queue.clone(), properties)
            }
        };
        Some(Outgoing {
            exchange,
            queue,
            body: self.message.data.clone(),
            properties,
        })
    }

    /// Ends the loan: gone, or back on the queue at once.
    async fn end(self, back: bool) -> Result<(), QueueError> {
        let acker = &self.message.acker;
        let ending = async {
            if back {
                let requeue = BasicNackOptions {
                    requeue: true,
                    multiple: false,
                };
                acker.nack(requeue).await
            } else {
                acker.ack(BasicAckOptions::default()).await
            }
        };
        let ended = tokio::time::timeout(END_MAX, ending).await;
        self.lent.fetch_sub(1, Ordering::AcqRel);
        // `Ok(false)`: the channel it came on is gone, and the broker has lent it anew.
        match ended {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false) | Err(_)) | Err(_) => Err(QueueError::LoanEnded),
        }
    }
}

/// Ends loans; answers in order.
///
/// Where the successor of a loan cannot be stored (its delay, its dead letter) the job goes back on its
/// queue at once: it comes earlier than asked for rather than being lost or stuck, its attempts count
/// in the results store all the same, and the answer is that error.
pub(super) async fn settle(
    link: &Link,
    patience: Patience,
    settled: Vec<(Receipt, Settle)>,
) -> Vec<Result<(), QueueError>> {
    let mut successors = Vec::new();
    let mut plans = Vec::with_capacity(settled.len());
    for (receipt, settle) in settled {
        let Loan::Amqp(loan) = receipt.loan else {
            plans.push(None);
            continue;
        };
        // Once a loan has ended the job is somebody else's: no second copy of it.
        let successor = if loan.message.acker.usable() {
            loan.successor(&settle)
        } else {
            None
        };
        let place = successor.map(|message| {
            successors.push(message);
            successors.len() - 1
        });
        plans.push(Some((loan, settle == Settle::Interrupted, place)));
    }
    let mut stored: Vec<Option<QueueError>> = publish(link, patience, &successors)
        .await
        .into_iter()
        .map(Result::err)
        .collect();
    let endings = plans.into_iter().map(|plan| {
        let fault = plan
            .as_ref()
            .and_then(|(_, _, place)| stored[(*place)?].take());
        async move {
            let Some((loan, interrupted, _)) = plan else {
                let message = "the delivery is another queue's".to_owned();
                return Err(QueueError::Unusable { message });
            };
            match fault {
                None => loan.end(interrupted).await,
                Some(fault) => loan.end(true).await.and(Err(fault)),
            }
        }
    });
    join_all(endings).await
}
