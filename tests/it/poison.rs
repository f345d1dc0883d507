//! Jobs that take workers down: each is found out, and takes no other job along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lapidary_schemas::worker::INSTANT;
use lapidary_schemas::{BatchId, FailureCode, Status};
use lapidary_tests::{Broker, Redis, invariants};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::{JoinSet, block_in_place};

use crate::place::{Followed, Place, RUN_MAX};

const JOBS: usize = 100;
/// Which of them is poison.
const POISON: usize = 37;
/// What the model that computes nothing obeys.
const ORDERS: [&str; 3] = ["instant: abort", "instant: hang", "instant: panic"];
const WORKER: [&str; 8] = [
    "--slots",
    "8",
    "--threads",
    "1",
    "--exit-when-idle",
    "1s",
    "--step-max",
    "5s",
];

/// A file of requests to the model that computes nothing.
pub(crate) fn instant_requests(folder: &Path, texts: &[String]) -> PathBuf {
    let lines = texts.iter().enumerate().map(|(number, text)| {
        let message = json!({"role": "user", "content": text});
        let body = json!({"model": INSTANT, "messages": [message], "max_tokens": 8});
        let url = "/v1/chat/completions";
        let id = number.to_string();
        json!({"custom_id": id, "method": "POST", "url": url, "body": body}).to_string()
    });
    let path = folder.join("requests.jsonl");
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    path
}

/// Plain requests to the model that computes nothing.
pub(crate) fn plain(count: usize) -> Vec<String> {
    let text = |number| format!("What thing {number} of the list is.");
    (0..count).map(text).collect()
}

/// Submits a file of requests that name their model.
pub(crate) fn submit(place: &Place, requests: &Path) -> BatchId {
    let said = place.ask(&["submit", requests.to_str().unwrap()]);
    said.trim().parse().unwrap()
}

/// Runs a batch with one poisoned job, a new worker in the place of each that dies.
async fn poisoned(place: Place, order: &str) {
    let folder = TempDir::new().unwrap();
    let mut texts = plain(JOBS);
    order.clone_into(&mut texts[POISON]);
    let batch = submit(&place, &instant_requests(folder.path(), &texts));
    let mut deaths = 0;
    // The last one ends when there is nothing to do any more.
    while !block_in_place(|| place.instant(&WORKER).wait(RUN_MAX)).success() {
        deaths += 1;
        assert!(deaths <= 2, "{order}: a third worker died");
    }
    assert_eq!(deaths, 2, "{order}");
    let results = place.results().await;
    let mut followed = Followed::new(&results, batch);
    followed.ended().await;
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for row in followed.rows() {
        let is_poison = row.custom_id.as_deref() == Some(&POISON.to_string());
        let failure = row.failure.as_ref().map(|failure| failure.code);
        let lost = (row.status, failure) == (Status::Failed, Some(FailureCode::WorkerLost));
        assert_eq!(is_poison, lost, "{order}: {row:?}");
        *ends.entry(format!("{:?}", row.status)).or_default() += 1;
    }
    let expected = [("Failed".to_owned(), 1), ("Succeeded".to_owned(), JOBS - 1)];
    assert_eq!(ends, BTreeMap::from(expected), "{order}");
    let dead = place.ask(&["dead", "list"]);
    assert!(
        dead.contains("2 workers were lost on it, the last one while it ran alone"),
        "{dead}"
    );
    let findings = invariants::check(&place.open().await, &[batch])
        .await
        .unwrap();
    assert!(findings.hold(), "{order}: {findings:?}");
}

async fn all(places: Vec<Place>) {
    let mut cases = JoinSet::new();
    for (place, order) in places.into_iter().zip(ORDERS) {
        cases.spawn(poisoned(place, order));
    }
    cases.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_job_on_one_file_costs_two_workers_and_no_other_job() {
    let folders = ORDERS.map(|_| TempDir::new().unwrap());
    all(folders
        .iter()
        .map(|folder| Place::on_file(folder.path()))
        .collect())
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_job_on_servers_costs_two_workers_and_no_other_job() {
    let folders = ORDERS.map(|_| TempDir::new().unwrap());
    let (broker, redis) = (Broker::start(), Redis::start());
    let hosts = broker.hosts(ORDERS.len());
    let places = hosts
        .iter()
        .zip(&folders)
        .enumerate()
        .map(|(number, (host, folder))| {
            let url = format!("amqp://guest:guest@127.0.0.1:{}/{host}", broker.port());
            Place::on_servers(url, redis.database(number), folder.path())
        });
    all(places.collect()).await;
}
