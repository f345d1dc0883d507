//! Results that have moved out of Redis are read as if they were there.

use std::collections::HashMap;

use lapidary_schemas::{Batch, BatchId, BatchState, Job, JobId, JobResult};
use lapidary_tests::Redis;
use lapidary_transport::media::AnyMedia;
use lapidary_transport::results::redis::RedisResults;
use lapidary_transport::results::{Begin, Put, ResultsError};
use lapidary_transport::{Media as _, Results};
use tempfile::TempDir;

use crate::samples::{batch, done, item, shard};

/// Items of the batch, in shards of a size that no part has.
const ITEMS: u64 = 100;
const SHARD: u32 = 30;
/// Results that stay.
const HOT: usize = 12;

struct Setting {
    redis: Redis,
    folder: TempDir,
}

impl Setting {
    fn new() -> Self {
        Self {
            redis: Redis::start(),
            folder: TempDir::new().unwrap(),
        }
    }

    fn media(&self) -> AnyMedia {
        AnyMedia::open(&format!("file://{}", self.folder.path().display())).unwrap()
    }

    async fn without_archive(&self) -> RedisResults {
        RedisResults::open(&self.redis.url(), false).await.unwrap()
    }

    async fn results(&self) -> RedisResults {
        self.without_archive().await.with_archive(self.media())
    }

    /// What Redis says to a command about a key of the batch.
    fn count(&self, command: &str, batch: BatchId, part: &str) -> usize {
        let key = format!("lapidary:{{b:{batch}}}{part}");
        self.redis.cli(&[command, &key]).trim().parse().unwrap()
    }
}

/// A batch whose items end in an order that is not theirs; its jobs in that order.
async fn finished(results: &RedisResults) -> (Batch, Vec<Job>) {
    let batch = batch();
    results.open_batch(&batch).await.unwrap();
    for (index, items) in [SHARD, SHARD, SHARD, 10].into_iter().enumerate() {
        let shard = shard(u32::try_from(index).unwrap(), items);
        results.append_shard(batch.id, &shard).await.unwrap();
    }
    // 37 and 100 have no common divisor.
    let jobs: Vec<Job> = (0..ITEMS).map(|n| item(&batch, n * 37 % ITEMS)).collect();
    results.begin(&jobs, "w").await.unwrap();
    for some in jobs.chunks(7) {
        let some: Vec<_> = some.iter().map(done).collect();
        results.put_once(&some).await.unwrap();
    }
    (batch, jobs)
}

fn ids(results: &[JobResult]) -> Vec<JobId> {
    results.iter().map(|result| result.job_id).collect()
}

/// All results from a cursor on, so many at once.
async fn read(
    results: &RedisResults,
    batch: BatchId,
    mut cursor: String,
    at_once: usize,
) -> Vec<JobResult> {
    let mut all = Vec::new();
    loop {
        let page = results.tail(batch, &cursor, at_once).await.unwrap();
        assert!(page.results.len() <= at_once);
        if page.results.is_empty() {
            return all;
        }
        all.extend(page.results);
        cursor = page.cursor;
    }
}

