//! The suite on the embedded file and on the types that choose a maker by URL.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use lapidary_schemas::{JobId, MediaRef};
use tempfile::TempDir;

use super::{
    MediaEnvironment, QueueEnvironment, ResultsEnvironment, exercise_media, exercise_queue,
    exercise_results,
};
use crate::embedded::EmbeddedFile;
use crate::media::AnyMedia;
use crate::queue::EmbeddedQueue;
use crate::results::EmbeddedResults;
use crate::{AnyQueue, AnyResults, Lane};

/// Long enough for a busy machine to renew in time, short enough to wait for.
const SESSION_TTL: Duration = Duration::from_secs(2);

/// An embedded file in a folder of its own.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("jobs.db")
    }

    async fn file(&self) -> EmbeddedFile {
        EmbeddedFile::open_with(&self.path(), SESSION_TTL)
            .await
            .unwrap()
    }

    /// The one file of the media store that has this name.
    fn stored(&self, media: &MediaRef) -> PathBuf {
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.ends_with(&media.sha256) {
                    return path;
                }
            }
        }
        panic!("{} is not in the store", media.sha256);
    }
}

impl QueueEnvironment for Folder {
    type Queue = EmbeddedQueue;

    async fn open(&self) -> EmbeddedQueue {
        EmbeddedQueue::open(&self.file().await).await.unwrap()
    }

    async fn crash(&self, queue: EmbeddedQueue) {
        queue.abandon();
    }

    async fn inject(&self, lane: &Lane, job: JobId, body: &[u8]) {
        QueueEnvironment::open(self)
            .await
            .inject(lane, job, body.to_owned())
            .await
            .unwrap();
    }
}

impl ResultsEnvironment for Folder {
    type Results = EmbeddedResults;

    async fn open(&self) -> EmbeddedResults {
        EmbeddedResults::new(&self.file().await)
    }

    async fn crash(&self, results: EmbeddedResults) {
        results.abandon();
    }
}

/// The same file behind the types that choose.
struct Chosen(Folder);

impl QueueEnvironment for Chosen {
    type Queue = AnyQueue;

    async fn open(&self) -> AnyQueue {
        AnyQueue::Embedded(QueueEnvironment::open(&self.0).await)
    }

    async fn crash(&self, queue: AnyQueue) {
        let AnyQueue::Embedded(queue) = queue else {
            panic!("another maker's queue")
        };
        queue.abandon();
    }

    async fn inject(&self, lane: &Lane, job: JobId, body: &[u8]) {
        self.0.inject(lane, job, body).await;
    }
}

impl ResultsEnvironment for Chosen {
    type Results = AnyResults;

    async fn open(&self) -> AnyResults {
        AnyResults::Embedded(ResultsEnvironment::open(&self.0).await)
    }

    async fn crash(&self, results: AnyResults) {
        let AnyResults::Embedded(results) = results else {
            panic!("another maker's results")
        };
        results.abandon();
    }
}

impl MediaEnvironment for Chosen {
    type Media = AnyMedia;

    async fn open(&self) -> AnyMedia {
        AnyMedia::open(&format!("file:{}", self.0.path().display())).unwrap()
    }

    async fn damage(&self, _tenant: &str, media: &MediaRef) {
        std::fs::write(self.0.stored(media), b"other").unwrap();
    }

    async fn age(&self, _tenant: &str, media: &MediaRef, by: Duration) {
        let file = std::fs::File::options()
            .write(true)
            .open(self.0.stored(media))
            .unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_queue_keeps_its_promises() {
    exercise_queue(async || Folder::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chosen_queue_keeps_its_promises() {
    exercise_queue(async || Chosen(Folder::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_results_keep_their_promises() {
    exercise_results(async || Folder::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chosen_results_keep_their_promises() {
    exercise_results(async || Chosen(Folder::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chosen_media_keep_their_promises() {
    exercise_media(async || Chosen(Folder::new())).await;
}
