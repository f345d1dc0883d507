//! The embedded file: queue and results of one machine in one `SQLite` database.
//!
//! # What it must do
//! - Several processes share the file: a gateway, a command line and one worker a GPU.
//! - What was answered survives `kill -9` and loss of power: write-ahead log, `synchronous=FULL`.
//! - No caller waits for a disk on the async runtime: one thread a process writes ([`writer`]), reads
//!   run on the runtime's blocking threads, each on its own connection.
//! - A killed process's loans come back: sessions with expiry ([`session`]).
//! - Waiting costs no polling of tables: [`watcher`] looks at the file's change counter.
//!
//! # On disk
//! `PATH`, `PATH-wal` and `PATH-shm` are the database ([`file`], tables in `schema.sql`);
//! `PATH.media/` beside it is [`crate::media::FolderMedia`]'s.

mod boot;
mod error;
#[cfg(test)]
mod faults;
mod file;
mod retention;
mod session;
mod watcher;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, watch};

pub(crate) use boot::steady_ms;
pub(crate) use error::StoreError;
use session::Sessions;
use watcher::Watcher;
use writer::{Call, Operation, Shared, Writer};

/// Reads that run at once in a process, each on its own connection.
const READERS_MAX: usize = 4;
/// How long a killed process's loans stay lent.
const SESSION_TTL: Duration = Duration::from_secs(10);

/// An open embedded file. Clones share its threads; dropping the last one ends them.
#[derive(Clone)]
pub struct EmbeddedFile {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    url: String,
    shared: Arc<Shared>,
    sessions: Arc<Sessions>,
    commits: watch::Receiver<u64>,
    idle_readers: Mutex<Vec<Connection>>,
    reader_permits: Arc<Semaphore>,
    /// `None` only while dropping.
    operations: Option<mpsc::Sender<Box<dyn Operation>>>,
    stop: Option<SyncSender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for EmbeddedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedFile")
            .field("path", &self.inner.path)
            .finish_non_exhaustive()
    }
}

impl EmbeddedFile {
    /// Opens or makes the file. `session_ttl` is how long a killed process's loans stay lent.
    pub(crate) fn open_blocking(path: &Path, session_ttl: Duration) -> Result<Self, StoreError> {
        let (db, path) = file::open(path)?;
        let watching = file::connect(&path)?;
        let (operations, waiting) = mpsc::channel(writer::OPERATIONS_WAITING_MAX);
        let (commits, seen) = watch::channel(0);
        let (stop, stopped) = std::sync::mpsc::sync_channel(0);
        let shared = Arc::new(Shared::default());
        let sessions = Arc::new(Sessions::new(session_ttl));
        let writer = Writer {
            db,
            operations: waiting,
            shared: Arc::clone(&shared),
            commits: commits.clone(),
        };
        let watcher = Watcher {
            db: watching,
            operations: operations.downgrade(),
            commits,
            sessions: Arc::clone(&sessions),
            stopped,
        };
        let threads = vec![
            spawn("lapidary-write", move || writer.run())?,
            spawn("lapidary-watch", move || watcher.run())?,
        ];
        let inner = Inner {
            url: format!("file:{}", path.display()),
            path,
            shared,
            sessions,
            commits: seen,
            idle_readers: Mutex::default(),
            reader_permits: Arc::new(Semaphore::new(READERS_MAX)),
            operations: Some(operations),
            stop: Some(stop),
            threads,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Opens or makes the file.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, SESSION_TTL).await
    }

    /// As [`Self::open`], with another lifetime of sessions.
    pub(crate) async fn open_with(path: &Path, session_ttl: Duration) -> Result<Self, StoreError> {
        let path = path.to_owned();
        blocking(move || Self::open_blocking(&path, session_ttl)).await
    }

    /// The file, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// How this file is named in messages.
    pub(crate) fn url(&self) -> &str {
        &self.inner.url
    }

