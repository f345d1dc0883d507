//! Notices of single jobs that may have changed: hints, after which it is looked.

use std::pin::Pin;

use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::watch;

/// A stream of notices, whatever they say.
type Hints = Pin<Box<dyn Stream<Item = ()> + Send>>;

/// Notices that come from now on. Several may be heard as one, and some may be missed, so who waits for a
/// job looks once in a while all the same.
pub struct Notices(Source);

enum Source {
    /// Commits of the embedded file.
    Commits(watch::Receiver<u64>),
    /// What a server sends.
    Hints(Hints),
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notices")
    }
}

impl Notices {
    pub(super) fn of_commits(mut commits: watch::Receiver<u64>) -> Self {
        commits.mark_unchanged();
        Self(Source::Commits(commits))
    }

    pub(super) fn of_hints(hints: impl Stream<Item = ()> + Send + 'static) -> Self {
        Self(Source::Hints(Box::pin(hints)))
    }

    /// Waits until a job may have changed since this returned last; `false`: no more notices come.
    pub async fn changed(&mut self) -> bool {
        match &mut self.0 {
            Source::Commits(commits) => commits.changed().await.is_ok(),
            Source::Hints(hints) => {
                if hints.next().await.is_none() {
                    return false;
                }
                // Those that are there already are heard with it.
                while let Some(more) = hints.next().now_or_never() {
                    if more.is_none() {
                        return false;
                    }
                }
                true
            }
        }
    }
}
