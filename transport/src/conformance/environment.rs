//! What a maker brings along to be examined.

use std::future::Future;
use std::time::Duration;

use lapidary_schemas::{JobId, MediaRef};

use crate::{Lane, Media, Queue, Results};

/// A queue that nobody else uses, and what the world may do to it.
pub trait QueueEnvironment: Send + Sync {
    /// The maker's handle.
    type Queue: Queue;

    /// A new handle, as another process would open it.
    fn open(&self) -> impl Future<Output = Self::Queue> + Send;

    /// Ends a handle as `kill -9` ends its process: nothing is said to the store.
    fn crash(&self, queue: Self::Queue) -> impl Future<Output = ()> + Send;

    /// Puts a message on a lane that says it is `job` and whose body is `body`.
    fn inject(&self, lane: &Lane, job: JobId, body: &[u8]) -> impl Future<Output = ()> + Send;
}

/// A results store that nobody else uses, and what the world may do to it.
pub trait ResultsEnvironment: Send + Sync {
    /// The maker's handle.
    type Results: Results;

    /// A new handle, as another process would open it.
    fn open(&self) -> impl Future<Output = Self::Results> + Send;

    /// Ends a handle as `kill -9` ends its process: nothing is said to the store.
    fn crash(&self, results: Self::Results) -> impl Future<Output = ()> + Send;
}

/// A media store that nobody else uses, and what the world may do to it.
pub trait MediaEnvironment: Send + Sync {
    /// The maker's handle.
    type Media: Media;

    /// A new handle, as another process would open it.
    fn open(&self) -> impl Future<Output = Self::Media> + Send;

    /// Changes a byte of what is stored.
    fn damage(&self, tenant: &str, media: &MediaRef) -> impl Future<Output = ()> + Send;

    /// Makes what is stored older.
    fn age(&self, tenant: &str, media: &MediaRef, by: Duration) -> impl Future<Output = ()> + Send;
}
