//! A worker that answers from the request alone: the caption of a text is made of its size and its
//! first word, that of a picture of its size and its prompt.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::Utc;
use lapidary_schemas::request::Content;
use lapidary_schemas::result::{Timings, Usage};
use lapidary_schemas::{
    Class, Failure, FailureCode, FinishReason, Job, JobResult, MediaRef, ModelInfo, Part, Status,
    WorkerInfo,
};
use lapidary_transport::queue::Settle;
use lapidary_transport::results::{Begin, Finished};
use lapidary_transport::{
    Lane, Media as _, Place, PlaceUrls, Queue as _, Results as _, Steward, StewardOptions,
};
use tokio_util::sync::CancellationToken;

/// Name of the model it pretends to serve.
pub(crate) const MODEL: &str = "pretender";
/// What its answer to a picture begins with.
const IMAGE: &str = "picture";
/// Tokens a picture takes.
pub(crate) const IMAGE_TOKENS: u32 = 16;
/// Tokens of its context; a word is a token.
pub(crate) const CONTEXT: u32 = 1_000;

/// Stops when dropped.
pub(crate) struct FakeWorker {
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Jobs it has answered.
    pub(crate) answered: Arc<AtomicU64>,
}

impl FakeWorker {
    /// Serves the place at an embedded file.
    pub(crate) fn start(store: &Path) -> Self {
        Self::with_limit(store, u64::MAX)
    }

    /// Answers so many jobs and then leaves the others waiting.
    pub(crate) fn with_limit(store: &Path, limit: u64) -> Self {
        Self::serving(store, limit, info(&[], false))
    }

    /// Serves a model that reads pictures.
    pub(crate) fn seeing(store: &Path) -> Self {
        Self::serving(store, u64::MAX, info(&["image"], false))
    }

    /// Serves a model that reads pictures and follows instructions.
    pub(crate) fn following(store: &Path) -> Self {
        Self::serving(store, u64::MAX, info(&["image"], true))
    }

    fn serving(store: &Path, limit: u64, info: WorkerInfo) -> Self {
        let stop = CancellationToken::new();
        let answered = Arc::new(AtomicU64::new(0));
        let urls = PlaceUrls {
            broker: format!("file:{}", store.display()),
            ..PlaceUrls::default()
        };
        let (token, count) = (stop.clone(), Arc::clone(&answered));
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let place = Place::open(&urls).await.unwrap();
                place
                    .results
                    .announce(&info, Duration::from_mins(1))
                    .await
                    .unwrap();
                ready.send(()).unwrap();
                token
                    .run_until_cancelled(Box::pin(serve(place, count, limit, token.clone())))
                    .await;
            });
        });
        is_ready.recv().unwrap();
        Self {
            stop,
            thread: Some(thread),
            answered,
        }
    }

    /// Jobs answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn info(modalities: &[&str], chat: bool) -> WorkerInfo {
    WorkerInfo {
        id: "fake".to_owned(),
        model: ModelInfo {
            name: MODEL.to_owned(),
            weights_sha256: "1".repeat(64),
            quantization: "q8".to_owned(),
            template_sha256: "2".repeat(64),
            chat,
            context_tokens_max: CONTEXT,
            modalities: modalities.iter().map(ToString::to_string).collect(),
            pan_and_scan: false,
            fetch: Vec::new(),
            tier: "none".to_owned(),
        },
        listen: None,
        slots: 4,
        started_at: Utc::now(),
        jobs: None,
    }
}

async fn serve(place: Place, answered: Arc<AtomicU64>, limit: u64, stop: CancellationToken) {
    let (queue, results, media) = (
        Arc::new(place.queue),
        Arc::new(place.results),
        Arc::new(place.media),
    );
    let steward = Steward::new(
        Arc::clone(&queue),
        Arc::clone(&results),
        Arc::clone(&media),
        StewardOptions::new("fake"),
    );
    let work = async {
        let lane = Lane::Jobs {
            model: MODEL.to_owned(),
            class: Class::Bulk,
        };
        while answered.load(Ordering::SeqCst) < limit {
            for delivery in queue.receive(&lane, 16).await.unwrap() {
                let job = delivery.body.unwrap();
                let begun = results
                    .begin(std::slice::from_ref(&job), "fake")
                    .await
                    .unwrap();
                if matches!(begun[0], Begin::Attempt(_)) {
                    let text = prompt(&job, &media).await;
                    let finished = Finished {
                        result: answer(&job, &text),
                        dead_letter: None,
                    };
                    results.put_once(&[finished]).await.unwrap();
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                let settled = queue.settle(vec![(delivery.receipt, Settle::Done)]).await;
                assert!(settled.iter().all(Result::is_ok));
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::join!(steward.run(stop, |_| ()), work);
}

async fn prompt(job: &Job, media: &lapidary_transport::AnyMedia) -> String {
    match &job.request.messages[0].content {
        Content::Text(text) => text.clone(),
        Content::Parts(parts) => {
            let mut whole = String::new();
            for part in parts {
                match part {
                    Part::Text { text } => whole.push_str(text),
                    Part::ImageUrl { image_url } => {
                        let reference: MediaRef = image_url.url.parse().unwrap();
                        let bytes = media.get(&job.tenant, &reference).await.unwrap();
                        write!(whole, "{IMAGE} of {} bytes: ", bytes.len()).unwrap();
                    }
                    Part::File { file } => {
                        let reference: MediaRef = file.file_data.parse().unwrap();
                        let bytes = media.get(&job.tenant, &reference).await.unwrap();
                        whole.push_str(std::str::from_utf8(&bytes).unwrap());
                    }
                    other @ Part::InputAudio { .. } => {
                        panic!("no such part in these tests: {other:?}")
                    }
                }
            }
            whole
        }
    }
}

fn answer(job: &Job, prompt: &str) -> JobResult {
    let tokens = u32::try_from(prompt.split_whitespace().count()).unwrap();
    let asked = job.request.max_tokens.unwrap();
    let too_long = tokens + asked > CONTEXT;
    let first = prompt.split_whitespace().next().unwrap_or_default();
    let text = match prompt.strip_prefix(IMAGE) {
        Some(_) => prompt.to_owned(),
        None => format!(" {tokens} words from {first}"),
    };
    JobResult {
        job_id: job.id,
        batch_id: job.batch_id,
        item: job.item,
        custom_id: job.custom_id.clone(),
        status: if too_long { Status::Failed } else { Status::Succeeded },
        text: (!too_long).then_some(text),
        tool_calls: Vec::new(),
        finish_reason: (!too_long).then_some(FinishReason::Stop),
        usage: Usage {
            prompt_tokens: if too_long { 0 } else { tokens },
            completion_tokens: if too_long { 0 } else { 4 },
            image_tokens: if prompt.starts_with(IMAGE) { IMAGE_TOKENS } else { 0 },
            ..Usage::default()
        },
        timings: Timings::default(),
        tokens_per_second: None,
        filter: Vec::new(),
        failure: too_long.then(|| {
            Failure::new(
                FailureCode::PromptTooLong,
                format!("prompt is {tokens} tokens and asks for {asked} more, the limit for `{MODEL}` is {CONTEXT} together"),
            )
        }),
        logprobs: Vec::new(),
        attempt: 1,
        worker: Some("fake".to_owned()),
        model: None,
        seed: job.request.seed,
        finished_at: Utc::now(),
    }
}
