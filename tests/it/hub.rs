//! Captions by a model that is named by its repository, from a hub of the test's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as Parts, State};
use axum::routing::get;
use lapidary_tests::{Program, own};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::sync::Semaphore;

const REPO: &str = "lapidary/pictograms";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &str = "model.safetensors";
/// Longest that a program takes here.
const RUN_MAX: Duration = Duration::from_mins(1);
/// How long the weights are held back, and how much less than that a worker is waited for.
const HELD: Duration = Duration::from_secs(7);
const WAIT: &str = "5";

/// The files of the demonstration model; the weights are sent once there is a permit.
struct Hub {
    files: BTreeMap<String, Bytes>,
    permits: Semaphore,
    /// A permit for each time that they were asked for.
    asked: Semaphore,
}

impl Hub {
    async fn start() -> (Arc<Self>, String) {
        let model = root().join("worker/bundled/model");
        let files = std::fs::read_dir(model).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap().into())
        });
        let hub = Arc::new(Self {
            files: files.collect(),
            permits: Semaphore::new(0),
            asked: Semaphore::new(0),
        });
        let router = Router::new()
            .route(&format!("/api/models/{REPO}/revision/main"), get(listing))
            .route(&format!("/{REPO}/resolve/{COMMIT}/{{file}}"), get(file))
            .with_state(hub.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = async move { axum::serve(listener, router).await };
        tokio_util::task::TaskTracker::new().spawn(server);
        (hub, endpoint)
    }
}

async fn listing(State(hub): State<Arc<Hub>>) -> String {
    let files = hub.files.iter().map(|(name, bytes)| {
        let hash = sha256(bytes);
        let size = bytes.len();
        if name == WEIGHTS {
            json!({"rfilename": name, "lfs": {"size": size, "sha256": hash}})
        } else {
            json!({"rfilename": name, "size": size, "blobId": hash[..40]})
        }
    });
    let files: Vec<Value> = files.collect();
    json!({"sha": COMMIT, "siblings": files}).to_string()
}

async fn file(State(hub): State<Arc<Hub>>, Parts(name): Parts<String>) -> Bytes {
    if name == WEIGHTS {
        hub.asked.add_permits(1);
        hub.permits.acquire().await.unwrap().forget();
    }
    hub.files[&name].clone()
}

fn sha256(bytes: &[u8]) -> String {
    let hex = |hex: String, byte: &u8| hex + &format!("{byte:02x}");
    Sha256::digest(bytes).iter().fold(String::new(), hex)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A program that knows this hub and no other.
fn program(name: &str, endpoint: &str, folder: &Path) -> Command {
    let mut command = own(name);
    for variable in [
        "HF_TOKEN",
        "HF_TOKEN_PATH",
        "HF_HUB_CACHE",
        "HF_HUB_OFFLINE",
    ] {
        command.env_remove(variable);
    }
    command
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HOME", folder.join("hf"))
        .env("NO_PROXY", "127.0.0.1");
    command
}

/// The command that captions one picture.
fn caption(endpoint: &str, folder: &Path, model: &str) -> (Command, PathBuf) {
    let mut command = program("lapidary", endpoint, folder);
    let name = model.replace('/', "-");
    let out = folder.join(format!("{name}.jsonl"));
    command
        .arg("caption")
        .arg(root().join("tests/fixtures/pictures/00.png"))
        .args([
            "--temperature",
            "0",
            "--worker-wait",
            WAIT,
            "--model",
            model,
        ])
        .arg("--store")
        .arg(folder.join(format!("{name}.db")))
        .arg("--out")
        .arg(&out);
    (command, out)
}

fn text(out: &Path) -> Value {
    let row: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    row["text"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_is_downloaded_and_captions() {
    let folder = TempDir::new().unwrap();
    let (hub, endpoint) = Hub::start().await;
    let (mut command, downloaded) = caption(&endpoint, folder.path(), REPO);
    let mut run = Program::start(&mut command, "lapidary");
    run.wait_for(&format!("downloading `{REPO}`: "), RUN_MAX);
    // What is shown here is time: the download takes longer than a worker is waited for.
    tokio::time::sleep(HELD).await;
    hub.permits.add_permits(1);
    assert_eq!(run.wait(RUN_MAX).code(), Some(0));

    let (mut command, own) = caption(&endpoint, folder.path(), "demonstration");
    assert!(command.status().unwrap().success());
    assert_eq!(
        text(&downloaded),
        text(&own),
        "the same model says another thing"
    );

    // From here on it is here; there is no permit for another download.
    let mut score = program("lapidary-worker", &endpoint, folder.path());
    score
        .env("HF_HUB_OFFLINE", "1")
        .args(["score", "--model", REPO])
        .arg(root().join("samples/documents/sonnet-18.md"));
    let output = score.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !output.stdout.is_empty(),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_ends_with_whom_it_is_for() {
    let folder = TempDir::new().unwrap();
    let (hub, endpoint) = Hub::start().await;
    let (mut command, _) = caption(&endpoint, folder.path(), REPO);
    let mut run = Program::start(&mut command, "lapidary");
    let asked = tokio::time::timeout(RUN_MAX, hub.asked.acquire()).await;
    asked.unwrap().unwrap().forget();
    run.kill();
    // The worker, in a group of its own, holds this as long as it is there.
    let name = format!("{}.lock", sha256(&hub.files[WEIGHTS]));
    let locks = folder
        .path()
        .join("hf/hub/.locks/models--lapidary--pictograms");
    let held = tokio::task::spawn_blocking(move || {
        let lock = std::fs::File::open(locks.join(name)).unwrap();
        lock.lock().unwrap();
    });
    tokio::time::timeout(RUN_MAX, held).await.unwrap().unwrap();
    let blobs = folder
        .path()
        .join("hf/hub/models--lapidary--pictograms/blobs");
    let weights = blobs.join(sha256(&hub.files[WEIGHTS]));
    assert!(!weights.exists(), "the download went on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_names_what_is_nowhere_is_told() {
    let folder = TempDir::new().unwrap();
    let (_hub, endpoint) = Hub::start().await;
    let (mut command, _) = caption(&endpoint, folder.path(), "lapidary/nothing");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    let reason = "there is no file or folder `lapidary/nothing` here, and no model of that name at";
    assert!(said.contains(reason), "{said}");
}
