//! `lapidary submit` and `lapidary caption`, killed at each point of their way and started again: every job
//! that was accepted has one result, every document one row.

use std::collections::BTreeSet;
use std::path::Path;

use lapidary_schemas::worker::INSTANT;
use lapidary_schemas::{BatchId, BatchState, Class};
use lapidary_tests::{Broker, Redis};
use lapidary_transport::failpoint::Failpoint;
use lapidary_transport::{Lane, Queue as _, Results as _};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::{JoinSet, block_in_place};

use crate::place::{Followed, Place, RUN_MAX};
use crate::poison::{instant_requests, plain, submit};

const DOCUMENTS: usize = 30;
const WORKER: [&str; 4] = ["--slots", "8", "--threads", "1"];
/// Unfinished batches of a place of one program: far fewer.
const BATCHES_MAX: usize = 100;
const OF_A_SUBMISSION: [Failpoint; 2] = [Failpoint::Submitting, Failpoint::Submitted];

/// Kills `lapidary` with this command where it is at a point; the batches that it leaves behind.
async fn killed(place: &Place, command: &[&str], point: Failpoint) -> Vec<BatchId> {
    let harmed = ["--unsafe-failpoints", point.as_str()];
    let mut program = place.lapidary(&[command, &harmed].concat());
    // A point that is not reached fails the test.
    block_in_place(|| program.wait_stopped());
    program.kill();
    let results = place.results().await;
    results.open_batches(BATCHES_MAX).await.unwrap()
}

/// Nobody works any more: whatever is left on the queue is taken from it.
async fn drained(place: &Place) {
    let last = [&WORKER[..], &["--exit-when-idle", "1s"]].concat();
    let status = block_in_place(|| place.instant(&last).wait(RUN_MAX));
    assert_eq!(status.code(), Some(0));
    let stores = place.open().await;
    for class in Class::ALL {
        let model = INSTANT.to_owned();
        let depth = stores.queue.depth(&Lane::Jobs { model, class }).await;
        assert_eq!(depth.unwrap(), 0, "{class:?}");
    }
}

async fn submit_again(place: Place, point: Failpoint) {
    let folder = TempDir::new().unwrap();
    let requests = instant_requests(folder.path(), &plain(DOCUMENTS));
    let command = ["submit", requests.to_str().unwrap()];
    let left = killed(&place, &command, point).await;
    let [left] = left.as_slice() else {
        panic!("{point:?} left {left:?} behind");
    };
    let mut worker = place.instant(&WORKER);
    let batch = submit(&place, &requests);
    let results = place.results().await;
    Followed::new(&results, batch).texts(DOCUMENTS).await;
    let mut whole = vec![batch];
    if point == Failpoint::Submitted {
        // It is on its way, though nobody was told so.
        Followed::new(&results, *left).texts(DOCUMENTS).await;
        whole.push(*left);
    } else {
        place.ask(&["cancel", &left.to_string()]);
        let progress = results.progress(*left).await.unwrap();
        assert_eq!((progress.state, progress.total), (BatchState::Cancelled, 0));
    }
    block_in_place(|| worker.stop());
    drained(&place).await;
    place.holds(&whole).await;
}

async fn caption_again(place: Place, point: Failpoint) {
    let folder = TempDir::new().unwrap();
    let documents = folder.path().join("documents");
    std::fs::create_dir(&documents).unwrap();
    for (number, text) in plain(DOCUMENTS).iter().enumerate() {
        std::fs::write(documents.join(format!("{number}.txt")), text).unwrap();
    }
    let out = folder.path().join("rows.jsonl");
    let (documents, rows) = (documents.to_str().unwrap(), out.to_str().unwrap());
    let command = ["caption", documents, "--model", INSTANT, "--out", rows];
    // Captions need a worker that serves the model. This one finishes nothing.
    let held = ["--unsafe-failpoints", Failpoint::Received.as_str()];
    let mut holding = place.instant(&[&WORKER[..], &held].concat());
    let left = killed(&place, &command, point).await;
    assert_eq!(left.len(), 1, "{point:?} left {left:?} behind");
    holding.kill();
    let mut worker = place.instant(&WORKER);
    block_in_place(|| place.ask(&command));
    assert_eq!(names(&out).len(), DOCUMENTS);
    // Nobody would read what is left, so it goes at once, and workers need not stay for it.
    let results = place.results().await;
    let ended = Followed::new(&results, left[0]).ended().await;
    assert_eq!(ended.state, BatchState::Cancelled, "{ended:?}");
    assert_eq!(ended.cancelled, ended.total, "{ended:?}");
    block_in_place(|| worker.stop());
    drained(&place).await;
    place.holds(&[]).await;
}

/// The documents of a file of rows, of which each has one, with a text.
fn names(rows: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(rows).unwrap();
    let mut names = BTreeSet::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        assert!(row["text"].is_string(), "{row}");
        assert!(names.insert(row["name"].to_string()), "twice: {row}");
    }
    names
}

/// Kills each command at each point, each at a place of its own.
async fn all_again(mut places: impl Iterator<Item = Place>) {
    let mut cases = JoinSet::new();
    for point in OF_A_SUBMISSION {
        cases.spawn(submit_again(places.next().unwrap(), point));
        cases.spawn(caption_again(places.next().unwrap(), point));
    }
    cases.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submitters_that_are_killed_on_one_file_lose_and_double_nothing() {
    let folder = TempDir::new().unwrap();
    all_again((0..).map(|number: usize| {
        let folder = folder.path().join(number.to_string());
        std::fs::create_dir(&folder).unwrap();
        Place::on_file(&folder)
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submitters_that_are_killed_on_servers_lose_and_double_nothing() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    let hosts = broker.hosts(2 * OF_A_SUBMISSION.len());
    all_again(hosts.iter().enumerate().map(|(number, host)| {
        let url = format!("amqp://guest:guest@127.0.0.1:{}/{host}", broker.port());
        let folder = folder.path().join(number.to_string());
        Place::on_servers(url, redis.database(number), &folder)
    }))
    .await;
}
