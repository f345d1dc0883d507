//! A hub with one repository, and the server of its large files, each on a port of its own. They end
//! with the test's runtime.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::stream;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::hex::hex;

/// The repository.
pub(super) const REPO: &str = "lapidary/pictograms";
/// Its only commit.
pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// A token that may read it.
pub(super) const TOKEN: &str = "hf_secret";
const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");

/// What goes wrong.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// The hub's answer to who asks what the repository holds.
    pub(super) listing: Option<(u16, Option<&'static str>)>,
    /// The hub's answer to who asks for a file.
    pub(super) content: Option<(u16, Option<&'static str>)>,
    /// Bytes after which answers with large files end, one after the other.
    pub(super) cuts: VecDeque<usize>,
    /// Large files are others than those announced.
    pub(super) corrupt: bool,
    /// Answers with large files begin and do not go on.
    pub(super) silent: bool,
    /// Ranges are not known.
    pub(super) whole_only: bool,
    /// All files are announced to be so large.
    pub(super) size: Option<u64>,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// `hub` or `store`, and the path.
    pub(super) what: String,
    /// Whether it had a token.
    pub(super) authorized: bool,
    /// What it asked for of a file.
    pub(super) range: Option<String>,
}

struct Shared {
    files: BTreeMap<String, Bytes>,
    store: SocketAddr,
    seen: Mutex<Vec<Seen>>,
    trouble: Mutex<Trouble>,
}

/// The servers.
pub(super) struct FakeHub {
    pub(super) endpoint: String,
    shared: Arc<Shared>,
}

impl FakeHub {
    pub(super) async fn start(files: &[(&str, &[u8])]) -> Self {
        let (hub, store) = (listen().await, listen().await);
        let files = files.iter();
        let shared = Arc::new(Shared {
            files: files
                .map(|(name, bytes)| ((*name).to_owned(), Bytes::copy_from_slice(bytes)))
                .collect(),
            store: store.local_addr().unwrap(),
            seen: Mutex::default(),
            trouble: Mutex::default(),
        });
        let endpoint = format!("http://{}", hub.local_addr().unwrap());
        let router = Router::new()
            .route("/api/models/{org}/{name}/revision/{revision}", get(listing))
            .route("/{org}/{name}/resolve/{commit}/{*file}", get(resolve))
            .with_state(shared.clone());
        let large = Router::new()
            .route("/{*file}", get(large))
            .with_state(shared.clone());
        for (listener, router) in [(hub, router), (store, large)] {
            let server = async move { axum::serve(listener, router).await };
            tokio_util::task::TaskTracker::new().spawn(server);
        }
        Self { endpoint, shared }
    }

    pub(super) fn trouble(&self, trouble: Trouble) {
        *self.shared.trouble.lock().unwrap() = trouble;
    }

    /// The requests since this was asked last.
    pub(super) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.shared.seen.lock().unwrap())
    }
}

async fn listen() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}

impl Shared {
    fn see(&self, what: String, headers: &HeaderMap) {
        let range = headers.get(header::RANGE);
        self.seen.lock().unwrap().push(Seen {
            what,
            authorized: headers.contains_key(header::AUTHORIZATION),
            range: range.map(|range| range.to_str().unwrap().to_owned()),
        });
    }
}

/// Large files are kept apart.
fn is_large(name: &str) -> bool {
    [".safetensors", ".gguf"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

fn refusal((status, code): (u16, Option<&'static str>)) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    match code {
        Some(code) => (status, [(ERROR_CODE, code)]).into_response(),
        None => status.into_response(),
    }
}

async fn listing(
    State(shared): State<Arc<Shared>>,
    Path((org, name, revision)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    shared.see(format!("hub {org}/{name}@{revision}"), &headers);
    let trouble = shared.trouble.lock().unwrap();
    if let Some(answer) = trouble.listing {
        return refusal(answer);
    }
    if format!("{org}/{name}") != REPO {
        return refusal((404, Some("RepoNotFound")));
    }
    if !["main", "refs/pr/1", COMMIT].contains(&revision.as_str()) {
        return refusal((404, Some("RevisionNotFound")));
    }
    let files = shared.files.iter().map(|(name, bytes)| {
        let sha256 = hex(&Sha256::digest(bytes));
        let size = trouble.size.unwrap_or(bytes.len() as u64);
        let mut file = json!({"rfilename": name, "size": size, "blobId": sha256[..40]});
        if is_large(name) {
            file["lfs"] = json!({"size": size, "sha256": sha256, "pointerSize": 132});
        }
        file
    });
    let files: Vec<Value> = files.collect();
    Json(json!({"id": REPO, "sha": COMMIT, "gated": false, "siblings": files})).into_response()
}

async fn resolve(
    State(shared): State<Arc<Shared>>,
    Path((_, _, commit, file)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Response {
    shared.see(format!("hub {file}"), &headers);
    if let Some(answer) = shared.trouble.lock().unwrap().content {
        return refusal(answer);
    }
    assert_eq!(commit, COMMIT);
    let bytes = shared.files[&file].clone();
    if !is_large(&file) {
        return bytes.into_response();
    }
    let place = format!("http://{}/{file}?signature=secret", shared.store);
    (StatusCode::FOUND, [(header::LOCATION, place)]).into_response()
}

async fn large(
    State(shared): State<Arc<Shared>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    shared.see(format!("store {file}"), &headers);
    let mut trouble = shared.trouble.lock().unwrap();
    let mut bytes = shared.files[&file].clone();
    if trouble.corrupt {
        bytes = bytes.iter().map(|byte| !byte).collect();
    }
    let from = headers.get(header::RANGE).map(|range| {
        let from = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
        from.strip_suffix('-').unwrap().parse::<usize>().unwrap()
    });
    let from = from.filter(|_| !trouble.whole_only);
    let rest = bytes.slice(from.unwrap_or(0)..);
    let body = if trouble.silent {
        Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>())
    } else if let Some(cut) = trouble.cuts.pop_front() {
        let parts = [
            Ok(rest.slice(..cut)),
            Err(std::io::Error::other("the connection breaks")),
        ];
        Body::from_stream(stream::iter(parts))
    } else {
        Body::from(rest)
    };
    match from {
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            let headers = [(header::CONTENT_RANGE, range)];
            (StatusCode::PARTIAL_CONTENT, headers, body).into_response()
        }
        None => body.into_response(),
    }
}
