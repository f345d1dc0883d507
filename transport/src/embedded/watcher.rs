//! The thread that notices other processes' commits and keeps this process's sessions alive.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, watch};

use super::retention;
use super::session::Sessions;
use super::writer::{Call, Operation};

/// Distance of two looks at the file's change counter. `SQLite` has no other way to hear of another
/// process's commit; a look costs microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The thread's state.
pub(super) struct Watcher {
    pub(super) db: Connection,
    pub(super) operations: mpsc::WeakSender<Box<dyn Operation>>,
    pub(super) commits: watch::Sender<u64>,
    pub(super) sessions: Arc<Sessions>,
    /// Closed when the last handle is gone.
    pub(super) stopped: Receiver<()>,
}

impl Watcher {
    /// Runs until the last handle is gone.
    pub(super) fn run(self) {
        let mut seen = self.version();
        let mut renewed = Instant::now();
        while self.stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            let now = self.version();
            if now != seen {
                seen = now;
                self.commits
                    .send_modify(|count| *count = count.wrapping_add(1));
            }
            if renewed.elapsed() >= self.sessions.renew_every() {
                renewed = Instant::now();
                self.renew();
            }
        }
    }

    /// A number that differs after each commit of another connection.
    fn version(&self) -> Option<i64> {
        let look = self.db.prepare_cached("PRAGMA data_version");
        look.and_then(|mut look| look.query_row([], |row| row.get(0)))
            .ok()
    }

    fn renew(&self) {
        let Some(operations) = self.operations.upgrade() else {
            return;
        };
        let sessions = Arc::clone(&self.sessions);
        let (call, answer) = Call::new(move |db: &Connection| {
            sessions.renew(db)?;
            retention::forget(db)
        });
        // No room means that the writer is far behind; the next renewal comes soon.
        if operations.try_send(Box::new(call)).is_ok() {
            drop(operations);
            if let Ok(Err(error)) = answer.blocking_recv() {
                tracing::warn!(%error, "the queue's session was not renewed");
            }
        }
    }
}