    /// Runs `work` in the writer's next transaction; answers once it is durable. An error undoes
    /// what `work` did.
    ///
    /// If the caller leaves, `work` may or may not run; an outcome that nobody takes is dropped.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (call, answer) = Call::new(work);
        let operations = self.inner.operations.as_ref().ok_or_else(stopped)?;
        operations
            .send(Box::new(call))
            .await
            .map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Runs `work` on a reading connection, in one transaction, so that all of it sees one moment.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.inner.reader_permits).acquire_owned().await;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let _permit = permit;
            let mut db = match inner.idle_readers().pop() {
                Some(db) => db,
                None => file::connect(&inner.path)?,
            };
            let moment = db.transaction()?;
            let outcome = work(&moment);
            drop(moment);
            inner.idle_readers().push(db);
            outcome
        })
        .await
    }

    /// Opens a session; see [`Self::end_session`].
    pub(crate) async fn begin_session(&self) -> Result<i64, StoreError> {
        let sessions = Arc::clone(&self.inner.sessions);
        self.write(move |db| sessions.begin(db)).await
    }

    /// Ends the sessions of others as if they had expired, without waiting for it.
    #[cfg(test)]
    pub(crate) async fn expire_other_sessions(&self) -> Result<(), StoreError> {
        let sessions = Arc::clone(&self.inner.sessions);
        self.write(move |db| {
            db.execute("UPDATE session SET expires_ms = 0", [])?;
            sessions.renew(db)
        })
        .await
    }

    /// Ends a session with the writer's next transaction, without waiting for it.
    pub(crate) fn end_session(&self, id: i64) {
        let sessions = Arc::clone(&self.inner.sessions);
        self.errands().leave(move |db| sessions.end(db, id));
    }

    /// The way to leave work to the writer from a `drop`.
    pub(crate) fn errands(&self) -> Errands {
        Errands {
            shared: Arc::clone(&self.inner.shared),
            operations: self.inner.operations.as_ref().map(mpsc::Sender::downgrade),
        }
    }

    /// A counter that changes after each commit of any process. Mark it seen *before* looking at
    /// the tables, then wait for its next change.
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.inner.commits.clone()
    }

    /// Behaves from now on as if the process had been killed: nothing is written any more, and its
    /// sessions are left to expire.
    #[cfg(any(test, feature = "conformance"))]
    pub fn abandon(&self) {
        self.inner.shared.abandoned.store(true, Ordering::SeqCst);
        self.inner.sessions.forget();
    }
}

/// Leaves work to the writer without waiting for it. Keeps nothing open, so that the writing thread
/// itself may drop one.
#[derive(Clone)]
pub(crate) struct Errands {
    shared: Arc<Shared>,
    operations: Option<mpsc::WeakSender<Box<dyn Operation>>>,
}

impl Errands {
    /// Has `errand` done with the writer's next transaction.
    pub(crate) fn leave<F>(&self, errand: F)
    where
        F: FnOnce(&Connection) -> Result<(), StoreError> + Send + 'static,
    {
        self.shared.leave(Box::new(errand));
        if let Some(operations) = self.operations.as_ref().and_then(mpsc::WeakSender::upgrade) {
            let (nothing, _) = Call::new(|_: &Connection| Ok(()));
            // Wakes the writer. If there is no room, it is awake; if it is ending, it looks once more.
            let _awake = operations.try_send(Box::new(nothing));
        }
    }
}

impl Inner {
    fn idle_readers(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle_readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    /// Waits for the last commit, so that a process that ends now leaves no session behind.
    fn drop(&mut self) {
        self.stop = None;
        self.operations = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() && !self.shared.abandoned.load(Ordering::SeqCst) {
                tracing::error!(path = %self.path.display(), "a thread of the embedded file panicked");
            }
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| StoreError::Unavailable(format!("no thread could be started: {error}")))
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the writing thread has stopped".to_owned())
}

/// Runs disk work on the runtime's blocking threads.
async fn blocking<T, F>(work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, StoreError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(StoreError::Unavailable(format!(
            "disk work was stopped: {error}"
        ))),
    }
}

/// Milliseconds since 1970, UTC.
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// A duration as stored; never shorter than it is.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000))
        .unwrap_or(i64::MAX / 4)
        .min(i64::MAX / 4)
}
