//! Publishing that returns only once the broker has each message on disk, and knows it if not.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use lapin::options::BasicPublishOptions;
use lapin::{Confirmation, PublisherConfirm};

use super::link::{Link, Live};
use super::message::Outgoing;
use super::topology;
use crate::queue::QueueError;

/// Rounds after which a message that finds no queue, or no connection, is given up.
const ROUNDS_MAX: usize = 3;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until a lost broker is reported.
    pub(super) reconnect: Duration,
    /// Until messages that are not confirmed are reported.
    pub(super) confirm: Duration,
}

/// What became of one message.
enum Fate {
    Stored,
    /// There was no queue for it: it was returned.
    Returned,
    /// The queue has no room, or is being made just now by another process.
    Refused,
    /// The channel or the connection broke first.
    Lost(lapin::Error),
}

/// Publishes messages and waits for each one's confirmation; answers in order.
///
/// A broken connection is made again, a missing queue is declared again and a refusal is waited out,
/// each a bounded number of times; what was not confirmed before is then published twice.
pub(super) async fn publish(
    link: &Link,
    patience: Patience,
    messages: &[Outgoing],
) -> Vec<Result<(), QueueError>> {
    let mut answers: Vec<Result<(), QueueError>> = messages.iter().map(|_| Ok(())).collect();
    let mut open: Vec<usize> = (0..messages.len()).collect();
    let mut gone = false;
    for _ in 0..ROUNDS_MAX {
        if open.is_empty() {
            break;
        }
        if std::mem::take(&mut gone) {
            tokio::time::sleep(topology::GONE_PAUSE).await;
        }
        let mut again = Vec::new();
        match round(link, patience, messages, &open).await {
            Ok(fates) => {
                for (index, fate) in open.into_iter().zip(fates) {
                    answers[index] = verdict(link, &messages[index], &fate);
                    let no_place = matches!(fate, Fate::Returned | Fate::Refused);
                    gone |= no_place;
                    if no_place || matches!(fate, Fate::Lost(_)) {
                        again.push(index);
                    }
                }
            }
            Err(error) => {
                for index in open {
                    answers[index] = Err(error.clone());
                }
            }
        }
        open = again;
    }
    answers
}

fn verdict(link: &Link, message: &Outgoing, fate: &Fate) -> Result<(), QueueError> {
    match fate {
        Fate::Stored => Ok(()),
        Fate::Refused => Err(QueueError::Full {
            message: format!("`{}` takes no more messages", message.queue),
        }),
        Fate::Returned => Err(QueueError::Unusable {
            message: format!(
                "broker has no queue for `{}`, and returned the job",
                message.queue
            ),
        }),
        Fate::Lost(error) => Err(link.fault(error)),
    }
}

/// One try at all that is open. An error holds for all of them and is final.
async fn round(
    link: &Link,
    patience: Patience,
    messages: &[Outgoing],
    open: &[usize],
) -> Result<Vec<Fate>, QueueError> {
    let live = link.live(patience.reconnect).await?;
    // Connecting has a bound of its own and takes nothing from this one.
    let until = Instant::now() + patience.confirm;
    live.unblocked(patience.confirm)
        .await
        .map_err(|reason| full(&reason))?;
    let sending = async {
        let mut waiting = Vec::with_capacity(open.len());
        for index in open {
            waiting.push(send(&live, &messages[*index]).await);
        }
        let sent = open.iter().zip(waiting);
        // All at once: one queue without an answer hides no other's.
        join_all(sent.map(|(index, confirm)| fate(&live, &messages[*index], confirm))).await
    };
    if let Ok(fates) = tokio::time::timeout_at(until.into(), sending).await {
        return Ok(fates);
    }
    if let Some(reason) = live.blocked() {
        return Err(full(&reason));
    }
    // Silent: a broker that greets a new connection is there and takes no messages.
    link.forget(&live).await;
    let live = link.live(patience.reconnect).await?;
    let queues: HashSet<&str> = open.iter().map(|index| messages[*index].first()).collect();
    for queue in queues {
        topology::unanswered(&live, queue).await;
    }
    Err(full(&format!(
        "they are not confirmed within {} s",
        patience.confirm.as_secs()
    )))
}

fn full(reason: &str) -> QueueError {
    QueueError::Full {
        message: format!("broker takes no messages for now: {reason}"),
    }
}

async fn send(live: &Arc<Live>, message: &Outgoing) -> lapin::Result<PublisherConfirm> {
    topology::ensure(live, message.first()).await?;
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let channel = live.publisher().await?;
    channel
        .basic_publish(
            message.exchange.into(),
            message.queue.as_str().into(),
            options,
            &message.body,
            message.properties.clone(),
        )
        .await
}

async fn fate(live: &Live, message: &Outgoing, sent: lapin::Result<PublisherConfirm>) -> Fate {
    let confirmation = match sent {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    match confirmation {
        Ok(Confirmation::Ack(None)) => {
            live.young().answered(message.first());
            Fate::Stored
        }
        // Confirmed and returned: nobody keeps it.
        Ok(Confirmation::Ack(Some(_)) | Confirmation::NotRequested) => {
            live.missed(message.first());
            Fate::Returned
        }
        Ok(Confirmation::Nack(_)) => Fate::Refused,
        Err(error) => Fate::Lost(error),
    }
}
