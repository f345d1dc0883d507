//! What people on call do with a place: look at it, and bring a dead job back.

use std::time::Duration;

use chrono::Utc;
use lapidary_schemas::batch::{ManifestItem, Shard};
use lapidary_schemas::request::{Content, FileRef, Role};
use lapidary_schemas::{
    Batch, BatchId, FailureCode, JobId, MediaRef, Message, Part, Request, Work,
};
use lapidary_tests::{Broker, Program, Redis};
use lapidary_transport::media::AnyMedia;
use lapidary_transport::results::AnyResults;
use lapidary_transport::{Media as _, Results as _};
use serde_json::Value;
use tempfile::TempDir;

use crate::place::{Followed, MODEL, Place};
use crate::samples::batch;

const SAY_MAX: Duration = Duration::from_mins(1);
pub(crate) const TENANT: &str = "tests";

/// A batch of one item that asks a model about a document.
pub(crate) async fn submit(
    results: &AnyResults,
    media: &AnyMedia,
    document: &MediaRef,
    model: &str,
) -> Batch {
    let batch = Batch {
        tenant: TENANT.to_owned(),
        model: model.to_owned(),
        attempts_max: 1,
        ..batch()
    };
    let file = FileRef {
        filename: Some("report.txt".to_owned()),
        file_data: document.to_string(),
    };
    let message = Message {
        role: Role::User,
        content: Content::Parts(vec![Part::File { file }]),
    };
    let item = ManifestItem {
        id: JobId::new(Utc::now()),
        custom_id: "report".to_owned(),
        work: Work::Chat,
        request: Request {
            messages: vec![message],
            max_tokens: Some(8),
            ..Request::default()
        },
    };
    let lines = serde_json::to_vec(&item).unwrap();
    let lines = media.put(TENANT, lines).await.unwrap();
    let pinned = media.pin(TENANT, batch.id, std::slice::from_ref(&lines));
    pinned.await.unwrap();
    results.open_batch(&batch).await.unwrap();
    let shard = Shard {
        index: 0,
        items: 1,
        lines,
    };
    results.append_shard(batch.id, &shard).await.unwrap();
    results.seal_batch(batch.id).await.unwrap();
    batch
}

fn start(place: &Place) -> Program {
    let mut worker = place.worker(&["--slots", "3"]);
    worker.wait_for("serving", SAY_MAX);
    worker
}

/// What `lapidary` says where it finds nothing, and its exit code.
fn refused(place: &Place, command: &[&str]) -> (String, Option<i32>) {
    let output = place.say(command);
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.code())
}

async fn an_operator_finds_and_replays(place: &Place) {
    let results = place.results().await;
    let media = AnyMedia::open(&place.media).unwrap();
    assert_eq!(
        refused(place, &["workers"]),
        ("no workers\n".to_owned(), Some(3))
    );
    let nothing = ("no dead letters\n".to_owned(), Some(0));
    assert_eq!(refused(place, &["dead", "list"]), nothing);

    let _worker = start(place);
    let workers = place.ask(&["workers"]);
    assert!(workers.starts_with("worker "), "{workers}");
    assert!(
        workers.contains(": tiny bf16, context 2048 tokens, 3 slots, up "),
        "{workers}"
    );
    let status = place.ask(&["status"]);
    for line in [
        "queue tiny interactive: 0 waiting\n",
        "queue tiny bulk: 0 waiting\n",
        "no unfinished batches\n",
    ] {
        assert!(status.contains(line), "{status}");
    }

    // Its document is missing: with its one attempt used up the job is dead.
    let elsewhere = TempDir::new().unwrap();
    let text = b"Water runs down the hill.".to_vec();
    let elsewhere = AnyMedia::open(&format!("file://{}", elsewhere.path().display())).unwrap();
    let document = elsewhere.put(TENANT, text.clone()).await.unwrap();
    let batch = submit(&results, &media, &document, MODEL).await;
    let mut followed = Followed::new(&results, batch.id);
    followed.ended().await;
    let [dead] = followed.rows() else {
        panic!("{:?}", followed.rows())
    };
    let code = dead.failure.as_ref().map(|failure| failure.code);
    assert_eq!(code, Some(FailureCode::MediaUnreachable));
    let id = dead.job_id.to_string();
    let watched = refused(place, &["watch", &batch.id.to_string()]);
    assert_eq!(watched.1, Some(1), "{}", watched.0);

    let listed = place.ask(&["dead", "list"]);
    assert!(
        listed.starts_with(&id) && listed.lines().count() == 1,
        "{listed}"
    );
    for part in ["1 attempts", "report", "attempt 1 of 1: MEDIA_UNREACHABLE"] {
        assert!(listed.contains(part), "{listed}");
    }
    let shown: Value = serde_json::from_str(&place.ask(&["dead", "show", &id])).unwrap();
    assert_eq!(shown["job_id"], id.as_str());
    assert_eq!(shown["job"]["batch_id"], batch.id.to_string());

    // Once the document is there, the item is worked on again, in its place.
    media.put(TENANT, text).await.unwrap();
    let replayed: JobId = place.ask(&["dead", "replay", &id]).trim().parse().unwrap();
    assert_ne!(replayed, dead.job_id);
    let texts = answered(&results, batch.id, replayed).await;
    assert!(!texts.is_empty());
    assert_eq!(refused(place, &["dead", "list"]), nothing);
    let watched = refused(place, &["watch", &batch.id.to_string()]);
    assert_eq!(watched.1, Some(0), "{}", watched.0);
    let (said, code) = refused(place, &["dead", "replay", &id]);
    assert_eq!(code, Some(2));
    assert_eq!(
        said,
        format!("error: there is no dead letter of job {id}\n")
    );
    a_dead_letter_is_forgotten(place, &results, &media).await;
}

