//! The steward on an embedded file: every tick is called with its time, and workers are played.

mod abandoned;
mod believed;
mod windows;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chrono::TimeDelta;
use lapidary_schemas::batch::{ManifestItem, Shard};
use lapidary_schemas::job::ENVELOPE_VERSION;
use lapidary_schemas::limits::QUEUE_MESSAGE_BYTES_MAX;
use lapidary_schemas::{
    Batch, BatchState, Class, Failure, FailureCode, Job, JobResult, Message, ModelInfo, Request,
    Status, Work, WorkerInfo,
};

use super::items::unworked_job;
use super::*;
use crate::queue::{Delivery, Lane, Receipt, Settle};
use crate::results::{Begin, Finished};
use crate::{AnyMedia, AnyQueue, AnyResults, Place, PlaceUrls};

struct Bench {
    _folder: tempfile::TempDir,
    queue: Arc<AnyQueue>,
    results: Arc<AnyResults>,
    media: Arc<AnyMedia>,
}

fn after(seconds: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::seconds(seconds)
}

fn lane(class: Class) -> Lane {
    Lane::Jobs {
        model: "gemma".to_owned(),
        class,
    }
}

impl Bench {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = format!("file:{}", folder.path().join("jobs").display());
        let place = Place::open(&PlaceUrls {
            broker,
            ..PlaceUrls::default()
        })
        .await
        .unwrap();
        Self {
            _folder: folder,
            queue: Arc::new(place.queue),
            results: Arc::new(place.results),
            media: Arc::new(place.media),
        }
    }

    fn steward(&self, holder: &str, window: usize) -> Steward<AnyQueue, AnyResults, AnyMedia> {
        let options = StewardOptions {
            window,
            ..StewardOptions::new(holder)
        };
        let (queue, results) = (Arc::clone(&self.queue), Arc::clone(&self.results));
        Steward::new(queue, results, Arc::clone(&self.media), options)
    }

    /// A sealed batch of these manifest lines, `shard_items` a shard.
    async fn batch_of(&self, batch: &Batch, lines: &[String], shard_items: usize) -> BatchId {
        self.results.open_batch(batch).await.unwrap();
        for (index, lines) in lines.chunks(shard_items).enumerate() {
            let bytes = (lines.join("\n") + "\n").into_bytes();
            let lines_ref = self.media.put(&batch.tenant, bytes).await.unwrap();
            let pins = [lines_ref.clone()];
            self.media
                .pin(&batch.tenant, batch.id, &pins)
                .await
                .unwrap();
            let shard = Shard {
                index: u32::try_from(index).unwrap(),
                items: u32::try_from(lines.len()).unwrap(),
                lines: lines_ref,
            };
            self.results.append_shard(batch.id, &shard).await.unwrap();
        }
        self.results.seal_batch(batch.id).await.unwrap();
        batch.id
    }

    async fn batch(&self, tenant: &str, items: usize, shard_items: usize) -> BatchId {
        let lines: Vec<String> = (0..items)
            .map(|item| line(&format!("item {item}")))
            .collect();
        self.batch_of(&batch(tenant), &lines, shard_items).await
    }

    async fn depth(&self, class: Class) -> u64 {
        self.queue.depth(&lane(class)).await.unwrap()
    }

    /// Takes jobs as a worker, answers them, and returns them.
    async fn work(&self, max: usize) -> Vec<Job> {
        let deliveries = self.queue.receive(&lane(Class::Bulk), max).await.unwrap();
        let (mut jobs, mut settled) = (Vec::new(), Vec::new());
        for delivery in deliveries {
            jobs.push(delivery.body.unwrap());
            settled.push((delivery.receipt, Settle::Done));
        }
        let begun = self.results.begin(&jobs, "worker").await.unwrap();
        let finished: Vec<Finished> = jobs
            .iter()
            .zip(begun)
            .filter(|(_, begun)| matches!(begun, Begin::Attempt(_) | Begin::Suspect { .. }))
            .map(|(job, _)| Finished {
                result: answer(job),
                dead_letter: None,
            })
            .collect();
        self.results.put_once(&finished).await.unwrap();
        for outcome in self.queue.settle(settled).await {
            outcome.unwrap();
        }
        jobs
    }

    /// Takes jobs off the queue as if a broker had lost them.
    async fn lose(&self, max: usize) -> Vec<Job> {
        let deliveries = self.queue.receive(&lane(Class::Bulk), max).await.unwrap();
        let (mut jobs, mut settled) = (Vec::new(), Vec::new());
        for delivery in deliveries {
            jobs.push(delivery.body.unwrap());
            settled.push((delivery.receipt, Settle::Done));
        }
        for outcome in self.queue.settle(settled).await {
            outcome.unwrap();
        }
        jobs
    }

    async fn results_of(&self, batch: BatchId) -> BTreeMap<u64, JobResult> {
        let page = self.results.tail(batch, "", 10_000).await.unwrap();
        page.results
            .into_iter()
            .map(|result| (result.item.unwrap(), result))
            .collect()
    }
}

