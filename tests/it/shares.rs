//! What is worked on before what: batches that rest, and tenants that share workers.

use std::path::Path;
use std::time::Duration;

use lapidary_schemas::worker::INSTANT;
use lapidary_schemas::{BatchId, JobResult};
use lapidary_tests::{Broker, Redis};
use lapidary_transport::Results as _;
use lapidary_transport::results::AnyResults;
use serde_json::json;
use tempfile::TempDir;

use crate::gateway::{Gateway, client};
use crate::place::{MODEL, Place, RUN_MAX};

const SAY_MAX: Duration = Duration::from_mins(1);
/// Requests of the tenant that came first, and of the one that came later.
const MANY: usize = 5_000;
const FEW: usize = 10;
/// Of the first tenant's requests, those that may be answered before the other's are: what was on the
/// queue before them, and what workers had in hand.
const BEFORE_MAX: usize = 1_500;

fn a_paused_batch_rests_until_it_goes_on(place: &Place) {
    let gateway = Gateway::start(place);
    let batch = client("pausing.py", &[&gateway.url(), MODEL, "pause"]);
    let batch = batch.trim();
    let mut worker = place.worker(&[]);
    worker.wait_for("serving", SAY_MAX);
    client("pausing.py", &[&gateway.url(), MODEL, "resume", batch]);

    let id = batch.strip_prefix("batch_").unwrap();
    let said = place.say(&["pause", id]);
    assert!(said.status.success(), "{said:?}");
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("had ended already"), "{said}");
    gateway.stop();
    worker.stop();
}

#[test]
fn a_paused_batch_rests_until_it_goes_on_on_one_file() {
    let folder = TempDir::new().unwrap();
    a_paused_batch_rests_until_it_goes_on(&Place::on_file(folder.path()));
}

#[test]
fn a_paused_batch_rests_until_it_goes_on_on_servers() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    let place = Place::on_servers(broker.url(), redis.url(), folder.path());
    a_paused_batch_rests_until_it_goes_on(&place);
}

/// Submits so many requests of a tenant to the model that answers at once.
fn submit(place: &Place, folder: &Path, tenant: &str, count: usize) -> BatchId {
    let lines = (0..count).map(|number| {
        let messages = json!([{"role": "user", "content": number.to_string()}]);
        let body = json!({"model": INSTANT, "messages": messages});
        let id = number.to_string();
        json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body})
            .to_string()
    });
    let path = folder.join(tenant);
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let path = path.to_str().unwrap();
    let said = place.ask(&["submit", "--model", INSTANT, "--tenant", tenant, path]);
    said.trim().parse().unwrap()
}

/// Waits until so many of a batch's requests are on the queue.
async fn fed(results: &AnyResults, batch: BatchId, count: u64) {
    let feeding = async {
        while results.progress(batch).await.unwrap().fed < count {
            let pause = Duration::from_millis(100);
            results.changed(batch, "", pause).await.unwrap();
        }
    };
    tokio::time::timeout(RUN_MAX, feeding).await.unwrap();
}

/// All results of a batch once it has ended.
async fn all(results: &AnyResults, batch: BatchId, count: usize) -> Vec<JobResult> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    let reading = async {
        while found.len() < count {
            let page = results.tail(batch, &cursor, 500).await.unwrap();
            if page.results.is_empty() {
                let wait = Duration::from_secs(1);
                results.changed(batch, &cursor, wait).await.unwrap();
            }
            cursor = page.cursor;
            found.extend(page.results);
        }
    };
    tokio::time::timeout(RUN_MAX, reading).await.unwrap();
    found
}

async fn who_comes_later_with_few_does_not_wait_for_many(place: &Place, folder: &Path) {
    let gateway = Gateway::start(place);
    let results = place.results().await;
    let first = submit(place, folder, "many", MANY);
    // All that the first tenant may have on the queue is there before the other one comes.
    fed(&results, first, 1_000).await;
    let later = submit(place, folder, "few", FEW);
    fed(&results, later, FEW as u64).await;
    let mut worker = place.instant(&[]);
    worker.wait_for("serving", SAY_MAX);
    let later = all(&results, later, FEW).await;
    let end = later.iter().map(|result| result.finished_at).max().unwrap();
    let first = all(&results, first, MANY).await;
    let before = first.iter().filter(|one| one.finished_at <= end).count();
    assert!(
        before < BEFORE_MAX,
        "{before} of {MANY} were answered before the other tenant's {FEW}"
    );
    gateway.stop();
    worker.stop();
}

#[tokio::test]
async fn who_comes_later_with_few_does_not_wait_for_many_on_one_file() {
    let folder = TempDir::new().unwrap();
    let place = Place::on_file(folder.path());
    who_comes_later_with_few_does_not_wait_for_many(&place, folder.path()).await;
}

#[tokio::test]
async fn who_comes_later_with_few_does_not_wait_for_many_on_servers() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    let place = Place::on_servers(broker.url(), redis.url(), folder.path());
    who_comes_later_with_few_does_not_wait_for_many(&place, folder.path()).await;
}
