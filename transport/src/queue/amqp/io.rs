//! The thread that serves AMQP, so that no work of the callers ever holds up a heartbeat.

use std::future::Future;

use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;

use crate::queue::QueueError;

/// A runtime of its own for connections.
#[derive(Debug)]
pub(super) struct Io {
    runtime: Option<Runtime>,
    tasks: TaskTracker,
}

impl Io {
    /// Starts the thread.
    pub(super) fn start() -> Result<Self, QueueError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("lapidary-amqp")
            .enable_all()
            .build()
            .map_err(|error| QueueError::Unusable {
                message: format!("the thread that serves the broker does not start: {error}"),
            })?;
        Ok(Self {
            runtime: Some(runtime),
            tasks: TaskTracker::new(),
        })
    }

    /// Runs `work` on that thread and waits for it; `None` if it was torn down or panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let runtime = self.runtime.as_ref()?;
        self.tasks.spawn_on(work, runtime.handle()).await.ok()
    }

    /// Lets `work` run on that thread for as long as it lives.
    pub(super) fn detach(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            drop(self.tasks.spawn_on(work, runtime.handle()));
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        // Not joined: this may be dropped where blocking is not allowed. Its sockets close.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
