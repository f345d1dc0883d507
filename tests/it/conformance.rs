//! What every maker promises, on real servers, and on the types that choose a maker by URL.

use std::future::Future;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use lapidary_schemas::{Job, JobId, MediaRef};
use lapidary_tests::{Broker, Proxy, Redis, Wire};
use lapidary_transport::conformance::{
    MediaEnvironment, QueueEnvironment, ResultsEnvironment, exercise_media, exercise_queue,
    exercise_results,
};
use lapidary_transport::media::{AnyMedia, object_store::ObjectMedia};
use lapidary_transport::queue::amqp::AmqpQueue;
use lapidary_transport::queue::{AnyQueue, QueueError};
use lapidary_transport::results::{AnyResults, redis::RedisResults};
use lapidary_transport::{Delivery, Lane, Queue, Receipt, Settle};
use lapin::BasicProperties;
use tempfile::TempDir;

use crate::amqp::publish_raw;

/// At least as many as there are cases.
const CASES_MAX: usize = 24;

/// A virtual host of a broker.
struct Host<Q> {
    port: u16,
    name: String,
    kind: PhantomData<fn() -> Q>,
}

impl<Q> Host<Q> {
    fn url(&self, port: u16) -> String {
        format!("amqp://guest:guest@127.0.0.1:{port}/{}", self.name)
    }
}

/// A handle with a wire of its own: what ends when its process is killed.
struct Wired<Q> {
    queue: Q,
    proxy: Proxy,
}

impl<Q: Queue> Queue for Wired<Q> {
    fn publish(&self, jobs: &[Job]) -> impl Future<Output = Result<(), QueueError>> + Send {
        self.queue.publish(jobs)
    }

    fn receive(
        &self,
        lane: &Lane,
        max: usize,
    ) -> impl Future<Output = Result<Vec<Delivery>, QueueError>> + Send {
        self.queue.receive(lane, max)
    }

    fn settle(
        &self,
        settled: Vec<(Receipt, Settle)>,
    ) -> impl Future<Output = Vec<Result<(), QueueError>>> + Send {
        self.queue.settle(settled)
    }

    fn depth(&self, lane: &Lane) -> impl Future<Output = Result<u64, QueueError>> + Send {
        self.queue.depth(lane)
    }
}

macro_rules! queue_environment {
    ($queue:ty) => {
        impl QueueEnvironment for Host<$queue> {
            type Queue = Wired<$queue>;

            async fn open(&self) -> Self::Queue {
                let proxy = Proxy::start(self.port).await;
                let queue = <$queue>::open(&self.url(proxy.port())).await.unwrap();
                Wired { queue, proxy }
            }

            async fn crash(&self, queue: Self::Queue) {
                queue.proxy.set(Wire::Cut);
            }

            async fn inject(&self, lane: &Lane, job: JobId, body: &[u8]) {
                let Lane::Jobs { model, class } = lane else {
                    panic!("only jobs' lanes are injected into")
                };
                let name = format!("lapidary.jobs.{model}.{}", class.as_str());
                let says = BasicProperties::default().with_message_id(job.to_string().into());
                publish_raw(&self.url(self.port), &name, body, says).await;
            }
        }
    };
}
queue_environment!(AmqpQueue);
queue_environment!(AnyQueue);

/// One database of a Redis server.
struct Database<R> {
    url: String,
    kind: PhantomData<fn() -> R>,
}

macro_rules! results_environment {
    ($results:ty) => {
        impl ResultsEnvironment for Database<$results> {
            type Results = $results;

            async fn open(&self) -> $results {
                <$results>::open(&self.url, false).await.unwrap()
            }

            // A handle that is dropped says nothing to the server.
            async fn crash(&self, results: $results) {
                drop(results);
            }
        }
    };
}
results_environment!(RedisResults);
results_environment!(AnyResults);

/// A folder as an object store.
struct Folder<M> {
    folder: TempDir,
    kind: PhantomData<fn() -> M>,
}

impl<M> Folder<M> {
    fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            kind: PhantomData,
        }
    }

    fn url(&self) -> String {
        format!("file://{}/media", self.folder.path().display())
    }

    /// The one file of the store that has this content.
    fn stored(&self, media: &MediaRef) -> PathBuf {
        let objects = self.folder.path().join("media/objects");
        find(&objects, &media.sha256).unwrap()
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, name)
        } else {
            path.ends_with(name).then_some(path)
        }
    })
}

macro_rules! media_environment {
    ($media:ty) => {
        impl MediaEnvironment for Folder<$media> {
            type Media = $media;

            async fn open(&self) -> $media {
                <$media>::open(&self.url()).unwrap()
            }

            async fn damage(&self, _tenant: &str, media: &MediaRef) {
                std::fs::write(self.stored(media), b"other").unwrap();
            }

            async fn age(&self, _tenant: &str, media: &MediaRef, by: Duration) {
                let file = std::fs::File::options()
                    .write(true)
                    .open(self.stored(media));
                file.unwrap().set_modified(SystemTime::now() - by).unwrap();
            }
        }
    };
}
media_environment!(ObjectMedia);
media_environment!(AnyMedia);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_on_rabbitmq_keep_their_promises() {
    let broker = Broker::start();
    let hosts = Mutex::new(broker.hosts(2 * CASES_MAX));
    let port = broker.port();
    let next = || hosts.lock().unwrap().pop().unwrap();
    exercise_queue(async || Host::<AmqpQueue> {
        port,
        name: next(),
        kind: PhantomData,
    })
    .await;
    exercise_queue(async || Host::<AnyQueue> {
        port,
        name: next(),
        kind: PhantomData,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_on_redis_keep_their_promises() {
    let redis = Redis::start();
    let used = AtomicUsize::new(0);
    let next = || redis.database(used.fetch_add(1, Ordering::Relaxed));
    exercise_results(async || Database::<RedisResults> {
        url: next(),
        kind: PhantomData,
    })
    .await;
    exercise_results(async || Database::<AnyResults> {
        url: next(),
        kind: PhantomData,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_in_a_folder_keep_their_promises() {
    exercise_media(async || Folder::<ObjectMedia>::new()).await;
    exercise_media(async || Folder::<AnyMedia>::new()).await;
}
