//! Many at once: calls that come in at the same time become one.
//!
//! A transaction or a round trip costs the same for one job as for a hundred. While one call is
//! under way the next ones gather; when none is, a call waits a moment for company.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// How long a lone call waits for company.
const LINGER: Duration = Duration::from_millis(2);

/// The way into one kind of call.
#[derive(Debug)]
pub(crate) struct Gather<T, R> {
    calls: mpsc::Sender<(T, oneshot::Sender<R>)>,
}

impl<T: Send + 'static, R: Send + 'static> Gather<T, R> {
    /// Starts the task that makes the calls, of at most `max` items each. `call` answers in order,
    /// one answer an item. The task ends when this and all clones are gone.
    pub(crate) fn start<F, Fut>(tasks: &TaskTracker, max: usize, mut call: F) -> Self
    where
        F: FnMut(Vec<T>) -> Fut + Send + 'static,
        Fut: Future<Output = Vec<R>> + Send,
    {
        let (calls, mut waiting) = mpsc::channel::<(T, oneshot::Sender<R>)>(max);
        tasks.spawn(async move {
            let mut gathered = Vec::new();
            loop {
                // Those that came while a call was under way are company enough.
                let alone = waiting.is_empty();
                if waiting.recv_many(&mut gathered, max).await == 0 {
                    break;
                }
                if alone && gathered.len() < max {
                    let until = tokio::time::Instant::now() + LINGER;
                    let more = async {
                        while gathered.len() < max {
                            let Some(next) = waiting.recv().await else {
                                break;
                            };
                            gathered.push(next);
                        }
                    };
                    // Past the moment there is company enough, or none.
                    let _ = tokio::time::timeout_at(until, more).await;
                }
                let (items, replies): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
                for (reply, answer) in replies.into_iter().zip(call(items).await) {
                    // Whoever asked may have left.
                    let _ = reply.send(answer);
                }
            }
        });
        Self { calls }
    }

    /// Makes the call, together with others; `None` if it was never answered.
    pub(crate) async fn call(&self, item: T) -> Option<R> {
        let (reply, answer) = oneshot::channel();
        self.calls.send((item, reply)).await.ok()?;
        answer.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn calls_at_the_same_time_become_one() {
        let tasks = TaskTracker::new();
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = sizes.clone();
        let gather = Gather::start(&tasks, 8, move |items: Vec<u32>| {
            seen.lock().unwrap().push(items.len());
            async move { items.into_iter().map(|item| item * 2).collect() }
        });
        let answers = futures::future::join_all((0..20).map(|item| gather.call(item))).await;
        let expected: Vec<_> = (0..20).map(|item| Some(item * 2)).collect();
        assert_eq!(answers, expected);
        assert_eq!(*sizes.lock().unwrap(), [8, 8, 4]);
    }

    #[tokio::test]
    async fn a_lone_call_is_answered_and_the_task_ends() {
        let tasks = TaskTracker::new();
        let gather = Gather::start(&tasks, 8, |items: Vec<u32>| async move { items });
        assert_eq!(gather.call(1).await, Some(1));
        drop(gather);
        tasks.close();
        tasks.wait().await;
    }
}
