//! Jobs through a whole worker on the embedded file, answered by the real engine on a tiny model.

mod filtered;
mod forms;
mod judged;
mod pictures;
mod quality;
mod suspects;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::Utc;
use lapidary_engine::{Engine, EngineOptions, LoadOptions, Quantization};
use lapidary_schemas::limits::ATTEMPTS_DEFAULT;
use lapidary_schemas::request::{Content, FileRef, Part};
use lapidary_schemas::{
    Class, FailureCode, FinishReason, Job, JobId, JobResult, Message, Request, Status, Work,
};
use lapidary_transport::results::JobState;
use lapidary_transport::{Media, Place, PlaceUrls, Queue, Results, Traces};
use tokio_util::task::TaskTracker;

use crate::config::ImageOptions;
use crate::consumer::consume;
use crate::filter::Filters;
use crate::health::Health;
use crate::line::Line;
use crate::ops::Ops;
use crate::shutdown::Stop;
use crate::store::Stores;
use crate::worker::{LineParts, announcement, line, metrics, model_info};

const MODEL: &str = "tiny-gemma";
/// Long enough for a slow machine; nothing here waits that long when it works.
const PATIENCE: Duration = Duration::from_mins(1);

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny-gemma")
}

fn engine() -> Engine {
    small(&fixture(), None)
}

/// A small model on one thread.
fn small(model: &Path, quantization: Option<Quantization>) -> Engine {
    let load = LoadOptions {
        quantization,
        threads: Some(1),
        ..LoadOptions::default()
    };
    let options = EngineOptions {
        slots_max: 8,
        kv_bytes_max: 8 << 20,
        ..EngineOptions::default()
    };
    Engine::load(model, &load, &options).unwrap()
}

/// A worker in this process, on a file of its own.
struct Bench {
    line: Arc<Line>,
    jobs: TaskTracker,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        Self::with(engine(), &ImageOptions::default()).await
    }

    async fn with(engine: Engine, images: &ImageOptions) -> Self {
        Self::filtering(engine, images, Filters::default()).await
    }

    async fn filtering(engine: Engine, images: &ImageOptions, filters: Filters) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = format!("file:{}", folder.path().join("jobs.db").display());
        let urls = PlaceUrls {
            broker,
            ..PlaceUrls::default()
        };
        let stores = Stores::from(Place::open(&urls).await.unwrap());
        let metrics = Arc::new(metrics(MODEL, &filters).unwrap());
        let ops = Ops {
            health: Arc::new(Health::new(metrics.clone())),
            metrics,
            serving: OnceLock::new(),
            stop: Stop::default(),
        };
        let mut info = announcement(model_info(MODEL, images, &engine), 8, None);
        info.id = "worker-1".to_owned();
        let parts = LineParts {
            stores,
            engine,
            filters,
            traces: Traces::off(),
        };
        let line = line(parts, &info, &ops, &TaskTracker::new()).unwrap();
        Self {
            line,
            jobs: TaskTracker::new(),
            _folder: folder,
        }
    }

    fn consume(&self) {
        for class in Class::ALL {
            self.jobs
                .spawn(consume(self.line.clone(), class, 16, self.jobs.clone()));
        }
        let line = self.line.clone();
        self.jobs.spawn(async move {
            let watch = line
                .running
                .watch_cancellations(&*line.stores.results, Duration::from_millis(5));
            line.stop.fetching.run_until_cancelled(watch).await;
        });
        self.jobs.close();
    }

    async fn publish(&self, jobs: &[Job]) {
        self.line.stores.results.register(jobs).await.unwrap();
        self.line.stores.queue.publish(jobs).await.unwrap();
    }

    /// Stops taking jobs and waits for those under way.
    async fn drain(&self) {
        self.line.stop.fetching.cancel();
        tokio::time::timeout(PATIENCE, self.jobs.wait())
            .await
            .unwrap();
    }

    async fn state(&self, job: JobId) -> JobState {
        self.line
            .stores
            .results
            .get(&[job])
            .await
            .unwrap()
            .pop()
            .unwrap()
            .unwrap()
    }

    async fn until(&self, job: JobId, reached: impl Fn(&JobState) -> bool) -> JobState {
        let look = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            loop {
                ticks.tick().await;
                let state = self.state(job).await;
                if reached(&state) {
                    return state;
                }
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap()
    }

    async fn result(&self, job: JobId) -> JobResult {
        match self
            .until(job, |state| matches!(state, JobState::Finished(_)))
            .await
        {
            JobState::Finished(result) => *result,
            other => panic!("{other:?}"),
        }
    }
}

