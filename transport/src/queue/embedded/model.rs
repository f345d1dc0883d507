//! The embedded queue against a model of it, over any order of steps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lapidary_schemas::{Class, JobId};
use proptest::prelude::*;
use proptest::sample::Index;
use tempfile::TempDir;

use super::EmbeddedQueue;
use crate::conformance::samples::{jobs, lane};
use crate::embedded::EmbeddedFile;
use crate::queue::{Queue, QueueError, Receipt, Settle};

const MODEL: &str = "m";

#[derive(Debug, Clone)]
enum Step {
    Publish(usize),
    Receive(usize),
    Settle(Index, Settle),
    /// The handle is dropped and another opened.
    Reopen,
    /// The handle's process is killed, its session expires, another is opened.
    Crash,
    SettleStale(Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ending = prop_oneof![
        Just(Settle::Done),
        Just(Settle::Interrupted),
        Just(Settle::Retry {
            after: Duration::from_hours(1)
        }),
        Just(Settle::Dead {
            reason: "of no use".to_owned()
        }),
    ];
    let step = prop_oneof![
        3 => (1..5_usize).prop_map(Step::Publish),
        4 => (1..6_usize).prop_map(Step::Receive),
        6 => (any::<Index>(), ending).prop_map(|(which, how)| Step::Settle(which, how)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
        1 => any::<Index>().prop_map(Step::SettleStale),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What the queue must hold, by place of publication.
#[derive(Default)]
struct Model {
    published: usize,
    ready: BTreeMap<usize, JobId>,
    delayed: BTreeSet<usize>,
}

/// The queue and what it has lent.
struct Run {
    folder: TempDir,
    file: EmbeddedFile,
    queue: EmbeddedQueue,
    lent: Vec<(usize, JobId, Receipt)>,
    stale: Vec<Receipt>,
    model: Model,
}

impl Run {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let file = EmbeddedFile::open(&folder.path().join("jobs.db"))
            .await
            .unwrap();
        let queue = EmbeddedQueue::open(&file).await.unwrap();
        let (lent, stale, model) = (Vec::new(), Vec::new(), Model::default());
        Self {
            folder,
            file,
            queue,
            lent,
            stale,
            model,
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Publish(count) => self.publish(count).await,
            Step::Receive(max) => self.receive(max).await,
            Step::Settle(which, how) => self.settle(&which, how).await,
            Step::Reopen => self.come_again(false).await,
            Step::Crash => self.come_again(true).await,
            Step::SettleStale(which) => self.settle_stale(&which).await,
        }
        let waiting = self.model.ready.len() + self.model.delayed.len();
        let depth = self.queue.depth(&lane(MODEL, Class::Bulk)).await.unwrap();
        assert_eq!(depth, waiting as u64);
    }

    async fn publish(&mut self, count: usize) {
        let jobs = jobs(MODEL, count);
        self.queue.publish(&jobs).await.unwrap();
        for job in jobs {
            self.model.ready.insert(self.model.published, job.id);
            self.model.published += 1;
        }
    }

    async fn receive(&mut self, max: usize) {
        if self.model.ready.is_empty() {
            return;
        }
        let received = self
            .queue
            .receive(&lane(MODEL, Class::Bulk), max)
            .await
            .unwrap();
        assert_eq!(received.len(), max.min(self.model.ready.len()));
        for delivery in received {
            let (place, expected) = self.model.ready.pop_first().unwrap();
            assert_eq!(delivery.body.unwrap().id, expected);
            self.lent.push((place, expected, delivery.receipt));
        }
    }

    async fn settle(&mut self, which: &Index, how: Settle) {
        if self.lent.is_empty() {
            return;
        }
        let (place, id, receipt) = self.lent.swap_remove(which.index(self.lent.len()));
        match how {
            Settle::Done | Settle::Dead { .. } => {}
            Settle::Interrupted => {
                self.model.ready.insert(place, id);
            }
            Settle::Retry { .. } => {
                self.model.delayed.insert(place);
            }
        }
        assert!(matches!(
            self.queue.settle(vec![(receipt, how)]).await.as_slice(),
            [Ok(())]
        ));
    }

    /// Another handle; what was lent is back.
    async fn come_again(&mut self, killed: bool) {
        if killed {
            self.queue.abandon();
        }
        let file = EmbeddedFile::open(&self.folder.path().join("jobs.db"))
            .await
            .unwrap();
        self.queue = EmbeddedQueue::open(&file).await.unwrap();
        self.file = file;
        if killed {
            self.file.expire_other_sessions().await.unwrap();
        }
        for (place, id, receipt) in self.lent.drain(..) {
            self.model.ready.insert(place, id);
            self.stale.push(receipt);
        }
    }

    async fn settle_stale(&mut self, which: &Index) {
        if self.stale.is_empty() {
            return;
        }
        let receipt = self.stale.swap_remove(which.index(self.stale.len()));
        let answer = self.queue.settle(vec![(receipt, Settle::Done)]).await;
        assert!(
            matches!(answer.as_slice(), [Err(QueueError::LoanEnded)]),
            "{answer:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_queue_does_as_its_model(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::start().await;
            for step in steps {
                run.step(step).await;
            }
        });
    }
}
