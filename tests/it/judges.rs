//! A second model that judges for the policy, beside the served one and through the real program: what it
//! says of a job, and what follows where it breaks down.

use std::path::Path;
use std::time::Duration;

use lapidary_schemas::worker::DEMONSTRATION;
use lapidary_schemas::{Class, FailureCode, JobResult, Message, Status};
use lapidary_tests::{Program, free_port, http};
use lapidary_transport::results::JobState;
use lapidary_transport::{Place as Stores, Queue as _, Results as _};
use serde_json::Value;
use tempfile::TempDir;

use crate::place::{Place, RUN_MAX};
use crate::samples::job;

const SAY_MAX: Duration = Duration::from_mins(1);
/// How often it is looked whether a job has its result.
const LOOK: Duration = Duration::from_millis(20);
/// What a model that computes nothing breaks down at; lines are tokens of their own.
const BREAKING: &str = "Hello\ninstant: panic\n";
const BROKEN: &str = "the model that `harm` of the content policy asks broke down: engine thread \
                      panicked: a prompt said so";

/// A worker of the demonstration model, whose policy asks another one about every request.
struct Judged {
    worker: Program,
    port: u16,
    stores: Stores,
    _folder: TempDir,
}

impl Judged {
    /// `instant`: the other model computes nothing, and breaks down when it is told to.
    async fn start(on_error: &str, instant: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let place = Place::on_file(folder.path());
        let policy = folder.path().join("policy.toml");
        let detector = format!(
            "name = \"house\"\n[[detector]]\nname = \"harm\"\nkind = \"judge\"\n\
             stages = [\"input_text\"]\naction = \"flag\"\nthreshold = 1.0\n\
             time_limit = \"1m\"\non_error = \"{on_error}\"\n"
        );
        std::fs::write(&policy, detector).unwrap();
        let judge = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../worker/engine/tests/fixtures/shield")
            .display()
            .to_string();
        let judge = if instant {
            format!("instant:{judge}")
        } else {
            judge
        };
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let named = ["--policy", policy.to_str().unwrap(), "--judge", &judge];
        let more = ["--quantization", "f32", "--listen", &listen];
        let more = [&named[..], &more[..]].concat();
        let mut worker = place.worker_of(DEMONSTRATION.as_ref(), DEMONSTRATION, &more);
        worker.wait_for("serving", SAY_MAX);
        Self {
            worker,
            port,
            stores: place.open().await,
            _folder: folder,
        }
    }

    /// What comes of a request that is made once.
    async fn ask(&self, text: &str) -> JobResult {
        let mut asked = job(DEMONSTRATION, Class::Interactive);
        asked.attempts_max = 1;
        asked.request.messages = vec![Message::user(text)];
        asked.request.max_tokens = Some(4);
        let Stores { queue, results, .. } = &self.stores;
        let asked = [asked];
        results.register(&asked).await.unwrap();
        queue.publish(&asked).await.unwrap();
        let answered = async {
            let mut looks = tokio::time::interval(LOOK);
            loop {
                looks.tick().await;
                let state = results.get(&[asked[0].id]).await.unwrap().remove(0);
                if let Some(JobState::Finished(result)) = state {
                    return *result;
                }
            }
        };
        tokio::time::timeout(RUN_MAX, answered).await.unwrap()
    }

    fn get(&self, path: &str) -> (u16, String) {
        tokio::task::block_in_place(|| http::get(self.port, path).unwrap())
    }

    /// Status and report.
    fn health(&self) -> (u16, Value) {
        let (status, report) = self.get("/health");
        (status, serde_json::from_str(&report).unwrap())
    }

    fn stop(mut self) {
        tokio::task::block_in_place(|| self.worker.stop());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_model_judges_beside_the_served_one() {
    let judged = Judged::start("closed", false).await;
    let result = judged.ask("How do I bake bread?").await;
    assert_eq!(result.status, Status::Succeeded, "{result:?}");
    let [verdict] = result.filter.as_slice() else {
        panic!("{result:?}");
    };
    let scores = verdict.detail["category_scores"].as_object().unwrap();
    let rules: Vec<&str> = scores.keys().map(String::as_str).collect();
    assert_eq!(rules, ["dangerous", "harassment", "hate", "sexual"]);
    let judge = verdict.detail["judge"].as_str().unwrap();
    let served = result.model.as_ref().unwrap();
    assert_eq!(judge.len(), served.weights_sha256.len());
    assert_ne!(judge, served.weights_sha256);
    let again = judged.ask("How do I bake bread?").await;
    assert_eq!(again.filter, result.filter);
    let (status, report) = judged.health();
    assert_eq!((status, report["status"].as_str()), (200, Some("healthy")));
    judged.stop();
}

/// Breaks the judge of a policy down; results of a request before, of the one that did it, and of one after.
async fn broken(on_error: &str) -> (Judged, [JobResult; 3]) {
    let judged = Judged::start(on_error, true).await;
    let before = judged.ask("Hello").await;
    let (status, report) = judged.health();
    assert_eq!((status, report["status"].as_str()), (200, Some("healthy")));
    let at = judged.ask(BREAKING).await;
    let after = judged.ask("Hello").await;
    let errors = "lapidary_filter_errors_total{detector=\"harm\",stage=\"input_text\"} 2";
    let (_, metrics) = judged.get("/metrics");
    assert!(metrics.contains(errors), "{metrics}");
    let (_, report) = judged.health();
    let told = report["errors"].as_array().unwrap();
    assert!(told.contains(&BROKEN.into()), "{report}");
    (judged, [before, at, after])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_go_on_without_a_broken_judge_where_the_policy_lets_them() {
    let (judged, results) = broken("open").await;
    for result in &results {
        assert_eq!(result.status, Status::Succeeded, "{result:?}");
    }
    let error = |result: &JobResult| result.filter[0].detail["error"].clone();
    let unanswered = Value::from("got no answer of its model");
    let errors = results.each_ref().map(error);
    assert_eq!(errors, [Value::Null, unanswered.clone(), unanswered]);
    let (status, report) = judged.health();
    assert_eq!((status, report["status"].as_str()), (200, Some("degraded")));
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(judged.get(path).0, 200, "{path}");
    }
    judged.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_job_passes_a_broken_judge_that_it_must_not_pass() {
    let (judged, [before, at, after]) = broken("closed").await;
    assert_eq!(before.status, Status::Succeeded, "{before:?}");
    for result in [at, after] {
        let failure = result.failure.unwrap();
        assert_eq!(failure.code, FailureCode::FilterUnavailable);
        assert_eq!(
            failure.message,
            "`harm` of the content policy `house` got no answer of its model"
        );
    }
    let (status, report) = judged.health();
    assert_eq!(
        (status, report["status"].as_str()),
        (503, Some("unhealthy"))
    );
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(judged.get(path), (503, BROKEN.to_owned()), "{path}");
    }
    judged.stop();
}
