//! A batch through the real programs, on both kinds of place, with workers killed on the way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lapidary_schemas::{BatchId, BatchState, JobResult, Progress, Status};
use lapidary_tests::{Broker, Program, Redis, own};
use lapidary_transport::Results as _;
use lapidary_transport::results::AnyResults;
use serde_json::json;
use tempfile::TempDir;

const DOCUMENTS: usize = 1_000;
/// Finished documents after which a worker is killed and another one takes its place.
const KILL_AT: [usize; 2] = [150, 500];
/// Longest run on a busy machine, the time included after which a dead worker's jobs come back.
const RUN_MAX: Duration = Duration::from_secs(100);
const MODEL: &str = "tiny";

/// Where a batch goes: the arguments that name it.
pub(crate) struct Place {
    pub(crate) broker: String,
    pub(crate) results: String,
    pub(crate) media: String,
}

impl Place {
    fn arguments(&self) -> [&str; 6] {
        let Self {
            broker,
            results,
            media,
        } = self;
        ["--broker", broker, "--results", results, "--media", media]
    }

    /// Starts a worker; `more` are further arguments.
    pub(crate) fn worker(&self, more: &[&str]) -> Program {
        let mut command = own("lapidary-worker");
        command
            .args(["run", "--name", MODEL, "--model"])
            .arg(tiny_model());
        command.args(self.arguments()).args(more);
        Program::start(&mut command, "lapidary-worker")
    }

    fn submit(&self, lines: &Path) -> BatchId {
        let mut command = own("lapidary");
        command
            .args(["submit", "--model", MODEL])
            .args(self.arguments())
            .arg(lines);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "submit failed: {said}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }
}

fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny-gemma")
}

/// Requests of about sixty tokens, no two alike.
fn requests(folder: &Path) -> PathBuf {
    let lines = (0..DOCUMENTS).map(|number| {
        let text = format!(
            "Document {number} of the archive, on page {}.",
            number * 7 % 300
        );
        let body = json!({
            "model": MODEL,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 24,
            "temperature": 0,
        });
        let id = format!("document-{number}");
        json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body})
            .to_string()
    });
    let path = folder.join("requests.jsonl");
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    path
}

/// Runs a batch with two workers, one of which is killed twice on the way. The text of each document.
async fn run(place: &Place) -> BTreeMap<String, String> {
    let folder = TempDir::new().unwrap();
    let batch = place.submit(&requests(folder.path()));
    let results = AnyResults::open(&place.results, false).await.unwrap();
    let mut workers = [place.worker(&[]), place.worker(&[])];
    let mut kills = KILL_AT.into_iter().peekable();
    let (mut rows, mut cursor) = (Vec::<JobResult>::new(), String::new());
    let started = Instant::now();
    let progress: Progress = loop {
        let page = results.tail(batch, &cursor, 100).await.unwrap();
        if page.results.is_empty() {
            let progress = results.progress(batch).await.unwrap();
            if progress.state != BatchState::InProgress {
                break progress;
            }
            assert!(started.elapsed() < RUN_MAX, "stuck at {progress:?}");
            results
                .changed(batch, &cursor, Duration::from_secs(1))
                .await
                .unwrap();
        }
        rows.extend(page.results);
        cursor = page.cursor;
        if kills.next_if(|at| rows.len() >= *at).is_some() {
            workers[1].kill();
            workers[1] = place.worker(&[]);
        }
    };
    assert_eq!(
        kills.next(),
        None,
        "the batch was done before its workers were killed"
    );
    assert_eq!(progress.succeeded, DOCUMENTS as u64, "{progress:?}");
    assert_eq!(rows.len(), DOCUMENTS, "a result is missing, or there twice");
    let texts: BTreeMap<_, _> = rows
        .iter()
        .map(|row| {
            assert_eq!(row.status, Status::Succeeded, "{row:?}");
            (row.custom_id.clone().unwrap(), row.text.clone().unwrap())
        })
        .collect();
    assert_eq!(texts.len(), DOCUMENTS, "a document has two results");
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_and_every_place_gives_the_same_text() {
    let folder = TempDir::new().unwrap();
    let file = format!("file:{}", folder.path().join("lapidary.db").display());
    let embedded = Place {
        broker: file.clone(),
        results: file.clone(),
        media: file,
    };
    let on_file = run(&embedded).await;

    let (broker, redis) = (Broker::start(), Redis::start());
    let media = format!("file://{}", folder.path().join("media").display());
    let servers = Place {
        broker: broker.url(),
        results: redis.url(),
        media,
    };
    let on_servers = run(&servers).await;
    assert_eq!(on_file, on_servers, "the same request gave another text");
}