fn batch(tenant: &str) -> Batch {
    let now = Utc::now();
    Batch {
        id: BatchId::new(now),
        tenant: tenant.to_owned(),
        model: "gemma".to_owned(),
        class: Class::Bulk,
        attempts_max: 2,
        created_at: now,
        deadline: None,
        retention_s: 7 * 24 * 3_600,
        metadata: BTreeMap::new(),
        traceparent: None,
    }
}

fn line(custom_id: &str) -> String {
    line_saying(custom_id, "hello")
}

fn line_saying(custom_id: &str, text: &str) -> String {
    let item = ManifestItem {
        id: JobId(uuid::Uuid::now_v7()),
        custom_id: custom_id.to_owned(),
        work: Work::Chat,
        request: Request {
            messages: vec![Message::user(text)],
            ..Request::default()
        },
    };
    serde_json::to_string(&item).unwrap()
}

fn answer(job: &Job) -> JobResult {
    let failure = Failure::new(FailureCode::Internal, "");
    JobResult {
        text: Some("answer".to_owned()),
        failure: None,
        attempt: 1,
        ..unworked_job(job, Status::Succeeded, failure, Utc::now())
    }
}

/// A worker of five slots with these jobs under way.
fn worker(id: &str, jobs: Option<Vec<JobId>>) -> WorkerInfo {
    WorkerInfo {
        id: id.to_owned(),
        model: ModelInfo {
            name: "gemma".to_owned(),
            weights_sha256: String::new(),
            quantization: String::new(),
            template_sha256: String::new(),
            chat: true,
            context_tokens_max: 1,
            modalities: Vec::new(),
            pan_and_scan: false,
            fetch: Vec::new(),
            tier: String::new(),
        },
        listen: None,
        slots: 5,
        started_at: Utc::now(),
        jobs,
    }
}

fn interactive(deadline: Option<DateTime<Utc>>) -> Job {
    Job {
        version: ENVELOPE_VERSION,
        id: JobId(uuid::Uuid::now_v7()),
        replaces: None,
        batch_id: None,
        item: None,
        custom_id: None,
        tenant: "acme".to_owned(),
        model: "gemma".to_owned(),
        class: Class::Interactive,
        work: Work::Chat,
        attempts_max: 2,
        created_at: Utc::now(),
        deadline,
        traceparent: None,
        request: Request {
            messages: vec![Message::user("hello")],
            ..Request::default()
        },
    }
}

#[tokio::test]
async fn a_batch_is_fed_within_its_window_and_completes() {
    let bench = Bench::open().await;
    let id = bench.batch("acme", 25, 10).await;
    let mut steward = bench.steward("a", 8);
    let report = steward.tick(Utc::now()).await;
    assert_eq!(
        (report.fed, report.outstanding, report.hungry),
        (8, 8, true)
    );
    assert_eq!(bench.depth(Class::Bulk).await, 8);
    assert_eq!(steward.tick(Utc::now()).await.fed, 0);
    bench.work(1).await;
    assert_eq!(
        steward.tick(Utc::now()).await.fed,
        0,
        "one free place is no step's worth"
    );
    let mut items: Vec<u64> = vec![0];
    while items.len() < 25 {
        let report = steward.tick(Utc::now()).await;
        assert!(!report.any_error() && report.outstanding <= 8);
        items.extend(bench.work(5).await.iter().map(|job| job.item.unwrap()));
    }
    assert_eq!(items, (0..25).collect::<Vec<u64>>());
    let progress = bench.results.progress(id).await.unwrap();
    assert_eq!(
        (progress.state, progress.succeeded),
        (BatchState::Completed, 25)
    );
    let report = steward.tick(Utc::now()).await;
    assert_eq!((report.open_batches, report.hungry), (0, false));
}