fn job(text: &str, max_tokens: u32) -> Job {
    let now = Utc::now();
    Job {
        version: lapidary_schemas::job::ENVELOPE_VERSION,
        id: JobId::new(now),
        replaces: None,
        batch_id: None,
        item: None,
        custom_id: None,
        tenant: "t".to_owned(),
        model: MODEL.to_owned(),
        class: Class::Interactive,
        work: Work::Chat,
        attempts_max: ATTEMPTS_DEFAULT,
        created_at: now,
        deadline: None,
        traceparent: None,
        request: Request {
            messages: vec![Message::user(text)],
            max_tokens: Some(max_tokens),
            temperature: Some(0.0),
            ..Request::default()
        },
    }
}

#[tokio::test]
async fn jobs_are_answered_once_and_say_how() {
    let bench = Bench::start().await;
    bench.consume();
    let jobs: Vec<Job> = (0..40)
        .map(|n| job(&format!("Describe picture {n}."), 8))
        .collect();
    bench.publish(&jobs).await;
    // A second delivery of the same job finds its result.
    bench.line.stores.queue.publish(&jobs[..3]).await.unwrap();
    for job in &jobs {
        let result = bench.result(job.id).await;
        assert_eq!(result.status, Status::Succeeded, "{result:?}");
        assert!(!result.text.unwrap().is_empty());
        assert_eq!(result.finish_reason, Some(FinishReason::Length));
        assert_eq!(result.usage.completion_tokens, 8);
        assert!(result.usage.prompt_tokens > 8);
        assert_eq!(result.attempt, 1);
        assert_eq!(result.worker.as_deref(), Some("worker-1"));
        let model = result.model.unwrap();
        assert_eq!(
            (model.name.as_str(), model.weights_sha256.len()),
            (MODEL, 64)
        );
        assert!(result.tokens_per_second.unwrap() > 0.0);
        assert!(result.timings.total >= result.timings.queue);
    }
    bench.drain().await;
    let metrics = bench.line.metrics.exposition().unwrap();
    let stored = "lapidary_jobs_total{class=\"interactive\",code=\"NONE\",status=\"succeeded\"} 40";
    assert!(metrics.contains(stored), "{metrics}");
}

#[tokio::test]
async fn what_cannot_be_answered_fails_with_its_reason() {
    let bench = Bench::start().await;
    bench.consume();
    let mut image = job("", 4);
    image.request.messages[0].content = serde_json::from_value(serde_json::json!([
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    ]))
    .unwrap();
    let long = job("too long ".repeat(2_000).as_str(), 8);
    let mut missing = job("", 4);
    let reference = format!("media:{}:5", "0".repeat(64));
    missing.request.messages[0].content = Content::Parts(vec![file(&reference)]);
    missing.attempts_max = 1;
    let mut late = job("Hello", 4);
    late.created_at -= chrono::TimeDelta::hours(2);
    late.deadline = Some(late.created_at + chrono::TimeDelta::hours(1));
    let jobs = [image, long, missing, late];
    bench.publish(&jobs).await;
    let expected = [
        (Status::Failed, FailureCode::ValidationError, "image"),
        (
            Status::Failed,
            FailureCode::PromptTooLong,
            "`tiny-gemma` is 2048",
        ),
        (
            Status::Failed,
            FailureCode::MediaUnreachable,
            "is not in the store",
        ),
        (Status::Expired, FailureCode::DeadlineExceeded, "deadline"),
    ];
    for (job, (status, code, said)) in jobs.iter().zip(expected) {
        let result = bench.result(job.id).await;
        let failure = result.failure.unwrap();
        assert_eq!((result.status, failure.code), (status, code), "{failure}");
        assert!(failure.message.contains(said), "{failure}");
    }
    // Only used-up attempts are an operator's business.
    let (dead, _) = bench
        .line
        .stores
        .results
        .dead_letters("", 10)
        .await
        .unwrap();
    assert_eq!(
        dead.iter().map(|dead| dead.job_id).collect::<Vec<_>>(),
        [jobs[2].id]
    );
    bench.drain().await;
}

fn file(reference: &str) -> Part {
    let file = FileRef {
        filename: Some("a.txt".to_owned()),
        file_data: reference.to_owned(),
    };
    Part::File { file }
}

#[tokio::test]
async fn a_document_stands_where_its_part_does() {
    let bench = Bench::start().await;
    bench.consume();
    let text = "Water runs down the hill.";
    let media = bench.line.stores.media.put("t", text.into()).await.unwrap();
    let part = |text: &str| Part::Text {
        text: text.to_owned(),
    };
    let mut by_reference = job("", 6);
    by_reference.request.messages[0].content = Content::Parts(vec![
        part("Summary of: "),
        file(&media.to_string()),
        part(" Now."),
    ]);
    let mut inline = job("", 6);
    let data = format!(
        "data:text/plain;base64,{}",
        "V2F0ZXIgcnVucyBkb3duIHRoZSBoaWxsLg=="
    );
    inline.request.messages[0].content =
        Content::Parts(vec![part("Summary of: "), file(&data), part(" Now.")]);
    let plain = job(&format!("Summary of: {text} Now."), 6);
    bench
        .publish(&[by_reference.clone(), inline.clone(), plain.clone()])
        .await;
    let expected = bench.result(plain.id).await;
    for job in [by_reference, inline] {
        let result = bench.result(job.id).await;
        assert_eq!(result.text, expected.text);
        assert_eq!(result.usage.prompt_tokens, expected.usage.prompt_tokens);
    }
    bench.drain().await;
}

