//! Drawing from one queue on a channel of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use lapin::message::Delivery as Message;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::link::{Link, Live};
use super::topology;
use crate::queue::QueueError;

/// Fewest and most messages the broker may lend this process at once on one lane. The upper bound
/// is the broker's own for quorum queues.
const PREFETCH_MIN: usize = 2;
const PREFETCH_MAX: usize = 2_000;
/// First and longest pause after a subscription that ended: its queue may be gone.
const PAUSE_MIN: Duration = topology::GONE_PAUSE;
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A queue's deliveries to this process.
#[derive(Debug)]
pub(super) struct LaneReader {
    queue: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    subscription: Option<Subscription>,
    /// Lent by the broker, not yet asked for here.
    ready: VecDeque<Message>,
}

#[derive(Debug)]
struct Subscription {
    channel: Channel,
    consumer: Consumer,
    prefetch: usize,
    /// Deliveries of this channel that are lent to callers.
    lent: Arc<AtomicUsize>,
}

/// A message taken from the lane, with the counter to decrease once it is settled.
pub(super) type Taken = (Message, Arc<AtomicUsize>);

impl LaneReader {
    /// A reader of `queue`, not subscribed yet.
    pub(super) fn new(queue: String) -> Self {
        Self {
            queue,
            state: Arc::default(),
        }
    }

    /// Name of the queue.
    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    /// Waits for messages and takes up to `max`. Lost subscriptions are made again; a broker that
    /// stays away longer than `patience` is an error, after which the next call tries again.
    pub(super) async fn take(
        &self,
        link: &Arc<Link>,
        patience: Duration,
        max: usize,
    ) -> Result<Vec<Taken>, QueueError> {
        let mut trouble: Option<(Instant, Duration)> = None;
        loop {
            let state = Arc::clone(&self.state).lock_owned().await;
            let (mut state, subscribed) = self.subscribe(state, link, patience, max).await?;
            let fault = match subscribed {
                Ok(()) => {
                    let taken = state.wait(max).await;
                    match taken {
                        Ok(taken) => return Ok(taken),
                        Err(message) => {
                            tracing::warn!(queue = self.queue, message, "subscription ended");
                            let url = link.place().to_owned();
                            QueueError::Unreachable { url, message }
                        }
                    }
                }
                Err(error @ QueueError::Unusable { .. }) => return Err(error),
                Err(error) => error,
            };
            drop(state);
            let (since, pause) = trouble.unwrap_or((Instant::now(), PAUSE_MIN));
            if since.elapsed() + pause >= patience {
                return Err(fault);
            }
            tokio::time::sleep(pause).await;
            trouble = Some((since, (pause * 2).min(PAUSE_MAX)));
        }
    }

    /// Subscribes where needed, on the broker's thread: a caller who stops waiting half-way leaves
    /// no consumer behind that nobody reads.
    async fn subscribe(
        &self,
        mut state: OwnedMutexGuard<State>,
        link: &Arc<Link>,
        patience: Duration,
        max: usize,
    ) -> Result<(OwnedMutexGuard<State>, Result<(), QueueError>), QueueError> {
        let (owned, queue) = (Arc::clone(link), self.queue.clone());
        let subscribing = link.io().run(async move {
            let subscribed = state.subscribe(&owned, patience, &queue, max).await;
            (state, subscribed)
        });
        subscribing.await.ok_or_else(|| QueueError::Unusable {
            message: "the thread that serves the broker has stopped".to_owned(),
        })
    }

    /// Gives messages back that were taken and are not wanted yet, in their order.
    pub(super) async fn put_back(&self, taken: Vec<Taken>) {
        let mut state = self.state.lock().await;
        for (message, lent) in taken.into_iter().rev() {
            lent.fetch_sub(1, Ordering::AcqRel);
            state.ready.push_front(message);
        }
    }

    /// Messages that the broker has lent to this process and nobody has taken yet.
    pub(super) fn waiting(&self) -> u64 {
        // While somebody waits on the lane there are none.
        self.state.try_lock().map_or(0, |mut state| {
            state.gather();
            u64::try_from(state.ready.len()).unwrap_or(u64::MAX)
        })
    }
}