#[tokio::test]
async fn tenants_get_equal_shares_however_many_batches_they_have() {
    let bench = Bench::open().await;
    for _ in 0..3 {
        bench.batch("large", 100, 100).await;
    }
    bench.batch("small", 100, 100).await;
    let mut steward = bench.steward("a", 20);
    let mut worked: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..12 {
        steward.tick(Utc::now()).await;
        for job in bench.work(10).await {
            *worked.entry(job.tenant).or_default() += 1;
        }
    }
    let (large, small) = (worked["large"], worked["small"]);
    assert!(large.abs_diff(small) <= 20, "large {large}, small {small}");
}

#[tokio::test]
async fn items_that_cannot_travel_get_their_result() {
    let bench = Bench::open().await;
    let too_large = line_saying("large", &"x".repeat(QUEUE_MESSAGE_BYTES_MAX));
    let lines = [line("first"), too_large, "no item".to_owned(), line("last")];
    let id = bench.batch_of(&batch("acme"), &lines, 3).await;
    let report = bench.steward("a", 8).tick(Utc::now()).await;
    assert_eq!((report.fed, report.refused), (4, 2));
    assert_eq!(bench.work(8).await.len(), 2);
    let results = bench.results_of(id).await;
    let failure = |item: u64| results[&item].failure.clone().unwrap();
    assert_eq!(failure(1).code, FailureCode::ValidationError);
    assert!(
        failure(1).message.ends_with(
            "bytes, the limit is 1048576; send long text and media as `media:` references"
        ),
        "{}",
        failure(1).message
    );
    assert_eq!(results[&1].custom_id.as_deref(), Some("large"));
    assert_eq!(
        failure(2).message,
        "item 2 of the manifest cannot be read: expected ident at line 1 column 2"
    );
    let progress = bench.results.progress(id).await.unwrap();
    assert_eq!((progress.succeeded, progress.failed), (2, 2));
    assert_eq!(progress.state, BatchState::Completed);
}

#[tokio::test]
async fn one_steward_works_and_another_goes_on_where_it_stopped() {
    let bench = Bench::open().await;
    let id = bench.batch("acme", 10, 10).await;
    let (mut first, mut second) = (bench.steward("a", 4), bench.steward("b", 8));
    assert_eq!(first.tick(Utc::now()).await.fed, 4);
    assert_eq!(second.tick(Utc::now()).await, TickReport::default());
    let stop = CancellationToken::new();
    stop.cancel();
    first.run(stop, |_| {}).await;
    let report = second.tick(Utc::now()).await;
    assert_eq!((report.leader, report.fed), (true, 4));
    assert_eq!(bench.work(8).await.len(), 8);
    second.tick(Utc::now()).await;
    assert_eq!(bench.work(8).await.len(), 2);
    assert_eq!(
        bench.results.progress(id).await.unwrap().state,
        BatchState::Completed
    );
}

#[tokio::test]
async fn a_running_steward_keeps_up_with_its_workers() {
    let bench = Bench::open().await;
    let id = bench.batch("acme", 3_000, 1_000).await;
    let steward = bench.steward("a", 200);
    let stop = CancellationToken::new();
    let worker = async {
        let mut worked = 0;
        while worked < 3_000 {
            worked += bench.work(200).await.len();
        }
        stop.cancel();
    };
    tokio::join!(steward.run(stop.clone(), |_| {}), worker);
    assert_eq!(bench.results.progress(id).await.unwrap().succeeded, 3_000);
}

#[tokio::test]
async fn jobs_that_the_queue_lost_are_published_again() {
    let bench = Bench::open().await;
    let id = bench.batch("acme", 6, 4).await;
    let mut steward = bench.steward("a", 8);
    assert_eq!(steward.tick(Utc::now()).await.fed, 6);
    bench.work(2).await;
    assert_eq!(bench.lose(4).await.len(), 4);
    assert_eq!(steward.tick(after(3)).await.republished, 0);
    let report = steward.tick(after(40)).await;
    assert_eq!((report.republished, report.any_error()), (4, false));
    assert_eq!(
        steward.tick(after(80)).await.republished,
        0,
        "it waits longer the next time"
    );
    bench.work(4).await;
    assert_eq!(bench.results.progress(id).await.unwrap().succeeded, 6);
}