async fn read_back(results: &RedisResults, batch: BatchId, at_once: usize) -> Vec<JobResult> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = results.latest(batch, &cursor, at_once).await.unwrap();
        if page.results.is_empty() {
            return all;
        }
        all.extend(page.results);
        cursor = page.cursor;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_find_no_seam() {
    let setting = Setting::new();
    let results = setting.results().await;
    let (batch, jobs) = finished(&results).await;
    let before = read(&results, batch.id, String::new(), 9).await;
    assert_eq!(before.len(), jobs.len());
    let half_way = results.tail(batch.id, "", 50).await.unwrap();

    // Two at once, as an old steward and its successor.
    let other = setting.results().await;
    let (one, two) = tokio::join!(results.pack(batch.id, HOT), other.pack(batch.id, HOT));
    let mut moved = one.unwrap() + two.unwrap();
    while let now @ 1.. = results.pack(batch.id, HOT).await.unwrap() {
        moved += now;
    }
    // The last part is not begun before it can be full.
    let left = ITEMS - moved;
    assert!((HOT as u64..HOT as u64 + 3).contains(&left), "{left} left");
    assert_eq!(setting.count("HLEN", batch.id, ":results") as u64, left);
    assert_eq!(setting.count("XLEN", batch.id, ":order") as u64, left);
    let gone = format!("lapidary:{{{}}}:batch", jobs[0].id);
    assert_eq!(setting.redis.cli(&["EXISTS", &gone]).trim(), "0");

    let reader = setting.results().await;
    for at_once in [1, 7, 1_000] {
        let all = read(&reader, batch.id, String::new(), at_once).await;
        assert_eq!(all, before, "{at_once} at once");
        let mut back = read_back(&reader, batch.id, at_once).await;
        back.reverse();
        assert_eq!(ids(&back), ids(&before), "{at_once} at once, back");
    }
    let rest = read(&reader, batch.id, half_way.cursor, 8).await;
    assert_eq!(rest, before[50..], "a reader goes on where it was");

    let mut named: Vec<_> = jobs.iter().map(|job| (job.item.unwrap(), job.id)).collect();
    named.sort_unstable();
    let of_items = reader.results_of(batch.id, &named).await.unwrap();
    let of_items: Vec<_> = of_items.into_iter().map(Option::unwrap).collect();
    let asked: Vec<_> = named.iter().map(|(_, job)| *job).collect();
    assert_eq!(ids(&of_items), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_moved_is_finished_for_good() {
    let setting = Setting::new();
    let results = setting.results().await;
    let (batch, jobs) = finished(&results).await;
    assert!(results.pack(batch.id, HOT).await.unwrap() > 0);

    // Delivered once more, finished once more, cancelled.
    let first = &jobs[0];
    let begun = results.begin(std::slice::from_ref(first), "w").await;
    assert_eq!(begun.unwrap(), [Begin::Finished]);
    let again = results.put_once(&[done(first)]).await.unwrap();
    assert_eq!(again, [Put::Already(None)]);
    assert_eq!(results.cancel_jobs(&[first.id]).await.unwrap(), [false]);
    let progress = results.progress(batch.id).await.unwrap();
    assert_eq!((progress.succeeded, progress.cancelled), (ITEMS, 0));

    results.seal_batch(batch.id).await.unwrap();
    let progress = results.progress(batch.id).await.unwrap();
    assert_eq!(progress.state, BatchState::Completed);

    // Done anew, it is the last of all.
    let anew = Job {
        replaces: Some(first.id),
        ..item(&batch, first.item.unwrap())
    };
    results.replace(&anew).await.unwrap();
    results.replace(&anew).await.unwrap();
    let progress = results.progress(batch.id).await.unwrap();
    assert_eq!(progress.state, BatchState::InProgress);
    assert_eq!(progress.succeeded, ITEMS - 1);
    let named = [(first.item.unwrap(), first.id)];
    let open = results.results_of(batch.id, &named).await.unwrap();
    assert_eq!(open, [None], "its place is taken");
    let begun = results.begin(&[first.clone(), anew.clone()], "w").await;
    assert_eq!(begun.unwrap(), [Begin::Finished, Begin::Attempt(1)]);
    results.put_once(&[done(&anew)]).await.unwrap();

    // More moves: the new one, too.
    for _ in 0..2 {
        let mut expected: Vec<_> = jobs[1..].iter().map(|job| job.id).collect();
        expected.push(anew.id);
        let all = read(&results, batch.id, String::new(), 10).await;
        assert_eq!(ids(&all), expected);
        let found = results.results_of(batch.id, &named).await.unwrap();
        assert_eq!(found[0].as_ref().unwrap().job_id, anew.id);
        while results.pack(batch.id, 1).await.unwrap() > 0 {}
        assert!(setting.count("HLEN", batch.id, ":results") <= 2);
    }
    let by_item: HashMap<_, _> = read_back(&results, batch.id, 10)
        .await
        .into_iter()
        .map(|result| (result.item.unwrap(), result.job_id))
        .collect();
    assert_eq!(by_item.len() as u64, ITEMS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_that_cannot_be_read_are_said_to_be_somewhere() {
    let setting = Setting::new();
    let results = setting.results().await;
    let (batch, _) = finished(&results).await;
    let other = finished(&results).await.0;
    assert!(results.pack(batch.id, HOT).await.unwrap() > 0);

    let blind = setting.without_archive().await;
    assert_eq!(blind.pack(batch.id, HOT).await.unwrap(), 0);
    let refused = blind.tail(batch.id, "", 10).await.unwrap_err();
    assert!(
        matches!(refused, ResultsError::Unusable { .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("media store"), "{refused}");
    assert!(
        blind.latest(batch.id, "", 5).await.is_ok(),
        "these are here"
    );

    // It is kept as long as its batch needs it, and not longer.
    let late = chrono::Utc::now() + chrono::TimeDelta::days(2);
    let kept = setting.media().collect(late).await.unwrap();
    assert_eq!(kept.objects, 0);
    setting.media().unpin(batch.id).await.unwrap();
    assert!(setting.media().collect(late).await.unwrap().objects > 0);
    let fresh = setting.results().await;
    let lost = fresh.tail(batch.id, "", 10).await.unwrap_err();
    assert!(lost.to_string().contains("is not in the store"), "{lost}");
    assert_eq!(
        read(&fresh, other.id, String::new(), 10).await.len() as u64,
        ITEMS,
        "another batch is not harmed"
    );
}
