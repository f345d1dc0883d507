//! The queue that a URL chose.

use lapidary_schemas::Job;

use super::amqp::AmqpQueue;
use super::{Delivery, EmbeddedQueue, Lane, Queue, QueueError, Receipt, Settle};

/// The queue that a URL chose.
#[derive(Debug)]
pub enum AnyQueue {
    /// On `RabbitMQ`.
    Amqp(AmqpQueue),
    /// In the embedded file.
    Embedded(EmbeddedQueue),
}

impl Queue for AnyQueue {
    async fn publish(&self, jobs: &[Job]) -> Result<(), QueueError> {
        match self {
            Self::Amqp(queue) => queue.publish(jobs).await,
            Self::Embedded(queue) => queue.publish(jobs).await,
        }
    }

    async fn receive(&self, lane: &Lane, max: usize) -> Result<Vec<Delivery>, QueueError> {
        match self {
            Self::Amqp(queue) => queue.receive(lane, max).await,
            Self::Embedded(queue) => queue.receive(lane, max).await,
        }
    }

    async fn settle(&self, settled: Vec<(Receipt, Settle)>) -> Vec<Result<(), QueueError>> {
        match self {
            Self::Amqp(queue) => queue.settle(settled).await,
            Self::Embedded(queue) => queue.settle(settled).await,
        }
    }

    async fn depth(&self, lane: &Lane) -> Result<u64, QueueError> {
        match self {
            Self::Amqp(queue) => queue.depth(lane).await,
            Self::Embedded(queue) => queue.depth(lane).await,
        }
    }
}