#[tokio::test]
async fn a_paused_batch_rests_and_what_was_let_go_comes_back_at_once() {
    let bench = Bench::open().await;
    let mut steward = bench.steward("a", 6);
    let paused = bench.batch("acme", 12, 5).await;
    assert_eq!(steward.tick(Utc::now()).await.fed, 6);
    assert!(bench.results.pause_batch(paused, true).await.unwrap());
    // Workers let go of what is on the queue, and the tenant's other batches have all of its window.
    assert_eq!(bench.work(4).await.len(), 4);
    let other = bench.batch("acme", 6, 6).await;
    let report = steward.tick(after(1)).await;
    assert_eq!(
        (report.fed, report.outstanding, report.hungry),
        (6, 6, true)
    );
    assert_eq!(bench.work(100).await.len(), 2 + 6);
    assert_eq!(bench.results_of(other).await.len(), 6);
    // It is not lost, however long it rests.
    let report = steward.tick(after(10_000)).await;
    assert_eq!(
        (report.fed, report.republished, report.hungry),
        (0, 0, false)
    );
    assert_eq!(bench.results_of(paused).await.len(), 0);

    assert!(bench.results.pause_batch(paused, false).await.unwrap());
    assert_eq!(steward.tick(after(10_003)).await.republished, 6);
    let mut jobs = bench.work(100).await;
    let report = steward.tick(after(10_006)).await;
    assert_eq!((report.fed, report.republished), (6, 0));
    jobs.extend(bench.work(100).await);
    assert_eq!(jobs.len(), 12);
    assert_eq!(bench.results_of(paused).await.len(), 12);
    let counts = bench.results.progress(paused).await.unwrap();
    assert_eq!(
        (counts.state, counts.succeeded),
        (BatchState::Completed, 12)
    );
}