#[tokio::test]
async fn functions_are_told_of_and_words_stay_text() {
    let bench = Bench::start().await;
    bench.consume();
    let plain = job("What is the weather?", 6);
    let offering = |choice: &str| {
        let mut job = job("What is the weather?", 6);
        let tool = serde_json::json!({"type": "function", "function": {"name": "look_outside"}});
        job.request.tools = serde_json::from_value(serde_json::json!([tool])).unwrap();
        job.request.tool_choice = serde_json::from_value(choice.into()).unwrap();
        job
    };
    let (auto, none, required) = (offering("auto"), offering("none"), offering("required"));
    bench
        .publish(&[plain.clone(), auto.clone(), none.clone(), required.clone()])
        .await;
    let (plain, none) = (bench.result(plain.id).await, bench.result(none.id).await);
    assert_eq!(none.text, plain.text);
    assert_eq!(none.usage.prompt_tokens, plain.usage.prompt_tokens);
    let auto = bench.result(auto.id).await;
    assert_eq!(auto.status, Status::Succeeded, "{auto:?}");
    assert!(auto.usage.prompt_tokens > plain.usage.prompt_tokens + 20);
    assert!(auto.text.is_some() && auto.tool_calls.is_empty());
    assert_eq!(auto.finish_reason, Some(FinishReason::Length));
    let required = bench.result(required.id).await;
    let failure = required.failure.unwrap();
    assert_eq!(
        failure.to_string(),
        "QUALITY_REJECTED: `tool_choice` asks for a call, the answer of 6 tokens was cut off"
    );
    assert_eq!((required.status, required.attempt), (Status::Failed, 1));
    bench.drain().await;
}

#[tokio::test]
async fn what_somebody_waits_for_is_readable_on_the_way() {
    let bench = Bench::start().await;
    bench.consume();
    let bulk = Job {
        class: Class::Bulk,
        ..job("Tell me more.", 1_500)
    };
    let watched = job("Tell me more.", 1_500);
    bench.publish(&[bulk.clone(), watched.clone()]).await;
    let seen = bench
        .until(watched.id, |state| partial(state) != Some(""))
        .await;
    let JobState::Running { partial, .. } = seen else {
        panic!("it ended before it was seen: {seen:?}")
    };
    let state = bench.state(bulk.id).await;
    assert!(
        matches!(&state, JobState::Running { partial, .. } if partial.is_empty()),
        "{state:?}"
    );
    let whole = bench.result(watched.id).await.text.unwrap();
    assert!(whole.starts_with(&partial), "{partial:?} of {whole:?}");
    assert_eq!(bench.result(bulk.id).await.text.unwrap(), whole);
    bench.drain().await;
}

/// The text so far of a job that is not finished.
fn partial(state: &JobState) -> Option<&str> {
    match state {
        JobState::Waiting { .. } => Some(""),
        JobState::Running { partial, .. } => Some(partial),
        JobState::Finished(_) => None,
    }
}

#[tokio::test]
async fn a_job_under_way_stops_when_it_is_cancelled() {
    let bench = Bench::start().await;
    bench.consume();
    // More than the engine runs at once: the last one is under way for long.
    let jobs: Vec<Job> = (0..16).map(|n| job(&format!("Hello {n}"), 2_000)).collect();
    let last = jobs[15].id;
    bench.publish(&jobs).await;
    bench
        .until(last, |state| matches!(state, JobState::Running { .. }))
        .await;
    let cancelled = bench
        .line
        .stores
        .results
        .cancel_jobs(&[last])
        .await
        .unwrap();
    assert_eq!(cancelled, [true]);
    let result = bench.result(last).await;
    assert_eq!(result.status, Status::Cancelled);
    assert_eq!(result.failure.unwrap().code, FailureCode::Cancelled);
    bench.line.stop.working.cancel();
    bench.drain().await;
}

#[tokio::test]
async fn what_is_handed_back_is_not_counted() {
    let bench = Bench::start().await;
    bench.consume();
    let endless = job("Hello", 2_000);
    bench.publish(std::slice::from_ref(&endless)).await;
    bench
        .until(endless.id, |state| {
            matches!(state, JobState::Running { .. })
        })
        .await;
    bench.line.stop.fetching.cancel();
    bench.line.stop.working.cancel();
    tokio::time::timeout(PATIENCE, bench.jobs.wait())
        .await
        .unwrap();
    let state = bench.state(endless.id).await;
    assert_eq!(state, JobState::Waiting { attempts: 0 });
}
