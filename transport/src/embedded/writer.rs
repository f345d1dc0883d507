//! The one thread of a process that writes, and its group commit.
//!
//! Callers hand over operations; the thread runs those that have gathered in one transaction and
//! answers them after its commit, so that one `fsync` serves many. An operation that fails is undone
//! alone (a savepoint each). A commit that fails answers its error to everybody in the group.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::error::StoreError;

/// Operations that may wait for the thread; the next caller waits itself.
pub(super) const OPERATIONS_WAITING_MAX: usize = 256;
/// Longest time in which a group gathers what its operations have not already waited for.
const GROUP_TIME_MAX: Duration = Duration::from_millis(20);

/// Work without a caller: what a dropped handle leaves to be done.
pub(super) type Errand = Box<dyn FnOnce(&Connection) -> Result<(), StoreError> + Send>;

/// What a caller wants done inside the transaction, and how it hears of it.
pub(super) trait Operation: Send {
    /// Runs it; keeps its outcome.
    fn run(&mut self, db: &Connection) -> Result<(), StoreError>;
    /// Tells the caller, after the commit or instead of it.
    fn answer(self: Box<Self>, failed: Option<StoreError>);
}

/// An operation made of a closure.
pub(super) struct Call<F, T> {
    work: Option<F>,
    outcome: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Call<F, T> {
    pub(super) fn new(work: F) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (
            Self {
                work: Some(work),
                outcome: None,
                reply,
            },
            answer,
        )
    }
}

impl<F, T> Operation for Call<F, T>
where
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(&mut self, db: &Connection) -> Result<(), StoreError> {
        // A caller that left before its turn wants nothing changed.
        if self.reply.is_closed() {
            return Ok(());
        }
        if let Some(work) = self.work.take() {
            self.outcome = Some(work(db)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, failed: Option<StoreError>) {
        let answer = match (failed, self.outcome) {
            (Some(error), _) => Err(error),
            (None, Some(outcome)) => Ok(outcome),
            (None, None) => return,
        };
        // A caller that left meanwhile drops its outcome, which undoes itself where it must.
        let _left = self.reply.send(answer);
    }
}

/// What the writer shares with the handles.
#[derive(Default)]
pub(super) struct Shared {
    /// Errands of dropped handles, at most one a loan or session. A list and not a channel, because
    /// `drop` can neither wait for room nor lose one.
    errands: Mutex<Vec<Errand>>,
    /// Set to behave as a killed process does: nothing more is written.
    pub(super) abandoned: AtomicBool,
}

impl Shared {
    pub(super) fn leave(&self, errand: Errand) {
        self.list().push(errand);
    }

    fn list(&self) -> MutexGuard<'_, Vec<Errand>> {
        self.errands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's state.
pub(super) struct Writer {
    pub(super) db: Connection,
    pub(super) operations: mpsc::Receiver<Box<dyn Operation>>,
    pub(super) shared: std::sync::Arc<Shared>,
    /// Counts commits; waiters look again after each.
    pub(super) commits: watch::Sender<u64>,
}

impl Writer {
    /// Runs until every handle is gone and all errands are done.
    pub(super) fn run(mut self) {
        while let Some(first) = self.operations.blocking_recv() {
            if self.shared.abandoned.load(Ordering::SeqCst) {
                return;
            }
            self.group(Some(first));
        }
        if !self.shared.abandoned.load(Ordering::SeqCst) {
            self.group(None);
        }
    }

    /// One transaction with what has gathered.
    fn group(&mut self, first: Option<Box<dyn Operation>>) {
        if let Err(error) = execute(&self.db, "BEGIN IMMEDIATE") {
            tracing::warn!(%error, "the embedded file cannot be written");
            if let Some(operation) = first {
                operation.answer(Some(error));
            }
            return;
        }
        let (ran, failed) = self.run_gathered(first);
        self.run_errands();
        let committed = match failed {
            Some(error) => Err(error),
            None => execute(&self.db, "COMMIT"),
        };
        if committed.is_err() && !self.db.is_autocommit() {
            // The commit failed and left the transaction open: undo it, or the next cannot begin.
            let _undone = execute(&self.db, "ROLLBACK");
        }
        self.commits
            .send_modify(|count| *count = count.wrapping_add(1));
        for (operation, failed) in ran {
            operation.answer(committed.as_ref().err().cloned().or(failed));
        }
    }

    /// Runs operations while there are some and time is left. The second answer is an error that
    /// ended the whole transaction (`SQLite` does that when the disk is full).
    #[expect(clippy::type_complexity, reason = "read once, by the caller above")]
    fn run_gathered(
        &mut self,
        first: Option<Box<dyn Operation>>,
    ) -> (
        Vec<(Box<dyn Operation>, Option<StoreError>)>,
        Option<StoreError>,
    ) {
        let started = Instant::now();
        let mut ran = Vec::new();
        let mut next = first;
        while let Some(mut operation) = next.take() {
            let failed = self.run_one(&mut *operation).err();
            let ended = self.db.is_autocommit();
            ran.push((operation, failed.clone()));
            if ended {
                return (
                    ran,
                    failed.or(Some(StoreError::Unavailable("write undone".into()))),
                );
            }
            if started.elapsed() < GROUP_TIME_MAX && ran.len() < OPERATIONS_WAITING_MAX {
                next = self.operations.try_recv().ok();
            }
        }
        (ran, None)
    }

    fn run_one(&self, operation: &mut dyn Operation) -> Result<(), StoreError> {
        execute(&self.db, "SAVEPOINT operation")?;
        let outcome = operation.run(&self.db);
        if outcome.is_err() && !self.db.is_autocommit() {
            execute(&self.db, "ROLLBACK TO operation")?;
        }
        if !self.db.is_autocommit() {
            execute(&self.db, "RELEASE operation")?;
        }
        outcome
    }

    fn run_errands(&self) {
        let errands = std::mem::take(&mut *self.shared.list());
        for errand in errands {
            if let Err(error) = errand(&self.db) {
                tracing::warn!(%error, "a dropped handle's loans come back when its session ends");
            }
        }
    }
}

fn execute(db: &Connection, sql: &str) -> Result<(), StoreError> {
    db.prepare_cached(sql)?.execute([])?;
    Ok(())
}