#[tokio::test]
async fn a_job_that_workers_die_on_is_given_up() {
    let bench = Bench::open().await;
    let id = bench.batch("acme", 1, 1).await;
    let mut steward = bench.steward("a", 8);
    steward.tick(Utc::now()).await;
    let jobs = bench.lose(1).await;
    for _ in 0..2 {
        bench.results.begin(&jobs, "gone").await.unwrap();
    }
    steward.tick(after(3)).await;
    assert_eq!(steward.tick(after(40)).await.worker_lost, 1);
    let result = &bench.results_of(id).await[&0];
    let failure = result.failure.clone().unwrap();
    assert_eq!((failure.code, result.attempt), (FailureCode::WorkerLost, 2));
    assert_eq!(
        failure.message,
        "workers were lost on it 2 times, the limit is 2 attempts"
    );
    let letter = bench
        .results
        .dead_letter(jobs[0].id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((letter.attempts, letter.job.as_ref()), (2, jobs.first()));
}

#[tokio::test]
async fn single_jobs_that_were_never_published_are_and_late_ones_expire() {
    let bench = Bench::open().await;
    let (lost, late) = (interactive(None), interactive(Some(after(5))));
    bench
        .results
        .register(&[lost.clone(), late.clone()])
        .await
        .unwrap();
    let mut steward = bench.steward("a", 8);
    let report = steward.tick(Utc::now()).await;
    assert_eq!((report.republished, report.expired_jobs), (0, 0));
    let report = steward.tick(after(40)).await;
    assert_eq!((report.republished, report.expired_jobs), (1, 1));
    assert_eq!(bench.depth(Class::Interactive).await, 1);
    let report = steward.tick(after(80)).await;
    assert_eq!(report.republished, 0, "it waits on the queue");
}

#[tokio::test]
async fn a_batch_past_its_deadline_expires() {
    let bench = Bench::open().await;
    let late = Batch {
        deadline: Some(after(60)),
        ..batch("acme")
    };
    let id = bench.batch_of(&late, &[line("a"), line("b")], 2).await;
    let mut steward = bench.steward("a", 1);
    assert_eq!(steward.tick(Utc::now()).await.fed, 1);
    assert_eq!(steward.tick(after(61)).await.expired_batches, 1);
    let progress = bench.results.progress(id).await.unwrap();
    assert_eq!((progress.state, progress.expired), (BatchState::Expired, 2));
}

#[tokio::test]
async fn media_is_unpinned_once_the_retention_has_ended() {
    let bench = Bench::open().await;
    let id = bench.batch("acme", 1, 1).await;
    let mut steward = bench.steward("a", 8);
    let report = steward.tick(Utc::now()).await;
    assert_eq!((report.unpinned, report.collected), (0, 0));
    bench.work(1).await;
    assert_eq!(steward.tick(after(6 * 24 * 3_600)).await.unpinned, 0);
    let report = steward.tick(after(7 * 24 * 3_600)).await;
    assert_eq!(
        (report.unpinned, report.collected, report.any_error()),
        (1, 1, false)
    );
    assert_eq!(bench.media.pinned(None, 10).await.unwrap(), []);
    assert!(bench.results.batch(id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_lost_manifest_is_reported_and_tried_again_with_patience() {
    let bench = Bench::open().await;
    let batch = batch("acme");
    bench.results.open_batch(&batch).await.unwrap();
    let lines = lapidary_schemas::MediaRef {
        sha256: "a".repeat(64),
        bytes: 1,
    };
    let shard = Shard {
        index: 0,
        items: 1,
        lines,
    };
    bench.results.append_shard(batch.id, &shard).await.unwrap();
    bench.batch("other", 1, 1).await;
    let mut steward = bench.steward("a", 8);
    let report = steward.tick(Utc::now()).await;
    assert_eq!(
        (report.media_errors, report.fed),
        (1, 1),
        "others are fed all the same"
    );
    assert!(!steward.tick(Utc::now()).await.any_error(), "it rests");
    assert_eq!(steward.tick(after(2)).await.media_errors, 1);
}

/// A queue that may be out of reach, and how often it was asked.
#[derive(Debug)]
struct Gate {
    queue: Arc<AnyQueue>,
    away: AtomicBool,
    asked: AtomicUsize,
}

impl Gate {
    fn ask(&self) -> Result<&AnyQueue, QueueError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if !self.away.load(Ordering::Relaxed) {
            return Ok(&self.queue);
        }
        Err(QueueError::Unreachable {
            url: "amqp://nowhere".to_owned(),
            message: "connection refused".to_owned(),
        })
    }
}

impl Queue for Gate {
    async fn publish(&self, jobs: &[Job]) -> Result<(), QueueError> {
        self.ask()?.publish(jobs).await
    }

    async fn receive(&self, lane: &Lane, max: usize) -> Result<Vec<Delivery>, QueueError> {
        self.ask()?.receive(lane, max).await
    }

    async fn settle(&self, settled: Vec<(Receipt, Settle)>) -> Vec<Result<(), QueueError>> {
        self.queue.settle(settled).await
    }

    async fn depth(&self, lane: &Lane) -> Result<u64, QueueError> {
        self.ask()?.depth(lane).await
    }
}

#[tokio::test]
async fn a_queue_out_of_reach_is_tried_once_a_tick_and_used_seconds_after_it_is_back() {
    let bench = Bench::open().await;
    for tenant in ["a", "b", "c"] {
        bench.batch(tenant, 2, 2).await;
    }
    let queue = Arc::new(Gate {
        queue: Arc::clone(&bench.queue),
        away: AtomicBool::new(true),
        asked: AtomicUsize::new(0),
    });
    let (results, media) = (Arc::clone(&bench.results), Arc::clone(&bench.media));
    let options = StewardOptions::new("a");
    let mut steward = Steward::new(Arc::clone(&queue), results, media, options);
    for tick in 1..=600 {
        assert_eq!(steward.tick(after(tick)).await.fed, 0);
        let asked = queue.asked.swap(0, Ordering::Relaxed);
        assert!(asked <= 1, "asked {asked} times in one tick");
    }
    queue.away.store(false, Ordering::Relaxed);
    let fed: Vec<u64> = vec![
        steward.tick(after(600)).await.fed,
        steward.tick(after(609)).await.fed,
    ];
    assert_eq!(fed.iter().sum::<u64>(), 6, "{fed:?}");
}
