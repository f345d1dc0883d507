//! Where documents come from: files, folders and patterns, walked as a stream, that are read a few
//! at a time.

mod kind;
mod pattern;
mod walk;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::StreamExt as _;
use lapidary_schemas::{Failure, FailureCode};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::picture::{Picture, Room};
use kind::Kind;

pub use pattern::{Root, RootError};

/// Paths found ahead of reading.
const PATHS_AHEAD_MAX: usize = 1_000;
/// Documents read at once and kept ahead of the planner.
const DOCUMENTS_AHEAD_MAX: usize = 4;

/// A file to caption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The path as it was found: what the user wrote, continued.
    pub path: PathBuf,
    /// The same, as text.
    pub name: String,
}

/// A document, or why it cannot be read.
#[derive(Debug)]
pub struct Document {
    /// Its path as found.
    pub name: String,
    /// What it holds.
    pub body: Result<Body, Failure>,
}

/// What a document holds.
#[derive(Debug)]
pub enum Body {
    /// Text to read.
    Text(String),
    /// A picture to look at.
    Picture(Picture),
}

/// What the walk has seen, for progress; final once `complete`.
#[derive(Debug, Default)]
pub struct Seen {
    documents: AtomicU64,
    others: AtomicU64,
    complete: AtomicBool,
}

impl Seen {
    /// Documents found so far.
    pub fn documents(&self) -> u64 {
        self.documents.load(Ordering::Relaxed)
    }

    /// Files of kinds that are not read, found in folders.
    pub fn others(&self) -> u64 {
        self.others.load(Ordering::Relaxed)
    }

    /// All documents there are, once that is known.
    pub fn total(&self) -> Option<u64> {
        self.complete
            .load(Ordering::Acquire)
            .then(|| self.documents())
    }
}

/// Starts to count in one task and to read in another; documents come in no particular order.
pub fn start(
    roots: Vec<Root>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> (mpsc::Receiver<Document>, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    tasks.spawn_blocking({
        let (roots, seen, stop) = (roots.clone(), Arc::clone(&seen), stop.clone());
        move || count(&roots, &seen, &stop)
    });
    let (found_sender, found) = mpsc::channel(PATHS_AHEAD_MAX);
    tasks.spawn_blocking({
        let stop = stop.clone();
        move || {
            find(&roots, &stop, &|document| {
                found_sender.blocking_send(document).is_ok()
            });
        }
    });
    let (sender, documents) = mpsc::channel(DOCUMENTS_AHEAD_MAX);
    let stop = stop.clone();
    tasks.spawn(async move {
        let reading = stop.run_until_cancelled(read_all(found, sender));
        // Stopped or done: both are the end of reading.
        let _ = reading.await;
    });
    (documents, seen)
}

/// Counts what will be read, ahead of reading it.
fn count(roots: &[Root], seen: &Seen, stop: &CancellationToken) {
    find(roots, stop, &|found| {
        match found {
            walk::Entry::Document(_) | walk::Entry::Unreadable(..) => &seen.documents,
            walk::Entry::Other => &seen.others,
        }
        .fetch_add(1, Ordering::Relaxed);
        true
    });
    if !stop.is_cancelled() {
        seen.complete.store(true, Ordering::Release);
    }
}

/// Walks every root; a name that two roots lead to is found once. `take` says whether to go on.
fn find(roots: &[Root], stop: &CancellationToken, take: &dyn Fn(walk::Entry) -> bool) {
    // One root names every file once; only several may meet.
    let mut names: Option<HashSet<u128>> = (roots.len() > 1).then(HashSet::new);
    for root in roots {
        for entry in walk::entries(root) {
            if stop.is_cancelled() {
                return;
            }
            let new = match (&mut names, entry.name()) {
                (Some(names), Some(name)) => names.insert(crate::digest::short(name.as_bytes())),
                _ => true,
            };
            if new && !take(entry) {
                return;
            }
        }
    }
}

async fn read_all(found: mpsc::Receiver<walk::Entry>, documents: mpsc::Sender<Document>) {
    let room = Room::new();
    let entries = futures::stream::unfold(found, |mut found| async {
        found.recv().await.map(|entry| (entry, found))
    });
    let read = entries
        .filter_map(|entry| async {
            match entry {
                walk::Entry::Document(found) => Some((found, None)),
                walk::Entry::Unreadable(found, failure) => Some((found, Some(failure))),
                walk::Entry::Other => None,
            }
        })
        .map(|(found, failure)| {
            let room = room.clone();
            async move {
                let body = match failure {
                    Some(failure) => Err(failure),
                    None => read(&found, &room).await,
                };
                Document {
                    name: found.name,
                    body,
                }
            }
        })
        .buffer_unordered(DOCUMENTS_AHEAD_MAX);
    let mut read = std::pin::pin!(read);
    while let Some(document) = read.next().await {
        if documents.send(document).await.is_err() {
            return;
        }
    }
}

/// Reads a document in the way of its kind.
async fn read(found: &Found, room: &Room) -> Result<Body, Failure> {
    let Found { path, name } = found;
    match Kind::of(path) {
        Some(Kind::Text(kind)) => crate::text::read(kind, path, name).await.map(Body::Text),
        Some(Kind::Picture) => crate::picture::read(path, name, room)
            .await
            .map(Body::Picture),
        None => Err(Failure::new(
            FailureCode::ValidationError,
            format!(
                "{name} is of no kind that can be read ({})",
                kind::endings()
            ),
        )),
    }
}
