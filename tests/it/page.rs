//! The page as people meet it, in a real browser.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::Utc;
use lapidary_schemas::worker::DEMONSTRATION;
use lapidary_schemas::{ModelInfo, WorkerInfo};
use lapidary_tests::{Broker, Program, Redis};
use lapidary_transport::media::AnyMedia;
use lapidary_transport::{Media as _, Results as _};
use tempfile::TempDir;

use crate::gateway::{Gateway, below, python};
use crate::operators::{TENANT, submit};
use crate::place::Place;

/// Longest wait for what a person does next: each of their steps has a bound of its own.
const STEP_MAX: Duration = Duration::from_mins(3);
/// Longest time until a gateway has stopped that somebody watches.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Where screenshots go: beside the folder of the programs that they are of.
fn screenshots(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    target.join("page").join(name)
}

/// A worker that says it is there and does nothing, so that pictures can be submitted.
fn sleeper() -> WorkerInfo {
    let model = ModelInfo {
        name: DEMONSTRATION.to_owned(),
        weights_sha256: "0".repeat(64),
        quantization: "bf16".to_owned(),
        template_sha256: "0".repeat(64),
        chat: true,
        context_tokens_max: 2_048,
        modalities: vec!["image".to_owned()],
        pan_and_scan: false,
        fetch: Vec::new(),
        tier: "none".to_owned(),
    };
    WorkerInfo {
        id: "sleeper".to_owned(),
        model,
        listen: None,
        slots: 1,
        started_at: Utc::now(),
        jobs: None,
    }
}

fn key(place: &Place, arguments: &[&str]) -> String {
    let key = place.ask(&[&["keys", "create"], arguments].concat());
    key.trim().to_owned()
}

async fn a_person_finds_the_way(place: &Place, name: &str) {
    let results = place.results().await;
    let operator = key(
        place,
        &["--tenant", TENANT, "--scope", "submit,read,operate"],
    );
    let stranger = key(place, &["--tenant", "strangers", "--scope", "read"]);
    let gateway = Gateway::start(place);
    results.announce(&sleeper(), STEP_MAX).await.unwrap();

    let mut command = Command::new(python());
    let url = gateway.url();
    command
        .arg(below("clients/page.py"))
        .args([url.trim_end_matches("/v1"), &operator, &stranger])
        .args([below("fixtures/pictures"), screenshots(name)]);
    let mut person = Program::start(&mut command, "chromium");
    person.wait_for("a batch waits", STEP_MAX);
    results.retire("sleeper").await.unwrap();
    person.wait_for("nobody serves it", STEP_MAX);
    let mut worker = place.demonstration();
    person.wait_for("all went well", STEP_MAX);
    // Their document is nowhere: with their one attempt used up the jobs are dead.
    let media = AnyMedia::open(&place.media).unwrap();
    let elsewhere = TempDir::new().unwrap();
    let elsewhere = AnyMedia::open(&format!("file://{}", elsewhere.path().display())).unwrap();
    let document = elsewhere.put(TENANT, b"gone".to_vec()).await.unwrap();
    for _ in 0..2 {
        submit(&results, &media, &document, DEMONSTRATION).await;
    }
    person.wait_for("somebody watches", STEP_MAX);
    let stopping = Instant::now();
    gateway.stop();
    assert!(stopping.elapsed() < STOP_MAX, "{:?}", stopping.elapsed());
    person.wait_for("all was seen", STEP_MAX);
    worker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_finds_the_way_on_one_file() {
    let folder = TempDir::new().unwrap();
    a_person_finds_the_way(&Place::on_file(folder.path()), "file").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_finds_the_way_on_servers() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    let place = Place::on_servers(broker.url(), redis.url(), folder.path());
    a_person_finds_the_way(&place, "servers").await;
}

#[test]
fn without_keys_nobody_is_asked_for_one() {
    let folder = TempDir::new().unwrap();
    let gateway = Gateway::start(&Place::on_file(folder.path()));
    let mut command = Command::new(python());
    let url = gateway.url();
    command
        .arg(below("clients/page_without_keys.py"))
        .arg(url.trim_end_matches("/v1"));
    let mut person = Program::start(&mut command, "chromium");
    person.wait_for("all was seen", STEP_MAX);
    gateway.stop();
}
