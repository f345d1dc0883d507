//! Where documents come from: files, folders, patterns and lists, walked as a stream, that are read
//! a few at a time.

mod found;
mod kind;
mod list;
mod parquet;
mod pattern;
mod pdf;
mod tar;
mod together;
mod walk;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::StreamExt as _;
use lapidary_schemas::{Failure, FailureCode};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::digest::short;
use crate::picture::{self, Picture, Room};
use crate::rows::Place;
use crate::text;
use found::{At, Entry, Found, Take};
use kind::Kind;

pub use pattern::{Root, RootError};
pub use pdf::Pdf;

/// Paths found ahead of reading.
const PATHS_AHEAD_MAX: usize = 1_000;
/// A file with pages.
const PDF: Kind = Kind::Text(text::Kind::Pdf);
/// Documents read at once and kept ahead of the planner.
const DOCUMENTS_AHEAD_MAX: usize = 4;

/// A document, or why it cannot be read.
#[derive(Debug)]
pub struct Document {
    /// Where it stands among all.
    pub place: Place,
    /// Its path as found.
    pub name: String,
    /// What it holds.
    pub body: Result<Body, Failure>,
}

/// What is to be read of what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Whether texts are; otherwise they count as files of other kinds.
    pub texts: bool,
    /// What is read of PDF files.
    pub pdf: Pdf,
}

impl Wanted {
    /// Whether a file of this kind is.
    fn has(self, kind: Option<Kind>) -> bool {
        match kind {
            Some(PDF) if self.pdf == Pdf::Pages => true,
            Some(Kind::Text(_)) => self.texts,
            _ => true,
        }
    }
}

/// What a document holds.
#[derive(Debug)]
pub enum Body {
    /// Text to read.
    Text(String),
    /// Pictures to look at together, in this order; mostly one.
    Pictures(Vec<Shown>),
}

impl Body {
    /// One picture.
    fn picture(picture: Picture) -> Self {
        Self::Pictures(vec![Shown::Picture(picture)])
    }
}

/// A picture that is shown to the model.
#[derive(Debug)]
pub enum Shown {
    /// Its bytes.
    Picture(Picture),
    /// One at an address that the worker fetches.
    Address(String),
}

impl Shown {
    /// As it stands in a request.
    pub fn url(&self) -> String {
        match self {
            Self::Picture(picture) => picture.media.to_string(),
            Self::Address(url) => url.clone(),
        }
    }
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

