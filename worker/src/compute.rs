//! Threads for what takes the processor and not the network: prompts, filters. Those that serve
//! connections must answer heartbeats, and the engine's own need the cores.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::time::Duration;

use tokio::sync::oneshot;

/// Pieces of work that run at once.
const THREADS: usize = 2;

/// The threads. What waits for them is bounded by the jobs that are under way.
#[derive(Debug)]
pub(crate) struct Compute {
    threads: rayon::ThreadPool,
}

/// What a piece of work panicked with.
pub(crate) type Panic = Box<dyn Any + Send>;

impl Compute {
    /// Starts them.
    pub(crate) fn start() -> std::io::Result<Self> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(THREADS)
            .thread_name(|n| format!("compute-{n}"))
            .build();
        let threads = threads.map_err(std::io::Error::other)?;
        Ok(Self { threads })
    }

    /// Runs `work` in its turn. It is finished even if nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Panic> {
        let (reply, answer) = oneshot::channel();
        self.threads.spawn_fifo(move || {
            // Whoever asked may have left.
            let _ = reply.send(catch_unwind(AssertUnwindSafe(work)));
        });
        answer
            .await
            .unwrap_or_else(|lost| Err(Box::new(lost.to_string())))
    }

    /// As [`Self::run`], but no longer than `limit` once it has begun; `None` after that.
    pub(crate) async fn run_within<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<Result<T, Panic>> {
        let (tell, begun) = oneshot::channel();
        let mut running = pin!(self.run(move || {
            // Whoever asked may have left.
            let _ = tell.send(());
            work()
        }));
        tokio::select! {
            biased;
            done = &mut running => return Some(done),
            _ = begun => {}
        }
        tokio::time::timeout(limit, running).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_answered_and_a_panic_is_its_own() {
        let compute = Compute::start().unwrap();
        let panicked = compute.run(|| assert_eq!(1, 2, "odd")).await.unwrap_err();
        assert!(panicked.downcast_ref::<String>().unwrap().contains("odd"));
        assert_eq!(compute.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn the_time_of_work_counts_from_its_beginning() {
        let compute = Compute::start().unwrap();
        let limit = Duration::from_millis(500);
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        let held = std::sync::Arc::new(std::sync::Mutex::new(held));
        let busy = (0..THREADS).map(|_| {
            let held = held.clone();
            compute.run(move || held.lock().unwrap().recv().is_err())
        });
        let freed = async {
            // Longer than the limit of what waits for them.
            tokio::time::sleep(limit * 2).await;
            drop(release);
        };
        let busy = futures::future::join_all(busy);
        let (.., waited) = tokio::join!(busy, freed, compute.run_within(limit, || 7));
        assert_eq!(waited.unwrap().unwrap(), 7);
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        let late = compute.run_within(Duration::from_millis(1), move || held.recv());
        assert!(late.await.is_none());
        drop(release);
    }
}