async fn a_dead_letter_is_forgotten(place: &Place, results: &AnyResults, media: &AnyMedia) {
    let elsewhere = TempDir::new().unwrap();
    let elsewhere = AnyMedia::open(&format!("file://{}", elsewhere.path().display())).unwrap();
    let missing = b"Nobody has this.".to_vec();
    let document = elsewhere.put(TENANT, missing).await.unwrap();
    let batch = submit(results, media, &document, MODEL).await.id;
    Followed::new(results, batch).ended().await;
    let id = batch.to_string();
    let said = |command: &[&str]| refused(place, &[&["dead"], command].concat());
    let nothing = ("no dead letters\n".to_owned(), Some(0));
    let forgotten = |count: u32| (format!("{count} dead letters forgotten\n"), Some(0));
    for other in [
        ["--model", "other"],
        ["--reason", "MEDIA_INVALID"],
        ["--older-than", "1h"],
        ["--batch", &BatchId::new(Utc::now()).to_string()],
    ] {
        assert_eq!(
            said(&[&["list"], &other[..]].concat()),
            nothing,
            "{other:?}"
        );
        assert_eq!(
            said(&[&["drop"], &other[..]].concat()),
            forgotten(0),
            "{other:?}"
        );
    }
    assert_eq!(said(&["drop"]).1, Some(2));
    let of_batch = ["--batch", &id, "--reason", "MEDIA_UNREACHABLE"];
    let listed = place.ask(&[&["dead", "list"], &of_batch[..]].concat());
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert_eq!(said(&[&["drop"], &of_batch[..]].concat()), forgotten(1));
    assert_eq!(said(&["list"]), nothing);
    let counts = results.progress(batch).await.unwrap();
    assert_eq!((counts.failed, counts.total), (1, 1));
}

/// The text of the item's new job, once the batch has ended again.
async fn answered(results: &AnyResults, batch: BatchId, job: JobId) -> String {
    let mut followed = Followed::new(results, batch);
    followed.ended().await;
    let counts = results.progress(batch).await.unwrap();
    assert_eq!((counts.succeeded, counts.failed, counts.total), (1, 0, 1));
    let row = followed.rows().iter().find(|row| row.job_id == job);
    let row = row.unwrap();
    assert_eq!(row.custom_id.as_deref(), Some("report"));
    row.text.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_job_is_listed_shown_and_replayed_on_one_file() {
    let folder = TempDir::new().unwrap();
    an_operator_finds_and_replays(&Place::on_file(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_job_is_listed_shown_and_replayed_on_servers() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    let place = Place::on_servers(broker.url(), redis.url(), folder.path());
    an_operator_finds_and_replays(&place).await;
}
