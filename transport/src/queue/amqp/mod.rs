//! Jobs on `RabbitMQ`: a quorum queue a model and class, retries on a ladder of delay queues.
//!
//! Works on 3.10 and on 4.x. Two connections: the broker stops reading from one that publishes when
//! memory or disk run low, and acknowledgements must pass even then.

mod addresses;
mod dial;
mod doctor;
mod io;
mod lane;
mod link;
mod message;
mod names;
mod publish;
mod settle;
mod topology;
mod young;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use lapidary_schemas::Job;

use self::addresses::Addresses;
pub(crate) use self::doctor::{Examined, Examiner, QueueState};
use self::io::Io;
use self::lane::{LaneReader, Taken};
use self::link::Link;
use self::message::Outgoing;
use self::publish::Patience;
pub(super) use self::settle::AmqpLoan;
use super::{Delivery, Lane, Loan, Queue, QueueError, Receipt, Settle};

/// How long a broker may be away or silent before the caller hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmqpOptions {
    /// Until [`AmqpQueue::open`] gives up.
    pub open_within: Duration,
    /// Until a lost broker is [`QueueError::Unreachable`].
    pub reconnect_within: Duration,
    /// Until unconfirmed messages are [`QueueError::Full`] or [`QueueError::Unreachable`].
    pub confirm_within: Duration,
}

impl Default for AmqpOptions {
    fn default() -> Self {
        Self {
            open_within: Duration::from_secs(5),
            reconnect_within: Duration::from_secs(30),
            confirm_within: Duration::from_secs(20),
        }
    }
}

/// Jobs on a `RabbitMQ` broker.
#[derive(Debug)]
pub struct AmqpQueue {
    publishing: Arc<Link>,
    consuming: Arc<Link>,
    lanes: Mutex<HashMap<Lane, Arc<LaneReader>>>,
    patience: Patience,
}

impl AmqpQueue {
    /// Connects to the broker at `amqp://[user:password@]host[:port]/vhost`, by TLS at `amqps://…`. The
    /// nodes of a cluster are `host[:port],host[:port]…`, of which one is connected to at a time.
    pub async fn open(url: &str) -> Result<Self, QueueError> {
        Self::open_with(url, AmqpOptions::default()).await
    }

    /// Connects with other patience.
    pub async fn open_with(url: &str, options: AmqpOptions) -> Result<Self, QueueError> {
        let addresses = Addresses::parse(url).map_err(|error| QueueError::Unusable {
            message: format!("broker address cannot be read: {error}"),
        })?;
        let addresses = Arc::new(addresses);
        let (io, young) = (Arc::new(Io::start()?), Arc::default());
        let link = |purpose| {
            Arc::new(Link::new(
                Arc::clone(&addresses),
                purpose,
                Arc::clone(&io),
                Arc::clone(&young),
            ))
        };
        let queue = Self {
            publishing: link("publishing"),
            consuming: link("consuming"),
            lanes: Mutex::default(),
            patience: Patience {
                reconnect: options.reconnect_within,
                confirm: options.confirm_within,
            },
        };
        queue.consuming.live(options.open_within).await?;
        Ok(queue)
    }

    fn lane(&self, lane: &Lane) -> Arc<LaneReader> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(LaneReader::new(names::queue_of(lane)));
        Arc::clone(lanes.entry(lane.clone()).or_insert_with(make))
    }

    /// Messages ready on `queue` and on the whole ladder.
    async fn count(&self, queue: &str) -> Result<u64, QueueError> {
        let live = self.consuming.live(self.patience.reconnect).await?;
        let counting = async {
            let (mut channel, mut sum) = (None, 0);
            for name in std::iter::once(queue).chain(names::RUNGS.iter().map(|rung| rung.name)) {
                let counted = topology::count(&live, &mut channel, name).await?;
                sum += counted.unwrap_or(0);
            }
            Ok(sum)
        };
        let counted = tokio::time::timeout(topology::ANSWER_MAX, counting).await;
        let counted = counted.map_err(|_| {
            let within = topology::ANSWER_MAX.as_secs();
            let message = format!("no count of `{queue}` within {within} s");
            self.consuming.unreachable(message)
        })?;
        counted.map_err(|error| self.consuming.fault(&error))
    }
}

/// How long a message must still wait that was to wait longer than the ladder is high.
fn remaining(message: &lapin::message::Delivery, now: DateTime<Utc>) -> Option<Duration> {
    let due = message::due(&message.properties)?;
    (due - now).to_std().ok().filter(|wait| !wait.is_zero())
}

impl Drop for AmqpQueue {
    fn drop(&mut self) {
        self.publishing.close();
        self.consuming.close();
    }
}

impl Queue for AmqpQueue {
    async fn publish(&self, jobs: &[Job]) -> Result<(), QueueError> {
        let mut messages = Vec::with_capacity(jobs.len());
        for job in jobs {
            let lane = Lane::Jobs {
                model: job.model.clone(),
                class: job.class,
            };
            messages.push(Outgoing {
                exchange: "",
                queue: names::queue_of(&lane),
                body: message::encode(job)?,
                properties: message::properties(Some(job.id), job.traceparent.as_deref()),
            });
        }
        let answers = publish::publish(&self.publishing, self.patience, &messages).await;
        answers.into_iter().collect()
    }

    async fn receive(&self, lane: &Lane, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let reader = self.lane(lane);
        loop {
            let taken = reader
                .take(&self.consuming, self.patience.reconnect, max.max(1))
                .await?;
            let now = Utc::now();
            let (early, ready): (Vec<Taken>, Vec<Taken>) = taken
                .into_iter()
                .partition(|(message, _)| remaining(message, now).is_some());
            let loan =
                |(message, lent): Taken| AmqpLoan::new(message, reader.queue().to_owned(), lent);
            if early.is_empty() {
                return Ok(ready
                    .into_iter()
                    .map(|taken| loan(taken).into_delivery())
                    .collect());
            }
            reader.put_back(ready).await;
            let later = early.into_iter().map(|taken| {
                let after = remaining(&taken.0, now).unwrap_or_default();
                (
                    Receipt {
                        loan: Loan::Amqp(Box::new(loan(taken))),
                    },
                    Settle::Retry { after },
                )
            });
            for answer in self.settle(later.collect()).await {
                answer?;
            }
        }
    }

    async fn settle(&self, settled: Vec<(Receipt, Settle)>) -> Vec<Result<(), QueueError>> {
        settle::settle(&self.publishing, self.patience, settled).await
    }

    /// What the broker has ready, what it has lent to this process and nobody has taken, and every
    /// retry that waits. The ladder serves all lanes, so while other lanes have retries waiting this
    /// is an upper bound; 0 means 0. What another process was lent counts as lent.
    async fn depth(&self, lane: &Lane) -> Result<u64, QueueError> {
        let reader = self.lane(lane);
        let waiting = reader.waiting();
        Ok(waiting + self.count(reader.queue()).await?)
    }
}
