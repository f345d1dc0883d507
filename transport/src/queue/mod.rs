//! Where jobs wait: lent to a worker until they are settled or the worker is gone.

mod any;
mod embedded;

pub mod amqp;

use std::future::Future;
use std::time::Duration;

use lapidary_schemas::{Class, Job, JobId};

pub use any::AnyQueue;
pub use embedded::EmbeddedQueue;

/// A stream of jobs that a worker can draw from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Jobs for one model in one class.
    Jobs {
        /// Name of the model.
        model: String,
        /// How soon somebody wants the answers.
        class: Class,
    },
    /// What the broker itself gave up on (its own delivery limit, a length limit). The steward
    /// draws from it and gives each job its result. The embedded queue gives up on nothing.
    Dropped,
}

/// A job lent to this worker until it is settled or its worker is gone.
///
/// Dropping one settles nothing: the job comes back when the loan ends.
#[derive(Debug)]
#[must_use = "settle the delivery, or the job comes back to another worker"]
pub struct Delivery {
    /// The job, or why its message cannot be read.
    pub body: Result<Job, Undecodable>,
    /// The claim ticket to settle it with.
    pub receipt: Receipt,
}

/// A message that is no job. It must be settled as dead; it never comes back by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// The job id its properties carry, so that even it gets a result.
    pub job_id: Option<JobId>,
    /// What is wrong with it, in the user's words.
    pub message: String,
    /// The message itself.
    pub body: Vec<u8>,
}

/// The claim ticket of a delivery: settles it once.
#[derive(Debug)]
pub struct Receipt {
    /// Which loan of the maker's this is.
    pub(crate) loan: Loan,
}

/// A maker's own name for a loan.
#[derive(Debug)]
pub(crate) enum Loan {
    /// `RabbitMQ`'s delivery, kept whole to acknowledge or republish it.
    Amqp(Box<amqp::AmqpLoan>),
    /// Message and session of the embedded file.
    Embedded(embedded::LoanId),
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settle {
    /// It has its result. A worker that dies in this very moment may bring it back all the same;
    /// whoever gets it then finds that result.
    Done,
    /// It shall come back, and not earlier than this.
    Retry {
        /// Shortest time until then.
        after: Duration,
    },
    /// The worker is stopping: it shall come back at once, and nothing is counted.
    Interrupted,
    /// It shall never come back. Its dead letter is in the results store.
    Dead {
        /// Why, for the operator.
        reason: String,
    },
}

/// Why the queue did not do as told, by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueueError {
    /// The queue cannot be reached or answers nothing: try again later.
    #[error("queue at {url} is unreachable: {message}")]
    Unreachable {
        /// Where it should be, without credentials.
        url: String,
        /// What happened.
        message: String,
    },
    /// The queue refuses more for now (length limit, disk or memory alarm): try again later.
    #[error("queue is full: {message}")]
    Full {
        /// What it said.
        message: String,
    },
    /// The loan is over: the job is or will be somebody else's.
    #[error("the loan of this delivery has ended")]
    LoanEnded,
    /// The message is over the limit and must travel by reference.
    #[error("job {job_id} is {bytes} bytes, the limit of a queue message is {limit}")]
    TooLarge {
        /// The job.
        job_id: JobId,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The storage has no room.
    #[error("no room to store jobs: {message}")]
    StorageFull {
        /// What the storage said.
        message: String,
    },
    /// Set up in a way that cannot work; an operator must act.
    #[error("queue cannot be used: {message}")]
    Unusable {
        /// What is wrong and what to do.
        message: String,
    },
}

/// Where jobs wait.
///
/// Delivery is at least once. Everything takes many at once, because singly an `fsync` a job is
/// the speed limit. Attempts are not counted here: see [`crate::Results::begin`].
pub trait Queue: Send + Sync {
    /// Puts jobs on the lanes of their model and class; returns once all are durable.
    ///
    /// After an error some of them may be on the queue all the same; publishing again is safe.
    fn publish(&self, jobs: &[Job]) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Waits for at least one delivery and lends up to `max`, first in, first out as far as none
    /// is retried. Dropping the future loses nothing.
    fn receive(
        &self,
        lane: &Lane,
        max: usize,
    ) -> impl Future<Output = Result<Vec<Delivery>, QueueError>> + Send;

    /// Ends loans; answers in the same order. [`QueueError::LoanEnded`] where it was too late.
    fn settle(
        &self,
        settled: Vec<(Receipt, Settle)>,
    ) -> impl Future<Output = Vec<Result<(), QueueError>>> + Send;

    /// Jobs waiting on a lane now, those not yet due for their retry included, those lent not.
    fn depth(&self, lane: &Lane) -> impl Future<Output = Result<u64, QueueError>> + Send;
}