impl State {
    /// Subscribes, or subscribes again to be lent more at once.
    async fn subscribe(
        &mut self,
        link: &Link,
        patience: Duration,
        queue: &str,
        max: usize,
    ) -> Result<(), QueueError> {
        if self
            .subscription
            .as_ref()
            .is_some_and(|held| !held.channel.status().connected())
        {
            self.forget();
        }
        let lent = self
            .subscription
            .as_ref()
            .map_or(0, |held| held.lent.load(Ordering::Acquire));
        let prefetch = (lent + max).clamp(PREFETCH_MIN, PREFETCH_MAX);
        if self
            .subscription
            .as_ref()
            .is_some_and(|held| held.prefetch >= prefetch)
        {
            return Ok(());
        }
        let live = link.live(patience).await?;
        let silent = |within: Duration| {
            let within = within.as_secs();
            let message = format!(
                "`{queue}` gave no answer within {within} s, as a queue without a leader does"
            );
            link.unreachable(message)
        };
        let ensuring = topology::ensure(&live, queue);
        match tokio::time::timeout(topology::ANSWER_MAX, ensuring).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(link.fault(&error)),
            Err(_) => return Err(silent(topology::ANSWER_MAX)),
        }
        let within = topology::answer_max(&live, queue);
        match tokio::time::timeout(within, self.consume(&live, queue, prefetch)).await {
            Ok(Ok(())) => {
                live.young().answered(queue);
                Ok(())
            }
            Ok(Err(error)) => {
                live.missed(queue);
                Err(link.fault(&error))
            }
            Err(_) => {
                // The channel is of no use after that.
                self.forget();
                topology::unanswered(&live, queue).await;
                Err(silent(within))
            }
        }
    }

    /// Subscribes, on the channel there is or on a new one.
    async fn consume(&mut self, live: &Live, queue: &str, prefetch: usize) -> lapin::Result<()> {
        let (channel, lent) = if let Some(held) = self.subscription.take() {
            let (channel, lent) = (held.channel.clone(), Arc::clone(&held.lent));
            self.unsubscribe(held).await;
            (channel, lent)
        } else {
            (live.channel().await?, Arc::default())
        };
        let count = u16::try_from(prefetch).unwrap_or(u16::MAX);
        channel.basic_qos(count, BasicQosOptions::default()).await?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel
            .basic_consume(queue.into(), "".into(), options, none)
            .await?;
        self.subscription = Some(Subscription {
            channel,
            consumer,
            prefetch,
            lent,
        });
        Ok(())
    }

    /// Gives the subscription up, with what it had been lent: the broker lends it again.
    fn forget(&mut self) {
        self.subscription = None;
        self.ready.clear();
    }

    /// Ends a subscription and keeps what it had been lent.
    async fn unsubscribe(&mut self, mut held: Subscription) {
        let (tag, options) = (held.consumer.tag(), BasicCancelOptions::default());
        if held.channel.basic_cancel(tag, options).await.is_ok() {
            while let Some(Ok(message)) = held.consumer.next().await {
                self.ready.push_back(message);
            }
        }
    }

    /// Takes what is there, or waits for the first; why there will be nothing more.
    async fn wait(&mut self, max: usize) -> Result<Vec<Taken>, String> {
        loop {
            self.gather();
            let Some(held) = &mut self.subscription else {
                return Err("the broker ended the subscription".to_owned());
            };
            if !self.ready.is_empty() {
                let count = max.min(self.ready.len());
                held.lent.fetch_add(count, Ordering::AcqRel);
                let lent = Arc::clone(&held.lent);
                return Ok(self
                    .ready
                    .drain(..count)
                    .map(|m| (m, Arc::clone(&lent)))
                    .collect());
            }
            match held.consumer.next().await {
                Some(Ok(message)) => self.ready.push_back(message),
                Some(Err(error)) => {
                    self.subscription = None;
                    return Err(error.to_string());
                }
                None => self.subscription = None,
            }
        }
    }

    /// Moves what has arrived to `ready` and drops what is no longer ours.
    fn gather(&mut self) {
        while let Some(held) = &mut self.subscription {
            match held.consumer.next().now_or_never() {
                Some(Some(Ok(message))) => self.ready.push_back(message),
                Some(_) => self.subscription = None,
                None => break,
            }
        }
        self.ready.retain(|message| message.acker.usable());
    }
}