    /// Counts what was found, by what a table says of itself; may wait for that.
    fn count(&self, entry: &Entry, stop: &CancellationToken) {
        let (counter, count) = match entry {
            Entry::Document(Found {
                name,
                at: At::Table(path),
            }) => {
                let rows = parquet::rows(path, name, stop);
                // One that cannot be read is a failure.
                (&self.documents, rows.unwrap_or(1))
            }
            Entry::Document(_) | Entry::Unreadable(..) => (&self.documents, 1),
            Entry::Other => (&self.others, 1),
        };
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// What was found as one document turns out to be more.
    fn more(&self, documents: u64) {
        self.documents.fetch_add(documents, Ordering::Relaxed);
    }

    fn complete(&self) {
        self.complete.store(true, Ordering::Release);
    }
}

/// Starts to count in one task and to read in another; documents come in no
/// particular order, and know their place.
pub fn start(
    roots: Vec<Root>,
    wanted: Wanted,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> (mpsc::Receiver<Document>, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    // Counted ahead of reading, where that is no harm.
    let ahead = roots.iter().all(Root::comes_again);
    if ahead {
        let (roots, seen, stop) = (roots.clone(), Arc::clone(&seen), stop.clone());
        tasks.spawn_blocking(move || {
            if find(&roots, wanted, &stop, &mut |entry| {
                seen.count(&entry, &stop);
                true
            }) {
                seen.complete();
            }
        });
    }
    let (found_sender, found) = mpsc::channel(PATHS_AHEAD_MAX);
    tasks.spawn_blocking({
        let (seen, stop) = (Arc::clone(&seen), stop.clone());
        move || {
            let all = find(&roots, wanted, &stop, &mut |entry| {
                if !ahead {
                    seen.count(&entry, &stop);
                }
                found_sender.blocking_send(entry).is_ok()
            });
            if all && !ahead {
                seen.complete();
            }
        }
    });
    let (sender, documents) = mpsc::channel(DOCUMENTS_AHEAD_MAX);
    let reader = Reader {
        pdf: wanted.pdf,
        room: Room::new(),
        seen: Arc::clone(&seen),
        documents: sender,
    };
    let stop = stop.clone();
    tasks.spawn(async move {
        let reading = stop.run_until_cancelled(reader.read_all(found));
        // Stopped or done: both are the end of reading.
        let _ = reading.await;
    });
    (documents, seen)
}

/// Walks every root; a name that leads to the same place again is found once. `take` says whether to
/// go on; the answer is whether all was found.
fn find(
    roots: &[Root],
    wanted: Wanted,
    stop: &CancellationToken,
    take: &mut dyn FnMut(Entry) -> bool,
) -> bool {
    // One root names every file once, unless it is a list.
    let once = matches!(roots, [root] if !matches!(root, Root::List(_)));
    let mut names = (!once).then(Names::default);
    roots.iter().all(|root| {
        walk::visit(root, &mut |entry| {
            open(entry, &mut |entry| {
                if stop.is_cancelled() {
                    return false;
                }
                let entry = match entry {
                    Entry::Document(Found {
                        at: At::File(ref path),
                        ..
                    }) if !wanted.has(Kind::of(path)) => Entry::Other,
                    entry => entry,
                };
                match &mut names {
                    Some(names) => names.meet(entry).is_none_or(&mut *take),
                    None => take(entry),
                }
            })
        })
    })
}

/// Finds what is inside archives and tables.
fn open(entry: Entry, take: Take<'_>) -> bool {
    let Entry::Document(Found {
        name,
        at: At::File(path),
    }) = entry
    else {
        return take(entry);
    };
    match Kind::of(&path) {
        Some(Kind::Tar) => tar::visit(&path, &name, take),
        Some(Kind::Parquet) => take(Entry::Document(Found {
            name,
            at: At::Table(path),
        })),
        _ => take(Entry::Document(Found {
            name,
            at: At::File(path),
        })),
    }
}

/// Names that were met, and a hash of where they led.
#[derive(Debug, Default)]
struct Names {
    met: HashMap<u128, u64>,
    hasher: RandomState,
}

impl Names {
    /// What to make of an entry: nothing if it was met before, a failure if another document has its
    /// name.
    fn meet(&mut self, entry: Entry) -> Option<Entry> {
        let Entry::Document(found) = &entry else {
            return Some(entry);
        };
        let at = self.hasher.hash_one(&found.at);
        match self.met.insert(short(found.name.as_bytes()), at) {
            None => Some(entry),
            Some(before) if before == at => None,
            Some(_) => {
                let (name, shown) = (&found.name, found.at.shown());
                let failure = Failure::new(
                    FailureCode::ValidationError,
                    format!("{shown} shall be named `{name}`, which is another document's name"),
                );
                Some(Entry::Unreadable(shown, failure))
            }
        }
    }
}

/// What reads documents and sends them on.
#[derive(Debug)]
struct Reader {
    pdf: Pdf,
    room: Room,
    seen: Arc<Seen>,
    documents: mpsc::Sender<Document>,
}

impl Reader {
    async fn read_all(self, mut found: mpsc::Receiver<Entry>) {
        let numbers = futures::stream::iter(0..);
        futures::stream::poll_fn(|context| found.poll_recv(context))
            .zip(numbers)
            .for_each_concurrent(DOCUMENTS_AHEAD_MAX, |(entry, number)| {
                self.read(entry, number)
            })
            .await;
    }

    /// Reads what was found in the way of its kind, and sends it on. `number` counts what was found.
    async fn read(&self, entry: Entry, number: u64) {
        let (name, body) = match entry {
            Entry::Other => return,
            Entry::Unreadable(name, failure) => (name, Err(failure)),
            Entry::Document(Found { name, at }) => {
                let body = match at {
                    At::File(path) if Kind::of(&path) == Some(PDF) => {
                        return pdf::read(self, &path, name, number).await;
                    }
                    At::File(path) => read_file(&name, &path, &self.room).await,
                    At::Member { archive, stretch } => {
                        picture::read(&archive, stretch, &name, &self.room)
                            .await
                            .map(Body::picture)
                    }
                    At::Address(url) => Ok(Body::Pictures(vec![Shown::Address(url)])),
                    At::Together(places) => together::read(places, &name, &self.room).await,
                    At::Table(path) => return parquet::read(self, &path, name, number).await,
                };
                (name, body)
            }
        };
        self.send([number, 0], name, body).await;
    }

    /// Sends a document on; says whether anybody listens, which ends early with the run.
    async fn send(&self, place: Place, name: String, body: Result<Body, Failure>) -> bool {
        let document = Document { place, name, body };
        self.documents.send(document).await.is_ok()
    }
}

async fn read_file(name: &str, path: &Path, room: &Room) -> Result<Body, Failure> {
    match Kind::of(path) {
        Some(Kind::Text(kind)) => crate::text::read(kind, path, name).await.map(Body::Text),
        Some(Kind::Picture) => {
            let bytes = crate::file::check(path, name).await?;
            picture::read(path, 0..bytes, name, room)
                .await
                .map(Body::picture)
        }
        // Archives and tables were opened while walking.
        Some(Kind::Tar | Kind::Parquet) | None => Err(Failure::new(
            FailureCode::ValidationError,
            format!(
                "{name} is of no kind that can be read ({})",
                kind::endings()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, at: &str) -> Entry {
        Entry::Document(Found {
            name: name.to_owned(),
            at: At::File(at.into()),
        })
    }

    #[test]
    fn a_name_is_one_document() {
        let mut names = Names::default();
        assert!(names.meet(entry("a", "a.png")).is_some());
        assert!(names.meet(entry("a", "a.png")).is_none());
        let Some(Entry::Unreadable(name, failure)) = names.meet(entry("a", "b.png")) else {
            panic!("another document has the name");
        };
        assert_eq!(name, "b.png");
        assert_eq!(
            failure.message,
            "b.png shall be named `a`, which is another document's name"
        );
    }
}
